//! Entries that wait to be stored.
//!
//! A request leaves here what it did, in writing, and goes on. What waits is bounded in
//! bytes, and counts until it is stored or given up, so that nothing gathers before a slow
//! disk. What does not fit is counted for its chain, and the number becomes an entry. The
//! entries of a chain stand in one piece of memory, as they will be committed: memory for
//! each alone would cost as much as all else that is done with it. And each thread has a
//! lane of its own: what two threads write in turns goes from one core's cache to the
//! other's each time.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::OK;
use super::scribe::write;
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::domain::{SecretName, TenantId, Texts, Timestamp};
use crate::store::{Batch, Block, Space};

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

/// Entries of one chain that are not stored yet, for one commit.
pub(super) struct Waiting {
    pub(super) space: Space,
    /// Whoever stores them holds them too.
    pub(super) entries: Arc<Texts>,
    /// When the first act was done.
    since: Timestamp,
    /// Who waits for one of them, by its place: told when it is stored, dropped when it
    /// will not be.
    answers: Vec<(usize, oneshot::Sender<()>)>,
    /// So many acts were lost: that is what it tells.
    loss: Option<u64>,
    /// What it counts for in the queue, as of the last look.
    counted: usize,
    /// Whether they are stored, or given up.
    pub(super) settled: bool,
}

impl Waiting {
    /// What one commit holds in text: some milliseconds' work, which the changes of others
    /// wait for, and less than a batch may weigh.
    const MAX_BYTES: usize = 1024 * 1024;

    fn new(space: Space, since: Timestamp) -> Self {
        Self::with(Texts::default(), space, since)
    }

    /// For a chain that has filled another one just now.
    fn with_much_room(space: Space, since: Timestamp) -> Self {
        Self::with(Texts::with_room(Self::MAX_BYTES), space, since)
    }

    fn with(entries: Texts, space: Space, since: Timestamp) -> Self {
        let (entries, answers) = (Arc::new(entries), Vec::new());
        Self { space, entries, since, answers, loss: None, counted: 0, settled: false }
    }

    /// Tells that acts are missing.
    fn of_loss(space: Space, acts: u64, at: Timestamp) -> Self {
        let mut waiting = Self { loss: Some(acts), ..Self::new(space, at) };
        write(&Act::of_lost(space, acts, at), |entry| waiting.push(entry));
        waiting.counted = waiting.bytes();
        waiting
    }

    /// Those of a chain, as they are committed together.
    pub(super) fn by_commits(mut waiting: &mut [Self]) -> Vec<&mut [Self]> {
        let mut commits = Vec::new();
        while !waiting.is_empty() {
            let mut bytes = 0;
            let fits = |one: &&Self| {
                bytes += one.entries.bytes();
                bytes <= Self::MAX_BYTES
            };
            let together = waiting.iter().take_while(fits).count().max(1);
            let (some, others) = waiting.split_at_mut(together);
            commits.push(some);
            waiting = others;
        }
        commits
    }

    fn push(&mut self, entry: &str) {
        // Nobody else holds them yet.
        Arc::make_mut(&mut self.entries).push(entry);
    }

    /// How many acts are lost where it is.
    pub(super) fn acts(&self) -> u64 {
        self.loss.unwrap_or(self.entries.len() as u64)
    }

    /// Whether it only tells of others, which were counted when they were lost.
    pub(super) fn is_of_loss(&self) -> bool {
        self.loss.is_some()
    }

    /// They are stored.
    pub(super) fn answer(&mut self) {
        for (_, answer) in self.answers.drain(..) {
            // Who waited may have gone away.
            let _ = answer.send(());
        }
    }

    /// Those that somebody waits for are answered as if they had not been, so they must
    /// not be recorded later.
    pub(super) fn give_up_awaited(&mut self) {
        let mut awaited = self.answers.drain(..).map(|(place, _)| place).peekable();
        if awaited.peek().is_none() {
            return;
        }
        let kept = |(place, entry)| awaited.next_if_eq(&place).is_none().then_some(entry);
        let kept: Texts = self.entries.iter().enumerate().filter_map(kept).collect();
        self.entries = Arc::new(kept);
    }

    fn takes(&self, entry: &str) -> bool {
        self.entries.bytes() + entry.len() <= Self::MAX_BYTES
    }

    fn bytes(&self) -> usize {
        let places = self.entries.len() * size_of::<usize>() + size_of_val(self.answers.as_slice());
        size_of::<Self>() + self.entries.bytes() + places
    }

    /// By how much it grew since the last look; it shrinks in [`Queue::settle`] alone.
    fn count(&mut self) -> usize {
        let bytes = self.bytes();
        bytes - mem::replace(&mut self.counted, bytes)
    }
}
const _: () = assert!(Waiting::MAX_BYTES + Block::ENTRY_MAX_BYTES < Batch::MAX_BYTES / 2);

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    Little,
    /// So much just now that it had better be stored at once.
    Enough,
}

