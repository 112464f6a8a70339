//! One pass over a tenant's rows that tells whether they are whole.
//!
//! Rows come in grouped order ([`Grouped`]): each head, then the value rows of its
//! locator, then, after all of them, the expiry index. So one secret is held at a
//! time, whatever the tenant's size, and a snapshot and a backup are checked by
//! the same code. Checked are: that each row opens and is where it belongs; that
//! no row is missing, left over or from another time, by the ledger's count and
//! digest; and that the expiry index says what the heads say. What is wrong is
//! gathered as [`Fault`]s, never an early end: an operator wants to know all of it.
//!
//! A row of a kind that this version does not know is not looked at: nothing reads
//! it, and if it took the place of another, the ledger tells.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::keyring::SpaceKeys;
use super::layout::{self, Head, Locator, ValueShape};
use super::seal::SpaceSeal;
use crate::crypto::{Binding, Purpose};
use crate::domain::{SecretName, SecretValue, TenantId};
use crate::store::{Ledger, LedgerSeal, Page, Row, RowKey, Snapshot, Space, Store, StoreError};

/// Of what is wrong with a tenant, so many are told one by one.
const MAX_FAULTS: usize = 100;

/// What is wrong with a tenant's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A head that does not open, or stands under another name's locator.
    Head(RowKey),
    /// Rows of this secret's value are missing, or do not open.
    Value(SecretName),
    /// A row that belongs to no secret, or whose key is not of the layout.
    Stray(RowKey),
    /// The expiry index is not what the heads say.
    ExpiryIndex,
    /// The ledger is missing, or its key did not write it.
    Ledger,
    /// There are other rows than the ledger accounts for: some are missing, added,
    /// altered or from an earlier time.
    Account { ledger: u64, found: u64 },
    /// A row is newer than any that the ledger knows of.
    Version(u64),
}

/// Without names: they are the tenant's, and this may go to a log.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(key) => write!(f, "the head {} does not open", Shown(key)),
            Self::Value(_) => f.write_str("a value is missing or does not open"),
            Self::Stray(key) => write!(f, "the row {} belongs to no secret", Shown(key)),
            Self::ExpiryIndex => f.write_str("the expiry index disagrees with the secrets"),
            Self::Ledger => f.write_str("the ledger is missing or forged"),
            Self::Account { ledger, found } if ledger == found => {
                write!(f, "of {found} rows, some were altered or are of another time")
            }
            Self::Account { ledger, found } => {
                write!(f, "there are {found} rows, and the ledger accounts for {ledger}")
            }
            Self::Version(version) => {
                write!(f, "a row's version, {version}, is beyond the ledger's")
            }
        }
    }
}

/// The kind of a row and the beginning of its locator.
struct Shown<'a>(&'a RowKey);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, rest) = self.0.as_bytes().split_first().unwrap_or((&b'?', &[]));
        let start = rest.get(..8).unwrap_or(rest);
        write!(f, "{}:{}…", char::from(*kind).escape_default(), hex::encode(start))
    }
}

/// What a pass over a tenant's rows found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TenantReport {
    /// That opened, value and all.
    pub(super) secrets: u64,
    pub(super) rows: u64,
    /// The first ones.
    pub(super) faults: Vec<Fault>,
    /// How many there are in all.
    pub(super) fault_count: u64,
}

impl TenantReport {
    pub(super) fn is_whole(&self) -> bool {
        self.fault_count == 0
    }

    fn note(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}

/// A secret whose rows were all there and opened.
pub(super) struct WholeSecret {
    pub(super) head: Head,
    pub(super) value: Option<SecretValue>,
}

/// Takes a tenant's rows in grouped order.
pub(super) struct TenantChecker {
    tenant: TenantId,
    keys: Arc<SpaceKeys>,
    seal: SpaceSeal,
    report: TenantReport,
    counted: Ledger,
    /// The entries that the heads ask for, and those that are there: sums of keyed
    /// digests, in any order.
    expiries_due: Ledger,
    expiries_found: Ledger,
    open: Option<OpenSecret>,
}

/// A head whose value rows are still to come.
struct OpenSecret {
    locator: Locator,
    version: u64,
    head: Head,
    envelope: Vec<u8>,
    next_chunk: u16,
    /// Reported already; what else comes of its rows is no news.
    broken: bool,
}

impl TenantChecker {
    pub(super) fn new(tenant: TenantId, keys: Arc<SpaceKeys>) -> Self {
        let seal = SpaceSeal::Anchor(keys.anchor.clone());
        Self {
            tenant,
            keys,
            seal,
            report: TenantReport::default(),
            counted: Ledger::EMPTY,
            expiries_due: Ledger::EMPTY,
            expiries_found: Ledger::EMPTY,
            open: None,
        }
    }

