//! Requests that change nothing, beside a bare handler that answers as many bytes.

pub mod bare;
mod issuer;

use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use issuer::Issuer;

use crate::Options;
use crate::harness::client::{self, Sample, Target};
use crate::harness::report::{Section, Table, count, ratio};
use crate::harness::server::{Caller, Server, this_build};
use crate::harness::tls::Certificate;
use crate::harness::{Outcome, SHORT_VALUE};

const CLIENTS: usize = 64;
const NAMES: usize = 1000;
const NAME: &str = "secret-0500";
/// How reads are recorded by default.
const RECORDED: &str = "buffered";
/// How many tokens are in rotation in one of the lines.
const TOKENS: usize = 100_000;
/// How many are minted at once.
const MINTERS: usize = 20;

/// One line of the table, summed over the rounds.
struct Line<'a> {
    name: &'static str,
    server: &'a Server,
    target: Target,
    /// The number of the line that it is compared with.
    floor: Option<usize>,
    /// How the server records reads meanwhile.
    reads: &'static str,
    requests: Rc<[Vec<u8>]>,
    sample: Sample,
    cpu_micros: u64,
}

impl<'a> Line<'a> {
    fn new(name: &'static str, server: &'a Server, request: Vec<u8>) -> Self {
        Self {
            name,
            server,
            target: server.target(None),
            floor: None,
            reads: RECORDED,
            requests: Rc::new([request]),
            sample: Sample::default(),
            cpu_micros: 0,
        }
    }

    fn beside(self, floor: usize) -> Self {
        Self { floor: Some(floor), ..self }
    }

    fn recorded(self, reads: &'static str) -> Self {
        Self { reads, ..self }
    }

    fn over(self, tls: &Certificate) -> Self {
        Self { target: self.server.target(Some(tls)), ..self }
    }

    /// Connections take turns at the requests.
    fn measure(&mut self, time: Duration) -> Outcome<()> {
        if self.reads != RECORDED {
            self.server.reconfigure(&reads(self.reads))?;
        }
        let before = self.server.cpu_micros();
        let all = Rc::clone(&self.requests);
        let requests = move |connection, number| {
            all.get((number * CLIENTS + connection) % all.len()).cloned().unwrap_or_default()
        };
        let sample = client::measure(self.target.clone(), CLIENTS, time, requests)
            .map_err(|problem| format!("{}: {problem}", self.name))?;
        self.sample.add(sample);
        self.cpu_micros += self.server.cpu_micros().saturating_sub(before);
        if self.reads != RECORDED {
            self.server.reconfigure(&reads(RECORDED))?;
        }
        Ok(())
    }
}

fn reads(mode: &str) -> String {
    format!("[audit]\nreads = \"{mode}\"\n")
}

/// A server with a thousand secrets.
fn filled(folder: &Path, tables: &str, tls: Option<&Certificate>) -> Outcome<Server> {
    let server = Server::serve(folder, tables)?;
    let caller = server.caller.clone();
    client::send_all(server.target(tls), NAMES, move |n| {
        caller.put(&format!("secret-{n:04}"), SHORT_VALUE)
    })?;
    Ok(server)
}

/// Credentials that read the secrets of a server.
struct Credentials {
    narrowed: Caller,
    api_key: Caller,
    access_token: Caller,
    rotation: Rc<[Vec<u8>]>,
}

