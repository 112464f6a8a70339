//! Entries that are copied out of the store, to where others read them.
//!
//! They are read from the chains by a cursor, behind the commits: whoever takes them may
//! be slow or dead, and no request waits. Guaranteed here: what was not taken is told
//! again, in the order of its chain, so each entry that the store still holds is taken at
//! least once. A cursor that was lost costs repeated entries and no missing ones. What
//! cannot be told any more (it was moved out of the store, its block is damaged, its
//! tenant is gone) is logged and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::super::Vault;
use super::super::keyring::{SYSTEM, space_of};
use super::super::seal::ledger_of;
use super::super::tenant::Tenant;
use super::Looker;
use super::checkpoint::parse_id;
use super::query::opened;
use crate::api::audit::{AuditEntry, CopiedEntry, NumberedEntry};
use crate::crypto::{AuditKey, AuditNames};
use crate::domain::{SecretNaming, TenantId, Timestamp};
use crate::measure::{self, Copying};
use crate::store::{Ledger, PlacedBlock, StoreError};

/// So many entries are told, about, until whoever takes them is asked to settle.
const AT_ONCE: u64 = 50_000;
/// How long the deletion of a tenant waits for its entries to be taken.
const FAREWELL: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });

/// Where copies go. Each place has a follower of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopiesTo {
    File,
    Syslog,
    Journal,
}

impl CopiesTo {
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Syslog => "syslog",
            Self::Journal => "journal",
        }
    }

    fn looker(self) -> Looker {
        match self {
            Self::File => Looker::File,
            Self::Syslog => Looker::Syslog,
            Self::Journal => Looker::Journal,
        }
    }
}

/// Who takes copies. It may block: whoever follows has a thread of their own for it.
pub trait CopyTaker: Send {
    /// All of them, or an error, after which all of them are told again.
    fn take(&mut self, entries: &[CopiedEntry]) -> io::Result<()>;

    /// What was taken stays taken, whatever happens now.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Somebody put another thing in the place of what is written to.
    fn reopen(&mut self) {}
}

/// Why no more was copied. What was taken before stays taken.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{0}")]
    Refused(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether there is more to be copied just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    More,
    Nothing,
}

/// Of each chain, the number of the entry that is to be taken next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyCursors(BTreeMap<TenantId, u64>);

/// As they are kept outside of the store.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCursors {
    tenure: String,
    store: String,
    next: BTreeMap<String, u64>,
}

const FORM: &str = "audit-cursors/1";

/// Why cursors are of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCursors {
    #[error("it is damaged, or of a later version")]
    Malformed,
    #[error("it is of another store")]
    OfAnotherStore,
}

impl CopyCursors {
    pub fn text(&self, vault: &Vault) -> String {
        let next = self.0.iter().map(|(chain, next)| (chain.to_string(), *next)).collect();
        let stored = StoredCursors { tenure: FORM.to_owned(), store: vault.store_id(), next };
        serde_json::to_string(&stored).expect("texts and numbers have JSON")
    }

    pub fn parse(text: &str, vault: &Vault) -> Result<Self, BadCursors> {
        let stored: StoredCursors =
            serde_json::from_str(text).map_err(|_| BadCursors::Malformed)?;
        let StoredCursors { tenure, store, next } = stored;
        if tenure != FORM {
            return Err(BadCursors::Malformed);
        }
        if store != vault.store_id() {
            return Err(BadCursors::OfAnotherStore);
        }
        let cursor = |(chain, next): (String, u64)| Some((parse_id(&chain)?, next));
        let cursors: Option<_> = next.into_iter().map(cursor).collect();
        cursors.map(Self).ok_or(BadCursors::Malformed)
    }
}

/// Whoever is asked to take what is left of a tenant that is about to go.
#[derive(Default)]
pub(in crate::vault) struct Followers(Mutex<Vec<mpsc::UnboundedSender<Leaving>>>);

struct Leaving {
    /// Of one that is gone already nothing can be read.
    tenant: Weak<Tenant>,
    id: TenantId,
    name: String,
    /// The number of the entry after its last one.
    end: u64,
    taken: oneshot::Sender<()>,
}

impl Followers {
    fn join(&self) -> mpsc::UnboundedReceiver<Leaving> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.present().push(sender);
        receiver
    }

    fn present(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::UnboundedSender<Leaving>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|follower| !follower.is_closed());
        all
    }
}

