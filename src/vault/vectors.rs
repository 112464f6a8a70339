//! Frozen records: each form that is stored reads in this version and every
//! later one, and is written again to the byte.

use serde_json::Value;

use super::audit::LastCheckpoint;
use super::credential_rows;
use super::keyring::{self, Header, Phase};
use super::layout::{Head, ValueShape};
use super::notices::Told;
use super::seal;
use super::system::{self, TenantRecord};
use crate::auth::{
    ApiKey, ApiKeyId, CredentialKind, Identity, Revocation, RevocationId, RevocationTarget, Roots,
    Subject,
};
use crate::crypto::{ApiKeyTag, Argon2Params, KekOrigin, KekWay, ShareSet, StoreId};
use crate::domain::{
    Bound, Floor, Now, OwnLimits, Scope, ScopeSet, SecretName, TenantId, TenantName, Timestamp,
    ValidityWindow,
};
use crate::store::{Chain, Ledger};

fn frozen(record: &str) -> Vec<u8> {
    let files = [
        include_str!("../../tests/vectors/tenants-v1.json"),
        include_str!("../../tests/vectors/records-v1.json"),
        include_str!("../../tests/vectors/records-v2.json"),
        include_str!("../../tests/vectors/records-v3.json"),
        include_str!("../../tests/vectors/records-v4.json"),
        include_str!("../../tests/vectors/records-v5.json"),
        include_str!("../../tests/vectors/records-v6.json"),
        include_str!("../../tests/vectors/checkpoints-v1.json"),
    ];
    let vectors = files.map(|file| serde_json::from_str::<Value>(file).unwrap());
    let found = vectors.iter().find_map(|vectors| vectors[record].as_str());
    hex::decode(found.unwrap()).unwrap()
}

fn frozen_credential(record: &str) -> Vec<u8> {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/vectors/credentials-v1.json")).unwrap();
    hex::decode(vectors[record].as_str().unwrap()).unwrap()
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(micros)
}

#[test]
fn frozen_heads_are_read_and_written_alike() {
    let window =
        ValidityWindow::new(Some(at(1_900_000_000_000_000)), Some(at(1_900_000_060_500_000)));
    let text = Head {
        name: SecretName::parse("db-password").unwrap(),
        window: window.unwrap(),
        created_on: at(1_890_000_000_000_001),
        updated_on: at(1_890_000_000_000_002),
        value: ValueShape::Apart { chunks: 19 },
    };
    let null = Head {
        name: SecretName::parse("_").unwrap(),
        window: ValidityWindow::default(),
        created_on: at(-1),
        updated_on: at(0),
        value: ValueShape::Null,
    };
    let beside = Head { value: ValueShape::Beside, ..null.clone() };
    for (record, head) in [("head", text), ("headOfNull", null), ("headBeside", beside)] {
        assert_eq!(head.encode(), frozen(record));
        assert_eq!(Head::decode(&frozen(record)), Ok(head));
    }
}

#[test]
fn frozen_tenants_are_read_and_written_alike() {
    let tenant = TenantRecord {
        id: TenantId::from_bytes(std::array::from_fn(|n| n as u8)),
        name: TenantName::parse("acme").unwrap(),
        created_on: at(1_234_567),
        limits: OwnLimits::NONE,
    };
    let limits = OwnLimits {
        secrets: Some(Bound::of(1_000)),
        bytes: None,
        requests_per_second: Some(Bound::NONE),
    };
    let limited = TenantRecord { limits, ..tenant.clone() };
    for (record, tenant) in [("tenant", tenant), ("tenantWithLimits", limited)] {
        assert_eq!(system::encode_tenant(&tenant), frozen(record));
        assert_eq!(system::decode_tenant(&frozen(record)), Ok(tenant));
    }
}

#[test]
fn what_was_told_is_read_and_written_alike() {
    let tenant = TenantId::from_bytes(std::array::from_fn(|n| n as u8));
    let told = Told { at: at(1_234_567), version: 9 };
    assert_eq!(system::encode_told(tenant, told), frozen("told"));
    assert_eq!(system::decode_told(&frozen("told")), Ok((tenant, told)));
}

#[test]
fn what_checkpoints_need_is_read_and_written_alike() {
    let signer = system::decode_audit_signer(&frozen("auditKey")).unwrap();
    assert_eq!(signer.bytes(), &[0x4a; 32]);
    assert_eq!(system::encode_audit_signer(&signer).as_slice(), frozen("auditKey"));
    let last = LastCheckpoint::decode(&frozen("lastCheckpoint")).unwrap();
    assert_eq!(last.encode(), frozen("lastCheckpoint"));
}

const D: i64 = 1_900_000_000_000_000;

#[test]
fn frozen_api_keys_are_read_and_written_alike() {
    let least = ApiKey {
        id: ApiKeyId::from_bytes(std::array::from_fn(|n| 0xa0 + n as u8)),
        tenant: TenantId::from_bytes(std::array::from_fn(|n| n as u8)),
        name: None,
        scopes: ScopeSet::NONE.with(Scope::SecretRead),
        created_on: at(D),
        expires_on: None,
        tag: ApiKeyTag::from_bytes([0xab; 32]),
    };
    let most = ApiKey {
        name: Some(Subject::parse("backup-job ä").unwrap()),
        scopes: Scope::EVERY.into_iter().collect(),
        created_on: at(D + 1),
        expires_on: Some(at(D + 60_500_000)),
        ..least.clone()
    };
    for (record, key, last_used) in
        [("apiKey", least, None), ("apiKeyWithAll", most, Some(at(D + 2)))]
    {
        let encoded = credential_rows::encode_api_key(&key, last_used);
        assert_eq!(encoded, frozen_credential(record), "{record}");
        let read = credential_rows::decode_api_key(&frozen_credential(record));
        assert_eq!(read, Ok((key, last_used)), "{record}");
    }
}