impl Credentials {
    fn of(server: &Server, issuer: &Issuer) -> Outcome<Self> {
        let (admin, caller) = (server.admin()?, &server.caller);
        let token = Server::token_in(&admin, "dev")?;
        let narrow = ["token", "attenuate", "--read-only", "--prefix", "secret-"];
        let key = ["api-key", "create", "--tenant", "dev", "--scope", "Secret.Read", "--data"];
        let key = [key.as_slice(), &[server.data()?]].concat();
        let credentials = Self {
            narrowed: caller.with_token(&server.command(&narrow, &token)?),
            api_key: caller.with_api_key(&server.command(&key, "")?),
            access_token: caller.with_token(&issuer.token()?),
            rotation: rotation(server)?,
        };
        // The server may not have fetched the issuer's keys yet.
        let (request, start) = (credentials.access_token.get(NAME), Instant::now());
        while client::send(caller.address, &request)? != 200 {
            if start.elapsed() > Duration::from_secs(10) {
                return Err("an access token was refused".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(credentials)
    }
}

/// Requests with a minted token each, all of which the server has seen once.
fn rotation(server: &Server) -> Outcome<Rc<[Vec<u8>]>> {
    eprintln!("minting {} tokens", count(TOKENS as f64));
    // Each mint waits for the disk, and those that wait are made durable together.
    let some = || {
        let admin = server.admin().map_err(|error| error.to_string())?;
        let request = |_| {
            let token = Server::token_in(&admin, "dev").map_err(|error| error.to_string())?;
            Ok(server.caller.with_token(&token).get(NAME))
        };
        (0..TOKENS / MINTERS).map(request).collect::<Result<Vec<_>, String>>()
    };
    let minted = thread::scope(|scope| {
        let minters: Vec<_> = (0..MINTERS).map(|_| scope.spawn(some)).collect();
        let minted = minters.into_iter().map(|minter| minter.join().expect("a minter returns"));
        minted.collect::<Result<Vec<_>, _>>()
    })?;
    let requests: Rc<[_]> = minted.concat().into();
    let all = Rc::clone(&requests);
    client::send_all(server.caller.address, TOKENS, move |n| {
        all.get(n).cloned().unwrap_or_default()
    })?;
    Ok(requests)
}

/// How long `tenure dev` takes to its first answer, on no data and again.
fn starts(folder: &Path) -> Outcome<(Duration, Duration)> {
    let data = folder.join("dev");
    let (server, first) = Server::tenure(this_build(), &data)?;
    server.stop()?;
    let (server, second) = Server::tenure(this_build(), &data)?;
    server.stop()?;
    Ok((first, second))
}

pub fn run(folder: &Path, options: &Options) -> Outcome<Section> {
    let (first, second) = starts(folder)?;
    let (tls, issuer) = (Certificate::make(folder)?, Issuer::start()?);
    let server = filled(&folder.join("http"), &reads(RECORDED), None)?;
    // What is compared is alike but for what is compared: that one has seen no more tokens.
    let crowded = filled(&folder.join("crowded"), &issuer.table(), None)?;
    let files = "[tls]\ncertificate = \"../certificate.pem\"\nkey = \"../key.pem\"\n";
    let secure = filled(&folder.join("https"), files, Some(&tls))?;
    let (bare, secure_bare) = (Server::bare(None)?, Server::bare(Some(&tls))?);
    let credentials = Credentials::of(&crowded, &issuer)?;

    let get = |name, caller: &Caller| Line::new(name, &crowded, caller.get(NAME)).beside(0);
    let plain = |name| Line::new(name, &server, server.caller.get(NAME)).beside(0);
    let mut lines = [
        Line::new("bare handler", &bare, bare.caller.get(NAME)),
        plain("GET, token"),
        plain("GET, audit off").recorded("off"),
        plain("GET, audit durable").recorded("durable"),
        get("GET, narrowed token", &credentials.narrowed),
        get("GET, API key", &credentials.api_key),
        get("GET, access token", &credentials.access_token),
        Line {
            requests: Rc::clone(&credentials.rotation),
            ..get("GET, 100,000 tokens", &crowded.caller)
        },
        Line::new("bare handler, TLS", &secure_bare, secure_bare.caller.get(NAME)).over(&tls),
        Line::new("GET, token, TLS", &secure, secure.caller.get(NAME)).over(&tls).beside(8),
        // A list has no floor: what is compared are requests of one kind.
        Line::new("LIST 1,000 names", &server, server.caller.list("")),
    ];
    for _ in 0..options.rounds {
        for line in &mut lines {
            line.measure(options.time())?;
        }
    }
    let memory = crowded.memory();
    let [_, buffered, off, ..] = &lines;
    let kept = ratio(buffered.sample.per_second(), off.sample.per_second());
    let table = tabulate(&mut lines);
    let binary = std::fs::metadata(this_build())?.len();
    Ok(Section {
        title: "Requests that change nothing",
        reading: format!(
            "{CLIENTS} connections, over HTTP on loopback, GETs of 64 bytes. `bare handler` is \
             actix-web alone with an answer of the same size; `CPU` is the server's, per request. \
             Each read is recorded in the audit within a second (`buffered`), which keeps {kept} of \
             the rate that the same server has without (`audit off`), or before it is answered \
             (`audit durable`). \
             The narrowed token has a second block (read only, one prefix), the access token is of \
             an identity provider (EdDSA), and 100,000 tokens are presented in turn, each for the \
             second time or later; the server had {:.0} MB resident then. `tenure dev` answered \
             {:.0} ms after its start on no data, and {:.0} ms after the next. The binary is {:.1} \
             MB.",
            memory as f64 / 1e6,
            first.as_secs_f64() * 1e3,
            second.as_secs_f64() * 1e3,
            binary as f64 / 1e6,
        ),
        table,
        plot: None,
    })
}

fn tabulate(lines: &mut [Line<'_>]) -> Table {
    let mut table = Table::new(["", "requests/s", "to bare", "p50 µs", "p99 µs", "CPU µs"]);
    let rates: Vec<_> = lines.iter().map(|line| line.sample.per_second()).collect();
    for (number, (line, rate)) in lines.iter_mut().zip(&rates).enumerate() {
        let is_floor = line.name.starts_with("bare");
        let floor = line.floor.or(is_floor.then_some(number));
        let floor = floor.and_then(|floor| rates.get(floor)).copied().unwrap_or_default();
        let requests = line.sample.latencies.len().max(1);
        table.row([
            line.name.to_owned(),
            count(*rate),
            ratio(*rate, floor),
            count(line.sample.quantile(0.5).into()),
            count(line.sample.quantile(0.99).into()),
            format!("{:.1}", line.cpu_micros as f64 / requests as f64),
        ]);
    }
    table
}