    /// The next row. Answers the secret that it completes.
    pub(super) fn row(&mut self, key: &RowKey, row: &Row) -> Option<WholeSecret> {
        self.counted.add(&self.seal.digest_row(key, row));
        self.counted.highest_version = self.counted.highest_version.max(row.version);
        if key.as_bytes().starts_with(layout::HEAD_PREFIX) {
            self.close();
            self.head(key, row)
        } else if key.as_bytes().starts_with(layout::VALUE_PREFIX) {
            self.value(key, row)
        } else {
            self.close();
            self.expiry(key, row);
            None
        }
    }

    /// After the last row. `sealed` is the ledger as of these rows.
    pub(super) fn finish(mut self, sealed: Option<&[u8]>) -> TenantReport {
        self.close();
        self.report.rows = self.counted.rows;
        if self.expiries_due != self.expiries_found {
            self.report.note(Fault::ExpiryIndex);
        }
        let ledger = sealed.and_then(|sealed| self.seal.open(sealed).ok());
        let Some(ledger) = ledger else {
            self.report.note(Fault::Ledger);
            return self.report;
        };
        let counted = &self.counted;
        if (counted.rows, counted.digest) != (ledger.rows, ledger.digest) {
            self.report.note(Fault::Account { ledger: ledger.rows, found: counted.rows });
        }
        if counted.highest_version > ledger.highest_version {
            self.report.note(Fault::Version(counted.highest_version));
        }
        self.report
    }

    fn head(&mut self, key: &RowKey, row: &Row) -> Option<WholeSecret> {
        let Some((locator, head)) = self.open_head(key, row) else {
            self.report.note(Fault::Head(key.clone()));
            // Its value rows are then strays, and are told as such.
            return None;
        };
        let version = row.version;
        if let Some(end) = head.window.expires_on() {
            let entry = Row { version, bytes: Vec::new() };
            let key = layout::expiry_key(end, &locator);
            self.expiries_due.add(&self.seal.digest_row(&key, &entry));
        }
        if head.value == ValueShape::Null {
            self.report.secrets += 1;
            return Some(WholeSecret { head, value: None });
        }
        let (envelope, next_chunk) = (Vec::new(), 0);
        self.open =
            Some(OpenSecret { locator, version, head, envelope, next_chunk, broken: false });
        None
    }

    fn open_head(&self, key: &RowKey, row: &Row) -> Option<(Locator, Head)> {
        let locator = layout::parse_head_key(key).ok()?;
        let (purpose, tenant, version) = (Purpose::Head, self.tenant, row.version);
        let binding = Binding { purpose, tenant, name: &locator, version };
        let plaintext = self.keys.deks.decrypt(&binding, &row.bytes).ok()?;
        let head = Head::decode(&plaintext).ok()?;
        let belongs = self.keys.anchor.index().locate(head.name.as_str().as_bytes()) == locator;
        belongs.then_some((locator, head))
    }

    fn value(&mut self, key: &RowKey, row: &Row) -> Option<WholeSecret> {
        let parsed = layout::parse_value_key(key).ok();
        let of_open = parsed.zip(self.open.as_ref()).filter(|((locator, version, _), open)| {
            (*locator, *version, row.version) == (open.locator, open.version, open.version)
        });
        let Some(((_, _, chunk), _)) = of_open else {
            self.report.note(Fault::Stray(key.clone()));
            return None;
        };
        let open = self.open.as_mut()?;
        if chunk != open.next_chunk {
            self.broken();
            return None;
        }
        open.next_chunk += 1;
        open.envelope.extend_from_slice(&row.bytes);
        if open.next_chunk < open.head.value.chunks() {
            return None;
        }
        let OpenSecret { version, head, envelope, .. } = self.open.take()?;
        match self.open_value(&head.name, version, &envelope) {
            Some(value) => {
                self.report.secrets += 1;
                Some(WholeSecret { head, value: Some(value) })
            }
            None => {
                self.report.note(Fault::Value(head.name));
                None
            }
        }
    }

