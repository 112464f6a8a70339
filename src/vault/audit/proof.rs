//! Whether an audit is the one that was signed, told by whoever has the public key and
//! nothing else: of an export, or of the files of a store.
//!
//! Each entry leads to its block's commitment, each block to the link of the next, and
//! the links to a head that a checkpoint signs. Checkpoints hang together by their
//! hashes. So each chain holds up to the last of its signed heads, and what is wrong is
//! told by the first entry that is: exactly, where it was only altered, removed or
//! moved; by the stretch between two checkpoints, where somebody also computed anew
//! what takes no key.
//!
//! Who has the store's keys as well is told of the entries after the newest checkpoint
//! too, and of each entry that does not decrypt.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::api::admin::{Progress, Report};
use crate::api::audit_export::{
    AuditProof, ChainHead, Checkpoint, CheckpointRow, ExportEnd, ExportHeader, ExportLine,
    ExportedBlock, ExportedChain, ExportedEntry, ProvedChain, SignedCheckpoint,
};
use crate::crypto::{AuditKey, AuditPublicKey, BlockDigest, Commitment, sha256};
use crate::domain::TenantId;
use crate::store::{Chain, LedgerSeal, PlacedBlock, Space, Store, StoreError};

use super::super::Vault;
use super::super::keyring::{SYSTEM, space_of};
use super::super::seal::ledger_of;
use super::super::tenant::Tenant;
use super::checkpoint::{self, CheckpointWalk, Extent, Walk, parse_hash, parse_id};

/// What whoever verifies brings along.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    pub key: Option<AuditPublicKey>,
    /// A checkpoint that was kept elsewhere: nothing of what it signs may be gone.
    pub head: Option<SignedCheckpoint>,
}

/// A head that a checkpoint signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SignedHead {
    end: Chain,
    checkpoint: u64,
}

/// All that is signed, in the order of the checkpoints.
struct Checkpoints {
    key: AuditPublicKey,
    store: Option<String>,
    /// By number.
    hashes: BTreeMap<u64, [u8; 32]>,
    newest: Option<CheckpointRow>,
    heads: HashMap<TenantId, Vec<SignedHead>>,
    /// Where chains begin of which the beginning was forgotten.
    begins: HashMap<TenantId, Chain>,
    ended: BTreeSet<TenantId>,
    faults: Vec<String>,
}

impl Checkpoints {
    fn new(key: AuditPublicKey) -> Self {
        Self {
            key,
            store: None,
            hashes: BTreeMap::new(),
            newest: None,
            heads: HashMap::new(),
            begins: HashMap::new(),
            ended: BTreeSet::new(),
            faults: Vec::new(),
        }
    }

    /// The next one. Behind the first that is not, none counts.
    fn add(&mut self, signed: &SignedCheckpoint) {
        if self.faults.is_empty()
            && let Err(fault) = self.try_add(signed)
        {
            self.faults.push(fault);
        }
    }

    fn try_add(&mut self, signed: &SignedCheckpoint) -> Result<(), String> {
        let after = self.newest.as_ref().map(|newest| newest.number);
        let place = match after {
            Some(number) => format!("the checkpoint behind number {number}"),
            None => "the first checkpoint".to_owned(),
        };
        let read = self.read(signed).map_err(|why| format!("{place} {why}"))?;
        if let Some((last, hash)) = self.hashes.last_key_value() {
            let next = last.saturating_add(1);
            if read.number != next {
                return Err(format!(
                    "checkpoint {next} is missing: number {} stands in its place",
                    read.number
                ));
            }
            if parse_hash(&read.before) != Some(*hash) {
                return Err(format!("checkpoint {next} follows another number {last}"));
            }
        } else if read.number == 1 && parse_hash(&read.before) != Some([0; 32]) {
            return Err("checkpoint 1 follows another one".to_owned());
        }
        self.store = Some(read.store.clone());
        self.hashes.insert(read.number, sha256(signed.text.as_bytes()));
        self.learn(&read.chains, read.number);
        self.ended.extend(read.ended.iter().filter_map(|id| parse_id(id)));
        self.newest = Some(checkpoint::row(&read, &signed.text));
        Ok(())
    }

