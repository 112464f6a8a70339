//! The storage engine alone: the rows of a PUT, committed without HTTP, tokens or
//! the encryption of rows.
//!
//! The ledger is part of what the engine promises, and its keyed digests are most
//! of its cost; so the floor has them. With [`Ledgers::Plain`] it is seen what
//! they take.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tenure::crypto::AnchorKeys;
use tenure::domain::{Floor, TenantId, Texts, Timestamp};
use tenure::store::{
    Appended, Batch, Block, Chain, Change, ForgedLedger, Ledger, LedgerSeal, Row, RowKey,
    SledOptions, SledStore, Space, Store, StoreError,
};

use crate::harness::Outcome;
use crate::harness::client::Sample;

/// What a PUT of 512 bytes stores, envelopes included.
const HEAD_BYTES: usize = 105;
const VALUE_BYTES: usize = 565;
const EXPIRY_BYTES: usize = 0;
/// As long as the id of a token.
const CREDENTIAL: &str = "5e0f3c1b9a7d48265e0f3c1b9a7d4826c4d1a05be2937f68c4d1a05be2937f68\
                          0b9e6d3a1f7c58420b9e6d3a1f7c5842a35f1c8e04b7d296a35f1c8e04b7d296";

/// Under what the ledger is.
#[derive(Clone, Copy)]
pub enum Ledgers {
    /// The digests and the seal of a tenant's ledger.
    Keyed,
    /// Nothing that takes time.
    Plain,
}

/// An engine as the server uses it, in a folder of its own, with one tenant.
#[derive(Clone)]
pub struct Engine {
    store: Arc<dyn Store>,
    tenant: TenantId,
    seal: Arc<dyn LedgerSeal>,
}

impl Engine {
    pub fn open(folder: &Path, ledgers: Ledgers) -> Outcome<Self> {
        let store: Arc<dyn Store> =
            Arc::new(SledStore::open(folder, SledOptions::default(), &|_| {})?);
        let tenant = TenantId::from_bytes([1; 16]);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(store.create_tenant(tenant))?;
        let seal: Arc<dyn LedgerSeal> = match ledgers {
            Ledgers::Keyed => Arc::new(KeyedSeal(AnchorKeys::generate(tenant))),
            Ledgers::Plain => Arc::new(PlainSeal),
        };
        Ok(Self { store, tenant, seal })
    }
}

/// Commits the rows of PUTs, each replacing one of `names` secrets, from `tasks`
/// tasks until the time is over.
pub fn measure(engine: &Engine, tasks: usize, names: usize, time: Duration) -> Outcome<Sample> {
    let threads = std::thread::available_parallelism()?.get().min(tasks);
    let start = Instant::now();
    let until = start + time;
    let share = |thread: usize| (0..tasks).filter(move |task| task % threads == thread);
    let latencies = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let mine = share(thread).map(|task| (task, tasks, names)).collect();
                scope.spawn(move || commit_from(engine, mine, until))
            })
            .collect();
        let mut all = Vec::new();
        for thread in running {
            let latencies = thread.join().map_err(|_| "a thread of the engine panicked")?;
            all.extend(latencies.map_err(|error| format!("the engine answered: {error}"))?);
        }
        Outcome::Ok(all)
    })?;
    Ok(Sample { latencies, elapsed: start.elapsed() })
}

