//! One pass over a tenant's rows tells whether they are whole.
//!
//! It takes them in the order of [`super::grouped`], from the store or from a
//! backup, and holds one secret at a time: every row is counted and digested
//! against the ledger, every head and value decrypted, and what the heads say of
//! their ends is held against the expiry index, as sums of digests, so that no
//! list of either is needed. Each secret that is whole is handed out, for who
//! restores it.

use zeroize::Zeroizing;

use super::keyring::SpaceKeys;
use super::layout::{self, Head, Locator, Piece, ValueShape};
use super::seal::SpaceSeal;
use crate::api::admin::VerifiedPart;
use crate::crypto::{Binding, Purpose};
use crate::domain::{SecretName, SecretValue, TenantId};
use crate::store::{Ledger, LedgerSeal, Row, RowKey};

pub(super) struct TenantChecker<'a> {
    id: TenantId,
    keys: &'a SpaceKeys,
    seal: &'a SpaceSeal,
    part: VerifiedPart,
    counted: Ledger,
    /// The secret whose value's rows may still come.
    open: Option<Open>,
    /// The expiry index as the heads have it, and as it is.
    ends: Ledger,
    indexed: Ledger,
}

/// A secret whose rows are all there and decrypt.
pub(super) struct WholeSecret {
    pub(super) head: Head,
    pub(super) value: Option<SecretValue>,
}

struct Open {
    locator: Locator,
    version: u64,
    head: Head,
    envelope: Vec<u8>,
    /// Of its value, so far.
    rows: u16,
}

impl<'a> TenantChecker<'a> {
    /// `part` says of whom; what is found is added to it.
    pub(super) fn new(
        id: TenantId,
        keys: &'a SpaceKeys,
        seal: &'a SpaceSeal,
        part: VerifiedPart,
    ) -> Self {
        let empty = Ledger::EMPTY;
        Self { id, keys, seal, part, counted: empty, open: None, ends: empty, indexed: empty }
    }

    /// How many rows were seen.
    pub(super) fn rows(&self) -> u64 {
        self.counted.rows
    }

    /// Answers the secret that this row completes.
    pub(super) fn row(&mut self, key: &RowKey, row: &Row) -> Option<WholeSecret> {
        self.counted.add(&self.seal.digest_row(key, row));
        self.counted.highest_version = self.counted.highest_version.max(row.version);
        if let Ok(locator) = layout::parse_head_key(key) {
            self.end_secret();
            return self.head(locator, row);
        }
        if let Ok((locator, version, piece)) = layout::parse_value_key(key) {
            return self.value(&locator, version, piece, row);
        }
        if layout::parse_expiry_key(key).is_ok() {
            self.end_secret();
            self.indexed.add(&self.digest_key(key));
        } else {
            self.part.fault("a row of no known kind");
        }
        None
    }

    /// After the last row. `ledger` is the one of just these rows, if it opened.
    pub(super) fn finish(mut self, ledger: Option<&Ledger>) -> VerifiedPart {
        self.end_secret();
        if (self.ends.rows, self.ends.digest) != (self.indexed.rows, self.indexed.digest) {
            let (expiring, indexed) = (self.ends.rows, self.indexed.rows);
            self.part.fault(format!(
                "the expiry index disagrees with the secrets: {expiring} have an end, and \
                 {indexed} are in the index"
            ));
        }
        compare(&mut self.part, &self.counted, ledger);
        self.part
    }

    fn head(&mut self, locator: Locator, row: &Row) -> Option<WholeSecret> {
        self.part.secrets += 1;
        let version = row.version;
        let binding = Binding { purpose: Purpose::Head, tenant: self.id, name: &locator, version };
        let plaintext = self.keys.deks().decrypt(&binding, &row.bytes);
        let Some(head) = plaintext.ok().and_then(|bytes| Head::decode(&bytes).ok()) else {
            let hint = hex::encode(locator.get(..4).unwrap_or_default());
            self.part.fault(format!("the record of a secret does not decrypt ({hint}…)"));
            return None;
        };
        if self.keys.anchor.index().locate(head.name.as_str().as_bytes()) != locator {
            let fault =
                format!("the record of '{}' is not where its name puts it", head.name.as_str());
            self.part.fault(fault);
            return None;
        }
        if let Some(end) = head.window.expires_on() {
            self.ends.add(&self.digest_key(&layout::expiry_key(end, &locator)));
        }
        if head.value == ValueShape::Null {
            return Some(WholeSecret { head, value: None });
        }
        self.open = Some(Open { locator, version, head, envelope: Vec::new(), rows: 0 });
        None
    }

    fn value(
        &mut self,
        locator: &Locator,
        version: u64,
        piece: Piece,
        row: &Row,
    ) -> Option<WholeSecret> {
        let belongs = self.open.as_mut().filter(|open| {
            open.locator == *locator && open.version == version && row.version == version
        });
        match belongs {
            Some(open) if open.head.value.piece(open.rows) == piece => {
                open.envelope.extend_from_slice(&row.bytes);
                open.rows = open.rows.saturating_add(1);
                let complete = open.rows == open.head.value.rows();
                if complete { self.complete() } else { None }
            }
            // The gap shows when the secret ends.
            Some(_) => None,
            None => {
                self.part.fault("a piece of a value that belongs to no secret");
                None
            }
        }
    }

