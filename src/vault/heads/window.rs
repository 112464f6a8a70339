//! All names of a tenant within one range, sorted.
//!
//! The range is the whole of them where they fit the budget. Where they do not,
//! it is as large as its share allows, and everything in it is known: what lies
//! outside was given up, from the side that was not asked for.

use std::ops::Range;
use std::sync::Arc;

use crate::domain::SecretName;

use super::block::{Block, Entry};
use super::{Budget, HeadChange, HeadEntry};

/// A place in the order of names: just before every name that is not smaller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::vault) struct Place(Box<str>);

impl Place {
    pub(in crate::vault) fn start() -> Self {
        Self::before("")
    }

    pub(in crate::vault) fn before(text: &str) -> Self {
        Self(text.into())
    }

    /// Between `name` and all that follow it: no name has a zero byte.
    pub(in crate::vault) fn after(name: &SecretName) -> Self {
        Self(format!("{}\0", name.as_str()).into())
    }

    pub(in crate::vault) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What becomes of a deleted name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletes {
    /// It is gone.
    Forget,
    /// It stays, as deleted: a scan under way may have read it before.
    Remember,
}

/// Some of the names, and where to go on.
pub(in crate::vault) struct Look {
    /// May begin with names before the place asked about.
    pub(in crate::vault) block: Option<Arc<Block>>,
    /// `None`: there are no more names.
    pub(in crate::vault) next: Option<Place>,
}

/// The names in `[from, to)`. Clones share the names.
#[derive(Clone)]
pub(in crate::vault) struct Window {
    from: Place,
    /// `None`: to the last name there is.
    to: Option<Place>,
    /// None is empty.
    blocks: Vec<Arc<Block>>,
    /// What the blocks cost.
    bytes: usize,
    budget: Arc<Budget>,
}

impl Window {
    /// Of all names, none of which is known yet.
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { from: Place::start(), to: None, blocks: Vec::new(), bytes: 0, budget }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::vault) fn covers(&self, place: &Place) -> bool {
        self.from <= *place && self.to.as_ref().is_none_or(|to| place < to)
    }

    /// What there is from `place` on, if it is known.
    pub(in crate::vault) fn look(&self, place: &Place) -> Option<Look> {
        if !self.covers(place) {
            return None;
        }
        let at = self.block_of(place.as_str());
        let next = match self.blocks.get(at + 1) {
            Some(block) => Some(Place::before(block.first())),
            None => self.to.clone(),
        };
        Some(Look { block: self.blocks.get(at).cloned(), next })
    }

    /// Applies a change unless the window is ahead of it, as it is where a scan
    /// saw a later version.
    pub(super) fn apply(&mut self, change: &HeadChange, deletes: Deletes) {
        let (HeadChange::Put(name, _) | HeadChange::Delete(name, _)) = change;
        let name = name.as_str();
        if !self.covers(&Place::before(name)) {
            return;
        }
        let at = self.block_of(name);
        let found = self.blocks.get(at).map(|block| block.find(name));
        let (span, held) = found.unwrap_or((0..0, None));
        let entry = match *change {
            HeadChange::Put(_, HeadEntry { version, window }) => {
                if held.is_some_and(|held| held >= version) {
                    return;
                }
                Some(Entry { name, version, window: Some(window) })
            }
            HeadChange::Delete(_, version) => {
                if held.is_some_and(|held| held > version) {
                    return;
                }
                (deletes == Deletes::Remember).then_some(Entry { name, version, window: None })
            }
        };
        self.replace(at, span, entry.as_ref());
    }

    /// Gives up names until the rest takes at most `target` bytes: first those
    /// before `keep`, then the last ones. One of the others is kept, so that
    /// whoever walks from window to window gets on.
    pub(super) fn shrink_to(&mut self, target: usize, keep: &Place) {
        while self.bytes > target && (self.give_up_before(keep) || self.give_up_last(target)) {}
    }

    /// As [`Self::shrink_to`], from the end alone.
    pub(super) fn shrink_end(&mut self, target: usize) {
        while self.bytes > target && self.give_up_last(target) {}
    }

    /// Gives up what the first block has before `keep`.
    fn give_up_before(&mut self, keep: &Place) -> bool {
        let Some(first) = self.blocks.first() else { return false };
        let (found, _) = first.find(keep.as_str());
        if found.start == 0 {
            return false;
        }
        let second = self.blocks.get(1).map(|second| Place::before(second.first()));
        self.from = second.map_or_else(|| keep.clone(), |second| second.min(keep.clone()));
        self.replace(0, 0..found.start, None);
        true
    }

    /// Gives up the last block, or the last name where that does.
    fn give_up_last(&mut self, target: usize) -> bool {
        let Some((last, others)) = self.blocks.split_last() else { return false };
        let (span, name) = last.last();
        let (span, name) = if self.bytes - last.cost() >= target && !others.is_empty() {
            (0..span.end, last.first())
        } else {
            (span, name)
        };
        if span.start == 0 && others.is_empty() {
            return false;
        }
        self.to = Some(Place::before(name));
        self.replace(others.len(), span, None);
        true
    }

    fn replace(&mut self, at: usize, span: Range<usize>, entry: Option<&Entry<'_>>) {
        let old = self.blocks.get(at);
        let new = Block::replaced(old.map(Arc::as_ref), span, entry, &self.budget);
        let end = at + usize::from(old.is_some());
        self.bytes -= old.map_or(0, |block| block.cost());
        self.bytes += new.iter().flatten().map(|block| block.cost()).sum::<usize>();
        self.blocks.splice(at..end, new.into_iter().flatten());
    }

    /// The block that has `name`, or would.
    fn block_of(&self, name: &str) -> usize {
        self.blocks.partition_point(|block| !block.is_after(name)).saturating_sub(1)
    }
}
