//! Frozen records: each form that is stored reads in this version and every
//! later one, and is written again to the byte.

use serde_json::Value;

use super::keyring::{self, Phase};
use super::layout::{Head, ValueShape};
use super::seal;
use super::system::{self, TenantRecord};
use crate::crypto::StoreId;
use crate::domain::{Floor, SecretName, TenantId, TenantName, Timestamp, ValidityWindow};
use crate::store::Ledger;

fn frozen(record: &str) -> Vec<u8> {
    let files = [
        include_str!("../../tests/vectors/records-v1.json"),
        include_str!("../../tests/vectors/records-v2.json"),
    ];
    let vectors = files.map(|file| serde_json::from_str::<Value>(file).unwrap());
    let found = vectors.iter().find_map(|vectors| vectors[record].as_str());
    hex::decode(found.unwrap()).unwrap()
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
fn a_frozen_tenant_is_read_and_written_alike() {
    let tenant = TenantRecord {
        id: TenantId::from_bytes(std::array::from_fn(|n| n as u8)),
        name: TenantName::parse("acme").unwrap(),
        created_on: at(1_234_567),
    };
    assert_eq!(system::encode_tenant(&tenant), frozen("tenant"));
    assert_eq!(system::decode_tenant(&frozen("tenant")), Ok(tenant));
}

#[test]
fn a_frozen_sweep_is_read() {
    assert_eq!(system::decode_sweep(&frozen("sweep")), Ok(at(1_900_000_000_000_000)));
}

#[test]
fn a_frozen_ledger_is_read_and_written_alike() {
    let ledger = Ledger {
        commits: 5,
        rows: 9,
        digest: [0xab; 32],
        highest_version: u64::MAX,
        floor: Floor { epoch: 2, at: at(-5) },
    };
    assert_eq!(seal::encode(&ledger), frozen("ledger"));
    assert_eq!(seal::decode(&frozen("ledger")), Ok(ledger));
}

#[test]
fn a_frozen_keyring_header_is_read() {
    let id = StoreId::from_bytes(std::array::from_fn(|n| 16 + n as u8));
    let read = keyring::parse_header(&frozen("keyringHeader"));
    assert_eq!(read, Ok((Phase::Complete, id, [0xcd; 32])));
}
