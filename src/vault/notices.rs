//! What is told about secrets that come to their end: that it is near, that they have
//! expired, and that they are swept.
//!
//! What is due follows from time alone: each kind of notice is due at an offset from
//! `expiresOn`. Of each tenant it is kept up to when ([`Told::at`]) and up to which version
//! ([`Told::version`]) all was told; a row of the expiry index is due if it came due since,
//! or if it is of a later version and near. So a secret is told of that was stored, or
//! whose window was changed, after its notice would have been due.
//!
//! Guarantees: at least once, also after kill -9: the progress is stored after the receiver
//! took what there was, and what is told again has the same id. Nothing is told while the
//! clock is disputed. The cost follows what comes due, and what is near where something was
//! written; never what exists. Who receives may be slow or dead: only the telling waits.
//!
//! A version is given before its rows are stored. So the version up to which all is told is
//! read while no write is under way, and what is later is left to the next time.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::layout::Locator;
use super::tenant::{PAGE_ROWS, Tenant};
use super::{Vault, VaultError};
use crate::crypto::sha256;
use crate::domain::{SecretName, TenantName, Timestamp, ValidityWindow};
use crate::store::StoreError;

/// In one message, at most.
pub const MOST_NOTICES: usize = 100;
/// Rows of the expiry index that are read first; the pages grow with what is found.
const FIRST_ROWS: usize = 16;
/// How long what is to be told as swept is kept for a receiver that does not take it.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is told, and of which tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticePolicy {
    /// How long before the end of its window.
    pub expiring_within: Vec<Duration>,
    pub expired: Expired,
    /// How long after it the secret is swept; `None`: that is not told.
    pub swept_after: Option<Duration>,
    /// `None`: of all.
    pub tenants: Option<BTreeSet<TenantName>>,
}

/// Whether it is told that a secret has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    Told,
    Untold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    Expiring {
        within: Duration,
    },
    Expired,
    /// Its removal follows.
    Swept,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The same whenever it is told; hexadecimal.
    pub id: String,
    pub kind: NoticeKind,
    pub tenant: TenantName,
    pub name: SecretName,
    pub expires_on: Timestamp,
    /// When it was found to be due.
    pub at: Timestamp,
}

/// Who carries notices to whoever wants them.
#[async_trait]
pub trait Messenger: Send {
    /// Returns when they were taken, however long that takes.
    async fn tell(&mut self, notices: &[Notice]);
}

/// All that was due at a moment, of versions up to this one, was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) at: Timestamp,
    pub(super) version: u64,
}

/// From one telling of a tenant to the next; in whole seconds, as the index is.
#[derive(Debug, Clone, Copy)]
struct Round {
    since: i64,
    now: i64,
    /// Up to this version everything was looked at before.
    known: u64,
    /// Up to this one everything is stored.
    settled: u64,
}