impl Fill {
    fn or(self, other: Self) -> Self {
        if self == Self::Enough { self } else { other }
    }
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

pub(super) struct Queue {
    room: Room,
    lanes: Box<[Lane]>,
    /// When the first act was done of those that were taken and are not settled.
    taken_since: Mutex<Option<Timestamp>>,
}

/// What the threads of one place leave. Alone in its lines of the cache.
#[derive(Default)]
#[repr(align(128))]
struct Lane(Mutex<Left>);

#[derive(Default)]
struct Left {
    waiting: Vec<Waiting>,
    /// Where entries of a chain go.
    last: HashMap<Space, usize>,
    /// Room that is taken, and not used yet.
    spare: usize,
    /// Acts that did not fit, by their chain: there are no more than there are tenants.
    lost: HashMap<Space, u64>,
}

impl Queue {
    /// More threads than these share lanes.
    const MOST_LANES: usize = 16;

    /// `bound`: what may wait, in bytes.
    pub(super) fn new(bound: usize) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let lanes = (0..threads.min(Self::MOST_LANES)).map(|_| Lane::default()).collect();
        Self { room: Room::new(bound), lanes, taken_since: Mutex::default() }
    }

    /// Who waits for the act to be stored hears it by `answer`. An act that nobody waits
    /// for is counted as lost where it does not fit.
    pub(super) fn push(
        &self,
        act: &Act,
        answer: Option<oneshot::Sender<()>>,
    ) -> Result<Fill, Full> {
        write(act, |entry| self.push_entry(act.space(), act.at, entry, answer))
    }

    fn push_entry(
        &self,
        space: Space,
        at: Timestamp,
        entry: &str,
        answer: Option<oneshot::Sender<()>>,
    ) -> Result<Fill, Full> {
        let mut left = self.lane().left();
        let needed = size_of::<usize>() + entry.len();
        let mut fill = Fill::Little;
        if left.spare < needed {
            let Ok((taken, filled)) = self.room.take(needed) else {
                if answer.is_none() {
                    left.lose(space, 1);
                }
                return Err(Full);
            };
            left.spare += taken;
            fill = filled;
        }
        let waiting = left.waiting_of(space, at, entry);
        let place = waiting.entries.len();
        waiting.push(entry);
        waiting.answers.extend(answer.map(|answer| (place, answer)));
        let grown = waiting.count();
        let beyond = grown.saturating_sub(left.spare);
        left.spare = left.spare.saturating_sub(grown);
        // It stands already, with what it takes beside its text.
        Ok(if beyond > 0 { fill.or(self.room.overdraw(beyond)) } else { fill })
    }

    pub(super) fn lose(&self, space: Space, acts: u64) {
        self.lane().left().lose(space, acts);
    }

    /// Moves all that waits behind what was taken before, and an entry that tells how many
    /// were lost, for each chain that lost some.
    pub(super) fn take(&self, taken: &mut Vec<Waiting>, now: Timestamp) {
        let mut since = self.taken_since();
        let mut lost: HashMap<Space, u64> = HashMap::new();
        for lane in &self.lanes {
            let mut left = lane.left();
            left.last.clear();
            taken.append(&mut left.waiting);
            for (space, acts) in left.lost.drain() {
                add(&mut lost, space, acts);
            }
        }
        for (space, acts) in lost {
            let waiting = Waiting::of_loss(space, acts, now);
            self.room.overdraw(waiting.counted);
            taken.push(waiting);
        }
        *since = first_of(taken);
    }

    /// Drops what is settled of what was taken.
    pub(super) fn settle(&self, taken: &mut Vec<Waiting>) {
        let counted: usize = taken.iter().map(|waiting| waiting.counted).sum();
        taken.retain(|waiting| !waiting.settled);
        let mut left = 0;
        for waiting in taken.iter_mut() {
            waiting.counted = waiting.bytes();
            left += waiting.counted;
        }
        self.room.give(counted.saturating_sub(left));
        *self.taken_since() = first_of(taken);
    }

    /// What waits, in bytes, and since when.
    pub(super) fn depth(&self) -> (usize, Option<Timestamp>) {
        let mut since = *self.taken_since();
        let mut spare = 0;
        for lane in &self.lanes {
            let left = lane.left();
            since = since.into_iter().chain(first_of(&left.waiting)).min();
            spare += left.spare;
        }
        (self.room.taken().saturating_sub(spare), since)
    }

    /// Whether nothing waits and nothing was lost that no entry tells of.
    pub(super) fn is_empty(&self) -> bool {
        self.depth().0 == 0 && self.lanes.iter().all(|lane| lane.left().lost.is_empty())
    }

