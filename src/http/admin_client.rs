//! The other end of the admin socket: how a command line reaches a running
//! server.
//!
//! One connection per command. Blocking, since who calls it has nothing else to
//! do.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::UCred;
use rustix::process::Pid;
use zeroize::Zeroizing;

use super::admin::Address;
use super::admin_frames::{self, HEADER_BYTES, Kind};
use crate::api::admin::{Command, Failure, Progress, Reply};

/// A sweep of millions is answered when it is done.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// The server takes a file at the speed of its disk, with pauses.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
const PIECE_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("the server on {} cannot be reached: {source}", data.display())]
    Io { data: PathBuf, source: io::Error },
    /// Somebody else listens there; what is sent may be a secret.
    #[error("the socket in {} is served by another user (uid {peer}) than the folder's (uid {owner})", data.display())]
    Foreign { data: PathBuf, peer: u32, owner: u32 },
    /// The file that is sent or received, on this side.
    #[error("the file cannot be read or written: {0}")]
    File(io::Error),
    #[error("the server's answer is not understood: is it of another version?")]
    Answer,
    #[error("the server ended before it had answered; look at what is there before trying again")]
    Ended,
    /// The server understood and did not do it.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A server that runs on a data folder.
#[derive(Debug)]
pub struct AdminClient {
    data: PathBuf,
    pid: Pid,
}

impl AdminClient {
    /// `None` where no server runs on `data`.
    pub fn connect(data: &Path) -> Result<Option<Self>, AdminError> {
        match connection(data) {
            Ok((_, pid)) => Ok(Some(Self { data: data.to_owned(), pid })),
            Err(AdminError::Io { source, .. }) if nobody_there(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Of the process that began to listen there.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends one command and waits for its end. `upload` is sent after it,
    /// `download` gets what the command writes, `report` hears how far it is.
    pub fn send(
        &self,
        command: &Command,
        upload: Option<&mut (dyn Read + Send)>,
        download: Option<&mut dyn Write>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Reply, AdminError> {
        let (stream, _) = connection(&self.data)?;
        let lost = |source| AdminError::Io { data: self.data.clone(), source };
        let ready = stream
            .set_write_timeout(Some(SEND_TIMEOUT))
            .and_then(|()| stream.set_read_timeout(Some(ANSWER_TIMEOUT)));
        ready.map_err(lost)?;
        let payload = Zeroizing::new(serde_json::to_vec(command).map_err(|e| lost(e.into()))?);
        send_frame(&stream, Kind::Command, &payload).map_err(lost)?;
        std::thread::scope(|scope| {
            let sent = upload.map(|file| scope.spawn(|| send_file(&stream, file)));
            let answer = listen(&stream, download, report).map_err(|error| match error {
                Interrupted::Here(source) => AdminError::File(source),
                Interrupted::There(source) => lost(source),
                Interrupted::Ended => AdminError::Ended,
                Interrupted::Misunderstood => AdminError::Answer,
            });
            // A sender that still waits for its reader learns that there is none.
            let _ = stream.shutdown(Shutdown::Both);
            let sent = sent.map_or(Ok(()), |sent| sent.join().unwrap_or(Ok(())));
            match (answer, sent) {
                // Why the server refused says more than that it stopped reading.
                (Ok(answer), _) => Ok(answer?),
                (Err(_), Err(unreadable)) => Err(AdminError::File(unreadable)),
                (Err(error), Ok(())) => Err(error),
            }
        })
    }
}

fn nobody_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn connection(data: &Path) -> Result<(UnixStream, Pid), AdminError> {
    let unreachable = |source: io::Error| AdminError::Io { data: data.to_owned(), source };
    let owner = std::fs::metadata(data).map_err(unreachable)?.uid();
    let address = Address::of(data).map_err(unreachable)?;
    let stream = UnixStream::connect(address.path()).map_err(unreachable)?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream);
    let UCred { pid, uid, .. } = credentials.map_err(|error| unreachable(error.into()))?;
    let peer = uid.as_raw();
    if peer != owner {
        return Err(AdminError::Foreign { data: data.to_owned(), peer, owner });
    }
    Ok((stream, pid))
}

fn send_frame(mut stream: &UnixStream, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the command is too long");
    stream.write_all(&admin_frames::header(kind, payload.len()).ok_or_else(too_long)?)?;
    stream.write_all(payload)
}

/// An error is one of reading the file: that the server takes no more of it is
/// for the server to explain.
fn send_file(stream: &UnixStream, file: &mut (dyn Read + Send)) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = match file.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // The server must not take what it has for all of it.
                let _ = stream.shutdown(Shutdown::Both);
                return Err(error);
            }
            Ok(length) => length,
        };
        let piece = piece.get(..length).unwrap_or_default();
        if send_frame(stream, Kind::Data, piece).is_err() || length == 0 {
            return Ok(());
        }
    }
}

