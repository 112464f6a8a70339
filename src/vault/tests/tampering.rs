//! That nothing can be done to the rows of an audit on disk that does not show: each deed
//! is done to a copy of a data folder, and told by whoever has the public key alone.

use std::path::{Path, PathBuf};

use super::proof::{Deed, Random, Skill, assert_sound, assert_told, link_again, tamper};
use super::*;
use crate::api::audit_export::{AuditProof, SignedCheckpoint};
use crate::crypto::AuditPublicKey;
use crate::domain::{ByName, TenantId};
use crate::store::sled_engine::{StoredBlock, chain_rows, copy, replace_chain_rows};
use crate::store::{PlacedBlock, SledOptions, SledStore};
use crate::vault::keyring::{SYSTEM, space_of};

fn opened(folder: &Path) -> Arc<SledStore> {
    let options =
        SledOptions { full_floor_bytes: 0, hard_floor_bytes: 0, ..SledOptions::default() };
    Arc::new(SledStore::open(folder, options, &|_| {}).unwrap())
}

/// A store that was closed, and what its owner has of it elsewhere.
struct Original {
    folder: PathBuf,
    key: AuditPublicKey,
    head: SignedCheckpoint,
    /// Of the system, and of two tenants.
    chains: [TenantId; 3],
}

impl Original {
    async fn make(folder: PathBuf) -> Self {
        let (store, kek, clock) = (opened(&folder), Kek::generate(), Manual::at(START));
        Vault::init(store.clone(), &kek, KekWay::File, &*clock).await.unwrap();
        let vault = Vault::open(store, &kek, clock, VaultOptions::default()).await.unwrap();
        let acme = grow(&vault, "acme", 16).await;
        let beta = grow(&vault, "beta", 4).await;
        let Reply::AuditHead(head) = run(&vault, Command::AuditHead).await else {
            panic!("no head")
        };
        let Reply::AuditKey(key) = run(&vault, Command::AuditKey).await else { panic!("no key") };
        vault.close().await;
        let key = AuditPublicKey::parse(&key.public_key).unwrap();
        Self { folder, key, head, chains: [SYSTEM, acme, beta] }
    }

    /// What the files in a folder prove to who has no key of theirs.
    async fn proof(&self, folder: &Path, head: Option<&SignedCheckpoint>) -> AuditProof {
        let store = opened(folder);
        let proof = verify_copy(&*store, self.key, head, &|_| {}).await.unwrap();
        store.close().await;
        proof
    }
}

async fn run(vault: &Arc<Vault>, command: Command) -> Reply {
    maintenance::execute(vault, command, Exchange::none()).await.unwrap()
}

/// A tenant with twenty entries a round, in blocks of several sizes and up to a
/// checkpoint.
async fn grow(vault: &Arc<Vault>, tenant: &str, rounds: usize) -> TenantId {
    run(vault, Command::TenantCreate { name: tenant.into() }).await;
    let (scopes, subject) = (vec!["*".to_owned()], "test".to_owned());
    let mint =
        Command::TokenMint { tenant: tenant.to_owned(), scopes, ttl_seconds: 1_000, subject };
    let Reply::Token { token, .. } = run(vault, mint).await else { panic!("no token") };
    let (address, now) = (TenantName::parse(tenant).unwrap(), vault.now());
    let principal = vault.authenticate(&token, now).unwrap();
    let planned = || Planned {
        new: NewSecret { value: None, window: OPEN() },
        precondition: Precondition::None,
    };
    for round in 0..rounds {
        for together in [1, 3, 1, 15] {
            let new = |n: usize| (secret(&format!("r{round}-{n}")), planned());
            let writes = ByName::new((0..together).map(new).collect()).unwrap();
            let permit = principal.may_write_some(&address, now).unwrap();
            vault.write_all(permit.all(writes, now).unwrap(), now).await.unwrap();
        }
        vault.checkpoint().await.unwrap();
    }
    vault.tenant_named(&address).unwrap().id
}

/// What is done to the row of a block, or to those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowDeed {
    FlipBit,
    CutShort,
    Remove,
    Swap,
    CutOff,
    /// Under a number where nothing stands.
    Move,
    /// By somebody who also computes anew all that takes no key.
    Forge(Deed),
}

const ROW_DEEDS: [RowDeed; 10] = [
    RowDeed::FlipBit,
    RowDeed::CutShort,
    RowDeed::Remove,
    RowDeed::Swap,
    RowDeed::CutOff,
    RowDeed::Move,
    RowDeed::Forge(Deed::Alter),
    RowDeed::Forge(Deed::Remove),
    RowDeed::Forge(Deed::Swap),
    RowDeed::Forge(Deed::CutOff),
];

