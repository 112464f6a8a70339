//! What waits for a committer, bounded in bytes.
//!
//! One tenant has at most an eighth of it, so that a tenant that writes faster
//! than the disk cannot keep the others out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::compaction::Order;
use super::shelf::Shelf;
use super::snapshot::Live;
use crate::store::{Batch, Space, StoreError};

/// Called once with the outcome; dropped uncalled, it stands for `Unknown`.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

pub(super) enum Work {
    Rows(RowWork),
    Create {
        shelf: Arc<Shelf>,
        done: Done,
    },
    Drop {
        shelf: Arc<Shelf>,
        done: Done,
    },
    /// Begins a snapshot.
    Snapshot {
        shelf: Arc<Shelf>,
        live: Arc<Live>,
        done: Done,
    },
    Compact(Order),
}

/// What can be applied together with others in one drain.
pub(super) enum RowWork {
    Commit {
        shelf: Arc<Shelf>,
        batch: Batch,
        bytes: usize,
        done: Done,
    },
    /// A row of the engine's own, in the system database.
    Place {
        key: Vec<u8>,
        value: Option<Vec<u8>>,
        done: Done,
    },
}

impl Work {
    pub fn refuse(self, error: StoreError) {
        match self {
            Self::Rows(RowWork::Commit { done, .. } | RowWork::Place { done, .. })
            | Self::Create { done, .. }
            | Self::Drop { done, .. }
            | Self::Snapshot { done, .. } => done(Err(error)),
            Self::Compact(order) => order.refuse(error),
        }
    }

    fn charge(&self) -> Option<(Space, usize)> {
        match self {
            Self::Rows(RowWork::Commit { shelf, bytes, .. }) => Some((shelf.space, *bytes)),
            _ => None,
        }
    }
}

/// What a committer takes at once.
pub(super) enum Taken {
    Rows(Vec<RowWork>),
    Create {
        shelf: Arc<Shelf>,
        done: Done,
    },
    Drop {
        shelf: Arc<Shelf>,
        done: Done,
    },
    Snapshot {
        shelf: Arc<Shelf>,
        live: Arc<Live>,
        done: Done,
    },
    Compact(Order),
    /// For one that does not wait.
    Nothing,
}

impl Taken {
    pub fn refuse(self, error: &StoreError) {
        let works = match self {
            Self::Rows(rows) => rows.into_iter().map(Work::Rows).collect(),
            Self::Create { shelf, done } => vec![Work::Create { shelf, done }],
            Self::Drop { shelf, done } => vec![Work::Drop { shelf, done }],
            Self::Snapshot { shelf, live, done } => vec![Work::Snapshot { shelf, live, done }],
            Self::Compact(order) => vec![Work::Compact(order)],
            Self::Nothing => Vec::new(),
        };
        for work in works {
            work.refuse(error.clone());
        }
    }
}

/// Why a work was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Closed,
}

/// One transaction of sled's holds all readers off for as long as it is applied,
/// and this much is applied in some milliseconds.
const DRAIN_BYTES: usize = 2 * Batch::MAX_BYTES;

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    works: VecDeque<Work>,
    bytes: usize,
    by_space: HashMap<Space, usize>,
    /// Whether a committer waits for work, and nobody set out to wake it yet.
    waited_for: bool,
    closed: bool,
}

impl State {
    /// Whether there is nothing to do yet; who is told so waits.
    fn is_idle(&mut self) -> bool {
        self.waited_for = self.works.is_empty() && !self.closed;
        self.waited_for
    }

    fn pop(&mut self) -> Option<Work> {
        let work = self.works.pop_front()?;
        if let Some((space, bytes)) = work.charge() {
            self.bytes -= bytes;
            if let Some(charged) = self.by_space.get_mut(&space) {
                *charged -= bytes;
                if *charged == 0 {
                    self.by_space.remove(&space);
                }
            }
        }
        Some(work)
    }
}

impl Queue {
    /// The share of a tenant must hold the largest batch, or that would never be
    /// accepted.
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity: capacity.max(8 * Batch::MAX_BYTES),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, work: Work) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.closed {
            return Err(Refusal::Closed);
        }
        if let Some((space, bytes)) = work.charge() {
            let charged = state.by_space.get(&space).copied().unwrap_or(0) + bytes;
            if charged > self.capacity / 8 || state.bytes + bytes > self.capacity {
                return Err(Refusal::Full);
            }
            state.by_space.insert(space, charged);
            state.bytes += bytes;
        }
        state.works.push_back(work);
        let wake = std::mem::take(&mut state.waited_for);
        // With the lock free, or it would wake to wait for that. And only one who
        // waits: a call into the kernel costs more than all of this, and most
        // pushes meet a committer at work.
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for work. `None` once it is closed and empty.
    pub fn take(&self) -> Option<Taken> {
        let waited = self.changed.wait_while(self.state(), State::is_idle);
        take_from(&mut waited.unwrap_or_else(PoisonError::into_inner))
    }

    /// Does not wait for longer than `patience`.
    pub fn take_within(&self, patience: Duration) -> Option<Taken> {
        let waited = self.changed.wait_timeout_while(self.state(), patience, State::is_idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waited_for = false;
        take_from(&mut state)
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    pub fn take_all(&self) -> Vec<Work> {
        let mut state = self.state();
        std::iter::from_fn(|| state.pop()).collect()
    }

    /// Nothing is taken in any more; what is waiting is still done.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits, but not past the closing. Answers whether it is closed.
    pub fn pause(&self, duration: Duration) -> bool {
        let state = self.state();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, duration, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.closed
    }
}

fn take_from(state: &mut State) -> Option<Taken> {
    Some(match state.pop()? {
        Work::Create { shelf, done } => Taken::Create { shelf, done },
        Work::Drop { shelf, done } => Taken::Drop { shelf, done },
        Work::Snapshot { shelf, live, done } => Taken::Snapshot { shelf, live, done },
        Work::Compact(order) => Taken::Compact(order),
        Work::Rows(first) => Taken::Rows(take_rows(state, first)),
    })
}

fn take_rows(state: &mut State, first: RowWork) -> Vec<RowWork> {
    let weight = |work: &RowWork| match work {
        RowWork::Commit { bytes, .. } => *bytes,
        RowWork::Place { .. } => 0,
    };
    let mut bytes = weight(&first);
    let mut rows = vec![first];
    while let Some(Work::Rows(next)) = state.works.front() {
        bytes += weight(next);
        if bytes > DRAIN_BYTES {
            break;
        }
        if let Some(Work::Rows(next)) = state.pop() {
            rows.push(next);
        }
    }
    rows
}
