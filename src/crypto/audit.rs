//! Entries of an audit: encrypted where they are stored, and committed to, so that
//! who is shown one can tell whether it is the one that was stored.
//!
//! A block is `format (1) ‖ K (32) ‖ envelope`. The envelope is under the audit key of
//! the space, with the purpose `audit`, and holds `salt (32)` and each entry behind its
//! length (2, big-endian); in format 2 all behind the salt as a block of LZ4, after its
//! length before that (4, big-endian). What is stored of one entry is mostly what was
//! stored of the one before. With `text(i)` the bytes of entry `i`, from 0,
//!
//! ```text
//! salt(i) = HMAC-SHA256(salt, i as 4 bytes)
//! k(i)    = SHA-256("tenure/v1/audit-entry" ‖ k(i-1) ‖ salt(i) ‖ text(i))     k(-1) = 0
//! K       = k(n-1)
//! link    = SHA-256("tenure/v1/audit-link" ‖ chain id (16) ‖ link before (32) ‖
//!                   number of the first entry (8) ‖ n (4) ‖ format (1) ‖ K (32) ‖
//!                   SHA-256(envelope))
//! ```
//!
//! Every part but the last of each hash is of one length, so no two blocks, and no two
//! entries, hash alike. Without its salt, which is 256 random bits and inside the
//! envelope, an entry cannot be guessed from what is stored. With its salts an export
//! can be followed by anybody: that takes no key at all.
//!
//! The text of an entry is stored as it was committed to, so that no later version must
//! write the same bytes again to prove it.

use std::fmt;
use std::num::NonZeroU32;

use zeroize::Zeroizing;

use super::envelope::{Binding, Dek, Purpose, Undecryptable};
use super::ring;
use crate::domain::TenantId;

/// Of blocks of entries. Blocks of other kinds begin with another byte.
const PLAIN: u8 = 1;
const COMPRESSED: u8 = 2;
const LENGTH_LEN: usize = 4;
const HASH_LEN: usize = 32;
const HEADER_LEN: usize = 1 + HASH_LEN;
const SALT_LEN: usize = 32;

/// Encrypts the audit of one space. It outlives every rotation of its DEKs: blocks are
/// linked as they are, and none is ever written again.
pub struct AuditKey {
    tenant: TenantId,
    key: Dek,
}

/// An entry as it was stored, and by what it was committed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedEntry {
    pub text: String,
    pub salt: [u8; SALT_LEN],
}

impl AuditKey {
    /// What a block has beside the texts and [`AuditKey::ENTRY_OVERHEAD`] for each.
    pub const BLOCK_OVERHEAD: usize = HEADER_LEN + Dek::ENVELOPE_OVERHEAD + SALT_LEN;
    pub const ENTRY_OVERHEAD: usize = 2;
    /// What a block holds at most before it is compressed. It bounds what reading one
    /// takes.
    pub const MOST_BYTES: usize = 16 * 1024;

    pub(super) fn new(tenant: TenantId, key: Zeroizing<[u8; 32]>) -> Self {
        Self { tenant, key: Dek::derived(key) }
    }

    /// A block of the first of these texts: of as many as it takes to fill it, and at
    /// least of the first, which with the overheads must fit `max` bytes.
    ///
    /// # Panics
    /// If there is no text, or the first does not fit.
    pub fn pack(&self, texts: &[impl AsRef<str>], max: usize) -> (NonZeroU32, Vec<u8>) {
        self.pack_with_salt(texts, max, &ring::random())
    }

    fn pack_with_salt(
        &self,
        texts: &[impl AsRef<str>],
        max: usize,
        salt: &[u8; SALT_LEN],
    ) -> (NonZeroU32, Vec<u8>) {
        let Laid { format, taken, body } = lay_out(texts, max - Self::BLOCK_OVERHEAD);
        let plaintext = Zeroizing::new([salt.as_slice(), &body].concat());
        let (mut commitment, salts) = (Commitment::new(), Salts::of(salt));
        for (text, number) in texts.iter().take(taken).zip(0..) {
            commitment = commitment.with(&salts.of_entry(number), text.as_ref());
        }
        let envelope = self.key.encrypt(&self.binding(), &plaintext);
        let block = [&[format], commitment.as_bytes().as_slice(), &envelope].concat();
        let taken = u32::try_from(taken).ok().and_then(NonZeroU32::new);
        (taken.expect("at least one, and fewer than bytes"), block)
    }