    fn open_value(&self, name: &SecretName, version: u64, envelope: &[u8]) -> Option<SecretValue> {
        let (purpose, tenant) = (Purpose::Value, self.tenant);
        let binding = Binding { purpose, tenant, name: name.as_str().as_bytes(), version };
        let mut plaintext = self.keys.deks.decrypt(&binding, envelope).ok()?;
        let text = String::from_utf8(std::mem::take(&mut *plaintext)).ok()?;
        Some(SecretValue::new(Zeroizing::new(text)))
    }

    fn expiry(&mut self, key: &RowKey, row: &Row) {
        if layout::parse_expiry_key(key).is_err() {
            return self.report.note(Fault::Stray(key.clone()));
        }
        self.expiries_found.add(&self.seal.digest_row(key, row));
    }

    /// What follows belongs to another secret.
    fn close(&mut self) {
        self.broken();
        self.open = None;
    }

    fn broken(&mut self) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.broken) {
            open.broken = true;
            self.report.note(Fault::Value(open.head.name.clone()));
        }
    }
}

/// A tenant's rows as of one commit, in grouped order.
pub(super) struct Grouped {
    snapshot: Box<dyn Snapshot>,
    heads: Cursor,
    values: Cursor,
    expiries: Cursor,
}

/// The rows under one prefix.
struct Cursor {
    number: usize,
    page: VecDeque<(RowKey, Row)>,
    more: bool,
}

impl Grouped {
    pub(super) async fn of(store: &dyn Store, tenant: TenantId) -> Result<Self, StoreError> {
        let prefixes = [layout::HEAD_PREFIX, layout::VALUE_PREFIX, layout::EXPIRY_PREFIX];
        let snapshot = store.snapshot(Space::Tenant(tenant), &prefixes).await?;
        let cursor = |number| Cursor { number, page: VecDeque::new(), more: true };
        Ok(Self { snapshot, heads: cursor(0), values: cursor(1), expiries: cursor(2) })
    }

    /// The sealed ledger of these rows.
    pub(super) fn ledger(&self) -> Option<&[u8]> {
        self.snapshot.ledger()
    }

    /// The next row. After [`StoreError::NotApplied`] it may be asked for again.
    pub(super) async fn next(&mut self) -> Result<Option<(RowKey, Row)>, StoreError> {
        let Self { snapshot, heads, values, expiries } = self;
        heads.fill(snapshot.as_mut()).await?;
        values.fill(snapshot.as_mut()).await?;
        let next = match (heads.locator(), values.locator()) {
            (Some(head), Some(value)) if head <= value => heads,
            (Some(_), None) => heads,
            (_, Some(_)) => values,
            (None, None) => {
                expiries.fill(snapshot.as_mut()).await?;
                expiries
            }
        };
        Ok(next.page.pop_front())
    }
}

impl Cursor {
    async fn fill(&mut self, snapshot: &mut dyn Snapshot) -> Result<(), StoreError> {
        while self.page.is_empty() && self.more {
            let Page { rows, more } = snapshot.next(self.number).await?;
            (self.page, self.more) = (rows.into(), more);
        }
        Ok(())
    }

