//! API keys: `tnr_<id, 8 bytes, hexadecimal>_<secret, 32 bytes, base64url>`.
//!
//! Guaranteed here: a key has one text; its secret is in memory only while it is made
//! or judged; a wrong secret and an unknown id take the same work; and noting that a
//! key was used is two loads for a request, but for the first of an hour.
//!
//! Where keys are stored is the vault's affair.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::crypto::{ApiKeyMac, ApiKeyTag, random};
use crate::domain::{Now, ScopeSet, TenantId, TenantName, Timestamp};

use super::caveat::Caveats;
use super::principal::Grant;
use super::reach::{Reach, Tenancy};
use super::{CredentialId, CredentialKind, Identity, Principal, Refusal, Subject};

/// What every key begins with, so that scanners for leaked secrets know one.
pub(super) const PREFIX: &str = "tnr_";
/// Whether a text is meant to be an API key, and not a token.
pub fn looks_like_api_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

const SECRET_LEN: usize = 32;
/// Of [`SECRET_LEN`] bytes in base64 without padding.
const SECRET_TEXT_LEN: usize = 43;

/// What names an API key, in lists and to revoke it by. It opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiKeyId([u8; Self::LEN]);

/// A text that is no id of an API key. It never repeats the text, which may be a
/// key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the 16 hexadecimal digits between 'tnr_' and the next '_' of the key")]
pub struct ApiKeyIdError;

impl ApiKeyId {
    pub const LEN: usize = 8;

    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Hexadecimal digits, as [`fmt::Display`] writes them: an id has one text.
    pub fn parse(text: &str) -> Result<Self, ApiKeyIdError> {
        let mut bytes = [0; Self::LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ApiKeyIdError)?;
        let upper = text.bytes().any(|digit| digit.is_ascii_uppercase());
        if upper { Err(ApiKeyIdError) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeyId({self})")
    }
}

/// What is kept of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub tenant: TenantId,
    /// For people.
    pub name: Option<Subject>,
    pub scopes: ScopeSet,
    pub created_on: Timestamp,
    /// `None`: it holds until it is revoked.
    pub expires_on: Option<Timestamp>,
    pub tag: ApiKeyTag,
}

/// Draws a key: its id, what is stored of it, and the text that its holder gets and
/// nobody can be shown again.
pub fn mint_api_key(mac: &ApiKeyMac) -> (ApiKeyId, ApiKeyTag, Zeroizing<String>) {
    let id = ApiKeyId(random());
    let secret = Zeroizing::new(random::<SECRET_LEN>());
    let tag = mac.tag(&id.0, &secret);
    // With room for all of it: a string that grows leaves its old bytes behind.
    let mut text = Zeroizing::new(String::with_capacity(64));
    text.push_str(PREFIX);
    text.push_str(&id.to_string());
    text.push('_');
    URL_SAFE_NO_PAD.encode_string(*secret, &mut text);
    (id, tag, text)
}

/// A key as somebody sent it. It has no `Debug`.
struct Sent {
    id: ApiKeyId,
    secret: Zeroizing<[u8; SECRET_LEN]>,
}

impl Sent {
    fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = ApiKeyId::parse(id).ok()?;
        let mut bytes = Zeroizing::new([0; SECRET_LEN]);
        let whole = secret.len() == SECRET_TEXT_LEN
            && URL_SAFE_NO_PAD.decode_slice(secret, bytes.as_mut()) == Ok(SECRET_LEN);
        whole.then_some(Self { id, secret: bytes })
    }
}

/// All API keys there are, by id.
pub struct ApiKeys {
    mac: Arc<ApiKeyMac>,
    held: HashMap<ApiKeyId, Arc<Held>>,
    used: Used,
    /// Compared with where there is no key of an id. Nobody knows a secret for it.
    decoy: ApiKeyTag,
}

/// A key, and when it was last used.
struct Held {
    key: ApiKey,
    principal: Arc<Principal>,
    /// Hours since 1970; [`NEVER`].
    last_used: AtomicI64,
}

