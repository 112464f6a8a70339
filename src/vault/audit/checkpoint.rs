//! Checkpoints: what the server signs of where every chain stands.
//!
//! Links take no key, so whoever can write the disk can link altered entries again. A
//! checkpoint signs, for the system's chain and each that grew since the one before, how
//! many entries it had and its last link, and with the hash of the checkpoint before also all that
//! earlier ones sign. So what was signed once cannot be altered, exchanged or left out
//! by somebody who has not the signing key; and who keeps the newest checkpoint
//! elsewhere can tell that newer entries were cut off.
//!
//! A checkpoint stands in clear, in blocks of its own in the system's chain:
//!
//! ```text
//! piece = 80 ‖ number of the piece (2) ‖ how many there are (2) ‖ bytes
//! all bytes = signature (64) ‖ text
//! ```
//!
//! It tells the ids of tenants and how many entries each has, which whoever has the
//! disk sees anyway. So the audit of a copied data folder can be verified with the
//! public key alone.
//!
//! A sealed row of the system, `c`, has the number and hash of the newest, and from
//! where on the chain must be read to know what every chain's last signed end is: every
//! [`COMPLETE_EVERY`]th checkpoint tells all of them.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::api::audit_export::{
    ChainBegin, ChainHead, Checkpoint, CheckpointRow, SignedCheckpoint,
};
use crate::crypto::{AuditPublicKey, AuditSigner, sha256};
use crate::domain::TenantId;
use crate::store::{Appended, Block, Chain, Change, Ledger, PlacedBlock, Space, Store, StoreError};

use super::super::codec::{Malformed, Reader};
use super::super::keyring::SYSTEM;
use super::super::seal::ledger_of;
use super::super::{Vault, to_its_end};
use super::Looker;
use super::export::SignedEnds;

/// How often one is written where something changed.
const INTERVAL: Duration = Duration::from_secs(60);
/// Each so many tell of every chain, so that nobody must read further back.
const COMPLETE_EVERY: u32 = 256;
/// Of how many chains one tells, some 140 bytes each: it fits a commit.
const CHAINS_AT_ONCE: usize = 8_000;
/// Before whatever follows in a store whose last checkpoint is not in its chain, as
/// after a restore: more than any store wrote since its backup.
const NUMBER_LEAP: u64 = 1 << 32;

/// The first byte of a block that holds a piece of a checkpoint.
const KIND: u8 = 0x80;
const PIECE_HEADER: usize = 1 + 2 + 2;

/// Whether a block is a piece of a checkpoint, and holds no entries.
pub(super) fn is_piece(block: &[u8]) -> bool {
    block.first() == Some(&KIND)
}

/// The newest checkpoint, as a sealed row remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vault) struct LastCheckpoint {
    number: u64,
    hash: [u8; 32],
    /// The newest ones that tell of every chain stand in the system's chain behind this
    /// entry.
    pub(super) complete_from: u64,
}

const LAST_FORMAT: u8 = 1;

impl LastCheckpoint {
    pub(in crate::vault) fn encode(&self) -> Vec<u8> {
        let Self { number, hash, complete_from } = self;
        let mut out = vec![LAST_FORMAT];
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(hash);
        out.extend_from_slice(&complete_from.to_be_bytes());
        out
    }

    pub(in crate::vault) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(bytes);
        fields.format(LAST_FORMAT)?;
        let last =
            Self { number: fields.u64()?, hash: fields.array()?, complete_from: fields.u64()? };
        fields.end()?;
        Ok(last)
    }
}

/// Writes checkpoints. Only one is written at a time.
pub(in crate::vault) struct Checkpointer(tokio::sync::Mutex<State>);

struct State {
    /// `None`: the store is from before there were any.
    signer: Option<Arc<AuditSigner>>,
    last: Option<LastCheckpoint>,
    /// `None` until it was read, and after a commit whose outcome is unknown.
    signed: Option<Signed>,
    /// Chains that may have grown since.
    grown: HashSet<TenantId>,
    /// Since boot.
    last_tried: Duration,
}

