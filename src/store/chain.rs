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

/// What a commit adds to a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It stands in a block with others.
    Entry(Entry),
    /// As it is.
    Block(Block),
}

impl Appended {
    /// Its bytes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Entry(entry) => entry.text().len(),
            Self::Block(block) => block.bytes.len(),
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        match self {
            Self::Entry(entry) => entry.text().len() > Entry::MAX_BYTES,
            Self::Block(block) => block.bytes.len() > Block::MAX_BYTES,
        }
    }
}

/// A text that means nothing to a store, and that only a seal turns into what is
/// stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(String);

impl Entry {
    /// What a seal must be able to make a block of.
    pub const MAX_BYTES: usize = Block::MAX_BYTES - 200;

    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Entry {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry([{} bytes])", self.0.len())
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
