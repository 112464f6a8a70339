//! Copies of the audit, to where the configuration says.
//!
//! Each place has a thread of its own, since it reads, decrypts and writes, and may have
//! to wait. Up to where each took the audit is kept in a file beside the store, which is
//! written behind the copies: who loses it, or stops in between, has some entries twice
//! and none missing. A place that takes nothing is tried again, less and less often, and
//! told of once.

mod cursors;
mod datagram;
mod file;
mod journal;
mod syslog;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::fs::Access;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use self::cursors::CursorFile;
use self::file::AuditFile;
use self::journal::Journal;
use self::syslog::Syslog;
use super::aside::Aside;
use super::failure::CliError;
use crate::config::{Audit, Config};
use crate::vault::{CopiesTo, CopyCursors, CopyTaker, Copying, Follower, Left, Vault};

/// How often it is looked what was appended, and so how often cursors are stored.
const EVERY: Duration = Duration::from_secs(1);
/// How long a stop waits for what is left to be copied; the next start goes on with it.
const LAST: Duration = Duration::from_secs(1);
/// After a failure, doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Whether what is configured can be written to. For who asks before a server starts: a
/// server serves all the same, and tries again.
pub(super) fn check(config: &Config) -> Result<(), CliError> {
    let Some(path) = &config.audit.file.path else { return Ok(()) };
    let refused = |problem: String| {
        Err(CliError::usage(format!(
            "audit.file.path is {}, and {problem}; make that a folder that the server may write \
             to, or name another file",
            path.display()
        )))
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        return refused(format!("{} is no folder", folder.display()));
    }
    if path.is_dir() {
        return refused("that is a folder".to_owned());
    }
    let (tried, access) = if path.exists() {
        (path.as_path(), Access::WRITE_OK | Access::READ_OK)
    } else {
        (folder, Access::WRITE_OK | Access::EXEC_OK)
    };
    match rustix::fs::access(tried, access) {
        Ok(()) => Ok(()),
        Err(error) => refused(format!("{} cannot be written to ({error})", tried.display())),
    }
}

/// All places that are copied to.
pub(super) struct Copies(Vec<Place>);

struct Place {
    /// Closed to have it end.
    orders: mpsc::Sender<Reopen>,
    /// Closed when it ended.
    ended: oneshot::Receiver<()>,
    aside: Aside,
}

struct Reopen;

impl Copies {
    pub(super) fn start(config: &Config, vault: &Arc<Vault>) -> Result<Self, CliError> {
        let Audit { names, file, syslog, journal, .. } = &config.audit;
        let mut takers: Vec<(CopiesTo, String, Box<dyn CopyTaker>)> = Vec::new();
        if let Some(path) = &file.path {
            let taker = Box::new(AuditFile::new(path.clone()));
            takers.push((CopiesTo::File, path.display().to_string(), taker));
        }
        if let Some(taker) = Syslog::new(syslog) {
            takers.push((CopiesTo::Syslog, taker.to_string(), Box::new(taker)));
        }
        if journal.enabled {
            takers.push((CopiesTo::Journal, "the journal".to_owned(), Box::new(Journal::new())));
        }
        let place = |(to, called, taker)| {
            let cursors = CursorFile::of(&config.data, to);
            let follower = vault.follow_audit(to, *names, cursors.read(vault));
            Place::start(Copier::new(called, follower, taker, cursors))
        };
        takers.into_iter().map(place).collect::<Result<_, _>>().map(Self)
    }

    /// Files may have been renamed, as those who rotate logs do.
    pub(super) fn reopen(&self) {
        for place in &self.0 {
            // One that has not heard the last one yet hears this one by it.
            let _ = place.orders.try_send(Reopen);
        }
    }

    pub(super) async fn stop(self) {
        join_all(self.0.into_iter().map(Place::stop)).await;
    }
}

impl Place {
    fn start(copier: Copier) -> Result<Self, CliError> {
        let (orders, heard) = mpsc::channel(1);
        let (ends, ended) = oneshot::channel();
        let work = move || async move {
            copier.run(heard).await;
            drop(ends);
        };
        Ok(Self { orders, ended, aside: Aside::start("audit copies", work)? })
    }

    async fn stop(self) {
        let Self { orders, ended, aside } = self;
        drop(orders);
        // In time or not: the next start goes on from where this one stops.
        let _ = tokio::time::timeout(LAST, ended).await;
        aside.stop().await;
    }
}

