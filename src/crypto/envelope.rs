//! The stored form of everything secret.
//!
//! `format (1) ‖ DEK id (4, big-endian) ‖ salt (32) ‖ ciphertext ‖ tag (16)`,
//! where, with `b` the encoded [`Binding`],
//!
//! ```text
//! key        = HKDF-SHA256(ikm = DEK, salt, info = b)      RFC 5869
//! ciphertext = AES-256-GCM(key, nonce = 0^96, aad = b)     NIST SP 800-38D
//! ```
//!
//! Why the nonce may be constant: the key is used for this one message. It would
//! repeat only if two of the 32-byte random salts did, which is beyond reach
//! (2^-128 after 2^64 messages), and even then only under the same binding. So
//! there is no counter to persist and none that a restored backup could rewind.

use zeroize::Zeroizing;

use super::kept::KeyBytes;
use super::ring;
use crate::domain::{TenantId, Timestamp};

const FORMAT: u8 = 1;
const SALT_LEN: usize = 32;
/// By how much an envelope is longer than its plaintext: format, DEK id, salt and tag.
pub const ENVELOPE_OVERHEAD: usize = 1 + 4 + SALT_LEN + 16;

/// What a ciphertext is for. Two purposes never open each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A secret's name, window and metadata.
    Head,
    /// A secret's value.
    Value,
    /// A row of the system: tenants, roots, the clock.
    System,
    WrappedDek,
    WrappedAnchor,
    Ledger,
    /// Entries of an audit.
    Audit,
}

impl Purpose {
    /// Frozen: these words are under every ciphertext.
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Head => b"head",
            Self::Value => b"value",
            Self::System => b"system",
            Self::WrappedDek => b"wrapped-dek",
            Self::WrappedAnchor => b"wrapped-anchor",
            Self::Ledger => b"ledger",
            Self::Audit => b"audit",
        }
    }
}

/// Tells two envelopes apart, of the same plaintext too: the salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeStamp([u8; SALT_LEN]);

impl EnvelopeStamp {
    /// Of what is no envelope: all zeros.
    pub fn of(envelope: &[u8]) -> Self {
        Self(Envelope::parse(envelope).map_or([0; SALT_LEN], |envelope| *envelope.salt))
    }
}

/// Where a ciphertext belongs. It is the AAD, and derives the key as well: a row
/// copied to another tenant, name or version does not open there.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    pub purpose: Purpose,
    pub tenant: TenantId,
    pub name: &'a [u8],
    pub version: u64,
}

impl Binding<'_> {
    /// Every field behind its length, so that no two bindings encode alike.
    fn encode(&self) -> Vec<u8> {
        let Self { purpose, tenant, name, version } = self;
        let version = version.to_be_bytes();
        let fields: [&[u8]; 5] = [&[FORMAT], purpose.label(), tenant.as_bytes(), name, &version];
        let mut encoded = Vec::with_capacity(64 + name.len());
        for field in fields {
            let length = u32::try_from(field.len()).expect("a field of a binding is short");
            encoded.extend_from_slice(&length.to_be_bytes());
            encoded.extend_from_slice(field);
        }
        encoded
    }
}

/// The stored bytes are not what was written under this binding: damaged, moved
/// or forged, or its DEK is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored bytes do not decrypt")]
pub struct Undecryptable;

/// A data-encryption key. Ids are drawn upwards per tenant, from 1; 0 stands for
/// keys that are not DEKs.
pub struct Dek {
    pub(super) id: u32,
    pub(super) key: KeyBytes,
    pub(super) made_on: Option<Timestamp>,
}

impl Dek {
    /// What an envelope has beside its plaintext.
    pub(super) const ENVELOPE_OVERHEAD: usize = 1 + 4 + SALT_LEN + ring::TAG_LEN;

    pub fn generate(id: u32, now: Timestamp) -> Self {
        Self { id, key: KeyBytes::filled(ring::fill), made_on: Some(now) }
    }

