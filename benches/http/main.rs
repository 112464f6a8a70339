//! Tenure over HTTP, beside a bare actix-web handler and the storage engine
//! alone, in one run: what matters are the ratios, since machines differ.
//!
//! Kinds that are compared take turns, so that whatever else the machine does
//! meets both. Client and server share the machine; the processor time of the
//! server alone stands beside the requests per second.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark reports")]

mod bare;
mod client;
mod engine;
mod machine;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tenure::domain::TenantId;
use tenure::store::{SledOptions, SledStore, Store};

use client::Sample;
use server::Server;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MANY: usize = 64;
const NAMES: usize = 1000;
const PUT_BYTES: usize = 512;

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let run = match arguments.first().map(String::as_str) {
        Some("--bench") if arguments.iter().any(|word| word == "--serve-bare") => bare::serve(),
        _ if arguments.iter().any(|word| word == "--bench") => run(&arguments),
        _ => {
            println!("run ./benches/http/run to measure");
            Ok(())
        }
    };
    match run {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/http: {problem}");
            std::process::ExitCode::FAILURE
        }
    }
}

struct Options {
    seconds: u64,
    rounds: u64,
    json: Option<PathBuf>,
}

impl Options {
    /// `--bench` comes from cargo.
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut options = Self { seconds: 5, rounds: 3, json: None };
        let mut words = arguments.iter().filter(|word| *word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seconds" => options.seconds = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--json" => options.json = Some(value()?.into()),
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(options)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// One line of the table, summed over the rounds.
struct Line {
    name: &'static str,
    clients: usize,
    sample: Sample,
    /// Of the server; `None` where the work is done in this process.
    cpu_micros: Option<u64>,
}

impl Line {
    fn new(name: &'static str, clients: usize) -> Self {
        Self { name, clients, sample: Sample::default(), cpu_micros: None }
    }

    /// Measures once more against `server`.
    fn measure(
        &mut self,
        server: &Server,
        time: Duration,
        requests: impl Fn(usize, usize) -> Vec<u8> + Clone + 'static,
    ) -> Outcome<()> {
        let before = server.cpu_micros();
        let sample = client::measure(server.address, self.clients, time, requests)
            .map_err(|problem| format!("{}: {problem}", self.name))?;
        self.sample.add(sample);
        *self.cpu_micros.get_or_insert(0) += server.cpu_micros().saturating_sub(before);
        Ok(())
    }

    fn cpu_per_request(&self) -> Option<f64> {
        let requests = self.sample.latencies.len().max(1);
        self.cpu_micros.map(|micros| micros as f64 / requests as f64)
    }
}

/// What stands below the table.
struct Facts {
    first_start: Duration,
    second_start: Duration,
    binary_bytes: u64,
    busy_before: String,
    busy_after: String,
}

fn run(arguments: &[String]) -> Outcome<()> {
    let options = Options::parse(arguments)?;
    let folder = scratch_folder()?;
    let busy_before = machine::busy_with();

    let data = folder.path().join("data");
    let (first, first_start) = Server::tenure(&data)?;
    first.stop()?;
    let (tenure, second_start) = Server::tenure(&data)?;
    fill(&tenure)?;
    let reads = measure_reads(&tenure, &options)?;
    let writes = measure_writes(&tenure, folder.path(), &options)?;
    tenure.stop()?;

    let facts = Facts {
        first_start,
        second_start,
        binary_bytes: std::fs::metadata(env!("CARGO_BIN_EXE_tenure"))?.len(),
        busy_before,
        busy_after: machine::busy_with(),
    };
    report(reads.into_iter().chain(writes).collect(), &facts, &options)
}

/// Beside the build, so on a disk: a folder in memory would sync for nothing.
fn scratch_folder() -> Outcome<tempfile::TempDir> {
    let target = Path::new(env!("CARGO_BIN_EXE_tenure")).parent().ok_or("no build folder")?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(target)?)
}

/// A thousand secrets of 64 bytes.
fn fill(tenure: &Server) -> Outcome<()> {
    let puts: Vec<_> =
        (0..NAMES).map(|n| tenure.put(&format!("secret-{n:04}"), bare::VALUE)).collect();
    let statuses = client::send(tenure.address, &puts)?;
    match statuses.iter().find(|status| **status != 204) {
        Some(status) => Err(format!("a PUT was answered with {status}").into()),
        None => Ok(()),
    }
}

fn measure_reads(tenure: &Server, options: &Options) -> Outcome<Vec<Line>> {
    let bare = Server::bare()?;
    let mut floor = Line::new("bare GET", MANY);
    let mut get = Line::new("GET 64 B", MANY);
    let mut list = Line::new("LIST 1,000", MANY);
    let (of_bare, of_tenure) = (bare.get("secret-0500"), tenure.get("secret-0500"));
    let of_list = tenure.list();
    for _ in 0..options.rounds {
        let (of_bare, of_tenure, of_list) = (of_bare.clone(), of_tenure.clone(), of_list.clone());
        floor.measure(&bare, options.time(), move |_, _| of_bare.clone())?;
        get.measure(tenure, options.time(), move |_, _| of_tenure.clone())?;
        list.measure(tenure, options.time(), move |_, _| of_list.clone())?;
    }
    Ok(vec![floor, get, list])
}

fn measure_writes(tenure: &Server, folder: &Path, options: &Options) -> Outcome<Vec<Line>> {
    let (store, tenant) = open_engine(folder)?;
    let mut lines = Vec::new();
    for clients in [MANY, 1] {
        let mut floor = Line::new("engine, 4 rows", clients);
        let mut put = Line::new("PUT 512 B", clients);
        let puts = put_requests(tenure, clients);
        for _ in 0..options.rounds {
            floor.sample.add(engine::measure(&store, tenant, clients, NAMES, options.time())?);
            put.measure(tenure, options.time(), puts.clone())?;
        }
        lines.extend([floor, put]);
    }
    Ok(lines)
}

/// Each connection replaces secrets of its own, [`NAMES`] in all.
fn put_requests(
    tenure: &Server,
    connections: usize,
) -> impl Fn(usize, usize) -> Vec<u8> + Clone + 'static {
    let value = bare::VALUE.repeat(PUT_BYTES / bare::VALUE.len());
    let all: Vec<_> = (0..NAMES).map(|n| tenure.put(&format!("put-{n:04}"), &value)).collect();
    let all: Arc<[Vec<u8>]> = all.into();
    let own = NAMES / connections;
    move |connection, number| all.get(connection * own + number % own).cloned().unwrap_or_default()
}

