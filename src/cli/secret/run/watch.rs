//! `--watch`: a command that is started anew when its secrets change.
//!
//! New values are read before the command is stopped, so that it goes on with what it has
//! while they cannot be had. Only what it cannot do without ends it: a secret that
//! `--env` names and that is gone.

use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::descendants;
use super::fallback::Fallback;
use super::program::{Program, Variables};
use super::secrets::{Difference, Fetched, Source, drop_invalid};
use super::signals::{Signals, asks_to_end, comes_from_terminal};
use super::supervised::end_by;
use super::{is_away, keep, now, say};
use crate::cli::failure::{CliError, Exit};
use crate::cli::internal;
use crate::client::ClientError;
use crate::crypto::sha256;
use crate::domain::Timestamp;

/// For a command to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);
/// A copy is written anew after it, though nothing changed: it would become too old.
const COPY_EVERY: Duration = Duration::from_secs(60 * 60);

pub(super) struct Watch<'w> {
    pub(super) source: &'w Source,
    pub(super) program: &'w Program,
    pub(super) fallback: Option<&'w Fallback>,
    pub(super) every: Duration,
}

/// What ends a command's turn.
enum Turn {
    /// It ended by itself.
    Ended(ExitStatus),
    /// It is to go on with these.
    Changed(Fetched),
    /// It cannot go on.
    Over(CliError),
}

/// What became of a command that was told to stop.
enum Stopped {
    AsTold,
    /// Somebody told this process to stop as well.
    ForGood(ExitStatus),
}

impl Watch<'_> {
    /// Ends as the command ends; returns where that was not by itself.
    pub(super) async fn run(&self, mut held: Fetched) -> Result<(), CliError> {
        // Before there is a command whose end could be missed.
        let mut signals = Signals::receive()?;
        descendants::adopt()?;
        loop {
            let mut child = self.program.spawn(&self.variables(&held)?)?;
            let (stopped, next) = match self.attend(&mut child, &mut signals, held).await? {
                Turn::Ended(status) => end_as(status),
                Turn::Changed(new) => {
                    say("secrets have changed: the command is started anew");
                    (stop(&mut child, &mut signals).await?, Ok(new))
                }
                Turn::Over(error) => (stop(&mut child, &mut signals).await?, Err(error)),
            };
            if let (Stopped::ForGood(status), Ok(_)) = (&stopped, &next) {
                end_as(*status);
            }
            held = next?;
        }
    }

    async fn attend(
        &self,
        child: &mut Child,
        signals: &mut Signals,
        held: Fetched,
    ) -> Result<Turn, CliError> {
        let mut news = pin!(self.news(held));
        loop {
            tokio::select! {
                turn = &mut news => return Ok(turn),
                signal = signals.next() => {
                    if signal != Signal::CHILD {
                        pass_on(child, signal);
                    } else if let Some(status) = child.try_wait().map_err(internal)? {
                        return Ok(Turn::Ended(status));
                    } else {
                        descendants::bury(Pid::from_child(child));
                    }
                }
            }
        }
    }

    /// Waits until the command is to be stopped.
    async fn news(&self, mut held: Fetched) -> Turn {
        let running = self.variables(&held).map(|variables| digest(&variables)).ok();
        let mut told = None;
        let mut copied = Instant::now();
        loop {
            tokio::time::sleep(until_next(&held, self.every, now())).await;
            match self.look(&held).await {
                Ok(Look::Same { opens }) => {
                    recovered(&mut told);
                    held.opens = opens;
                    if copied.elapsed() >= COPY_EVERY {
                        keep(self.fallback, &held.secrets);
                        copied = Instant::now();
                    }
                    continue;
                }
                Ok(Look::Other(fetched)) => {
                    recovered(&mut told);
                    held = fetched;
                    keep(self.fallback, &held.secrets);
                    copied = Instant::now();
                }
                Err(error) => {
                    let is_away = is_away(&error);
                    let why = self.source.names.place.failed(error).message;
                    tell(&mut told, going_on(&why));
                    if !is_away || !drop_invalid(&mut held.secrets, now()) {
                        continue;
                    }
                }
            }
            match self.variables(&held) {
                Err(error) if error.exit == Exit::NotFound => return Turn::Over(error),
                Err(error) => say(&going_on(&error.message)),
                Ok(variables) if Some(digest(&variables)) == running => {}
                Ok(_) => return Turn::Changed(held),
            }
        }
    }

    async fn look(&self, held: &Fetched) -> Result<Look, ClientError> {
        match self.source.differs(&held.secrets).await? {
            Difference::None { opens } => Ok(Look::Same { opens }),
            Difference::Some => self.source.fetch().await.map(Look::Other),
        }
    }

    fn variables<'s>(&self, held: &'s Fetched) -> Result<Variables<'s>, CliError> {
        self.source.wanted.variables(&held.secrets, &self.source.names)
    }
}

