//! One pass over a tenant's rows tells whether they are whole.
//!
//! It takes them in the order of [`super::grouped`], from the store or from a
//! backup, and holds one secret at a time: every row is counted and digested
//! against the ledger, every head and value decrypted, and what the heads say of
//! their ends is held against the expiry index, as sums of digests, so that no
//! list of either is needed.

use super::keyring::SpaceKeys;
use super::layout::{self, Head, Locator};
use super::seal::SpaceSeal;
use crate::api::admin::VerifiedPart;
use crate::crypto::{Binding, Purpose};
use crate::domain::{SecretName, TenantId};
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

struct Open {
    locator: Locator,
    version: u64,
    head: Head,
    envelope: Vec<u8>,
    chunks: u16,
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

    pub(super) fn row(&mut self, key: &RowKey, row: &Row) {
        self.counted.add(&self.seal.digest_row(key, row));
        if let Ok(locator) = layout::parse_head_key(key) {
            self.end_secret();
            self.head(locator, row);
        } else if let Ok((locator, version, chunk)) = layout::parse_value_key(key) {
            self.value(&locator, version, chunk, row);
        } else if layout::parse_expiry_key(key).is_ok() {
            self.end_secret();
            self.indexed.add(&self.digest_key(key));
        } else {
            self.part.fault("a row of no known kind");
        }
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

    fn head(&mut self, locator: Locator, row: &Row) {
        self.part.secrets += 1;
        let version = row.version;
        let binding = Binding { purpose: Purpose::Head, tenant: self.id, name: &locator, version };
        let plaintext = self.keys.deks.decrypt(&binding, &row.bytes);
        let Some(head) = plaintext.ok().and_then(|bytes| Head::decode(&bytes).ok()) else {
            let hint = hex::encode(locator.get(..4).unwrap_or_default());
            return self.part.fault(format!("the record of a secret does not decrypt ({hint}…)"));
        };
        if self.keys.anchor.index().locate(head.name.as_str().as_bytes()) != locator {
            let fault =
                format!("the record of '{}' is not where its name puts it", head.name.as_str());
            return self.part.fault(fault);
        }
        if let Some(end) = head.window.expires_on() {
            self.ends.add(&self.digest_key(&layout::expiry_key(end, &locator)));
        }
        self.open = Some(Open { locator, version, head, envelope: Vec::new(), chunks: 0 });
    }

    fn value(&mut self, locator: &Locator, version: u64, chunk: u16, row: &Row) {
        let belongs = self.open.as_mut().filter(|open| {
            open.locator == *locator && open.version == version && row.version == version
        });
        match belongs {
            Some(open) if open.chunks == chunk => {
                open.envelope.extend_from_slice(&row.bytes);
                open.chunks = open.chunks.saturating_add(1);
            }
            // The gap shows when the secret ends.
            Some(_) => {}
            None => self.part.fault("a piece of a value that belongs to no secret"),
        }
    }

    fn end_secret(&mut self) {
        let Some(Open { version, head, envelope, chunks, .. }) = self.open.take() else { return };
        if chunks != head.value.chunks() {
            let fault = format!("pieces of the value of '{}' are missing", head.name.as_str());
            return self.part.fault(fault);
        }
        if chunks > 0 && !self.decrypts(&head.name, version, &envelope) {
            self.part.fault(format!("the value of '{}' does not decrypt", head.name.as_str()));
        }
    }

    fn decrypts(&self, name: &SecretName, version: u64, envelope: &[u8]) -> bool {
        let name = name.as_str().as_bytes();
        let binding = Binding { purpose: Purpose::Value, tenant: self.id, name, version };
        let plaintext = self.keys.deks.decrypt(&binding, envelope);
        plaintext.is_ok_and(|text| std::str::from_utf8(&text).is_ok())
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
}
