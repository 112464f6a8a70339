//! The mark file: the number of the last drain that was acknowledged and how long the
//! log was then, kept apart from the database.
//!
//! A flipped bit can make sled roll back to an earlier state that is consistent
//! in itself. What the database says of itself cannot show that; a number beside
//! it can: a database behind its mark is corrupted. Two slots, 4 KiB apart so
//! that no torn page holds both, each with a checksum; the one that does not hold
//! the highest valid mark is overwritten, so a write that fails halfway leaves
//! the other.
//!
//! The length was not written by earlier versions.

use std::cmp::Reverse;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::files;

/// `TNRM`, a format version, three zero bytes, the sequence and a CRC-32 (IEEE)
/// of all before it, integers big-endian.
const SEQUENCE_BYTES: usize = 20;
/// With the length of the log behind it, and a CRC-32 of all before that.
const SLOT_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"TNRM\x01\0\0\0";
const SLOTS: [u64; 2] = [0, 4096];
const FILE_BYTES: u64 = 8192;

pub(super) struct Mark {
    file: File,
    /// What each slot holds, if it is valid.
    slots: [Option<Held>; 2],
    /// What was written but maybe not synced, so that a slot may hold it or not.
    doubtful: Option<Held>,
    #[cfg(test)]
    folder: PathBuf,
}

/// Ordered by which one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    sequence: u64,
    /// Of one sequence the shorter one counts: each slot was true when it was written.
    log_bytes: Option<Reverse<u64>>,
}

/// Why there is no mark.
#[derive(Debug, thiserror::Error)]
pub(super) enum MarkError {
    #[error("its mark file is missing")]
    Missing,
    #[error("both slots of its mark file are damaged")]
    Damaged,
    #[error("its mark file cannot be read: {0}")]
    Io(#[from] io::Error),
}

fn path_in(generation: &Path) -> PathBuf {
    generation.join("mark")
}

impl Mark {
    /// A mark of 0, durable when this returns.
    pub fn create(generation: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path_in(generation))?;
        file.set_len(FILE_BYTES)?;
        for slot in SLOTS {
            file.write_all_at(&encode_sequence(0), slot)?;
        }
        file.sync_all()?;
        files::sync_folder(generation)?;
        let nothing = Some(Held { sequence: 0, log_bytes: None });
        Ok(Self::over(file, [nothing; 2], generation))
    }

    pub fn open(generation: &Path) -> Result<Self, MarkError> {
        let file = match OpenOptions::new().read(true).write(true).open(path_in(generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MarkError::Missing);
            }
            opened => opened?,
        };
        let slots = [read_slot(&file, SLOTS[0])?, read_slot(&file, SLOTS[1])?];
        if slots == [None, None] {
            return Err(MarkError::Damaged);
        }
        Ok(Self::over(file, slots, generation))
    }

    #[cfg_attr(not(test), expect(unused_variables, reason = "where tests ask for a failure"))]
    fn over(file: File, slots: [Option<Held>; 2], generation: &Path) -> Self {
        Self {
            file,
            slots,
            doubtful: None,
            #[cfg(test)]
            folder: generation.to_owned(),
        }
    }

    fn held(&self) -> Option<Held> {
        let [first, second] = self.slots;
        first.max(second)
    }

    pub fn sequence(&self) -> u64 {
        self.held().map_or(0, |held| held.sequence)
    }

    /// How long the log was at least, durably. `None` if that was not written.
    pub fn log_bytes(&self) -> Option<u64> {
        let Reverse(bytes) = self.held()?.log_bytes?;
        Some(bytes)
    }

    /// Durable when it returns. Of the sequence that it has, both slots say the length then.
    pub fn advance(&mut self, sequence: u64, log_bytes: u64) -> io::Result<()> {
        let new = Held { sequence, log_bytes: Some(Reverse(log_bytes)) };
        let (lesser, is_same) = (self.lesser(), sequence == self.sequence());
        self.write(lesser, new)?;
        if is_same { self.write(1 - lesser, new) } else { Ok(()) }
    }

    /// No slot says more than that then, so that either may be lost. Durable when it returns.
    pub fn shorten(&mut self, log_bytes: u64) -> io::Result<()> {
        let [first, second] = self.slots;
        let held = [first, second, self.doubtful];
        let says_more =
            |held: &Held| held.log_bytes.is_some_and(|Reverse(bytes)| bytes > log_bytes);
        if held.iter().flatten().any(says_more) {
            self.advance(self.sequence(), log_bytes)?;
        }
        Ok(())
    }

    /// `None` is less than any mark, so a damaged slot is the first to go.
    fn lesser(&self) -> usize {
        let [first, second] = self.slots;
        usize::from(first > second)
    }

    fn write(&mut self, slot: usize, new: Held) -> io::Result<()> {
        #[cfg(test)]
        tests::fail(&self.folder.join(tests::FAIL_ONCE))?;
        let (held, at) = match &mut self.slots {
            [first, _] if slot == 0 => (first, SLOTS[0]),
            [_, second] => (second, SLOTS[1]),
        };
        *held = None;
        self.doubtful = Some(new);
        self.file.write_all_at(&encode(new), at)?;
        #[cfg(test)]
        tests::fail(&self.folder.join(tests::FAIL_SYNC_ONCE))?;
        self.file.sync_data()?;
        *held = Some(new);
        self.doubtful = None;
        Ok(())
    }
}

