//! Durable puts, through the engine and over HTTP, beside the disk's own rate.

mod engine;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::Options;
use crate::harness::client::{self, Sample};
use crate::harness::report::{Section, Table, count, ratio};
use crate::harness::server::{Caller, Server, this_build};
use crate::harness::{Outcome, long_value, machine};
use engine::{Engine, Ledgers};

const WRITERS: [usize; 4] = [1, 16, 64, 256];
const NAMES: usize = 1024;

/// Samples and processor time of one kind of put, summed over the rounds.
#[derive(Default)]
struct Puts {
    sample: Sample,
    cpu_micros: u64,
}

impl Puts {
    /// `cpu` tells what the process that commits has used so far.
    fn measure(
        &mut self,
        cpu: impl Fn() -> u64,
        measure: impl FnOnce() -> Outcome<Sample>,
    ) -> Outcome<()> {
        let before = cpu();
        self.sample.add(measure()?);
        self.cpu_micros += cpu().saturating_sub(before);
        Ok(())
    }

    fn through(&mut self, engine: &Engine, writers: usize, time: Duration) -> Outcome<()> {
        let cpu = || machine::cpu_micros(std::process::id());
        self.measure(cpu, || engine::measure(engine, writers, NAMES, time))
    }

    fn over_http(&mut self, server: &Server, writers: usize, time: Duration) -> Outcome<()> {
        let requests = put_requests(&server.caller, writers);
        let address = server.caller.address;
        let put = || client::measure(address, writers, time, requests);
        self.measure(|| server.cpu_micros(), put)
    }

    fn cpu_per_put(&self) -> f64 {
        self.cpu_micros as f64 / self.sample.latencies.len().max(1) as f64
    }
}

pub fn run(folder: &Path, options: &Options) -> Outcome<Section> {
    let keyed = Engine::open(&folder.join("engine"), Ledgers::Keyed)?;
    let plain = Engine::open(&folder.join("engine-plain"), Ledgers::Plain)?;
    let (server, _) = Server::tenure(this_build(), &folder.join("store"))?;
    let other = match &options.against {
        Some(program) => Some(Server::tenure(program, &folder.join("against"))?.0),
        None => None,
    };
    let mut table = Table::new([
        "writers",
        "engine/s",
        "HTTP/s",
        "ratio",
        "p50 µs",
        "p99 µs",
        "engine CPU µs",
        "HTTP CPU µs",
        "plain ledger/s",
        "syncs/s",
    ]);
    let mut against = String::new();
    for writers in WRITERS {
        let (mut floor, mut bare) = (Puts::default(), Puts::default());
        let (mut put, mut others, mut syncs) = (Puts::default(), Puts::default(), 0.0);
        for _ in 0..options.rounds {
            syncs += machine::syncs_per_second(folder, Duration::from_secs(1))?;
            floor.through(&keyed, writers, options.time())?;
            put.over_http(&server, writers, options.time())?;
            if let Some(other) = &other {
                others.over_http(other, writers, options.time())?;
            }
            bare.through(&plain, writers, options.time())?;
        }
        let (engine, http) = (floor.sample.per_second(), put.sample.per_second());
        table.row([
            writers.to_string(),
            count(engine),
            count(http),
            ratio(http, engine),
            count(put.sample.quantile(0.5).into()),
            count(put.sample.quantile(0.99).into()),
            format!("{:.1}", floor.cpu_per_put()),
            format!("{:.1}", put.cpu_per_put()),
            count(bare.sample.per_second()),
            count(syncs / options.rounds as f64),
        ]);
        if other.is_some() {
            against += &format!(
                "\n- {writers} writers: {}/s, CPU {:.1} µs (this build to it: {})",
                count(others.sample.per_second()),
                others.cpu_per_put(),
                ratio(http, others.sample.per_second()),
            );
        }
    }
    if !against.is_empty() {
        against = format!("\n\nThe other build, over HTTP:{against}");
    }
    Ok(Section {
        title: "Durable puts",
        reading: format!(
            "Replacements of 512 bytes with an expiry, each acknowledged only after it was synced: \
             four rows and the ledger changed in one commit. `engine` is the storage engine's own \
             group commit in the bench's process: the same rows, read and written as a PUT does, \
             with the ledger's keyed digests but without HTTP, tokens and the encryption of rows. \
             `ratio` is HTTP to engine, `p50` and `p99` are over HTTP, `CPU` is what the committing \
             process used per put. `plain ledger` is the engine with a ledger that costs nothing, \
             `syncs` the disk's own appends of 4 KiB with `fdatasync`, by one writer.{against}"
        ),
        table,
        plot: None,
    })
}

/// Each connection replaces secrets of its own, [`NAMES`] in all.
fn put_requests(
    caller: &Caller,
    connections: usize,
) -> impl Fn(usize, usize) -> Vec<u8> + Clone + 'static {
    let value = long_value();
    let all: Vec<_> = (0..NAMES).map(|n| caller.put(&format!("put-{n:04}"), &value)).collect();
    let all: Arc<[Vec<u8>]> = all.into();
    let own = NAMES / connections;
    move |connection, number| all.get(connection * own + number % own).cloned().unwrap_or_default()
}