impl NoticePolicy {
    fn covers(&self, tenant: &TenantName) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
    }

    /// When notices are due, in seconds from the end.
    fn offsets(&self) -> impl Iterator<Item = i64> + '_ {
        let before = self.expiring_within.iter().map(|within| -seconds(*within));
        let expired = (self.expired == Expired::Told).then_some(0);
        before.chain(expired).chain(self.swept_after.map(seconds))
    }

    /// What is due of a secret whose index says `expires`, in seconds.
    fn due(&self, round: Round, expires: i64, version: u64) -> Vec<NoticeKind> {
        let Round { since, now, known, settled } = round;
        if version > settled {
            return Vec::new();
        }
        let (mut due, end) = (Vec::new(), end(expires));
        let came = |at: i64| since < at && at <= now;
        if end > now {
            // The nearest end that it is within: who was told late is told once.
            let within = self.expiring_within.iter().copied();
            let nearest = within.filter(|within| end - seconds(*within) <= now).min();
            let fresh = |within: &Duration| version > known || came(end - seconds(*within));
            due.extend(nearest.filter(fresh).map(|within| NoticeKind::Expiring { within }));
        }
        if self.expired == Expired::Told && came(end) {
            due.push(NoticeKind::Expired);
        }
        if self.swept_after.is_some_and(|after| came(end.saturating_add(seconds(after)))) {
            due.push(NoticeKind::Swept);
        }
        due
    }

    /// The stretches of the index, in seconds, both ends included, in which something may
    /// be due: disjoint, and in order.
    fn stretches(&self, round: Round) -> Vec<(i64, i64)> {
        let Round { since, now, known, settled } = round;
        // Those `s` for which since < end(s) + offset <= now.
        let came = |offset: i64| (since.saturating_sub(offset), (now - 1).saturating_sub(offset));
        let mut stretches: Vec<_> = self.offsets().map(came).collect();
        let farthest = self.expiring_within.iter().copied().map(seconds).max();
        if let Some(farthest) = farthest.filter(|_| settled > known) {
            stretches.push((now, (now - 1).saturating_add(farthest)));
        }
        stretches.retain(|(from, to)| from <= to);
        stretches.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        for (from, to) in stretches {
            match merged.last_mut() {
                Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
                _ => merged.push((from, to)),
            }
        }
        merged
    }
}

