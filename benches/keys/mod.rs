//! What requests feel of keys that change under them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure::api::admin::{Command, HiddenText, Reply};
use tenure::crypto::{Kek, KekOrigin, KekWay};
use tenure::domain::Timestamp;

use crate::Options;
use crate::harness::client::{self, Sample};
use crate::harness::report::{Section, Table, count, ratio};
use crate::harness::server::Server;
use crate::harness::{Outcome, long_value, scattered};

const SECRETS: usize = 100_000;
const READERS: usize = 8;
const WRITERS: usize = 2;
/// Of each connection between two requests: some 1,500 GETs and 100 PUTs a second.
const READ_PAUSE: Duration = Duration::from_millis(4);
const WRITE_PAUSE: Duration = Duration::from_millis(15);

/// What goes on beside the requests.
#[derive(Default)]
struct Phase {
    gets: Sample,
    puts: Sample,
    /// How many KEKs, or secrets, were changed.
    changed: u64,
}

pub fn run(folder: &Path, options: &Options) -> Outcome<Section> {
    eprintln!("filling a store with {} secrets", count(SECRETS as f64));
    let server = Server::serve(&folder.join("keys"), "")?;
    let (caller, value) = (server.caller.clone(), long_value());
    client::send_all(server.caller.address, SECRETS, move |n| caller.put(&name(n), &value))?;
    let (mut rest, mut kek, mut dek) = (Phase::default(), Phase::default(), Phase::default());
    for _ in 0..options.rounds {
        rest.requests(&server, options.time())?;
        kek.beside(&server, options.time(), replace_keks)?;
        dek.beside(&server, options.time(), rewrite)?;
    }
    let mut table = Table::new([
        "beside", "changed", "GET/s", "p50 µs", "p99 µs", "to rest", "PUT/s", "PUT p50", "PUT p99",
        "to rest",
    ]);
    let floor = (rest.gets.quantile(0.99), rest.puts.quantile(0.99));
    for (name, mut phase) in
        [("nothing", rest), ("the KEK replaced", kek), ("all encrypted anew", dek)]
    {
        let (gets, puts) = (phase.gets.quantile(0.99), phase.puts.quantile(0.99));
        table.row([
            name.to_owned(),
            count(phase.changed as f64),
            count(phase.gets.per_second()),
            count(phase.gets.quantile(0.5).into()),
            count(gets.into()),
            ratio(gets.into(), floor.0.into()),
            count(phase.puts.per_second()),
            count(phase.puts.quantile(0.5).into()),
            count(puts.into()),
            ratio(puts.into(), floor.1.into()),
        ]);
    }
    Ok(Section {
        title: "Keys",
        reading: format!(
            "One tenant with {} secrets of 512 bytes, read at random by {READERS} connections and \
             written by {WRITERS}, each resting between two requests ({} and {} ms): beside \
             nothing; while the KEK is replaced again and again, as often as it can be; and while \
             every secret is encrypted anew (`tenure dek rotate --rewrite`, {} a second as it comes), \
             from the beginning to the end. `changed` is how many KEKs, or secrets.",
            count(SECRETS as f64),
            READ_PAUSE.as_millis(),
            WRITE_PAUSE.as_millis(),
            count(1_000.0)
        ),
        table,
        plot: None,
    })
}

fn name(number: usize) -> String {
    format!("secret-{number:08}")
}

impl Phase {
    fn requests(&mut self, server: &Server, time: Duration) -> Outcome<()> {
        let (reader, writer) = (server.caller.clone(), server.caller.clone());
        let (address, value) = (server.caller.address, long_value());
        let puts = std::thread::spawn(move || {
            let put =
                move |connection, n| writer.put(&name(scattered(connection, n, SECRETS)), &value);
            client::measure_paced(address, WRITERS, WRITE_PAUSE, time, put)
        });
        let get =
            move |connection, n| reader.get(&name(scattered(connection + WRITERS, n, SECRETS)));
        self.gets.add(client::measure_paced(address, READERS, READ_PAUSE, time, get)?);
        self.puts.add(puts.join().map_err(|_| "a writer panicked")??);
        Ok(())
    }

    /// Until `work` has ended, which is asked to when `time` is over.
    fn beside(
        &mut self,
        server: &Server,
        time: Duration,
        work: fn(&Server, &AtomicBool) -> Outcome<u64>,
    ) -> Outcome<()> {
        let over = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let working = scope.spawn(|| work(server, &over));
            loop {
                self.requests(server, time)?;
                over.store(true, Ordering::Relaxed);
                if working.is_finished() {
                    break;
                }
            }
            self.changed += working.join().map_err(|_| "the work panicked")??;
            Ok(())
        })
    }
}

fn replace_keks(server: &Server, over: &AtomicBool) -> Outcome<u64> {
    let mut replaced = 0;
    while !over.load(Ordering::Relaxed) {
        let origin = KekOrigin { way: KekWay::Env, since: Timestamp::from_unix_seconds(0) };
        let kek = HiddenText::new(&Kek::generate().to_text());
        let command = Command::KekReplace { kek, origin: hex::encode(origin.encode()) };
        match server.admin()?.send(&command, None, None, &mut |_| {})? {
            Reply::KekReplaced(_) => replaced += 1,
            _ => return Err("the KEK was not replaced".into()),
        }
    }
    Ok(replaced)
}

fn rewrite(server: &Server, _: &AtomicBool) -> Outcome<u64> {
    let command = Command::DekRotate {
        tenant: Some("dev".to_owned()),
        rewrite: true,
        per_second: None,
        dry_run: false,
    };
    match server.admin()?.send(&command, None, None, &mut |_| {})? {
        Reply::DeksRotated { reencrypted: Some(done), .. } if done.damaged == 0 => Ok(done.secrets),
        _ => Err("not everything was encrypted anew".into()),
    }
}