/// `tasks` are (number, of how many, names).
fn commit_from(
    engine: &Engine,
    tasks: Vec<(usize, usize, usize)>,
    until: Instant,
) -> Result<Vec<u32>, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|_| StoreError::Unknown)?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let running: Vec<_> = tasks
            .into_iter()
            .map(|(task, of, names)| {
                let engine = engine.clone();
                tokio::task::spawn_local(async move {
                    let mut latencies = Vec::new();
                    // Of each name only one task writes, as a preconditioned
                    // write does that meets no other.
                    for round in 0.. {
                        let start = Instant::now();
                        if start >= until {
                            break;
                        }
                        let name = (task + round * of) % (names - names % of).max(of);
                        replace(&engine, name).await?;
                        let taken = start.elapsed().as_micros();
                        latencies.push(u32::try_from(taken).unwrap_or(u32::MAX));
                    }
                    Ok(latencies)
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in running {
            all.extend(task.await.map_err(|_| StoreError::Unknown)??);
        }
        Ok(all)
    })
}

/// Reads the head, as a PUT does, and commits its rows.
async fn replace(engine: &Engine, name: usize) -> Result<(), StoreError> {
    static VERSIONS: AtomicU64 = AtomicU64::new(1);
    let Engine { store, tenant, seal } = engine;
    let space = Space::Tenant(*tenant);
    let head = key(b'h', name, 0);
    let old = store.get(space, &head).await?.map(|row| row.version);
    let version = VERSIONS.fetch_add(1, Ordering::Relaxed);
    let mut changes = vec![
        Change::Expect { key: head.clone(), version: old },
        Change::Put { key: head, row: row(version, HEAD_BYTES) },
        Change::Put { key: key(b'h', name, version), row: row(version, VALUE_BYTES) },
        Change::Put { key: key(b'x', name, 0), row: row(version, EXPIRY_BYTES) },
    ];
    changes.extend(old.map(|old| Change::Delete { key: key(b'h', name, old) }));
    changes.push(Change::Append(Appended::Entries(Arc::new(entry(name, version)))));
    let floor = Floor { epoch: 0, at: Timestamp::from_unix_seconds(0) };
    store.commit(space, Batch { changes, floor, seal: Arc::clone(seal) }).await
}

/// Scattered as the keyed hash of a name is, and 41 bytes long as with it; a value
/// follows its head.
fn key(kind: u8, name: usize, version: u64) -> RowKey {
    let mut bytes = vec![kind];
    bytes.extend(scattered(name as u64).iter().chain(&version.to_be_bytes()));
    RowKey::new(bytes)
}

/// As the audit has of a PUT: most of it is what the one before says.
fn entry(name: usize, version: u64) -> Texts {
    let at = version % 1_000_000;
    Texts::from_iter([format!(
        "{{\"at\":\"2030-01-02T03:04:05.{at:06}Z\",\"op\":\"secret.write\",\"name\":\"put-{name:04}\",\
         \"result\":\"ok\",\"by\":\"token\",\"credential\":\"{CREDENTIAL}\",\"subject\":\"bench\",\
         \"from\":\"127.0.0.1\",\"request\":\"{:032x}\"}}",
        u128::from_be_bytes(scattered(version)[..16].try_into().unwrap_or_default()),
    )])
}

/// As incompressible as ciphertext.
fn row(version: u64, length: usize) -> Row {
    let bytes = (0..length as u64).step_by(32).flat_map(|block| scattered(version ^ block << 48));
    Row { version, bytes: bytes.take(length).collect() }
}

fn scattered(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (part, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        let mut hasher = DefaultHasher::new();
        (seed, part).hash(&mut hasher);
        chunk.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    bytes
}

/// As the vault digests and seals.
struct KeyedSeal(AnchorKeys);

impl LedgerSeal for KeyedSeal {
    fn digest_row(&self, key: &RowKey, row: &Row) -> [u8; 32] {
        self.0.ledger().digest_row(key.as_bytes(), row.version, &row.bytes)
    }

    fn pack(&self, entries: &[&str]) -> Block {
        let (entries, bytes) = self.0.audit().pack(entries, Block::MAX_BYTES);
        Block { entries, bytes }
    }

    fn link(&self, chain: &Chain, block: &Block) -> [u8; 32] {
        self.0.ledger().link(&chain.head, chain.next, block.entries.get(), &block.bytes)
    }

    fn seal(&self, ledger: &Ledger) -> Vec<u8> {
        self.0.ledger().seal(&PlainSeal.seal(ledger))
    }

    fn open(&self, sealed: &[u8]) -> Result<Ledger, ForgedLedger> {
        PlainSeal.open(&self.0.ledger().open(sealed).map_err(|_| ForgedLedger)?)
    }
}

/// The shape of a ledger without its cryptography.
struct PlainSeal;

impl LedgerSeal for PlainSeal {
    fn digest_row(&self, key: &RowKey, row: &Row) -> [u8; 32] {
        let mut hasher = DefaultHasher::new();
        (key.as_bytes(), row.version).hash(&mut hasher);
        scattered(hasher.finish())
    }

    fn pack(&self, entries: &[&str]) -> Block {
        let mut bytes = Vec::with_capacity(Block::MAX_BYTES);
        let fits = |entry: &&str| {
            bytes.extend(entry.as_bytes().iter().take(Block::MAX_BYTES - bytes.len()));
            bytes.len() < Block::MAX_BYTES
        };
        let taken = entries.iter().copied().take_while(fits).count().max(1);
        let entries = u32::try_from(taken).ok().and_then(NonZeroU32::new);
        Block { entries: entries.unwrap_or(NonZeroU32::MIN), bytes }
    }

    fn link(&self, chain: &Chain, block: &Block) -> [u8; 32] {
        let mut hasher = DefaultHasher::new();
        (chain.head, chain.next, block.entries, &block.bytes).hash(&mut hasher);
        scattered(hasher.finish())
    }

    fn seal(&self, ledger: &Ledger) -> Vec<u8> {
        // Nothing is forgotten here.
        let Ledger { commits, rows, digest, highest_version, floor, chain, kept_from: _ } = ledger;
        let numbers = [*commits, *rows, *highest_version, u64::from(floor.epoch), chain.next];
        let mut bytes = [*digest, chain.head].concat();
        bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        bytes.extend(floor.at.unix_micros().to_be_bytes());
        bytes
    }

    fn open(&self, sealed: &[u8]) -> Result<Ledger, ForgedLedger> {
        let (digest, rest) = sealed.split_first_chunk::<32>().ok_or(ForgedLedger)?;
        let (head, rest) = rest.split_first_chunk::<32>().ok_or(ForgedLedger)?;
        let (numbers, _) = rest.as_chunks::<8>();
        let &[commits, rows, highest_version, epoch, next, at] = numbers else {
            return Err(ForgedLedger);
        };
        let epoch = u32::try_from(u64::from_be_bytes(epoch)).map_err(|_| ForgedLedger)?;
        let at = Timestamp::from_unix_micros(i64::from_be_bytes(at));
        Ok(Ledger {
            commits: u64::from_be_bytes(commits),
            rows: u64::from_be_bytes(rows),
            digest: *digest,
            highest_version: u64::from_be_bytes(highest_version),
            floor: Floor { epoch, at },
            chain: Chain { next: u64::from_be_bytes(next), head: *head },
            kept_from: Chain::EMPTY,
        })
    }
}