/// The engine that the server uses, in a folder of its own.
fn open_engine(folder: &Path) -> Outcome<(Arc<dyn Store>, TenantId)> {
    let folder = folder.join("engine");
    let store: Arc<dyn Store> =
        Arc::new(SledStore::open(&folder, SledOptions::default(), &|_| {})?);
    let tenant = TenantId::from_bytes([1; 16]);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(store.create_tenant(tenant))?;
    Ok((store, tenant))
}

fn report(mut lines: Vec<Line>, facts: &Facts, options: &Options) -> Outcome<()> {
    lines.retain(|line| !line.sample.latencies.is_empty());
    println!(
        "\n{:<16}{:>8}{:>12}{:>9}{:>9}{:>10}{:>8}",
        "", "clients", "requests/s", "p50 µs", "p99 µs", "CPU µs", "ratio"
    );
    let mut rows = Vec::new();
    let mut floor = None;
    for line in &mut lines {
        let rate = line.sample.per_second();
        let is_floor = line.name.starts_with("bare") || line.name.starts_with("engine");
        if is_floor {
            floor = Some(rate).filter(|rate| *rate > 0.0);
        }
        // A list has no floor: what is compared are requests of one kind.
        let ratio = floor.filter(|_| !line.name.starts_with("LIST")).map(|floor| rate / floor);
        let (p50, p99) = (line.sample.quantile(0.5), line.sample.quantile(0.99));
        let cpu = line.cpu_per_request();
        println!(
            "{:<16}{:>8}{:>12.0}{:>9}{:>9}{:>10}{:>8}",
            line.name,
            line.clients,
            rate,
            p50,
            p99,
            cpu.map_or("-".to_owned(), |cpu| format!("{cpu:.1}")),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        );
        rows.push(json!({
            "name": line.name, "clients": line.clients, "requests_per_second": rate,
            "p50_micros": p50, "p99_micros": p99, "cpu_micros_per_request": cpu, "ratio": ratio,
        }));
    }
    let Facts { first_start, second_start, binary_bytes, busy_before, busy_after } = facts;
    println!("\nratio: to the bare handler and to the engine alone, measured in turns");
    println!("`dev` to its first answer: {first_start:.1?} on no data, {second_start:.1?} again");
    println!("binary: {:.1} MB", *binary_bytes as f64 / 1e6);
    println!("rounds: {} of {} s", options.rounds, options.seconds);
    println!("before: {busy_before}\nafter:  {busy_after}");
    let Some(path) = &options.json else { return Ok(()) };
    let report = json!({
        "lines": rows,
        "first_start_millis": first_start.as_secs_f64() * 1e3,
        "second_start_millis": second_start.as_secs_f64() * 1e3,
        "binary_bytes": binary_bytes,
        "busy_before": busy_before,
        "busy_after": busy_after,
    });
    std::fs::write(path, format!("{report:#}\n"))?;
    Ok(())
}
