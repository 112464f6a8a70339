//! A way to a server on which a request waits until the test lets it go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// Requests that begin so are counted; the one of this number, from 1, is held.
pub struct Gate {
    pub address: SocketAddr,
    arrived: Receiver<()>,
    go_on: Sender<()>,
}

impl Gate {
    pub fn before(server: SocketAddr, beginning: &'static str, number: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let ((tell, arrived), (go_on, wait)) = (channel(), channel());
        let (seen, wait) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(wait)));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(server) else { return };
                let (tell, wait, seen) = (tell.clone(), wait.clone(), seen.clone());
                let hold = move |piece: &[u8]| {
                    let counts = piece.starts_with(beginning.as_bytes());
                    if counts && seen.fetch_add(1, Ordering::SeqCst) + 1 == number {
                        let _ = tell.send(());
                        let _ = wait.lock().expect("one waits").recv();
                    }
                };
                let back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass_on(client, upstream, hold));
                thread::spawn(move || pass_on(back.0, back.1, |_| {}));
            }
        });
        Self { address, arrived, go_on }
    }

    /// Waits until the request is held.
    pub fn arrived(&self) {
        let waited = self.arrived.recv_timeout(std::time::Duration::from_secs(60));
        waited.expect("the request comes within a minute");
    }

    pub fn open(&self) {
        self.go_on.send(()).expect("it waits");
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, hold: impl Fn(&[u8])) {
    let mut piece = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        hold(&piece[..length]);
        if to.write_all(&piece[..length]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