/// Which part of a chain there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) begin: Chain,
    pub(super) end: Chain,
}

impl Extent {
    pub(super) const EMPTY: Self = Self { begin: Chain::EMPTY, end: Chain::EMPTY };

    fn of(ledger: &Ledger) -> Self {
        Self { begin: ledger.kept_from, end: ledger.chain }
    }

    pub(super) fn parse(said: &ChainHead) -> Option<Self> {
        let ChainHead { chain: _, next, head, begin } = said;
        let end = Chain { next: *next, head: parse_hash(head)? };
        let begin = match begin {
            None => Chain::EMPTY,
            Some(ChainBegin { next, head }) => Chain { next: *next, head: parse_hash(head)? },
        };
        Some(Self { begin, end })
    }

    fn said(&self, id: TenantId) -> ChainHead {
        let Self { begin, end } = self;
        let kept = ChainBegin { next: begin.next, head: hex::encode(begin.head) };
        ChainHead {
            chain: id.to_string(),
            next: end.next,
            head: hex::encode(end.head),
            begin: (*begin != Chain::EMPTY).then_some(kept),
        }
    }
}

/// Of which chains a checkpoint tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    OfWhatGrew,
    OfAll,
}

/// What the checkpoints say together.
#[derive(Default)]
struct Signed {
    chains: HashMap<TenantId, Extent>,
    newest: Option<SignedCheckpoint>,
    since_complete: u32,
}

impl Checkpointer {
    pub(in crate::vault) fn new(
        signer: Option<AuditSigner>,
        last: Option<LastCheckpoint>,
        opened: Duration,
    ) -> Self {
        let (signer, grown) = (signer.map(Arc::new), HashSet::new());
        let state = State { signer, last, signed: None, grown, last_tried: opened };
        Self(tokio::sync::Mutex::new(state))
    }
}

impl Vault {
    /// Signs where the audit stands, if it changed since that was signed last. Runs to
    /// its end even if the caller goes away.
    pub(in crate::vault) async fn checkpoint(self: &Arc<Self>) -> Result<(), StoreError> {
        let vault = self.clone();
        to_its_end(async move { vault.checkpoint_here().await }).await
    }

    /// The same, now and then: the edge calls it every second.
    pub(in crate::vault) async fn checkpoint_when_due(self: &Arc<Self>) -> Result<(), StoreError> {
        let since_boot = self.time.clock().read().since_boot;
        let last_tried = self.checkpoints.0.lock().await.last_tried;
        if since_boot.saturating_sub(last_tried) < INTERVAL {
            return Ok(());
        }
        self.checkpoint().await
    }

    /// One that tells of every chain, whether or not something was done.
    pub(super) async fn checkpoint_of_all(self: &Arc<Self>) -> Result<(), StoreError> {
        let vault = self.clone();
        to_its_end(async move { vault.checkpoint_as(Telling::OfAll).await }).await
    }

    /// As [`Vault::checkpoint`], by a caller that does not go away.
    pub(in crate::vault) async fn checkpoint_here(&self) -> Result<(), StoreError> {
        self.checkpoint_as(Telling::OfWhatGrew).await
    }

    async fn checkpoint_as(&self, telling: Telling) -> Result<(), StoreError> {
        // Whoever makes or deletes a tenant is not half-way.
        let _one = self.administration.lock().await;
        let mut state = self.checkpoints.0.lock().await;
        state.last_tried = self.time.clock().read().since_boot;
        let mut signed = self.take_signed(&mut state).await?;
        let grown = self.grown(&mut state, &signed).await;
        let ended = self.ended(&signed);
        let is_idle = grown.is_empty() && ended.is_empty();
        let outcome = if is_idle && telling == Telling::OfWhatGrew {
            Ok(())
        } else {
            self.sign(&mut state, &mut signed, telling, (grown, ended)).await
        };
        match outcome {
            // It is read anew: one more may be there.
            Err(StoreError::Unknown) => state.last = self.system.last_checkpoint().await?,
            _ => state.signed = Some(signed),
        }
        if outcome.is_ok() {
            state.grown.clear();
        }
        outcome
    }

