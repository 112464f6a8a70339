//! A run of sorted names, packed into one allocation.
//!
//! A name's own map entry costs more than the name: some 160 bytes for a key
//! behind a pointer, its share of the tree and a window of two optional times.
//! Packed, and with all that it takes to find it, it takes some 12 bytes beside
//! the name (measured: 32 for one of 20), and 8 more for each end of a window
//! that it has. Blocks do not change: a write makes a new one in the place
//! of the old, so that a list under way looks at whole ones without a lock. Every
//! block that is alive is counted in the [`Budget`], whoever holds it.
//!
//! | bytes | of an entry |
//! | --- | --- |
//! | 1 | length of the name |
//! | 1 | which of the next are there (bits 4 to 6), and bytes of the version (bits 0 to 3) |
//! | 0 to 8 | version, without leading zeros |
//! | 0 or 8 | not before |
//! | 0 or 8 | expires on |
//! | 1 to 127 | name |

use std::ops::Range;
use std::sync::Arc;

use crate::domain::{SecretName, Timestamp, ValidityWindow};
use crate::vault::codec::{Malformed, Reader};

use super::Budget;

/// What a list knows of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::vault) struct Entry<'b> {
    pub(in crate::vault) name: &'b str,
    pub(in crate::vault) version: u64,
    /// `None`: this version was deleted while a scan was under way that may still
    /// come upon it.
    pub(in crate::vault) window: Option<ValidityWindow>,
}

const HAS_NOT_BEFORE: u8 = 0x10;
const HAS_EXPIRES_ON: u8 = 0x20;
const DELETED: u8 = 0x40;

impl<'b> Entry<'b> {
    const MAX_BYTES: usize = 2 + 8 + 2 * 8 + SecretName::MAX_LEN;

    fn pack(&self, out: &mut Vec<u8>) {
        let Self { name, version, window } = self;
        let version = version.to_be_bytes();
        let zeros = version.iter().take_while(|byte| **byte == 0).count();
        let version = version.get(zeros..).unwrap_or_default();
        let not_before = window.and_then(|window| window.not_before());
        let expires_on = window.and_then(|window| window.expires_on());
        let mut flags = length(version.len());
        flags |= if not_before.is_some() { HAS_NOT_BEFORE } else { 0 };
        flags |= if expires_on.is_some() { HAS_EXPIRES_ON } else { 0 };
        flags |= if window.is_none() { DELETED } else { 0 };
        out.extend_from_slice(&[length(name.len()), flags]);
        out.extend_from_slice(version);
        for time in [not_before, expires_on].into_iter().flatten() {
            out.extend_from_slice(&time.unix_micros().to_be_bytes());
        }
        out.extend_from_slice(name.as_bytes());
    }

    /// The name and the version of the next entry, and nothing else of it: a search
    /// passes over many.
    fn skim(fields: &mut Reader<'b>) -> Result<(&'b [u8], &'b [u8]), Malformed> {
        let (length, flags) = (usize::from(fields.byte()?), fields.byte()?);
        let version = fields.bytes(usize::from(flags & 0x0f))?;
        let times = (flags & (HAS_NOT_BEFORE | HAS_EXPIRES_ON)).count_ones() as usize;
        fields.bytes(times * 8)?;
        Ok((fields.bytes(length)?, version))
    }

    fn unpack(fields: &mut Reader<'b>) -> Result<Self, Malformed> {
        let (length, flags) = (usize::from(fields.byte()?), fields.byte()?);
        let version = fields.bytes(usize::from(flags & 0x0f))?;
        let version = number(version);
        let not_before = time_if(flags & HAS_NOT_BEFORE != 0, fields)?;
        let expires_on = time_if(flags & HAS_EXPIRES_ON != 0, fields)?;
        let name = std::str::from_utf8(fields.bytes(length)?).map_err(|_| Malformed)?;
        let window = match flags & DELETED {
            0 => Some(ValidityWindow::new(not_before, expires_on).map_err(|_| Malformed)?),
            _ => None,
        };
        Ok(Self { name, version, window })
    }
}

