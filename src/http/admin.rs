//! The admin socket: an operator's commands to a running server, over
//! `<data>/admin.sock`.
//!
//! Who may open it owns the data folder: the folder is 0700 and ours, the socket
//! 0600, and a peer of another user (root excepted) is refused whatever the modes
//! say. Who calls [`AdminServer::start`] holds the database's lock, so that a
//! socket found there was left behind and is replaced.

use std::any::Any;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{
    Extensions, Payload, ServerHandle, ServiceRequest, ServiceResponse, fn_service,
};
use actix_web::http::{Method, header};
use actix_web::rt::net::UnixStream;
use actix_web::web::Bytes;
use actix_web::{App, Error, HttpResponse, HttpServer};
use futures_util::{FutureExt, StreamExt};
use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::api::admin::{Command, Failure, FailureKind, Reply};
use crate::vault::{Vault, maintenance};

use super::problem;

pub(super) const PATH: &str = "/admin";
const SOCKET: &str = "admin.sock";
const MAX_COMMAND_BYTES: usize = 64 * 1024;

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

/// A served admin socket.
pub struct AdminServer {
    socket: PathBuf,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
}

impl AdminServer {
    /// Must be called within a tokio runtime, by who holds the database's lock.
    pub fn start(data: &Path, vault: Arc<Vault>) -> io::Result<Self> {
        let listener = bind(data)?;
        let server = HttpServer::new(move || {
            let vault = Arc::clone(&vault);
            App::new().default_service(fn_service(move |request: ServiceRequest| {
                let vault = Arc::clone(&vault);
                async move { Ok::<_, Error>(answer(&vault, request).await) }
            }))
        })
        .workers(1)
        .on_connect(remember_peer)
        .client_request_timeout(Duration::from_secs(5))
        .disable_signals()
        .listen_uds(listener)?
        .run();
        let handle = server.handle();
        Ok(Self { socket: data.join(SOCKET), handle, task: tokio::spawn(server) })
    }

    /// Finishes the commands under way and removes the socket.
    pub async fn stop(self) -> io::Result<()> {
        self.handle.stop(true).await;
        let ended = self.task.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        fs::remove_file(&self.socket).and(ended)
    }
}

fn bind(data: &Path) -> io::Result<UnixListener> {
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
    let bound = UnixListener::bind(address.path());
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

/// The user at the other end, as the kernel saw it when it connected.
struct Peer {
    uid: u32,
}

fn remember_peer(connection: &dyn Any, facts: &mut Extensions) {
    let stream = connection.downcast_ref::<UnixStream>();
    if let Some(credentials) = stream.and_then(|stream| stream.peer_cred().ok()) {
        facts.insert(Peer { uid: credentials.uid() });
    }
}

fn is_operator(peer: Option<&Peer>) -> bool {
    peer.is_some_and(|peer| peer.uid == own_uid() || peer.uid == 0)
}

async fn answer(vault: &Arc<Vault>, request: ServiceRequest) -> ServiceResponse<BoxBody> {
    let (request, mut payload) = request.into_parts();
    let outcome = if !is_operator(request.conn_data::<Peer>()) {
        Err(failure(FailureKind::Usage, "only the owner of the data folder or root may command"))
    } else if request.method() != Method::POST || request.path() != PATH {
        Err(failure(FailureKind::Usage, "there is only POST /admin here"))
    } else {
        // The vault survives a panic as it does in `dispatch`.
        AssertUnwindSafe(carry_out(vault, &mut payload)).catch_unwind().await.unwrap_or_else(|_| {
            log::error!("a maintenance command panicked");
            Err(failure(FailureKind::Internal, "the server failed; its log says why"))
        })
    };
    let response = match outcome {
        Ok(reply) => json(HttpResponse::Ok(), &reply),
        Err(failure) => json(HttpResponse::build(problem::admin_status(failure.kind)), &failure),
    };
    ServiceResponse::new(request, response)
}

async fn carry_out(vault: &Arc<Vault>, payload: &mut Payload) -> Result<Reply, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|_| failure(FailureKind::Usage, "the command did not arrive whole"))?;
        body.extend_from_slice(&chunk);
        if body.len() > MAX_COMMAND_BYTES {
            return Err(failure(FailureKind::Usage, "the command is too large"));
        }
    }
    let command: Command = serde_json::from_slice(&body).map_err(|_| {
        failure(FailureKind::Usage, "the command is not known: is the client of another version?")
    })?;
    maintenance::execute(vault, command).await
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure { kind, message: message.to_owned() }
}

/// A reply may hold a token: it is written into memory that is wiped, with room
/// for any token at once.
fn json(mut response: actix_web::HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    // These types serialize, and writing to memory does not fail.
    let _ = serde_json::to_writer(&mut *bytes, body);
    response
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(Bytes::from_owner(bytes))
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
        assert!(is_operator(Some(&Peer { uid: 0 })) && is_operator(Some(&Peer { uid: own_uid() })));
        assert!(!is_operator(Some(&Peer { uid: own_uid().wrapping_add(1).max(1) })));
    }
}