    /// The newest checkpoint; `None` where there is none.
    pub(in crate::vault) async fn newest_checkpoint(
        &self,
    ) -> Result<Option<SignedCheckpoint>, StoreError> {
        let mut state = self.checkpoints.0.lock().await;
        let signed = self.take_signed(&mut state).await?;
        Ok(state.signed.insert(signed).newest.clone())
    }

    /// Where every chain ends by what is signed.
    pub(super) async fn signed_ends(&self) -> Result<SignedEnds, StoreError> {
        let mut state = self.checkpoints.0.lock().await;
        let signed = self.take_signed(&mut state).await?;
        let signed = state.signed.insert(signed);
        let newest = signed.newest.as_ref().and_then(|newest| parse(&newest.text).ok());
        let newest = newest.map(|newest| newest.number);
        Ok(SignedEnds { chains: signed.chains.clone(), newest })
    }

    /// By which anybody can verify the checkpoints. A store from before there were any
    /// gets its key now.
    pub(in crate::vault) async fn audit_public_key(&self) -> Result<AuditPublicKey, StoreError> {
        let mut state = self.checkpoints.0.lock().await;
        Ok(self.signer(&mut state).await?.public())
    }

    async fn signer(&self, state: &mut State) -> Result<Arc<AuditSigner>, StoreError> {
        if let Some(signer) = &state.signer {
            return Ok(signer.clone());
        }
        // An outcome that was unknown the last time may have been a success.
        let stored = self.system.audit_signer().await?;
        let signer = match stored {
            Some(signer) => signer,
            None => {
                let signer = AuditSigner::generate();
                self.system.add_audit_signer(&signer, self.time.floor()).await?;
                signer
            }
        };
        Ok(state.signer.insert(Arc::new(signer)).clone())
    }

    /// What is signed, read where nobody knows it yet. Whoever takes it puts it back.
    async fn take_signed(&self, state: &mut State) -> Result<Signed, StoreError> {
        match state.signed.take() {
            Some(signed) => Ok(signed),
            None => self.read_signed(state).await,
        }
    }

    /// Reads what is signed. Where the newest checkpoint is not where it was written,
    /// as in a store that was restored, nothing counts as signed.
    async fn read_signed(&self, state: &mut State) -> Result<Signed, StoreError> {
        let Some(last) = state.last else { return Ok(Signed::default()) };
        let mut signed = Signed::default();
        let mut found = None;
        let mut walk = CheckpointWalk::from(last.complete_from);
        while let Some(page) = walk.next(&*self.store).await? {
            for read in page {
                let Ok(checkpoint) = parse(&read.text) else { continue };
                found = Some((checkpoint.number, sha256(read.text.as_bytes())));
                signed.learn(&checkpoint, read);
            }
        }
        if found == Some((last.number, last.hash)) {
            return Ok(signed);
        }
        log::warn!(
            "checkpoint {} of the audit is not in its chain: the store was restored from a \
             backup, or entries were cut off; 'tenure audit verify' tells",
            last.number
        );
        let number = last.number.saturating_add(NUMBER_LEAP);
        state.last = Some(LastCheckpoint { number, ..last });
        Ok(Signed::default())
    }

    /// Where chains end that grew since that was signed.
    async fn grown(&self, state: &mut State, signed: &Signed) -> Vec<(TenantId, Extent)> {
        let tenants = self.all_tenants();
        let grown = tenants.iter().filter(|tenant| tenant.growth.take(Looker::Checkpoints));
        state.grown.extend(grown.map(|tenant| tenant.id));
        if self.system.growth.take(Looker::Checkpoints) {
            state.grown.insert(SYSTEM);
        }
        if signed.newest.is_none() {
            // The first one tells of every chain.
            state.grown.extend(tenants.iter().map(|tenant| tenant.id).chain([SYSTEM]));
        }
        let mut chains = Vec::new();
        let system = (SYSTEM, Space::System, self.system.seal());
        let spaces = tenants.iter().map(|t| (t.id, Space::Tenant(t.id), t.keys().1));
        for (id, space, seal) in spaces.chain([system]) {
            if !state.grown.contains(&id) {
                continue;
            }
            // What is damaged is told by `tenure verify`, and keeps no other from
            // being signed.
            let Ok(Some(ledger)) = ledger_of(&*self.store, space, seal).await else { continue };
            let now = Extent::of(&ledger);
            let before = signed.chains.get(&id).copied().unwrap_or(Extent::EMPTY);
            let is_new = now.begin != before.begin
                || now.end != before.end
                    && (id != SYSTEM || !self.is_checkpoints_alone(before.end.next).await);
            if is_new {
                chains.push((id, now));
            }
        }
        chains
    }