/// Copies to one place.
struct Copier {
    /// As the log calls it.
    called: String,
    follower: Follower,
    taker: Box<dyn CopyTaker>,
    file: CursorFile,
    /// As they are stored.
    stored: CopyCursors,
    patience: Patience,
}

impl Copier {
    fn new(
        called: String,
        follower: Follower,
        taker: Box<dyn CopyTaker>,
        file: CursorFile,
    ) -> Self {
        let stored = follower.cursors().clone();
        Self { called, follower, taker, file, stored, patience: Patience::Well }
    }

    /// Until nobody can give orders any more; then it copies what is there still.
    async fn run(mut self, mut orders: mpsc::Receiver<Reopen>) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let left = tokio::select! {
                order = orders.recv() => {
                    if order.is_none() {
                        break;
                    }
                    self.taker.reopen();
                    self.copy().await
                }
                () = self.follower.asked() => self.copy().await,
                _ = every.tick() => {
                    if self.patience.is_over(Instant::now()) { self.copy().await } else { Left::Nothing }
                }
            };
            if left == Left::More {
                every.reset_immediately();
            }
            self.follower.look();
            self.tell();
        }
        while self.copy().await == Left::More {}
    }

    fn tell(&self) {
        let copying = match self.patience {
            Patience::Well => Copying::Well,
            Patience::Failing { .. } => Copying::Failing,
        };
        self.follower.tell(copying);
    }

    async fn copy(&mut self) -> Left {
        let copied = self.follower.copy_some(&mut *self.taker).await;
        // What was taken before a failure is taken, if it stays so.
        let settled = self.taker.settle();
        match &settled {
            Ok(()) if *self.follower.cursors() != self.stored => {
                self.stored.clone_from(self.follower.cursors());
                self.file.write(&self.stored, self.follower.vault());
            }
            Ok(()) => {}
            Err(_) => self.follower.go_back_to(self.stored.clone()),
        }
        match settled.and(copied) {
            Ok(left) => {
                if self.patience.rewarded() {
                    log::info!("copies of the audit go to {} again", self.called);
                }
                left
            }
            Err(error) => {
                if self.patience.tried(Instant::now()) {
                    log::warn!(
                        "copies of the audit to {} wait in the store, and are tried again: {error}",
                        self.called
                    );
                }
                Left::Nothing
            }
        }
    }
}

/// With a place that takes nothing.
#[derive(Debug, Clone, Copy)]
enum Patience {
    Well,
    Failing { pause: Duration, until: Instant },
}

impl Patience {
    fn is_over(self, now: Instant) -> bool {
        match self {
            Self::Well => true,
            Self::Failing { until, .. } => now >= until,
        }
    }

    /// Whether it failed for the first time.
    fn tried(&mut self, now: Instant) -> bool {
        let (first, pause) = match self {
            Self::Well => (true, FIRST_RETRY),
            Self::Failing { pause, .. } => (false, (*pause * 2).min(LAST_RETRY)),
        };
        *self = Self::Failing { pause, until: now + pause };
        first
    }

    /// Whether it had failed before.
    fn rewarded(&mut self) -> bool {
        let failed = matches!(self, Self::Failing { .. });
        *self = Self::Well;
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::audit::{AuditActor, AuditEntry, AuditOp, CopiedEntry, NumberedEntry};

    /// That somebody wrote a secret.
    pub(super) fn copy(number: u64) -> CopiedEntry {
        let entry = AuditEntry {
            at: "2030-01-02T03:04:05Z".to_owned(),
            op: AuditOp::SecretWrite,
            tenant: None,
            name: Some("db-password".to_owned()),
            result: "ok".to_owned(),
            by: AuditActor::Token,
            credential: None,
            subject: Some("ci".to_owned()),
            issuer: None,
            from: None,
            request: None,
            detail: None,
        };
        let entry = NumberedEntry { number, entry };
        CopiedEntry { chain: Some("acme".to_owned()), chain_id: Some("07".repeat(16)), entry }
    }

    #[test]
    fn a_place_that_fails_is_tried_less_and_less_often_and_told_of_once() {
        let (mut patience, mut now) = (Patience::Well, Instant::now());
        let mut pauses = Vec::new();
        for attempt in 0..8 {
            assert!(patience.is_over(now));
            assert_eq!(patience.tried(now), attempt == 0);
            let begun = now;
            while !patience.is_over(now) {
                now += Duration::from_secs(1);
            }
            pauses.push((now - begun).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(patience.rewarded());
        assert!(!patience.rewarded(), "it is told of once that it works again");
        assert!(patience.is_over(now));
    }
}
