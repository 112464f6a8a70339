//! What sled makes of its log at an opening, made for it on all cores.
//!
//! sled keeps where each page stands in the log, and writes that down as a snapshot at
//! an opening; the next one reads the log from there on, on one core. Behind a
//! million writes that is most of a start after `kill -9`. But [`super::recovery`]
//! reads the same log just before, so it collects here what sled would find. The
//! snapshot that comes out of it is the one that sled would have written, byte for
//! byte, and sled goes on from its end.
//!
//! It knows the form of sled 0.34.7's snapshots, by that version's
//! `pagecache/snapshot.rs` and `serialization.rs`, and nothing of files.

use super::recovery::{Lsn, number};

/// A piece of a page in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub lsn: Lsn,
    /// In the file.
    pub at: u64,
    /// With the header of its message.
    pub len: u64,
}

/// What a message says of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// It is this.
    Whole,
    /// It is this too.
    Addition,
    /// There is none.
    Free,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    /// Nothing was read of it yet.
    Unknown,
    Free(Piece),
    Present {
        base: Piece,
        additions: Vec<Piece>,
    },
}

/// Where every page of a log stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// What lies before is in it.
    from: Lsn,
    pages: Vec<Page>,
}

/// What the count of pieces takes that a page has in a snapshot.
const MOST_PIECES: usize = u8::MAX as usize;

impl Index {
    /// As the contents of a snapshot say. `None` if they have no known form.
    pub fn parse(mut rest: &[u8]) -> Option<Self> {
        // One more than it is, since 0 would be none.
        let from = Lsn::try_from(signed(&mut rest)?.checked_sub(1)?).ok()?;
        // The segment that it ends in.
        unsigned(&mut rest)?;
        let mut pages = Vec::new();
        while let Some((&pieces, behind)) = rest.split_first() {
            rest = behind;
            pages.push(match pieces {
                0 => Page::Free(Piece { lsn: lsn(&mut rest)?, at: place(&mut rest)?, len: 0 }),
                pieces => {
                    let base = piece(&mut rest)?;
                    let additions = (1..pieces).map(|_| piece(&mut rest)).collect::<Option<_>>()?;
                    Page::Present { base, additions }
                }
            });
        }
        Some(Self { from, pages })
    }

    /// Takes note of a message that it does not cover yet; they come in the order of the
    /// log. Holds as many pages as the largest number says.
    pub fn note(&mut self, page: usize, says: Says, piece: Piece) {
        let is_new = self.pages.len() <= page;
        if is_new {
            self.pages.resize(page + 1, Page::Unknown);
        }
        let Some(page) = self.pages.get_mut(page) else { return };
        match (says, &mut *page) {
            (Says::Whole, _) => *page = Page::Present { base: piece, additions: Vec::new() },
            (Says::Free, _) => *page = Page::Free(Piece { len: 0, ..piece }),
            (Says::Addition, Page::Present { base, additions }) => {
                if additions.last().unwrap_or(base).lsn < piece.lsn {
                    additions.push(piece);
                }
            }
            // To what was written again since, further on.
            (Says::Addition, Page::Unknown | Page::Free(_)) => {
                if is_new {
                    self.pages.pop();
                }
            }
        }
    }

    /// What lies before is in it.
    pub fn from(&self) -> Lsn {
        self.from
    }

    /// The contents of the snapshot of a log that ends at `end`, in the segment at
    /// `segment`. `None` where sled would not write one: nothing is new, or what is
    /// new is no whole.
    pub fn encode(&self, end: Lsn, segment: u64) -> Option<Vec<u8>> {
        if end <= self.from {
            return None;
        }
        let mut encoded = Vec::new();
        encoded.extend((end.cast_signed() + 1).to_le_bytes());
        put_number(&mut encoded, segment + 1);
        for page in &self.pages {
            match page {
                Page::Unknown => return None,
                Page::Free(piece) => {
                    encoded.push(0);
                    put_place(&mut encoded, piece);
                }
                Page::Present { base, additions } => {
                    let pieces = Some(additions.len() + 1).filter(|pieces| *pieces <= MOST_PIECES);
                    encoded.push(u8::try_from(pieces?).ok()?);
                    for piece in [base].into_iter().chain(additions) {
                        put_place(&mut encoded, piece);
                        put_number(&mut encoded, piece.len);
                    }
                }
            }
        }
        Some(encoded)
    }
}

