//! `tenure dev stop`, `status` and `reset`.

use std::fs;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use super::super::args::DevResetArgs;
use super::super::data::{cannot, is_temporary};
use super::super::failure::{CliError, Exit};
use super::super::maintain::Output;
use super::super::secret::{self, ENV_FILE};
use super::super::{access, format, internal, prompt};
use super::home::{Home, holds_a_store};
use crate::api::admin::{Command, Reply, SecretCounts, Status};
use crate::http::AdminClient;

/// Longer than requests under way are waited for.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Running {
    running: bool,
    pid: Option<i32>,
    address: Option<String>,
    tenant: Option<String>,
    data: String,
    /// By the state of their windows, of all tenants.
    secrets: Option<SecretCounts>,
}

pub(super) fn status(data: Option<PathBuf>, output: Output) -> Result<(), CliError> {
    let home = Home::of_clients(data)?;
    let Some(server) = AdminClient::connect(&home.data)? else {
        if output.json {
            output.show(&not_running(&home), String::new)?;
        }
        return Err(gone(&home));
    };
    let said = secret::dev_server(&home.data);
    let running = Running {
        running: true,
        pid: Some(server.pid().as_raw_pid()),
        address: said.as_ref().map(|said| said.address.as_str().to_owned()),
        tenant: said.and_then(|said| said.tenant).map(|tenant| tenant.to_string()),
        data: home.data.display().to_string(),
        secrets: counts(&server)?,
    };
    output.show(&running, || running.text())
}

/// `None` of one that is sealed.
fn counts(server: &AdminClient) -> Result<Option<SecretCounts>, CliError> {
    Ok(match server.send(&Command::Status, None, None, &mut |_| {})? {
        Reply::Status(status) => {
            let Status { secrets, .. } = *status;
            Some(secrets)
        }
        _ => None,
    })
}

fn not_running(home: &Home) -> Running {
    let data = home.data.display().to_string();
    Running { running: false, pid: None, address: None, tenant: None, data, secrets: None }
}

impl Running {
    fn text(&self) -> String {
        let Self { running: _, pid, address, tenant, data, secrets } = self;
        let unknown = || "unknown".to_owned();
        let secrets = secrets.map_or_else(unknown, |SecretCounts { valid, pending, expired }| {
            format!("{valid} valid, {pending} not valid yet, {expired} expired")
        });
        format!(
            "tenure dev runs\n\n  address  {}\n  tenant   {}\n  data     {data}\n  pid      {}\n  \
             secrets  {secrets}\n",
            address.clone().unwrap_or_else(unknown),
            tenant.clone().unwrap_or_else(unknown),
            pid.map_or_else(unknown, |pid| pid.to_string()),
        )
    }
}

/// Says so too of what a dead server left.
fn gone(home: &Home) -> CliError {
    let data = home.data.display();
    let left = match home.address() {
        Some(address) => format!(
            ": {} names {address}, and was left by one that has ended",
            home.data.join(ENV_FILE).display()
        ),
        None => String::new(),
    };
    CliError {
        exit: Exit::NotFound,
        message: format!("no 'tenure dev' runs on {data}{left}; 'tenure dev' starts one"),
    }
}

#[derive(Serialize)]
struct Stopped {
    stopped: bool,
    pid: i32,
    data: String,
}

/// Stops the server in good order, and waits until it is gone.
pub(super) fn stop(data: Option<PathBuf>, output: Output) -> Result<(), CliError> {
    let home = Home::of_clients(data)?;
    let server = AdminClient::connect(&home.data)?.ok_or_else(|| gone(&home))?;
    refuse_others(&home)?;
    let pid = server.pid();
    let Some(process) = process_of(&home.data, pid)? else { return Err(gone(&home)) };
    let unstoppable = |error: io::Error| {
        let pid = pid.as_raw_pid();
        CliError::unavailable(format!("process {pid} cannot be stopped: {error}; stop it by hand"))
    };
    match pidfd_send_signal(&process, Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(unstoppable(error.into())),
    }
    if !ends(&process).map_err(unstoppable)? {
        return Err(unstoppable(ErrorKind::TimedOut.into()));
    }
    let stopped =
        Stopped { stopped: true, pid: pid.as_raw_pid(), data: home.data.display().to_string() };
    output.show(&stopped, || format!("stopped; {} keeps what it holds\n", stopped.data))
}

