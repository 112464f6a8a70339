//! What is appended to a space and never changed: entries in blocks, each linked to
//! the one before.
//!
//! A writer does not know what others append at the same time. So an engine decides
//! where an entry stands when it commits it, in the order of commits, and asks the
//! space's [`LedgerSeal`] for the block and its link. Entries that are committed
//! together share blocks, whoever appended them: a block costs an engine about as much
//! as a row does. The ledger holds where the chain ends: with it a block that was
//! altered, moved, dropped or cut off shows. Blocks are no rows: they are in no scan,
//! no snapshot and no digest.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{LedgerSeal, Page, Row};
use crate::domain::Texts;

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

/// What a commit adds to a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// Texts that mean nothing to a store, and that only a seal turns into what is stored:
    /// they stand in blocks with others. Shared with who may have to append them again.
    Entries(Arc<Texts>),
    /// As it is.
    Block(Block),
}

impl Appended {
    /// Its bytes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Entries(entries) => entries.bytes(),
            Self::Block(block) => block.bytes.len(),
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        match self {
            Self::Entries(entries) => {
                entries.iter().any(|entry| entry.len() > Block::ENTRY_MAX_BYTES)
            }
            Self::Block(block) => block.bytes.len() > Block::MAX_BYTES,
        }
    }
}

/// Entries that stand together, as they are stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// How many; so many numbers it takes.
    pub entries: NonZeroU32,
    /// At most [`Row::MAX_BYTES`].
    pub bytes: Vec<u8>,
}

impl Block {
    pub const MAX_BYTES: usize = Row::MAX_BYTES;
    /// What a seal must be able to make a block of.
    pub const ENTRY_MAX_BYTES: usize = Self::MAX_BYTES - 200;
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

impl PlacedBlock {
    /// The number of the entry after its last one.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.block.entries.get()))
    }
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

    pub fn is_empty(&self) -> bool {
        self.page.blocks.is_empty()
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
