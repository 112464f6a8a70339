//! The KEK and what hangs on it.

use std::fmt;

use zeroize::Zeroizing;

use super::audit::{AuditKey, BlockDigest};
use super::envelope::{Binding, Dek, DekState, Purpose, Undecryptable};
use super::kept::KeyBytes;
use super::ring::{self, Mac};
use crate::domain::{TenantId, Timestamp};

/// Which store a KEK's derived keys belong to: drawn once, when a store is made,
/// so that one KEK used for two stores gives them unrelated keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId([u8; 16]);

impl StoreId {
    pub fn generate() -> Self {
        Self(ring::random())
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The key-encryption key. It is never used itself: only through the keys that
/// [`Kek::for_store`] derives.
///
/// Boxed, so that handing it on leaves no copies of it on the stack.
pub struct Kek(KeyBytes);

/// A text that is no KEK. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a KEK is 32 bytes, written as 64 hexadecimal digits")]
pub struct KekFormatError;

impl Kek {
    pub fn generate() -> Self {
        Self(KeyBytes::filled(ring::fill))
    }

    /// 64 hexadecimal digits, white space around them ignored.
    pub fn parse(text: &str) -> Result<Self, KekFormatError> {
        let mut key = Self(Zeroizing::new([0; 32]).into());
        hex::decode_to_slice(text.trim(), key.0.as_mut_slice()).map_err(|_| KekFormatError)?;
        Ok(key)
    }

    /// As [`Kek::parse`] reads it. For the file that `tenure init` writes.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    /// Whether it is the same as another one, compared in constant time.
    pub fn is(&self, other: &Self) -> bool {
        ring::equal(self.0.as_ref(), other.0.as_ref())
    }

    pub(super) fn copied(bytes: &[u8; 32]) -> Self {
        Self(KeyBytes::filled(|key| key.copy_from_slice(bytes)))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `HKDF-SHA256(ikm = KEK, salt = store id, info = label)` for each label.
    pub fn for_store(&self, id: StoreId) -> StoreKeys {
        let derive = |label: &str| ring::hkdf_sha256(id.as_bytes(), &self.0, label.as_bytes());
        StoreKeys {
            id,
            wrap: Dek::derived(derive("tenure/v1/wrap")),
            check: Mac::new(&derive("tenure/v1/check")),
            keyring_ledger: LedgerKey::new(KEYRING, &derive("tenure/v1/system")),
            backup: derive("tenure/v1/backup").into(),
        }
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(..)")
    }
}

/// In the place of a tenant's id under the keyring's ledger. (The system's own
/// keys stand under the all-zero id.)
const KEYRING: TenantId = TenantId::from_bytes([0xff; 16]);

/// What one KEK is for one store.
pub struct StoreKeys {
    id: StoreId,
    wrap: Dek,
    check: Mac,
    keyring_ledger: LedgerKey,
    /// Derives the key of each backup, so that no KEK stays in memory for it.
    backup: KeyBytes,
}

/// Authenticates a sequence of frames: each tag covers the one before it, so that
/// a frame altered, added, dropped or moved makes every later tag wrong.
pub struct ChainKey(Mac);

impl ChainKey {
    /// `HMAC-SHA256(key, previous tag ‖ parts)`. The caller makes the parts
    /// unambiguous.
    pub fn tag(&self, previous: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
        let mut message = Vec::with_capacity(1 + parts.len());
        message.push(previous.as_slice());
        message.extend_from_slice(parts);
        self.0.tag(&message)
    }

    /// Whether `tag` is the one, compared in constant time.
    pub fn proves(&self, previous: &[u8; 32], parts: &[&[u8]], tag: &[u8; 32]) -> bool {
        ring::equal(&self.tag(previous, parts), tag)
    }
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainKey(..)")
    }
}

impl StoreKeys {
    pub fn store_id(&self) -> StoreId {
        self.id
    }

    /// Proves a KEK before it is used: `HMAC-SHA256(check key, "tenure/check")`.
    pub fn check_value(&self) -> [u8; 32] {
        self.check.tag(&[b"tenure/check"])
    }

    /// Whether `stored` is this KEK's check value, compared in constant time.
    pub fn proves(&self, stored: &[u8]) -> bool {
        ring::equal(&self.check_value(), stored)
    }

    /// The key that authenticates one backup of this store: `HKDF-SHA256(ikm =
    /// backup key, salt = backup id, info = "tenure/v1/backup-chain")`.
    pub fn chain_key(&self, backup_id: &[u8; 32]) -> ChainKey {
        ChainKey(Mac::new(&ring::hkdf_sha256(backup_id, &self.backup, b"tenure/v1/backup-chain")))
    }

    pub fn keyring_ledger(&self) -> &LedgerKey {
        &self.keyring_ledger
    }

    /// What is wrapped is `key (32)`, then the time of its making in microseconds (8)
    /// where that is known.
    pub fn wrap_dek(&self, tenant: TenantId, dek: &Dek, state: DekState) -> Vec<u8> {
        let place = self.place(state.byte());
        let binding = dek_binding(tenant, &place, dek.id);
        let mut wrapped = Zeroizing::new(Vec::with_capacity(32 + 8));
        wrapped.extend_from_slice(dek.key.as_slice());
        if let Some(made_on) = dek.made_on {
            wrapped.extend_from_slice(&made_on.unix_micros().to_be_bytes());
        }
        self.wrap.encrypt(&binding, &wrapped)
    }

    /// Opens only as the DEK id and in the state that it was wrapped for: a
    /// retired DEK cannot be passed off as the active one.
    pub fn unwrap_dek(
        &self,
        tenant: TenantId,
        id: u32,
        state: DekState,
        wrapped: &[u8],
    ) -> Result<Dek, Undecryptable> {
        let place = self.place(state.byte());
        let unwrapped = self.wrap.decrypt(&dek_binding(tenant, &place, id), wrapped)?;
        let (key, made_on) = unwrapped.split_at_checked(32).ok_or(Undecryptable)?;
        let made_on = match made_on {
            [] => None,
            micros => {
                let micros = micros.try_into().map_err(|_| Undecryptable)?;
                Some(Timestamp::from_unix_micros(i64::from_be_bytes(micros)))
            }
        };
        Ok(Dek { id, key: to_key(key)?, made_on })
    }

    pub fn wrap_anchor(&self, tenant: TenantId, anchor: &AnchorKeys) -> Vec<u8> {
        let place = self.place(0);
        self.wrap.encrypt(&anchor_binding(tenant, &place), anchor.seed.as_slice())
    }

    pub fn unwrap_anchor(
        &self,
        tenant: TenantId,
        wrapped: &[u8],
    ) -> Result<AnchorKeys, Undecryptable> {
        let place = self.place(0);
        let seed = self.wrap.decrypt(&anchor_binding(tenant, &place), wrapped)?;
        Ok(AnchorKeys::from_seed(tenant, to_key(&seed)?))
    }

    fn place(&self, state: u8) -> Vec<u8> {
        [self.id.as_bytes().as_slice(), &[state]].concat()
    }
}

impl fmt::Debug for StoreKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKeys {{ id: {:?}, .. }}", self.id)
    }
}

