//! That the audit proves itself: to its server, to whoever has a copy of the files and
//! the public key, and to whoever has an export and the public key. And that nothing
//! can be done to any of these that does not show.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;
use crate::api::admin::Progress;
use crate::api::audit_export::{
    AuditProof, Checkpoint, ExportFrom, ExportLine, ExportMade, ExportOf, ExportedBlock,
    ProvedChain, SignedCheckpoint,
};
use crate::crypto::{AuditPublicKey, BlockDigest, Commitment};
use crate::domain::{ByName, TenantId};
use crate::store::{Chain, PlacedBlock};
use crate::vault::keyring::{SYSTEM, space_of};
use crate::vault::maintenance::Ends;

type Blocks = BTreeMap<u64, PlacedBlock>;

impl Bench {
    async fn key(&self) -> AuditPublicKey {
        match self.run(Command::AuditKey).await.unwrap() {
            Reply::AuditKey(row) => AuditPublicKey::parse(&row.public_key).unwrap(),
            _ => panic!("no key"),
        }
    }

    async fn head(&self) -> SignedCheckpoint {
        match self.run(Command::AuditHead).await.unwrap() {
            Reply::AuditHead(signed) => signed,
            _ => panic!("no checkpoint"),
        }
    }

    async fn head_read(&self) -> Checkpoint {
        serde_json::from_str(&self.head().await.text).unwrap()
    }

    /// With the store's keys.
    async fn proof(&self, head: Option<&SignedCheckpoint>) -> AuditProof {
        let verify = Command::AuditVerify { key: None, head: head.cloned() };
        match self.run(verify).await.unwrap() {
            Reply::AuditProved(proof) => proof,
            _ => panic!("no proof"),
        }
    }

    /// Without them.
    async fn proof_of_copy(&self, head: Option<&SignedCheckpoint>) -> AuditProof {
        verify_copy(&*self.store, self.key().await, head, &|_| {}).await.unwrap()
    }

    async fn export(&self, of: ExportOf, from: ExportFrom) -> (ExportMade, Vec<String>) {
        let (exchange, Ends { mut download, progress: _progress, upload: _upload }) =
            Exchange::new();
        let command = Command::AuditExport { of, from };
        let work = maintenance::execute(&self.vault, command, exchange);
        let taking = async {
            let mut bytes = Vec::new();
            while let Some(piece) = download.recv().await {
                bytes.extend(piece);
            }
            bytes
        };
        let (reply, bytes) = tokio::join!(work, taking);
        let Reply::AuditExported(made) = reply.unwrap() else { panic!("no export") };
        assert_eq!(made.bytes, bytes.len() as u64);
        let lines = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
        (made, lines)
    }

    async fn whole_export(&self) -> Vec<String> {
        self.export(ExportOf::Everything, ExportFrom::Beginning).await.1
    }

    fn id(&self, tenant: &str) -> TenantId {
        let name = TenantName::parse(tenant).unwrap();
        self.vault.tenant_named(&name).unwrap().id
    }

    fn blocks(&self, id: TenantId) -> Blocks {
        let mut found = Blocks::new();
        self.store.tamper(space_of(id), |chain| found = chain.clone());
        found
    }

    fn replace(&self, id: TenantId, blocks: &Blocks) {
        self.store.tamper(space_of(id), |chain| *chain = blocks.clone());
    }

    /// Several blocks, one of them of several entries, between checkpoints.
    async fn grow(&self, tenant: &str, rounds: usize) {
        let address = TenantName::parse(tenant).unwrap();
        let token = self.token(tenant).await;
        for round in 0..rounds {
            let now = self.vault.now();
            let principal = self.vault.authenticate(&token, now).unwrap();
            let new = |n: usize| {
                let planned = Planned {
                    new: NewSecret { value: None, window: OPEN() },
                    precondition: Precondition::None,
                };
                (secret(&format!("r{round}-{n}")), planned)
            };
            for n in 0..3 {
                let permit = principal.may_write_some(&address, now).unwrap();
                let writes = ByName::new((0..=n * 2).map(new).collect()).unwrap();
                let written = self.vault.write_all(permit.all(writes, now).unwrap(), now).await;
                written.unwrap();
            }
            self.vault.checkpoint().await.unwrap();
        }
    }
}

async fn grown() -> Bench {
    let bench = Bench::new().await;
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    bench.grow("acme", 4).await;
    bench.grow("beta", 2).await;
    bench
}

fn verified(lines: &[String], key: AuditPublicKey, head: Option<&SignedCheckpoint>) -> AuditProof {
    let lines = lines.iter().cloned().map(Ok::<_, Infallible>);
    let trust = Trust { key: Some(key), head: head.cloned() };
    verify_export(lines, &trust).unwrap()
}

