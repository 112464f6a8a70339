//! What grows with the number of secrets in a tenant, and with the number of
//! tenants.

mod limited;
mod tenants;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Options;
use crate::harness::client::{self, Sample};
use crate::harness::plot::{self, Line, Panel};
use crate::harness::report::{Section, Table, count, megabytes, ratio};
use crate::harness::server::{Server, this_build};
use crate::harness::{Outcome, long_value, machine, scattered};

const READERS: usize = 8;
/// Of each reader between two GETs, in the mean: some 1,500 a second, a tenth of what the
/// server can do.
const PAUSE: Duration = Duration::from_millis(4);
const PAGE: usize = 1000;

/// What a secret takes of the cache here, with what leads to its rows: 4/3 of its value, and
/// 1,300.
const SECRET_BYTES: usize = 2_000;
/// Of so many each is read once before any is measured.
const READ_ONCE: usize = 2_000_000;
/// Places in memory that a GET of what is held comes to, which no other GET of late has:
/// of each of two rows where it is found, its entry, its key and itself.
const TOUCHED: usize = 8;

/// One store, filled with so many secrets, and what was measured of it.
struct Filled {
    data: PathBuf,
    server: Server,
    /// None of a store that an earlier run left.
    puts_per_second: Option<f64>,
    start_after_kill: Option<Duration>,
    start_after_stop: Duration,
    reads: Reads,
    bare: Bare,
    first_list: Duration,
    pages: Sample,
    memory_before_list: u64,
    memory_listed: u64,
}

/// As much memory as the secrets take of the cache, and what it takes to read some of it; or
/// none, of which nothing is read.
#[derive(Default)]
struct Bare {
    memory: Vec<u8>,
    reads: Sample,
}

/// GETs of names at random.
struct Reads {
    /// Of so many names.
    secrets: usize,
    /// How often names were drawn.
    draws: usize,
    /// As fast as they come, and with pauses.
    gets: Sample,
    paced: Sample,
}

pub fn run(folder: &Path, options: &Options) -> Outcome<[Section; 2]> {
    let mut sizes = Vec::new();
    for some in options.secrets.chunk_by(|a, b| are_measured_together(*a, *b)) {
        let mut filled = Vec::new();
        for secrets in some {
            eprintln!("filling a store with {} secrets", count(*secrets as f64));
            filled.push(Filled::fill(&folder.join(format!("scale-{secrets}")), *secrets)?);
        }
        for one in &mut filled {
            one.read_once()?;
        }
        in_turns(&mut filled, options)?;
        for one in &mut filled {
            one.list(options.time())?;
        }
        sizes.append(&mut filled);
    }
    let plot = draw(&mut sizes);
    let table = tabulate(&mut sizes);
    let limited = limited::run(sizes, options)?;
    let tenants = match options.tenants {
        0 => String::new(),
        number => format!("\n\n{}", tenants::run(&folder.join("tenants"), number)?),
    };
    let scale = Section {
        title: "Scale",
        reading: format!(
            "One tenant with secrets of 512 bytes, stored over HTTP by 64 connections. `killed` and \
             `stopped` are the time from the start of the process to its first answer to an \
             authorized request: after `kill -9` right behind the last write, when every write is \
             replayed, and after a clean stop of the server that came up so. Once its secrets are counted, \
             which a server does after a start and then for a hundredth of the time, and each was read \
             once, where there are no more than two million (larger ones are filled and measured after the others), GET is of names \
             at random by {READERS} connections, after some time of the same that does not count, the \
             sizes in turns, `store.cache_bytes` being a quarter of the machine's memory ({} MB), each with its files in the machine's memory if they fit in half of it, \
             and other names each time: as fast as answers come, when \
             client and server keep both processors busy and the highest latencies are waits for \
             one of them; and `paced`, when those are written that the first left to be, each connection \
             resting between two, {} ms in the mean and not together. `to first` is \
             the paced p99 to that of the first line; `memory p99` is the machine's own \
             part of it, what it takes a program that rests as often to read {TOUCHED} bytes at random \
             places of as much memory as the secrets take of `store.cache_bytes`, or two million of them. `first list` is the first page of {PAGE} names, for which names \
             are decrypted once; `page` the pages after it, from anywhere. Where there are more than \
             two million, `store.list_cache_bytes` has {NAME_BYTES} bytes for each. Memory is what the \
             process has resident, before and after that list.{tenants}",
            megabytes(machine::memory_of_all()? / 4),
            PAUSE.as_millis()
        ),
        table,
        plot: Some((
            "performance.svg",
            "GET latency, start-up time and memory over the number of secrets",
            plot,
        )),
    };
    Ok([scale, limited])
}

