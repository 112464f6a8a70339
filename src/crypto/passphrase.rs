//! A KEK of a passphrase: Argon2id (RFC 9106) over its UTF-8 bytes in Unicode's form NFC.
//!
//! Whoever has the data can try passphrases against the check value. What a try costs
//! is up to [`Argon2Params`]; how many tries it takes, to who chose the passphrase.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use icu_normalizer::ComposingNormalizerBorrowed;
use zeroize::{Zeroize, Zeroizing};

use super::kek_origin::Argon2Params;
use super::keys::Kek;
use super::ring;

/// What somebody typed. It has no printable form.
pub struct Passphrase(Zeroizing<String>);

/// Why a text is no passphrase. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    #[error("the passphrase is empty")]
    Empty,
    #[error("the passphrase is longer than 1024 bytes")]
    TooLong,
    #[error("the passphrase is not UTF-8")]
    NotText,
    /// An arrow key that was taken for one, most likely.
    #[error("the passphrase holds a control character, such as that of an arrow key or a tab")]
    ControlCharacter,
}

/// Why a passphrase was not made a KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// Stored parameters are believed only within bounds: whoever can write the disk
    /// could else make a start take all memory, or forever.
    #[error(
        "the stored parameters of Argon2id are out of bounds ({memory_kib} KiB, {passes} passes, \
         {lanes} lanes)"
    )]
    OutOfBounds { memory_kib: u32, passes: u32, lanes: u32 },
    #[error("deriving the KEK takes {memory_kib} KiB of memory, and there is less")]
    Memory { memory_kib: u32 },
}

impl Passphrase {
    pub const MAX_BYTES: usize = 1024;
    /// Of a new one, in characters.
    pub const LEAST_CHARS: usize = 12;

    pub fn parse(text: &[u8]) -> Result<Self, PassphraseError> {
        if text.is_empty() {
            return Err(PassphraseError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(PassphraseError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| PassphraseError::NotText)?;
        if text.chars().any(char::is_control) {
            return Err(PassphraseError::ControlCharacter);
        }
        // Composed, a text is at most three times as long (UAX 15): the buffer never
        // grows, which would leave its old bytes behind.
        let mut composed = Zeroizing::new(String::with_capacity(3 * text.len()));
        let composer = const { ComposingNormalizerBorrowed::new_nfc() };
        composed.extend(composer.normalize_iter(text.chars()));
        Ok(Self(composed))
    }

    /// Whether a new store may hang on it. Length is all that can be told of one.
    pub fn is_long_enough(&self) -> bool {
        self.0.chars().count() >= Self::LEAST_CHARS
    }

    pub fn is(&self, other: &Self) -> bool {
        ring::equal(self.0.as_bytes(), other.0.as_bytes())
    }

    /// `Argon2id(password = passphrase, salt, t = passes, m = memory, p = lanes,
    /// version = 0x13)` to 32 bytes, without secret or associated data.
    pub fn to_kek(&self, params: &Argon2Params) -> Result<Kek, DeriveError> {
        let Argon2Params { salt, memory_kib, passes, lanes } = *params;
        let out_of_bounds = DeriveError::OutOfBounds { memory_kib, passes, lanes };
        if !params.is_within_bounds() {
            return Err(out_of_bounds);
        }
        let inner = Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| out_of_bounds)?;
        let mut memory =
            Memory::of(inner.block_count()).ok_or(DeriveError::Memory { memory_kib })?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, inner);
        let mut key = Zeroizing::new([0; 32]);
        let password = self.0.as_bytes();
        argon2
            .hash_password_into_with_memory(password, &salt, key.as_mut(), &mut memory.0)
            .map_err(|_| out_of_bounds)?;
        Ok(Kek::copied(&key))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl Argon2Params {
    const MOST_MEMORY_KIB: u32 = 4 * 1024 * 1024;
    const MOST_PASSES: u32 = 64;
    const MOST_LANES: u32 = 64;

    /// With a salt of its own, and twice the memory of RFC 9106's second recommendation:
    /// 0.6 s of one core where it was measured, once at each start.
    pub fn generate() -> Self {
        Self { salt: ring::random(), memory_kib: 128 * 1024, passes: 3, lanes: 4 }
    }

    fn is_within_bounds(&self) -> bool {
        let Self { salt: _, memory_kib, passes, lanes } = self;
        let least = lanes.saturating_mul(8);
        (1..=Self::MOST_LANES).contains(lanes)
            && (1..=Self::MOST_PASSES).contains(passes)
            && (least..=Self::MOST_MEMORY_KIB).contains(memory_kib)
    }
}

/// What Argon2 fills; it says something of the passphrase, so it is wiped.
struct Memory(Vec<Block>);

impl Memory {
    /// `None` where there is not so much.
    fn of(blocks: usize) -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).ok()?;
        memory.resize(blocks, Block::new());
        Some(Self(memory))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|block| block.as_mut().zeroize());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Argon2Params = Argon2Params { salt: [2; 16], memory_kib: 32, passes: 3, lanes: 4 };