fn number(big_endian: &[u8]) -> u64 {
    big_endian.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn length(of: usize) -> u8 {
    u8::try_from(of).expect("a name is at most 127 bytes, a version 8")
}

fn time_if(there: bool, fields: &mut Reader<'_>) -> Result<Option<Timestamp>, Malformed> {
    there.then(|| fields.timestamp()).transpose()
}

/// At least one entry; sorted by name, each name once.
pub(in crate::vault) struct Block {
    bytes: Box<[u8]>,
    budget: Arc<Budget>,
}

impl Block {
    /// Blocks that grow beyond this are cut in half. A write copies one block; a
    /// list that begins somewhere reads half of one in vain.
    const MAX_BYTES: usize = 2048;
    /// What a block takes beside its bytes: this struct and the counts of its
    /// `Arc` (40 bytes), a pointer in a vector that may be half empty (16), and
    /// what the allocator adds to two allocations (24).
    const OVERHEAD: usize = 80;

    fn new(bytes: Box<[u8]>, budget: &Arc<Budget>) -> Arc<Self> {
        let block = Self { bytes, budget: budget.clone() };
        budget.grow(block.cost());
        Arc::new(block)
    }

    /// Bytes of memory. A fifth more than its bytes, for the gaps between blocks
    /// of unlike sizes: a million names took 1.09 to 1.22 times the rest in
    /// resident memory, filled in random order, replaced, and half of them deleted
    /// and others added.
    pub(super) fn cost(&self) -> usize {
        let bytes = self.bytes.len();
        bytes + bytes / 5 + Self::OVERHEAD
    }

    pub(in crate::vault) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        each(&self.bytes, Entry::unpack).map(|(_, entry)| entry)
    }

    pub(super) fn first(&self) -> &str {
        self.entries().next().map_or("", |entry| entry.name)
    }

    /// Whether `name` would be its first.
    pub(super) fn is_after(&self, name: &str) -> bool {
        let first = each(&self.bytes, Entry::skim).next();
        first.is_none_or(|(_, (first, _))| first > name.as_bytes())
    }

    /// Where `name` is, or would be, and its version if it is there.
    pub(super) fn find(&self, name: &str) -> (Range<usize>, Option<u64>) {
        let name = name.as_bytes();
        match each(&self.bytes, Entry::skim).find(|(_, (held, _))| *held >= name) {
            Some((span, (held, version))) if held == name => (span, Some(number(version))),
            Some((span, _)) => (span.start..span.start, None),
            None => (self.bytes.len()..self.bytes.len(), None),
        }
    }

    /// Where the last entry is, and its name.
    pub(super) fn last(&self) -> (Range<usize>, &str) {
        let last = each(&self.bytes, Entry::unpack).last();
        last.map_or((0..0, ""), |(span, entry)| (span, entry.name))
    }

    /// The blocks that take the place of `old`: its bytes with those in `span`
    /// replaced by `entry`.
    pub(super) fn replaced(
        old: Option<&Self>,
        span: Range<usize>,
        entry: Option<&Entry<'_>>,
        budget: &Arc<Budget>,
    ) -> [Option<Arc<Self>>; 2] {
        let old = old.map_or(&[][..], |block| &block.bytes);
        let mut packed = Vec::with_capacity(Entry::MAX_BYTES);
        if let Some(entry) = entry {
            entry.pack(&mut packed);
        }
        let before = old.get(..span.start).unwrap_or_default();
        let bytes = [before, &packed, old.get(span.end..).unwrap_or_default()].concat();
        if bytes.len() <= Self::MAX_BYTES {
            let is_left = !bytes.is_empty();
            return [is_left.then(|| Self::new(bytes.into(), budget)), None];
        }
        let (low, high) = bytes.split_at_checked(middle(&bytes)).unwrap_or((&bytes, &[]));
        [low, high].map(|half| (!half.is_empty()).then(|| Self::new(half.into(), budget)))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.budget.shrink(self.cost());
    }
}

