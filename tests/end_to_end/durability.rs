//! What was answered 204 is there after any end of the process, and what is on
//! the disk can be read by nobody else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Dev, Output, Random, Request, Writers, eventually, maintain, quiet, secret, tenure, two_tenants,
};

const WRITERS: u64 = 8;

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_at_any_moment() {
    let rounds = if std::env::var_os("TENURE_TEST_LONG").is_some() { 100 } else { 20 };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    let mut writers = Writers::new(WRITERS, two_tenants(&data), &mut random);
    let mut total = 0;
    for round in 0..rounds {
        println!("round {round}, seed {}", random.0);
        let dev = Dev::start_with(&data, quiet);
        let address = dev.address;
        writers.assert_kept(address);
        let done = writers.under_load(address, |_| {
            random.pause(Duration::from_millis(600));
            dev.kill();
        });
        total += done.acknowledged();
    }
    writers.assert_kept(Dev::start_with(&data, quiet).address);
    println!("{total} writes acknowledged");
    assert!(total > 2 * rounds, "there was next to no load: {total} writes");
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_during_a_compaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    let mut writers = Writers::new(WRITERS, two_tenants(&data), &mut random);
    let (mut total, mut whole) = (0, 0);
    for round in 0..10 {
        println!("round {round}, seed {}", random.0);
        let dev = Dev::start_with(&data, quiet);
        let address = dev.address;
        writers.assert_kept(address);
        let done = writers.under_load(address, |_| {
            thread::scope(|scope| {
                let compacting = scope.spawn(|| dev.run_until_gone(&["compact", "--all"]));
                random.pause(Duration::from_millis(1_500));
                dev.signal("KILL");
                whole += compacting.join().expect("it compacts");
            });
        });
        total += done.acknowledged();
    }
    let dev = Dev::start_with(&data, quiet);
    writers.assert_kept(dev.address);
    let verified = dev.run(&["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    println!("{total} writes acknowledged, {whole} compactions of all databases finished");
    assert!(total > 20, "there was next to no load: {total} writes");
}

/// The tenants that are there, besides that of `dev`.
fn tenants(dev: &Dev) -> BTreeSet<String> {
    let output = dev.run(&["tenant", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    let rows = list.get("tenants").and_then(|rows| rows.as_array()).expect("a list");
    let names = rows.iter().filter_map(|row| row.get("name")?.as_str()).map(str::to_owned);
    names.filter(|name| name != "dev").collect()
}

#[test]
fn tenants_created_and_deleted_stay_so_after_kill_9_at_any_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    let (mut expected, mut in_flight) = (BTreeSet::new(), None::<String>);
    let mut total = 0;
    for round in 0..10 {
        let dev = Dev::start_with(&data, quiet);
        println!("round {round}, seed {}", random.0);
        let found = tenants(&dev);
        if let Some(name) = in_flight.take() {
            // Either way; and what was done by halves has been finished.
            if found.contains(&name) {
                expected.insert(name)
            } else {
                expected.remove(&name)
            };
        }
        assert_eq!(found, expected);
        for name in &expected {
            let token = dev.mint(name, &["*"]);
            let list = Request::get(format!("/api/{name}/secrets")).bearer(&token);
            assert_eq!(dev.client().send(&list).status, 200, "{name}");
        }
        let delay = Duration::from_millis(20 + random.below(300));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(delay);
                dev.signal("KILL");
            });
            while in_flight.is_none() {
                let name = format!("t{}", random.below(6));
                let there = expected.contains(&name);
                let args: &[&str] = if there { &["delete", "--yes"] } else { &["create"] };
                let output = dev.run(&[&["tenant"][..], args, &[&name]].concat());
                match output.code {
                    // By the server; or after its death by the command itself.
                    Some(0) if there => drop(expected.remove(&name)),
                    Some(0) => drop(expected.insert(name)),
                    // What the server did of it before it died is not known.
                    Some(5) => in_flight = Some(name),
                    _ => panic!("{output:?}"),
                }
                total += 1;
                if !dev.is_alive() {
                    break;
                }
            }
        });
    }
    assert!(total > 10, "there was next to no load: {total} commands");
}

#[test]
fn a_kill_9_during_the_first_start_leaves_a_folder_that_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random::seeded();
    for round in 0..10 {
        let data = folder.path().join(format!("data-{round}"));
        let mut first = tenure();
        first.args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        let mut first =
            first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        let delay = Duration::from_micros(random.below(60_000));
        thread::sleep(delay);
        first.kill().expect("the child is ours");
        first.wait().expect("the child is ours");
        println!("round {round}: killed after {delay:?}");
        let dev = Dev::start_with(&data, quiet);
        assert_eq!(dev.put("first", "value").status, 204);
        assert_eq!(dev.get("first").json(), "value");
    }
}

