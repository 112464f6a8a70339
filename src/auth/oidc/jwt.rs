//! The library for signed tokens (RFC 7515), behind types of our own. No other
//! file names it.
//!
//! It checks signatures, by way of [`crate::crypto`], and nothing else: left to
//! itself it allows 60 s of leeway, ignores `nbf`, and lets a token pass that has
//! no `aud` or `iss`, or an array of `iss`. A token goes through two states:
//! [`Unverified`] has a header that we take and claims that nobody vouched for;
//! [`Verified`] can only be had from it by checking the signature.
//!
//! This module must not know which issuers there are or what time it is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as LibraryResult};
use jsonwebtoken::signature;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

use crate::crypto::{SignatureScheme, SignerKey, sha256, verify_signature};

use super::object::Object;
use crate::auth::Refusal;

/// The longest token that is looked at, in bytes of text: issuers put what they
/// know of a user into it, groups above all.
const MAX_TEXT: usize = 8 * 1024;
/// As long as any that issuers use; more would be work that strangers set us.
const MAX_KEY_ID: usize = 256;

/// A token whose header is in order. It has no `Debug`: its text is a credential.
pub(super) struct Unverified<'t> {
    scheme: SignatureScheme,
    key_id: String,
    claims: Object,
    /// What is signed: header, dot, claims, as they came.
    message: &'t str,
    signature: &'t str,
}

/// The claims of a token that the issuer's key signed.
pub(super) struct Verified(Object);

/// What can be said of a token without decoding it.
pub(in crate::auth) fn check_text(text: &str) -> Result<(), Refusal> {
    if text.len() > MAX_TEXT { Err(Refusal::TooLarge) } else { Ok(()) }
}

impl<'t> Unverified<'t> {
    /// Needs no key, and its work is bounded by the 8 KiB of text.
    pub fn decode(text: &'t str) -> Result<Self, Refusal> {
        check_text(text)?;
        let (message, signature) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Refusal::Malformed)?;
        // A dot more, as in an encrypted token, is not of base64's alphabet.
        let (header, claims) = (object(header)?, object(claims)?);
        let (scheme, key_id) = judge_header(&header)?;
        Ok(Self { scheme, key_id, claims, message, signature })
    }

    /// Who is said to have issued it: one string, not a list of them.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The algorithm is the key's alone: a header that could choose one would turn
    /// a public key into the secret of an HMAC.
    pub fn verify(self, key: &IssuerKey) -> Result<Verified, Refusal> {
        let Self { scheme, key_id: _, claims, message, signature } = self;
        if scheme != key.scheme {
            return Err(Refusal::Algorithm);
        }
        if key.verifies(message, signature) {
            Ok(Verified(claims))
        } else {
            Err(Refusal::Signature)
        }
    }
}

impl Verified {
    pub fn claims(&self) -> &Object {
        &self.0
    }
}

fn object(part: &str) -> Result<Object, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    Object::parse(&bytes).ok_or(Refusal::Malformed)
}

/// Algorithm and key id. What would have us fetch or believe a key (`jku`, `jwk`,
/// `x5u`, `x5c`) is not looked at.
fn judge_header(header: &Object) -> Result<(SignatureScheme, String), Refusal> {
    // Extensions that must be understood (RFC 7515, 4.1.11): we understand none.
    if header.has("crit") {
        return Err(Refusal::Malformed);
    }
    // RFC 9068, 2.1: an ID token, signed by the same key, is no access token.
    let is_access_token = header.text("typ").is_some_and(|found| {
        ["at+jwt", "application/at+jwt"].iter().any(|name| found.eq_ignore_ascii_case(name))
    });
    if !is_access_token {
        return Err(Refusal::TokenType);
    }
    let scheme = header.text("alg").and_then(scheme_named).ok_or(Refusal::Algorithm)?;
    let key_id = header.text("kid").filter(|id| is_key_id(id)).ok_or(Refusal::UnknownKey)?;
    Ok((scheme, key_id.to_owned()))
}

pub(super) fn is_key_id(id: &str) -> bool {
    (1..=MAX_KEY_ID).contains(&id.len())
}

/// `Ed25519` is the newer name of what `EdDSA` means with such a key (RFC 9864).
pub(super) fn scheme_named(name: &str) -> Option<SignatureScheme> {
    Some(match name {
        "RS256" => SignatureScheme::Rs256,
        "PS256" => SignatureScheme::Ps256,
        "ES256" => SignatureScheme::Es256,
        "ES384" => SignatureScheme::Es384,
        "EdDSA" | "Ed25519" => SignatureScheme::EdDsa,
        _ => return None,
    })
}

/// A key by which an issuer's tokens are verified. Public, yet not shown.
pub(super) struct IssuerKey {
    id: Box<str>,
    scheme: SignatureScheme,
    key: DecodingKey,
    fingerprint: [u8; 32],
}

