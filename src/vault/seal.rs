//! Ledgers under keys: the store's accounts, counted and sealed with a space's
//! own key, and its audit, encrypted.

use std::sync::Arc;

use super::codec::{Malformed, Reader};
use crate::crypto::{AnchorKeys, AuditKey, LedgerKey, StoreKeys};
use crate::domain::Floor;
use crate::store::{
    Block, Chain, ForgedLedger, Ledger, LedgerSeal, Row, RowKey, Space, Store, StoreError,
};

/// Every entry fits a block.
const _: () = assert!(
    Block::ENTRY_MAX_BYTES + AuditKey::BLOCK_OVERHEAD + AuditKey::ENTRY_OVERHEAD
        <= Block::MAX_BYTES
);

/// A space's ledger key, wherever it is held.
pub(super) enum SpaceSeal {
    Keyring(Arc<StoreKeys>),
    /// The system's or a tenant's.
    Anchor(Arc<AnchorKeys>),
}

impl SpaceSeal {
    fn key(&self) -> &LedgerKey {
        match self {
            Self::Keyring(keys) => keys.keyring_ledger(),
            Self::Anchor(keys) => keys.ledger(),
        }
    }
}

impl LedgerSeal for SpaceSeal {
    fn digest_row(&self, key: &RowKey, row: &Row) -> [u8; 32] {
        self.key().digest_row(key.as_bytes(), row.version, &row.bytes)
    }

    /// # Panics
    /// For the keyring, which has no audit: nothing here appends to it.
    fn pack(&self, entries: &[&str]) -> Block {
        let Self::Anchor(keys) = self else { panic!("nothing is appended to the keyring") };
        let (entries, bytes) = keys.audit().pack(entries, Block::MAX_BYTES);
        Block { entries, bytes }
    }

    fn link(&self, chain: &Chain, block: &Block) -> [u8; 32] {
        self.key().link(&chain.head, chain.next, block.entries.get(), &block.bytes)
    }

    fn seal(&self, ledger: &Ledger) -> Vec<u8> {
        self.key().seal(&encode(ledger))
    }

    fn open(&self, sealed: &[u8]) -> Result<Ledger, ForgedLedger> {
        let account = self.key().open(sealed).map_err(|_| ForgedLedger)?;
        decode(&account).map_err(|_| ForgedLedger)
    }
}

/// A space's ledger; `None` where there is none, or one that does not open.
pub(super) async fn ledger_of(
    store: &dyn Store,
    space: Space,
    seal: &dyn LedgerSeal,
) -> Result<Option<Ledger>, StoreError> {
    Ok(store.ledger(space).await?.and_then(|sealed| seal.open(&sealed).ok()))
}

/// Of a space to which nothing was ever appended.
const FORMAT: u8 = 1;
/// The same and where its chain ends.
const FORMAT_WITH_CHAIN: u8 = 2;
/// The same and where what is kept of it begins.
const FORMAT_WITH_BEGINNING: u8 = 3;

pub(super) fn encode(ledger: &Ledger) -> Vec<u8> {
    let Ledger { commits, rows, digest, highest_version, floor, chain, kept_from } = ledger;
    let Floor { epoch, at } = floor;
    let format = match (*chain == Chain::EMPTY, *kept_from == Chain::EMPTY) {
        (true, true) => FORMAT,
        (false, true) => FORMAT_WITH_CHAIN,
        (_, false) => FORMAT_WITH_BEGINNING,
    };
    let mut out = Vec::with_capacity(160);
    out.push(format);
    out.extend_from_slice(&commits.to_be_bytes());
    out.extend_from_slice(&rows.to_be_bytes());
    out.extend_from_slice(digest);
    out.extend_from_slice(&highest_version.to_be_bytes());
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&at.unix_micros().to_be_bytes());
    let chains = [chain, kept_from];
    for Chain { next, head } in chains.iter().take(usize::from(format - FORMAT)) {
        out.extend_from_slice(&next.to_be_bytes());
        out.extend_from_slice(head);
    }
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<Ledger, Malformed> {
    let mut fields = Reader::new(bytes);
    let format = fields.byte()?;
    if !(FORMAT..=FORMAT_WITH_BEGINNING).contains(&format) {
        return Err(Malformed);
    }
    let mut ledger = Ledger {
        commits: fields.u64()?,
        rows: fields.u64()?,
        digest: fields.array()?,
        highest_version: fields.u64()?,
        floor: Floor { epoch: fields.u32()?, at: fields.timestamp()? },
        chain: Chain::EMPTY,
        kept_from: Chain::EMPTY,
    };
    let chains = [&mut ledger.chain, &mut ledger.kept_from];
    for chain in chains.into_iter().take(usize::from(format - FORMAT)) {
        *chain = Chain { next: fields.u64()?, head: fields.array()? };
    }
    fields.end()?;
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{TenantId, Timestamp};

    #[test]
    fn a_ledger_survives_its_seal_and_opens_for_no_other_key() {
        let tenant = TenantId::from_bytes([3; 16]);
        let seal = SpaceSeal::Anchor(Arc::new(AnchorKeys::generate(tenant)));
        let ledger = Ledger {
            commits: 5,
            rows: 9,
            digest: [0xab; 32],
            highest_version: u64::MAX,
            floor: Floor { epoch: 2, at: Timestamp::from_unix_micros(-5) },
            chain: Chain::EMPTY,
            kept_from: Chain::EMPTY,
        };
        let chain = Chain { next: u64::MAX, head: [0xcd; 32] };
        let kept_from = Chain { next: 7, head: [0xef; 32] };
        let sealed = seal.seal(&ledger);
        let with_chain = Ledger { chain, ..ledger };
        for ledger in [ledger, with_chain, Ledger { kept_from, ..with_chain }] {
            let sealed = seal.seal(&ledger);
            assert!(sealed.len() <= 256);
            assert_eq!(seal.open(&sealed), Ok(ledger));
        }
        let other = SpaceSeal::Anchor(Arc::new(AnchorKeys::generate(tenant)));
        assert_eq!(other.open(&sealed), Err(ForgedLedger));
        assert_eq!(seal.open(&[]), Err(ForgedLedger));
    }
}
