//! Reads, and what was refused, on their way into the audit.
//!
//! They change nothing, so no commit of their own must wait for them. What requests leave
//! is stored together, a few times a second; where reads are to be durable, the request
//! waits for that, and those that wait are stored together too. Nothing here is lost
//! unsaid: what could not be stored is counted in its chain ([`AuditOp::Lost`]), and where
//! a server did not end in good order, its next start says so ([`AuditOp::Gap`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::entry;
use super::queue::{Act, Fill, Full, Queue, Waiting};
use super::refused::{Refusals, TurnedAway};
use crate::api::audit::{AuditEntry, AuditOp};
use crate::auth::Caller;
use crate::domain::Timestamp;
use crate::measure;
use crate::store::{Appended, Change, Space, StoreError};
use crate::vault::{Vault, to_its_end};

/// When reads are recorded. Refusals are as [`Reads::Buffered`] where reads are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reads {
    Off,
    /// Within a second after.
    Buffered,
    /// Before they are answered.
    Durable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPolicy {
    pub reads: Reads,
    /// What may wait to be recorded.
    pub queue_bytes: usize,
}

impl Default for AuditPolicy {
    fn default() -> Self {
        Self { reads: Reads::Buffered, queue_bytes: 16 * 1024 * 1024 }
    }
}

/// What was to be recorded before it is answered, and could not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unrecorded;

/// How much waits to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditVitals {
    pub bytes: usize,
    /// When the first of it was done.
    pub since: Option<Timestamp>,
}

pub(in crate::vault) struct Recorder {
    /// A [`Reads`].
    reads: AtomicU8,
    queue: Queue,
    refusals: Refusals,
    /// Held by whoever stores, with what was taken and could not be stored yet.
    storing: tokio::sync::Mutex<Vec<Waiting>>,
    /// Whether each act is to be stored at once, since nobody may come by later.
    hurried: AtomicBool,
    /// Since when a server serves that has not ended in good order, as of the opening.
    unended: Option<Timestamp>,
    /// Whether this vault is served, and so its end to be noted.
    in_service: AtomicBool,
}

impl Recorder {
    pub(in crate::vault) fn new(policy: AuditPolicy, unended: Option<Timestamp>) -> Self {
        let AuditPolicy { reads, queue_bytes } = policy;
        Self {
            reads: AtomicU8::new(reads as u8),
            queue: Queue::new(queue_bytes),
            refusals: Refusals::default(),
            storing: tokio::sync::Mutex::default(),
            hurried: AtomicBool::new(false),
            unended,
            in_service: AtomicBool::new(false),
        }
    }

    fn reads(&self) -> Reads {
        match self.reads.load(Ordering::Relaxed) {
            0 => Reads::Off,
            1 => Reads::Buffered,
            _ => Reads::Durable,
        }
    }

    fn push(&self, act: Act, answer: Option<oneshot::Sender<()>>) -> Result<Fill, Full> {
        let is_buffered = answer.is_none();
        let pushed = self.queue.push(&act, answer);
        match pushed {
            Err(Full) if is_buffered => measure::audit_lost(1),
            Ok(_) if self.hurried.load(Ordering::Relaxed) => return Ok(Fill::Enough),
            _ => {}
        }
        pushed
    }
}

impl Vault {
    /// Whether reads that succeed are recorded.
    pub fn records_reads(&self) -> bool {
        self.recorder.reads() != Reads::Off
    }

    /// Records reads so from now on.
    pub fn set_reads(&self, reads: Reads) {
        self.recorder.reads.store(reads as u8, Ordering::Relaxed);
    }

    /// A read, of which nothing may be answered where this fails.
    pub async fn record_read(self: &Arc<Self>, act: Act) -> Result<(), Unrecorded> {
        if self.recorder.reads() == Reads::Durable {
            // Apart, so that the others do not carry its future about.
            return Box::pin(self.record_durably(act)).await;
        }
        self.record_soon(act);
        Ok(())
    }

    /// What was refused, or failed; whoever asked is told that, whatever becomes of this.
    pub async fn record_refusal(self: &Arc<Self>, act: Act) {
        if self.recorder.reads() != Reads::Durable {
            return self.record_soon(act);
        }
        let space = act.space();
        if Box::pin(self.record_durably(act)).await.is_err() {
            measure::audit_lost(1);
            self.recorder.queue.lose(space, 1);
        }
    }

    /// A credential that was refused, or came too often.
    pub fn record_turned_away(&self, from: Option<IpAddr>, why: TurnedAway, now: Timestamp) {
        self.recorder.refusals.count(from, why, now);
    }

    /// Within a second, if it fits.
    pub(in crate::vault) fn record_soon(self: &Arc<Self>, act: Act) {
        if self.recorder.push(act, None) == Ok(Fill::Enough) {
            self.store_apart();
        }
    }

    async fn record_durably(self: &Arc<Self>, act: Act) -> Result<(), Unrecorded> {
        let (sender, stored) = oneshot::channel();
        self.recorder.push(act, Some(sender)).map_err(|Full| Unrecorded)?;
        // Whoever comes first stores what all the others left meanwhile.
        self.store_apart();
        stored.await.map_err(|_| Unrecorded)
    }

