//! GETs of what is in memory: `store.cache_bytes` holds all secrets, of which the default
//! holds some.

use std::time::Duration;

use super::{Filled, PAUSE, READERS, Reads, name};
use crate::Options;
use crate::harness::client::{self, Sample};
use crate::harness::report::{Section, Table, count, megabytes, ratio};
use crate::harness::server::{Server, this_build};
use crate::harness::{Outcome, machine};

/// What a secret takes of it here, with what leads to its rows: 4/3 of its value, and 1,300.
const SECRET_BYTES: usize = 2_000;
/// What it needs beside them.
const BESIDE_MIB: usize = 128;
const CACHE_BY_DEFAULT: usize = 256 << 20;
/// Places in memory that a GET of what is held comes to, which no other GET of late has:
/// of each of two rows where it is found, its entry, its key and itself.
const TOUCHED: usize = 8;

struct Held {
    cache_bytes: usize,
    server: Server,
    reads: Reads,
    /// As much memory as the secrets take, and what it takes to read some of it.
    bare: Vec<u8>,
    bare_reads: Sample,
    memory: u64,
}

/// Of the stores that the others leave.
pub fn run(stores: Vec<Filled>, options: &Options) -> Outcome<Section> {
    let mut all = Vec::new();
    let mut table = Table::new([
        "secrets",
        "cache MB",
        "GET/s",
        "p50 µs",
        "p99 µs",
        "to first",
        "paced p50",
        "paced p99",
        "to first",
        "memory p99",
        "memory MB",
    ]);
    for filled in stores {
        let cache_bytes =
            (filled.reads.secrets * SECRET_BYTES + (BESIDE_MIB << 20)).max(CACHE_BY_DEFAULT);
        // The rest is for the files, and for those who measure.
        if cache_bytes as u64 <= machine::memory_of_all()? / 2 {
            all.push(Held::start(filled, cache_bytes)?);
        }
    }
    for _ in 0..options.rounds {
        for held in &mut all {
            held.get(options.time())?;
        }
    }
    let mut first = None;
    for held in &mut all {
        let p99 = f64::from(held.reads.gets.quantile(0.99));
        let paced_p99 = f64::from(held.reads.paced.quantile(0.99));
        let (first_p99, first_paced) = *first.get_or_insert((p99, paced_p99));
        table.row([
            count(held.reads.secrets as f64),
            megabytes(held.cache_bytes as u64),
            count(held.reads.gets.per_second()),
            count(held.reads.gets.quantile(0.5).into()),
            count(p99),
            ratio(p99, first_p99),
            count(held.reads.paced.quantile(0.5).into()),
            count(paced_p99),
            ratio(paced_p99, first_paced),
            count(held.bare_reads.quantile(0.99).into()),
            megabytes(held.memory),
        ]);
    }
    Ok(Section {
        title: "Reads from memory",
        reading: format!(
            "The same stores and GETs, and `store.cache_bytes` sized to hold all secrets as \
             config/tenure.toml tells ({SECRET_BYTES} bytes for each and {BESIDE_MIB} MiB, where \
             that is no more than half of the machine's memory), each read once before. `memory \
             p99` is the machine's own part of the paced one: what it takes a program that reads \
             as often to read {TOUCHED} bytes, at random places of {SECRET_BYTES} bytes for each \
             secret. Memory is what the process has resident at the end."
        ),
        table,
        plot: None,
    })
}

impl Held {
    fn start(filled: Filled, cache_bytes: usize) -> Outcome<Self> {
        let Filled { data, server, reads: Reads { secrets, draws, .. }, .. } = filled;
        server.stop()?;
        let cache = [("TENURE_STORE_CACHE_BYTES", cache_bytes.to_string())];
        let (server, _) = Server::tenure_with(this_build(), &data, &cache)?;
        server.wait_until_idle()?;
        let caller = server.caller.clone();
        client::send_all(caller.address, secrets, move |number| caller.get(&name(number)))?;
        server.wait_until_idle()?;
        Ok(Self {
            cache_bytes,
            server,
            reads: Reads { draws, ..Reads::of(secrets) },
            // Written to, so that it is there.
            bare: vec![1; secrets * SECRET_BYTES],
            bare_reads: Sample::default(),
            memory: 0,
        })
    }

    fn get(&mut self, time: Duration) -> Outcome<()> {
        self.reads.measure(&self.server, time)?;
        self.memory = self.server.memory();
        let pause = PAUSE / READERS as u32;
        self.bare_reads.add(machine::read_memory(&self.bare, TOUCHED, pause, time));
        Ok(())
    }
}
