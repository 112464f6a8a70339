//! What started this process as a service, systemd as a rule: the sockets that it hands
//! over (sd_listen_fds(3)), and what it is told (sd_notify(3), sd_watchdog_enabled(3)).
//!
//! Its variables are taken out of the environment, so that no program that is started
//! from here takes itself for the service.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::fd::{OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::ClockId;

use super::args::Command;
use super::failure::CliError;
use super::handed_over;
use crate::http::{Vitals, adopt};

/// The first descriptor that is handed over.
pub(super) const FIRST: RawFd = 3;
/// The socket to serve on, where there are several.
const API: &str = "api";
/// More than these is a mistake.
const MOST_SOCKETS: RawFd = 64;
/// How often it is told that an opening goes on, and how long it then waits.
const PATIENCE_ASKED_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

const VARIABLES: [&str; 6] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Nobody, where no one started this process as a service.
#[derive(Default)]
pub(super) struct Manager {
    sockets: Vec<(String, OwnedFd)>,
    ears: Option<Ears>,
    /// How long it may hear nothing.
    watchdog: Option<Duration>,
    /// What a successor of this process is to be told in its turn.
    lasting: Vec<(&'static str, String)>,
}

struct Ears {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// Meets who started a server. Before there is another thread, and before this process
/// has opened anything.
pub(super) fn of(command: &Command) -> Result<Manager, CliError> {
    if !matches!(command, Command::Serve(_)) {
        return Ok(Manager::default());
    }
    let said = VARIABLES.map(|name| (name, std::env::var(name).ok()));
    handed_over::forget_variables(&VARIABLES);
    Said::understand(&said, std::process::id()).and_then(Said::meet)
}

/// What its variables mean.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// The names of the sockets, in order.
    sockets: Vec<String>,
    notify: Option<String>,
    watchdog: Option<Duration>,
}

impl Said {
    fn understand(said: &[(&str, Option<String>)], pid: u32) -> Result<Self, CliError> {
        let get = |name: &str| {
            let value = said.iter().find(|(known, _)| *known == name);
            value.and_then(|(_, value)| value.as_deref()).filter(|value| !value.is_empty())
        };
        // What is meant for another process is inherited by chance.
        let is_ours = |name: &str| get(name).is_none_or(|said| said.parse() == Ok(pid));
        let mut understood =
            Self { notify: get("NOTIFY_SOCKET").map(str::to_owned), ..Self::default() };
        if let Some(count) =
            get("LISTEN_FDS").filter(|_| get("LISTEN_PID").is_some() && is_ours("LISTEN_PID"))
        {
            let count = count.parse().ok().filter(|count| (0..=MOST_SOCKETS).contains(count));
            let count = count.ok_or_else(|| {
                CliError::usage("LISTEN_FDS is not a number of sockets; what started this sets it")
            })?;
            let names = get("LISTEN_FDNAMES").unwrap_or_default();
            let mut names = names.split(':').map(str::to_owned);
            understood.sockets = (0..count).map(|_| names.next().unwrap_or_default()).collect();
        }
        if let Some(micros) = get("WATCHDOG_USEC").filter(|_| is_ours("WATCHDOG_PID")) {
            let micros = micros.parse().ok().filter(|micros| *micros > 0);
            understood.watchdog = micros.map(Duration::from_micros);
        }
        Ok(understood)
    }

    fn meet(self) -> Result<Manager, CliError> {
        let Self { sockets, notify, watchdog } = self;
        let sockets = sockets.into_iter().zip(FIRST..).map(|(name, fd)| Ok((name, taken(fd)?)));
        let mut lasting = Vec::new();
        if let Some(notify) = &notify {
            lasting.push(("NOTIFY_SOCKET", notify.clone()));
        }
        if let Some(watchdog) = watchdog {
            lasting.push(("WATCHDOG_USEC", watchdog.as_micros().to_string()));
        }
        Ok(Manager {
            sockets: sockets.collect::<Result<_, CliError>>()?,
            ears: notify.as_deref().map(Ears::at).transpose()?,
            watchdog,
            lasting,
        })
    }
}

fn taken(fd: RawFd) -> Result<OwnedFd, CliError> {
    handed_over::take(fd).map_err(|error| {
        CliError::usage(format!(
            "descriptor {fd}, which LISTEN_FDS speaks of, is not open: {error}"
        ))
    })
}

impl Ears {
    fn at(place: &str) -> Result<Self, CliError> {
        let address = match place.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(place),
        };
        let deaf = |error: std::io::Error| {
            CliError::usage(format!(
                "NOTIFY_SOCKET is {place}, and nothing can be sent there: {error}"
            ))
        };
        let socket = UnixDatagram::unbound().map_err(deaf)?;
        // Who does not listen must not hold us up.
        socket.set_nonblocking(true).map_err(deaf)?;
        Ok(Self { socket, address: address.map_err(deaf)? })
    }
}