    /// One that never leaves memory: it has no place among a tenant's DEKs, and no age.
    pub(super) fn derived(key: Zeroizing<[u8; 32]>) -> Self {
        Self { id: 0, key: key.into(), made_on: None }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// `None`: it is from a time when that was not written down.
    pub fn made_on(&self) -> Option<Timestamp> {
        self.made_on
    }

    /// Encrypts `plaintext` for `binding`, under a fresh salt.
    pub fn encrypt(&self, binding: &Binding<'_>, plaintext: &[u8]) -> Vec<u8> {
        self.encrypt_with_salt(binding, plaintext, &ring::random())
    }

    fn encrypt_with_salt(
        &self,
        binding: &Binding<'_>,
        plaintext: &[u8],
        salt: &[u8; SALT_LEN],
    ) -> Vec<u8> {
        let bound = binding.encode();
        let header = 1 + 4 + SALT_LEN;
        let mut envelope = Vec::with_capacity(header + plaintext.len() + ring::TAG_LEN);
        envelope.push(FORMAT);
        envelope.extend_from_slice(&self.id.to_be_bytes());
        envelope.extend_from_slice(salt);
        envelope.extend_from_slice(plaintext);
        // Exact capacity: the plaintext was never moved, so no copy stays behind.
        let key = ring::hkdf_sha256(salt, &self.key, &bound);
        ring::encrypt_once(&key, &bound, &mut envelope, header);
        envelope
    }

    pub(super) fn decrypt(
        &self,
        binding: &Binding<'_>,
        envelope: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Undecryptable> {
        let parsed = Envelope::parse(envelope)?;
        if parsed.dek_id != self.id {
            return Err(Undecryptable);
        }
        let bound = binding.encode();
        let key = ring::hkdf_sha256(parsed.salt, &self.key, &bound);
        let mut message = Zeroizing::new(parsed.ciphertext.to_vec());
        ring::decrypt_once(&key, &bound, &mut message).ok_or(Undecryptable)?;
        Ok(message)
    }
}

impl std::fmt::Debug for Dek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dek {{ id: {}, .. }}", self.id)
    }
}

/// A DEK's place in the keyring and whether it encrypts still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DekState {
    Active,
    /// It decrypts what it encrypted.
    Retired,
    /// The same, until all of that is encrypted under another. Then it is destroyed.
    Leaving,
}

impl DekState {
    const ALL: [Self; 3] = [Self::Active, Self::Retired, Self::Leaving];

    /// Its stored form. It is in the binding of a wrapped DEK too.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Active => 1,
            Self::Retired => 2,
            Self::Leaving => 3,
        }
    }

    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.byte() == byte)
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Leaving => "leaving",
        }
    }
}

/// What becomes of the DEKs that encrypted so far, when another does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldDeks {
    /// They stay, for what they encrypted.
    Retire,
    /// They leave: all that they encrypted is to be encrypted anew.
    Replace,
}

impl OldDeks {
    /// The state of one that was in this state.
    pub fn state(self, before: DekState) -> DekState {
        match (self, before) {
            (Self::Replace, _) | (_, DekState::Leaving) => DekState::Leaving,
            (Self::Retire, DekState::Active | DekState::Retired) => DekState::Retired,
        }
    }
}

/// A tenant's DEKs: the active one encrypts, all decrypt.
#[derive(Debug)]
pub struct DekSet {
    active: Dek,
    old: Vec<(Dek, DekState)>,
}

impl DekSet {
    pub fn new(active: Dek, old: Vec<(Dek, DekState)>) -> Self {
        Self { active, old }
    }

    /// When the one that encrypts was made, if that is known.
    pub fn active_made_on(&self) -> Option<Timestamp> {
        self.active.made_on
    }

    /// `new` encrypts from now on.
    pub fn rotate(&mut self, new: Dek, old: OldDeks) {
        let before = std::mem::replace(&mut self.active, new);
        self.old.push((before, DekState::Active));
        self.old.iter_mut().for_each(|(_, state)| *state = old.state(*state));
    }