    /// Whether the system's chain has nothing but checkpoints from an entry on: these
    /// are no reason for another one.
    async fn is_checkpoints_alone(&self, from: u64) -> bool {
        let mut walk = Walk::from(Space::System, from);
        while let Ok(Some(blocks)) = walk.next(&*self.store).await {
            if !blocks.iter().all(|placed| is_piece(&placed.block.bytes)) {
                return false;
            }
        }
        true
    }

    /// Signed chains of tenants that are no more.
    fn ended(&self, signed: &Signed) -> Vec<TenantId> {
        let gone = |id: &&TenantId| **id != SYSTEM && self.tenant(**id).is_err();
        let mut ended: Vec<_> = signed.chains.keys().filter(gone).copied().collect();
        ended.sort_unstable();
        ended
    }

    async fn sign(
        &self,
        state: &mut State,
        signed: &mut Signed,
        telling: Telling,
        (grown, mut ended): (Vec<(TenantId, Extent)>, Vec<TenantId>),
    ) -> Result<(), StoreError> {
        let signer = self.signer(state).await?;
        let is_complete = telling == Telling::OfAll
            || signed.newest.is_none()
            || signed.since_complete.saturating_add(1) >= COMPLETE_EVERY;
        let mut chains: HashMap<TenantId, Extent> = grown.into_iter().collect();
        let system = self.system_extent().await?;
        // In every one: the checkpoints before it are in there too.
        chains.insert(SYSTEM, system);
        if is_complete {
            let known = signed.chains.iter().filter(|(id, _)| !ended.contains(id));
            for (id, extent) in known {
                chains.entry(*id).or_insert(*extent);
            }
        }
        let mut chains: Vec<_> = chains.into_iter().collect();
        chains.sort_unstable_by_key(|(id, _)| *id);
        let chunks: Vec<_> = chains.chunks(CHAINS_AT_ONCE).collect();
        let count = chunks.len();
        for (chains, place) in chunks.into_iter().zip(1..) {
            let complete_from = match state.last {
                // Until all parts of a complete one are there, the one before counts.
                Some(last) if !is_complete || place < count => last.complete_from,
                _ => system.end.next,
            };
            let checkpoint = self.composed(state.last, chains, &std::mem::take(&mut ended));
            let read = signed_by(&signer, &checkpoint);
            let hash = sha256(read.text.as_bytes());
            let last = LastCheckpoint { number: checkpoint.number, hash, complete_from };
            let floor = self.time.floor();
            self.system.append_checkpoint(in_blocks(&read), &last, floor).await?;
            log::info!(
                "checkpoint {} of the audit, of {}: SHA-256 {}",
                checkpoint.number,
                checkpoint.at,
                hex::encode(hash)
            );
            state.last = Some(last);
            signed.learn(&checkpoint, read);
        }
        if is_complete {
            signed.since_complete = 0;
        }
        Ok(())
    }