    /// What it says, if it is signed with the key and of the same store.
    fn read(&self, signed: &SignedCheckpoint) -> Result<Checkpoint, String> {
        let signature = hex::decode(&signed.signature).unwrap_or_default();
        if !self.key.verifies(signed.text.as_bytes(), &signature) {
            let key = self.key.fingerprint();
            return Err(format!("is not signed with the key {key}"));
        }
        let read = checkpoint::parse(&signed.text)
            .map_err(|_| "is of a form that this version does not know".to_owned())?;
        match &self.store {
            Some(store) if *store != read.store => Err("is of another store".to_owned()),
            _ => Ok(read),
        }
    }

    fn learn(&mut self, chains: &[ChainHead], checkpoint: u64) {
        for said in chains {
            if let (Some(id), Some(extent)) = (parse_id(&said.chain), Extent::parse(said)) {
                let Extent { begin, end } = extent;
                self.heads.entry(id).or_default().push(SignedHead { end, checkpoint });
                if begin != Chain::EMPTY {
                    self.begins.insert(id, begin);
                }
            }
        }
    }

    /// Holds them against one that was kept elsewhere.
    fn hold_against(&mut self, head: &SignedCheckpoint) {
        let read = match self.read(head) {
            Ok(read) => read,
            Err(why) => return self.faults.push(format!("the checkpoint of --head {why}")),
        };
        let number = read.number;
        let fault = match (self.hashes.get(&number), self.hashes.first_key_value()) {
            (Some(hash), _) if *hash == sha256(head.text.as_bytes()) => return,
            (Some(_), _) => format!(
                "checkpoint {number} is not the one of --head: the audit was written anew since, \
                 or the store was restored from a backup"
            ),
            (None, Some((first, _))) if *first > number => format!(
                "checkpoint {number} of --head is not here: the oldest is {first}; the store was \
                 restored from a backup, or old entries are gone"
            ),
            (None, _) => {
                self.learn(&read.chains, number);
                let newest = self.newest.as_ref().map_or_else(
                    || "there is none".to_owned(),
                    |newest| format!("the newest is {}", newest.number),
                );
                format!(
                    "checkpoint {number} of --head is not here: {newest}; the newest entries were \
                     cut off, or the store was put back to an earlier state"
                )
            }
        };
        self.faults.push(fault);
    }

    fn of(&self, chain: TenantId) -> &[SignedHead] {
        self.heads.get(&chain).map_or(&[], Vec::as_slice)
    }

    fn begin_of(&self, chain: TenantId) -> Chain {
        self.begins.get(&chain).copied().unwrap_or(Chain::EMPTY)
    }

    /// Chains that are signed, did not end, and were not seen.
    fn missing(&self, seen: &BTreeSet<TenantId>) -> Vec<ProvedChain> {
        let gone = |id: &&TenantId| !seen.contains(id) && !self.ended.contains(id);
        let mut gone: Vec<_> = self.heads.keys().filter(gone).copied().collect();
        gone.sort_unstable();
        let chain = |id: TenantId| {
            let last = self.of(id).last().map_or(0, |last| last.checkpoint);
            ProvedChain {
                chain: id.to_string(),
                fault: Some(format!(
                    "all entries are missing, from entry 0 on: checkpoint {last} signs them, and \
                     none says that the tenant was deleted"
                )),
                ..ProvedChain::default()
            }
        };
        gone.into_iter().map(chain).collect()
    }
}

/// How far one chain was followed. `signed`, in what it does, is what the checkpoints
/// say of the chain.
struct Follower {
    id: TenantId,
    /// The number of the first entry that was followed.
    from: u64,
    end: Chain,
    /// How many signed heads are behind.
    passed: usize,
    /// The last one that agreed.
    good: Option<SignedHead>,
}