pub(super) fn chain(proof: &AuditProof, id: TenantId) -> ProvedChain {
    let found = proof.chains.iter().find(|chain| chain.chain == id.to_string());
    found.unwrap_or_else(|| panic!("{id} in {proof:?}")).clone()
}

pub(super) fn assert_sound(proof: &AuditProof) {
    assert!(proof.sound && proof.faults.is_empty(), "{proof:?}");
}

#[tokio::test]
async fn an_audit_that_nobody_touched_proves_itself_to_everyone() {
    let bench = grown().await;
    let head = bench.head().await;
    let export = bench.whole_export().await;
    let key = bench.key().await;
    let proofs = [
        bench.proof(Some(&head)).await,
        bench.proof_of_copy(Some(&head)).await,
        verified(&export, key, Some(&head)),
    ];
    for proof in proofs {
        assert_sound(&proof);
        assert_eq!(proof.checkpoints, 6);
        assert_eq!(proof.newest.as_ref().unwrap().number, 6);
        let ids = [SYSTEM, bench.id("acme"), bench.id("beta")];
        let entries = ids.map(|id| chain(&proof, id).signed);
        assert_eq!(entries[1..], [4 * 9, 2 * 9]);
        assert!(ids.iter().all(|id| chain(&proof, *id).from == 0));
    }
}

#[tokio::test]
async fn who_verifies_is_told_how_far_it_is() {
    let bench = grown().await;
    let (telling, told) = std::sync::mpsc::channel();
    let report = move |progress: Progress| telling.send(progress).unwrap();
    assert_sound(&verify_copy(&*bench.store, bench.key().await, None, &report).await.unwrap());
    drop(report);
    let told: Vec<Progress> = told.iter().collect();
    assert!(told.iter().any(|one| one.what == "checkpoints" && one.of.is_none()));
    let entries: Vec<_> = told.iter().filter(|one| one.of.is_some()).collect();
    assert!(entries.is_sorted_by_key(|one| one.done));
    assert!(entries.iter().all(|one| one.of == entries[0].of && one.done <= one.of.unwrap()));
    let chains: std::collections::BTreeSet<_> = entries.iter().map(|one| &one.what).collect();
    assert_eq!(chains.len(), 3, "{told:?}");
}

#[tokio::test]
async fn a_checkpoint_is_signed_only_when_something_was_done() {
    let mut bench = Bench::new().await;
    let first = bench.head_read().await;
    assert_eq!((first.number, first.before), (1, "00".repeat(32)));
    let end = bench.blocks(SYSTEM).len();
    for _ in 0..3 {
        // Neither looking nor a restart is a change.
        assert_eq!(bench.head_read().await.number, 1);
        bench.vault.settle().await;
        bench.reopen().await;
    }
    assert_eq!(bench.blocks(SYSTEM).len(), end);
    bench.put("a", None, OPEN()).await.unwrap();
    bench.vault.settle().await;
    assert_eq!(bench.proof_of_copy(None).await.checkpoints, 2, "a stop signs");
}

#[tokio::test]
async fn a_minute_after_something_was_done_it_is_signed() {
    let bench = Bench::new().await;
    bench.vault.keep_house().await.unwrap();
    assert_eq!(bench.proof_of_copy(None).await.checkpoints, 0);
    bench.clock.pass(60);
    bench.vault.keep_house().await.unwrap();
    assert_eq!(bench.proof_of_copy(None).await.checkpoints, 1);
    bench.put("a", None, OPEN()).await.unwrap();
    bench.clock.pass(59);
    bench.vault.keep_house().await.unwrap();
    let proof = bench.proof_of_copy(None).await;
    assert_eq!((proof.checkpoints, chain(&proof, bench.id("acme")).signed), (1, 0));
    bench.clock.pass(1);
    bench.vault.keep_house().await.unwrap();
    let proof = bench.proof_of_copy(None).await;
    assert_eq!((proof.checkpoints, chain(&proof, bench.id("acme")).signed), (2, 1));
}

#[tokio::test]
async fn a_checkpoint_tells_of_the_chains_that_grew_and_each_256th_of_all() {
    let bench = grown().await;
    let [acme, beta] = ["acme", "beta"].map(|name| bench.id(name).to_string());
    for round in 0..260 {
        bench.put(&format!("x{round}"), None, OPEN()).await.unwrap();
        let told = bench.head_read().await;
        let told_of = |id: &str| told.chains.iter().any(|chain| chain.chain == id);
        assert!(told_of(&acme));
        assert_eq!(told_of(&beta), told.number == 257, "{}", told.number);
    }
    assert_sound(&bench.proof(None).await);
}