/// Keys whose last use is later than what was stored of it.
type Used = Arc<Mutex<Vec<ApiKeyId>>>;

const NEVER: i64 = i64::MIN;
const HOUR: i64 = 60 * 60;

impl ApiKeys {
    pub fn new(mac: ApiKeyMac) -> Self {
        let decoy = ApiKeyTag::from_bytes(random());
        Self { mac: Arc::new(mac), held: HashMap::new(), used: Used::default(), decoy }
    }

    pub fn mac(&self) -> &ApiKeyMac {
        &self.mac
    }

    /// `tenant`: the name of the key's tenant, which never changes.
    pub fn insert(&mut self, key: ApiKey, tenant: TenantName, last_used: Option<Timestamp>) {
        let hour = last_used.map_or(NEVER, |at| at.unix_seconds().div_euclid(HOUR));
        let principal = Arc::new(Principal::new(key.grant(tenant)));
        let held = Held { principal, last_used: AtomicI64::new(hour), key };
        self.held.insert(held.key.id, Arc::new(held));
    }

    pub fn remove(&mut self, id: ApiKeyId) {
        self.held.remove(&id);
    }

    pub fn get(&self, id: ApiKeyId) -> Option<&ApiKey> {
        self.held.get(&id).map(|held| &held.key)
    }

    /// Each, and the start of the hour in which it was last used.
    pub fn iter(&self) -> impl Iterator<Item = (&ApiKey, Option<Timestamp>)> {
        self.held.values().map(|held| (&held.key, held.last_used()))
    }

    pub fn of_tenant(&self, tenant: TenantId) -> impl Iterator<Item = &ApiKey> {
        self.held.values().map(|held| &held.key).filter(move |key| key.tenant == tenant)
    }

    /// Those whose last use is to be stored; each is handed out once.
    pub fn take_used(&self) -> Vec<ApiKeyId> {
        std::mem::take(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// They could not be stored; the next [`ApiKeys::take_used`] answers them again.
    pub fn give_back_used(&self, ids: Vec<ApiKeyId>) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }

    pub fn last_used(&self, id: ApiKeyId) -> Option<Timestamp> {
        self.held.get(&id)?.last_used()
    }

    /// What it takes to judge a key, so that nothing is locked meanwhile.
    pub(super) fn judge(&self, text: &str) -> Result<Judgement, Refusal> {
        let sent = Sent::parse(text).ok_or(Refusal::ApiKey)?;
        let held = self.held.get(&sent.id).cloned();
        let (mac, used) = (Arc::clone(&self.mac), Arc::clone(&self.used));
        Ok(Judgement { sent, held, mac, used, decoy: self.decoy })
    }
}

/// A key that was sent and the one that it claims to be.
pub(super) struct Judgement {
    sent: Sent,
    held: Option<Arc<Held>>,
    mac: Arc<ApiKeyMac>,
    used: Used,
    decoy: ApiKeyTag,
}

impl Judgement {
    /// One HMAC, whether or not there is such a key. Expiry is judged after it: only
    /// who has the key hears of that.
    pub(super) fn principal(self, now: Now) -> Result<Arc<Principal>, Refusal> {
        let Self { sent, held, mac, used, decoy } = self;
        let tag = held.as_ref().map_or(&decoy, |held| &held.key.tag);
        let proved = mac.proves(&sent.id.0, &sent.secret, tag);
        let held = held.filter(|_| proved).ok_or(Refusal::ApiKey)?;
        if held.principal.has_expired(now) {
            return Err(Refusal::ApiKeyExpired);
        }
        if held.note_use(now) {
            used.lock().unwrap_or_else(PoisonError::into_inner).push(sent.id);
        }
        Ok(Arc::clone(&held.principal))
    }
}

impl Held {
    /// Answers whether this is the first use in its hour. A clock that goes back a
    /// little does not begin the hour anew; one that was mended does.
    fn note_use(&self, now: Now) -> bool {
        let hour = now.wall().unix_seconds().div_euclid(HOUR);
        let known = self.last_used.load(Ordering::Relaxed);
        if hour == known || hour == known.saturating_sub(1) {
            return false;
        }
        self.last_used.swap(hour, Ordering::Relaxed) != hour
    }