impl Follower {
    /// From an entry on; what is signed of earlier ones is passed over.
    fn new(id: TenantId, begin: Chain, signed: &[SignedHead]) -> Self {
        let passed = signed.partition_point(|head| head.end.next < begin.next);
        Self { id, from: begin.next, end: begin, passed, good: None }
    }

    /// Before the first block: something may be signed of just this place.
    fn begin(&mut self, signed: &[SignedHead]) -> Result<(), String> {
        self.arrive(self.end, signed)
    }

    fn block(
        &mut self,
        (first, count): (u64, u32),
        digest: &BlockDigest<'_>,
        shown: [u8; 32],
        signed: &[SignedHead],
    ) -> Result<(), String> {
        let Chain { next, head } = self.end;
        if first > next {
            return Err(self.fault(format!("entry {next} is missing: {first} is in its place")));
        }
        if first < next {
            return Err(self.fault(format!("entry {next} is missing: {first} is there again")));
        }
        let link = digest.link(self.id, &head, first, count);
        if link != shown {
            let what = format!("entry {first} was altered, or stands in another's place");
            return Err(self.fault(what));
        }
        self.arrive(Chain { next: next.saturating_add(count.into()), head: link }, signed)
    }

    /// Holds a place against what is signed of it.
    fn arrive(&mut self, at: Chain, signed: &[SignedHead]) -> Result<(), String> {
        let ahead = signed.iter().skip(self.passed);
        for head in ahead.take_while(|head| head.end.next <= at.next) {
            if head.end != at {
                let (from, number) = (self.signed_up_to(), head.checkpoint);
                return Err(self.fault(format!(
                    "among the entries from {from} to before {} are such that were altered, \
                     exchanged or added, and linked again: checkpoint {number} signs others",
                    at.next
                )));
            }
            self.good = Some(*head);
            self.passed += 1;
        }
        self.end = at;
        Ok(())
    }

    fn finish(&self, signed: &[SignedHead]) -> Result<(), String> {
        let Some(last) = signed.get(self.passed..).and_then(<[_]>::last) else { return Ok(()) };
        let Chain { next, head: _ } = self.end;
        let mut what = format!(
            "cut off: entry {next} is missing, and so is all up to entry {}, which checkpoint {} \
             signs",
            last.end.next.saturating_sub(1),
            last.checkpoint
        );
        if self.signed_up_to() < next {
            // Somebody may have removed earlier ones, and linked the others again.
            what += &format!("; the entries from {} on are not proved", self.signed_up_to());
        }
        Err(self.fault(what))
    }

    fn signed_up_to(&self) -> u64 {
        self.good.map_or(self.from, |good| good.end.next)
    }

    fn fault(&self, what: String) -> String {
        match self.good {
            Some(good) => format!("{what}; checkpoint {} is the last good one", good.checkpoint),
            None => format!("{what}; no checkpoint before is good"),
        }
    }

    fn proved(&self, tenant: Option<String>, fault: Option<String>) -> ProvedChain {
        ProvedChain {
            chain: self.id.to_string(),
            tenant,
            from: self.from,
            next: self.end.next,
            signed: self.signed_up_to(),
            fault,
        }
    }
}

fn conclude(
    checkpoints: Checkpoints,
    chains: Vec<ProvedChain>,
    key_from_export: bool,
) -> AuditProof {
    let Checkpoints { key, hashes, newest, faults, .. } = checkpoints;
    AuditProof {
        sound: faults.is_empty() && chains.iter().all(|chain| chain.fault.is_none()),
        key: key.fingerprint(),
        key_from_export,
        checkpoints: hashes.len() as u64,
        newest,
        chains,
        faults,
    }
}

