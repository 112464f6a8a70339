//! The admin socket: an operator's commands to a running server, over
//! `<data>/admin.sock`.
//!
//! Who may open it owns the data folder: the folder is 0700 and ours, the socket
//! 0600, and a peer of another user (root excepted) is refused whatever the modes
//! say. Who calls [`AdminServer::start`] holds the database's lock, so that a
//! socket found there was left behind and is replaced.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::admin_frames::{self, HEADER_BYTES, Kind};
use super::state::{AppState, Phase};
use crate::api::admin::{Command, Failure, FailureKind, Progress, Reply, Unsealing};
use crate::auth::Caller;
use crate::vault::Vault;
use crate::vault::key_commands;
use crate::vault::maintenance::{self, Exchange};

const SOCKET: &str = "admin.sock";
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for commands under way. What takes longer can be begun
/// anew: a check, a backup, a compaction.
const LAST_COMMANDS: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the socket is bound and connected to.
///
/// A socket's address holds at most 107 bytes. Behind a longer path it is reached
/// through an open descriptor of its folder, which lives as long as this.
pub(super) struct Address {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl Address {
    const MAX_BYTES: usize = 107;

    pub fn of(data: &Path) -> io::Result<Self> {
        let path = data.join(SOCKET);
        if path.as_os_str().len() <= Self::MAX_BYTES {
            return Ok(Self { path, _folder: None });
        }
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let folder = rustix::fs::open(data, flags, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
        Ok(Self { path, _folder: Some(folder) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What is asked of whoever started the server, and can alone seal and unseal it.
pub struct Turn {
    pub wanted: Wanted,
    pub answer: oneshot::Sender<Result<Reply, Failure>>,
}

#[derive(Debug)]
pub enum Wanted {
    Seal,
    Unseal(Unsealing),
}

/// What commands reach.
#[derive(Clone)]
pub struct Desk {
    pub state: AppState,
    pub turns: mpsc::Sender<Turn>,
}

impl Desk {
    async fn turn(&self, wanted: Wanted) -> Result<Reply, Failure> {
        let (answer, answered) = oneshot::channel();
        let gone = || failure(FailureKind::Unavailable, "the server stops");
        self.turns.send(Turn { wanted, answer }).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// A served admin socket, on a thread of its own: a command may compute for long,
/// and no request for a secret should wait for it.
pub struct AdminServer {
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl AdminServer {
    /// Called by who holds the database's lock.
    pub fn start(data: &Path, desk: Desk) -> io::Result<Self> {
        let listener = bind(data)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async move {
                match UnixListener::from_std(listener) {
                    Ok(listener) => serve(listener, &desk, stopped).await,
                    Err(error) => log::error!("the admin socket is not served: {error}"),
                }
            });
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
        Ok(Self { socket: data.join(SOCKET), stop, thread })
    }

    /// Finishes the commands under way, for some time, and removes the socket.
    pub async fn stop(self) -> io::Result<()> {
        // It may have ended by itself.
        let _ = self.stop.send(());
        let thread = self.thread;
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        let ended = match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(io::Error::other("the admin socket's thread panicked")),
        };
        fs::remove_file(&self.socket).and(ended)
    }
}

async fn serve(listener: UnixListener, desk: &Desk, mut stopped: oneshot::Receiver<()>) {
    let mut commands = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = commands.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(commands.spawn(answer(stream, desk.clone()))),
                Err(error) => {
                    // Out of descriptors, most likely: others are given time to end.
                    log::warn!("the admin socket: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while commands.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_COMMANDS, all).await.is_err() {
        log::warn!("maintenance commands under way were broken off");
    }
}

fn bind(data: &Path) -> io::Result<net::UnixListener> {
    let denied = |message: String| io::Error::new(io::ErrorKind::PermissionDenied, message);
    let folder = fs::metadata(data)?;
    if folder.uid() != own_uid() || folder.mode() & 0o077 != 0 {
        let shown = data.display();
        return Err(denied(format!(
            "{shown} must be ours alone: run chmod 700 {shown} as its owner"
        )));
    }
    let socket = data.join(SOCKET);
    remove_stale(&socket)?;
    let address = Address::of(data)?;
    // From the first moment on nobody else may connect. The mask is the whole
    // process's, and 0177 would take the right to enter from a folder that another
    // thread makes at this moment; so it is 0077, and the rest is taken after.
    let before = rustix::process::umask(Mode::from_raw_mode(0o077));
    let bound = net::UnixListener::bind(address.path());
    rustix::process::umask(before);
    let listener = bound?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
    if fs::symlink_metadata(&socket)?.permissions().mode() & 0o777 != 0o600 {
        return Err(denied(format!("{} did not get mode 0600", socket.display())));
    }
    Ok(listener)
}

fn remove_stale(socket: &Path) -> io::Result<()> {
    match fs::symlink_metadata(socket) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(socket),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is in the way: it is not a socket", socket.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// By the user at the other end, as the kernel saw it when it connected.
fn is_operator(peer: Option<u32>) -> bool {
    peer.is_some_and(|uid| uid == own_uid() || uid == 0)
}

/// Serves one connection: one command, and what flows beside it.
async fn answer(stream: UnixStream, desk: Desk) {
    let peer = stream.peer_cred().ok().map(|credentials| credentials.uid());
    let (mut input, output) = stream.into_split();
    let mut output = Output(output);
    let outcome = if is_operator(peer) {
        match tokio::time::timeout(COMMAND_TIMEOUT, command(&mut input)).await {
            Ok(None) => return,
            Ok(Some(Ok(command))) => {
                match carry_out(&desk, command, peer, input, &mut output).await {
                    Some(outcome) => outcome,
                    None => {
                        return log::info!("a maintenance command was broken off by its caller");
                    }
                }
            }
            Ok(Some(Err(failure))) => Err(failure),
            Err(_) => Err(failure(FailureKind::Usage, "the command did not arrive in time")),
        }
    } else {
        Err(failure(FailureKind::Usage, "only the owner of the data folder or root may command"))
    };
    let sent = match &outcome {
        Ok(reply) => output.send_json(Kind::Reply, reply).await,
        Err(failure) => output.send_json(Kind::Failure, failure).await,
    };
    if let Err(error) = sent {
        // What was done is done; who asked does not hear of it.
        log::info!("the answer to a maintenance command was not taken: {error}");
    }
}

/// `None` where nothing came: the caller looked whether somebody listens.
async fn command(input: &mut OwnedReadHalf) -> Option<Result<Command, Failure>> {
    let unknown = || {
        let why = "the command is not known: is the client of another version?";
        failure(FailureKind::Usage, why)
    };
    Some(match receive(input).await {
        Ok((Kind::Command, payload)) => {
            // It may hold a token, a share or a KEK.
            let payload = Zeroizing::new(payload);
            serde_json::from_slice(&payload).map_err(|_| unknown())
        }
        Ok(_) => Err(unknown()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(unknown()),
        Err(_) => return None,
    })
}

/// What a check reads in a second while others are served, where nobody said
/// otherwise: some tens of milliseconds' work.
const ROWS_PER_SECOND: u32 = 20_000;

fn paced(command: Command) -> Command {
    match command {
        Command::Verify { tenant, rows_per_second: None } => {
            Command::Verify { tenant, rows_per_second: Some(ROWS_PER_SECOND) }
        }
        other => other,
    }
}

/// `None` where the caller went away first.
async fn carry_out(
    desk: &Desk,
    command: Command,
    peer: Option<u32>,
    input: OwnedReadHalf,
    output: &mut Output,
) -> Option<Result<Reply, Failure>> {
    let command = match command {
        // Without a look at the vault: sealing waits until nobody holds it.
        Command::Seal => return Some(desk.turn(Wanted::Seal).await),
        Command::Unseal { with } => return Some(desk.turn(Wanted::Unseal(with)).await),
        command => command,
    };
    // From before the look, so that no sealing is missed.
    let sealing = desk.state.changes();
    let phase = Phase::clone(&desk.state.phase());
    match (command, phase) {
        (command, Phase::Open(vault)) => {
            maintain(vault, sealing, (paced(command), peer), input, output).await
        }
        (Command::Status, Phase::Sealed(sealed)) => {
            Some(Ok(Reply::Sealed(Box::new(sealed.status().await))))
        }
        (Command::KekStatus, Phase::Sealed(sealed)) => {
            Some(Ok(Reply::Kek(key_commands::describe(sealed.kek_record().clone()))))
        }
        (_, Phase::Sealed(_)) => {
            let why = "the server is sealed; run 'tenure unseal' first";
            Some(Err(failure(FailureKind::Unavailable, why)))
        }
        (_, Phase::Starting | Phase::Sealing) => {
            let why = "the server is just starting or being sealed; try again in a moment";
            Some(Err(failure(FailureKind::Unavailable, why)))
        }
    }
}

/// `None` where the caller went away first: nobody waits for it any more. What
/// must not be left half done runs on a task of its own.
async fn maintain(
    vault: Arc<Vault>,
    mut sealing: watch::Receiver<()>,
    (command, peer): (Command, Option<u32>),
    input: OwnedReadHalf,
    output: &mut Output,
) -> Option<Result<Reply, Failure>> {
    let (exchange, ends) = Exchange::new();
    let exchange = exchange.for_caller(Caller::local(peer));
    // Who puts a store under another KEK must hear how that ended. It is soon over.
    let may_break_off = !matches!(command, Command::KekReplace { .. });
    // It lets go of the vault at its end, however long its caller takes to read. The
    // vault survives a panic as it does in `dispatch`.
    let work = async move {
        let work = AssertUnwindSafe(maintenance::execute(&vault, command, exchange));
        tokio::select! {
            done = work.catch_unwind() => done.unwrap_or_else(|_| {
                log::error!("a maintenance command panicked");
                Err(failure(FailureKind::Internal, "the server failed; its log says why"))
            }),
            _ = sealing.changed(), if may_break_off => {
                let why = "the server was sealed meanwhile, and the command broken off; run it \
                           again when it is unsealed";
                Err(failure(FailureKind::Unavailable, why))
            }
        }
    };
    let (ended, outcome) = (send_all(ends.progress, ends.download, output), work);
    tokio::select! {
        (outcome, ()) = async { tokio::join!(outcome, ended) } => Some(outcome),
        () = feed(input, ends.upload) => None,
    }
}

/// Passes on what comes from the caller, until the caller is gone.
async fn feed(mut input: OwnedReadHalf, upload: mpsc::Sender<Vec<u8>>) {
    let mut upload = Some(upload);
    while let Ok((Kind::Data, payload)) = receive(&mut input).await {
        match &upload {
            // Nobody reads any more: the rest is taken and forgotten, so that the
            // caller comes to read the answer.
            Some(sender) if !payload.is_empty() => drop(sender.send(payload).await),
            _ => upload = None,
        }
    }
}

/// Passes on what goes to the caller, until the command lets go of its ends.
async fn send_all(
    mut progress: mpsc::Receiver<Progress>,
    mut download: mpsc::Receiver<Vec<u8>>,
    output: &mut Output,
) {
    loop {
        let sent = tokio::select! {
            Some(piece) = download.recv() => output.send(Kind::Data, &piece).await,
            Some(progress) = progress.recv() => output.send_json(Kind::Progress, &progress).await,
            else => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

struct Output(OwnedWriteHalf);

impl Output {
    async fn send(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the answer is too long");
        let header = admin_frames::header(kind, payload.len()).ok_or_else(too_long)?;
        self.0.write_all(&header).await?;
        self.0.write_all(payload).await
    }

    /// A reply may hold a token: it is written into memory that is wiped, with
    /// room for any token at once.
    async fn send_json(&mut self, kind: Kind, payload: &impl Serialize) -> io::Result<()> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
        serde_json::to_writer(&mut *bytes, payload)?;
        self.send(kind, &bytes).await
    }
}

async fn receive(input: &mut OwnedReadHalf) -> io::Result<(Kind, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).await?;
    let (kind, length) = admin_frames::parse(header).ok_or(io::ErrorKind::InvalidData)?;
    let mut payload = vec![0; length];
    input.read_exact(&mut payload).await?;
    Ok((kind, payload))
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure { kind, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private_folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        dir
    }

    #[test]
    fn the_socket_is_for_its_owner_alone() {
        let dir = private_folder();
        let _listener = bind(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let dir = private_folder();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let error = bind(dir.path()).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_file_is_not() {
        let dir = private_folder();
        drop(bind(dir.path()).unwrap());
        assert!(dir.path().join(SOCKET).exists());
        drop(bind(dir.path()).unwrap());
        fs::remove_file(dir.path().join(SOCKET)).unwrap();
        fs::write(dir.path().join(SOCKET), "precious").unwrap();
        assert_eq!(bind(dir.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_bound_all_the_same() {
        let dir = private_folder();
        let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o700)).unwrap();
        let _listener = bind(&deep).unwrap();
        assert!(deep.join(SOCKET).exists());
        let address = Address::of(&deep).unwrap();
        std::os::unix::net::UnixStream::connect(address.path()).unwrap();
    }

    #[test]
    fn strangers_are_no_operators() {
        assert!(!is_operator(None));
        assert!(is_operator(Some(0)) && is_operator(Some(own_uid())));
        assert!(!is_operator(Some(own_uid().wrapping_add(1).max(1))));
    }
}