    /// This thread's.
    fn lane(&self) -> &Lane {
        self.lanes.get(thread_number() % self.lanes.len()).expect("the rest of a division by it")
    }

    fn taken_since(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.taken_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One for each thread that asks, from 0.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl Lane {
    /// Nothing is under the lock that could panic half way.
    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Left {
    /// Where an entry goes.
    fn waiting_of(&mut self, space: Space, at: Timestamp, entry: &str) -> &mut Waiting {
        let takes = |last: &Waiting| last.space == space && last.takes(entry);
        // Most often where the one before went.
        let place = match self.waiting.last() {
            Some(last) if takes(last) => self.waiting.len() - 1,
            _ => self.place_of(space, at, entry),
        };
        self.waiting.get_mut(place).expect("it is there, or was put there just now")
    }

    fn place_of(&mut self, space: Space, at: Timestamp, entry: &str) -> usize {
        let last = self.last.entry(space).or_insert(usize::MAX);
        let new = match self.waiting.get(*last) {
            Some(waiting) if waiting.takes(entry) => None,
            Some(_) => Some(Waiting::with_much_room(space, at)),
            None => Some(Waiting::new(space, at)),
        };
        if let Some(new) = new {
            *last = self.waiting.len();
            self.waiting.push(new);
        }
        *last
    }

    fn lose(&mut self, space: Space, acts: u64) {
        add(&mut self.lost, space, acts);
    }
}

fn add(lost: &mut HashMap<Space, u64>, space: Space, acts: u64) {
    let lost = lost.entry(space).or_default();
    *lost = lost.saturating_add(acts);
}

fn first_of(waiting: &[Waiting]) -> Option<Timestamp> {
    waiting.iter().map(|waiting| waiting.since).min()
}

/// What the lanes share: how much may wait. They take some in advance, so that they meet
/// here once in a hundred entries.
struct Room {
    bound: usize,
    taken: AtomicUsize,
}

impl Room {
    fn new(bound: usize) -> Self {
        Self { bound, taken: AtomicUsize::new(0) }
    }

    /// At least so much.
    fn take(&self, needed: usize) -> Result<(usize, Fill), Full> {
        let wanted = needed.max(self.bound / 256);
        let fits = |taken: usize, more| taken.checked_add(more).filter(|all| *all <= self.bound);
        let taken = |before| fits(before, wanted).or_else(|| fits(before, needed));
        let before = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        let before = before.map_err(|_| Full)?;
        let more = if fits(before, wanted).is_some() { wanted } else { needed };
        Ok((more, self.fill(before, before + more)))
    }

    /// Whether it fits or not.
    fn overdraw(&self, bytes: usize) -> Fill {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        self.fill(before, before + bytes)
    }

    fn give(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// It is said to one of those who take, once.
    fn fill(&self, before: usize, after: usize) -> Fill {
        let enough = self.bound / 4;
        if before < enough && after >= enough { Fill::Enough } else { Fill::Little }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([1; 16]);
    const OTHER: TenantId = TenantId::from_bytes([2; 16]);

    fn act() -> Act {
        act_in(TENANT)
    }

    fn act_at(second: i64) -> Act {
        Act { at: Timestamp::from_unix_seconds(second), ..act() }
    }

    /// Of when an act was done.
    fn second_of(entry: &str) -> &str {
        entry.split_once("1970-01-01T00:00:").unwrap().1.split_once('Z').unwrap().0
    }

    fn act_in(tenant: TenantId) -> Act {
        let at = Timestamp::from_unix_seconds(1);
        let about = About::Secret { tenant, name: None };
        let (op, result, caller) = (AuditOp::SecretRead, Act::OK, Caller::server());
        Act { at, op, about, result, caller, detail: None }
    }

    /// In one piece.
    fn room_for(acts: usize) -> usize {
        let mut waiting = Waiting::new(Space::Tenant(TENANT), act().at);
        for _ in 0..acts {
            write(&act(), |entry| waiting.push(entry));
        }
        waiting.bytes()
    }

    #[test]
    fn what_does_not_fit_is_counted_and_the_number_is_taken() {
        let queue = Queue::new(room_for(2));
        for fits in [true, true, false, false, false] {
            assert_eq!(queue.push(&act(), None).is_ok(), fits);
        }
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        let lost = taken.pop().unwrap();
        assert_eq!((lost.space, lost.acts()), (Space::Tenant(TENANT), 3));
        let entry = lost.entries.iter().next().unwrap();
        assert!(entry.contains(r#""op":"lost""#) && entry.contains("3 entries"), "{entry}");
        assert_eq!((taken.len(), taken[0].entries.len()), (1, 2));
    }

    #[test]
    fn what_somebody_waits_for_is_refused_and_not_lost() {
        let queue = Queue::new(room_for(1));
        queue.push(&act(), None).unwrap();
        let (sender, mut receiver) = oneshot::channel();
        assert_eq!(queue.push(&act(), Some(sender)), Err(Full));
        assert!(receiver.try_recv().is_err());
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        assert_eq!(taken.len(), 1);
    }

    /// Or a disk that hangs would let a queue grow behind the back of its bound.
    #[test]
    fn what_was_taken_counts_until_it_is_settled() {
        let queue = Queue::new(2 * room_for(1));
        queue.push(&act(), None).unwrap();
        queue.push(&act_in(OTHER), None).unwrap();
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        assert_eq!(queue.push(&act(), None), Err(Full));
        assert_eq!(queue.depth().1, Some(act().at));
        taken[0].settled = true;
        queue.settle(&mut taken);
        assert_eq!(taken.len(), 1);
        assert!(queue.push(&act(), None).is_ok());
        assert!(!queue.is_empty());
    }

    /// Whoever asked was told that it did not happen.
    #[test]
    fn what_somebody_waited_for_is_not_stored_later() {
        let queue = Queue::new(room_for(8));
        let mut receivers = Vec::new();
        for place in 0..5 {
            let (sender, receiver) = oneshot::channel();
            let is_awaited = place == 1 || place == 4;
            queue.push(&act_at(place), is_awaited.then_some(sender)).unwrap();
            receivers.extend(is_awaited.then_some(receiver));
        }
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        let [waiting] = taken.as_mut_slice() else { panic!("one chain") };
        waiting.give_up_awaited();
        assert!(receivers.iter_mut().all(|receiver| receiver.try_recv().is_err()));
        let kept: Vec<_> = waiting.entries.iter().map(second_of).collect();
        assert_eq!(kept, ["00", "02", "03"]);
        queue.settle(&mut taken);
        assert_eq!(queue.depth().0, room_for(3), "what was given up takes no room");
    }

    #[test]
    fn a_chain_that_has_much_to_store_does_it_in_several_commits() {
        let queue = Queue::new(usize::MAX);
        let long = Act { detail: Some("x".repeat(250).into()), ..act() };
        let pushes = 2 * Waiting::MAX_BYTES / 250;
        for _ in 0..pushes {
            queue.push(&long, None).unwrap();
        }
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        assert!(taken.len() > 2);
        assert!(taken.iter().all(|waiting| waiting.entries.bytes() <= Waiting::MAX_BYTES));
        assert_eq!(taken.iter().map(|waiting| waiting.entries.len()).sum::<usize>(), pushes);
    }

    /// Whichever lanes they leave it in.
    #[test]
    fn threads_share_one_bound_and_each_act_is_taken_or_counted_as_lost() {
        const THREADS: usize = 2 * Queue::MOST_LANES;
        const PUSHES: usize = 200;
        let bound = room_for(THREADS * PUSHES / 4);
        let queue = Queue::new(bound);
        let push = || (0..PUSHES).filter(|_| queue.push(&act(), None).is_ok()).count();
        let pushed: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(push)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let (bytes, _) = queue.depth();
        // What a lane took in advance and did not use is room for none of the others.
        let unused = Queue::MOST_LANES * (bound / 256 + room_for(1));
        assert!(
            (bound.saturating_sub(unused)..=bound + unused).contains(&bytes),
            "{bytes} of {bound}"
        );
        let mut taken = Vec::new();
        queue.take(&mut taken, act().at);
        let (told, stored): (Vec<_>, Vec<_>) = taken.iter().partition(|one| one.is_of_loss());
        let acts = |of: &[&Waiting]| of.iter().map(|one| one.acts()).sum::<u64>();
        assert_eq!((told.len(), acts(&stored)), (1, pushed as u64));
        assert_eq!(acts(&stored) + acts(&told), (THREADS * PUSHES) as u64);
        taken.iter_mut().for_each(|one| one.settled = true);
        queue.settle(&mut taken);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_little_each_lane_has_of_a_chain_is_one_commit() {
        let waiting = |bytes: usize| {
            let mut waiting = Waiting::new(Space::System, act().at);
            waiting.push(&"x".repeat(bytes));
            waiting
        };
        let most = Waiting::MAX_BYTES;
        let mut all = [1, 2, most - 3, 1, most, 1].map(waiting);
        let commits = Waiting::by_commits(&mut all);
        assert_eq!(commits.iter().map(|some| some.len()).collect::<Vec<_>>(), [3, 1, 1, 1]);
        assert!(Waiting::by_commits(&mut []).is_empty());
    }

    #[test]
    fn a_quarter_is_said_once_to_be_enough() {
        let queue = Queue::new(4 * room_for(2));
        let fills: Vec<_> = (0..4).map(|_| queue.push(&act(), None).unwrap()).collect();
        assert_eq!(fills, [Fill::Little, Fill::Enough, Fill::Little, Fill::Little]);
    }
}