/// Verifies an export, line by line; it needs memory for what is signed, and for no
/// entry. Without a key in `trust` it takes the one that the export names.
pub fn verify_export<E>(
    lines: impl IntoIterator<Item = Result<String, E>>,
    trust: &Trust,
) -> Result<AuditProof, E> {
    let mut reading: Option<Reading> = None;
    for (line, number) in lines.into_iter().zip(1u64..) {
        let line = line?;
        match (&mut reading, serde_json::from_str(&line)) {
            (None, Ok(ExportLine::Header(header))) => match Reading::begin(&header, trust) {
                Ok(begun) => reading = Some(begun),
                Err(fault) => return Ok(unread(fault)),
            },
            (None, _) => {
                let fault = "this is no export of an audit: its first line says nothing of one";
                return Ok(unread(fault.to_owned()));
            }
            (Some(reading), Ok(line)) => reading.line(line, number, trust),
            (Some(reading), Err(_)) => {
                reading.misplaced(format!("line {number} is no line of an export"));
            }
        }
    }
    let empty = || unread("this is no export of an audit: it is empty".to_owned());
    Ok(reading.map_or_else(empty, |reading| reading.finish(trust)))
}

/// Nothing of it could be verified.
fn unread(fault: String) -> AuditProof {
    AuditProof { faults: vec![fault], ..AuditProof::default() }
}

/// An export, as far as it was read.
struct Reading {
    checkpoints: Checkpoints,
    key_from_export: bool,
    complete: bool,
    /// The chain that is being read.
    chain: Option<ReadChain>,
    seen: BTreeSet<TenantId>,
    chains: Vec<ProvedChain>,
    held: bool,
    ended: bool,
    lines: u64,
}

struct ReadChain {
    tenant: Option<String>,
    follower: Follower,
    /// What was found wrong: it is not followed further.
    fault: Option<String>,
}

impl Reading {
    fn begin(header: &ExportHeader, trust: &Trust) -> Result<Self, String> {
        if header.tenure != ExportHeader::FORM {
            return Err(format!(
                "this version verifies exports of the form {}, and this is another one; run the \
                 version that made it, or a newer one",
                ExportHeader::FORM
            ));
        }
        let named = AuditPublicKey::parse(&header.key).ok();
        let key = trust.key.or(named);
        let key = key.ok_or("the export names no key: give one with --key")?;
        let mut checkpoints = Checkpoints::new(key);
        checkpoints.store = Some(header.store.clone());
        if named != Some(key) {
            let named = named.map_or_else(|| "none".to_owned(), |key| key.fingerprint());
            let key = key.fingerprint();
            checkpoints.faults.push(format!(
                "the export is of a store whose key is {named}, and the key given is {key}"
            ));
        }
        Ok(Self {
            checkpoints,
            key_from_export: trust.key.is_none(),
            complete: header.complete,
            chain: None,
            seen: BTreeSet::new(),
            chains: Vec::new(),
            held: false,
            ended: false,
            lines: 1,
        })
    }

    fn line(&mut self, line: ExportLine, number: u64, trust: &Trust) {
        if self.ended {
            return self.misplaced(format!("line {number} stands behind the end"));
        }
        self.lines = number;
        match line {
            ExportLine::Checkpoint(signed) if !self.held => self.checkpoints.add(&signed),
            ExportLine::Chain(chain) => {
                self.hold(trust);
                self.chain(chain, number);
            }
            ExportLine::Block(block) => self.block(&block, number),
            ExportLine::End(ExportEnd { lines }) => {
                self.ended = true;
                if lines.checked_add(1) != Some(number) {
                    self.misplaced(format!(
                        "the export has {} lines before its end, and should have {lines}",
                        number - 1
                    ));
                }
            }
            ExportLine::Header(_) | ExportLine::Checkpoint(_) => {
                self.misplaced(format!("line {number} stands in another's place"));
            }
        }
    }

    /// The first such fault tells enough.
    fn misplaced(&mut self, fault: String) {
        if !self.checkpoints.faults.contains(&fault) && self.checkpoints.faults.len() < 10 {
            self.checkpoints.faults.push(fault);
        }
    }

    /// All checkpoints were read.
    fn hold(&mut self, trust: &Trust) {
        if !std::mem::replace(&mut self.held, true)
            && let Some(head) = &trust.head
        {
            self.checkpoints.hold_against(head);
        }
    }

