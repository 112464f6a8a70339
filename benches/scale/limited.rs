//! GETs from a store that is larger than its cache.

use super::{Bare, Filled, Reads, are_measured_together, in_turns};
use crate::Options;
use crate::harness::Outcome;
use crate::harness::report::{Section, Table, count, megabytes};
use crate::harness::server::{Server, this_build};

const CACHE: &str = "256MiB";

/// Of the stores that the others leave.
pub fn run(stores: Vec<Filled>, options: &Options) -> Outcome<Section> {
    let stores: Outcome<Vec<_>> = stores.into_iter().map(Filled::limited).collect();
    let mut stores = stores?;
    for some in stores.chunk_by_mut(|a, b| are_measured_together(a.reads.secrets, b.reads.secrets))
    {
        in_turns(some, options)?;
    }
    let mut table = Table::new(["secrets"].into_iter().chain(Reads::COLUMNS).chain(["memory MB"]));
    let mut first = None;
    for filled in &mut stores {
        let secrets = count(filled.reads.secrets as f64);
        let memory = megabytes(filled.server.memory());
        table.row([secrets].into_iter().chain(filled.reads.cells(&mut first)).chain([memory]));
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