/// The public numbers of a key, as a JWK has them: base64url without padding.
pub(super) enum Numbers<'a> {
    Rsa { n: &'a str, e: &'a str },
    Ec { x: &'a str, y: &'a str },
    Ed { x: &'a str },
}

impl IssuerKey {
    /// `None` where the numbers are no key that is fit for `scheme`.
    pub fn new(id: &str, scheme: SignatureScheme, numbers: &Numbers<'_>) -> Option<Self> {
        let key = match *numbers {
            Numbers::Rsa { n, e } => DecodingKey::from_rsa_components(n, e),
            Numbers::Ec { x, y } => DecodingKey::from_ec_components(x, y),
            Numbers::Ed { x } => DecodingKey::from_ed_components(x),
        };
        let key = key.ok().filter(|key| is_fit(scheme, signer_key(key)))?;
        let fingerprint = fingerprint(id, scheme, signer_key(&key));
        Some(Self { id: id.into(), scheme, key, fingerprint })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it is that very key, under that id, for that algorithm.
    pub fn is(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    fn verifies(&self, message: &str, signature: &str) -> bool {
        // Another provider cannot be there: this is the only file with the library.
        let _ = PROVIDER.install_default();
        let Self { scheme, key, .. } = self;
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm(*scheme))
            .unwrap_or(false)
    }
}

/// RSA below 2048 bits was within reach of factoring long ago (NIST SP 800-131A);
/// above 8192 a signature costs too much to check for a stranger.
fn is_fit(scheme: SignatureScheme, key: SignerKey<'_>) -> bool {
    match (scheme, key) {
        (SignatureScheme::Rs256 | SignatureScheme::Ps256, SignerKey::Rsa { modulus, exponent }) => {
            let first = modulus.first().copied().unwrap_or_default();
            let bits =
                modulus.len().saturating_mul(8).saturating_sub(first.leading_zeros() as usize);
            first != 0 && (2_048..=8_192).contains(&bits) && (1..=4).contains(&exponent.len())
        }
        (SignatureScheme::Es256, SignerKey::Point(point)) => point.len() == 65,
        (SignatureScheme::Es384, SignerKey::Point(point)) => point.len() == 97,
        (SignatureScheme::EdDsa, SignerKey::Point(point)) => point.len() == 32,
        _ => false,
    }
}

/// SHA-256 over scheme, id and numbers, each length-prefixed.
fn fingerprint(id: &str, scheme: SignatureScheme, key: SignerKey<'_>) -> [u8; 32] {
    let (first, second) = match key {
        SignerKey::Rsa { modulus, exponent } => (modulus, exponent),
        SignerKey::Point(point) => (point, &[][..]),
    };
    let name = format!("{scheme:?}");
    let mut text = Vec::new();
    for part in [name.as_bytes(), id.as_bytes(), first, second] {
        text.extend_from_slice(&part.len().to_be_bytes());
        text.extend_from_slice(part);
    }
    sha256(&text)
}

fn signer_key(key: &DecodingKey) -> SignerKey<'_> {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(point) => SignerKey::Point(point),
        DecodingKeyKind::RsaModulusExponent { n, e } => SignerKey::Rsa { modulus: n, exponent: e },
    }
}

fn algorithm(scheme: SignatureScheme) -> Algorithm {
    match scheme {
        SignatureScheme::Rs256 => Algorithm::RS256,
        SignatureScheme::Ps256 => Algorithm::PS256,
        SignatureScheme::Es256 => Algorithm::ES256,
        SignatureScheme::Es384 => Algorithm::ES384,
        SignatureScheme::EdDsa => Algorithm::EdDSA,
    }
}

fn scheme(algorithm: Algorithm) -> Option<SignatureScheme> {
    Some(match algorithm {
        Algorithm::RS256 => SignatureScheme::Rs256,
        Algorithm::PS256 => SignatureScheme::Ps256,
        Algorithm::ES256 => SignatureScheme::Es256,
        Algorithm::ES384 => SignatureScheme::Es384,
        Algorithm::EdDSA => SignatureScheme::EdDsa,
        _ => return None,
    })
}

/// The library's cryptography: ours. It signs nothing, and its utilities, which
/// nothing here calls, are not there.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> LibraryResult<Box<dyn JwtVerifier>> {
    let scheme = scheme(*algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?;
    Ok(Box::new(OwnVerifier { scheme, key: key.clone() }))
}

struct OwnVerifier {
    scheme: SignatureScheme,
    key: DecodingKey,
}

impl signature::Verifier<Vec<u8>> for OwnVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let holds = verify_signature(self.scheme, signer_key(&self.key), message, signature);
        if holds { Ok(()) } else { Err(signature::Error::new()) }
    }
}

impl JwtVerifier for OwnVerifier {
    fn algorithm(&self) -> Algorithm {
        algorithm(self.scheme)
    }
}