    /// The entries of a block, if they are the ones that it commits to.
    pub fn read(&self, block: &[u8]) -> Result<Vec<OpenedEntry>, Undecryptable> {
        let (&[format], rest) = block.split_first_chunk().ok_or(Undecryptable)?;
        let (committed, envelope) = rest.split_first_chunk::<HASH_LEN>().ok_or(Undecryptable)?;
        let plaintext = self.key.decrypt(&self.binding(), envelope)?;
        let (salt, body) = plaintext.split_first_chunk().ok_or(Undecryptable)?;
        let expanded;
        let mut rest = match format {
            PLAIN => body,
            COMPRESSED => {
                expanded = expand(body)?;
                expanded.as_slice()
            }
            _ => return Err(Undecryptable),
        };
        let (mut entries, mut commitment) = (Vec::new(), Commitment::new());
        let salts = Salts::of(salt);
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            let (text, after) = after.split_at_checked(length).ok_or(Undecryptable)?;
            let text = String::from_utf8(text.to_vec()).map_err(|_| Undecryptable)?;
            let number = u32::try_from(entries.len()).map_err(|_| Undecryptable)?;
            let salt = salts.of_entry(number);
            commitment = commitment.with(&salt, &text);
            entries.push(OpenedEntry { text, salt });
            rest = after;
        }
        if rest.is_empty() && commitment.as_bytes() == committed {
            Ok(entries)
        } else {
            Err(Undecryptable)
        }
    }

    /// Where a block stands is said by its link, since its writer does not know it.
    fn binding(&self) -> Binding<'static> {
        Binding { purpose: Purpose::Audit, tenant: self.tenant, name: b"", version: 0 }
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(..)")
    }
}

/// Those of a block's entries.
struct Salts(ring::PassingMac);

impl Salts {
    fn of(salt: &[u8; SALT_LEN]) -> Self {
        Self(ring::PassingMac::new(salt))
    }

    fn of_entry(&self, number: u32) -> [u8; SALT_LEN] {
        self.0.tag(&number.to_be_bytes())
    }
}

/// How the first of some texts stand in a block. Nothing of it is wiped: the texts, which
/// are no secrets, lie about as they are until a commit has taken them.
struct Laid {
    format: u8,
    taken: usize,
    body: Vec<u8>,
}

/// As many as fit `room`, compressed where that helps.
fn lay_out(texts: &[impl AsRef<str>], room: usize) -> Laid {
    let plain = Joined::of(texts);
    // What repeats is most of it, so this is a good guess.
    let mut taken = plain.within(AuditKey::MOST_BYTES.min(4 * room));
    while taken > 1 {
        let body = compress(plain.first(taken));
        let smaller = body.len() < plain.first(taken).len();
        if smaller && body.len() <= room {
            return Laid { format: COMPRESSED, taken, body };
        }
        // As it went so far; at least one fewer.
        taken = (taken * room / body.len()).clamp(1, taken - 1);
        if plain.within(room) >= taken {
            break;
        }
    }
    let taken = plain.within(room);
    assert!(taken > 0, "the first entry fits a block");
    Laid { format: PLAIN, taken, body: plain.first(taken).to_vec() }
}

/// Texts, each behind its length, and where each ends.
struct Joined {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Joined {
    /// The first of these, until a block could hold no more.
    fn of(texts: &[impl AsRef<str>]) -> Self {
        let mut joined = Self { bytes: Vec::new(), ends: Vec::new() };
        for text in texts {
            let text = text.as_ref();
            let Ok(length) = u16::try_from(text.len()) else { break };
            if joined.bytes.len() + AuditKey::ENTRY_OVERHEAD + text.len() > AuditKey::MOST_BYTES {
                break;
            }
            joined.bytes.extend_from_slice(&length.to_be_bytes());
            joined.bytes.extend_from_slice(text.as_bytes());
            joined.ends.push(joined.bytes.len());
        }
        joined
    }