fn dek_binding(tenant: TenantId, place: &[u8], dek_id: u32) -> Binding<'_> {
    Binding { purpose: Purpose::WrappedDek, tenant, name: place, version: u64::from(dek_id) }
}

fn anchor_binding(tenant: TenantId, place: &[u8]) -> Binding<'_> {
    Binding { purpose: Purpose::WrappedAnchor, tenant, name: place, version: 0 }
}

fn to_key(bytes: &[u8]) -> Result<KeyBytes, Undecryptable> {
    let bytes: &[u8; 32] = bytes.try_into().map_err(|_| Undecryptable)?;
    Ok(KeyBytes::filled(|key| key.copy_from_slice(bytes)))
}

/// The keys of a tenant that outlive every rotation of its DEKs, since changing
/// them would move or recount every row: all are derived from one wrapped seed,
/// `HKDF-SHA256(ikm = seed, salt = tenant id, info = label)`.
pub struct AnchorKeys {
    seed: KeyBytes,
    index: IndexKey,
    ledger: LedgerKey,
    audit: AuditKey,
}

impl AnchorKeys {
    pub fn generate(tenant: TenantId) -> Self {
        Self::from_seed(tenant, KeyBytes::filled(ring::fill))
    }

    fn from_seed(tenant: TenantId, seed: KeyBytes) -> Self {
        let derive = |label: &str| ring::hkdf_sha256(tenant.as_bytes(), &seed, label.as_bytes());
        let index = IndexKey(Mac::new(&derive("tenure/v1/index")));
        let ledger = LedgerKey::new(tenant, &derive("tenure/v1/ledger"));
        let audit = AuditKey::new(tenant, derive("tenure/v1/audit"));
        Self { seed, index, ledger, audit }
    }