/// Why no answer came.
enum Interrupted {
    /// What came could not be written here.
    Here(io::Error),
    There(io::Error),
    /// The connection was closed in the middle.
    Ended,
    Misunderstood,
}

fn listen(
    stream: &UnixStream,
    mut download: Option<&mut dyn Write>,
    report: &mut dyn FnMut(Progress),
) -> Result<Result<Reply, Failure>, Interrupted> {
    loop {
        let (kind, payload) = receive_frame(stream)?;
        let misunderstood = |_: serde_json::Error| Interrupted::Misunderstood;
        match (kind, &mut download) {
            (Kind::Reply, _) => {
                return serde_json::from_slice(&payload).map(Ok).map_err(misunderstood);
            }
            (Kind::Failure, _) => {
                return serde_json::from_slice(&payload).map(Err).map_err(misunderstood);
            }
            (Kind::Progress, _) => {
                report(serde_json::from_slice(&payload).map_err(misunderstood)?);
            }
            (Kind::Data, Some(file)) => file.write_all(&payload).map_err(Interrupted::Here)?,
            (Kind::Data, None) | (Kind::Command, _) => return Err(Interrupted::Misunderstood),
        }
    }
}

fn receive_frame(mut stream: &UnixStream) -> Result<(Kind, Zeroizing<Vec<u8>>), Interrupted> {
    let mut header = [0; HEADER_BYTES];
    let there = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Interrupted::Ended,
        _ => Interrupted::There(error),
    };
    stream.read_exact(&mut header).map_err(there)?;
    let (kind, length) = admin_frames::parse(header).ok_or(Interrupted::Misunderstood)?;
    let mut payload = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut payload).map_err(there)?;
    Ok((kind, payload))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::api::admin::FailureKind;

    /// Answers one command with `answer`, and tells what it was.
    fn serve_once(data: &Path, answer: Vec<u8>) -> std::thread::JoinHandle<Vec<u8>> {
        let listener = UnixListener::bind(data.join("admin.sock")).unwrap();
        std::thread::spawn(move || {
            drop(listener.accept().unwrap()); // connect() only looks
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let (kind, command) = receive_frame(&stream).ok().unwrap();
            assert_eq!(kind, Kind::Command);
            stream.write_all(&answer).unwrap();
            command.to_vec()
        })
    }

    fn frame(kind: Kind, payload: &str) -> Vec<u8> {
        let header = admin_frames::header(kind, payload.len()).unwrap();
        [&header, payload.as_bytes()].concat()
    }

    fn ask(answer: Vec<u8>) -> (Result<Reply, AdminError>, String, Vec<Progress>) {
        let dir = tempfile::tempdir().unwrap();
        let server = serve_once(dir.path(), answer);
        let client = AdminClient::connect(dir.path()).unwrap().unwrap();
        let command = Command::TenantCreate { name: "acme".into() };
        let mut heard = Vec::new();
        let reply = client.send(&command, None, None, &mut |progress| heard.push(progress));
        (reply, String::from_utf8(server.join().unwrap()).unwrap(), heard)
    }

    const CREATED: &str = r#"{"reply":"tenant-created","name":"acme","id":"00"}"#;

    #[test]
    fn a_reply_is_understood_and_progress_before_it_is_told() {
        let progress = frame(Kind::Progress, r#"{"what":"acme","done":1,"of":2}"#);
        let answer = [progress, frame(Kind::Reply, CREATED)].concat();
        let (reply, command, heard) = ask(answer);
        assert!(matches!(reply, Ok(Reply::TenantCreated { name, .. }) if name == "acme"));
        assert_eq!(command, r#"{"command":"tenant-create","name":"acme"}"#);
        assert_eq!(heard, [Progress { what: "acme".into(), done: 1, of: Some(2) }]);
    }

    #[test]
    fn a_failure_is_told_as_it_was() {
        let failed = frame(Kind::Failure, r#"{"kind":"conflict","message":"exists"}"#);
        let Err(AdminError::Failed(failure)) = ask(failed).0 else { panic!("a failure") };
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Conflict, "exists"));
    }

    #[test]
    fn half_an_answer_is_none() {
        let whole = frame(Kind::Reply, CREATED);
        for end in (0..whole.len()).step_by(7) {
            let reply = ask(whole[..end].to_vec()).0;
            assert!(matches!(reply, Err(AdminError::Ended)), "cut at {end}");
        }
        let nonsense = [frame(Kind::Reply, "{}"), b"HTTP/1.1 200 OK\r\n".to_vec()];
        for answer in nonsense {
            assert!(matches!(ask(answer).0, Err(AdminError::Answer)));
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
