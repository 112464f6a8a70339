//! Where rows are kept: the contract, and the engines behind it.
//!
//! A store keeps opaque rows in spaces. It promises that a commit is all or
//! nothing, strictly serializable within its space, and durable against power
//! loss when it returns `Ok`; and that what a read returned is durable too. It
//! knows nothing of names, windows or keys: what it stores was encrypted above
//! it, and the one thing it needs a key for, the ledger, it asks of a
//! [`LedgerSeal`].

mod chain;
#[cfg(test)]
mod conformance;
mod memory;
pub mod sled_engine;
mod staging;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{Floor, TenantId};

pub use chain::{Appended, Block, Chain, ChainPage, PlacedBlock};
pub use memory::MemoryStore;
pub use sled_engine::{OpenError, Progress, SledOptions, SledStore};

/// An address space of rows. Commits never span two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Tenants, token roots, the clock. Always exists.
    System,
    /// Wrapped DEKs. Always exists, in files of its own, so that it can be
    /// replaced as a whole and its old bytes unlinked.
    Keyring,
    Tenant(TenantId),
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Keyring => f.write_str("keyring"),
            Self::Tenant(id) => write!(f, "tenant {id}"),
        }
    }
}

/// Where a row stands in its space: 1 to 255 bytes, ordered bytewise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey(Vec<u8>);

impl RowKey {
    pub const MAX_LEN: usize = 255;

    /// # Panics
    /// If `bytes` is empty or longer than [`Self::MAX_LEN`]: keys are built by
    /// this program from parts of fixed size, never from input.
    pub fn new(bytes: Vec<u8>) -> Self {
        assert!((1..=Self::MAX_LEN).contains(&bytes.len()), "a row key has 1 to 255 bytes");
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What is stored under a key. Versions are drawn by the writer from a counter
/// that never goes back, so two rows ever written are never identical.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    pub version: u64,
    pub bytes: Vec<u8>,
}

impl Row {
    /// What `bytes` may be at most, key and headers of the engine excluded; a
    /// larger value is stored as several rows in one commit. The bound keeps
    /// sled's leaves below the size at which they become files that are never
    /// synced (docs/ARCHITECTURE.md).
    pub const MAX_BYTES: usize = 3600;
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row {{ version: {}, bytes: [{} bytes] }}", self.version, self.bytes.len())
    }
}

/// One element of a commit.
#[derive(Debug, Clone)]
pub enum Change {
    /// A precondition: the row has this version, or (`None`) does not exist.
    Expect {
        key: RowKey,
        version: Option<u64>,
    },
    Put {
        key: RowKey,
        row: Row,
    },
    /// Deleting what is not there changes nothing.
    Delete {
        key: RowKey,
    },
    /// It becomes the next of the space's chain. What one batch appends stays in its
    /// order.
    Append(Appended),
    /// Removes what the chain held before: the blocks of all entries up to the end of
    /// `kept_from`, at most some thousands of them; what is left goes with the next one.
    /// A precondition: the chain begins before there, and does not end before there. The
    /// caller knows that a block ended there, and with which link.
    Forget {
        kept_from: Chain,
    },
}

impl Change {
    fn into_appended(self) -> Option<Appended> {
        match self {
            Self::Append(appended) => Some(appended),
            Self::Expect { .. } | Self::Put { .. } | Self::Delete { .. } | Self::Forget { .. } => {
                None
            }
        }
    }
}

/// What is committed as one. Preconditions are judged against the state before
/// the batch; a key is put or deleted at most once in it.
#[derive(Clone)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// The latest undisputed time; the ledger keeps the highest it was given.
    pub floor: Floor,
    pub seal: Arc<dyn LedgerSeal>,
}

impl Batch {
    /// What a batch may weigh at most: keys, bytes and some 60 bytes for each
    /// change. A value of 1 MiB in rows of [`Row::MAX_BYTES`] fits twice.
    pub const MAX_BYTES: usize = 5 * 512 * 1024;
}

/// The account of a space, changed in the same commit as its rows, so that a
/// missing row can be told from one that never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// How many commits changed a row of this space, appended to its chain or raised
    /// its floor.
    pub commits: u64,
    /// How many rows it holds.
    pub rows: u64,
    /// The sum, modulo 2^256 (little-endian), of the keyed digests of its rows.
    pub digest: [u8; 32],
    /// The highest row version ever committed, deleted rows included.
    pub highest_version: u64,
    pub floor: Floor,
    /// Its blocks are not among the rows.
    pub chain: Chain,
    /// Where the part of the chain ended that was forgotten.
    pub kept_from: Chain,
}

