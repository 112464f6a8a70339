//! A process of this same program beside the command that started it, which it outlives.
//! What it must know comes by a pipe: words and variables can be seen.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tokio::signal::unix::{Signal, SignalKind};

use super::failure::CliError;
use super::internal;
use super::signals::wait_for;

/// This program, even where another file has its name by now.
pub(super) const OURSELVES: &str = "/proc/self/exe";
/// What a helper answers with when it does what it is for; all else is a sentence that
/// says why it does not.
const READY: &str = "ready";

/// As the command sees it.
pub(super) struct Helper {
    child: Child,
    /// Its end is how a helper learns that the command is gone, however it went.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// With these of the command's variables, and no other.
    pub(super) fn start(words: &[&str], variables: &[&str]) -> Result<Self, CliError> {
        let mut command = Command::new(OURSELVES);
        command.arg0("tenure").args(words).env_clear().current_dir("/");
        command.envs(variables.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(internal)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| internal("a helper without a pipe"))?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    pub(super) fn tell(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        stdin.write_all(bytes).and_then(|()| stdin.flush()).map_err(internal)
    }

    /// There is no more to tell.
    pub(super) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits until it does what it is for; or why it does not, as it says itself.
    pub(super) fn ready(&mut self) -> Result<(), String> {
        let mut answer = String::new();
        let read = self.stdout.read_line(&mut answer);
        match (read, answer.trim_end()) {
            (Ok(_), READY) => Ok(()),
            (Ok(_), "") => Err("it ended".to_owned()),
            (Ok(_), why) => Err(why.to_owned()),
            (Err(error), _) => Err(error.to_string()),
        }
    }

    /// Lets it go, and waits until it is gone.
    pub(super) fn end(mut self) {
        self.hang_up();
        // One that somebody else waited for is gone as well.
        let _ = self.child.wait();
    }
}

/// As the helper itself: in a session of its own, where no terminal reaches it.
pub(super) struct Beside(());

impl Beside {
    pub(super) fn stand() -> io::Result<Self> {
        rustix::process::setsid()?;
        Ok(Self(()))
    }

    /// What it is told, up to a zero byte.
    pub(super) fn told(&self) -> io::Result<Vec<u8>> {
        let mut told = Vec::new();
        io::stdin().lock().read_until(0, &mut told)?;
        told.pop_if(|last| *last == 0);
        Ok(told)
    }

    pub(super) fn answer(&self, fails: Option<&str>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", fails.unwrap_or(READY))?;
        stdout.flush()
    }

    /// Waits until the command is gone.
    pub(super) fn until_alone(&self) {
        // Nobody speaks any more; a pipe that breaks is an end as well.
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    }
}

/// Signals that a process does not end by, as long as it holds this.
pub(super) struct Deaf {
    _unheard: [Signal; 3],
}

impl Deaf {
    pub(super) fn to_ends() -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(wait_for);
        Ok(Self { _unheard: [interrupt?, terminate?, hangup?] })
    }
}