    fn chain(&mut self, chain: ExportedChain, number: u64) {
        self.finish_chain();
        let ExportedChain { chain, tenant, next, head } = chain;
        let (Some(id), Some(head)) = (parse_id(&chain), parse_hash(&head)) else {
            return self.misplaced(format!("line {number} is no line of an export"));
        };
        if !self.seen.insert(id) {
            return self.misplaced(format!("line {number} begins a chain again"));
        }
        let signed = self.checkpoints.of(id);
        let mut follower = Follower::new(id, Chain { next, head }, signed);
        // Nothing is before the first, whether that is the very first or the first kept.
        let first = self.checkpoints.begin_of(id);
        let is_first = Chain { next, head } == first;
        let fault = if !is_first && (self.complete || next <= first.next) {
            let first = first.next;
            Some(follower.fault(format!("entry {first} is missing: the chain begins elsewhere")))
        } else {
            follower.begin(signed).err()
        };
        self.chain = Some(ReadChain { tenant, follower, fault });
    }

    fn block(&mut self, block: &ExportedBlock, number: u64) {
        let Some(ReadChain { follower, fault, .. }) = &mut self.chain else {
            return self.misplaced(format!("line {number} belongs to no chain"));
        };
        if fault.is_none() {
            *fault = follow_exported(follower, block, self.checkpoints.of(follower.id)).err();
        }
    }

    fn finish_chain(&mut self) {
        let Some(ReadChain { tenant, follower, fault }) = self.chain.take() else { return };
        let unsigned = || {
            // An export holds what is signed, so whatever else there is was added.
            let (signed, next) = (follower.signed_up_to(), follower.end.next);
            (signed < next).then(|| {
                follower.fault(format!("no checkpoint signs the entries from {signed} on"))
            })
        };
        let cut = || follower.finish(self.checkpoints.of(follower.id)).err();
        let fault = fault.or_else(cut).or_else(unsigned);
        self.chains.push(follower.proved(tenant, fault));
    }

    fn finish(mut self, trust: &Trust) -> AuditProof {
        self.hold(trust);
        self.finish_chain();
        if !self.ended {
            self.misplaced(format!("the export was cut off behind line {}", self.lines));
        }
        if self.complete {
            self.chains.extend(self.checkpoints.missing(&self.seen));
        }
        conclude(self.checkpoints, self.chains, self.key_from_export)
    }
}

/// Whether its entries are those that the block commits to, and the block the next one.
fn follow_exported(
    follower: &mut Follower,
    block: &ExportedBlock,
    signed: &[SignedHead],
) -> Result<(), String> {
    let ExportedBlock { chain, first, count, header, envelope, link, entries } = block;
    let next = follower.end.next;
    if parse_id(chain) != Some(follower.id) {
        return Err(follower.fault(format!("entry {next} is missing: another chain's is there")));
    }
    let unread = || follower.fault(format!("entry {next} was altered: its line is damaged"));
    let header = hex::decode(header).map_err(|_| unread())?;
    let rest = parse_hash(envelope).ok_or_else(unread)?;
    let link = parse_hash(link).ok_or_else(unread)?;
    let digest = BlockDigest { header: &header, rest };
    // What stands elsewhere is told as such, whatever it holds.
    if *first == next {
        prove_entries(&digest, *first, *count, entries).map_err(|what| follower.fault(what))?;
    }
    follower.block((*first, *count), &digest, link, signed)
}

fn prove_entries(
    digest: &BlockDigest<'_>,
    first: u64,
    count: u32,
    entries: &[ExportedEntry],
) -> Result<(), String> {
    let mut commitment = Commitment::new();
    for (entry, number) in entries.iter().zip(first..) {
        let ExportedEntry { text, salt, commitment: shown } = entry;
        let salt = parse_hash(salt).ok_or_else(|| format!("entry {number} was altered"))?;
        commitment = commitment.with(&salt, text);
        if parse_hash(shown).as_ref() != Some(commitment.as_bytes()) {
            return Err(format!("entry {number} was altered, or stands in another's place"));
        }
    }
    let Some(committed) = digest.commitment() else {
        let none = entries.is_empty();
        return none.then_some(()).ok_or_else(|| format!("entry {first} was added"));
    };
    if entries.len() as u64 != u64::from(count) {
        let missing = first.saturating_add(entries.len() as u64);
        return Err(format!("entry {missing} is missing, or was added"));
    }
    if commitment.as_bytes() != committed {
        return Err(format!("entry {first} was altered, or one that is in a block with it"));
    }
    Ok(())
}