    /// Whether what stands in this envelope is to be encrypted anew.
    pub fn is_leaving(&self, envelope: &[u8]) -> bool {
        let id = Envelope::parse(envelope).ok().map(|envelope| envelope.dek_id);
        self.old.iter().any(|(dek, state)| *state == DekState::Leaving && Some(dek.id) == id)
    }

    /// Forgets DEKs under which nothing is any more.
    pub fn forget(&mut self, ids: &[u32]) {
        self.old.retain(|(dek, _)| !ids.contains(&dek.id));
    }

    pub fn encrypt(&self, binding: &Binding<'_>, plaintext: &[u8]) -> Vec<u8> {
        self.active.encrypt(binding, plaintext)
    }

    pub fn decrypt(
        &self,
        binding: &Binding<'_>,
        envelope: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Undecryptable> {
        let wanted = Envelope::parse(envelope)?.dek_id;
        std::iter::once(&self.active)
            .chain(self.old.iter().map(|(dek, _)| dek))
            .find(|dek| dek.id == wanted)
            .ok_or(Undecryptable)?
            .decrypt(binding, envelope)
    }
}

/// An envelope's fields; what stands in the ciphertext is unproven.
struct Envelope<'a> {
    dek_id: u32,
    salt: &'a [u8; SALT_LEN],
    /// With its tag.
    ciphertext: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Undecryptable> {
        let (&[FORMAT], rest) = bytes.split_first_chunk().ok_or(Undecryptable)? else {
            return Err(Undecryptable);
        };
        let (dek_id, rest) = rest.split_first_chunk().ok_or(Undecryptable)?;
        let (salt, ciphertext) = rest.split_first_chunk().ok_or(Undecryptable)?;
        Ok(Self { dek_id: u32::from_be_bytes(*dek_id), salt, ciphertext })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(byte: u8) -> TenantId {
        TenantId::from_bytes([byte; 16])
    }

    fn binding(name: &[u8]) -> Binding<'_> {
        Binding { purpose: Purpose::Value, tenant: tenant(7), name, version: 3 }
    }

    fn dek() -> Dek {
        Dek { id: 1, key: Zeroizing::new([9; 32]).into(), made_on: None }
    }

    #[test]
    fn what_was_encrypted_decrypts() {
        for length in [0, 1, 15, 16, 17, 4096, 1 << 20] {
            let plaintext = vec![0x5a; length];
            let envelope = dek().encrypt(&binding(b"n"), &plaintext);
            assert_eq!(*dek().decrypt(&binding(b"n"), &envelope).unwrap(), plaintext);
        }
    }

    #[test]
    fn a_record_moved_elsewhere_does_not_open() {
        let envelope = dek().encrypt(&binding(b"name"), b"value");
        let home = binding(b"name");
        let elsewhere = [
            Binding { tenant: tenant(8), ..home },
            Binding { name: b"nam", ..home },
            Binding { name: b"names", ..home },
            Binding { version: 4, ..home },
            Binding { purpose: Purpose::Head, ..home },
        ];
        for binding in elsewhere {
            assert_eq!(dek().decrypt(&binding, &envelope), Err(Undecryptable), "{binding:?}");
        }
        let other = Dek { id: 1, key: Zeroizing::new([10; 32]).into(), made_on: None };
        assert_eq!(other.decrypt(&home, &envelope), Err(Undecryptable));
    }