impl Vault {
    /// Follows all chains from where these cursors stand; one that has none from its
    /// beginning.
    pub fn follow_audit(
        self: &Arc<Self>,
        to: CopiesTo,
        names: SecretNaming,
        cursors: CopyCursors,
    ) -> Follower {
        let hidden = match names {
            SecretNaming::Plain => None,
            // As [`AuditNames::hide`] makes them.
            SecretNaming::Hashed => Some(self.system.keys().anchor.audit_names()),
        };
        let mut follower = Follower {
            vault: self.clone(),
            to,
            hidden,
            cursors: CopyCursors::default(),
            pending: BTreeSet::new(),
            resume: None,
            troubled: BTreeSet::new(),
            waits_since: None,
            leaving: self.followers.join(),
            asked: None,
        };
        follower.go_back_to(cursors);
        follower
    }

    /// Lets whoever follows take what is left of a tenant that nobody reaches any more;
    /// for as long as that may take. What they did not take they count.
    pub(in crate::vault) async fn see_off(&self, tenant: &Arc<Tenant>) {
        let followers = self.followers.present().clone();
        if followers.is_empty() {
            return;
        }
        let ledger = ledger_of(&*self.store, space_of(tenant.id), tenant.keys().1).await;
        let end = ledger.ok().flatten().map_or(0, |ledger| ledger.chain.next);
        let asked = followers.iter().map(|follower| {
            let (taken, answer) = oneshot::channel();
            let (id, name) = (tenant.id, tenant.name.to_string());
            // One that stops just now does not answer.
            let _ = follower.send(Leaving { tenant: Arc::downgrade(tenant), id, name, end, taken });
            answer
        });
        if tokio::time::timeout(FAREWELL, join_all(asked)).await.is_err() {
            log::warn!(
                "tenant '{}' is deleted before all of its audit was copied: who takes the copies \
                 is too slow",
                tenant.name
            );
        }
    }

    fn grown_since(&self, looker: Looker) -> Vec<TenantId> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let grown = tenants.by_id.values().filter(|tenant| tenant.growth.take(looker));
        let grown = grown.map(|tenant| tenant.id);
        grown.chain(self.system.growth.take(looker).then_some(SYSTEM)).collect()
    }
}

/// Copies what is appended to all chains, for one taker.
pub struct Follower {
    vault: Arc<Vault>,
    to: CopiesTo,
    hidden: Option<AuditNames>,
    cursors: CopyCursors,
    /// Chains that may have more than was taken.
    pending: BTreeSet<TenantId>,
    /// With which of them it goes on, so that a busy one does not keep others waiting.
    resume: Option<TenantId>,
    /// Those of them that could not be read, which is said once.
    troubled: BTreeSet<TenantId>,
    waits_since: Option<Timestamp>,
    leaving: mpsc::UnboundedReceiver<Leaving>,
    asked: Option<Leaving>,
}

impl Follower {
    pub fn cursors(&self) -> &CopyCursors {
        &self.cursors
    }

    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Forgets what was taken since the cursors stood so.
    pub fn go_back_to(&mut self, cursors: CopyCursors) {
        self.cursors = cursors;
        self.pending = self.vault.all_tenants().iter().map(|tenant| tenant.id).collect();
        self.pending.insert(SYSTEM);
        // The chain of a tenant goes with the tenant.
        self.cursors.0.retain(|chain, _| self.pending.contains(chain));
    }

    /// Returns when a tenant waits to be deleted: then copy at once.
    pub async fn asked(&mut self) {
        if self.asked.is_none() {
            self.asked = self.leaving.recv().await;
        }
    }

    /// Looks which chains grew. Cheap.
    pub fn look(&mut self) {
        self.pending.extend(self.vault.grown_since(self.to.looker()));
        if !self.pending.is_empty() && self.waits_since.is_none() {
            self.waits_since = Some(self.vault.time.now().wall());
        }
    }

    /// How long the first entry waits that was not taken.
    pub fn behind(&self) -> Duration {
        let now = self.vault.time.now().wall().unix_micros();
        let behind = self.waits_since.map_or(0, |since| now.saturating_sub(since.unix_micros()));
        Duration::from_micros(behind.max(0).unsigned_abs())
    }

    /// For who reads the metrics.
    pub fn tell(&self, copying: Copying) {
        measure::audit_copying(self.to.word(), self.behind(), copying);
    }

