//! Every call into the cryptographic library, as the few primitives that Tenure
//! uses. Nothing here knows what is encrypted, or why.

use ::ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ::ring::rand::{SecureRandom, SystemRandom};
use ::ring::signature::KeyPair;
use ::ring::{digest, hkdf, hmac, signature};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::kept::Kept;

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
    fill(&mut bytes);
    bytes
}

/// The same for a key, in the place where it stays.
pub(super) fn fill<const N: usize>(bytes: &mut [u8; N]) {
    SystemRandom::new().fill(bytes).expect("the kernel gives random bytes");
}

/// SHA-256 (FIPS 180-4).
pub fn sha256(message: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    hash
}

/// The same of the parts as one message, which the caller makes unambiguous.
pub(super) fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// HMAC-SHA256 (RFC 2104) under a key for few messages.
pub(super) fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut tag = [0; 32];
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    tag.copy_from_slice(hmac::sign(&key, message).as_ref());
    tag
}

/// HKDF-SHA256 (RFC 5869) to 32 bytes.
pub(super) fn hkdf_sha256(salt: &[u8], secret: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    hkdf_sha256_of(salt, secret, &[info])
}

/// The same of a secret of any length; `info` is in parts, which the caller makes
/// unambiguous.
pub(super) fn hkdf_sha256_of(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(derived.as_mut()))
        .expect("32 bytes are within the 255 * 32 that HKDF-SHA256 can give");
    derived
}

/// HMAC-SHA256 (RFC 2104) with its key schedule done once.
pub(super) struct Mac(Kept<hmac::Key>);

impl Mac {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self::of_any_length(key)
    }

    /// For a key that somebody else chose.
    pub(super) fn of_any_length(key: &[u8]) -> Self {
        Self(Kept::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
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

/// The public key of an Ed25519 seed (RFC 8032, 5.1.5).
pub(super) fn ed25519_public(seed: &[u8; 32]) -> [u8; 32] {
    let mut public = [0; 32];
    public.copy_from_slice(ed25519(seed).public_key().as_ref());
    public
}

/// RFC 8032, 5.1.6.
pub(super) fn ed25519_sign(seed: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature.copy_from_slice(ed25519(seed).sign(message).as_ref());
    signature
}

fn ed25519(seed: &[u8; 32]) -> signature::Ed25519KeyPair {
    signature::Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed")
}

/// A public key that others sign with.
#[derive(Clone, Copy)]
pub enum SignerKey<'a> {
    /// Both big-endian, without leading zeros.
    Rsa { modulus: &'a [u8], exponent: &'a [u8] },
    /// An uncompressed point (SEC 1, 2.3.3), or for Ed25519 its 32 bytes.
    Point(&'a [u8]),
}

/// How others sign, in the names of JWA (RFC 7518, 3.1; RFC 8037, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScheme {
    Rs256,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

/// Whether `signature` was made of `message` with this key. RSA keys have 2048 to
/// 8192 bits; a signature of ECDSA is r and s, of fixed length.
pub fn verify_signature(
    scheme: SignatureScheme,
    key: SignerKey<'_>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let with_point = |algorithm: &'static dyn signature::VerificationAlgorithm| match key {
        SignerKey::Point(point) => {
            signature::UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
        }
        SignerKey::Rsa { .. } => false,
    };
    let with_modulus = |parameters: &signature::RsaParameters| match key {
        SignerKey::Rsa { modulus: n, exponent: e } => signature::RsaPublicKeyComponents { n, e }
            .verify(parameters, message, signature)
            .is_ok(),
        SignerKey::Point(_) => false,
    };
    match scheme {
        SignatureScheme::Rs256 => with_modulus(&signature::RSA_PKCS1_2048_8192_SHA256),
        SignatureScheme::Ps256 => with_modulus(&signature::RSA_PSS_2048_8192_SHA256),
        SignatureScheme::Es256 => with_point(&signature::ECDSA_P256_SHA256_FIXED),
        SignatureScheme::Es384 => with_point(&signature::ECDSA_P384_SHA384_FIXED),
        SignatureScheme::EdDsa => with_point(&signature::ED25519),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 1.
    #[test]
    fn a_signature_is_of_its_message_by_its_key_in_its_scheme() {
        let key = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let signature = hex::decode(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555\
             fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        );
        let (key, signature) = (key.unwrap(), signature.unwrap());
        let point = SignerKey::Point(&key);
        assert!(verify_signature(SignatureScheme::EdDsa, point, b"", &signature));
        assert!(!verify_signature(SignatureScheme::EdDsa, point, b"a", &signature));
        assert!(!verify_signature(SignatureScheme::EdDsa, point, b"", &signature[1..]));
        for other in [
            SignatureScheme::Rs256,
            SignatureScheme::Ps256,
            SignatureScheme::Es256,
            SignatureScheme::Es384,
        ] {
            assert!(!verify_signature(other, point, b"", &signature), "{other:?}");
        }
        let rsa = SignerKey::Rsa { modulus: &key, exponent: &[1, 0, 1] };
        assert!(!verify_signature(SignatureScheme::EdDsa, rsa, b"", &signature));
        assert!(!verify_signature(SignatureScheme::Rs256, rsa, b"", &signature));
    }
}
