//! Every call into the cryptographic library, as the few primitives that Tenure
//! uses. Nothing here knows what is encrypted, or why.

use ::ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ::ring::rand::{SecureRandom, SystemRandom};
use ::ring::{digest, hkdf, hmac};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes that AES-GCM adds: its tag (NIST SP 800-38D).
pub(super) const TAG_LEN: usize = 16;

/// Random bytes of the operating system (`getrandom(2)`).
///
/// # Panics
/// If the kernel has no randomness to give. It only fails before the pool is
/// first seeded or under a broken seccomp filter; going on without would
/// produce predictable keys.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// SHA-256 (FIPS 180-4).
pub fn sha256(message: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    hash
}

/// HKDF-SHA256 (RFC 5869) to 32 bytes.
pub(super) fn hkdf_sha256(salt: &[u8], secret: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(derived.as_mut()))
        .expect("32 bytes are within the 255 * 32 that HKDF-SHA256 can give");
    derived
}

/// HMAC-SHA256 (RFC 2104) with its key schedule done once.
pub(super) struct Mac(hmac::Key);

impl Mac {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The MAC of the parts as one message. The caller makes the parts
    /// unambiguous.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

/// Compares in time that depends on the lengths only.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// AES-256-GCM with the all-zero nonce: for keys that encrypt one message only.
/// Appends the tag to `message`.
pub(super) fn encrypt_once(key: &[u8; 32], aad: &[u8], message: &mut Vec<u8>, from: usize) {
    let (_, plaintext) = message.split_at_mut(from);
    let tag = one_message_key(key)
        .seal_in_place_separate_tag(zero_nonce(), Aad::from(aad), plaintext)
        .expect("a message below 64 GiB");
    message.extend_from_slice(tag.as_ref());
}

/// The reverse of [`encrypt_once`]: decrypts in place and cuts the tag off.
/// `None` if anything was altered; the buffer then holds nothing of use.
pub(super) fn decrypt_once(key: &[u8; 32], aad: &[u8], message: &mut Vec<u8>) -> Option<()> {
    let length =
        one_message_key(key).open_in_place(zero_nonce(), Aad::from(aad), message).ok()?.len();
    message.truncate(length);
    Some(())
}

fn one_message_key(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
