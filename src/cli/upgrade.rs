//! The program in place of its predecessor: the same process, the same listening socket.
//!
//! The file that this process was started from is asked first whether it runs and takes
//! the configuration; if not, nothing happens. Then the server stops as for SIGTERM, with
//! no request left and the store closed, and becomes the new program. Who connects
//! meanwhile waits in the listening socket, which stays open.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::args::StoreArgs;
use super::failure::CliError;
use super::helper::OURSELVES;
use super::manager::{FIRST, Manager};
use super::{handed_over, internal};
use crate::config::KekSource;

/// How long it may take to say that it runs.
const PROBE: Duration = Duration::from_secs(20);

/// Where the next program is found.
pub(super) struct Successor {
    /// `None` where there is no /proc, as in an empty root folder.
    program: Option<PathBuf>,
    /// What this process was started with.
    arguments: Vec<OsString>,
}

impl Successor {
    /// Asked at the start: later the file may be another one, and its name is lost.
    pub(super) fn of_this_process() -> Self {
        let program = std::env::current_exe().ok();
        Self { program, arguments: std::env::args_os().skip(1).collect() }
    }

    /// Whether it would start.
    pub(super) async fn probe(&self, store: &StoreArgs, source: KekSource) -> Result<(), String> {
        match source {
            KekSource::Passphrase => {
                return Err("its passphrase would have to be given again: restart it".to_owned());
            }
            KekSource::Shamir => {
                return Err("it would start sealed: restart it when shares are at hand".to_owned());
            }
            KekSource::File | KekSource::Env | KekSource::Credential | KekSource::Command => {}
        }
        let Some(program) = &self.program else {
            return Err("without /proc it cannot tell where its file is: restart it".to_owned());
        };
        let mut command = tokio::process::Command::new(program);
        command.args(["config", "check"]).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(file) = &store.config {
            command.arg("--config").arg(file);
        }
        if let Some(data) = &store.data {
            command.arg("--data").arg(data);
        }
        let shown = program.display();
        let output = tokio::time::timeout(PROBE, command.output()).await;
        let output = output.map_err(|_| format!("{shown} does not answer"))?;
        let output = output.map_err(|error| format!("{shown} does not run: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        Err(format!("{shown} ended with {}: {last}", output.status))
    }

    /// Becomes it. Returns only if neither it nor this program starts.
    pub(super) fn become_it(&self, listener: TcpListener, manager: &Manager) -> CliError {
        if let Err(error) = handed_over::hand_over(listener, FIRST) {
            return internal(format!("the listening socket cannot be handed over: {error}"));
        }
        if let Some(program) = &self.program {
            let error = self.exec(program, manager);
            log::error!("{} does not start: {error}; the old program goes on", program.display());
        }
        internal(self.exec(Path::new(OURSELVES), manager))
    }

    fn exec(&self, program: &Path, manager: &Manager) -> std::io::Error {
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .envs(manager.lasting().iter().map(|(name, said)| (name, said)));
        command.env("LISTEN_PID", std::process::id().to_string());
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "api");
        command.exec()
    }
}