    /// Tells some of what was appended. Chains that cannot be read do not keep others
    /// waiting.
    pub async fn copy_some(&mut self, taker: &mut dyn CopyTaker) -> io::Result<Left> {
        self.see_off(taker).await?;
        self.look();
        let (mut budget, mut more) = (AT_ONCE, false);
        for id in self.in_turn() {
            if budget == 0 {
                self.resume = Some(id);
                return Ok(Left::More);
            }
            match self.copy_page(id, taker).await {
                Ok((entries, left)) => {
                    budget = budget.saturating_sub(entries);
                    self.troubled.remove(&id);
                    match left {
                        Left::More => more = true,
                        Left::Nothing => drop(self.pending.remove(&id)),
                    }
                }
                Err(CopyError::Refused(error)) => return Err(error),
                Err(CopyError::Store(error)) => self.pass_over(id, &error),
            }
            // Decrypting is work: let whoever waits be heard.
            tokio::task::yield_now().await;
        }
        self.resume = None;
        if self.pending.is_empty() {
            self.waits_since = None;
        }
        Ok(if more { Left::More } else { Left::Nothing })
    }

    fn in_turn(&self) -> Vec<TenantId> {
        let from = self.resume.unwrap_or(SYSTEM);
        self.pending.range(from..).chain(self.pending.range(..from)).copied().collect()
    }

    fn pass_over(&mut self, id: TenantId, error: &StoreError) {
        if *error == StoreError::TenantGone && self.vault.tenant(id).is_err() {
            self.pending.remove(&id);
            self.troubled.remove(&id);
            self.cursors.0.remove(&id);
        } else if self.troubled.insert(id) {
            let (space, to) = (space_of(id), self.to.word());
            log::error!("the audit of {space} is not copied to the {to}: {error}");
        }
    }

    async fn copy_page(
        &mut self,
        id: TenantId,
        taker: &mut dyn CopyTaker,
    ) -> Result<(u64, Left), CopyError> {
        let tenant = if id == SYSTEM { None } else { Some(self.vault.tenant(id)?) };
        self.copy_page_of(tenant.as_deref(), taker).await
    }

    /// How many entries were taken.
    async fn copy_page_of(
        &mut self,
        tenant: Option<&Tenant>,
        taker: &mut dyn CopyTaker,
    ) -> Result<(u64, Left), CopyError> {
        let vault = self.vault.clone();
        let followed = Followed::new(&vault, tenant);
        let ledger = followed.ledger(&vault).await?;
        let mut next = self.begin(&followed, ledger.as_ref());
        // What is missed is told once, whatever comes next.
        self.cursors.0.insert(followed.id, next);
        if ledger.as_ref().is_some_and(|ledger| ledger.chain.next <= next) {
            return Ok((0, Left::Nothing));
        }
        let page = vault.store.chain(space_of(followed.id), next).await?;
        let mut entries = 0;
        for placed in &page.blocks {
            self.miss(&followed, next, placed.first, "they are not in the store");
            self.cursors.0.insert(followed.id, placed.first);
            match followed.copies(placed, self.hidden.as_ref()) {
                // A piece of a checkpoint, which holds none.
                Ok(copies) if copies.is_empty() => {}
                Ok(copies) => {
                    taker.take(&copies)?;
                    measure::audit_copied(self.to.word(), copies.len() as u64);
                    entries += copies.len() as u64;
                }
                Err(error) => {
                    self.miss(&followed, placed.first, placed.end(), &error.to_string());
                }
            }
            // A cursor stands between blocks, since a block is taken whole.
            next = placed.end();
            self.cursors.0.insert(followed.id, next);
        }
        if page.more {
            return Ok((entries, Left::More));
        }
        // The ledger was read first: what it counts is here or lost.
        let end = ledger.map_or(next, |ledger| ledger.chain.next);
        self.miss(&followed, next, end, "they are not in the store");
        self.cursors.0.insert(followed.id, next.max(end));
        Ok((entries, Left::Nothing))
    }

    /// The number of the entry to go on with.
    fn begin(&self, followed: &Followed<'_>, ledger: Option<&Ledger>) -> u64 {
        let stored = self.cursors.0.get(&followed.id).copied();
        let Some(ledger) = ledger else { return stored.unwrap_or(0) };
        let kept_from = ledger.kept_from.next;
        match stored {
            None => kept_from,
            Some(next) if next > ledger.chain.next => {
                log::warn!(
                    "{} has fewer entries than were copied to the {}: it is of an earlier state, \
                     and is copied from its beginning",
                    followed.called(),
                    self.to.word()
                );
                kept_from
            }
            Some(next) => {
                self.miss(followed, next, kept_from, "they were moved to audit.archive before");
                next.max(kept_from)
            }
        }
    }

