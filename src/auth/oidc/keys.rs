//! The public keys of an issuer (JWK sets, RFC 7517).
//!
//! Guaranteed here: a key has one id and one algorithm, both its own; what could
//! be taken for two keys is none. A key that we cannot use is passed over, since
//! issuers publish keys for others too.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::crypto::SignatureScheme;

use super::jwt::{IssuerKey, Numbers, is_key_id, scheme_named};
use super::object::Object;

/// Keys by their ids.
#[derive(Default)]
pub struct KeySet {
    by_id: HashMap<Box<str>, Arc<IssuerKey>>,
    passed_over: usize,
}

/// Why a text is not a set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("is not a JWK set: a JSON object with an array `keys`")]
    Shape,
    #[error("holds more than {} keys", KeySet::MAX_KEYS)]
    TooMany,
}

impl KeySet {
    pub const MAX_KEYS: usize = 100;

    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let set = Object::parse(text).ok_or(KeySetError::Shape)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::Shape)?;
        if keys.len() > Self::MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        Ok(Self::of(keys))
    }

    /// Two keys of one id are both left out: which one a token means would hang on
    /// their order.
    fn of(keys: &[Value]) -> Self {
        let mut by_id = HashMap::<Box<str>, Option<Arc<IssuerKey>>>::new();
        for key in keys.iter().filter_map(usable) {
            let key = Arc::new(key);
            by_id
                .entry(key.id().into())
                .and_modify(|held| *held = held.take().filter(|held| held.is(&key)))
                .or_insert(Some(key));
        }
        let by_id: HashMap<_, _> =
            by_id.into_iter().filter_map(|(id, key)| Some((id, key?))).collect();
        let passed_over = keys.len().saturating_sub(by_id.len());
        Self { by_id, passed_over }
    }

    /// How many keys tokens are verified with.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many more there are that are of no use here.
    pub fn passed_over(&self) -> usize {
        self.passed_over
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<IssuerKey>> {
        self.by_id.get(id)
    }
}

/// The members of a JWK that matter here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    public_use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
}

/// `None` for what is for encryption, symmetric, too weak, of another algorithm or
/// without an id. And for a private key: whoever has read it can sign.
fn usable(key: &Value) -> Option<IssuerKey> {
    let Jwk { kty, kid, public_use, key_ops, alg, crv, n, e, x, y, d } =
        Jwk::deserialize(key).ok()?;
    let for_signatures = public_use.is_none_or(|public_use| public_use == "sig")
        && key_ops.is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    if d.is_some() || !for_signatures || !is_key_id(&kid) {
        return None;
    }
    let (natural, numbers) = match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => (SignatureScheme::Rs256, Numbers::Rsa { n: n.as_deref()?, e: e.as_deref()? }),
        ("EC", Some("P-256")) => {
            (SignatureScheme::Es256, Numbers::Ec { x: x.as_deref()?, y: y.as_deref()? })
        }
        ("EC", Some("P-384")) => {
            (SignatureScheme::Es384, Numbers::Ec { x: x.as_deref()?, y: y.as_deref()? })
        }
        ("OKP", Some("Ed25519")) => (SignatureScheme::EdDsa, Numbers::Ed { x: x.as_deref()? }),
        _ => return None,
    };
    let scheme = alg.map_or(Some(natural), |name| scheme_named(&name))?;
    IssuerKey::new(&kid, scheme, &numbers)
}
