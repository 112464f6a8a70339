//! What a commit and a page mean, decided once for every engine.
//!
//! An engine supplies the rows as they stand and stores what comes out of here;
//! the judging of preconditions, the ledger's arithmetic and the bounds of a
//! page are not its own, so engines cannot differ in them.

use std::collections::BTreeMap;

use super::{
    Appended, Batch, Block, Chain, Change, Entry, Ledger, LedgerSeal, Page, PlacedBlock, Row,
    RowKey, Scan, StoreError,
};
use crate::domain::Floor;

/// The effect of one batch, not yet stored. What it appends has no place yet: see
/// [`place`].
pub(super) struct Staged<'b> {
    /// What each row that changes becomes; `None` is deleted.
    pub rows: BTreeMap<&'b RowKey, Option<&'b Row>>,
    /// Whether the ledger keeps less of its chain.
    pub forgets: bool,
    /// The ledger after it, but for its chain, or `None` if the batch changes nothing at
    /// all.
    pub ledger: Option<Ledger>,
}

/// The memory a batch stands for, or `TooLarge`.
pub(super) fn weigh(batch: &Batch) -> Result<usize, StoreError> {
    let mut total = 0usize;
    for change in &batch.changes {
        let payload = match change {
            Change::Put { key, row } if row.bytes.len() <= Row::MAX_BYTES => {
                key.as_bytes().len() + row.bytes.len()
            }
            Change::Append(appended) if !appended.is_too_large() => appended.weight(),
            Change::Put { .. } | Change::Append(_) => return Err(StoreError::TooLarge),
            Change::Expect { key, .. } | Change::Delete { key } => key.as_bytes().len(),
            Change::Forget { .. } => 0,
        };
        // A change costs memory beyond its bytes; without a share for it, a
        // batch of a million empty changes would weigh nothing.
        total = total.saturating_add(payload + size_of::<Change>());
    }
    if total > Batch::MAX_BYTES { Err(StoreError::TooLarge) } else { Ok(total) }
}

/// Judges `batch` against the rows as they stand and accounts for its effect. Asks
/// for each row once.
pub(super) fn stage<'b>(
    batch: &'b Batch,
    mut ledger: Ledger,
    mut current: impl FnMut(&RowKey) -> Result<Option<Row>, StoreError>,
) -> Result<Staged<'b>, StoreError> {
    let mut expected = BTreeMap::new();
    for change in &batch.changes {
        if let Change::Expect { key, version } = change {
            let row = current(key)?;
            if row.as_ref().map(|row| row.version) != *version {
                return Err(StoreError::Conflict);
            }
            expected.insert(key, row);
        }
    }

    let mut rows: BTreeMap<&RowKey, Option<&Row>> = BTreeMap::new();
    for change in &batch.changes {
        let (key, new) = match change {
            Change::Expect { .. } | Change::Append(_) | Change::Forget { .. } => continue,
            Change::Put { key, row } => (key, Some(row)),
            Change::Delete { key } => (key, None),
        };
        let found;
        let old = match (rows.get(key), expected.get(key)) {
            (Some(staged), _) => *staged,
            (None, Some(row)) => row.as_ref(),
            (None, None) => {
                found = current(key)?;
                found.as_ref()
            }
        };
        if old == new {
            continue;
        }
        if let Some(old) = old {
            ledger.remove(&batch.seal.digest_row(key, old));
        }
        if let Some(new) = new {
            ledger.add(&batch.seal.digest_row(key, new));
            ledger.highest_version = ledger.highest_version.max(new.version);
        }
        rows.insert(key, new);
    }

    let (mut appends, mut forgets) = (false, false);
    for change in &batch.changes {
        match change {
            Change::Append(_) => appends = true,
            Change::Forget { kept_from } => {
                if !(ledger.kept_from.next..=ledger.chain.next).contains(&kept_from.next) {
                    return Err(StoreError::Conflict);
                }
                ledger.kept_from = *kept_from;
                forgets = true;
            }
            Change::Expect { .. } | Change::Put { .. } | Change::Delete { .. } => {}
        }
    }
    if rows.is_empty() && !appends && !forgets && batch.floor <= ledger.floor {
        return Ok(Staged { rows, forgets, ledger: None });
    }
    ledger.commits = ledger.commits.saturating_add(1);
    ledger.floor = ledger.floor.max(batch.floor);
    Ok(Staged { rows, forgets, ledger: Some(ledger) })
}

/// Packs entries into blocks, and decides where blocks stand.
///
/// # Panics
/// If a seal makes a block of no entry, or a larger one than a block may be: an engine
/// must not store it (see [`Row::MAX_BYTES`]).
pub(super) fn place(
    appended: impl IntoIterator<Item = Appended>,
    chain: &mut Chain,
    seal: &dyn LedgerSeal,
) -> Vec<PlacedBlock> {
    let mut placing = Placing { chain, seal, blocks: Vec::new() };
    let mut entries = Vec::new();
    for one in appended {
        match one {
            Appended::Entry(entry) => entries.push(entry),
            Appended::Block(block) => {
                placing.pack(&std::mem::take(&mut entries));
                placing.put(block);
            }
        }
    }
    placing.pack(&entries);
    placing.blocks
}

struct Placing<'c> {
    chain: &'c mut Chain,
    seal: &'c dyn LedgerSeal,
    blocks: Vec<PlacedBlock>,
}

impl Placing<'_> {
    fn pack(&mut self, mut entries: &[Entry]) {
        while !entries.is_empty() {
            let block = self.seal.pack(entries);
            let taken = usize::try_from(block.entries.get()).unwrap_or(usize::MAX);
            entries = entries.get(taken..).expect("a block of entries that there are");
            self.put(block);
        }
    }

    fn put(&mut self, block: Block) {
        assert!(block.bytes.len() <= Block::MAX_BYTES, "a block of too many entries");
        let first = self.chain.next;
        *self.chain = self.chain.with(&block, self.seal);
        self.blocks.push(PlacedBlock { first, link: self.chain.head, block });
    }
}

/// Fills one page, in ascending order of keys.
pub(super) struct PageBuilder {
    page: Page,
    limit: usize,
    bytes: usize,
}

impl PageBuilder {
    pub fn new(scan: &Scan) -> Self {
        Self { page: Page::default(), limit: scan.limit, bytes: 0 }
    }

    /// Whether the next row, if there is one, belongs to a later page.
    pub fn is_full(&self) -> bool {
        self.page.rows.len() >= self.limit || self.bytes >= Page::MAX_BYTES
    }

    pub fn push(&mut self, key: RowKey, row: Row) {
        self.bytes += key.as_bytes().len() + row.bytes.len();
        self.page.rows.push((key, row));
    }

    /// The page with rows left over behind it.
    pub fn with_more(mut self) -> Page {
        self.page.more = true;
        self.page
    }

    /// The last page.
    pub fn last(self) -> Page {
        self.page
    }
}

/// The ledger of a space that begins with exactly `rows`, as one commit.
pub(super) fn ledger_of(
    rows: &BTreeMap<RowKey, Row>,
    floor: Floor,
    seal: &dyn LedgerSeal,
) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger { commits: 1, floor, ..Ledger::EMPTY };
    for (key, row) in rows {
        if row.bytes.len() > Row::MAX_BYTES {
            return Err(StoreError::TooLarge);
        }
        ledger.add(&seal.digest_row(key, row));
        ledger.highest_version = ledger.highest_version.max(row.version);
    }
    Ok(ledger)
}
