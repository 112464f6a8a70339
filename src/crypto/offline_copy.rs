//! The encrypted form of secrets that a client keeps for a start without its server.
//!
//! ```text
//! "TENUREFB" ‖ 01 ‖ salt (32) ‖ proof of credential, place, request (32 each) ‖ ciphertext ‖ tag (16)
//! key   = HKDF-SHA256(ikm = credential, salt, info = "tenure/v1/offline-copy/key")
//! proof = HKDF-SHA256(ikm = credential, salt, info = its label ‖ what it proves)
//! AAD   = everything before the ciphertext
//! ```
//!
//! The credential, a token or an API key, is as good as a key: an API key is 256 random
//! bits, a token holds a signature that nobody makes without the signer's key. So who has
//! the file and not the credential has nothing to guess at, and no slow derivation is
//! needed. Who has the credential could ask the server as well.
//!
//! The salt is random and new in each copy, so each key encrypts one message and the
//! all-zero nonce is used once. The proofs are AAD: a copy opens for the credential, the
//! place and the request that it was made for, and each that differs is told apart, since
//! a user has another thing to do about each. They say nothing to who lacks the credential.

use zeroize::Zeroizing;

use super::ring;

const MAGIC: &[u8; 8] = b"TENUREFB";
const VERSION: u8 = 1;
const SALT: usize = 32;
const PROOF: usize = 32;

/// What a copy is bound to.
#[derive(Clone, Copy)]
pub struct CopyBinding<'b> {
    /// The bytes of the token or API key.
    pub credential: &'b [u8],
    /// Where the secrets are from.
    pub place: &'b [u8],
    /// Which were asked for.
    pub request: &'b [u8],
}

/// Why a copy does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    #[error("is no copy that 'tenure run' keeps")]
    Format,
    #[error("was written by a newer version of tenure")]
    Newer,
    #[error("was made with another credential")]
    Credential,
    #[error("was made of another server or tenant")]
    Place,
    #[error("was made for other secrets")]
    Request,
    #[error("is damaged")]
    Damaged,
}

/// Encrypts `contents`.
pub fn encrypt_copy(binding: CopyBinding<'_>, contents: &[u8]) -> Vec<u8> {
    encrypt_with(ring::random(), binding, contents)
}

fn encrypt_with(salt: [u8; SALT], binding: CopyBinding<'_>, contents: &[u8]) -> Vec<u8> {
    let mut header = [MAGIC.as_slice(), &[VERSION], &salt].concat();
    for (proof, _) in proofs(&salt, binding) {
        header.extend_from_slice(proof.as_slice());
    }
    // Of its final size, so that the plaintext is not left behind where it grew.
    let mut copy = Vec::with_capacity(header.len() + contents.len() + ring::TAG_LEN);
    copy.extend_from_slice(&header);
    copy.extend_from_slice(contents);
    ring::encrypt_once(&key(&salt, binding), &header, &mut copy, header.len());
    copy
}