fn encode_sequence(sequence: u64) -> [u8; SEQUENCE_BYTES] {
    let mut slot = [0; SEQUENCE_BYTES];
    let (head, checksum) = slot.split_at_mut(16);
    let (magic, number) = head.split_at_mut(8);
    magic.copy_from_slice(&MAGIC);
    number.copy_from_slice(&sequence.to_be_bytes());
    checksum.copy_from_slice(&crc32fast::hash(head).to_be_bytes());
    slot
}

fn encode(held: Held) -> Vec<u8> {
    let mut slot = encode_sequence(held.sequence).to_vec();
    if let Some(Reverse(bytes)) = held.log_bytes {
        slot.extend(bytes.to_be_bytes());
        slot.extend(crc32fast::hash(&slot).to_be_bytes());
    }
    slot
}

/// `None` for a slot that is damaged or cut off.
fn read_slot(file: &File, at: u64) -> io::Result<Option<Held>> {
    let mut slot = [0; SLOT_BYTES];
    match file.read_exact_at(&mut slot, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let number = |at: usize| {
        let bytes = slot.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    };
    let (sequence, log_bytes) = (number(MAGIC.len()), number(SEQUENCE_BYTES));
    let whole = Held { sequence, log_bytes: Some(Reverse(log_bytes)) };
    let held = if slot == *encode(whole) { whole } else { Held { log_bytes: None, ..whole } };
    Ok(slot.starts_with(&encode(held)).then_some(held))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file of this name beside the mark makes its next write fail.
    pub const FAIL_ONCE: &str = "fail-once";
    /// The same, once it was written.
    pub const FAIL_SYNC_ONCE: &str = "fail-sync-once";

    pub fn fail(asked: &Path) -> io::Result<()> {
        match std::fs::remove_file(asked) {
            Ok(()) => Err(io::Error::other("a failure the test asked for")),
            Err(_) => Ok(()),
        }
    }

    fn damage(folder: &Path, at: u64) {
        let file = OpenOptions::new().write(true).open(path_in(folder)).unwrap();
        file.write_all_at(b"damage", at + 6).unwrap();
    }

    fn marked(sequences: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut mark = Mark::create(folder.path()).unwrap();
        for sequence in sequences {
            mark.advance(*sequence, 1_000 + sequence).unwrap();
        }
        folder
    }

    #[test]
    fn a_mark_is_found_again() {
        assert_eq!(Mark::open(marked(&[]).path()).unwrap().sequence(), 0);
        assert_eq!(Mark::open(marked(&[1]).path()).unwrap().sequence(), 1);
        assert_eq!(Mark::open(marked(&[1, 2, 3, 4]).path()).unwrap().sequence(), 4);
    }

    fn found(folder: &Path) -> (u64, Option<u64>) {
        let mark = Mark::open(folder).unwrap();
        (mark.sequence(), mark.log_bytes())
    }

    #[test]
    fn the_length_of_the_log_is_found_again() {
        assert_eq!(found(marked(&[]).path()), (0, None));
        assert_eq!(found(marked(&[1, 2]).path()), (2, Some(1_002)));
    }

    #[test]
    fn of_one_sequence_the_shortest_length_counts() {
        let folder = marked(&[1, 2]);
        let mut mark = Mark::open(folder.path()).unwrap();
        for shorter in [900, 800, 700] {
            mark.shorten(shorter).unwrap();
            assert_eq!((mark.sequence(), mark.log_bytes()), (2, Some(shorter)));
            assert_eq!(found(folder.path()), (2, Some(shorter)));
            assert_eq!(mark.slots[0], mark.slots[1], "either may be lost");
        }
        mark.shorten(900).unwrap();
        assert_eq!(found(folder.path()), (2, Some(700)), "it says no more already");
        mark.advance(3, 5_000).unwrap();
        assert_eq!(found(folder.path()), (3, Some(5_000)));
        mark.advance(3, 9_000).unwrap();
        assert_eq!(found(folder.path()), (3, Some(9_000)), "what grew beside it");
        assert_eq!(mark.slots[0], mark.slots[1]);
    }

    /// As earlier versions wrote it.
    #[test]
    fn a_mark_without_a_length_is_a_mark() {
        let folder = marked(&[1, 2]);
        let file = OpenOptions::new().write(true).open(path_in(folder.path())).unwrap();
        file.write_all_at(&encode_sequence(3), SLOTS[0]).unwrap();
        assert_eq!(found(folder.path()), (3, None));
        let mut mark = Mark::open(folder.path()).unwrap();
        mark.shorten(77).unwrap();
        assert_eq!(found(folder.path()), (3, Some(77)), "the other slot said more");
    }

    #[test]
    fn a_damaged_length_leaves_the_sequence() {
        let folder = marked(&[1, 2]);
        let file = OpenOptions::new().write(true).open(path_in(folder.path())).unwrap();
        file.write_all_at(b"x", SLOTS[1] + SEQUENCE_BYTES as u64).unwrap();
        assert_eq!(found(folder.path()), (2, None));
    }

    #[test]
    fn one_damaged_slot_leaves_the_other() {
        for (slot, left) in [(SLOTS[0], 2), (SLOTS[1], 1)] {
            // Slot 0 holds 1 and slot 1 holds 2.
            let folder = marked(&[1, 2]);
            damage(folder.path(), slot);
            let mut mark = Mark::open(folder.path()).unwrap();
            assert_eq!(mark.sequence(), left);
            mark.advance(9, 0).unwrap();
            mark.advance(10, 0).unwrap();
            let mark = Mark::open(folder.path()).unwrap();
            assert_eq!(mark.slots.iter().flatten().count(), 2);
            assert_eq!(mark.sequence(), 10);
        }
    }

    #[test]
    fn a_write_cut_off_halfway_leaves_the_mark_before_it() {
        let folder = marked(&[7, 8]);
        // The slot that the next write takes is the one that holds 7.
        damage(folder.path(), SLOTS[0]);
        assert_eq!(Mark::open(folder.path()).unwrap().sequence(), 8);
    }

    #[test]
    fn missing_and_doubly_damaged_marks_are_errors() {
        let folder = marked(&[1, 2]);
        for slot in SLOTS {
            damage(folder.path(), slot);
        }
        assert!(matches!(Mark::open(folder.path()), Err(MarkError::Damaged)));
        std::fs::write(path_in(folder.path()), b"").unwrap();
        assert!(matches!(Mark::open(folder.path()), Err(MarkError::Damaged)));
        std::fs::remove_file(path_in(folder.path())).unwrap();
        assert!(matches!(Mark::open(folder.path()), Err(MarkError::Missing)));
    }
}