    fn composed(
        &self,
        last: Option<LastCheckpoint>,
        chains: &[(TenantId, Extent)],
        ended: &[TenantId],
    ) -> Checkpoint {
        Checkpoint {
            tenure: Checkpoint::FORM.to_owned(),
            store: self.store_id(),
            number: last.map_or(0, |last| last.number).saturating_add(1),
            at: self.time.now().wall().to_string(),
            before: hex::encode(last.map_or([0; 32], |last| last.hash)),
            chains: chains.iter().map(|(id, extent)| extent.said(*id)).collect(),
            ended: ended.iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) fn store_id(&self) -> String {
        hex::encode(self.keyring.store_keys().store_id().as_bytes())
    }

    async fn system_extent(&self) -> Result<Extent, StoreError> {
        let ledger = ledger_of(&*self.store, Space::System, self.system.seal()).await?;
        let damaged = || StoreError::Corrupted { what: "the ledger of system".to_owned() };
        ledger.map(|ledger| Extent::of(&ledger)).ok_or_else(damaged)
    }
}

impl Signed {
    fn learn(&mut self, checkpoint: &Checkpoint, read: SignedCheckpoint) {
        for said in &checkpoint.chains {
            if let (Some(id), Some(extent)) = (parse_id(&said.chain), Extent::parse(said)) {
                self.chains.insert(id, extent);
            }
        }
        for ended in checkpoint.ended.iter().filter_map(|id| parse_id(id)) {
            self.chains.remove(&ended);
        }
        self.newest = Some(read);
        self.since_complete = self.since_complete.saturating_add(1);
    }
}

fn signed_by(signer: &AuditSigner, checkpoint: &Checkpoint) -> SignedCheckpoint {
    // Texts and numbers have JSON.
    let text = serde_json::to_string(checkpoint).unwrap_or_default();
    let signature = hex::encode(signer.sign(text.as_bytes()));
    SignedCheckpoint { text, signature }
}

/// What a text says that is of the known form.
pub(super) fn parse(text: &str) -> Result<Checkpoint, Malformed> {
    let checkpoint: Checkpoint = serde_json::from_str(text).map_err(|_| Malformed)?;
    if checkpoint.tenure == Checkpoint::FORM { Ok(checkpoint) } else { Err(Malformed) }
}

pub(super) fn row(checkpoint: &Checkpoint, text: &str) -> CheckpointRow {
    CheckpointRow {
        number: checkpoint.number,
        at: checkpoint.at.clone(),
        hash: hex::encode(sha256(text.as_bytes())),
    }
}

pub(super) fn parse_id(text: &str) -> Option<TenantId> {
    let mut id = [0; 16];
    hex::decode_to_slice(text, &mut id).ok()?;
    Some(TenantId::from_bytes(id))
}

pub(super) fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}

/// The blocks that hold it, in their order.
fn in_blocks(signed: &SignedCheckpoint) -> Vec<Change> {
    let signature = hex::decode(&signed.signature).unwrap_or_default();
    let bytes = [signature.as_slice(), signed.text.as_bytes()].concat();
    let pieces = bytes.chunks(Block::MAX_BYTES - PIECE_HEADER);
    let count = u16::try_from(pieces.len()).expect("a checkpoint is at most some megabytes");
    let block = |(piece, number): (&[u8], u16)| {
        let bytes =
            [&[KIND], number.to_be_bytes().as_slice(), &count.to_be_bytes(), piece].concat();
        Change::Append(Appended::Block(Block { entries: NonZeroU32::MIN, bytes }))
    };
    pieces.zip(0..).map(block).collect()
}

/// Puts checkpoints together from their pieces.
#[derive(Default)]
struct Pieces {
    bytes: Vec<u8>,
    next: u16,
}

impl Pieces {
    /// The checkpoint that this block completes. What belongs to none is passed over:
    /// whoever follows the chain sees that it was altered.
    fn take(&mut self, block: &[u8]) -> Option<SignedCheckpoint> {
        let mut fields = Reader::new(block);
        let read = fields.format(KIND).and_then(|()| Ok((fields.u16()?, fields.u16()?)));
        let Ok((number, count)) = read else {
            *self = Self::default();
            return None;
        };
        if number == 0 {
            *self = Self::default();
        }
        if number != self.next {
            *self = Self::default();
            return None;
        }
        self.bytes.extend_from_slice(fields.rest());
        self.next = number.checked_add(1)?;
        if self.next < count {
            return None;
        }
        let Self { bytes, next: _ } = std::mem::take(self);
        let (signature, text) = bytes.split_at_checked(AuditPublicKey::SIGNATURE_LEN)?;
        let text = String::from_utf8(text.to_vec()).ok()?;
        Some(SignedCheckpoint { text, signature: hex::encode(signature) })
    }
}