    /// By which heads and values are merged; of a malformed key, what there is.
    fn locator(&self) -> Option<&[u8]> {
        let (_, rest) = self.page.front()?.0.as_bytes().split_first()?;
        Some(rest.get(..size_of::<Locator>()).unwrap_or(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, DAY, OPEN, acme, secret, window};
    use super::*;
    use crate::store::Change;

    /// Secrets of every shape: null, empty, of several rows, with and without an end.
    async fn filled() -> (Bench, TenantId) {
        let bench = Bench::new().await;
        bench.put("null", None, OPEN()).await.unwrap();
        bench.put("empty", Some(""), window(Some(5), None)).await.unwrap();
        bench.put("long", Some(&"x".repeat(12_000)), window(None, Some(DAY))).await.unwrap();
        bench.put("past", Some("gone"), window(None, Some(-DAY))).await.unwrap();
        let tenant = bench.vault.tenant_named(&acme()).unwrap().id;
        (bench, tenant)
    }

    async fn check(bench: &Bench, tenant: TenantId) -> (TenantReport, Vec<String>) {
        let keys = Arc::new(bench.vault.keyring.keys(tenant).await.unwrap());
        let mut rows = Grouped::of(&*bench.store, tenant).await.unwrap();
        let mut checker = TenantChecker::new(tenant, keys);
        let mut whole = Vec::new();
        while let Some((key, row)) = rows.next().await.unwrap() {
            let secret = checker.row(&key, &row);
            whole.extend(secret.map(|secret| secret.head.name.as_str().to_owned()));
        }
        whole.sort();
        (checker.finish(rows.ledger()), whole)
    }

    #[tokio::test]
    async fn what_was_only_ever_written_by_us_is_whole() {
        let (bench, tenant) = filled().await;
        let (report, whole) = check(&bench, tenant).await;
        let rows = bench.rows().await as u64;
        let expected = TenantReport { secrets: 4, rows, ..TenantReport::default() };
        assert_eq!(report, expected);
        assert_eq!(whole, ["empty", "long", "null", "past"]);
        bench.put("long", Some("short"), OPEN()).await.unwrap();
        bench.delete("past").await;
        assert!(check(&bench, tenant).await.0.is_whole());
    }

    #[tokio::test]
    async fn each_row_that_is_gone_altered_or_out_of_place_is_found() {
        let (bench, tenant) = filled().await;
        // Of this one nothing is left when its one row is gone, but the account.
        bench.delete("null").await;
        let space = Space::Tenant(tenant);
        for (key, row) in bench.all_rows(space).await {
            let mut moved = key.as_bytes().to_vec();
            moved[20] ^= 1;
            let moved = RowKey::new(moved);
            let mut altered = row.clone();
            match altered.bytes.last_mut() {
                Some(last) => *last ^= 1,
                None => altered.bytes.push(0),
            }
            let newer = Row { version: row.version + 1, bytes: row.bytes.clone() };
            let put = |key: &RowKey, row: &Row| Change::Put { key: key.clone(), row: row.clone() };
            let gone = Change::Delete { key: key.clone() };
            let cases = [
                vec![gone.clone()],
                vec![put(&key, &altered)],
                vec![put(&key, &newer)],
                vec![put(&moved, &row)],
                vec![gone, put(&moved, &row)],
            ];
            for case in cases {
                let shown = format!("{case:?}");
                bench.write_disk(space, case).await;
                let (report, _) = check(&bench, tenant).await;
                let account = |fault: &Fault| matches!(fault, Fault::Account { .. });
                assert!(report.faults.iter().any(account), "{shown}: {report:?}");
                let in_place = |fault: &Fault| {
                    matches!(
                        fault,
                        Fault::Head(_) | Fault::Value(_) | Fault::Stray(_) | Fault::ExpiryIndex
                    )
                };
                assert!(report.faults.iter().any(in_place), "{shown}: {report:?}");
                let undo = vec![put(&key, &row), Change::Delete { key: moved.clone() }];
                bench.write_disk(space, undo).await;
            }
        }
        assert!(check(&bench, tenant).await.0.is_whole());
    }

    #[tokio::test]
    async fn a_secret_put_back_whole_from_an_earlier_time_is_found_by_the_account_alone() {
        let (bench, tenant) = filled().await;
        let space = Space::Tenant(tenant);
        bench.put("a", Some("old"), OPEN()).await.unwrap();
        let old = bench.all_rows(space).await;
        bench.put("a", Some("new"), OPEN()).await.unwrap();
        let new = bench.all_rows(space).await;
        let mut back: Vec<_> = Vec::new();
        for (key, row) in new.iter().filter(|row| !old.contains(row)) {
            let replaced = old.iter().any(|(other, _)| other == key);
            assert!(replaced || !row.bytes.is_empty());
            back.extend((!replaced).then(|| Change::Delete { key: key.clone() }));
        }
        for (key, row) in old.iter().filter(|row| !new.contains(row)) {
            back.push(Change::Put { key: key.clone(), row: row.clone() });
        }
        bench.write_disk(space, back).await;
        assert_eq!(bench.get("a").await, Some(Some("old".into())), "it opens where it is");
        let (report, whole) = check(&bench, tenant).await;
        let rows = report.rows;
        assert_eq!(report.faults, [Fault::Account { ledger: rows, found: rows }]);
        assert_eq!(whole.len(), 5);
    }

    #[tokio::test]
    async fn malformed_keys_and_a_missing_or_forged_ledger_are_faults() {
        let (bench, tenant) = filled().await;
        let keys = Arc::new(bench.vault.keyring.keys(tenant).await.unwrap());
        for key in [b"h".to_vec(), b"v".to_vec(), b"x".to_vec(), vec![b'v'; 44]] {
            let mut checker = TenantChecker::new(tenant, keys.clone());
            let row = Row { version: 1, bytes: vec![1] };
            assert!(checker.row(&RowKey::new(key.clone()), &row).is_none());
            let report = checker.finish(None);
            assert_eq!(report.fault_count, 2, "{key:?}: {report:?}");
            assert_eq!(report.faults[1], Fault::Ledger);
        }
        let forged = TenantChecker::new(tenant, keys.clone()).finish(Some(&[1; 100]));
        assert_eq!(forged.faults, [Fault::Ledger]);
        let other = bench.store.ledger(Space::System).await.unwrap().unwrap();
        let moved = TenantChecker::new(tenant, keys).finish(Some(&other));
        assert_eq!(moved.faults, [Fault::Ledger]);
    }

    #[tokio::test]
    async fn a_rows_version_beyond_the_ledgers_is_a_fault() {
        let (bench, tenant) = filled().await;
        let space = Space::Tenant(tenant);
        let early = bench.store.ledger(space).await.unwrap().unwrap();
        bench.put("later", Some("v"), OPEN()).await.unwrap();
        let keys = Arc::new(bench.vault.keyring.keys(tenant).await.unwrap());
        let mut rows = Grouped::of(&*bench.store, tenant).await.unwrap();
        let mut checker = TenantChecker::new(tenant, keys);
        while let Some((key, row)) = rows.next().await.unwrap() {
            checker.row(&key, &row);
        }
        let report = checker.finish(Some(&early));
        assert!(report.faults.contains(&Fault::Version(5)), "{report:?}");
    }

    #[tokio::test]
    async fn of_many_faults_the_first_are_told_and_all_are_counted() {
        let (bench, tenant) = filled().await;
        let keys = Arc::new(bench.vault.keyring.keys(tenant).await.unwrap());
        let mut checker = TenantChecker::new(tenant, keys);
        for n in 0..1_000u64 {
            checker.row(&layout::value_key(&[1; 32], n, 0), &Row { version: n, bytes: Vec::new() });
        }
        let report = checker.finish(None);
        assert_eq!((report.faults.len(), report.fault_count), (MAX_FAULTS, 1_001));
        assert!(!report.is_whole());
    }

    #[tokio::test]
    async fn no_fault_shows_a_name() {
        let faults = [Fault::Value(secret("confidential")), Fault::Stray(RowKey::new(vec![b'v']))];
        for fault in faults {
            assert!(!fault.to_string().contains("confidential"), "{fault}");
        }
    }

    #[tokio::test]
    async fn rows_come_grouped_whatever_the_pages_are() {
        let bench = Bench::new().await;
        for n in 0..1_500 {
            bench.put(&format!("s{n}"), Some("v"), window(None, Some(DAY + n))).await.unwrap();
        }
        let tenant = bench.vault.tenant_named(&acme()).unwrap().id;
        let (report, whole) = check(&bench, tenant).await;
        assert_eq!((report.secrets, report.rows, report.fault_count), (1_500, 4_500, 0));
        assert_eq!(whole.len(), 1_500);
    }
}