/// Verifies the files of a store that nobody has keys of: needs the public key.
pub async fn verify_copy(
    store: &dyn Store,
    key: AuditPublicKey,
    head: Option<&SignedCheckpoint>,
    report: &Report,
) -> Result<AuditProof, StoreError> {
    let tenants = store.tenants().await?.into_iter();
    let tenants = tenants.map(|id| Whose { id, tenant: None, keys: None });
    let system = Whose { id: SYSTEM, tenant: None, keys: None };
    let (mut checkpoints, mut chains) = (signed_in(store, key).await?, Vec::new());
    if let Some(head) = head {
        checkpoints.hold_against(head);
    }
    let all: Vec<_> = [system].into_iter().chain(tenants).collect();
    follow_all(store, &checkpoints, &all, &mut chains, report).await?;
    let seen = all.iter().map(|whose| whose.id).collect();
    chains.extend(checkpoints.missing(&seen));
    Ok(conclude(checkpoints, chains, false))
}

/// Verifies an open store by its keys too, and by its own public key where `trust` has
/// no other. Which tenants there are, its ledger proves.
pub(in crate::vault) async fn verify_open(
    vault: &Vault,
    trust: &Trust,
    report: &Report,
) -> Result<AuditProof, StoreError> {
    let own = vault.audit_public_key().await?;
    let store = &*vault.store;
    let (mut checkpoints, mut chains) =
        (signed_in(store, trust.key.unwrap_or(own)).await?, Vec::new());
    if let Some(head) = &trust.head {
        checkpoints.hold_against(head);
    }
    let tenants = vault.all_tenants();
    let keys = (vault.system.keys().anchor.audit(), vault.system.seal() as &dyn LedgerSeal);
    let system = Whose { id: SYSTEM, tenant: None, keys: Some(keys) };
    let all: Vec<_> = [system].into_iter().chain(tenants.iter().map(Whose::of)).collect();
    follow_all(store, &checkpoints, &all, &mut chains, report).await?;
    // One that was deleted meanwhile is no part of the store any more.
    chains.retain(|chain| {
        let id = parse_id(&chain.chain);
        id.is_some_and(|id| id == SYSTEM || vault.tenant(id).is_ok())
    });
    Ok(conclude(checkpoints, chains, false))
}

type Keys<'k> = (&'k AuditKey, &'k dyn LedgerSeal);

/// Whose chain, and the keys of its space, where there are any.
struct Whose<'k> {
    id: TenantId,
    tenant: Option<String>,
    keys: Option<Keys<'k>>,
}

impl<'k> Whose<'k> {
    fn of(tenant: &'k Arc<Tenant>) -> Self {
        let (keys, seal) = tenant.keys();
        let name = tenant.name.to_string();
        Self { id: tenant.id, tenant: Some(name), keys: Some((keys.anchor.audit(), seal)) }
    }
}