    fn kek_text(passphrase: &str, params: &Argon2Params) -> String {
        let passphrase = Passphrase::parse(passphrase.as_bytes()).unwrap();
        passphrase.to_kek(params).unwrap().to_text().to_string()
    }

    /// By the reference implementation: `printf 'correct horse battery' | argon2
    /// 0123456789abcdef -id -t 3 -k 256 -p 4 -l 32 -r`.
    #[test]
    fn the_reference_implementation_derives_the_same() {
        let params =
            Argon2Params { salt: *b"0123456789abcdef", memory_kib: 256, passes: 3, lanes: 4 };
        let expected = "3e82df59d2d0eaf0f42a5228474e3391a38c7390e8a4c8bf85dd974b30e4b363";
        assert_eq!(kek_text("correct horse battery", &params), expected);
    }

    #[test]
    fn another_salt_or_another_parameter_gives_another_kek() {
        let kek = kek_text("correct horse", &SMALL);
        for other in [
            Argon2Params { salt: [3; 16], ..SMALL },
            Argon2Params { memory_kib: 64, ..SMALL },
            Argon2Params { passes: 4, ..SMALL },
            Argon2Params { lanes: 2, ..SMALL },
        ] {
            assert_ne!(kek_text("correct horse", &other), kek);
        }
        assert_ne!(kek_text("correct horsf", &SMALL), kek);
        assert_ne!(Argon2Params::generate().salt, Argon2Params::generate().salt);
    }

    #[test]
    fn however_letters_are_composed_it_is_one_passphrase() {
        let (one, other) = ("pass-phrase caf\u{e9}", "pass-phrase cafe\u{301}");
        assert_eq!(kek_text(one, &SMALL), kek_text(other, &SMALL));
        // What composes to more bytes than it had.
        let longest = "\u{1d160}".repeat(200);
        assert_eq!(Passphrase::parse(longest.as_bytes()).unwrap().0.len(), 3 * longest.len());
    }

    #[test]
    fn what_is_no_passphrase_is_refused_and_never_repeated() {
        for (text, error) in [
            (&b""[..], PassphraseError::Empty),
            (&[b'x'; 1025], PassphraseError::TooLong),
            (b"abc\xff", PassphraseError::NotText),
            (b"abc\x1b[A", PassphraseError::ControlCharacter),
            (b"abc\tdef", PassphraseError::ControlCharacter),
        ] {
            assert_eq!(Passphrase::parse(text).err(), Some(error));
            assert!(!error.to_string().contains("abc"));
        }
        let passphrase = Passphrase::parse(b"hunter2").unwrap();
        assert!(!passphrase.is_long_enough());
        assert!(!format!("{passphrase:?}").contains("hunter2"));
        assert!(Passphrase::parse("zwölf Zeichen".as_bytes()).unwrap().is_long_enough());
    }

    #[test]
    fn stored_parameters_are_believed_only_within_bounds() {
        let passphrase = Passphrase::parse(b"correct horse").unwrap();
        for params in [
            Argon2Params { memory_kib: 31, ..SMALL },
            Argon2Params { memory_kib: 4 * 1024 * 1024 + 1, ..SMALL },
            Argon2Params { memory_kib: u32::MAX, ..SMALL },
            Argon2Params { passes: 0, ..SMALL },
            Argon2Params { passes: u32::MAX, ..SMALL },
            Argon2Params { lanes: 0, ..SMALL },
            Argon2Params { lanes: u32::MAX, memory_kib: 4 * 1024 * 1024, ..SMALL },
        ] {
            let refused = passphrase.to_kek(&params).err();
            assert!(matches!(refused, Some(DeriveError::OutOfBounds { .. })), "{params:?}");
        }
        assert!(Argon2Params::generate().is_within_bounds());
    }
}