#[tokio::test]
async fn what_was_signed_is_known_after_a_restart() {
    let mut bench = grown().await;
    let before = bench.head_read().await;
    bench.reopen().await;
    assert_eq!(bench.head_read().await, before);
    bench.put("after", None, OPEN()).await.unwrap();
    let after = bench.head_read().await;
    assert_eq!(after.number, before.number + 1);
    let told: Vec<_> = after.chains.iter().map(|chain| chain.chain.clone()).collect();
    assert!(!told.contains(&bench.id("beta").to_string()), "it did not grow");
    assert_sound(&bench.proof_of_copy(None).await);
}

#[tokio::test]
async fn a_checkpoint_of_many_tenants_is_one_signed_unit() {
    let bench = Bench::new().await;
    for n in 0..60 {
        let name = format!("tenant-{n}");
        bench.run(Command::TenantCreate { name: name.clone() }).await.unwrap();
        bench.grow(&name, 0).await;
        let address = TenantName::parse(&name).unwrap();
        let token = bench.token(&name).await;
        let now = bench.vault.now();
        let principal = bench.vault.authenticate(&token, now).unwrap();
        let permit = principal.may_write(&address, secret("a"), now).unwrap();
        let new = NewSecret { value: None, window: OPEN() };
        bench.vault.write(&permit, new, Precondition::None, now).await.unwrap();
    }
    let head = bench.head_read().await;
    assert_eq!((head.number, head.chains.len()), (1, 61));
    assert!(bench.head().await.text.len() > 2 * crate::store::Block::MAX_BYTES);
    assert_sound(&bench.proof_of_copy(None).await);
}

#[tokio::test]
async fn a_deleted_tenant_leaves_a_signed_end_and_its_absence_is_no_fault() {
    let bench = grown().await;
    let gone = bench.id("beta");
    let head = bench.head().await;
    bench.run(Command::TenantDelete { name: "beta".into() }).await.unwrap();
    let told = bench.head_read().await;
    assert_eq!(told.ended, [gone.to_string()]);
    for proof in [bench.proof(Some(&head)).await, bench.proof_of_copy(Some(&head)).await] {
        assert_sound(&proof);
    }
    let export = bench.whole_export().await;
    assert_sound(&verified(&export, bench.key().await, Some(&head)));
}

#[tokio::test]
async fn a_tenant_that_was_removed_from_the_disk_is_missed() {
    let bench = grown().await;
    let (gone, key) = (bench.id("beta"), bench.key().await);
    bench.store.drop_tenant(gone).await.unwrap();
    let proof = verify_copy(&*bench.store, key, None, &|_| {}).await.unwrap();
    assert!(!proof.sound);
    let fault = chain(&proof, gone).fault.unwrap();
    assert!(fault.starts_with("all entries are missing, from entry 0 on: checkpoint 6"), "{fault}");
}

#[tokio::test]
async fn what_was_forgotten_on_purpose_is_signed_and_no_fault() {
    let bench = grown().await;
    let (id, key) = (bench.id("acme"), bench.key().await);
    // The end of a block that a checkpoint signs.
    let kept = bench.blocks(id).values().find(|placed| placed.first >= 18).unwrap().first;
    let head = bench.blocks(id).range(..kept).next_back().unwrap().1.link;
    let kept_from = Chain { next: kept, head };
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let forget = vec![Change::Forget { kept_from }];
    tenant.commit(forget, bench.vault.time.floor()).await.unwrap();
    assert_eq!(*bench.blocks(id).first_key_value().unwrap().0, kept);
    // Until that is signed, it looks as if somebody had done it who has no key.
    let fault = chain(&bench.proof_of_copy(None).await, id).fault.unwrap();
    assert!(fault.starts_with("entry 0 is missing"), "{fault}");
    let told = bench.head_read().await;
    let told = told.chains.iter().find(|told| told.chain == id.to_string()).unwrap();
    assert_eq!(told.begin.as_ref().map(|begin| begin.next), Some(kept));
    let export = bench.whole_export().await;
    let proofs =
        [bench.proof(None).await, bench.proof_of_copy(None).await, verified(&export, key, None)];
    for proof in proofs {
        assert_sound(&proof);
        assert_eq!((chain(&proof, id).from, chain(&proof, id).signed), (kept, 36));
    }
    // And no more than that.
    bench.store.tamper(space_of(id), |chain| drop(chain.pop_first()));
    let fault = chain(&bench.proof_of_copy(None).await, id).fault.unwrap();
    assert!(fault.starts_with(&format!("entry {kept} is missing")), "{fault}");
}