/// What the server has.
enum Look {
    /// The versions that are held.
    Same {
        opens: Option<Timestamp>,
    },
    Other(Fetched),
}

/// Tells sets of variables apart, for as long as this process lives: what was written
/// anew and is the same is no change.
fn digest(variables: &Variables<'_>) -> [u8; 32] {
    let values = variables.iter().flat_map(|(variable, value)| {
        [sha256(variable.as_str().as_bytes()), sha256(value.expose().as_bytes())]
    });
    sha256(&values.flatten().collect::<Vec<_>>())
}

/// How long until the next look: to the next moment at which a window opens or ends, if
/// that is sooner.
fn until_next(held: &Fetched, every: Duration, now: Timestamp) -> Duration {
    let ends = held.secrets.values().filter_map(|held| held.window.expires_on());
    let edges = ends.chain(held.opens).filter(|edge| *edge > now);
    edges.min().map_or(every, |edge| {
        let micros = edge.unix_micros().saturating_sub(now.unix_micros());
        every.min(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
    })
}

fn going_on(why: &str) -> String {
    format!("{why}; the command goes on with what it has")
}

/// Once, until something else is to be told.
fn tell(told: &mut Option<String>, message: String) {
    if told.as_ref() != Some(&message) {
        say(&message);
        *told = Some(message);
    }
}

fn recovered(told: &mut Option<String>) {
    if told.take().is_some() {
        say("the secrets can be read again");
    }
}

fn pass_on(child: &Child, signal: Signal) {
    if !comes_from_terminal(signal) {
        // It was not waited for yet, so its id is no one else's. It may have ended.
        let _ = kill_process(Pid::from_child(child), signal);
    }
}

async fn stop(child: &mut Child, signals: &mut Signals) -> Result<Stopped, CliError> {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let mut for_good = false;
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    let mut killed = false;
    loop {
        if let Some(status) = child.try_wait().map_err(internal)? {
            descendants::end_all(PATIENCE).await;
            return Ok(if for_good { Stopped::ForGood(status) } else { Stopped::AsTold });
        }
        tokio::select! {
            () = &mut patience, if !killed => {
                let _ = kill_process(Pid::from_child(child), Signal::KILL);
                killed = true;
            }
            signal = signals.next() => {
                if signal != Signal::CHILD {
                    for_good |= asks_to_end(signal);
                    pass_on(child, signal);
                }
            }
        }
    }
}

/// With the command's exit code, or of the signal that it died of.
fn end_as(status: ExitStatus) -> ! {
    match status.signal() {
        Some(signal) => end_by(signal),
        None => std::process::exit(status.code().unwrap_or(1)),
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::secrets::Held;
    use super::*;
    use crate::domain::{SecretName, SecretValue, ValidityWindow};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_900_000_000 + seconds)
    }

    fn held(ends: &[i64], opens: Option<i64>) -> Fetched {
        let secrets = ends.iter().map(|end| {
            let name = SecretName::parse(&format!("until-{end}")).unwrap();
            let value = Some(SecretValue::new(Zeroizing::new("hunter2".to_owned())));
            let window = ValidityWindow::new(None, Some(at(*end))).unwrap();
            (name, Held { value, window, version: None })
        });
        Fetched { secrets: secrets.collect(), opens: opens.map(at) }
    }

    #[test]
    fn the_next_look_is_at_the_edge_of_a_window_that_comes_sooner() {
        let next = |held: &Fetched| until_next(held, Duration::from_secs(5), at(0)).as_secs();
        assert_eq!(next(&held(&[], None)), 5);
        assert_eq!(next(&held(&[3, 60], Some(4))), 3);
        assert_eq!(next(&held(&[60], Some(2))), 2);
        // By a server whose clock is behind it is valid still: not asked again and again.
        assert_eq!(next(&held(&[0, -1], Some(-3))), 5);
    }

    #[test]
    fn without_a_server_a_window_ends_all_the_same() {
        let mut secrets = held(&[3, 60], None).secrets;
        assert!(!drop_invalid(&mut secrets, at(2)));
        assert!(drop_invalid(&mut secrets, at(3)));
        assert_eq!(secrets.len(), 1);
    }
}