/// Waits for the end of a process, for some time.
fn ends(process: &OwnedFd) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        let left = STOPPED_WITHIN.saturating_sub(begun.elapsed());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: 0 };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left.as_secs() == 0 => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A handle of the process that serves the folder. A number alone may be another's by the
/// time that a signal is sent: who still answers after the handle was taken, is it.
fn process_of(data: &Path, pid: Pid) -> Result<Option<OwnedFd>, CliError> {
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(internal(format!("process {pid:?} cannot be reached: {error}"))),
    };
    let again = AdminClient::connect(data)?;
    Ok(again.filter(|server| server.pid() == pid).map(|_| process))
}

fn refuse_others(home: &Home) -> Result<(), CliError> {
    if holds_a_store(&home.data) {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "{} was not made by 'tenure dev'; stop its server where it was started",
        home.data.display()
    )))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reset {
    dry_run: bool,
    /// Paths.
    removed: Vec<String>,
    /// What is in the folder beside the store.
    kept: Vec<String>,
}

/// Removes what `tenure dev` made, and nothing else.
pub(super) fn reset(args: DevResetArgs, output: Output) -> Result<(), CliError> {
    let home = Home::find(args.data)?;
    let data = home.data.as_path();
    if !holds_a_store(data) {
        return Err(CliError {
            exit: Exit::NotFound,
            message: format!("{} holds no store of 'tenure dev'", data.display()),
        });
    }
    if AdminClient::connect(data)?.is_some() {
        return Err(CliError {
            exit: Exit::Conflict,
            message: format!(
                "'tenure dev' runs on {}; run 'tenure dev stop' first",
                data.display()
            ),
        });
    }
    let (made, kept) = entries(data)?;
    let shown = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
    let reset = Reset { dry_run: args.dry_run, removed: shown(&made), kept: shown(&kept) };
    if args.dry_run {
        return output.show(&reset, || reset.text(data));
    }
    if !args.yes {
        confirm(data)?;
    }
    remove(data, &made, kept.is_empty())?;
    output.show(&reset, || reset.text(data))
}

impl Reset {
    fn text(&self, data: &Path) -> String {
        let Self { dry_run, removed, kept } = self;
        let mut text = match dry_run {
            true => format!("would remove {}\n", removed.join(", ")),
            false => format!("removed the store in {}\n", data.display()),
        };
        if !kept.is_empty() {
            text += &format!("not of the store, and left alone: {}\n", kept.join(", "));
        }
        text
    }
}

fn confirm(data: &Path) -> Result<(), CliError> {
    let what = format!("every secret in {} would be gone for good", data.display());
    if !io::stdin().is_terminal() {
        return Err(CliError::usage(format!("{what}; say --yes where nobody can be asked")));
    }
    match prompt::typed(&format!("{what}. Go on? [y/N] "))?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::usage("nothing was removed")),
    }
}

/// Of the store, in the order of removal: while the last two are there, it is one that
/// can be reset again. And the others.
fn entries(data: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CliError> {
    let failed = |error: io::Error| cannot("read", data, &error);
    let (mut made, mut kept) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(data).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let ours = is_temporary(&name) || name.to_str().is_some_and(is_made);
        if ours { &mut made } else { &mut kept }.push(data.join(name));
    }
    let rank = |path: &PathBuf| {
        LAST.iter().position(|last| path.file_name().is_some_and(|name| name == *last))
    };
    made.sort_by_key(|path| (rank(path), path.clone()));
    kept.sort();
    Ok((made, kept))
}

const LAST: [&str; 2] = [access::DEV_KEK, format::FILE];

fn is_made(name: &str) -> bool {
    let of_format = name.strip_prefix("store-").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    of_format
        || LAST.contains(&name)
        || ["store", "admin.sock", ENV_FILE, ".gitignore"].contains(&name)
}

/// Under the lock of the store: who starts one here at this moment must not find half.
fn remove(data: &Path, made: &[PathBuf], folder_too: bool) -> Result<(), CliError> {
    let _locks = made
        .iter()
        .filter(|path| path.join(format::LOCK).is_file())
        .map(|path| format::lock(path))
        .collect::<Result<Vec<_>, _>>()?;
    for path in made {
        let is_folder = fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.map_err(|error| cannot("remove", path, &error))?;
    }
    if folder_too {
        // A link to a folder elsewhere is not ours to remove.
        match fs::remove_dir(data) {
            Err(error) if error.kind() != ErrorKind::NotADirectory => {
                return Err(cannot("remove", data, &error));
            }
            _ => {}
        }
    }
    Ok(())
}