impl Ledger {
    pub const EMPTY: Self = Self {
        commits: 0,
        rows: 0,
        digest: [0; 32],
        highest_version: 0,
        floor: Floor::START,
        chain: Chain::EMPTY,
        kept_from: Chain::EMPTY,
    };

    /// Counts a row in.
    pub fn add(&mut self, digest: &[u8; 32]) {
        let mut carry = 0u16;
        for (sum, byte) in self.digest.iter_mut().zip(digest) {
            let total = u16::from(*sum) + u16::from(*byte) + carry;
            *sum = (total & 0xff) as u8;
            carry = total >> 8;
        }
        self.rows = self.rows.wrapping_add(1);
    }

    /// Counts a row out.
    pub fn remove(&mut self, digest: &[u8; 32]) {
        let mut borrow = 0i16;
        for (sum, byte) in self.digest.iter_mut().zip(digest) {
            let total = i16::from(*sum) - i16::from(*byte) - borrow;
            *sum = (total & 0xff) as u8;
            borrow = i16::from(total < 0);
        }
        self.rows = self.rows.wrapping_sub(1);
    }
}

/// The keyed half of a ledger, supplied by the layer that has keys; one per
/// space. The digests of rows are secret: who could see them could look for
/// another set of old rows with the same sum.
pub trait LedgerSeal: Send + Sync {
    /// A keyed pseudorandom function of the row's key, version and bytes.
    fn digest_row(&self, key: &RowKey, row: &Row) -> [u8; 32];
    /// A block of the first of `entries`: of as many as fit, and at least of one, which
    /// [`Block::ENTRY_MAX_BYTES`] lets it. It is made when it is committed, by the writer of
    /// the space, who waits for it.
    fn pack(&self, entries: &[&str]) -> Block;
    /// A hash of all that `block` is and of where it stands: the next of `chain`.
    fn link(&self, chain: &Chain, block: &Block) -> [u8; 32];
    /// Encrypts and authenticates; at most 256 bytes.
    fn seal(&self, ledger: &Ledger) -> Vec<u8>;
    fn open(&self, sealed: &[u8]) -> Result<Ledger, ForgedLedger>;
}

/// A stored ledger that its key did not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger was not written with this key")]
pub struct ForgedLedger;

/// Which rows to read, in ascending order of their keys.
#[derive(Debug, Clone)]
pub struct Scan {
    pub prefix: Vec<u8>,
    /// Only keys greater than this one.
    pub after: Option<RowKey>,
    /// At most this many rows; a page may hold fewer, see [`Page::more`].
    pub limit: usize,
}

/// Rows in ascending order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<(RowKey, Row)>,
    /// Whether rows may remain after the last one: a page ends at the limit
    /// asked for or at about [`Page::MAX_BYTES`].
    pub more: bool,
}

impl Page {
    pub const MAX_BYTES: usize = 1024 * 1024;
}

/// What went wrong, as what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold; nothing was changed. Read again.
    #[error("a precondition did not hold")]
    Conflict,
    /// Nothing was changed; the same call may succeed later.
    #[error("the store is busy or not writable at the moment")]
    NotApplied { retry_after: Duration },
    /// The commit may or may not be durable. Read before writing again.
    #[error("the outcome of the write is unknown")]
    Unknown,
    /// Free space is below the floor; nothing was changed. Free some.
    #[error("the disk is nearly full")]
    Full,
    /// Stored bytes are not what was written. `what` names the database or row,
    /// and never holds plaintext.
    #[error("{what} is corrupted")]
    Corrupted { what: String },
    /// A row or batch beyond the engine's bound; nothing was changed.
    #[error("a row or batch is too large")]
    TooLarge,
    /// The tenant was dropped, or never created here.
    #[error("the tenant does not exist in the store")]
    TenantGone,
}

/// What an operator wants to know of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub writable: bool,
    /// Bytes free on the file system, where there is one.
    pub free_bytes: Option<u64>,
    /// Why it is not writable, or which part of it does not serve.
    pub reason: Option<String>,
}

/// What one part of a store takes on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUse {
    /// By which [`Store::compact`] knows it.
    pub name: String,
    /// On disk.
    pub bytes: u64,
    /// Of the keys and values that can be read; `None` where it is damaged or not
    /// open at the moment.
    pub live: Option<u64>,
}

impl DatabaseUse {
    /// Of fewer bytes there is little to win: the engine takes them in steps.
    const WORTH_BYTES: u64 = 16 << 20;