/// The first boundary between entries past the middle.
fn middle(bytes: &[u8]) -> usize {
    let mut ends = each(bytes, Entry::skim).map(|(span, _)| span.end);
    ends.find(|end| end * 2 >= bytes.len()).unwrap_or(bytes.len())
}

/// Each entry, as `read` sees it, and where it is.
fn each<'b, T>(
    bytes: &'b [u8],
    read: impl Fn(&mut Reader<'b>) -> Result<T, Malformed>,
) -> impl Iterator<Item = (Range<usize>, T)> {
    let mut fields = Reader::new(bytes);
    std::iter::from_fn(move || {
        let start = bytes.len() - fields.remaining();
        if fields.remaining() == 0 {
            return None;
        }
        // These bytes never left this process.
        let entry = read(&mut fields).expect("only `Entry::pack` makes these bytes");
        Some((start..bytes.len() - fields.remaining(), entry))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment() -> impl Strategy<Value = Option<Timestamp>> {
        proptest::option::of(any::<i64>().prop_map(Timestamp::from_unix_micros))
    }

    fn window() -> impl Strategy<Value = Option<ValidityWindow>> {
        let window = (moment(), moment())
            .prop_filter_map("not empty", |(from, to)| ValidityWindow::new(from, to).ok());
        proptest::option::of(window)
    }

    fn of(entries: &[Entry<'_>], budget: &Arc<Budget>) -> Arc<Block> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| entry.pack(&mut bytes));
        Block::new(bytes.into(), budget)
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            all in proptest::collection::btree_map(
                "[A-Za-z0-9_-]{1,127}", (any::<u64>(), 0..64u32, window()), 1..9)
        ) {
            let entries: Vec<_> = all.iter().map(|(name, (version, shift, window))| {
                Entry { name, version: version >> shift, window: *window }
            }).collect();
            let block = of(&entries, &Arc::default());
            prop_assert!(block.entries().eq(entries.iter().copied()));
            prop_assert_eq!(block.first(), entries[0].name);
            for entry in &entries {
                let (span, version) = block.find(entry.name);
                prop_assert_eq!(version, Some(entry.version));
                let [left, none] = Block::replaced(Some(&block), span, None, &Arc::default());
                let left: Vec<_> = left.iter().flat_map(|left| left.entries()).collect();
                prop_assert!(none.is_none());
                prop_assert!(left.iter().eq(entries.iter().filter(|other| *other != entry)));
            }
        }
    }

    #[test]
    fn a_block_that_grows_is_cut_between_two_names() {
        let budget = Arc::default();
        let names: Vec<_> =
            (0..100).map(|number| format!("{number:03}{}", "x".repeat(37))).collect();
        let mut block: Option<Arc<Block>> = None;
        for name in &names {
            let entry = Entry { name, version: 7, window: Some(ValidityWindow::default()) };
            let end = block.as_ref().map_or(0, |block| block.bytes.len());
            let [low, high] = Block::replaced(block.as_deref(), end..end, Some(&entry), &budget);
            if let Some(high) = high {
                let low = low.unwrap();
                let both: Vec<_> = low.entries().chain(high.entries()).map(|e| e.name).collect();
                let added = names.iter().take(both.len());
                assert!(both.iter().eq(added));
                assert!(low.bytes.len().abs_diff(high.bytes.len()) < 100);
                return;
            }
            block = low;
        }
        panic!("it was never cut");
    }

    #[test]
    fn what_is_alive_is_counted_and_nothing_else() {
        let budget: Arc<Budget> = Arc::default();
        let entry = Entry { name: "name", version: 300, window: Some(ValidityWindow::default()) };
        let block = of(&[entry], &budget);
        assert_eq!(budget.used(), 8 + 1 + Block::OVERHEAD, "length, flags, version (2), name (4)");
        let reader = block.clone();
        drop(block);
        assert_eq!(budget.used(), reader.cost());
        drop(reader);
        assert_eq!(budget.used(), 0);
    }
}