    /// Entries from one number up to another are not copied.
    fn miss(&self, followed: &Followed<'_>, from: u64, to: u64, why: &str) {
        if from < to {
            self.count_missed(&followed.called(), from, to, why);
        }
    }

    fn count_missed(&self, called: &str, from: u64, to: u64, why: &str) {
        measure::audit_uncopied(self.to.word(), to - from);
        log::error!(
            "{called}: entries {from} to {} are not copied to the {}: {why}",
            to - 1,
            self.to.word()
        );
    }

    /// Takes what is left of tenants that wait to be deleted, and answers.
    async fn see_off(&mut self, taker: &mut dyn CopyTaker) -> io::Result<()> {
        while let Some(leaving) = self.asked.take().or_else(|| self.leaving.try_recv().ok()) {
            let Leaving { tenant, id, name, end, taken } = leaving;
            // If it is not deleted after all, it goes on from here.
            self.pending.insert(id);
            let outcome = match tenant.upgrade() {
                Some(tenant) => self.copy_all_of(&tenant, taker).await,
                None => Err(CopyError::Store(StoreError::TenantGone)),
            };
            let Err(error) = outcome else {
                // Who asked may have lost patience; then it was taken nevertheless.
                let _ = taken.send(());
                continue;
            };
            let next = self.cursors.0.get(&id).copied().unwrap_or(0);
            if next < end {
                let called = format!("the audit of tenant '{name}', which is deleted");
                self.count_missed(&called, next, end, &error.to_string());
            }
            if let CopyError::Refused(error) = error {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn copy_all_of(
        &mut self,
        tenant: &Tenant,
        taker: &mut dyn CopyTaker,
    ) -> Result<(), CopyError> {
        while self.copy_page_of(Some(tenant), taker).await?.1 == Left::More {}
        Ok(taker.settle()?)
    }
}

/// A chain, and what opens it.
struct Followed<'v> {
    id: TenantId,
    tenant: Option<&'v Tenant>,
    key: &'v AuditKey,
}

impl<'v> Followed<'v> {
    fn new(vault: &'v Vault, tenant: Option<&'v Tenant>) -> Self {
        let keys = tenant.map_or_else(|| vault.system.keys(), |tenant| tenant.keys().0);
        let id = tenant.map_or(SYSTEM, |tenant| tenant.id);
        Self { id, tenant, key: keys.anchor.audit() }
    }

    /// `None` where it is damaged; what can be read without it is copied.
    async fn ledger(&self, vault: &Vault) -> Result<Option<Ledger>, StoreError> {
        let seal = self.tenant.map_or_else(|| vault.system.seal(), |tenant| tenant.keys().1);
        ledger_of(&*vault.store, space_of(self.id), seal).await
    }

    fn copies(
        &self,
        placed: &PlacedBlock,
        hidden: Option<&AuditNames>,
    ) -> Result<Vec<CopiedEntry>, StoreError> {
        let chain = self.tenant.map(|tenant| tenant.name.to_string());
        let chain_id = self.tenant.map(|tenant| tenant.id.to_string());
        let copied = |NumberedEntry { number, entry }| CopiedEntry {
            chain: chain.clone(),
            chain_id: chain_id.clone(),
            entry: NumberedEntry { number, entry: self.with_name_hidden(entry, hidden) },
        };
        let opened = opened(space_of(self.id), self.key, placed)?;
        Ok(opened.into_iter().map(copied).collect())
    }

    /// Only entries in chains of tenants are about secrets.
    fn with_name_hidden(&self, entry: AuditEntry, hidden: Option<&AuditNames>) -> AuditEntry {
        let (Some(tenant), Some(hidden)) = (self.tenant, hidden) else { return entry };
        let name = entry.name.map(|name| hidden.hide(tenant.id, &name));
        AuditEntry { name, ..entry }
    }

    fn called(&self) -> String {
        let of = |tenant: &Tenant| format!("the audit of tenant '{}'", tenant.name);
        self.tenant.map_or_else(|| "the audit of the system".to_owned(), of)
    }
}
