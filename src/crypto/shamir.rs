//! Shares of a KEK: of n, any k make it up again, and fewer say nothing of it
//! (A. Shamir, "How to share a secret", 1979).
//!
//! Each byte of the KEK is the value at 0 of a polynomial of degree k - 1 over
//! GF(2^8), the field of AES, whose other coefficients are random; share number x holds
//! the 32 values at x. Putting shares together always gives 32 bytes: whether they are
//! the KEK, only the store's check value tells.
//!
//! A share is one line of text, and case, spaces and hyphens in it do not matter:
//!
//! ```text
//! TENURE-SHARE-1-XXXX-XXXX-…   base32 of Crockford, of
//! store id (16) ‖ set id (8) ‖ threshold (1) ‖ number (1) ‖ values (32) ‖ checksum (7)
//! checksum = the first 7 bytes of SHA-256("tenure/share/1" ‖ all before)
//! ```
//!
//! The checksum finds typos and proves nothing; who has it has the share that it is a
//! part of.

use std::convert::Infallible;
use std::fmt;

use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use super::kek_origin::ShareSet;
use super::keys::{Kek, StoreId};
use super::ring::{random, sha256};

impl ShareSet {
    /// More people than that do not keep a key.
    pub const MOST_SHARES: u8 = 32;

    /// A new set. A threshold of one would be as many copies of the KEK.
    pub fn draw(threshold: u8, shares: u8) -> Result<Self, NoSuchSet> {
        if threshold < 2 || threshold > shares || shares > Self::MOST_SHARES {
            return Err(NoSuchSet);
        }
        Ok(Self { id: random(), threshold, shares })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are at most 32 shares, and the threshold is at least 2 and at most their number")]
pub struct NoSuchSet;

/// One share of a KEK. It wipes itself.
pub struct Share {
    store: StoreId,
    set: [u8; 8],
    threshold: u8,
    number: u8,
    values: Zeroizing<[u8; 32]>,
}

/// A text that is no share. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareFormatError {
    #[error("this is not a share: one begins with TENURE-SHARE-1-")]
    NotAShare,
    #[error("this share is of another version of tenure than this one, which knows version 1")]
    OtherVersion,
    #[error("this share is not whole: behind TENURE-SHARE-1- it has {found} characters, not 104")]
    Length { found: usize },
    #[error(
        "there is a typo in this share: its checksum does not fit; compare it, character by \
         character, with what was written down"
    )]
    Typo,
}

/// Shares of which no KEK can be made: too few, or one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these shares do not belong together")]
pub struct Uncombinable;

/// Splits a KEK into the shares of a set.
///
/// # Panics
/// If the set is none that [`ShareSet::draw`] makes.
pub fn split(kek: &Kek, store: StoreId, set: ShareSet) -> Vec<Share> {
    split_by(kek, store, set, System)
}

fn split_by(kek: &Kek, store: StoreId, set: ShareSet, random: impl CryptoRng) -> Vec<Share> {
    let ShareSet { id, threshold, shares } = set;
    let points = Gf256::split_bytes(threshold.into(), shares.into(), kek.bytes(), random)
        .expect("a set that was drawn has a threshold within its number of shares");
    let points = Zeroizing::new(points);
    let share = |point: &Vec<u8>| {
        let (number, values) = point.split_first().expect("a point has a number");
        let values = Zeroizing::new(values.try_into().expect("and a value for each byte"));
        Share { store, set: id, threshold, number: *number, values }
    };
    points.iter().map(share).collect()
}

/// Puts shares of one set together. What comes of it is unproven.
pub fn combine(shares: &[Share]) -> Result<Kek, Uncombinable> {
    let point = |share: &Share| {
        let mut point = Vec::with_capacity(1 + share.values.len());
        point.push(share.number);
        point.extend_from_slice(share.values.as_ref());
        point
    };
    let points = Zeroizing::new(shares.iter().map(point).collect::<Vec<_>>());
    let bytes = Gf256::combine_bytes(&*points).map(Zeroizing::new).map_err(|_| Uncombinable)?;
    bytes.as_slice().try_into().map(Kek::copied).map_err(|_| Uncombinable)
}

/// The operating system's randomness, as the library asks for it.
struct System;