    pub fn index(&self) -> &IndexKey {
        &self.index
    }

    pub fn ledger(&self) -> &LedgerKey {
        &self.ledger
    }

    pub fn audit(&self) -> &AuditKey {
        &self.audit
    }

    /// The key that proves API keys, with the label "tenure/v1/api-key". Derived when
    /// asked for: only the system's is.
    pub fn api_keys(&self) -> ApiKeyMac {
        let salt = self.ledger.tenant;
        ApiKeyMac(Mac::new(&ring::hkdf_sha256(salt.as_bytes(), &self.seed, b"tenure/v1/api-key")))
    }

    /// Hides names in copies of the audit, with the label "tenure/v1/audit-names".
    /// Derived when asked for: only the system's is.
    pub fn audit_names(&self) -> AuditNames {
        let (salt, label) = (self.ledger.tenant, b"tenure/v1/audit-names");
        AuditNames(Mac::new(&ring::hkdf_sha256(salt.as_bytes(), &self.seed, label)))
    }
}

impl fmt::Debug for AnchorKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnchorKeys(..)")
    }
}

/// Turns names into row keys that say nothing: `HMAC-SHA256(index key, name)`.
pub struct IndexKey(Mac);

impl IndexKey {
    pub fn locate(&self, name: &[u8]) -> [u8; 32] {
        self.0.tag(&[name])
    }
}

/// What stands for names of secrets where those are not to be told. It is the same after
/// every restart and every rotation, so that who reads can tell one secret from another.
pub struct AuditNames(Mac);

impl AuditNames {
    /// `HMAC-SHA256(key, tenant id ‖ name)`, the first half of it, hexadecimal. Without
    /// the key a guess cannot be tried; the id, which has one length, makes the same name
    /// of another tenant another one.
    pub fn hide(&self, tenant: TenantId, name: &str) -> String {
        let tag = self.0.tag(&[tenant.as_bytes(), name.as_bytes()]);
        hex::encode(tag.split_at(16).0)
    }
}

impl fmt::Debug for AuditNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditNames(..)")
    }
}

/// Proves API keys. What is stored of one is its tag: without this key nobody can
/// tell whether a guess is right, and with it the 256 random bits of a key are
/// beyond guessing; no slow hash is needed.
pub struct ApiKeyMac(Mac);

/// What is stored of an API key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyTag([u8; 32]);

impl ApiKeyMac {
    /// `HMAC-SHA256(key, id ‖ secret)`; both have one length.
    pub fn tag(&self, id: &[u8; 8], secret: &[u8; 32]) -> ApiKeyTag {
        ApiKeyTag(self.0.tag(&[id, secret]))
    }

    /// Whether `tag` is the one, compared in constant time.
    pub fn proves(&self, id: &[u8; 8], secret: &[u8; 32], tag: &ApiKeyTag) -> bool {
        ring::equal(&self.tag(id, secret).0, &tag.0)
    }
}

impl ApiKeyTag {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ApiKeyMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyMac(..)")
    }
}

impl fmt::Debug for ApiKeyTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyTag(..)")
    }
}