fn is_read_once(secrets: usize) -> bool {
    secrets <= READ_ONCE
}

/// Those that no cache holds stand apart, and come last: their files drive from the machine's
/// memory what the others are measured by.
fn are_measured_together(a: usize, b: usize) -> bool {
    is_read_once(a) == is_read_once(b)
}

/// All servers running: whatever the machine does meets all sizes.
fn in_turns(sizes: &mut [Filled], options: &Options) -> Outcome<()> {
    for filled in &mut *sizes {
        filled.reads.warm(&filled.server, options.time() * 2)?;
    }
    for _ in 0..options.rounds {
        for filled in &mut *sizes {
            filled.get(options.time())?;
        }
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("secret-{number:08}")
}

/// What the default holds of sorted names.
const NAMES_BY_DEFAULT: usize = 2_000_000;
/// What a name takes of it here: itself, and 20 bytes with an expiry.
const NAME_BYTES: usize = 40;

/// For more names than the default holds, as docs and configuration tell to set it.
fn room_for_names(secrets: usize) -> Option<(&'static str, String)> {
    let room = format!("{}MiB", (secrets * NAME_BYTES) >> 20);
    (secrets > NAMES_BY_DEFAULT).then_some(("TENURE_STORE_LIST_CACHE_BYTES", room))
}

impl Filled {
    fn fill(data: &Path, secrets: usize) -> Outcome<Self> {
        let variables: Vec<_> = room_for_names(secrets).into_iter().collect();
        let start = || Server::tenure_with(this_build(), data, &variables);
        let (mut puts_per_second, mut start_after_kill) = (None, None);
        if !data.exists() {
            let (server, _) = start()?;
            let (caller, value) = (server.caller.clone(), long_value());
            let request = move |number: usize| caller.put(&name(number), &value);
            let puts = client::send_all(server.caller.address, secrets, request)?;
            puts_per_second = Some(puts.per_second());
            server.kill()?;
            let (server, taken) = start()?;
            start_after_kill = Some(taken);
            server.stop()?;
        }
        let (server, start_after_stop) = start()?;
        server.wait_until_idle()?;
        Ok(Self {
            data: data.to_owned(),
            server,
            puts_per_second,
            start_after_kill,
            start_after_stop,
            reads: Reads::of(secrets),
            bare: Bare::of(secrets),
            first_list: Duration::ZERO,
            pages: Sample::default(),
            memory_before_list: 0,
            memory_listed: 0,
        })
    }

    fn read_once(&self) -> Outcome<()> {
        let (caller, secrets) = (self.server.caller.clone(), self.reads.secrets);
        if !is_read_once(secrets) {
            return Ok(());
        }
        client::send_all(caller.address, secrets, move |number| caller.get(&name(number)))?;
        self.server.wait_until_idle()
    }

    fn get(&mut self, time: Duration) -> Outcome<()> {
        // What a machine has put away of files that nobody read; the disk is not measured.
        machine::read_files(&self.data)?;
        self.reads.measure(&self.server, time)?;
        self.bare.read(time);
        Ok(())
    }

    fn list(&mut self, time: Duration) -> Outcome<()> {
        let address = self.server.caller.address;
        self.memory_before_list = self.server.memory();
        let start = Instant::now();
        let status = client::send(address, &self.server.caller.list(&format!("?limit={PAGE}")))?;
        self.first_list = start.elapsed();
        if status != 200 {
            return Err(format!("a list was answered with {status}").into());
        }
        let (caller, secrets) = (self.server.caller.clone(), self.reads.secrets);
        let requests = move |connection, number| {
            let after = name(scattered(connection, number, secrets));
            caller.list(&format!("?limit={PAGE}&after={after}"))
        };
        self.pages = client::measure(address, READERS, time, requests)?;
        self.memory_listed = self.server.memory();
        Ok(())
    }
}

impl Bare {
    fn of(secrets: usize) -> Self {
        // Written to, so that it is there.
        Self { memory: vec![1; secrets.min(READ_ONCE) * SECRET_BYTES], reads: Sample::default() }
    }

    fn read(&mut self, time: Duration) {
        if self.memory.is_empty() {
            return;
        }
        let pause = PAUSE / READERS as u32;
        self.reads.add(machine::read_memory(&self.memory, TOUCHED, pause, time));
    }
}

impl Reads {
    const COLUMNS: [&str; 6] = ["GET/s", "p50 µs", "p99 µs", "paced p50", "paced p99", "to first"];

    /// Beside the first line's paced p99, which is the one that finds none.
    fn cells(&mut self, first: &mut Option<f64>) -> [String; 6] {
        let paced_p99 = f64::from(self.paced.quantile(0.99));
        [
            count(self.gets.per_second()),
            count(self.gets.quantile(0.5).into()),
            count(self.gets.quantile(0.99).into()),
            count(self.paced.quantile(0.5).into()),
            count(paced_p99),
            ratio(paced_p99, *first.get_or_insert(paced_p99)),
        ]
    }

    fn of(secrets: usize) -> Self {
        Self { secrets, draws: 0, gets: Sample::default(), paced: Sample::default() }
    }

    /// Requests for names that no measurement before had in this order.
    fn requests(&mut self, server: &Server) -> impl Fn(usize, usize) -> Vec<u8> + Clone + use<> {
        self.draws += 1;
        let (caller, secrets, draw) = (server.caller.clone(), self.secrets, self.draws);
        move |connection, number| {
            caller.get(&name(scattered(draw * READERS + connection, number, secrets)))
        }
    }

    fn warm(&mut self, server: &Server, time: Duration) -> Outcome<()> {
        let requests = self.requests(server);
        client::measure(server.caller.address, READERS, time, requests).map(drop)
    }

    fn measure(&mut self, server: &Server, time: Duration) -> Outcome<()> {
        let (address, requests) = (server.caller.address, self.requests(server));
        self.gets.add(client::measure(address, READERS, time, requests)?);
        // Until what so many reads left to be written is written.
        server.wait_until_idle()?;
        let requests = self.requests(server);
        self.paced.add(client::measure_paced(address, READERS, PAUSE, time, requests)?);
        Ok(())
    }
}

fn tabulate(sizes: &mut [Filled]) -> Table {
    let filling = ["secrets", "puts/s", "killed s", "stopped s"];
    let rest = ["memory p99", "first list s", "page p99 µs", "memory MB", "listed MB", "disk MB"];
    let mut table = Table::new(filling.into_iter().chain(Reads::COLUMNS).chain(rest));
    let mut first = None;
    for filled in sizes {
        let filling = [
            count(filled.reads.secrets as f64),
            filled.puts_per_second.map_or_else(|| "-".to_owned(), count),
            filled.start_after_kill.map_or_else(|| "-".to_owned(), seconds),
            seconds(filled.start_after_stop),
        ];
        let rest = [
            count(filled.bare.reads.quantile(0.99).into()),
            seconds(filled.first_list),
            count(filled.pages.quantile(0.99).into()),
            megabytes(filled.memory_before_list),
            megabytes(filled.memory_listed),
            megabytes(machine::disk_bytes(&filled.data)),
        ];
        table.row(filling.into_iter().chain(filled.reads.cells(&mut first)).chain(rest));
    }
    table
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn draw(sizes: &mut [Filled]) -> String {
    let mut line = |name, value: &dyn Fn(&mut Filled) -> f64| Line {
        name,
        points: sizes.iter_mut().map(|f| (f.reads.secrets as f64, value(f))).collect(),
    };
    let panels = [
        Panel {
            title: "GET",
            unit: "µs",
            lines: vec![
                line("p50", &|f| f.reads.paced.quantile(0.5).into()),
                line("p99", &|f| f.reads.paced.quantile(0.99).into()),
            ],
        },
        Panel {
            title: "Start",
            unit: "s",
            lines: vec![
                line("killed", &|f| f.start_after_kill.unwrap_or_default().as_secs_f64()),
                line("stopped", &|f| f.start_after_stop.as_secs_f64()),
            ],
        },
        Panel {
            title: "Memory",
            unit: "MB",
            lines: vec![
                line("before a list", &|f| f.memory_before_list as f64 / 1e6),
                line("after it", &|f| f.memory_listed as f64 / 1e6),
            ],
        },
    ];
    plot::draw(&panels, "secrets in one tenant")
}