    /// Whether a compaction would give back a good part of it. A database that was
    /// just filled, or compacted, is up to twice what lives in it (measured: 1.8 to
    /// 2.1 times), because the engine cleans a stretch of its file only when half of
    /// it is garbage. So it is when two thirds are that it is worth while.
    pub fn is_mostly_garbage(&self) -> bool {
        let garbage = |live| self.bytes.saturating_sub(live) > self.bytes / 3 * 2;
        self.bytes > Self::WORTH_BYTES && self.live.is_some_and(garbage)
    }
}

/// Bytes on disk before and after a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    pub before: u64,
    pub after: u64,
}

/// A space as it was at one commit, read while others write to it: what a check
/// against the ledger and a backup need. It holds memory in the store; drop it
/// when done.
#[async_trait]
pub trait Snapshot: Send {
    /// The sealed ledger as of that commit, or `None` where there was none yet.
    fn ledger(&self) -> Option<&[u8]>;

    /// The next rows of one cursor, in ascending order of their keys; `cursor` is
    /// the place of its prefix in the list the snapshot was taken with. After the
    /// page without [`Page::more`], empty pages.
    ///
    /// After [`StoreError::NotApplied`] the same page may be had later, or, if the
    /// engine could not keep the snapshot for so long, not at all: then take
    /// another. The store limits what it keeps for snapshots, and beyond that
    /// refuses writes to their spaces, so read on without pause.
    async fn next(&mut self, cursor: usize) -> Result<Page, StoreError>;
}

/// The contract. Every engine passes one suite of tests, `conformance`.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The row, if it exists. What it returns is durable.
    async fn get(&self, space: Space, key: &RowKey) -> Result<Option<Row>, StoreError>;

    /// A page of rows. What it returns is durable; rows committed while it runs
    /// may or may not be in it.
    async fn scan(&self, space: Space, scan: Scan) -> Result<Page, StoreError>;

    /// Applies all of `batch` or nothing, and its effect on the ledger with it.
    async fn commit(&self, space: Space, batch: Batch) -> Result<(), StoreError>;

    /// A page of the chain, from the first block that begins at the entry `from` or
    /// after it. What it returns is durable. Below [`Ledger::kept_from`] some of what was
    /// forgotten may be left.
    async fn chain(&self, space: Space, from: u64) -> Result<ChainPage, StoreError>;

    /// The sealed ledger, or `None` where nothing was ever committed.
    async fn ledger(&self, space: Space) -> Result<Option<Vec<u8>>, StoreError>;

    /// The space as it is now, durable, for cursors that walk the rows under each
    /// of `prefixes` (none of which begins another) at their own pace. Rows
    /// outside of them cannot be read.
    async fn snapshot(
        &self,
        space: Space,
        prefixes: &[&[u8]],
    ) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Makes an empty space; durable when it returns. Creating it twice is
    /// [`StoreError::Conflict`].
    async fn create_tenant(&self, id: TenantId) -> Result<(), StoreError>;

    /// Drops a space with all its rows; dropping what is not there is `Ok`.
    async fn drop_tenant(&self, id: TenantId) -> Result<(), StoreError>;

    /// Every tenant space, in ascending order.
    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError>;

    /// Makes the keyring hold exactly `rows`, in files of its own, and returns
    /// only after the files that held the old rows were unlinked. Its ledger
    /// begins anew with these rows as the first commit: the key that sealed the
    /// old one may be the one being replaced. Must not run beside another write
    /// to the keyring.
    async fn replace_keyring(
        &self,
        rows: Vec<(RowKey, Row)>,
        floor: Floor,
        seal: Arc<dyn LedgerSeal>,
    ) -> Result<(), StoreError>;

    /// Cheap: probes ask every few seconds.
    fn health(&self) -> Health;

    /// How long the piece of work has taken that is under way for longest, where
    /// there is one: what tells a writer that has stuck from one that waits.
    fn at_work_for(&self) -> Duration {
        Duration::ZERO
    }

    /// Bytes on disk. Looks at every file.
    async fn size(&self) -> u64;

    /// How much of what it takes on disk is in use, for each part that can be
    /// compacted. Reads every row.
    async fn usage(&self) -> Result<Vec<DatabaseUse>, StoreError>;

    /// Writes one part anew, so that what was deleted or replaced leaves the disk,
    /// while others read and write; returns after the old files were unlinked. A
    /// name that [`Store::usage`] does not answer is `None`. `progress` is given
    /// bytes done and bytes in all.
    async fn compact(
        &self,
        database: &str,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Option<Compacted>, StoreError>;

    /// The parts to which so much was written since they were opened or compacted that
    /// opening them after a crash would take long. Cheap.
    fn worn(&self) -> Vec<String> {
        Vec::new()
    }

    /// Refuses further writes, waits for those under way, and closes the files.
    /// Later calls answer [`StoreError::NotApplied`].
    async fn close(&self);
}