/// Reads a chain page by page.
pub(super) struct Walk {
    space: Space,
    from: Option<u64>,
}

impl Walk {
    pub(super) fn from(space: Space, entry: u64) -> Self {
        Self { space, from: Some(entry) }
    }

    /// The next blocks; `None` after the last ones.
    pub(super) async fn next(
        &mut self,
        store: &dyn Store,
    ) -> Result<Option<Vec<PlacedBlock>>, StoreError> {
        let Some(from) = self.from else { return Ok(None) };
        let page = store.chain(self.space, from).await?;
        let last = page.blocks.last().filter(|_| page.more);
        self.from = last.map(|last| last.first.saturating_add(1));
        Ok(Some(page.blocks))
    }
}

/// Reads the checkpoints that stand in the system's chain, page by page.
pub(super) struct CheckpointWalk {
    walk: Walk,
    pieces: Pieces,
}

impl CheckpointWalk {
    pub(super) fn from(entry: u64) -> Self {
        Self { walk: Walk::from(Space::System, entry), pieces: Pieces::default() }
    }

    /// The next ones, if there are any in the next page; `None` after the last page.
    pub(super) async fn next(
        &mut self,
        store: &dyn Store,
    ) -> Result<Option<Vec<SignedCheckpoint>>, StoreError> {
        let Some(blocks) = self.walk.next(store).await? else { return Ok(None) };
        let whole = blocks.iter().filter_map(|placed| self.pieces.take(&placed.block.bytes));
        Ok(Some(whole.collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(signed: &SignedCheckpoint) -> Vec<Vec<u8>> {
        let bytes = |change| match change {
            Change::Append(Appended::Block(block)) => block.bytes,
            _ => panic!("a block"),
        };
        in_blocks(signed).into_iter().map(bytes).collect()
    }

    proptest! {
        #[test]
        fn a_checkpoint_survives_its_pieces(text in "[a-zä]{0,12000}") {
            let signed = SignedCheckpoint { text, signature: "ab".repeat(64) };
            let blocks = blocks(&signed);
            let mut pieces = Pieces::default();
            let (last, others) = blocks.split_last().unwrap();
            for other in others {
                prop_assert_eq!(pieces.take(other), None);
            }
            prop_assert_eq!(pieces.take(last), Some(signed));
            prop_assert!(blocks.iter().all(|block| block.len() <= Block::MAX_BYTES));
        }

        #[test]
        fn pieces_of_anything_are_no_panic(
            blocks in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(KIND), 0..4u8], 0..80),
                0..9,
            )
        ) {
            let mut pieces = Pieces::default();
            for block in blocks {
                if let Some(read) = pieces.take(&block) {
                    prop_assert_eq!(read.signature.len(), 128);
                }
            }
        }
    }

    #[test]
    fn a_missing_piece_completes_nothing() {
        let signed = SignedCheckpoint { text: "x".repeat(9_000), signature: "ab".repeat(64) };
        let blocks = blocks(&signed);
        assert_eq!(blocks.len(), 3);
        for missing in 0..3 {
            let mut pieces = Pieces::default();
            let others = blocks.iter().zip(0..).filter(|(_, number)| *number != missing);
            assert!(others.map(|(block, _)| pieces.take(block)).all(|read| read.is_none()));
        }
    }

    #[test]
    fn what_a_row_remembers_survives_its_encoding() {
        let last = LastCheckpoint { number: 9, hash: [7; 32], complete_from: 3 };
        let encoded = last.encode();
        assert_eq!(LastCheckpoint::decode(&encoded), Ok(last));
        for length in 0..encoded.len() {
            assert_eq!(LastCheckpoint::decode(&encoded[..length]), Err(Malformed));
        }
    }
}