/// Counts rows and seals the account.
pub struct LedgerKey {
    tenant: TenantId,
    digest: Mac,
    seal: Dek,
}

impl LedgerKey {
    fn new(tenant: TenantId, key: &[u8; 32]) -> Self {
        let derive = |label: &str| ring::hkdf_sha256(tenant.as_bytes(), key, label.as_bytes());
        Self {
            tenant,
            digest: Mac::new(&derive("tenure/v1/row-digest")),
            seal: Dek::derived(derive("tenure/v1/ledger-seal")),
        }
    }

    /// `HMAC-SHA256(digest key, len(key) ‖ key ‖ version ‖ bytes)`.
    pub fn digest_row(&self, key: &[u8], version: u64, bytes: &[u8]) -> [u8; 32] {
        let length = (key.len() as u64).to_be_bytes();
        self.digest.tag(&[&length, key, &version.to_be_bytes(), bytes])
    }

    /// See [`BlockDigest::link`]. It takes no key, so that anybody can follow a chain.
    pub fn link(&self, head: &[u8; 32], first: u64, entries: u32, block: &[u8]) -> [u8; 32] {
        BlockDigest::of(block).link(self.tenant, head, first, entries)
    }

    pub fn seal(&self, account: &[u8]) -> Vec<u8> {
        self.seal.encrypt(&self.binding(), account)
    }

    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Undecryptable> {
        self.seal.decrypt(&self.binding(), sealed)
    }