/// The reverse of [`encrypt_copy`]. Any altered byte is an error.
pub fn decrypt_copy(
    binding: CopyBinding<'_>,
    copy: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CopyError> {
    let rest = copy.strip_prefix(MAGIC).ok_or(CopyError::Format)?;
    match rest.first() {
        Some(&VERSION) => {}
        Some(&newer) if newer > VERSION => return Err(CopyError::Newer),
        _ => return Err(CopyError::Format),
    }
    let header_len = MAGIC.len() + 1 + SALT + 3 * PROOF;
    let (header, ciphertext) = copy.split_at_checked(header_len).ok_or(CopyError::Damaged)?;
    let after_version = header.get(MAGIC.len() + 1..).ok_or(CopyError::Damaged)?;
    let (salt, stored) = after_version.split_first_chunk().ok_or(CopyError::Damaged)?;
    for (stored, (proof, error)) in stored.chunks(PROOF).zip(proofs(salt, binding)) {
        if !ring::equal(stored, proof.as_slice()) {
            return Err(error);
        }
    }
    let mut contents = Zeroizing::new(ciphertext.to_vec());
    ring::decrypt_once(&key(salt, binding), header, &mut contents).ok_or(CopyError::Damaged)?;
    Ok(contents)
}

fn key(salt: &[u8; SALT], binding: CopyBinding<'_>) -> Zeroizing<[u8; 32]> {
    ring::hkdf_sha256_of(salt, binding.credential, &[b"tenure/v1/offline-copy/key"])
}

/// Each with what it means that it differs.
fn proofs(
    salt: &[u8; SALT],
    CopyBinding { credential, place, request }: CopyBinding<'_>,
) -> [(Zeroizing<[u8; PROOF]>, CopyError); 3] {
    let proof = |label: &[u8], of: &[u8]| ring::hkdf_sha256_of(salt, credential, &[label, of]);
    [
        (proof(b"tenure/v1/offline-copy/credential", b""), CopyError::Credential),
        (proof(b"tenure/v1/offline-copy/place", place), CopyError::Place),
        (proof(b"tenure/v1/offline-copy/request", request), CopyError::Request),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BINDING: CopyBinding<'_> = CopyBinding {
        credential: b"tnr_0001020304050607_credential",
        place: b"https://tenure.example\nacme",
        request: b"all=shop-\n",
    };

    #[test]
    fn the_frozen_copy_still_opens_and_is_still_made() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/offline-copy-v1.json");
        let vector: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let binding = CopyBinding {
            credential: text("credential").as_bytes(),
            place: text("place").as_bytes(),
            request: text("request").as_bytes(),
        };
        let copy = hex::decode(text("copy")).unwrap();
        let contents = text("contents").as_bytes();
        assert_eq!(*decrypt_copy(binding, &copy).unwrap(), contents);
        let salt = hex::decode(text("salt")).unwrap().try_into().unwrap();
        assert_eq!(encrypt_with(salt, binding, contents), copy);
    }

    #[test]
    fn what_differs_is_told() {
        let copy = encrypt_copy(BINDING, b"hunter2");
        let opened = |binding| decrypt_copy(binding, &copy).map(|_| ());
        assert_eq!(opened(BINDING), Ok(()));
        let credential = CopyBinding { credential: b"another", ..BINDING };
        assert_eq!(opened(credential), Err(CopyError::Credential));
        assert_eq!(opened(CopyBinding { place: b"x", ..BINDING }), Err(CopyError::Place));
        assert_eq!(opened(CopyBinding { request: b"x", ..BINDING }), Err(CopyError::Request));
        assert_eq!(decrypt_copy(BINDING, b"PATH=/bin").err(), Some(CopyError::Format));
        let mut newer = copy.clone();
        newer[MAGIC.len()] = VERSION + 1;
        assert_eq!(decrypt_copy(BINDING, &newer).err(), Some(CopyError::Newer));
    }

    #[test]
    fn two_copies_share_neither_salt_nor_ciphertext() {
        let (one, other) = (encrypt_copy(BINDING, b"hunter2"), encrypt_copy(BINDING, b"hunter2"));
        assert_ne!(one[9..41], other[9..41]);
        assert_ne!(one[137..], other[137..]);
    }

    proptest! {
        #[test]
        fn what_was_encrypted_opens(contents: Vec<u8>) {
            let copy = encrypt_copy(BINDING, &contents);
            prop_assert_eq!(&*decrypt_copy(BINDING, &copy).unwrap(), &contents);
        }

        #[test]
        fn an_altered_or_cut_copy_does_not_open(at: prop::sample::Index, mask in 1_u8..) {
            let copy = encrypt_copy(BINDING, b"hunter2");
            let at = at.index(copy.len());
            let mut altered = copy.clone();
            altered[at] ^= mask;
            prop_assert!(decrypt_copy(BINDING, &altered).is_err());
            prop_assert!(decrypt_copy(BINDING, &copy[..at]).is_err());
        }
    }
}
