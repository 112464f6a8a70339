//! Acts that wait to be recorded.
//!
//! A request leaves here what it knows, unformatted, and goes on. What waits is bounded in
//! bytes, and counts until it is stored or given up, so that nothing gathers before a slow
//! disk. What does not fit is counted for its chain, and the number becomes an entry.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::OK;
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::domain::{SecretName, TenantId, Timestamp};
use crate::store::Space;

/// What somebody did, or was not let do. A change has its entry in its own commit.
#[derive(Debug, Clone)]
pub struct Act {
    pub at: Timestamp,
    pub op: AuditOp,
    pub about: About,
    /// [`Act::OK`], or why not: the code of the problem.
    pub result: &'static str,
    pub caller: Caller,
    pub detail: Option<Box<str>>,
}

/// What an act was about, and so in which chain it is recorded.
#[derive(Debug, Clone)]
pub enum About {
    /// In the tenant's; without a name it was about several secrets, or about none.
    Secret { tenant: TenantId, name: Option<SecretName> },
    /// In the system's, and perhaps about a tenant.
    System { tenant: Option<Box<str>> },
}

impl Act {
    pub const OK: &str = OK;

    pub(super) fn space(&self) -> Space {
        match self.about {
            About::Secret { tenant, .. } => Space::Tenant(tenant),
            About::System { .. } => Space::System,
        }
    }

    /// In the chain of this space.
    fn of_lost(space: Space, acts: u64, at: Timestamp) -> Self {
        let about = match space {
            Space::Tenant(tenant) => About::Secret { tenant, name: None },
            Space::System | Space::Keyring => About::System { tenant: None },
        };
        let detail = format!("{acts} entries are missing here: they could not be stored in time");
        let (op, caller, detail) = (AuditOp::Lost, Caller::server(), Some(detail.into()));
        Self { at, op, about, result: OK, caller, detail }
    }
}

/// An act that is not stored yet.
pub(super) struct Waiting {
    pub(super) act: Act,
    /// How many it stands for.
    pub(super) acts: u64,
    /// Told when it is stored; dropped when it will not be.
    pub(super) answer: Option<oneshot::Sender<()>>,
    /// Whether it is stored, or given up.
    pub(super) settled: bool,
}

impl Waiting {
    fn new(act: Act, answer: Option<oneshot::Sender<()>>) -> Self {
        Self { act, acts: 1, answer, settled: false }
    }