    fn complete(&mut self) -> Option<WholeSecret> {
        let Open { version, head, envelope, .. } = self.open.take()?;
        let value = self.decrypted(&head.name, version, &envelope);
        if value.is_none() {
            self.part.fault(format!("the value of '{}' does not decrypt", head.name.as_str()));
        }
        value.map(|value| WholeSecret { head, value: Some(value) })
    }

    fn end_secret(&mut self) {
        if let Some(Open { head, .. }) = self.open.take() {
            let fault = format!("pieces of the value of '{}' are missing", head.name.as_str());
            self.part.fault(fault);
        }
    }

    fn decrypted(&self, name: &SecretName, version: u64, envelope: &[u8]) -> Option<SecretValue> {
        let name = name.as_str().as_bytes();
        let binding = Binding { purpose: Purpose::Value, tenant: self.id, name, version };
        let mut plaintext = self.keys.deks().decrypt(&binding, envelope).ok()?;
        let text = String::from_utf8(std::mem::take(&mut *plaintext)).ok()?;
        Some(SecretValue::new(Zeroizing::new(text)))
    }

    fn digest_key(&self, key: &RowKey) -> [u8; 32] {
        self.seal.digest_row(key, &Row { version: 0, bytes: Vec::new() })
    }
}

/// Holds what was counted against a ledger, `None` where that did not open.
pub(super) fn compare(part: &mut VerifiedPart, counted: &Ledger, ledger: Option<&Ledger>) {
    part.rows = counted.rows;
    let Some(ledger) = ledger else {
        part.fault("the ledger is missing or damaged: what is missing beside it cannot be told");
        return;
    };
    if counted.rows != ledger.rows {
        part.fault(format!("{} rows are there, and there should be {}", counted.rows, ledger.rows));
    } else if counted.digest != ledger.digest {
        part.fault("a row is not the one that was last written: put back or altered");
    }
    if counted.highest_version > ledger.highest_version {
        part.fault("a row is newer than the ledger");
    }
}

#[cfg(test)]
mod tests {
    use super::super::grouped::Grouped;
    use super::super::tests::{Bench, DAY, OPEN, acme, window};
    use super::*;
    use crate::store::Space;

    /// What is found in acme's rows, and the values of its whole secrets.
    async fn check(bench: &Bench) -> (VerifiedPart, Vec<(String, Option<String>)>) {
        let tenant = bench.vault.tenant_named(&acme()).unwrap();
        let (keys, seal) = tenant.keys();
        let mut rows = Grouped::of(&*bench.store, Space::Tenant(tenant.id)).await.unwrap();
        let ledger = seal.open(rows.ledger().unwrap()).unwrap();
        let mut checker = TenantChecker::new(tenant.id, keys, seal, VerifiedPart::default());
        let mut whole = Vec::new();
        while let Some((key, row)) = rows.next().await.unwrap() {
            whole.extend(checker.row(&key, &row).map(|WholeSecret { head, value }| {
                (head.name.as_str().to_owned(), value.map(|value| value.expose().to_owned()))
            }));
        }
        whole.sort();
        (checker.finish(Some(&ledger)), whole)
    }

    #[tokio::test]
    async fn each_whole_secret_is_handed_out_once() {
        let bench = Bench::new().await;
        let (page, long) = ("y".repeat(2_000), "x".repeat(12_000));
        bench.put("null", None, OPEN()).await.unwrap();
        bench.put("empty", Some(""), window(Some(5), None)).await.unwrap();
        bench.put("long", Some(&long), window(None, Some(DAY))).await.unwrap();
        bench.put("page", Some(&page), OPEN()).await.unwrap();
        let (part, whole) = check(&bench).await;
        assert_eq!((part.fault_count, part.secrets), (0, 4));
        let (page, long) = (Some(page.as_str()), Some(long.as_str()));
        let expected = [("empty", Some("")), ("long", long), ("null", None), ("page", page)];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(whole, expected);
    }

    #[tokio::test]
    async fn rows_come_grouped_whatever_the_pages_are() {
        let bench = Bench::new().await;
        for n in 0..1_500 {
            bench.put(&format!("s{n}"), Some("v"), window(None, Some(DAY + n))).await.unwrap();
        }
        let (part, whole) = check(&bench).await;
        assert_eq!((part.secrets, part.rows, part.faults), (1_500, 4_500, vec![]));
        assert_eq!(whole.len(), 1_500);
    }

    #[tokio::test]
    async fn malformed_keys_and_rows_newer_than_the_ledger_are_faults() {
        let bench = Bench::new().await;
        let tenant = bench.vault.tenant_named(&acme()).unwrap();
        let (keys, seal) = tenant.keys();
        for key in [b"h".to_vec(), b"v".to_vec(), b"x".to_vec(), vec![b'v'; 44]] {
            let part = VerifiedPart::default();
            let mut checker = TenantChecker::new(tenant.id, keys, seal, part);
            let row = Row { version: 9, bytes: vec![1] };
            let key = RowKey::new(key);
            assert!(checker.row(&key, &row).is_none());
            let mut ledger = Ledger::EMPTY;
            ledger.add(&seal.digest_row(&key, &row));
            let faults = checker.finish(Some(&ledger)).faults;
            assert_eq!(faults, ["a row of no known kind", "a row is newer than the ledger"]);
        }
    }
}