    /// How many fit so many bytes.
    fn within(&self, bytes: usize) -> usize {
        self.ends.partition_point(|end| *end <= bytes)
    }

    fn first(&self, texts: usize) -> &[u8] {
        let end = texts.checked_sub(1).and_then(|last| self.ends.get(last)).copied();
        self.bytes.get(..end.unwrap_or(0)).unwrap_or_default()
    }
}

fn compress(plain: &[u8]) -> Vec<u8> {
    let length = u32::try_from(plain.len()).expect("a block's entries are a few kilobytes");
    let compressed = lz4_flex::block::compress(plain);
    [length.to_be_bytes().as_slice(), &compressed].concat()
}

fn expand(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Undecryptable> {
    let (length, compressed) = body.split_first_chunk::<LENGTH_LEN>().ok_or(Undecryptable)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Undecryptable)?;
    if length > AuditKey::MOST_BYTES {
        return Err(Undecryptable);
    }
    let expanded = lz4_flex::block::decompress(compressed, length);
    let expanded = Zeroizing::new(expanded.map_err(|_| Undecryptable)?);
    if expanded.len() == length { Ok(expanded) } else { Err(Undecryptable) }
}

/// To the entries of a block, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment([u8; HASH_LEN]);

impl Commitment {
    pub const fn new() -> Self {
        Self([0; HASH_LEN])
    }

    /// And to one entry more.
    pub fn with(self, salt: &[u8; SALT_LEN], text: &str) -> Self {
        Self(ring::sha256_of(&[b"tenure/v1/audit-entry", &self.0, salt, text.as_bytes()]))
    }

    pub const fn as_bytes(&self) -> &[u8; HASH_LEN] {
        &self.0
    }
}

impl Default for Commitment {
    fn default() -> Self {
        Self::new()
    }
}

/// What of a block its link depends on: all that somebody must be shown who follows a
/// chain without the blocks. What is no block of ours has one too: whatever stands in a
/// store is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDigest<'b> {
    /// The first 33 bytes: of a block of entries its format and `K`.
    pub header: &'b [u8],
    /// The hash of the others.
    pub rest: [u8; HASH_LEN],
}

impl<'b> BlockDigest<'b> {
    pub fn of(block: &'b [u8]) -> Self {
        let (header, envelope) = block.split_at_checked(HEADER_LEN).unwrap_or((block, &[]));
        Self { header, rest: ring::sha256(envelope) }
    }

    /// Where the block stands behind `before`.
    pub fn link(
        &self,
        chain: TenantId,
        before: &[u8; HASH_LEN],
        first: u64,
        entries: u32,
    ) -> [u8; HASH_LEN] {
        ring::sha256_of(&[
            b"tenure/v1/audit-link",
            chain.as_bytes(),
            before,
            &first.to_be_bytes(),
            &entries.to_be_bytes(),
            self.header,
            &self.rest,
        ])
    }

