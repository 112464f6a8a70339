//! The key that signs checkpoints of the audit: Ed25519 (RFC 8032).
//!
//! It signs nothing else, so what is signed needs no label beside its own first words.
//! A signature depends on key and text alone: signing twice gives the same bytes.

use std::fmt;

use super::kept::KeyBytes;
use super::ring::{self, SignatureScheme, SignerKey};

/// The private half. What is kept of it is its seed; the library's key pair, which is
/// not wiped, lives for one signature.
pub struct AuditSigner(KeyBytes);

impl AuditSigner {
    pub const LEN: usize = 32;

    pub fn generate() -> Self {
        Self(KeyBytes::filled(ring::fill))
    }

    pub fn from_bytes(seed: &[u8; Self::LEN]) -> Self {
        Self(KeyBytes::filled(|kept| kept.copy_from_slice(seed)))
    }

    /// To be kept encrypted.
    pub fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    pub fn public(&self) -> AuditPublicKey {
        AuditPublicKey(ring::ed25519_public(&self.0))
    }

    pub fn sign(&self, text: &[u8]) -> [u8; AuditPublicKey::SIGNATURE_LEN] {
        ring::ed25519_sign(&self.0, text)
    }
}

impl fmt::Debug for AuditSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditSigner(..)")
    }
}

/// By which anybody can tell what was signed. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPublicKey([u8; 32]);

/// A text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key is 64 hexadecimal digits, as 'tenure audit key' prints it")]
pub struct AuditKeyFormatError;

impl AuditPublicKey {
    pub const SIGNATURE_LEN: usize = 64;

    pub fn parse(text: &str) -> Result<Self, AuditKeyFormatError> {
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).map_err(|_| AuditKeyFormatError)?;
        Ok(Self(key))
    }

    /// Tells two keys apart: the first 8 bytes of the key's SHA-256, hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex::encode(ring::sha256(&self.0).split_at(8).0)
    }

    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        let key = SignerKey::Point(&self.0);
        ring::verify_signature(SignatureScheme::EdDsa, key, text, signature)
    }
}

/// As [`AuditPublicKey::parse`] reads it.
impl fmt::Display for AuditPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2.
    #[test]
    fn a_signature_is_the_one_of_the_standard() {
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let seed = hex::decode(seed).unwrap();
        let signer = AuditSigner::from_bytes(seed.as_slice().try_into().unwrap());
        assert_eq!(
            signer.public().to_string(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        let signature = signer.sign(&[0x72]);
        assert_eq!(
            hex::encode(signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert!(signer.public().verifies(&[0x72], &signature));
        assert!(!signer.public().verifies(&[0x73], &signature));
        assert!(!AuditSigner::generate().public().verifies(&[0x72], &signature));
    }

    #[test]
    fn the_private_half_is_not_shown() {
        let signer = AuditSigner::generate();
        assert_eq!(format!("{signer:?}"), "AuditSigner(..)");
        assert!(!signer.public().to_string().contains(&hex::encode(signer.bytes())));
    }

    #[test]
    fn a_public_key_survives_its_text() {
        let key = AuditSigner::generate().public();
        assert_eq!(AuditPublicKey::parse(&format!(" {key}\n")), Ok(key));
        assert_eq!(key.fingerprint().len(), 16);
        for bad in ["", "4a", &"zz".repeat(32), &"4a".repeat(33)] {
            assert_eq!(AuditPublicKey::parse(bad), Err(AuditKeyFormatError), "{bad}");
        }
    }
}