    /// On a task of its own: half of it would be lost with its caller.
    fn store_apart(self: &Arc<Self>) {
        let vault = Arc::clone(self);
        tokio::spawn(async move { vault.store_waiting().await });
    }

    /// Stores what waits to be recorded. The edge calls it several times a second.
    pub async fn record_waiting(self: &Arc<Self>) {
        let vault = Arc::clone(self);
        let storing = async move {
            for act in vault.recorder.refusals.due(vault.time.now().wall()) {
                // A full queue counts it.
                let _ = vault.recorder.push(act, None);
            }
            vault.store_waiting().await;
            Ok::<_, StoreError>(())
        };
        // It fails where the runtime ends, and then nobody is there to tell.
        let _ = to_its_end(storing).await;
    }

    /// Stores all there is to be recorded, at the end of a service.
    pub(in crate::vault) async fn settle_audit(&self) {
        let recorder = &self.recorder;
        // Requests under way may leave something yet.
        recorder.hurried.store(true, Ordering::Relaxed);
        for act in recorder.refusals.all(self.time.now().wall()) {
            let _ = recorder.push(act, None);
        }
        self.store_waiting().await;
        if !recorder.queue.is_empty() {
            // The row of a service stays, so that its next start tells of it too.
            log::error!("entries of the audit were not stored, and are lost");
        } else if recorder.in_service.swap(false, Ordering::Relaxed)
            && let Err(error) = self.system.leave_service(self.time.floor()).await
        {
            log::warn!("that this server ended in good order was not stored: {error}");
        }
    }

    /// Begins to serve, and records it; before it, where the service before did not end in
    /// good order, that entries may be missing.
    pub async fn enter_service(&self, caller: &Caller, op: AuditOp) {
        let gap = |since: Timestamp| AuditEntry {
            detail: Some(format!(
                "the server that served since {since} did not end in good order: reads and \
                 refusals of its last second may be missing, here and in the tenants' chains"
            )),
            ..entry(self.by(&Caller::server()), AuditOp::Gap)
        };
        let begun = entry(self.by(caller), op);
        let said: Vec<_> = self.recorder.unended.map(gap).into_iter().chain([begun]).collect();
        let (since, floor) = (self.time.now().wall(), self.time.floor());
        match self.system.enter_service(since, floor, &said).await {
            Ok(()) => self.recorder.in_service.store(true, Ordering::Relaxed),
            Err(error) => log::error!("the audit has no entry of '{op}': {error}"),
        }
    }

    pub(in crate::vault) fn audit_vitals(&self) -> AuditVitals {
        let (bytes, since) = self.recorder.queue.depth();
        AuditVitals { bytes, since }
    }

    /// All chains at once: the store makes their commits durable together.
    async fn store_waiting(&self) {
        let mut taken = self.recorder.storing.lock().await;
        self.recorder.queue.take(&mut taken, self.time.now().wall());
        // Those of a chain stay in their order.
        taken.sort_by_key(|waiting| waiting.space);
        let chains = taken.chunk_by_mut(|one, next| one.space == next.space);
        join_all(chains.map(|waiting| self.store_chain(waiting))).await;
        self.recorder.queue.settle(&mut taken);
    }

    /// What is behind entries that could not be stored must not be stored before them.
    async fn store_chain(&self, waiting: &mut [Waiting]) {
        let mut outcome = Ok(());
        for some in Waiting::by_commits(waiting) {
            if outcome.is_ok() {
                outcome = self.append(some).await;
            }
            for one in some {
                self.after_attempt(one, &outcome);
            }
        }
    }

    /// Those of one chain.
    async fn append(&self, waiting: &[Waiting]) -> Result<(), StoreError> {
        let Some(Waiting { space, .. }) = waiting.first() else { return Ok(()) };
        let entries = waiting.iter().map(|waiting| Arc::clone(&waiting.entries));
        let changes = entries.map(|entries| Change::Append(Appended::Entries(entries))).collect();
        let floor = self.time.floor();
        match *space {
            Space::Tenant(id) => self.tenant(id)?.commit(changes, floor).await,
            Space::System | Space::Keyring => self.system.commit(changes, floor).await,
        }
    }

    /// What becomes of entries after an attempt to store them.
    fn after_attempt(&self, one: &mut Waiting, outcome: &Result<(), StoreError>) {
        match outcome {
            Ok(()) => {
                one.answer();
                measure::audit_recorded(one.entries.len() as u64);
                one.settled = true;
            }
            // Its chain went with it.
            Err(StoreError::TenantGone) => one.settled = true,
            Err(error) => {
                one.give_up_awaited();
                let is_kept = matches!(error, StoreError::NotApplied { .. });
                one.settled = !is_kept || one.entries.is_empty();
                if one.settled && !one.entries.is_empty() {
                    self.lose(one, error);
                }
            }
        }
    }

    fn lose(&self, one: &Waiting, error: &StoreError) {
        self.recorder.queue.lose(one.space, one.acts());
        if !one.is_of_loss() {
            measure::audit_lost(one.acts());
            log::debug!("{} entries of the audit are lost: {error}", one.acts());
        }
    }
}
