//! Ends connections on which no request arrives.
//!
//! actix times the head of a connection's first request, and the silence between
//! two; but one byte of a second head ends both, and whoever sent it keeps the
//! connection for good (tried: nothing came of it in eight seconds with both
//! limits below two). Ten thousand of those, from one machine without a
//! credential, and nobody else is served. So each connection notes when its last
//! request ended, and a task ends those that have waited for longer than silence
//! and head may take together. Slow readers of an answer end the same way.

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::Shutdown;

use crate::measure;

use super::metrics::count;

const ROUND: Duration = Duration::from_secs(1);

/// A request is under way.
const BUSY: u64 = u64::MAX;

/// The connections of a server.
pub(super) struct Watch {
    start: Instant,
    limit: Duration,
    /// Whether each answer is the last one on its connection.
    leaving: AtomicBool,
    connections: Mutex<Vec<Weak<Connection>>>,
}

/// One connection, for as long as actix keeps it.
struct Connection {
    watch: Arc<Watch>,
    /// A descriptor of our own: actix may close its own at any time, and the
    /// number would then be another connection's.
    socket: OwnedFd,
    /// Milliseconds since the watch began, or [`BUSY`].
    idle_since: AtomicU64,
}

impl Watch {
    /// `limit`: how long a connection may be without a request under way.
    pub fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            limit,
            leaving: AtomicBool::new(false),
            connections: Mutex::default(),
        })
    }

    /// For actix's `on_connect`.
    pub fn connected(self: &Arc<Self>, stream: &dyn Any, facts: &mut Extensions) {
        let tcp = stream.downcast_ref::<TcpStream>();
        let tls = stream.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref().0);
        let Some(socket) = tcp.or(tls).and_then(|tcp| tcp.as_fd().try_clone_to_owned().ok()) else {
            return;
        };
        let idle_since = AtomicU64::new(self.millis());
        let connection = Arc::new(Connection { watch: Arc::clone(self), socket, idle_since });
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.push(Arc::downgrade(&connection));
        facts.insert(connection);
    }

    /// Ends what waits too long, until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut rounds = tokio::time::interval(ROUND.min(self.limit));
        loop {
            rounds.tick().await;
            self.end_idle();
        }
    }

    /// From now on each answer says that it is the last one on its connection, so
    /// that no client has a request on the way when the connection ends.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Those that there are.
    pub fn present(&self) -> Present {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| connection.strong_count() > 0);
        Present(connections.clone())
    }

    /// Ends those that have been silent for so long, with nothing that waits to be read
    /// or to be sent. They stay among those that are present until actix has let go of them.
    pub fn end_silent(&self, limit: Duration) {
        self.each_idle_for(limit, |connection| {
            if connection.is_quiet() {
                connection.end();
            }
        });
    }

    fn end_idle(&self) {
        self.each_idle_for(self.limit, Connection::end);
        let present = self.present();
        if let Some(meters) = measure::meters() {
            meters.set(&measure::CONNECTIONS, &[], count(present.0.len() as u64));
        }
    }

    fn each_idle_for(&self, limit: Duration, act: impl Fn(&Connection)) {
        let now = self.millis();
        let limit = u64::try_from(limit.as_millis()).unwrap_or(BUSY);
        for connection in self.present().0.iter().filter_map(Weak::upgrade) {
            let since = connection.idle_since.load(Ordering::Relaxed);
            if since != BUSY && now.saturating_sub(since) > limit {
                act(&connection);
            }
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(BUSY - 1)
    }
}

impl Connection {
    /// Whether nothing has come that was not read, and all that was answered is sent:
    /// a socket that takes no more holds an answer back.
    fn is_quiet(&self) -> bool {
        let mut waiting = [PollFd::new(&self.socket, PollFlags::IN | PollFlags::OUT)];
        let polled = rustix::event::poll(&mut waiting, Some(&Timespec::default()));
        polled.is_ok() && waiting.iter().all(|socket| socket.revents() == PollFlags::OUT)
    }

    /// actix sees the end and closes; that the peer is gone is as well.
    fn end(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }
}

/// The connections of one moment.
pub(super) struct Present(Vec<Weak<Connection>>);

impl Present {
    /// Whether none of them is left.
    pub fn are_gone(&self) -> bool {
        self.0.iter().all(|connection| connection.strong_count() == 0)
    }
}

/// A request's connection, for answers that are made while they are sent.
pub(super) struct Line(Option<Arc<Connection>>);

impl Line {
    pub fn of(request: &HttpRequest) -> Self {
        Self(request.conn_data::<Arc<Connection>>().cloned())
    }

    pub fn busy(&self) -> Busy<'_> {
        Busy::on(self.0.as_deref())
    }
}

/// While it lives, the request's connection is not idle.
pub(super) struct Busy<'r>(Option<&'r Connection>);

impl<'r> Busy<'r> {
    pub fn during(request: &'r HttpRequest) -> Self {
        Self::on(request.conn_data::<Arc<Connection>>().map(Arc::as_ref))
    }

    /// Whether the connection ends with this answer.
    pub fn is_last(&self) -> bool {
        self.0.is_some_and(|connection| connection.watch.leaving.load(Ordering::Relaxed))
    }

    fn on(connection: Option<&'r Connection>) -> Self {
        if let Some(connection) = connection {
            connection.idle_since.store(BUSY, Ordering::Relaxed);
        }
        Self(connection)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            connection.idle_since.store(connection.watch.millis(), Ordering::Relaxed);
        }
    }
}