#[test]
fn frozen_revocations_are_read_and_written_alike() {
    let tenant = TenantId::from_bytes(std::array::from_fn(|n| n as u8));
    let token = RevocationTarget::Token(RevocationId::from_bytes([0xcd; 64]));
    let subject = |kind, issuer: Option<&str>| {
        let (issuer, subject) = (issuer.map(Into::into), Subject::parse("ci").unwrap());
        RevocationTarget::Subject(tenant, Identity { kind, issuer, subject })
    };
    let whenever =
        Revocation { before: None, token_tenant: None, revoked_on: at(D), keep_until: at(D + 3) };
    let of_token = Revocation { token_tenant: Some(tenant), ..whenever };
    let before = Revocation { before: Some(at(D + 1)), ..whenever };
    for (record, target, said) in [
        ("revokedToken", token.clone(), of_token),
        ("revokedTokenById", token, whenever),
        ("revokedSubject", subject(CredentialKind::Biscuit, None), before),
        (
            "revokedSubjectElsewhere",
            subject(CredentialKind::Oidc, Some("https://id.example")),
            before,
        ),
        ("revokedTenant", RevocationTarget::Tenant(tenant), before),
    ] {
        let encoded = credential_rows::encode_revocation(&target, &said);
        assert_eq!(encoded, frozen_credential(record), "{record}");
        let read = credential_rows::decode_revocation(&frozen_credential(record));
        assert_eq!(read, Ok((target, said)), "{record}");
    }
}

#[test]
fn frozen_roots_are_read_and_written_alike() {
    let now = Now::undisputed(at(D - 1));
    for (record, ends) in
        [("roots", vec![(1, None)]), ("rootsWithEnds", vec![(1, Some(at(D))), (3, None)])]
    {
        let roots = Roots::decode(&frozen_credential(record)).unwrap();
        let read: Vec<_> = roots.public(now).iter().map(|root| (root.id, root.until)).collect();
        assert_eq!(read, ends, "{record}");
        assert_eq!(*roots.encode(), frozen_credential(record), "{record}");
    }
}

#[test]
fn a_frozen_sweep_is_read() {
    assert_eq!(system::decode_sweep(&frozen("sweep")), Ok(at(1_900_000_000_000_000)));
}

#[test]
fn a_frozen_beginning_of_a_service_is_read_and_written_alike() {
    let since = at(1_900_000_000_000_000);
    assert_eq!(system::encode_service(since), frozen("service"));
    assert_eq!(system::decode_service(&frozen("service")), Ok(since));
}

#[test]
fn a_frozen_ledger_is_read_and_written_alike() {
    let ledger = Ledger {
        commits: 5,
        rows: 9,
        digest: [0xab; 32],
        highest_version: u64::MAX,
        floor: Floor { epoch: 2, at: at(-5) },
        chain: Chain::EMPTY,
        kept_from: Chain::EMPTY,
    };
    assert_eq!(seal::encode(&ledger), frozen("ledger"));
    assert_eq!(seal::decode(&frozen("ledger")), Ok(ledger));
    let chain = Chain { next: 0x0102_0304_0506_0708, head: [0xcd; 32] };
    let ledger = Ledger { chain, ..ledger };
    assert_eq!(seal::encode(&ledger), frozen("ledgerWithChain"));
    assert_eq!(seal::decode(&frozen("ledgerWithChain")), Ok(ledger));
    let kept_from = Chain { next: 0x0102_0304, head: [0xef; 32] };
    let ledger = Ledger { kept_from, ..ledger };
    assert_eq!(seal::encode(&ledger), frozen("ledgerWithBeginning"));
    assert_eq!(seal::decode(&frozen("ledgerWithBeginning")), Ok(ledger));
}

#[test]
fn a_frozen_keyring_header_is_read() {
    let id = StoreId::from_bytes(std::array::from_fn(|n| 16 + n as u8));
    let read = keyring::parse_header(&frozen("keyringHeader"));
    let header =
        |origin| Header { phase: Phase::Complete, store_id: id, check: [0xcd; 32], origin };
    assert_eq!(read, Ok(header(None)));
    let read = keyring::parse_header(&frozen("keyringHeaderWithOrigin"));
    let origin = KekOrigin::decode(&frozen("originShamir")).unwrap();
    assert_eq!(read, Ok(header(Some(origin))));
}

#[test]
fn frozen_origins_of_keks_are_read_and_written_alike() {
    let argon2 = Argon2Params {
        salt: std::array::from_fn(|n| 0xb0 + n as u8),
        memory_kib: 65_536,
        passes: 3,
        lanes: 4,
    };
    let set = ShareSet { id: std::array::from_fn(|n| 0xa0 + n as u8), threshold: 3, shares: 5 };
    for (record, way, since) in [
        ("originFile", KekWay::File, at(D)),
        ("originPassphrase", KekWay::Passphrase(argon2), at(D + 1)),
        ("originShamir", KekWay::Shamir(set), at(-1)),
    ] {
        let origin = KekOrigin { way, since };
        assert_eq!(origin.encode(), frozen(record));
        assert_eq!(KekOrigin::decode(&frozen(record)), Ok(origin));
    }
}