/// Does it at `place` of the rows of a chain. Answers the first entry that is not as it was.
fn tamper_with_rows(
    rows: &mut Vec<StoredBlock>,
    (id, deed, place): (TenantId, RowDeed, usize),
    random: &mut Random,
) -> u64 {
    let first = rows[place].placed().first;
    match deed {
        RowDeed::FlipBit => {
            let value = &mut rows[place].value;
            let at = random.below(value.len());
            value[at] ^= 1 << random.below(8);
        }
        RowDeed::CutShort => {
            let value = &mut rows[place].value;
            value.truncate(random.below(value.len()));
        }
        RowDeed::Remove => drop(rows.remove(place)),
        RowDeed::Swap => {
            let other = place + 1 + random.below(rows.len() - place - 1);
            let [one, two] = [place, other].map(|place| rows[place].value.clone());
            (rows[place].value, rows[other].value) = (two, one);
        }
        RowDeed::CutOff => rows.truncate(place),
        RowDeed::Move => {
            let away = PlacedBlock { first: first + (1 << 40), ..rows[place].placed() };
            rows[place] = StoredBlock::of(&away);
        }
        RowDeed::Forge(deed) => {
            let mut blocks: Vec<_> = rows.iter().map(StoredBlock::placed).collect();
            tamper(&mut blocks, deed, place, random);
            link_again(id, &mut blocks);
            *rows = blocks.iter().map(StoredBlock::of).collect();
        }
    }
    first
}

/// A chain as somebody left it.
struct Forgery {
    id: TenantId,
    deed: RowDeed,
    /// The first entry that is not as it was.
    first: u64,
    rows: Vec<StoredBlock>,
}

/// More than the two hundred that were promised: each deed to each chain, seven times.
const COPIES: usize = 210;

fn forgeries(original: &Original) -> Vec<Forgery> {
    let rows = original.chains.map(|id| chain_rows(&original.folder, space_of(id)));
    let entries = |rows: &Vec<StoredBlock>| rows.last().unwrap().placed().end();
    assert_eq!((entries(&rows[1]), entries(&rows[2])), (320, 80));
    let mut random = Random(0x5eed_0004);
    let forge = |number: usize| {
        let (deed, chosen) = (ROW_DEEDS[number % 10], number / 10 % 3);
        let (id, mut rows) = (original.chains[chosen], rows[chosen].clone());
        // The last checkpoint is behind what any checkpoint signs.
        let place = random.below(rows.len() - if id == SYSTEM { 2 } else { 1 });
        let first = tamper_with_rows(&mut rows, (id, deed, place), &mut random);
        Forgery { id, deed, first, rows }
    };
    (0..COPIES).map(forge).collect()
}

#[tokio::test]
async fn nothing_can_be_done_to_the_rows_of_a_data_folder_that_does_not_show() {
    let folder = tempfile::tempdir().unwrap();
    let original = Original::make(folder.path().join("original")).await;
    assert_sound(&original.proof(&original.folder, Some(&original.head)).await);
    let forgeries = forgeries(&original);
    // They wait for the disk more than they compute.
    let shares = forgeries.chunks(COPIES.div_ceil(8));
    std::thread::scope(|scope| {
        for (share, number) in shares.zip(0..) {
            let (original, here) = (&original, folder.path().join(format!("{number}")));
            scope.spawn(move || assert_all_told(original, &here, share));
        }
    });
    assert_sound(&original.proof(&original.folder, Some(&original.head)).await);
}

fn assert_all_told(original: &Original, here: &Path, forgeries: &[Forgery]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for forgery in forgeries {
        copy(&original.folder, here);
        replace_chain_rows(here, space_of(forgery.id), &forgery.rows);
        runtime.block_on(assert_forgery_told(original, here, forgery));
        std::fs::remove_dir_all(here).unwrap();
    }
}

async fn assert_forgery_told(original: &Original, folder: &Path, forgery: &Forgery) {
    let Forgery { id, deed, first, rows: _ } = *forgery;
    let what = format!("{deed:?} at entry {first} of {id}");
    let proof = original.proof(folder, Some(&original.head)).await;
    let is_forged = matches!(deed, RowDeed::Forge(_));
    let skill = if is_forged { Skill::Formulas } else { Skill::None };
    assert_told(&proof, &original.chains, (id, first, skill), &what);
}
