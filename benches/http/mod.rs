//! Requests that change nothing, beside a bare handler that answers as many bytes.

pub mod bare;

use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::harness::client::{self, Sample};
use crate::harness::report::{Section, Table, count, ratio};
use crate::harness::server::{Server, this_build};
use crate::harness::{Outcome, SHORT_VALUE};

const CLIENTS: usize = 64;
const NAMES: usize = 1000;

/// One line of the table, summed over the rounds.
struct Line {
    name: &'static str,
    sample: Sample,
    cpu_micros: u64,
}

impl Line {
    fn new(name: &'static str) -> Self {
        Self { name, sample: Sample::default(), cpu_micros: 0 }
    }

    fn measure(&mut self, server: &Server, time: Duration, request: Vec<u8>) -> Outcome<()> {
        let before = server.cpu_micros();
        let requests = move |_, _| request.clone();
        let sample = client::measure(server.caller.address, CLIENTS, time, requests)
            .map_err(|problem| format!("{}: {problem}", self.name))?;
        self.sample.add(sample);
        self.cpu_micros += server.cpu_micros().saturating_sub(before);
        Ok(())
    }
}

pub fn run(folder: &Path, options: &Options) -> Outcome<Section> {
    let data = folder.join("http");
    let (first, first_start) = Server::tenure(this_build(), &data)?;
    first.stop()?;
    let (tenure, second_start) = Server::tenure(this_build(), &data)?;
    let caller = tenure.caller.clone();
    client::send_all(tenure.caller.address, NAMES, move |n| {
        caller.put(&format!("secret-{n:04}"), SHORT_VALUE)
    })?;
    let bare = Server::bare()?;
    let (mut floor, mut get, mut list) =
        (Line::new("bare handler"), Line::new("GET 64 B"), Line::new("LIST 1,000 names"));
    for _ in 0..options.rounds {
        floor.measure(&bare, options.time(), bare.caller.get("secret-0500"))?;
        get.measure(&tenure, options.time(), tenure.caller.get("secret-0500"))?;
        list.measure(&tenure, options.time(), tenure.caller.list(""))?;
    }
    tenure.stop()?;

    let mut table = Table::new(["", "requests/s", "to bare", "p50 µs", "p99 µs", "CPU µs"]);
    let bare_rate = floor.sample.per_second();
    for mut line in [floor, get, list] {
        let rate = line.sample.per_second();
        let (p50, p99) = (line.sample.quantile(0.5), line.sample.quantile(0.99));
        let requests = line.sample.latencies.len().max(1);
        // A list has no floor: what is compared are requests of one kind.
        let to_bare = if line.name.starts_with("LIST") { 0.0 } else { bare_rate };
        table.row([
            line.name.to_owned(),
            count(rate),
            ratio(rate, to_bare),
            count(p50.into()),
            count(p99.into()),
            format!("{:.1}", line.cpu_micros as f64 / requests as f64),
        ]);
    }
    let binary = std::fs::metadata(this_build())?.len();
    Ok(Section {
        title: "Requests that change nothing",
        reading: format!(
            "{CLIENTS} connections, over HTTP on loopback with a verified token. `bare handler` is \
             actix-web alone with an answer of the same size; `CPU` is the server's, per request. \
             `tenure dev` answered {:.0} ms after its start on no data, and {:.0} ms after the \
             next. The binary is {:.1} MB.",
            first_start.as_secs_f64() * 1e3,
            second_start.as_secs_f64() * 1e3,
            binary as f64 / 1e6,
        ),
        table,
        plot: None,
    })
}