    fn bytes(&self) -> usize {
        let Act { about, caller, detail, at: _, op: _, result: _ } = &self.act;
        let about = match about {
            About::Secret { name, .. } => name.as_ref().map_or(0, |name| name.as_str().len()),
            About::System { tenant } => tenant.as_deref().map_or(0, str::len),
        };
        let request = caller.origin.request.as_deref().map_or(0, str::len);
        size_of::<Self>() + about + request + detail.as_deref().map_or(0, str::len)
    }
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    Little,
    /// So much just now that it had better be stored at once.
    Enough,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

pub(super) struct Queue {
    /// What may wait, in bytes.
    bound: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Of what waits and of what was taken.
    bytes: usize,
    /// Acts that did not fit, by their chain: there are no more than there are tenants.
    lost: HashMap<Space, u64>,
    /// When the first act came of those that were taken and are not settled.
    taken_since: Option<Timestamp>,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, state: Mutex::default() }
    }

    /// Who waits for the act to be stored hears it by `answer`. An act that nobody waits
    /// for is counted as lost where it does not fit.
    pub(super) fn push(&self, act: Act, answer: Option<oneshot::Sender<()>>) -> Result<Fill, Full> {
        let waiting = Waiting::new(act, answer);
        let bytes = waiting.bytes();
        let mut state = self.lock();
        if state.bytes.saturating_add(bytes) > self.bound {
            if waiting.answer.is_none() {
                state.lose(waiting.act.space(), 1);
            }
            return Err(Full);
        }
        let enough = self.bound / 4;
        let (before, after) = (state.bytes, state.bytes + bytes);
        state.bytes = after;
        state.waiting.push(waiting);
        Ok(if before < enough && after >= enough { Fill::Enough } else { Fill::Little })
    }

    pub(super) fn lose(&self, space: Space, acts: u64) {
        self.lock().lose(space, acts);
    }

    /// Moves all that waits behind what was taken before, and an act that tells how many
    /// were lost, for each chain that lost some.
    pub(super) fn take(&self, taken: &mut Vec<Waiting>, now: Timestamp) {
        let mut state = self.lock();
        if taken.is_empty() {
            // Its room is used again.
            mem::swap(taken, &mut state.waiting);
        } else {
            taken.append(&mut state.waiting);
        }
        for (space, acts) in mem::take(&mut state.lost) {
            let lost = Waiting { acts, ..Waiting::new(Act::of_lost(space, acts, now), None) };
            state.bytes += lost.bytes();
            taken.push(lost);
        }
        state.taken_since = taken.iter().map(|waiting| waiting.act.at).min();
    }

    /// Drops what is settled of what was taken.
    pub(super) fn settle(&self, taken: &mut Vec<Waiting>) {
        let bytes: usize = taken.iter().filter(|waiting| waiting.settled).map(Waiting::bytes).sum();
        taken.retain(|waiting| !waiting.settled);
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        state.taken_since = taken.iter().map(|waiting| waiting.act.at).min();
    }

    /// What waits, in bytes, and since when.
    pub(super) fn depth(&self) -> (usize, Option<Timestamp>) {
        let state = self.lock();
        let first = state.waiting.first().map(|waiting| waiting.act.at);
        let since = state.taken_since.into_iter().chain(first).min();
        (state.bytes, since)
    }

    /// Whether nothing waits and nothing was lost that no entry tells of.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.bytes == 0 && state.lost.is_empty()
    }

    /// Nothing is under the lock that could panic half way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lose(&mut self, space: Space, acts: u64) {
        let lost = self.lost.entry(space).or_default();
        *lost = lost.saturating_add(acts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([1; 16]);

    fn act() -> Act {
        let at = Timestamp::from_unix_seconds(1);
        let about = About::Secret { tenant: TENANT, name: None };
        let (op, result, caller) = (AuditOp::SecretRead, Act::OK, Caller::server());
        Act { at, op, about, result, caller, detail: None }
    }

    fn room_for(acts: usize) -> usize {
        acts * Waiting::new(act(), None).bytes()
    }

    #[test]
    fn what_does_not_fit_is_counted_and_the_number_is_taken() {
        let queue = Queue::new(room_for(2));
        for fits in [true, true, false, false, false] {
            assert_eq!(queue.push(act(), None).is_ok(), fits);
        }
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        assert_eq!(taken.len(), 3);
        let lost = taken.pop().unwrap();
        assert_eq!((lost.act.op, lost.acts), (AuditOp::Lost, 3));
        assert_eq!(lost.act.space(), Space::Tenant(TENANT));
        assert!(lost.act.detail.unwrap().starts_with("3 entries"));
    }

    #[test]
    fn what_somebody_waits_for_is_refused_and_not_lost() {
        let queue = Queue::new(room_for(1));
        queue.push(act(), None).unwrap();
        let (sender, mut receiver) = oneshot::channel();
        assert_eq!(queue.push(act(), Some(sender)), Err(Full));
        assert!(receiver.try_recv().is_err());
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        assert_eq!(taken.len(), 1);
    }

    /// Or a disk that hangs would let a queue grow behind the back of its bound.
    #[test]
    fn what_was_taken_counts_until_it_is_settled() {
        let queue = Queue::new(room_for(2));
        queue.push(act(), None).unwrap();
        queue.push(act(), None).unwrap();
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        assert_eq!(queue.push(act(), None), Err(Full));
        assert_eq!(queue.depth().1, Some(act().at));
        taken[0].settled = true;
        queue.settle(&mut taken);
        assert_eq!(taken.len(), 1);
        assert!(queue.push(act(), None).is_ok());
        assert!(!queue.is_empty());
    }

    #[test]
    fn a_quarter_is_said_once_to_be_enough() {
        let queue = Queue::new(room_for(8));
        let fills: Vec<_> = (0..4).map(|_| queue.push(act(), None).unwrap()).collect();
        assert_eq!(fills, [Fill::Little, Fill::Enough, Fill::Little, Fill::Little]);
    }
}