impl TryRng for System {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_ne_bytes(random()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_ne_bytes(random()))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        to.fill_with(|| u8::from_ne_bytes(random()));
        Ok(())
    }
}

impl TryCryptoRng for System {}

const PREFIX: &str = "TENURE-SHARE-";
const VERSION: &str = "1";
/// Without I, L, O and U, so that no two look alike.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHECKSUM_BYTES: usize = 7;
const BYTES: usize = 16 + 8 + 1 + 1 + 32 + CHECKSUM_BYTES;
/// 5 bytes are 8 characters, and of both there is a whole number.
const CHARACTERS: usize = BYTES / 5 * 8;
const GROUP: usize = 4;

impl Share {
    pub fn parse(text: &str) -> Result<Self, ShareFormatError> {
        let text = text.trim();
        let (prefix, rest) = text.split_at_checked(PREFIX.len()).unwrap_or(("", ""));
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return Err(ShareFormatError::NotAShare);
        }
        let (version, body) = rest.split_once('-').ok_or(ShareFormatError::NotAShare)?;
        if version != VERSION {
            return Err(ShareFormatError::OtherVersion);
        }
        Self::from_bytes(&decode(body)?)
    }

    /// As [`Share::parse`] reads it. For its holder alone.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(CHARACTERS * 2));
        text.push_str(PREFIX);
        text.push_str(VERSION);
        let bytes = self.to_bytes();
        let characters = bytes.as_chunks::<5>().0.iter().flat_map(|chunk| encode(*chunk));
        for (at, character) in characters.enumerate() {
            if at % GROUP == 0 {
                text.push('-');
            }
            text.push(character);
        }
        text
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let Self { store, set, threshold, number, values } = self;
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES));
        bytes.extend_from_slice(store.as_bytes());
        bytes.extend_from_slice(set);
        bytes.extend_from_slice(&[*threshold, *number]);
        bytes.extend_from_slice(values.as_ref());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, ShareFormatError> {
        let (fields, found) = bytes.split_last_chunk().ok_or(ShareFormatError::Typo)?;
        if checksum(fields) != *found {
            return Err(ShareFormatError::Typo);
        }
        let mut rest = fields;
        let store = StoreId::from_bytes(*take(&mut rest)?);
        let set = *take(&mut rest)?;
        let [threshold, number] = *take(&mut rest)?;
        let values = Zeroizing::new(*take(&mut rest)?);
        Ok(Self { store, set, threshold, number, values })
    }

    pub fn store(&self) -> StoreId {
        self.store
    }

    /// Of which set it is.
    pub fn set(&self) -> [u8; 8] {
        self.set
    }

    /// How many it takes, as the share says.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// From 1 on.
    pub fn number(&self) -> u8 {
        self.number
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share {{ number: {}, .. }}", self.number)
    }
}

fn take<'b, const N: usize>(rest: &mut &'b [u8]) -> Result<&'b [u8; N], ShareFormatError> {
    let (taken, left) = rest.split_first_chunk().ok_or(ShareFormatError::Typo)?;
    *rest = left;
    Ok(taken)
}

fn checksum(fields: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let message = Zeroizing::new([b"tenure/share/1", fields].concat());
    let hash = sha256(&message);
    *hash.first_chunk().expect("a hash has 32 bytes")
}

/// The most significant bits first.
fn encode(chunk: [u8; 5]) -> [char; 8] {
    let bits = chunk.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    std::array::from_fn(|place| {
        let digit = (bits >> (35 - 5 * place)) & 31;
        char::from(*ALPHABET.get(digit as usize).expect("5 bits are below 32"))
    })
}

fn decode(body: &str) -> Result<Zeroizing<Vec<u8>>, ShareFormatError> {
    let written = || body.chars().filter(|c| *c != '-' && !c.is_whitespace());
    let found = written().count();
    if found != CHARACTERS {
        return Err(ShareFormatError::Length { found });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES));
    let (mut bits, mut held) = (0_u64, 0);
    for character in written() {
        bits = bits << 5 | digit(character).ok_or(ShareFormatError::Typo)?;
        held += 1;
        if held == 8 {
            bytes.extend(bits.to_be_bytes().into_iter().skip(3));
            (bits, held) = (0, 0);
        }
    }
    Ok(bytes)
}