    #[test]
    fn every_flipped_bit_is_an_error() {
        let envelope = dek().encrypt(&binding(b"name"), b"some plaintext");
        for bit in 0..envelope.len() * 8 {
            let mut damaged = envelope.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(dek().decrypt(&binding(b"name"), &damaged), Err(Undecryptable), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_and_extension_is_an_error() {
        let envelope = dek().encrypt(&binding(b"name"), b"some plaintext");
        for length in 0..envelope.len() {
            assert_eq!(dek().decrypt(&binding(b"name"), &envelope[..length]), Err(Undecryptable));
        }
        let longer = [envelope.as_slice(), &[0]].concat();
        assert_eq!(dek().decrypt(&binding(b"name"), &longer), Err(Undecryptable));
    }

    #[test]
    fn the_same_plaintext_never_encrypts_alike() {
        let one = dek().encrypt(&binding(b"n"), b"v");
        assert_ne!(one, dek().encrypt(&binding(b"n"), b"v"));
    }

    #[test]
    fn a_set_decrypts_what_a_retired_dek_encrypted() {
        let old = dek().encrypt(&binding(b"n"), b"v");
        let new = || Dek::generate(2, Timestamp::from_unix_seconds(1));
        let set = DekSet::new(new(), vec![(dek(), DekState::Retired)]);
        assert_eq!(*set.decrypt(&binding(b"n"), &old).unwrap(), b"v");
        let without = DekSet::new(new(), vec![]);
        assert_eq!(without.decrypt(&binding(b"n"), &old), Err(Undecryptable));
    }

    #[test]
    fn what_leaves_decrypts_until_it_is_forgotten() {
        let now = Timestamp::from_unix_seconds(1);
        let first = dek().encrypt(&binding(b"n"), b"v");
        let mut set = DekSet::new(dek(), vec![]);
        assert!(!set.is_leaving(&first));
        set.rotate(Dek::generate(2, now), OldDeks::Retire);
        let second = set.encrypt(&binding(b"n"), b"w");
        assert!(!set.is_leaving(&first) && !set.is_leaving(&second));
        set.rotate(Dek::generate(3, now), OldDeks::Replace);
        assert!(set.is_leaving(&first) && set.is_leaving(&second));
        // Whoever changes their mind does not keep what was to leave.
        set.rotate(Dek::generate(4, now), OldDeks::Retire);
        let last = set.encrypt(&binding(b"n"), b"x");
        assert!(set.is_leaving(&first) && !set.is_leaving(&last) && !set.is_leaving(b"short"));
        assert_eq!(*set.decrypt(&binding(b"n"), &second).unwrap(), b"w");
        set.forget(&[1, 2, 3]);
        assert_eq!(set.decrypt(&binding(b"n"), &first), Err(Undecryptable));
        assert_eq!(*set.decrypt(&binding(b"n"), &last).unwrap(), b"x");
    }

    /// Each frozen envelope opens in this version and every later one, and is
    /// made again to the byte from its salt.
    #[test]
    fn frozen_envelopes_open() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/envelope-v1.json")).unwrap();
        let bytes = |v: &serde_json::Value| hex::decode(v.as_str().unwrap()).unwrap();
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() >= 5);
        for v in vectors {
            let key: [u8; 32] = bytes(&v["dek"]).try_into().unwrap();
            let id = u32::try_from(v["dekId"].as_u64().unwrap()).unwrap();
            let dek = Dek { id, key: Zeroizing::new(key).into(), made_on: None };
            let purposes = [
                Purpose::Head,
                Purpose::Value,
                Purpose::System,
                Purpose::WrappedDek,
                Purpose::WrappedAnchor,
                Purpose::Ledger,
            ];
            let purpose = purposes
                .into_iter()
                .find(|p| p.label() == v["purpose"].as_str().unwrap().as_bytes())
                .unwrap();
            let name = bytes(&v["name"]);
            let binding = Binding {
                purpose,
                tenant: TenantId::from_bytes(bytes(&v["tenant"]).try_into().unwrap()),
                name: &name,
                version: v["version"].as_u64().unwrap(),
            };
            let (plaintext, envelope) = (bytes(&v["plaintext"]), bytes(&v["envelope"]));
            assert_eq!(envelope.len(), plaintext.len() + ENVELOPE_OVERHEAD);
            assert_eq!(*dek.decrypt(&binding, &envelope).unwrap(), plaintext);
            let salt: [u8; 32] = bytes(&v["salt"]).try_into().unwrap();
            assert_eq!(dek.encrypt_with_salt(&binding, &plaintext, &salt), envelope);
        }
    }
}