#[test]
fn a_kill_9_during_init_leaves_a_folder_that_init_finishes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random::seeded();
    for round in 0..10 {
        let data = folder.path().join(format!("data-{round}"));
        let again = || {
            let mut command = tenure();
            command.args(["init", "--data"]).arg(&data);
            command
        };
        let mut first = again().stdout(Stdio::null()).spawn().expect("the program starts");
        let delay = Duration::from_micros(random.below(60_000));
        thread::sleep(delay);
        first.kill().expect("the child is ours");
        first.wait().expect("the child is ours");
        println!("round {round}: killed after {delay:?}");
        let second = Output::of(&mut again());
        let finished = matches!(second.code, Some(0 | 4));
        assert!(finished, "neither made nor there: {second:?}");
        let created = maintain(&data, &["tenant", "create", "acme"]);
        assert_eq!(created.code, Some(0), "{created:?}");
    }
}

#[test]
fn a_stop_under_load_finishes_what_it_acknowledges() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    let mut writers = Writers::new(WRITERS, two_tenants(&data), &mut random);
    for signal in ["TERM", "INT"] {
        let dev = Dev::start_with(&data, quiet);
        let address = dev.address;
        let mut code = None;
        writers.under_load(address, |done| {
            eventually("writes", || (done.acknowledged() > 100).then_some(()));
            dev.signal(signal);
            let begun = Instant::now();
            code = dev.stop_answered();
            // Far below the 30 s that a graceful stop may wait for a stuck request.
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        });
        assert_eq!(code, Some(0), "after SIG{signal}");
        writers.assert_kept(Dev::start_with(&data, quiet).address);
    }
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// The files that hold `needle`, by name.
fn holders(folder: &Path, needle: &[u8]) -> Vec<String> {
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    let name = |path: PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    files(folder).into_iter().filter(holds).map(name).collect()
}

const NAME: &str = "NmMarkerQ7";
const VALUE: &str = "VlMarkerX3";

/// 1,000 writes of every size, replaces and deletes among them.
fn thousand_writes(dev: &Dev) {
    thread::scope(|scope| {
        for writer in 0..8 {
            scope.spawn(move || {
                let mut client = dev.client();
                for (n, times) in (0..125).zip([1, 50, 900, 6_000].into_iter().cycle()) {
                    let name = format!("{NAME}-{writer}-{}", n % 100);
                    let body = json!({ "value": VALUE.repeat(times) }).to_string();
                    let put = Request::put(secret(&name), body).bearer(&dev.token);
                    assert_eq!(client.send(&put).status, 204);
                    if n % 10 == 9 {
                        let delete = Request::delete(secret(&name)).bearer(&dev.token);
                        assert_eq!(client.send(&delete).status, 204);
                    }
                }
            });
        }
    });
}

#[test]
fn the_data_folder_shows_no_name_no_value_and_no_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dev = Dev::start_with(&data, quiet);
    let token = dev.token.clone();
    thousand_writes(&dev);
    assert_eq!(dev.get(&format!("{NAME}-0-0")).status, 200);
    look_through(&data, &token);
    assert_eq!(dev.stop(), Some(0));
    look_through(&data, &token);
}

fn look_through(data: &Path, token: &str) {
    for marker in [NAME, VALUE] {
        assert_eq!(holders(data, marker.as_bytes()), [""; 0], "{marker}");
    }
    let kek = fs::read_to_string(data.join("kek")).expect("a KEK");
    let kek = kek.trim();
    assert_eq!(holders(data, kek.as_bytes()), ["kek"]);
    let raw: Vec<u8> = (0..kek.len() / 2)
        .map(|at| u8::from_str_radix(&kek[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect();
    assert_eq!(holders(data, &raw), [""; 0], "the KEK's bytes");
    assert_eq!(holders(data, token.as_bytes()), ["dev.env"]);
    let of = files(data).into_iter().filter(|path| path.file_name() != Some("dev.env".as_ref()));
    let strings = Command::new("strings").args(["-a", "-n", "6"]).args(of).output();
    let strings = strings.expect("strings, of binutils, is installed");
    assert!(strings.status.success() && !strings.stdout.is_empty());
    let strings = String::from_utf8_lossy(&strings.stdout);
    // It looks where it should: the KEK's file is among them.
    assert!(strings.contains(kek));
    for marker in [NAME, VALUE, token] {
        assert!(!strings.contains(marker), "{marker}");
    }
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dev = Dev::start(&data);
    assert_eq!(dev.put("kept", "value").status, 204);
    let mut second = tenure();
    second.args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    let address = format!("http://{}", dev.address);
    Output::of(&mut second).assert_fails(4, &["runs on", "already", &address, "dev stop"]);
    assert_eq!(dev.get("kept").json(), "value", "the first one goes on");
    assert_eq!(dev.run(&["status"]).code, Some(0), "and keeps its socket");
    // Where it cannot be asked, the lock of the store speaks.
    std::fs::remove_file(data.join("admin.sock")).expect("it is there");
    Output::of(&mut second).assert_fails(5, &["another tenure holds", "stop it"]);
    assert_eq!(dev.get("kept").json(), "value", "the first one goes on");
}

#[test]
fn two_servers_on_two_folders_have_nothing_in_common() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, other] = ["one", "other"].map(|name| Dev::start(&folder.path().join(name)));
    assert_eq!(one.put("name", "value").status, 204);
    assert_eq!(other.get("name").status, 404);
    let foreign = Request::get(secret("name")).bearer(&one.token);
    assert_eq!(other.client().send(&foreign).status, 401);
}