impl Manager {
    /// The socket to serve on, if one was handed over. Others are closed.
    pub(super) fn listener(&mut self) -> Result<Option<TcpListener>, CliError> {
        let mut sockets = std::mem::take(&mut self.sockets);
        let place = match sockets.len() {
            0 => return Ok(None),
            1 => Some(0),
            _ => sockets.iter().position(|(name, _)| name == API),
        };
        let (name, socket) = place.map(|place| sockets.swap_remove(place)).ok_or_else(|| {
            CliError::usage(format!(
                "several sockets were handed over, and none is named \"{API}\": write \
                 FileDescriptorName={API} into the .socket unit of the one to serve on"
            ))
        })?;
        adopt(socket).map(Some).map_err(|error| {
            CliError::usage(format!(
                "the socket \"{name}\" that was handed over cannot be served on: {error}; \
                 ListenStream= in the .socket unit is an IP address and a port"
            ))
        })
    }

    pub(super) fn lasting(&self) -> &[(&'static str, String)] {
        &self.lasting
    }

    /// Tells it variables, one a line.
    fn tell(&self, words: &str) {
        let Some(Ears { socket, address }) = &self.ears else { return };
        if let Err(error) = socket.send_to_addr(words.as_bytes(), address) {
            log::debug!("the service manager was not told {words:?}: {error}");
        }
    }

    /// From here on, requests are answered.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)));
    }

    pub(super) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", line(status)));
    }

    /// Until [`Manager::ready`].
    pub(super) fn reloading(&self, status: &str) {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        let status = line(status);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS={status}"));
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing requests under way");
    }

    /// Does what may take long, and asks for patience until it is done.
    pub(super) async fn patiently<T>(&self, status: &str, work: impl Future<Output = T>) -> T {
        self.status(status);
        let mut every = tokio::time::interval(PATIENCE_ASKED_EVERY);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = every.tick() => self.tell(&format!(
                    "EXTEND_TIMEOUT_USEC={}\nWATCHDOG=1", PATIENCE.as_micros()
                )),
            }
        }
    }

    /// Tells it again and again that the server lives, as long as it does; and never
    /// ends. That this is called at all shows that the thread that opens, reloads and
    /// stops comes round; that workers and writers do is asked.
    pub(super) async fn keep_alive(&self, vitals: &Vitals) -> Infallible {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let mut every = tokio::time::interval(limit / 4);
        loop {
            every.tick().await;
            let silent = vitals.silent_for();
            if silent < limit {
                self.tell("WATCHDOG=1");
            } else {
                log::error!("something has stuck for {} s", silent.as_secs());
            }
        }
    }
}

/// A line feed would begin another variable.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(said: &[(&'static str, &str)]) -> Result<Said, CliError> {
        let said: Vec<_> =
            said.iter().map(|(name, value)| (*name, Some((*value).to_owned()))).collect();
        Said::understand(&said, 42)
    }

    #[test]
    fn what_is_meant_for_another_process_is_passed_over() {
        let theirs = [("LISTEN_PID", "41"), ("LISTEN_FDS", "1"), ("WATCHDOG_PID", "41")];
        let said = understood(&[&theirs[..], &[("WATCHDOG_USEC", "1000")]].concat()).unwrap();
        assert_eq!(said, Said::default());
        assert_eq!(understood(&[("LISTEN_FDS", "1")]).unwrap(), Said::default());
    }

    #[test]
    fn sockets_have_the_names_that_are_said() {
        let ours = [("LISTEN_PID", "42"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "api:metrics")];
        assert_eq!(understood(&ours).unwrap().sockets, ["api", "metrics", ""]);
        for count in ["-1", "many", "100"] {
            let error = understood(&[("LISTEN_PID", "42"), ("LISTEN_FDS", count)]).unwrap_err();
            assert!(error.message.contains("LISTEN_FDS"), "{}", error.message);
        }
    }

    #[test]
    fn a_watchdog_without_a_process_is_ours() {
        let said = understood(&[("WATCHDOG_USEC", "2000000")]).unwrap();
        assert_eq!(said.watchdog, Some(Duration::from_secs(2)));
        assert_eq!(understood(&[("WATCHDOG_USEC", "0")]).unwrap().watchdog, None);
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(line("bad\nREADY=1"), "bad READY=1");
    }
}
