//! The other end of the admin socket: how a command line reaches a running
//! server.
//!
//! One connection per command, spoken by hand: the server is this very program,
//! and a client library would load certificates to talk to a socket. Blocking,
//! since who calls it has nothing else to do.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::api::admin::{Command, Failure, Reply};

use super::admin::{Address, PATH};

/// A sweep of millions is answered when it is done.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("the server on {} cannot be reached: {source}", data.display())]
    Io { data: PathBuf, source: io::Error },
    /// Somebody else listens there; what is sent may be a secret.
    #[error("the socket in {} is served by another user (uid {peer}) than the folder's (uid {owner})", data.display())]
    Foreign { data: PathBuf, peer: u32, owner: u32 },
    #[error("the server's answer is not understood: is it of another version?")]
    Answer,
    /// The server understood and did not do it.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A server that runs on a data folder.
#[derive(Debug)]
pub struct AdminClient {
    data: PathBuf,
}

impl AdminClient {
    /// `None` where no server runs on `data`.
    pub fn connect(data: &Path) -> Result<Option<Self>, AdminError> {
        match connection(data) {
            Ok(_) => Ok(Some(Self { data: data.to_owned() })),
            Err(AdminError::Io { source, .. }) if nobody_there(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one command and waits for its end.
    pub fn send(&self, command: &Command) -> Result<Reply, AdminError> {
        let mut stream = connection(&self.data)?;
        let answer = exchange(&mut stream, command)
            .map_err(|source| AdminError::Io { data: self.data.clone(), source })?;
        understood(&answer)
    }
}

fn nobody_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn connection(data: &Path) -> Result<UnixStream, AdminError> {
    let unreachable = |source: io::Error| AdminError::Io { data: data.to_owned(), source };
    let owner = std::fs::metadata(data).map_err(unreachable)?.uid();
    let address = Address::of(data).map_err(unreachable)?;
    let stream = UnixStream::connect(address.path()).map_err(unreachable)?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream);
    let peer = credentials.map_err(|error| unreachable(error.into()))?.uid.as_raw();
    if peer != owner {
        return Err(AdminError::Foreign { data: data.to_owned(), peer, owner });
    }
    Ok(stream)
}

fn exchange(stream: &mut UnixStream, command: &Command) -> io::Result<Zeroizing<Vec<u8>>> {
    stream.set_write_timeout(Some(SEND_TIMEOUT))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let body = Zeroizing::new(serde_json::to_vec(command)?);
    write!(
        stream,
        "POST {PATH} HTTP/1.1\r\nHost: tenure\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    let mut answer = Zeroizing::new(Vec::with_capacity(16 * 1024));
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn understood(answer: &[u8]) -> Result<Reply, AdminError> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let end = answer
        .windows(END_OF_HEAD.len())
        .position(|window| window == END_OF_HEAD)
        .ok_or(AdminError::Answer)?;
    let (head, rest) = answer.split_at_checked(end).ok_or(AdminError::Answer)?;
    let body = rest.strip_prefix(END_OF_HEAD).ok_or(AdminError::Answer)?;
    let head = std::str::from_utf8(head).map_err(|_| AdminError::Answer)?;
    // A server that died half-way through its answer closed the connection too.
    if announced_length(head) != Some(body.len()) {
        return Err(AdminError::Answer);
    }
    if head.starts_with("HTTP/1.1 200 ") {
        return serde_json::from_slice(body).map_err(|_| AdminError::Answer);
    }
    let failure: Failure = serde_json::from_slice(body).map_err(|_| AdminError::Answer)?;
    Err(failure.into())
}

fn announced_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::api::admin::FailureKind;

    fn serve_once(data: &Path, answer: &'static str) -> std::thread::JoinHandle<String> {
        let listener = UnixListener::bind(data.join("admin.sock")).unwrap();
        std::thread::spawn(move || {
            drop(listener.accept().unwrap()); // connect() only looks
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 64 * 1024];
            let length = stream.read(&mut request).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let more = stream.read(&mut request[length..]).unwrap_or(0);
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request[..length + more].to_vec()).unwrap()
        })
    }

    fn ask(answer: &'static str) -> (Result<Reply, AdminError>, String) {
        let dir = tempfile::tempdir().unwrap();
        let server = serve_once(dir.path(), answer);
        let client = AdminClient::connect(dir.path()).unwrap().unwrap();
        let reply = client.send(&Command::TenantCreate { name: "acme".into() });
        (reply, server.join().unwrap())
    }

    #[test]
    fn a_reply_is_understood() {
        let (reply, request) = ask(
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"reply\":\"tenant-created\",\"name\":\"acme\",\"id\":\"00\"}",
        );
        assert!(matches!(reply, Ok(Reply::TenantCreated { name, .. }) if name == "acme"));
        assert!(request.starts_with("POST /admin HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with(r#"{"command":"tenant-create","name":"acme"}"#), "{request}");
    }

    #[test]
    fn a_failure_is_told_as_it_was() {
        let (reply, _) = ask(
            "HTTP/1.1 409 Conflict\r\ncontent-length: 38\r\n\r\n{\"kind\":\"conflict\",\"message\":\"exists\"}",
        );
        let Err(AdminError::Failed(failure)) = reply else { panic!("a failure") };
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Conflict, "exists"));
    }

    #[test]
    fn half_an_answer_is_none() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}",
        ] {
            assert!(matches!(ask(answer).0, Err(AdminError::Answer)), "{answer:?}");
        }
    }

    #[test]
    fn where_nobody_listens_there_is_no_server() {
        let dir = tempfile::tempdir().unwrap();
        assert!(AdminClient::connect(dir.path()).unwrap().is_none());
        assert!(AdminClient::connect(&dir.path().join("missing")).unwrap().is_none());
        drop(UnixListener::bind(dir.path().join("admin.sock")).unwrap());
        assert!(AdminClient::connect(dir.path()).unwrap().is_none());
    }
}