/// As Crockford has it read: O is 0, I and L are 1.
fn digit(character: char) -> Option<u64> {
    let meant = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let place = ALPHABET.iter().position(|known| char::from(*known) == meant)?;
    u64::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STORE: StoreId = StoreId::from_bytes([7; 16]);

    fn kek(byte: u8) -> Kek {
        Kek::parse(&hex::encode([byte; 32])).unwrap()
    }

    fn text_of(kek: &Kek) -> String {
        kek.to_text().to_string()
    }

    /// Shares by their place.
    fn chosen(shares: &[Share], places: &[usize]) -> Vec<Share> {
        places.iter().map(|place| Share::parse(&shares[*place].to_text()).unwrap()).collect()
    }

    #[test]
    fn any_three_of_five_make_the_kek_and_two_do_not() {
        let set = ShareSet::draw(3, 5).unwrap();
        let shares = split(&kek(9), STORE, set);
        assert_eq!(shares.iter().map(Share::number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        for a in 0..5 {
            for b in a + 1..5 {
                for c in b + 1..5 {
                    let made = combine(&chosen(&shares, &[c, a, b])).unwrap();
                    assert_eq!(text_of(&made), text_of(&kek(9)));
                }
                let made = combine(&chosen(&shares, &[a, b])).unwrap();
                assert_ne!(text_of(&made), text_of(&kek(9)));
            }
        }
    }

    #[test]
    fn one_share_twice_makes_nothing() {
        let shares = split(&kek(9), STORE, ShareSet::draw(2, 2).unwrap());
        assert_eq!(combine(&chosen(&shares, &[0, 0])).unwrap_err(), Uncombinable);
        assert_eq!(combine(&chosen(&shares, &[0])).unwrap_err(), Uncombinable);
        assert_eq!(combine(&[]).unwrap_err(), Uncombinable);
    }

    /// A zero must be as likely as any other coefficient: else shares say something of
    /// the KEK (RUSTSEC-2024-0398). With two shares of a threshold of two, a share
    /// equals the KEK's byte just where the coefficient is zero.
    #[test]
    fn a_coefficient_may_be_zero() {
        let zeros = (0..200).flat_map(|_| {
            let shares = split(&kek(0x5a), STORE, ShareSet::draw(2, 2).unwrap());
            shares[0].values.to_vec()
        });
        let zeros = zeros.filter(|value| *value == 0x5a).count();
        // 25 of 6,400 are expected; none at all has a chance of 1e-11.
        assert!((1..100).contains(&zeros), "{zeros}");
    }

    #[test]
    fn sets_that_make_no_sense_are_not_drawn() {
        for (threshold, shares) in [(0, 5), (1, 5), (6, 5), (2, 1), (2, 33), (0, 0)] {
            assert_eq!(ShareSet::draw(threshold, shares), Err(NoSuchSet));
        }
        for (threshold, shares) in [(2, 2), (3, 5), (32, 32)] {
            let (one, two) = (ShareSet::draw(threshold, shares), ShareSet::draw(threshold, shares));
            assert_ne!(one.unwrap().id, two.unwrap().id);
            assert_eq!(split(&kek(1), STORE, one.unwrap()).len(), usize::from(shares));
        }
    }

    #[test]
    fn a_share_is_one_line_that_may_be_typed_in_any_case() {
        let set = ShareSet::draw(2, 3).unwrap();
        let share = &split(&kek(3), STORE, set)[1];
        let text = share.to_text();
        assert!(text.starts_with("TENURE-SHARE-1-") && text.len() == 144, "{}", text.len());
        assert!(!text[14..].contains(['I', 'L', 'O', 'U']));
        let spaced = text.replace("-1-", "-1- ").to_lowercase().replace('0', "o");
        for typed in [text.to_string(), spaced.replace('1', "l").replacen("-l-", "-1-", 1)] {
            let read = Share::parse(&format!("  {typed}\n")).unwrap();
            assert_eq!(read.values, share.values);
            assert_eq!((read.store(), read.set()), (STORE, set.id));
            assert_eq!((read.threshold(), read.number()), (2, 2));
        }
    }

    #[test]
    fn each_way_of_not_being_a_share_is_told() {
        let text = split(&kek(3), STORE, ShareSet::draw(2, 3).unwrap())[0].to_text();
        let told = |text: &str| Share::parse(text).unwrap_err();
        for other in ["", "TENURE", &"4a".repeat(32), "TENURE-SHARE-1", "ä".repeat(80).as_str()] {
            assert_eq!(told(other), ShareFormatError::NotAShare);
        }
        assert_eq!(told(&text.replace("-1-", "-2-")), ShareFormatError::OtherVersion);
        assert_eq!(told(&text[..text.len() - 1]), ShareFormatError::Length { found: 103 });
        assert_eq!(told(&format!("{}0", *text)), ShareFormatError::Length { found: 105 });
        let last = text.chars().last().unwrap();
        for other in ['0', '1', 'U', 'ä'].into_iter().filter(|other| *other != last) {
            let typo = format!("{}{other}", &text[..text.len() - 1]);
            assert_eq!(told(&typo), ShareFormatError::Typo);
            assert!(!told(&typo).to_string().contains(&text[15..19]));
        }
    }

    #[test]
    fn a_share_is_never_printed() {
        let share = &split(&kek(3), STORE, ShareSet::draw(2, 3).unwrap())[0];
        assert_eq!(format!("{share:?}"), "Share { number: 1, .. }");
    }

    /// Counts, so that the shares are the same each time.
    struct Counting(u8);

    impl TryRng for Counting {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            self.0 = self.0.wrapping_add(1);
            Ok(self.0.into())
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            self.try_next_u32().map(u64::from)
        }

        fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
            for byte in to {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
            Ok(())
        }
    }

    impl TryCryptoRng for Counting {}

    const FROZEN: &str = include_str!("../../tests/vectors/shares-1.txt");

    #[test]
    fn frozen_shares_make_the_kek_that_they_were_made_of() {
        let frozen: Vec<_> = FROZEN.lines().map(|line| Share::parse(line).unwrap()).collect();
        for places in [[0, 1, 2], [4, 3, 2], [0, 2, 4]] {
            let made = combine(&chosen(&frozen, &places)).unwrap();
            assert_eq!(text_of(&made), "4a".repeat(32));
        }
        let set = ShareSet { id: *b"set id 1", threshold: 3, shares: 5 };
        let store = StoreId::from_bytes(std::array::from_fn(|place| place as u8));
        let again = split_by(&kek(0x4a), store, set, Counting(0));
        let again: Vec<_> = again.iter().map(|share| share.to_text().to_string()).collect();
        assert_eq!(again.join("\n") + "\n", FROZEN);
    }

    proptest! {
        #[test]
        fn a_share_survives_its_text(
            (store, set) in any::<([u8; 16], [u8; 8])>(),
            (threshold, number, values) in any::<(u8, u8, [u8; 32])>(),
        ) {
            let store = StoreId::from_bytes(store);
            let share = Share { store, set, threshold, number, values: Zeroizing::new(values) };
            let read = Share::parse(&share.to_text()).unwrap();
            prop_assert_eq!(&*read.to_bytes(), &*share.to_bytes());
        }

        #[test]
        fn any_text_is_a_share_or_an_error(text in "(TENURE-SHARE-1-)?[0-9A-Za-z -]{0,150}|.*") {
            let _ = Share::parse(&text);
        }

        #[test]
        fn one_wrong_character_is_found(place in 0_usize..104, by in 1_usize..32) {
            let set = ShareSet { id: [1; 8], threshold: 2, shares: 2 };
            let text = split(&kek(3), STORE, set)[0].to_text();
            let (prefix, body) = text.split_at(15);
            let mut characters: Vec<_> = body.chars().filter(|c| *c != '-').collect();
            let now = ALPHABET.iter().position(|c| char::from(*c) == characters[place]).unwrap();
            characters[place] = char::from(ALPHABET[(now + by) % 32]);
            let typo = prefix.to_owned() + &characters.into_iter().collect::<String>();
            prop_assert_eq!(Share::parse(&typo).unwrap_err(), ShareFormatError::Typo);
        }
    }
}