    fn last_used(&self) -> Option<Timestamp> {
        let hour = self.last_used.load(Ordering::Relaxed);
        (hour != NEVER).then(|| Timestamp::from_unix_seconds(hour.saturating_mul(HOUR)))
    }
}

impl ApiKey {
    fn grant(&self, tenant: TenantName) -> Grant {
        let Self { id, tenant: tenant_id, name: _, scopes, created_on, expires_on, tag: _ } = self;
        let subject = Subject::of_api_key(*id);
        Grant {
            id: CredentialId::ApiKey(*id),
            identity: Identity { kind: CredentialKind::ApiKey, issuer: None, subject },
            reach: Reach::Tenant(Tenancy { tenant, tenant_id: *tenant_id, scopes: *scopes }),
            issued: *created_on,
            expires: *expires_on,
            caveats: Caveats::default(),
        }
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::AnchorKeys;
    use crate::domain::{Scope, SecretName};

    const ACME: TenantId = TenantId::from_bytes([7; 16]);

    fn at(seconds: i64) -> Now {
        Now::undisputed(Timestamp::from_unix_seconds(seconds))
    }

    fn name(text: &str) -> TenantName {
        TenantName::parse(text).unwrap()
    }

    /// Keys, one of them, and its text.
    fn keys(expires_on: Option<i64>) -> (ApiKeys, ApiKeyId, Zeroizing<String>) {
        let mut keys = ApiKeys::new(AnchorKeys::generate(ACME).api_keys());
        let (id, tag, text) = mint_api_key(keys.mac());
        let key = ApiKey {
            id,
            tenant: ACME,
            name: None,
            scopes: ScopeSet::NONE.with(Scope::SecretRead),
            created_on: at(0).wall(),
            expires_on: expires_on.map(Timestamp::from_unix_seconds),
            tag,
        };
        keys.insert(key, name("acme"), None);
        (keys, id, text)
    }

    fn ask(keys: &ApiKeys, text: &str, now: Now) -> Result<Arc<Principal>, Refusal> {
        keys.judge(text)?.principal(now)
    }

    #[test]
    fn a_key_is_what_the_documentation_says() {
        let (_, id, text) = keys(None);
        let (prefix, rest) = text.split_at(4);
        let (digits, secret) = rest.split_once('_').unwrap();
        assert_eq!((prefix, digits, secret.len()), ("tnr_", id.to_string().as_str(), 43));
        assert_eq!(ApiKeyId::parse(digits), Ok(id));
        for bad in ["", &digits[1..], "ABCDEF0123456789", "zzzzzzzzzzzzzzzz", &text] {
            assert_eq!(ApiKeyId::parse(bad), Err(ApiKeyIdError), "{bad}");
        }
    }

    #[test]
    fn a_key_does_what_its_scopes_say_in_its_tenant() {
        let (keys, id, text) = keys(None);
        let principal = ask(&keys, &text, at(0)).unwrap();
        let secret = || SecretName::parse("s").unwrap();
        assert!(principal.may_read(&name("acme"), secret(), at(0)).is_ok());
        assert!(principal.may_write(&name("acme"), secret(), at(0)).is_err());
        assert!(principal.may_read(&name("beta"), secret(), at(0)).is_err());
        assert_eq!(principal.id(), &CredentialId::ApiKey(id));
        assert_eq!(principal.subject().as_str(), format!("tnr_{id}"));
    }

    #[test]
    fn a_key_for_all_manages_no_credentials() {
        let (mut keys, id, text) = keys(None);
        let key =
            ApiKey { scopes: ScopeSet::NONE.with(Scope::All), ..keys.get(id).unwrap().clone() };
        keys.insert(key, name("acme"), None);
        let principal = ask(&keys, &text, at(0)).unwrap();
        assert!(principal.may_manage_credentials(&name("acme"), at(0)).is_err());
    }

    #[test]
    fn anything_but_the_very_text_is_refused_alike() {
        let (mut keys, id, text) = keys(None);
        let other = if text.ends_with('A') { 'B' } else { 'A' };
        let (head, secret) = text.split_at(21);
        let tail = &secret[1..];
        for bad in [
            String::new(),
            "tnr_".to_owned(),
            text.replacen("tnr", "TNR", 1),
            format!("{}{other}", &text[..text.len() - 1]),
            format!("{head}{}{tail}", if secret.starts_with('x') { 'y' } else { 'x' }),
            format!("tnr_{}_{secret}", ApiKeyId::from_bytes([9; 8])),
            format!("tnr_{}_{secret}", id.to_string().to_uppercase() + "F"),
            format!("{}=", *text),
            format!("{}A", *text),
            format!(" {}", *text),
            format!("{head}{secret}_{secret}"),
            text.replace('_', "-"),
        ] {
            assert_eq!(ask(&keys, &bad, at(0)).unwrap_err(), Refusal::ApiKey, "{bad}");
        }
        assert!(ask(&keys, &text, at(0)).is_ok());
        keys.remove(id);
        assert_eq!(ask(&keys, &text, at(0)).unwrap_err(), Refusal::ApiKey);
    }

    #[test]
    fn a_key_of_another_store_is_refused() {
        let (mut keys, id, text) = keys(None);
        let key = keys.get(id).unwrap().clone();
        keys.mac = Arc::new(AnchorKeys::generate(ACME).api_keys());
        keys.insert(key, name("acme"), None);
        assert_eq!(ask(&keys, &text, at(0)).unwrap_err(), Refusal::ApiKey);
    }

    #[test]
    fn a_key_ends_exactly_at_its_expiry_and_only_its_holder_hears_of_that() {
        let (keys, id, text) = keys(Some(100));
        assert!(ask(&keys, &text, at(99)).is_ok());
        assert_eq!(ask(&keys, &text, at(100)).unwrap_err(), Refusal::ApiKeyExpired);
        let set_back = Now::new(at(99).wall(), at(100).wall());
        assert_eq!(ask(&keys, &text, set_back).unwrap_err(), Refusal::ApiKeyExpired);
        let guess = format!("tnr_{id}_{}", "A".repeat(43));
        assert_eq!(ask(&keys, &guess, at(100)).unwrap_err(), Refusal::ApiKey);
    }

    #[test]
    fn the_last_use_is_noted_once_an_hour() {
        let (keys, id, text) = keys(None);
        assert_eq!(keys.last_used(id), None);
        let used_at = |seconds| {
            ask(&keys, &text, at(seconds)).unwrap();
            (keys.last_used(id).unwrap().unix_seconds(), keys.take_used().len())
        };
        assert_eq!(used_at(7_300), (7_200, 1));
        assert_eq!(used_at(10_799), (7_200, 0));
        assert_eq!(used_at(10_800), (10_800, 1));
        assert_eq!(used_at(10_799), (10_800, 0), "a clock that goes back a little");
        assert_eq!(used_at(3_600), (3_600, 1), "a clock that was mended");
        assert!(ask(&keys, "tnr_", at(90_000)).is_err());
        assert_eq!(keys.take_used(), []);
        keys.give_back_used(vec![id]);
        assert_eq!(keys.take_used(), [id]);
    }

    #[test]
    fn debug_shows_no_secret() {
        let (keys, id, text) = keys(None);
        let principal = ask(&keys, &text, at(0)).unwrap();
        let shown = format!("{keys:?} {:?} {principal:?}", keys.get(id));
        assert!(!shown.contains(&text[30..]) && shown.contains("ApiKeyTag(..)"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn random_text_is_no_key(text in "(tnr_)?[0-9a-f]{0,17}_?[A-Za-z0-9_-]{0,45}") {
            let (keys, ..) = keys(None);
            proptest::prop_assert_eq!(ask(&keys, &text, at(0)).unwrap_err(), Refusal::ApiKey);
        }
    }
}