/// When it has expired for certain: the index cuts the fraction of a second off.
fn end(indexed: i64) -> i64 {
    indexed.saturating_add(1)
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

impl Vault {
    /// Tells what is due, tenant by tenant, and waits until it was taken. The edge calls it
    /// from time to time, and never twice at once.
    pub async fn tell_due(&self, messenger: &mut dyn Messenger) {
        let Some(policy) = self.notices() else { return };
        for tenant in self.all_tenants() {
            if !policy.covers(&tenant.name) {
                continue;
            }
            if self.time.is_disputed() {
                log::warn!("no notices: the clock is disputed; see 'tenure clock accept'");
                return;
            }
            if let Err(error) = self.tell_due_of(&tenant, &policy, messenger).await {
                log::error!("notices of tenant '{}' are told later: {error}", tenant.name);
            }
        }
    }

    async fn tell_due_of(
        &self,
        tenant: &Tenant,
        policy: &NoticePolicy,
        messenger: &mut dyn Messenger,
    ) -> Result<(), VaultError> {
        let (before, now) = (tenant.told(), self.time.now().for_expiry());
        let known = before.map_or(0, |told| told.version);
        let settled = tenant.settled_version(known).await;
        // A clock that was ahead when it was told, and was set back since, begins anew.
        let since = before.map_or(now, |told| told.at.min(now));
        let (since, round_now) = (since.unix_seconds(), now.unix_seconds());
        let round = Round { since, now: round_now, known, settled };
        let mut telling =
            Telling { tenant, policy, round, at: now, messenger, told: 0, next: Vec::new() };
        for (from, to) in policy.stretches(round) {
            telling.stretch(from, to).await?;
        }
        telling.flush().await;
        let some = telling.told > 0;
        let told = Told { at: now, version: settled };
        // What told nothing need not be remembered: it would tell nothing again.
        if some || before.is_none() {
            self.record_told(tenant, told).await?;
        }
        tenant.set_told(told);
        Ok(())
    }

    /// A tenant that was deleted meanwhile must not leave a row behind.
    async fn record_told(&self, tenant: &Tenant, told: Told) -> Result<(), StoreError> {
        let _one = self.administration.lock().await;
        self.tenant(tenant.id)?;
        self.system.record_told(tenant.id, told, self.time.floor()).await
    }

    /// For how long an expired secret is kept so that it can be told that it is swept.
    pub(super) fn kept_for_notices(&self, tenant: &Tenant, retain: Duration) -> Duration {
        let tells = |policy: &Arc<NoticePolicy>| {
            policy.swept_after.is_some() && policy.covers(&tenant.name)
        };
        if self.notices().filter(tells).is_none() {
            return retain;
        }
        let (now, told) = (self.time.now().for_expiry(), tenant.told().map(|told| told.at));
        let waits_since = told.map_or(self.opened_on, |told| told.max(self.opened_on));
        if now > waits_since.saturating_add(PATIENCE) {
            log::warn!(
                "secrets of tenant '{}' are swept untold: the receiver of notify.url took nothing \
                 for a day",
                tenant.name
            );
            return retain;
        }
        let untold = told
            .map_or(i64::MAX, |told| now.unix_seconds().saturating_sub(told.unix_seconds()).max(0));
        // One second more: the index cuts the fraction of a second off.
        retain.saturating_add(Duration::from_secs(untold.unsigned_abs().saturating_add(1)))
    }
}

impl Tenant {
    pub(super) fn told(&self) -> Option<Told> {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_told(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// What was told before this start. A version that a crash took back is given anew.
    pub(super) fn resume_told(&self, told: Told) {
        self.set_told(Told { version: told.version.min(self.last_version()), ..told });
    }

    /// The version up to which all is stored that ever will be.
    async fn settled_version(&self, known: u64) -> u64 {
        if self.last_version() == known {
            return known;
        }
        let _quiet = self.quota.alone().await;
        self.last_version()
    }
}

/// One round of one tenant.
struct Telling<'t> {
    tenant: &'t Tenant,
    policy: &'t NoticePolicy,
    round: Round,
    at: Timestamp,
    messenger: &'t mut dyn Messenger,
    told: usize,
    next: Vec<Notice>,
}

impl Telling<'_> {
    async fn stretch(&mut self, from: i64, to: i64) -> Result<(), VaultError> {
        let (mut after, mut rows) = (None, FIRST_ROWS);
        loop {
            let (page, more) = self.tenant.expiring((from, to), after, rows).await?;
            rows = (rows * 2).min(PAGE_ROWS);
            after = page.last().map(|entry| entry.key.clone());
            for entry in page {
                let kinds = self.policy.due(self.round, entry.at.unix_seconds(), entry.version);
                if !kinds.is_empty() {
                    self.add(&entry.locator, entry.version, &kinds).await?;
                }
            }
            if !more {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// What was replaced or deleted since the index was read is told of by what it is now.
    async fn add(
        &mut self,
        locator: &Locator,
        version: u64,
        kinds: &[NoticeKind],
    ) -> Result<(), VaultError> {
        let (name, window) = match self.tenant.described(locator, version).await {
            Ok(Some(described)) => described,
            Ok(None) => return Ok(()),
            // One damaged record must not keep all others from being told.
            Err(VaultError::Store(StoreError::Corrupted { what })) => {
                log::error!("notices: {what} is corrupted");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Some(expires_on) = ValidityWindow::expires_on(&window) else { return Ok(()) };
        for kind in kinds {
            self.next.push(Notice {
                id: self.id(locator, version, *kind),
                kind: *kind,
                tenant: self.tenant.name.clone(),
                name: name.clone(),
                expires_on,
                at: self.at,
            });
            if self.next.len() == MOST_NOTICES {
                self.flush().await;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) {
        if !self.next.is_empty() {
            self.messenger.tell(&self.next).await;
            self.told += self.next.len();
            self.next.clear();
        }
    }

    fn id(&self, locator: &Locator, version: u64, kind: NoticeKind) -> String {
        let (kind, within) = match kind {
            NoticeKind::Expiring { within } => (0, within.as_secs()),
            NoticeKind::Expired => (1, 0),
            NoticeKind::Swept => (2, 0),
        };
        let told = [
            self.tenant.id.as_bytes().as_slice(),
            locator,
            &version.to_be_bytes(),
            &[kind],
            &within.to_be_bytes(),
        ];
        let digest = hex::encode(sha256(&told.concat()));
        digest.chars().take(32).collect()
    }
}