#[tokio::test]
async fn nobody_elses_signature_counts() {
    let bench = grown().await;
    let other = AuditPublicKey::parse(&"01".repeat(32)).unwrap();
    let proof = verify_copy(&*bench.store, other, None, &|_| {}).await.unwrap();
    assert!(!proof.sound && proof.checkpoints == 0);
    assert!(proof.faults[0].contains("is not signed with the key"), "{proof:?}");
    let proof = verified(&bench.whole_export().await, other, None);
    assert!(!proof.sound && proof.faults[0].contains("the key given is"), "{proof:?}");
}

#[tokio::test]
async fn a_head_that_was_kept_shows_what_was_cut_off_with_its_checkpoints() {
    let mut bench = grown().await;
    let (system, acme) = (bench.blocks(SYSTEM), bench.blocks(bench.id("acme")));
    bench.put("newest", None, OPEN()).await.unwrap();
    let head = bench.head().await;
    let export = bench.whole_export().await;
    // All is as it was before: no file tells.
    bench.replace(SYSTEM, &system);
    bench.replace(bench.id("acme"), &acme);
    assert_sound(&bench.proof_of_copy(None).await);
    let proof = bench.proof_of_copy(Some(&head)).await;
    assert!(proof.faults[0].starts_with("checkpoint 7 of --head is not here: the newest is 6"));
    let fault = chain(&proof, bench.id("acme")).fault.unwrap();
    assert!(fault.starts_with("cut off: entry 36 is missing"), "{fault}");
    // Who has the keys needs no head: the ledgers say it.
    let fault = chain(&bench.proof(None).await, bench.id("acme")).fault.unwrap();
    assert!(fault.starts_with("cut off: entry 36 is missing"), "{fault}");
    // The same of an export.
    let key = bench.key().await;
    let older = |line: &String| match serde_json::from_str(line).unwrap() {
        ExportLine::Checkpoint(signed) => !signed.text.contains("\"number\":7"),
        ExportLine::Block(block) if block.chain == SYSTEM.to_string() => {
            system.contains_key(&block.first) && block.first < signed_end(&export, 6)
        }
        ExportLine::Block(block) => block.first < 36,
        _ => true,
    };
    let mut cut: Vec<_> = export.iter().filter(|line| older(line)).cloned().collect();
    let lines = cut.len() - 1;
    *cut.last_mut().unwrap() = format!("{{\"line\":\"end\",\"lines\":{lines}}}");
    assert_sound(&verified(&cut, key, None));
    let proof = verified(&cut, key, Some(&head));
    let fault = chain(&proof, bench.id("acme")).fault.unwrap();
    assert!(fault.starts_with("cut off: entry 36 is missing"), "{fault}");
    // What was written anew since is another checkpoint 7.
    bench.reopen().await;
    let proof = bench.proof_of_copy(Some(&head)).await;
    assert!(!proof.sound);
}

/// The system's end by a checkpoint.
fn signed_end(export: &[String], number: u64) -> u64 {
    let checkpoints = export.iter().filter_map(|line| match serde_json::from_str(line).unwrap() {
        ExportLine::Checkpoint(signed) => {
            Some(serde_json::from_str::<Checkpoint>(&signed.text).unwrap())
        }
        _ => None,
    });
    let up_to = checkpoints.filter(|checkpoint| checkpoint.number <= number);
    let ends = up_to.flat_map(|checkpoint| checkpoint.chains);
    ends.filter(|end| end.chain == SYSTEM.to_string()).map(|end| end.next).max().unwrap()
}

#[tokio::test]
async fn an_export_holds_what_was_asked_for_and_proves_just_that() {
    let bench = grown().await;
    let (key, acme) = (bench.key().await, bench.id("acme"));
    let (made, lines) = bench.export(ExportOf::Tenant("acme".into()), ExportFrom::Beginning).await;
    assert_eq!((made.chains, made.entries, made.checkpoints), (1, 36, 6));
    let proof = verified(&lines, key, None);
    assert_sound(&proof);
    assert_eq!(chain(&proof, acme).tenant.as_deref(), Some("acme"));
    // From a number that is within a block of several.
    let (made, lines) = bench.export(ExportOf::Tenant("acme".into()), ExportFrom::Entry(15)).await;
    assert_eq!(made.entries, 36 - 13);
    let proof = verified(&lines, key, None);
    assert_sound(&proof);
    assert_eq!((chain(&proof, acme).from, chain(&proof, acme).signed), (13, 36));
    bench.clock.pass(100);
    bench.put("later", None, OPEN()).await.unwrap();
    let since = ExportFrom::Since(Timestamp::from_unix_seconds(START + 50).to_string());
    let (made, lines) = bench.export(ExportOf::Everything, since).await;
    assert_eq!((made.chains, made.entries), (3, 2), "the token and the write");
    let proof = verified(&lines, key, None);
    assert_sound(&proof);
    assert_eq!((chain(&proof, acme).from, chain(&proof, acme).signed), (36, 37));
    let (made, _) = bench.export(ExportOf::System, ExportFrom::Beginning).await;
    assert_eq!((made.chains, made.incomplete), (1, None));
}