    fn binding(&self) -> Binding<'static> {
        Binding { purpose: Purpose::Ledger, tenant: self.tenant, name: b"", version: 0 }
    }
}

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LedgerKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([5; 16]);

    fn keys() -> StoreKeys {
        let kek = Kek::parse(&"4a".repeat(32)).unwrap();
        kek.for_store(StoreId::from_bytes([1; 16]))
    }

    #[test]
    fn a_kek_is_64_hexadecimal_digits() {
        let kek = Kek::generate();
        let text = kek.to_text();
        assert_eq!(text.len(), 64);
        assert_eq!(*Kek::parse(&format!(" {}\n", text.as_str())).unwrap().0, *kek.0);
        for bad in ["", "4a", &"4a".repeat(33), &"zz".repeat(32)] {
            assert_eq!(Kek::parse(bad).unwrap_err(), KekFormatError, "{bad}");
        }
    }

    #[test]
    fn the_check_value_proves_the_kek_and_the_store() {
        let check = keys().check_value();
        assert!(keys().proves(&check));
        let other_kek = Kek::parse(&"4b".repeat(32)).unwrap();
        assert!(!other_kek.for_store(StoreId::from_bytes([1; 16])).proves(&check));
        let same_kek = Kek::parse(&"4a".repeat(32)).unwrap();
        assert!(!same_kek.for_store(StoreId::from_bytes([2; 16])).proves(&check));
        assert!(!keys().proves(&check[..31]));
    }

    #[test]
    fn a_wrapped_dek_opens_in_its_place_only() {
        let made_on = Timestamp::from_unix_micros(1_234_567);
        let dek = Dek::generate(3, made_on);
        let wrapped = keys().wrap_dek(TENANT, &dek, DekState::Retired);
        let opened = keys().unwrap_dek(TENANT, 3, DekState::Retired, &wrapped).unwrap();
        assert_eq!(*opened.key, *dek.key);
        assert_eq!(opened.made_on, Some(made_on));
        let elsewhere = TenantId::from_bytes([6; 16]);
        for (tenant, id, state) in [
            (TENANT, 3, DekState::Active),
            (TENANT, 4, DekState::Retired),
            (elsewhere, 3, DekState::Retired),
        ] {
            assert!(keys().unwrap_dek(tenant, id, state, &wrapped).is_err());
        }
        let kek = Kek::parse(&"4a".repeat(32)).unwrap();
        let other_store = kek.for_store(StoreId::from_bytes([2; 16]));
        assert!(other_store.unwrap_dek(TENANT, 3, DekState::Retired, &wrapped).is_err());
    }

    #[test]
    fn an_anchor_survives_its_wrapping() {
        let anchor = AnchorKeys::generate(TENANT);
        let wrapped = keys().wrap_anchor(TENANT, &anchor);
        let opened = keys().unwrap_anchor(TENANT, &wrapped).unwrap();
        assert_eq!(opened.index().locate(b"name"), anchor.index().locate(b"name"));
        let sealed = anchor.ledger().seal(b"account");
        assert_eq!(*opened.ledger().open(&sealed).unwrap(), b"account");
        assert!(keys().unwrap_anchor(TenantId::from_bytes([6; 16]), &wrapped).is_err());
    }

    #[test]
    fn an_api_key_is_proved_by_its_id_its_secret_and_the_stores_key() {
        let anchor = AnchorKeys::generate(TENANT);
        let tag = anchor.api_keys().tag(&[1; 8], &[2; 32]);
        assert!(anchor.api_keys().proves(&[1; 8], &[2; 32], &tag));
        assert!(!anchor.api_keys().proves(&[3; 8], &[2; 32], &tag));
        assert!(!anchor.api_keys().proves(&[1; 8], &[3; 32], &tag));
        let other = AnchorKeys::generate(TENANT).api_keys();
        assert!(!other.proves(&[1; 8], &[2; 32], &tag));
    }

    #[test]
    fn row_digests_depend_on_each_part() {
        let anchor = AnchorKeys::generate(TENANT);
        let digest =
            |key: &[u8], version, bytes: &[u8]| anchor.ledger().digest_row(key, version, bytes);
        let base = digest(b"k", 1, b"v");
        assert_eq!(base, digest(b"k", 1, b"v"));
        for other in [digest(b"l", 1, b"v"), digest(b"k", 2, b"v"), digest(b"k", 1, b"w")] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_chain_tag_depends_on_the_kek_the_backup_the_previous_tag_and_each_part() {
        let store = StoreId::from_bytes([1; 16]);
        let keys = |byte: &str| Kek::parse(&byte.repeat(32)).unwrap().for_store(store);
        let tag = |byte: &str, id: u8, previous: u8, part: &[u8]| {
            keys(byte).chain_key(&[id; 32]).tag(&[previous; 32], &[part])
        };
        let base = tag("4a", 1, 2, b"part");
        assert!(keys("4a").chain_key(&[1; 32]).proves(&[2; 32], &[b"part"], &base));
        let others = [tag("4b", 1, 2, b"part"), tag("4a", 3, 2, b"part"), tag("4a", 1, 3, b"part")];
        for other in others.into_iter().chain([tag("4a", 1, 2, b"parT")]) {
            assert_ne!(other, base);
        }
    }

    /// The tag of a frame under a known KEK, as docs/backup-format.md has it;
    /// computed by another implementation (Python's hmac and hashlib).
    #[test]
    fn a_frozen_chain_tag_is_made_again() {
        let vector: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/chain-v1.json")).unwrap();
        let bytes = |field: &str| hex::decode(vector[field].as_str().unwrap()).unwrap();
        let kek = Kek::parse(vector["kek"].as_str().unwrap()).unwrap();
        let store = StoreId::from_bytes(bytes("storeId").try_into().unwrap());
        let key = kek.for_store(store).chain_key(&bytes("backupId").try_into().unwrap());
        let previous = bytes("previous").try_into().unwrap();
        let tag: [u8; 32] = bytes("tag").try_into().unwrap();
        assert_eq!(key.tag(&previous, &[&bytes("frame")]), tag);
    }

    /// Everything that hangs on a KEK and on an anchor seed, as docs/keys.md has it; put
    /// together by another implementation (Python's `cryptography`), which checks it too.
    #[test]
    fn frozen_keys_are_derived_and_unwrapped_again() {
        let vector: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/keys-v1.json")).unwrap();
        let bytes = |field: &str| hex::decode(vector[field].as_str().unwrap()).unwrap();
        let array = |field: &str| <[u8; 32]>::try_from(bytes(field)).unwrap();
        let tenant = TenantId::from_bytes(bytes("tenant").try_into().unwrap());
        let kek = Kek::parse(vector["kek"].as_str().unwrap()).unwrap();
        let keys = kek.for_store(StoreId::from_bytes(bytes("storeId").try_into().unwrap()));
        assert_eq!(keys.check_value(), array("checkValue"));
        let id = u32::try_from(vector["dekId"].as_u64().unwrap()).unwrap();
        let dek = keys.unwrap_dek(tenant, id, DekState::Active, &bytes("wrappedDek")).unwrap();
        assert_eq!(**dek.key, array("dek"));
        let with_time = bytes("wrappedDekWithTime");
        let leaving = keys.unwrap_dek(tenant, id, DekState::Leaving, &with_time).unwrap();
        assert_eq!(**leaving.key, array("dek"));
        assert!(dek.made_on.is_none() && leaving.made_on.is_some());
        let anchor = keys.unwrap_anchor(tenant, &bytes("wrappedAnchor")).unwrap();
        assert_eq!(**anchor.seed, array("anchorSeed"));
        assert_eq!(anchor.index().locate(&bytes("name")), array("locator"));
        let version = vector["rowVersion"].as_u64().unwrap();
        let digest = anchor.ledger().digest_row(&bytes("rowKey"), version, &bytes("rowBytes"));
        assert_eq!(digest, array("rowDigest"));
        for (ledger, sealed) in
            [(anchor.ledger(), "sealedLedger"), (keys.keyring_ledger(), "sealedKeyringLedger")]
        {
            assert_eq!(*ledger.open(&bytes(sealed)).unwrap(), bytes("account"), "{sealed}");
        }
        let (id, secret) = (bytes("apiKeyId").try_into().unwrap(), array("apiKeySecret"));
        assert_eq!(anchor.api_keys().tag(&id, &secret).0, array("apiKeyTag"));
        let hidden = anchor.audit_names().hide(TenantId::from_bytes([7; 16]), "db-password");
        assert_eq!(hidden, "fe08b4050146e34fa6d838660734577a");
        assert_eq!(format!("{:?}", anchor.audit_names()), "AuditNames(..)");
    }

    #[test]
    fn debug_of_keys_shows_none() {
        let kek = Kek::parse(&"4a".repeat(32)).unwrap();
        let dek = Dek { id: 1, key: Zeroizing::new([0x4a; 32]).into(), made_on: None };
        let tag = ApiKeyTag([0x4a; 32]);
        let anchor = AnchorKeys::generate(TENANT);
        let shown =
            format!("{kek:?} {dek:?} {tag:?} {:?} {anchor:?} {:?}", keys(), anchor.api_keys());
        assert!(!shown.contains("4a4a") && !shown.contains("74, 74"), "{shown}");
    }

    /// The blocks follow entries 0 to 8; put together by another implementation too.
    #[test]
    fn frozen_blocks_of_an_audit_are_read_and_linked_again() {
        for vector in [
            include_str!("../../tests/vectors/audit-v1.json"),
            include_str!("../../tests/vectors/audit-v2.json"),
        ] {
            let vector: serde_json::Value = serde_json::from_str(vector).unwrap();
            let bytes = |field: &str| hex::decode(vector[field].as_str().unwrap()).unwrap();
            let array = |field: &str| <[u8; 32]>::try_from(bytes(field)).unwrap();
            let tenant = TenantId::from_bytes(bytes("tenant").try_into().unwrap());
            let anchor = AnchorKeys::from_seed(tenant, to_key(&bytes("anchorSeed")).unwrap());
            let entries = anchor.audit().read(&bytes("block")).unwrap();
            let texts: Vec<_> = entries.iter().map(|entry| entry.text.as_bytes()).collect();
            assert_eq!(texts, [bytes("one"), bytes("two")]);
            let link = anchor.ledger().link(&array("before"), 9, 2, &bytes("block"));
            assert_eq!(link, array("link"));
        }
    }
}