async fn follow_all(
    store: &dyn Store,
    checkpoints: &Checkpoints,
    all: &[Whose<'_>],
    chains: &mut Vec<ProvedChain>,
    report: &Report,
) -> Result<(), StoreError> {
    let of = Some(all.len() as u64);
    for (whose, done) in all.iter().zip(0..) {
        let what = whose.tenant.clone().unwrap_or_else(|| whose.id.to_string());
        report(Progress { what, done, of });
        chains.push(follow(store, whose, checkpoints).await?);
    }
    Ok(())
}

/// The checkpoints that stand in the system's chain.
async fn signed_in(store: &dyn Store, key: AuditPublicKey) -> Result<Checkpoints, StoreError> {
    let (mut checkpoints, mut walk) = (Checkpoints::new(key), CheckpointWalk::from(0));
    loop {
        match walk.next(store).await {
            Ok(Some(page)) => page.iter().for_each(|signed| checkpoints.add(signed)),
            Ok(None) => return Ok(checkpoints),
            Err(StoreError::Corrupted { what }) => {
                let fault = format!("{what} is corrupted: checkpoints behind it are not read");
                checkpoints.faults.push(fault);
                return Ok(checkpoints);
            }
            Err(error) => return Err(error),
        }
        tokio::task::yield_now().await;
    }
}

async fn follow(
    store: &dyn Store,
    whose: &Whose<'_>,
    checkpoints: &Checkpoints,
) -> Result<ProvedChain, StoreError> {
    let Whose { id, tenant, keys } = whose;
    let signed = checkpoints.of(*id);
    let mut follower = Follower::new(*id, checkpoints.begin_of(*id), signed);
    let fault = match follow_blocks(store, space_of(*id), *keys, &mut follower, signed).await {
        Ok(()) => None,
        Err(Halt::Fault(fault)) => Some(fault),
        Err(Halt::Store(StoreError::Corrupted { what })) => {
            let next = follower.end.next;
            Some(follower.fault(format!("{what} is corrupted, behind entry {next}")))
        }
        Err(Halt::Store(StoreError::TenantGone)) => Some("its rows are missing".to_owned()),
        Err(Halt::Store(error)) => return Err(error),
    };
    Ok(follower.proved(tenant.clone(), fault))
}

/// Why a chain was not followed to its end.
enum Halt {
    Fault(String),
    Store(StoreError),
}

impl From<String> for Halt {
    fn from(fault: String) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn follow_blocks(
    store: &dyn Store,
    space: Space,
    keys: Option<Keys<'_>>,
    follower: &mut Follower,
    signed: &[SignedHead],
) -> Result<(), Halt> {
    // First: what is appended meanwhile is beyond it.
    let ledger = match keys {
        None => None,
        Some((_, seal)) => {
            let ledger = ledger_of(store, space, seal).await?;
            let ledger = ledger.ok_or("its ledger is missing or damaged".to_owned())?;
            // The beginning may be another one than any checkpoint says yet.
            *follower = Follower::new(follower.id, ledger.kept_from, signed);
            Some(ledger.chain)
        }
    };
    let up_to = ledger.map_or(u64::MAX, |end| end.next);
    follower.begin(signed)?;
    // What is forgotten may be there still.
    let mut walk = Walk::from(space, follower.end.next);
    while let Some(blocks) = walk.next(store).await? {
        for placed in blocks.iter().filter(|placed| placed.first < up_to) {
            let PlacedBlock { first, link, block } = placed;
            let digest = BlockDigest::of(&block.bytes);
            if let (Some((key, _)), true) = (keys, *first == follower.end.next) {
                let is_sound = checkpoint::is_piece(&block.bytes)
                    || key.read(&block.bytes).is_ok_and(|entries| {
                        entries.len() as u64 == u64::from(block.entries.get())
                    });
                if !is_sound {
                    let what = format!("entry {first} was altered: it does not decrypt");
                    return Err(follower.fault(what).into());
                }
            }
            let place = (*first, block.entries.get());
            follower.block(place, &digest, *link, signed)?;
        }
        if follower.end.next >= up_to {
            break;
        }
        // Hashing is CPU work: let others on this thread go on.
        tokio::task::yield_now().await;
    }
    follower.finish(signed)?;
    let Some(end) = ledger else { return Ok(()) };
    if follower.end.next != end.next {
        let (next, last) = (follower.end.next, end.next.saturating_sub(1));
        let what = format!("cut off: entry {next} is missing, and so is all up to entry {last}");
        return Err(follower.fault(what).into());
    }
    if follower.end.head != end.head {
        let from = follower.signed_up_to();
        let what = format!("among the entries from {from} on are such that were exchanged");
        return Err(follower.fault(what).into());
    }
    Ok(())
}
