//! GETs from a store that is larger than its cache.

use super::{Bare, Filled, Reads};
use crate::Options;
use crate::harness::Outcome;
use crate::harness::report::{Section, Table, count, megabytes, ratio};
use crate::harness::server::{Server, this_build};

const CACHE: &str = "256MiB";

/// Of the stores that the others leave.
pub fn run(stores: Vec<Filled>, options: &Options) -> Outcome<Section> {
    let stores: Outcome<Vec<_>> = stores.into_iter().map(Filled::limited).collect();
    let mut stores = stores?;
    for filled in &mut stores {
        filled.reads.warm(&filled.server, options.time() * 2)?;
    }
    for _ in 0..options.rounds {
        for filled in &mut stores {
            filled.get(options.time())?;
        }
    }
    let mut table = Table::new([
        "secrets",
        "GET/s",
        "p50 µs",
        "p99 µs",
        "paced p50",
        "paced p99",
        "to first",
        "memory MB",
    ]);
    let mut first = None;
    for filled in &mut stores {
        let memory = filled.server.memory();
        let reads = &mut filled.reads;
        let paced_p99 = f64::from(reads.paced.quantile(0.99));
        let first = *first.get_or_insert(paced_p99);
        table.row([
            count(reads.secrets as f64),
            count(reads.gets.per_second()),
            count(reads.gets.quantile(0.5).into()),
            count(reads.gets.quantile(0.99).into()),
            count(reads.paced.quantile(0.5).into()),
            count(paced_p99),
            ratio(paced_p99, first),
            megabytes(memory),
        ]);
    }
    Ok(Section {
        title: "Reads of more than the cache holds",
        reading: format!(
            "The same stores and GETs, with {CACHE} of `store.cache_bytes`: most reads of the larger \
             stores go to the pages of the database."
        ),
        table,
        plot: None,
    })
}

impl Filled {
    fn limited(self) -> Outcome<Self> {
        self.server.stop()?;
        let variables = [("TENURE_STORE_CACHE_BYTES", CACHE.to_owned())];
        let (server, _) = Server::tenure_with(this_build(), &self.data, &variables)?;
        server.wait_until_idle()?;
        let reads = Reads { draws: self.reads.draws, ..Reads::of(self.reads.secrets) };
        Ok(Self { server, reads, bare: Bare::default(), ..self })
    }
}
