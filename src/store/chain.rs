//! What is appended to a space and never changed: blocks of entries, each linked to
//! the one before.
//!
//! A writer does not know what others append at the same time. So an engine decides
//! where a block stands when it commits it, in the order of commits, and asks the
//! space's [`LedgerSeal`] for the link. The ledger holds where the chain ends: with
//! it a block that was altered, moved, dropped or cut off shows. Blocks are no rows:
//! they are in no scan, no snapshot and no digest.

use std::fmt;
use std::num::NonZeroU32;

use super::{LedgerSeal, Page, Row};

/// Where the chain of a space ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The number of the next entry; the first one is 0.
    pub next: u64,
    /// The link of the last block.
    pub head: [u8; 32],
}

impl Chain {
    pub const EMPTY: Self = Self { next: 0, head: [0; 32] };

    /// After one block more.
    pub fn with(self, block: &Block, seal: &dyn LedgerSeal) -> Self {
        let next = self.next.saturating_add(u64::from(block.entries.get()));
        Self { next, head: seal.link(&self, block) }
    }
}

/// Entries that are appended together, as bytes that mean nothing to a store.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// How many; so many numbers it takes.
    pub entries: NonZeroU32,
    /// At most [`Row::MAX_BYTES`].
    pub bytes: Vec<u8>,
}

impl Block {
    pub const MAX_BYTES: usize = Row::MAX_BYTES;
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block {{ entries: {}, bytes: [{} bytes] }}", self.entries, self.bytes.len())
    }
}

/// A block where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedBlock {
    /// The number of its first entry.
    pub first: u64,
    /// What the head of the chain was after it. It proves nothing by itself, since it
    /// takes no key: it tells which block is the first that is not as it was.
    pub link: [u8; 32],
    pub block: Block,
}

/// Blocks in the order in which they were appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainPage {
    pub blocks: Vec<PlacedBlock>,
    /// Whether blocks may remain after the last one.
    pub more: bool,
}

/// Fills one page, and says when it is full.
#[derive(Default)]
pub(super) struct ChainPageBuilder {
    page: ChainPage,
    bytes: usize,
}

impl ChainPageBuilder {
    pub fn is_full(&self) -> bool {
        self.bytes >= Page::MAX_BYTES
    }

    pub fn push(&mut self, placed: PlacedBlock) {
        // A block costs memory beyond its bytes.
        self.bytes += placed.block.bytes.len() + size_of::<PlacedBlock>();
        self.page.blocks.push(placed);
    }

    pub fn with_more(mut self) -> ChainPage {
        self.page.more = true;
        self.page
    }

    pub fn last(self) -> ChainPage {
        self.page
    }
}
