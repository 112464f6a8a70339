//! What a transaction was to write that an error broke off.
//!
//! sled recovers a transaction whole or not at all. But one that an error breaks
//! off, it cancels: what of it was written by then stays, and the database is torn
//! (seen after a failed sync, in a drain of more than a segment). Its writers were
//! told that the outcome is unknown, so that finishing it is right; and as nothing
//! tells what stood there before, finishing it is all that can be done. This file
//! is written before the database is opened again, by whichever process, and goes
//! when it is whole. It holds rows as they are stored, and knows nothing of them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::engine::{Bytes, TreeWrites};
use super::files;

type Writes = Vec<(Bytes, Option<Bytes>)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redo {
    pub sequence: u64,
    /// By the name of the tree, in the order of the transaction.
    pub trees: Vec<(Bytes, Writes)>,
}

/// `TNRR`, a format version and three zero bytes. Behind it the sequence, the
/// number of trees, and for each its name and its writes: key, 0 or 1, and the
/// value for 1. All that has a length is preceded by it (4 bytes), integers are
/// big-endian, and the end is a CRC-32 (IEEE) of all before.
const MAGIC: [u8; 8] = *b"TNRR\x01\0\0\0";

fn path_in(generation: &Path) -> PathBuf {
    generation.join("redo")
}

impl Redo {
    pub fn of(sequence: u64, writes: &[TreeWrites]) -> Self {
        let named = |TreeWrites { tree, writes }: &TreeWrites| (tree.name(), writes.clone());
        Self { sequence, trees: writes.iter().map(named).collect() }
    }

    /// Durable when it returns.
    pub fn store(&self, generation: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path_in(generation))?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        files::sync_folder(generation)
    }

    /// `None` where there is none, or one that was not stored wholly.
    pub fn find(generation: &Path) -> io::Result<Option<Self>> {
        match fs::read(path_in(generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Self::decode(&read?)),
        }
    }

    pub fn remove(generation: &Path) -> io::Result<()> {
        match fs::remove_file(path_in(generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| files::sync_folder(generation)),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut encoded = MAGIC.to_vec();
        encoded.extend(self.sequence.to_be_bytes());
        put_length(&mut encoded, self.trees.len());
        for (name, writes) in &self.trees {
            put_bytes(&mut encoded, name);
            put_length(&mut encoded, writes.len());
            for (key, value) in writes {
                put_bytes(&mut encoded, key);
                encoded.push(u8::from(value.is_some()));
                if let Some(value) = value {
                    put_bytes(&mut encoded, value);
                }
            }
        }
        let checksum = crc32fast::hash(&encoded);
        encoded.extend(checksum.to_be_bytes());
        encoded
    }

    fn decode(encoded: &[u8]) -> Option<Self> {
        let (body, checksum) = encoded.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_be_bytes(*checksum) {
            return None;
        }
        let mut rest = body.strip_prefix(&MAGIC)?;
        let sequence = u64::from_be_bytes(*take_chunk(&mut rest)?);
        let trees = (0..take_length(&mut rest)?).map(|_| take_tree(&mut rest));
        let trees = trees.collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { sequence, trees })
    }
}

/// A drain is bounded far below 4 GiB.
fn put_length(encoded: &mut Vec<u8>, length: usize) {
    encoded.extend((length as u32).to_be_bytes());
}

fn put_bytes(encoded: &mut Vec<u8>, bytes: &[u8]) {
    put_length(encoded, bytes.len());
    encoded.extend(bytes);
}

fn take_chunk<'a, const LENGTH: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; LENGTH]> {
    let (chunk, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(chunk)
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    take_chunk(rest).map(|length| u32::from_be_bytes(*length) as usize)
}

fn take_bytes(rest: &mut &[u8]) -> Option<Bytes> {
    let length = take_length(rest)?;
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes.into())
}

fn take_tree(rest: &mut &[u8]) -> Option<(Bytes, Writes)> {
    let name = take_bytes(rest)?;
    let writes = (0..take_length(rest)?).map(|_| take_write(rest)).collect::<Option<_>>()?;
    Some((name, writes))
}

fn take_write(rest: &mut &[u8]) -> Option<(Bytes, Option<Bytes>)> {
    let key = take_bytes(rest)?;
    match take_chunk(rest)? {
        [0] => Some((key, None)),
        [1] => Some((key, Some(take_bytes(rest)?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Redo {
        let bytes = |text: &str| Bytes::from(text.as_bytes());
        let writes = vec![(bytes("a"), Some(bytes("value"))), (bytes("b"), None)];
        Redo { sequence: 258, trees: vec![(bytes("meta"), vec![]), (bytes("rows"), writes)] }
    }

    #[test]
    fn the_stored_form_is_frozen() {
        let expected = [
            b"TNRR\x01\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\x02".as_slice(),
            b"\0\0\0\x04meta\0\0\0\0",
            b"\0\0\0\x04rows\0\0\0\x02\0\0\0\x01a\x01\0\0\0\x05value\0\0\0\x01b\0",
        ]
        .concat();
        let checksum = crc32fast::hash(&expected).to_be_bytes();
        assert_eq!(example().encode(), [expected, checksum.to_vec()].concat());
    }

    #[test]
    fn what_was_stored_is_found_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Redo::find(folder.path()).unwrap(), None);
        example().store(folder.path()).unwrap();
        assert_eq!(Redo::find(folder.path()).unwrap(), Some(example()));
        Redo::remove(folder.path()).unwrap();
        Redo::remove(folder.path()).unwrap();
        assert_eq!(Redo::find(folder.path()).unwrap(), None);
    }

    #[test]
    fn one_that_is_cut_off_or_damaged_is_none() {
        let encoded = example().encode();
        for length in 0..encoded.len() {
            assert_eq!(Redo::decode(&encoded[..length]), None, "{length}");
        }
        for at in 0..encoded.len() {
            let mut damaged = encoded.clone();
            damaged[at] ^= 4;
            assert_eq!(Redo::decode(&damaged), None, "{at}");
        }
    }
}