#[tokio::test]
async fn what_is_no_export_is_told_as_such() {
    let key = Bench::new().await.key().await;
    for text in ["", "{}", "not json", "{\"line\":\"end\",\"lines\":0}", "\u{0}"] {
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let proof = verified(&lines, key, None);
        assert!(!proof.sound, "{text:?}");
        assert!(proof.faults[0].starts_with("this is no export of an audit"), "{proof:?}");
    }
}

// Tampering.

/// xorshift64*: enough to choose places by.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % limit
    }
}

fn copies() -> usize {
    if std::env::var_os("TENURE_TEST_LONG").is_some() { 200 } else { 24 }
}

/// What somebody does who can write the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Alter,
    Remove,
    Swap,
    CutOff,
}

const DEEDS: [Deed; 4] = [Deed::Alter, Deed::Remove, Deed::Swap, Deed::CutOff];

/// Whether they also compute anew what takes no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skill {
    None,
    Formulas,
}

/// Does it at `place` of some blocks. Answers the first entry that is not as it was.
pub(super) fn tamper(
    blocks: &mut Vec<PlacedBlock>,
    deed: Deed,
    place: usize,
    random: &mut Random,
) -> u64 {
    let first = blocks[place].first;
    match deed {
        Deed::Alter => {
            let bytes = &mut blocks[place].block.bytes;
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        Deed::Remove => drop(blocks.remove(place)),
        Deed::Swap => {
            let other = place + 1 + random.below(blocks.len() - place - 1);
            let [one, two] = [place, other].map(|place| blocks[place].block.clone());
            (blocks[place].block, blocks[other].block) = (two, one);
        }
        Deed::CutOff => blocks.truncate(place),
    }
    first
}

pub(super) fn link_again(id: TenantId, blocks: &mut [PlacedBlock]) {
    let mut end = Chain::EMPTY;
    for placed in blocks {
        let entries = placed.block.entries.get();
        let digest = BlockDigest::of(&placed.block.bytes);
        let head = digest.link(id, &end.head, end.next, entries);
        (placed.first, placed.link) = (end.next, head);
        end = Chain { next: end.next + u64::from(entries), head };
    }
}

/// The number behind some words.
fn number(fault: &str, behind: &str) -> Option<u64> {
    let rest = fault.split(behind).nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether a sentence names just this entry.
pub(super) fn names(fault: &str, entry: u64) -> bool {
    number(fault, "entry ") == Some(entry)
}

/// Whether it names a stretch that the entry is in.
pub(super) fn includes(fault: &str, entry: u64) -> bool {
    let (from, to) = (number(fault, "entries from "), number(fault, " to before "));
    from.is_some_and(|from| from <= entry) && to.is_none_or(|to| entry < to)
}

/// That of all chains this one is told to be wrong from an entry on. Who linked it again is
/// told by the stretch between two checkpoints.
pub(super) fn assert_told(
    proof: &AuditProof,
    all: &[TenantId],
    (id, first, skill): (TenantId, u64, Skill),
    what: &str,
) {
    assert!(!proof.sound, "{what}");
    let fault = chain(proof, id).fault.unwrap_or_else(|| panic!("{what}: {proof:?}"));
    let is_told = names(&fault, first) || skill == Skill::Formulas && includes(&fault, first);
    assert!(is_told, "{what}: {fault}");
    // What is wrong with the system's chain may be what is said of the others.
    let mut others = all.iter().filter(|other| **other != id && id != SYSTEM);
    assert!(others.all(|other| chain(proof, *other).fault.is_none()), "{what}");
}

#[tokio::test]
async fn nothing_can_be_done_to_the_files_that_does_not_show() {
    let bench = grown().await;
    let (head, ids) = (bench.head().await, [SYSTEM, bench.id("acme"), bench.id("beta")]);
    let before = ids.map(|id| bench.blocks(id));
    let mut random = Random(0x5eed_0001);
    for copy in 0..copies() {
        let (deed, chosen) = (DEEDS[copy % 4], copy / 4 % 3);
        let skill = if copy / 12 % 2 == 0 { Skill::None } else { Skill::Formulas };
        let id = ids[chosen];
        let mut blocks: Vec<_> = before[chosen].values().cloned().collect();
        // The last checkpoint is behind what any checkpoint signs.
        let place = random.below(blocks.len() - if id == SYSTEM { 2 } else { 1 });
        let first = tamper(&mut blocks, deed, place, &mut random);
        if skill == Skill::Formulas {
            link_again(id, &mut blocks);
        }
        bench.replace(id, &blocks.into_iter().map(|placed| (placed.first, placed)).collect());
        let what = format!("copy {copy}: {deed:?}, {skill:?}, entry {first} of {id}");
        for proof in [bench.proof_of_copy(Some(&head)).await, bench.proof(Some(&head)).await] {
            assert_told(&proof, &ids, (id, first, skill), &what);
        }
        bench.replace(id, &before[chosen]);
    }
    assert_sound(&bench.proof_of_copy(Some(&head)).await);
}

/// Computes anew all that an export has of blocks and takes no key.
pub(super) fn prove_again(blocks: &mut [ExportedBlock]) {
    let mut end = Chain::EMPTY;
    for block in blocks {
        let mut commitment = Commitment::new();
        for entry in &mut block.entries {
            let mut salt = [0; 32];
            hex::decode_to_slice(&entry.salt, &mut salt).unwrap();
            commitment = commitment.with(&salt, &entry.text);
            entry.commitment = hex::encode(commitment.as_bytes());
        }
        if !block.entries.is_empty() {
            let format = block.header.split_at(2).0;
            block.header = format!("{format}{}", hex::encode(commitment.as_bytes()));
        }
        let (header, mut rest) = (hex::decode(&block.header).unwrap(), [0; 32]);
        hex::decode_to_slice(&block.envelope, &mut rest).unwrap();
        let mut id = [0; 16];
        hex::decode_to_slice(&block.chain, &mut id).unwrap();
        let digest = BlockDigest { header: &header, rest };
        let head = digest.link(TenantId::from_bytes(id), &end.head, end.next, block.count);
        (block.first, block.link) = (end.next, hex::encode(head));
        end = Chain { next: end.next + u64::from(block.count), head };
    }
}

fn tamper_with_export(
    blocks: &mut Vec<ExportedBlock>,
    deed: Deed,
    place: usize,
    random: &mut Random,
) -> u64 {
    let first = blocks[place].first;
    match deed {
        Deed::Alter => {
            let block = &mut blocks[place];
            let entries = block.entries.len();
            if entries == 0 {
                block.envelope = "00".repeat(32);
                return first;
            }
            let entry = random.below(entries);
            block.entries[entry].text = block.entries[entry].text.replace("ok", "no");
            return first + entry as u64;
        }
        Deed::Remove => drop(blocks.remove(place)),
        Deed::Swap => {
            let other = place + 1 + random.below(blocks.len() - place - 1);
            blocks.swap(place, other);
        }
        Deed::CutOff => blocks.truncate(place),
    }
    first
}

#[tokio::test]
async fn nothing_can_be_done_to_an_export_that_does_not_show() {
    let bench = grown().await;
    let (key, head) = (bench.key().await, bench.head().await);
    let export: Vec<ExportLine> =
        bench.whole_export().await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids = [SYSTEM, bench.id("acme"), bench.id("beta")];
    let mut random = Random(0x5eed_0002);
    for copy in 0..copies() {
        let (deed, id) = (DEEDS[copy % 4], ids[copy / 4 % 3]);
        let skill = if copy / 12 % 2 == 0 { Skill::None } else { Skill::Formulas };
        let is_of_it = |line: &&ExportLine| matches!(line, ExportLine::Block(block) if block.chain == id.to_string());
        let block = |line: &ExportLine| match line {
            ExportLine::Block(block) => block.clone(),
            _ => panic!("a block"),
        };
        let begin = export.iter().position(|line| is_of_it(&line)).unwrap();
        let mut blocks: Vec<_> = export.iter().filter(is_of_it).map(block).collect();
        let place = random.below(blocks.len() - 1);
        let first = tamper_with_export(&mut blocks, deed, place, &mut random);
        if skill == Skill::Formulas {
            prove_again(&mut blocks);
        }
        let (before, after) = export.split_at(begin);
        let mut forged: Vec<_> = before.to_vec();
        forged.extend(blocks.into_iter().map(ExportLine::Block));
        forged.extend(after.iter().filter(|line| !is_of_it(line)).cloned());
        let lines = forged.len() as u64 - 1;
        *forged.last_mut().unwrap() =
            ExportLine::End(crate::api::audit_export::ExportEnd { lines });
        let forged: Vec<_> =
            forged.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        let proof = verified(&forged, key, Some(&head));
        let what = format!("copy {copy}: {deed:?}, {skill:?}, entry {first} of {id}");
        assert!(!proof.sound, "{what}");
        let fault = chain(&proof, id).fault.unwrap_or_else(|| panic!("{what}: {proof:?}"));
        let is_told = names(&fault, first) || skill == Skill::Formulas && includes(&fault, first);
        assert!(is_told, "{what}: {fault}");
    }
}

#[tokio::test]
async fn no_line_of_an_export_can_be_lost_doubled_moved_or_changed() {
    let bench = grown().await;
    let (key, export) = (bench.key().await, bench.whole_export().await);
    assert_sound(&verified(&export, key, None));
    for place in 0..export.len() {
        let mut lost = export.clone();
        lost.remove(place);
        let mut doubled = export.clone();
        doubled.insert(place, export[place].clone());
        let mut cut = export.clone();
        cut.truncate(place);
        for forged in [lost, doubled, cut] {
            assert!(!verified(&forged, key, None).sound, "line {place}");
        }
        if place > 0 {
            let mut moved = export.clone();
            moved.swap(place - 1, place);
            assert!(!verified(&moved, key, None).sound, "line {place}");
        }
    }
    let mut random = Random(0x5eed_0003);
    for _ in 0..copies() * 20 {
        // The header and the names of tenants are said, not signed.
        let place = 1 + random.below(export.len() - 1);
        let is_chain = export[place].starts_with("{\"line\":\"chain\"");
        let mut changed = export.clone();
        let mut bytes = changed[place].clone().into_bytes();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(7);
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let same = serde_json::from_str::<ExportLine>(&text).ok().is_some_and(|line| {
            let before: ExportLine = serde_json::from_str(&export[place]).unwrap();
            line == before || lower(&text) == lower(&export[place])
        });
        changed[place] = text;
        let proof = verified(&changed, key, None);
        assert!(!proof.sound || same || is_chain, "line {place}: {}", changed[place]);
    }
}

/// Hexadecimal digits say the same in either case.
fn lower(text: &str) -> String {
    text.to_lowercase()
}

#[tokio::test]
async fn a_checkpoint_that_is_missing_or_altered_is_named() {
    let bench = grown().await;
    let (key, export) = (bench.key().await, bench.whole_export().await);
    let third = export
        .iter()
        .position(|line| line.contains("\\\"number\\\":3,"))
        .expect("a line of checkpoint 3");
    let mut missing = export.clone();
    missing.remove(third);
    let proof = verified(&missing, key, None);
    assert_eq!(proof.faults[0], "checkpoint 3 is missing: number 4 stands in its place");
    assert_eq!(proof.newest.unwrap().number, 2);
    let mut altered = export.clone();
    altered[third] = altered[third].replace("\\\"next\\\":", "\\\"next\\\":1");
    let proof = verified(&altered, key, None);
    assert!(proof.faults[0].starts_with("the checkpoint behind number 2 is not signed"));
}

#[tokio::test]
async fn a_store_from_before_there_were_checkpoints_gets_its_key_when_it_is_needed() {
    let mut bench = Bench::new().await;
    bench.vault.system.forget_audit_signer().await;
    bench.reopen().await;
    let key = bench.key().await;
    assert_eq!(bench.key().await, key);
    bench.reopen().await;
    assert_eq!(bench.key().await, key, "it is stored");
    bench.head().await;
    assert_sound(&bench.proof_of_copy(None).await);
}

#[tokio::test]
async fn a_store_without_a_change_has_no_checkpoint_and_says_so() {
    let (store, kek, clock) = (Arc::new(MemoryStore::new()), Kek::generate(), Manual::at(START));
    Vault::init(store.clone(), &kek, KekWay::File, &*clock).await.unwrap();
    let vault = open(&store, &kek, &clock).await.unwrap();
    let refused = maintenance::execute(&vault, Command::AuditHead, Exchange::none()).await;
    let Err(failure) = refused else { panic!("no checkpoint") };
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert!(failure.message.contains("the first change makes one"));
}

/// The secret half reaches nothing that is shown.
#[tokio::test]
async fn the_signing_key_is_in_no_export_and_in_clear_in_no_row() {
    let bench = grown().await;
    let signer = bench.vault.system.audit_signer().await.unwrap().unwrap();
    let hex = hex::encode(signer.bytes());
    assert!(bench.whole_export().await.iter().all(|line| !line.contains(&hex)));
    let blocks = bench.blocks(SYSTEM);
    let is_in = |bytes: &[u8]| bytes.windows(32).any(|window| window == signer.bytes());
    assert!(!blocks.values().any(|placed| is_in(&placed.block.bytes)));
    let rows = bench.store.snapshot(Space::System, &[b""]).await.unwrap().next(0).await.unwrap();
    assert!(!rows.rows.iter().any(|(_, row)| is_in(&row.bytes)));
}

// Retention.

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Bench {
    /// Moves what is older than a day, and answers the lines it is in.
    async fn archive(&self) -> Option<Vec<String>> {
        let old = self.vault.old_audit(DAY, Duration::ZERO).await.unwrap()?;
        let (sender, mut pieces) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
        let taking = async {
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.recv().await {
                bytes.extend(piece);
            }
            bytes
        };
        let (made, bytes) = tokio::join!(self.vault.export_old_audit(&old, sender), taking);
        assert_eq!(made.unwrap().bytes, bytes.len() as u64);
        self.vault.forget_old_audit(old, "a file").await.unwrap();
        Some(String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect())
    }

    fn first(&self, id: TenantId) -> u64 {
        *self.blocks(id).first_key_value().unwrap().0
    }
}

#[tokio::test]
async fn what_is_old_is_moved_and_both_parts_prove_themselves() {
    let mut bench = grown().await;
    let (acme, beta, key) = (bench.id("acme"), bench.id("beta"), bench.key().await);
    assert_eq!(bench.archive().await, None, "nothing is old");
    bench.clock.pass(25 * 60 * 60);
    bench.grow("acme", 1).await;
    let head = bench.head().await;
    let moved = bench.archive().await.unwrap();
    let proof = verified(&moved, key, None);
    assert_sound(&proof);
    let part = |id| (chain(&proof, id).from, chain(&proof, id).signed);
    assert_eq!((part(acme), part(beta)), ((0, 36), (0, 18)));
    assert_eq!((bench.first(acme), bench.first(beta)), (36, 18));
    let head = [Some(&head), None];
    for proof in [bench.proof(head[0]).await, bench.proof_of_copy(head[1]).await] {
        assert_sound(&proof);
        // With an entry that says where the others are.
        assert_eq!((chain(&proof, acme).from, chain(&proof, acme).signed), (36, 46));
        assert_eq!((chain(&proof, beta).from, chain(&proof, beta).signed), (18, 19));
    }
    bench.reopen().await;
    assert_sound(&bench.proof(None).await);
    assert_sound(&verified(&bench.whole_export().await, key, None));
    assert_eq!(bench.archive().await, None, "the rest is younger");
}

#[tokio::test]
async fn an_audit_is_moved_again_and_again_and_nothing_of_it_is_lost() {
    let mut bench = grown().await;
    let (acme, key) = (bench.id("acme"), bench.key().await);
    let (mut next, mut files) = (0, 0);
    for round in 0..6 {
        bench.grow("acme", 2).await;
        if round == 3 {
            bench.run(Command::TenantDelete { name: "beta".into() }).await.unwrap();
        }
        bench.clock.pass(13 * 60 * 60);
        let Some(moved) = bench.archive().await else { continue };
        let proof = verified(&moved, key, None);
        assert_sound(&proof);
        if let Some(part) = proof.chains.iter().find(|part| part.chain == acme.to_string()) {
            assert_eq!(part.from, next);
            next = part.signed;
        }
        files += 1;
        assert_sound(&bench.proof(None).await);
        assert_sound(&bench.proof_of_copy(None).await);
        bench.reopen().await;
    }
    assert!(files > 3 && next > 60, "{files} files, up to entry {next}");
    assert_eq!(bench.first(acme), next);
}

#[tokio::test]
async fn what_no_checkpoint_signs_is_not_old() {
    let bench = Bench::new().await;
    bench.put("a", None, OPEN()).await.unwrap();
    bench.clock.pass(48 * 60 * 60);
    assert_eq!(bench.archive().await, None);
    bench.head().await;
    assert_eq!(bench.archive().await, None, "it was signed only now");
    bench.clock.pass(25 * 60 * 60);
    assert!(bench.archive().await.is_some());
}

#[tokio::test]
async fn while_the_clock_is_disputed_nothing_is_old() {
    let bench = grown().await;
    bench.clock.step(400 * 24 * 60 * 60);
    bench.vault.now();
    assert_eq!(bench.archive().await, None);
    bench.run(Command::ClockAccept).await.unwrap();
    assert!(bench.archive().await.is_some());
}