/// In its log, and not in a file of its own.
const INLINE: u8 = 0;

fn piece(rest: &mut &[u8]) -> Option<Piece> {
    Some(Piece { lsn: lsn(rest)?, at: place(rest)?, len: unsigned(rest)? })
}

fn place(rest: &mut &[u8]) -> Option<u64> {
    let (&INLINE, behind) = rest.split_first()? else { return None };
    *rest = behind;
    unsigned(rest)
}

fn lsn(rest: &mut &[u8]) -> Option<Lsn> {
    Lsn::try_from(signed(rest)?).ok()
}

fn signed(rest: &mut &[u8]) -> Option<i64> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(i64::from_le_bytes(*bytes))
}

fn unsigned(rest: &mut &[u8]) -> Option<u64> {
    let (value, behind) = number(rest)?;
    *rest = behind;
    Some(value)
}

fn put_place(encoded: &mut Vec<u8>, piece: &Piece) {
    encoded.extend(piece.lsn.cast_signed().to_le_bytes());
    encoded.push(INLINE);
    put_number(encoded, piece.at);
}

/// As [`number`] reads it.
fn put_number(encoded: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    match value {
        0..=240 => encoded.extend(bytes.first()),
        241..=2_287 => {
            let [low, high, ..] = (value - 240).to_le_bytes();
            encoded.extend([241 + high, low]);
        }
        2_288..=67_823 => {
            let [low, high, ..] = (value - 2_288).to_le_bytes();
            encoded.extend([249, high, low]);
        }
        _ => {
            let len = bytes.len() - (value.leading_zeros() / 8) as usize;
            // Three bytes at least are left above.
            encoded.push(247 + len as u8);
            encoded.extend(bytes.iter().take(len));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        let edges = [0, 240, 241, 2_287, 2_288, 67_823, 67_824];
        let powers = (16..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit]);
        for value in edges.into_iter().chain(powers).chain([u64::MAX]) {
            let mut encoded = Vec::new();
            put_number(&mut encoded, value);
            assert_eq!(number(&encoded), Some((value, [].as_slice())), "{value}");
        }
    }

    fn piece(lsn: Lsn) -> Piece {
        Piece { lsn, at: lsn + 7, len: 3 }
    }

    fn noted(says: &[(usize, Says)]) -> Index {
        let mut index = Index::default();
        for ((page, says), lsn) in says.iter().zip(20..) {
            index.note(*page, *says, piece(lsn));
        }
        index
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        use Says::{Addition, Free, Whole};
        let index = noted(&[(0, Whole), (1, Whole), (0, Addition), (2, Whole), (2, Free)]);
        let encoded = index.encode(1_000_000, 512).unwrap();
        let read = Index::parse(&encoded).unwrap();
        assert_eq!((read.from, &read.pages), (1_000_000, &index.pages));
        assert_eq!(read.encode(1_000_000, 512), None, "nothing is new");
        assert_eq!(read.encode(1_000_001, 512).unwrap()[9..], encoded[9..]);
        for len in 0..9 {
            assert_eq!(Index::parse(&encoded[..len]), None, "{len}");
        }
    }

    #[test]
    fn additions_to_what_is_not_there_are_passed_over() {
        use Says::{Addition, Free, Whole};
        assert_eq!(noted(&[(0, Whole), (1, Addition)]).pages.len(), 1);
        let index = noted(&[(1, Whole), (0, Addition)]);
        assert_eq!(index.pages.first(), Some(&Page::Unknown));
        assert_eq!(index.encode(99, 0), None, "a page of which nothing is known");
        let index = noted(&[(0, Whole), (0, Free), (0, Addition)]);
        assert_eq!(index.pages, [Page::Free(Piece { len: 0, ..piece(21) })]);
    }

    #[test]
    fn a_page_of_more_pieces_than_a_snapshot_can_count_is_left_to_sled() {
        let mut all = vec![(0, Says::Whole)];
        all.extend([(0, Says::Addition); 254]);
        assert!(noted(&all).encode(9_999, 0).is_some());
        all.push((0, Says::Addition));
        assert!(noted(&all).encode(9_999, 0).is_none());
    }
}