    /// What a block of entries commits to them by; `None`: it is of another kind.
    pub fn commitment(&self) -> Option<&'b [u8; HASH_LEN]> {
        match self.header.split_first_chunk() {
            Some((&[PLAIN | COMPRESSED], commitment)) => commitment.try_into().ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([5; 16]);

    fn link(
        chain: TenantId,
        before: &[u8; HASH_LEN],
        first: u64,
        entries: u32,
        block: &[u8],
    ) -> [u8; HASH_LEN] {
        BlockDigest::of(block).link(chain, before, first, entries)
    }

    fn key() -> AuditKey {
        AuditKey::new(TENANT, Zeroizing::new([7; 32]))
    }

    /// All of these in one block.
    fn block_of(key: &AuditKey, texts: &[&str]) -> Vec<u8> {
        let (taken, block) = key.pack(texts, 3_600);
        assert_eq!(taken.get() as usize, texts.len());
        block
    }

    fn texts(entries: &[OpenedEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.text.as_str()).collect()
    }

    #[test]
    fn a_block_is_as_long_as_it_says() {
        let block = block_of(&key(), &["abc", "de"]);
        let overhead = AuditKey::BLOCK_OVERHEAD + 2 * AuditKey::ENTRY_OVERHEAD;
        assert_eq!(block.len(), overhead + 5);
    }

    #[test]
    fn entries_that_are_much_alike_take_a_part_of_their_bytes() {
        let like = |n: u32| {
            format!(
                "{{\"at\":\"2030-01-02T03:04:05.{n:06}Z\",\"op\":\"secret.write\",\"name\":\"n-{n}\",\"by\":\"token\",\"credential\":\"{}\"}}",
                "ab".repeat(64)
            )
        };
        let texts: Vec<_> = (0..100).map(like).collect();
        let (taken, block) = key().pack(&texts, 3_600);
        assert!(taken.get() > 40, "{taken}");
        let opened = key().read(&block).unwrap();
        assert_eq!(opened.len(), taken.get() as usize);
    }

    #[test]
    fn a_block_opens_under_its_own_key_alone() {
        let block = block_of(&key(), &["one"]);
        assert!(key().read(&block).is_ok());
        let elsewhere = AuditKey::new(TenantId::from_bytes([6; 16]), Zeroizing::new([7; 32]));
        let other = AuditKey::new(TENANT, Zeroizing::new([8; 32]));
        for key in [elsewhere, other] {
            assert_eq!(key.read(&block), Err(Undecryptable));
        }
    }

    #[test]
    fn nothing_of_an_entry_can_be_seen_and_equal_ones_differ() {
        let [one, other] = [block_of(&key(), &["db-password"]), block_of(&key(), &["db-password"])];
        assert!(!one.windows(4).any(|bytes| bytes == b"db-p"));
        assert_ne!(one[..HEADER_LEN], other[..HEADER_LEN], "the commitment is salted");
    }

    #[test]
    fn whoever_is_shown_entries_and_salts_comes_to_the_same_commitment() {
        let block = block_of(&key(), &["one", "two"]);
        let entries = key().read(&block).unwrap();
        let with =
            |commitment: Commitment, entry: &OpenedEntry| commitment.with(&entry.salt, &entry.text);
        let shown = entries.iter().fold(Commitment::new(), with);
        assert_eq!(shown.as_bytes().as_slice(), &block[1..HEADER_LEN]);
        let swapped = entries.iter().rev().fold(Commitment::new(), with);
        assert_ne!(swapped, shown);
    }

    #[test]
    fn a_link_depends_on_all_that_it_links() {
        let block = block_of(&key(), &["one"]);
        let first = link(TENANT, &[1; 32], 9, 1, &block);
        let mut others = vec![
            link(TenantId::from_bytes([6; 16]), &[1; 32], 9, 1, &block),
            link(TENANT, &[2; 32], 9, 1, &block),
            link(TENANT, &[1; 32], 8, 1, &block),
            link(TENANT, &[1; 32], 9, 2, &block),
        ];
        for place in 0..block.len() {
            let mut altered = block.clone();
            altered[place] ^= 1;
            others.push(link(TENANT, &[1; 32], 9, 1, &altered));
            others.push(link(TENANT, &[1; 32], 9, 1, &block[..place]));
        }
        assert!(!others.contains(&first));
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), 4 + 2 * block.len());
    }

    proptest! {
        #[test]
        fn blocks_hold_all_entries_in_their_order(
            given in prop::collection::vec("[a-z\"]{0,9}|.{0,60}", 0..200),
            max in 400..4_000usize,
        ) {
            let mut left = given.as_slice();
            while !left.is_empty() {
                let (taken, block) = key().pack(left, max);
                prop_assert!(block.len() <= max);
                let (packed, after) = left.split_at(taken.get() as usize);
                let entries = key().read(&block).unwrap();
                prop_assert_eq!(texts(&entries), packed);
                left = after;
            }
        }

        #[test]
        fn an_altered_block_does_not_open(place in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut block = block_of(&key(), &["one", "two"]);
            let place = place.index(block.len());
            prop_assert_eq!(key().read(&block[..place]), Err(Undecryptable));
            block[place] ^= 1 << bit;
            prop_assert_eq!(key().read(&block), Err(Undecryptable));
        }
    }
}
