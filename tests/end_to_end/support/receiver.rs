//! Who is told of secrets that come to their end: a server on loopback that checks what it
//! is sent as any receiver would.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use serde_json::Value;

use super::fake_issuer::tls_by;
use super::serve::eventually;

/// How it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Status(u16),
    Redirect(String),
    /// The connection stays open, and nothing comes.
    Silence,
}

/// A message whose signature is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub id: String,
    pub body: Value,
    pub answered: Reply,
}

pub struct Receiver {
    pub address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
}

struct State {
    reply: Mutex<Reply>,
    received: Mutex<Vec<Received>>,
}

const KEY: [u8; 32] = [0x5a; 32];

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::over(listener, None)
    }

    /// With a certificate (PEM) for `127.0.0.1`, and its key.
    pub fn start_tls(certificate: &str, key: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::over(listener, Some(tls_by(certificate, key)))
    }

    /// Where it was before, after it was away.
    pub fn again(address: SocketAddr) -> Self {
        let listener = eventually("the port to be free", || TcpListener::bind(address).ok());
        Self::over(listener, None)
    }

    fn over(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Self {
        let address = listener.local_addr().expect("an address");
        let state =
            Arc::new(State { reply: Mutex::new(Reply::Status(204)), received: Mutex::default() });
        let shared = state.clone();
        let scheme = if tls.is_some() { "https" } else { "http" };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (state, tls) = (shared.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => take(stream, &state),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).expect("a config");
                        take(rustls::StreamOwned::new(connection, stream), &state);
                    }
                });
            }
        });
        Self { address, scheme, state }
    }

    /// The key that it shares with the server, in a file.
    pub fn key_file(folder: &Path) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("notify-key");
        std::fs::write(&path, format!("whsec_{}\n", STANDARD.encode(KEY))).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
        path
    }

    pub fn url(&self) -> String {
        format!("{}://{}/hook-t0ken", self.scheme, self.address)
    }

    pub fn answers(&self, reply: Reply) {
        *self.state.reply.lock().expect("unpoisoned") = reply;
    }

    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().expect("unpoisoned").clone()
    }

    /// Waits for one that is answered so and holds this event.
    pub fn waits_for(&self, kind: &str, name: &str, answered: &Reply) -> Received {
        eventually(&format!("{name} to be told as {kind}"), || {
            let received = self.received();
            received.into_iter().find(|one| one.answered == *answered && one.tells(kind, name))
        })
    }
}

impl Received {
    pub fn events(&self) -> &Vec<Value> {
        self.body["data"]["events"].as_array().expect("events")
    }

    pub fn tells(&self, kind: &str, name: &str) -> bool {
        self.events().iter().any(|event| event["type"] == kind && event["name"] == name)
    }
}

fn take(stream: impl Read + Write, state: &State) {
    let mut stream = BufReader::new(stream);
    let Some((headers, body)) = read(&mut stream) else { return };
    let id = headers.get("webhook-id").expect("an id").clone();
    let timestamp = headers.get("webhook-timestamp").expect("a time");
    assert!(timestamp.parse::<i64>().is_ok_and(|at| at > 1_700_000_000), "{timestamp}");
    assert!(!id.contains('.'));
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &KEY);
    let tag = STANDARD.encode(ring::hmac::sign(&key, &signed));
    let signature = headers.get("webhook-signature");
    let answered = if signature == Some(&format!("v1,{tag}")) {
        state.reply.lock().expect("unpoisoned").clone()
    } else {
        Reply::Status(401)
    };
    let body = serde_json::from_slice(&body).expect("JSON");
    let received = Received { id, body, answered: answered.clone() };
    state.received.lock().expect("unpoisoned").push(received);
    let (status, header) = match answered {
        Reply::Status(status) => (status, String::new()),
        Reply::Redirect(to) => (307, format!("Location: {to}\r\n")),
        Reply::Silence => {
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let head =
        format!("HTTP/1.1 {status} x\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = stream.get_mut().write_all(head.as_bytes());
    let _ = stream.get_mut().flush();
}

fn read(stream: &mut BufReader<impl Read>) -> Option<(HashMap<String, String>, Vec<u8>)> {
    let (mut headers, mut line) = (HashMap::new(), String::new());
    while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.trim_end().to_owned());
        }
        line.clear();
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    Some((headers, body))
}
