//! The sealed state: what a server without keys answers, how it gets them, and what
//! is left when they are taken.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ring::hkdf;
use serde_json::{Value, json};
use tenure::crypto::{Kek, Share, ShareSet, StoreId, combine, split};
use tenure::http::{Endpoint, ROUTES};

use crate::support::{Answer, Client, Output, Request, Serve, eventually, init, maintain, tenure};

const SOURCE: &str = "TENURE_KEK_SOURCE";

/// A store whose KEK is in shares, three of five.
struct Place {
    _folder: tempfile::TempDir,
    data: PathBuf,
    shares: Vec<String>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let made = Output::of(&mut init_with(&data, &["--json", "--shares", "5"]));
        assert_eq!(made.code, Some(0), "{made:?}");
        let answer: Value = serde_json::from_str(&made.stdout).expect("JSON");
        assert_eq!(answer["threshold"], 3);
        let shares = answer["shares"].as_array().expect("a list").iter();
        let shares: Vec<_> =
            shares.map(|share| share.as_str().expect("a text").to_owned()).collect();
        assert_eq!(shares.len(), 5);
        Self { _folder: folder, data, shares }
    }

    fn serve(&self) -> Serve {
        Serve::start_with(&self.data, |command| {
            command.env(SOURCE, "shamir").env("RUST_LOG", "trace").arg("--data").arg(&self.data);
        })
    }

    /// Gives the share at this place to the running server.
    fn unseal(&self, place: usize) -> Output {
        give(&self.data, &self.shares[place])
    }

    fn unseal_wholly(&self) {
        for place in [0, 2, 4] {
            let given = self.unseal(place);
            assert_eq!(given.code, Some(0), "{given:?}");
        }
    }

    /// Offline, by shares on standard input.
    fn with_shares(&self, args: &[&str], places: &[usize]) -> Output {
        let lines: String =
            places.iter().map(|place| format!("{}\n", self.shares[*place])).collect();
        let mut command = tenure();
        command.args(args).env(SOURCE, "shamir").arg("--data").arg(&self.data);
        Output::with_input(&mut command, &lines)
    }

    fn kek(&self) -> (StoreId, Kek) {
        let shares = self.shares.iter().take(3).map(|text| Share::parse(text).expect("a share"));
        let shares: Vec<_> = shares.collect();
        (shares[0].store(), combine(&shares).expect("three of five"))
    }
}

fn init_with(data: &Path, args: &[&str]) -> Command {
    let mut command = tenure();
    command.env(SOURCE, "shamir").arg("init").args(args).arg("--data").arg(data);
    command
}

fn give(data: &Path, share: &str) -> Output {
    let mut command = tenure();
    Output::with_input(command.args(["unseal", "--data"]).arg(data), &format!("{share}\n"))
}

#[track_caller]
fn fails(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    assert_eq!(output.stdout, "", "{output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "no {word:?} in {output:?}");
    }
}

#[track_caller]
fn says(output: &Output, words: &[&str]) {
    assert_eq!(output.code, Some(0), "{output:?}");
    for word in words {
        assert!(output.stdout.contains(word), "no {word:?} in {output:?}");
    }
}

fn mint(serve: &Serve, tenant: &str) -> String {
    says(&serve.run(&["tenant", "create", tenant]), &["created"]);
    token(serve, tenant)
}

fn token(serve: &Serve, tenant: &str) -> String {
    let minted = serve.run(&["token", "mint", "--tenant", tenant, "--scope", "*"]);
    assert_eq!(minted.code, Some(0), "{minted:?}");
    minted.stdout.trim().to_owned()
}

fn put(name: &str, value: &str, token: &str) -> Request {
    let body = json!({ "value": value }).to_string();
    Request::put(format!("/api/acme/secrets/{name}"), body).bearer(token)
}

fn get(name: &str, token: &str) -> Request {
    Request::get(format!("/api/acme/secrets/{name}")).bearer(token)
}

fn is_sealed(answer: &Answer) -> bool {
    answer.status == 503 && answer.code() == "sealed"
}

#[test]
fn a_store_in_shares_is_served_when_three_operators_have_given_theirs() {
    let place = Place::new();
    let serve = place.serve();
    assert!(is_sealed(&serve.send(&Request::get("/readyz"))));
    assert_eq!(serve.send(&Request::get("/healthz")).status, 200);
    says(&serve.run(&["status"]), &["state       sealed\n", "0 of 3 shares", "tenure unseal"]);

    says(&place.unseal(3), &["1 of 3 shares are given, 2 are missing", "10 minutes"]);
    fails(&place.unseal(3), 2, &["share number 4 was given already"]);
    let others = Place::new();
    fails(&give(&place.data, &others.shares[0]), 2, &["a share of another store"]);
    let (store, kek) = place.kek();
    let again = split(&kek, store, ShareSet::draw(3, 5).expect("a set"));
    fails(&give(&place.data, &again[0].to_text()), 2, &["of another set than the present one"]);
    let typo = place.shares[0].replace("-1-", "-1-Z");
    fails(&give(&place.data, &typo), 2, &["not whole"]);
    let typo = place.shares[0].replacen(['2', '3', '4', '5', '6'], "7", 1);
    fails(&give(&place.data, &typo), 2, &["a typo", "compare it"]);
    fails(&give(&place.data, "correct horse"), 2, &["this is not a share"]);
    fails(&give(&place.data, ""), 2, &["this is not a share"]);
    says(
        &serve.run(&["status", "--json"]),
        &[
            r#""sealed":true"#,
            r#""serving":true"#,
            r#""shares":{"shares":5,"threshold":3,"given":1,"missing":2}"#,
        ],
    );

    says(&place.unseal(0), &["2 of 3 shares are given, 1 are missing"]);
    says(&serve.run(&["unseal", "--reset"]), &["0 of 3 shares are given"]);
    place.unseal_wholly();
    says(&place.unseal(1), &["not sealed"]);
    says(&serve.run(&["status"]), &["unsealed, writable"]);

    let token = mint(&serve, "acme");
    assert_eq!(serve.send(&put("kept", "value", &token)).status, 204);
    let log = serve.log();
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let serve = place.serve();
    assert!(is_sealed(&serve.send(&get("kept", &token))), "a restart seals");
    place.unseal_wholly();
    assert_eq!(serve.send(&get("kept", &token)).json(), "value");
    let log = log + &serve.log();
    for share in place.shares.iter().chain(&others.shares) {
        assert!(!log.contains(&share[60..]), "a share is in the log");
    }
    assert!(log.contains("share number 4 was given; 2 are missing"), "the log says how far it is");
}

/// A wrong share can only be told when all are there; then nothing is kept.
#[test]
fn three_shares_that_are_not_the_key_are_dropped_together() {
    let place = Place::new();
    let serve = place.serve();
    let own = Share::parse(&place.shares[0]).expect("a share");
    // As if its holder had a copy that somebody altered, checksum and all.
    let set = ShareSet { id: own.set(), threshold: 3, shares: 5 };
    let wrong = split(&Kek::generate(), own.store(), set);
    says(&give(&place.data, &wrong[0].to_text()), &["1 of 3"]);
    says(&place.unseal(1), &["2 of 3"]);
    fails(&place.unseal(2), 2, &["at least one of them is wrong", "all were dropped"]);
    assert!(is_sealed(&serve.send(&Request::get("/readyz"))));
    says(&serve.run(&["status"]), &["0 of 3 shares"]);
    place.unseal_wholly();
    assert_eq!(serve.send(&Request::get("/readyz")).status, 200);
}

#[test]
fn a_sealed_server_answers_every_call_alike_whoever_asks() {
    let place = Place::new();
    let serve = place.serve();
    place.unseal_wholly();
    let token = mint(&serve, "acme");
    let key = ["--json", "api-key", "create", "--tenant", "acme", "--scope", "*"];
    let key: Value = serde_json::from_str(&serve.run(&key).stdout).expect("JSON");
    let key = key["key"].as_str().expect("a key");
    says(&serve.run(&["seal", "--yes"]), &["sealed", "0 of 3 shares"]);
    let mut client = Client::new(serve.address);
    for route in ROUTES {
        let target = route.template.replace("{tenantId}", "acme").replace("{key}", "k");
        let target = target.replace("{file}", "index.css").replace("{id}", "0000000000000000");
        assert!(!target.contains('{'), "{target}: what stands for this brace?");
        let request = || match route.method.as_str() {
            method @ ("PUT" | "POST") => Request::new(method, target.as_str())
                .body(r#"{"value":"x"}"#)
                .header("Content-Type", "application/json"),
            method => Request::new(method, target.as_str()),
        };
        let answers = [
            request(),
            request().bearer("garbage"),
            request().bearer(&token),
            request().api_key(key),
            request().bearer(&token).api_key(key),
        ];
        let answers = answers.map(|request| client.send(&request));
        answers.iter().for_each(Answer::assert_proper);
        let answers = answers.map(|answer| answer.comparable());
        for answer in &answers {
            assert_eq!(answer, &answers[0], "{target}");
        }
        if route.endpoint == Endpoint::Health {
            assert_eq!(answers[0].status, 200);
        } else {
            assert_eq!(answers[0].status, 503, "{target}");
            assert_eq!(answers[0].header("retry-after"), Some("30"));
            assert!(route.method == "HEAD" || answers[0].code() == "sealed");
        }
    }
}

#[test]
fn commands_to_a_sealed_server_say_to_unseal_it() {
    let place = Place::new();
    let serve = place.serve();
    for command in [
        ["tenant", "list"].as_slice(),
        &["tenant", "create", "acme"],
        &["token", "roots"],
        &["sweep"],
        &["verify"],
        &["compact"],
        &["clock", "accept"],
        &["backup", "create", "/nowhere/never.backup"],
    ] {
        let output = serve.run(command);
        // The file of a backup is opened first.
        if command[0] != "backup" {
            fails(&output, 5, &["the server is sealed; run 'tenure unseal'"]);
        }
    }
    fails(&serve.run(&["seal"]), 2, &["say --yes"]);
    says(&serve.run(&["seal", "--yes"]), &["sealed"]);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    fails(&maintain(&place.data, &["unseal"]), 5, &["no server runs"]);
    fails(&maintain(&place.data, &["seal", "--yes"]), 5, &["no server runs"]);
}

/// One secret, its only writer, and what was acknowledged of it last.
fn write_and_read(
    serve: &Serve,
    name: &str,
    token: &str,
    stop: &AtomicBool,
    served: &AtomicU64,
    refused: &AtomicU64,
) -> Option<String> {
    let mut client = Client::new(serve.address);
    let mut acknowledged = None;
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let value = format!("{name} {round}");
        let answer = client.send(&put(name, &value, token));
        if answer.status == 204 {
            acknowledged = Some(value);
        } else {
            assert!(is_sealed(&answer), "{answer:?}");
            refused.fetch_add(1, Ordering::SeqCst);
        }
        let answer = client.send(&get(name, token));
        if answer.status == 200 {
            assert_eq!(Some(answer.json().as_str().expect("a value")), acknowledged.as_deref());
            served.fetch_add(1, Ordering::SeqCst);
        } else if acknowledged.is_some() || answer.status != 404 {
            assert!(is_sealed(&answer), "{answer:?}");
            refused.fetch_add(1, Ordering::SeqCst);
        }
    }
    acknowledged
}

#[test]
fn sealing_and_unsealing_under_load_loses_nothing() {
    const CLIENTS: usize = 16;
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start(&data);
    let token = mint(&serve, "acme");
    let (stop, served, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let more = |counter: &AtomicU64| {
        let before = counter.load(Ordering::SeqCst);
        eventually("more answers", || {
            (counter.load(Ordering::SeqCst) > before + 200).then_some(())
        });
    };
    let kept: BTreeMap<String, Option<String>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let name = format!("of-{client}");
                let (serve, token) = (&serve, &token);
                let (stop, served, refused) = (&stop, &served, &refused);
                scope.spawn(move || {
                    let kept = write_and_read(serve, &name, token, stop, served, refused);
                    (name, kept)
                })
            })
            .collect();
        for _ in 0..4 {
            more(&served);
            says(&serve.run(&["seal", "--yes"]), &["no key in memory", "reads its KEK again"]);
            more(&refused);
            says(&serve.run(&["unseal"]), &["the server serves"]);
        }
        more(&served);
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    assert_eq!(kept.len(), CLIENTS);
    let mut client = Client::new(serve.address);
    for (name, value) in kept {
        let value = value.expect("each wrote something");
        assert_eq!(client.send(&get(&name, &token)).json(), value.as_str(), "{name}");
    }
    assert!(refused.load(Ordering::SeqCst) > 800);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
}

/// A command that takes long does not keep the keys, nor one whose caller takes nothing.
#[test]
fn sealing_breaks_off_a_long_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start(&data);
    let token = mint(&serve, "acme");
    let mut client = Client::new(serve.address);
    let value = "v".repeat(60_000);
    // More than all buffers between the server and this test.
    for number in 0..200 {
        assert_eq!(client.send(&put(&format!("n{number}"), &value, &token)).status, 204);
    }
    let mut backup = tenure()
        .args(["backup", "create", "-", "--data"])
        .arg(&data)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    backup.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("it has begun");
    says(&serve.run(&["seal", "--yes"]), &["sealed"]);
    let ended = backup.wait_with_output().expect("the child is ours");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(5), "{said}");
    assert!(said.contains("sealed meanwhile") && said.contains("broken off"), "{said}");
    says(&serve.run(&["unseal"]), &["the server serves"]);
    assert_eq!(client.send(&get("n7", &token)).json(), value.as_str());
}

#[test]
fn a_server_whose_source_fails_starts_sealed_where_it_is_told_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let (kek, away) = (folder.path().join("data.kek"), folder.path().join("away"));
    fs::rename(&kek, &away).expect("ours");
    let mut refused = tenure();
    refused.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    fails(&Output::of(&mut refused), 2, &["there is no KEK at"]);
    let start = || {
        Serve::start_with(&data, |command| {
            command.env("TENURE_KEK_START_SEALED", "true").arg("--data").arg(&data);
        })
    };
    let serve = start();
    assert!(is_sealed(&serve.send(&Request::get("/readyz"))));
    assert!(serve.log().contains("there is no KEK at"), "{}", serve.log());
    says(&serve.run(&["status"]), &["sealed (there is no KEK at", "reads its KEK again"]);
    fails(&serve.run(&["unseal"]), 5, &["still sealed", "there is no KEK at"]);
    fs::write(&kek, "4a".repeat(32)).expect("ours");
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o600)).expect("ours");
    fails(&serve.run(&["unseal"]), 2, &["still sealed", "not the KEK of this store"]);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let serve = start();
    says(&serve.run(&["status"]), &["sealed (", "this is not the KEK of this store"]);
    fs::rename(&away, &kek).expect("ours");
    says(&serve.run(&["unseal"]), &["the server serves"]);
    assert_eq!(serve.send(&Request::get("/readyz")).status, 200);
    says(&serve.run(&["status"]), &["unsealed, writable"]);
    assert!(!serve.log().contains(&"4a".repeat(32)));
}

#[test]
fn without_a_server_shares_open_the_store_for_one_command() {
    let place = Place::new();
    says(&place.with_shares(&["tenant", "create", "acme"], &[0, 1, 2]), &["created"]);
    says(&place.with_shares(&["tenant", "list"], &[4, 1, 3]), &["acme"]);
    fails(
        &place.with_shares(&["tenant", "list"], &[4]),
        2,
        &["2 more shares are needed", "one on each line", "'tenure unseal'"],
    );
    fails(&place.with_shares(&["tenant", "list"], &[4, 4, 3]), 2, &["share number 5 was given"]);
    let mut plain = tenure();
    fails(
        &Output::of(plain.args(["tenant", "list", "--data"]).arg(&place.data)),
        2,
        &["no KEK at"],
    );
}

#[test]
fn a_share_typed_at_a_terminal_is_not_shown() {
    let place = Place::new();
    let serve = place.serve();
    let unseal = format!("{} unseal --data {}", env!("CARGO_BIN_EXE_tenure"), place.data.display());
    let mut terminal = Command::new("script")
        .args(["-qec", &unseal, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script exists");
    let mut shown = BufReader::new(terminal.stdout.take().expect("a pipe"));
    let mut asked = Vec::new();
    shown.read_until(b':', &mut asked).expect("a question");
    assert_eq!(
        String::from_utf8_lossy(&asked),
        "0 shares were given, 3 are missing. One of the 5:"
    );
    let mut typed = terminal.stdin.take().expect("a pipe");
    // It turns the echo off just after the question is there.
    eventually("the echo to be off", || hides(terminal.id()).then_some(()));
    typed.write_all(format!("{}\n", place.shares[0]).as_bytes()).expect("it reads");
    let mut rest = String::new();
    shown.read_to_string(&mut rest).expect("text");
    assert!(terminal.wait().expect("the child is ours").success(), "{rest}");
    assert!(rest.contains("1 of 3 shares are given"), "{rest}");
    assert!(!rest.contains(&place.shares[0][40..80]), "what was typed is shown");
    says(&serve.run(&["status"]), &["1 of 3"]);
}

/// Whether the terminal of the program that this one started shows nothing.
fn hides(script: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{script}/task/{script}/children"));
    let child = children.unwrap_or_default().split_whitespace().next().map(str::to_owned);
    let Some(child) = child else { return false };
    // The program is not dumpable: root alone may look at its descriptors.
    let stty = Command::new("stty").args(["-a", "-F", &format!("/proc/{child}/fd/0")]).output();
    String::from_utf8_lossy(&stty.expect("stty exists").stdout).contains("-echo ")
}

#[test]
fn shares_go_to_files_of_their_own_where_a_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, shares) = (folder.path().join("data"), folder.path().join("shares"));
    let named = shares.to_str().expect("a name");
    let inside = data.join("shares");
    let refused = init_with(&data, &["--shares-dir", inside.to_str().expect("a name")]);
    fails(&Output::of(&mut { refused }), 2, &["inside the data folder"]);
    let args = ["--shares", "3", "--threshold", "2", "--shares-dir", named];
    let made = Output::of(&mut init_with(&data, &args));
    says(&made, &["Any 2 of these 3 shares", "more than one share is lost", "tenure unseal"]);
    assert!(!made.stdout.contains("TENURE-SHARE"), "{made:?}");
    let read = |number: usize| {
        let path = shares.join(format!("share-{number}-of-3.txt"));
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        fs::read_to_string(path).expect("text")
    };
    let serve = Serve::start_with(&data, |command| {
        command.env(SOURCE, "shamir").arg("--data").arg(&data);
    });
    says(&give(&data, read(1).trim()), &["1 are missing"]);
    says(&give(&data, read(3).trim()), &["the server serves"]);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let again = Output::of(&mut init_with(&data, &["--shares-dir", named]));
    fails(&again, 4, &["initialized already"]);
    let other = folder.path().join("other");
    fails(&Output::of(&mut init_with(&other, &args)), 2, &["exists", "name an empty folder"]);
    fails(&Output::of(&mut init_with(&other, &["--threshold", "1"])), 2, &["at least 2"]);
    let mut plain = tenure();
    plain.args(["init", "--shares", "5", "--data"]).arg(&other);
    fails(&Output::of(&mut plain), 2, &["kek.source = \"shamir\""]);
}

#[test]
fn shares_are_shown_with_what_to_do_with_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = Output::of(&mut init_with(&folder.path().join("data"), &[]));
    says(&made, &["share 5 of 5\n\nTENURE-SHARE-1-", "Any 3 of these 5", "more than 2 shares are"]);
    let shares = made.stdout.lines().filter(|line| Share::parse(line).is_ok()).count();
    assert_eq!(shares, 5);
}

#[test]
fn a_store_whose_key_is_in_a_file_is_not_served_with_shares() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let mut serve = tenure();
    serve.env(SOURCE, "shamir").args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    fails(&Output::of(&mut serve), 2, &["comes from file, not from shares", "set kek.source"]);
}

/// Text that was printed, and in it the shares.
fn shares_in(printed: &Output) -> Vec<String> {
    let lines = printed.stdout.lines().filter(|line| Share::parse(line).is_ok());
    lines.map(str::to_owned).collect()
}

#[test]
fn a_backup_of_a_store_in_shares_is_checked_and_restored_with_them() {
    let mut place = Place::new();
    says(&place.with_shares(&["tenant", "create", "acme"], &[0, 1, 2]), &["created"]);
    let backup = place.data.with_extension("backup").display().to_string();
    says(&place.with_shares(&["backup", "create", &backup], &[2, 1, 0]), &["1 tenant"]);
    says(&place.with_shares(&["backup", "verify", &backup], &[4, 3, 2]), &["tenant acme"]);
    let too_few = place.with_shares(&["backup", "verify", &backup], &[4, 3]);
    fails(&too_few, 2, &["1 more shares are needed"]);
    place.data = place.data.with_file_name("restored");
    let restore = ["backup", "restore", &backup, "--credentials", "keep"];
    says(&place.with_shares(&restore, &[0, 2, 4]), &["restored 1 tenants"]);
    // Under the same shares.
    let serve = place.serve();
    assert!(is_sealed(&serve.send(&Request::get("/readyz"))));
    place.unseal_wholly();
    says(&serve.run(&["tenant", "list"]), &["acme"]);
}

#[test]
fn new_shares_replace_the_old_ones_while_the_server_serves() {
    let mut place = Place::new();
    let serve = place.serve();
    place.unseal_wholly();
    let token = mint(&serve, "acme");
    assert_eq!(serve.send(&put("a", "kept", &token)).status, 204);
    let rotate = |args: &[&str]| {
        let mut command = tenure();
        command.args(["kek", "rotate"]).args(args).env(SOURCE, "shamir");
        Output::of(command.arg("--data").arg(&place.data))
    };
    says(&rotate(&["--dry-run"]), &["would", "5 shares, of which 3"]);
    fails(&rotate(&["--threshold", "9"]), 2, &["--shares, --threshold"]);
    fails(&rotate(&["--new-kek", "x"]), 2, &["does not go with kek.source"]);
    let rotated = rotate(&["--shares", "4", "--threshold", "2"]);
    says(&rotated, &["Any 2 of these 4", "under a new KEK", "shares of before are of no use"]);
    let new = shares_in(&rotated);
    assert_eq!(new.len(), 4);
    assert_eq!(serve.send(&get("a", &token)).json(), "kept");
    says(&serve.run(&["seal", "--yes"]), &["sealed"]);
    fails(&place.unseal(0), 2, &["of another set"]);
    place.shares = new;
    says(&place.unseal(3), &["1 are missing"]);
    says(&place.unseal(1), &["the server serves"]);
    assert_eq!(serve.send(&get("a", &token)).json(), "kept");
    assert!(!place.shares.iter().any(|share| serve.log().contains(share)));
}

#[test]
fn a_store_goes_from_a_file_into_shares_while_it_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start(&data);
    let token = mint(&serve, "acme");
    assert_eq!(serve.send(&put("a", "kept", &token)).status, 204);
    fails(
        &serve.run(&["kek", "rewrap", "--to", "env", "--shares", "3"]),
        2,
        &["for a KEK in shares"],
    );
    let moved = serve.run(&["kek", "rewrap", "--to", "shamir"]);
    says(&moved, &["under a new KEK", "source = \"shamir\"", "backups made until now"]);
    let shares = shares_in(&moved);
    assert_eq!(shares.len(), 5);
    assert_eq!(serve.send(&get("a", &token)).json(), "kept");
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let mut with_file = tenure();
    with_file.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    fails(&Output::of(&mut with_file), 2, &["comes from shamir since", "set kek.source"]);
    let serve = Serve::start_with(&data, |command| {
        command.env(SOURCE, "shamir").arg("--data").arg(&data);
    });
    assert!(is_sealed(&serve.send(&get("a", &token))));
    shares[..2].iter().for_each(|share| says(&give(&data, share), &["missing"]));
    says(&give(&data, &shares[4]), &["the server serves"]);
    assert_eq!(serve.send(&get("a", &token)).json(), "kept");
}

#[test]
fn a_passphrase_unseals() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, typed) = (folder.path().join("data"), folder.path().join("typed"));
    fs::write(&typed, "correct horse battery\n").expect("ours");
    let with = |command: &mut Command, passphrase: &Path| {
        command.env(SOURCE, "passphrase").env("TENURE_KEK_PASSPHRASE_FD", "0");
        command.stdin(File::open(passphrase).expect("it is there")).arg("--data").arg(&data);
    };
    let run = |args: &[&str], passphrase: &Path| {
        let mut command = tenure();
        with(command.args(args), passphrase);
        Output::of(&mut command)
    };
    says(&run(&["init"], &typed), &["made a store"]);
    let serve = Serve::start_with(&data, |command| with(command, &typed));
    let token = mint(&serve, "acme");
    assert_eq!(serve.send(&put("a", "kept", &token)).status, 204);
    says(&serve.run(&["seal", "--yes"]), &["sealed"]);
    let wrong = folder.path().join("wrong");
    fs::write(&wrong, "correct horse batteries\n").expect("ours");
    fails(&run(&["unseal"], &wrong), 2, &["not the passphrase"]);
    assert!(is_sealed(&serve.send(&get("a", &token))));
    says(&run(&["unseal"], &typed), &["the server serves"]);
    assert_eq!(serve.send(&get("a", &token)).json(), "kept");
    assert!(!serve.log().contains("correct horse"));
}

/// Where root may look into it.
#[test]
fn after_sealing_no_key_is_in_the_memory_of_the_server() {
    let place = Place::new();
    let serve = place.serve();
    let (store, kek) = place.kek();
    let kek = hex::decode(kek.to_text().as_str()).expect("hexadecimal");
    let wrap = derived(store, &kek, b"tenure/v1/wrap");
    if found(&serve, &[&kek]).is_none() {
        return println!("the memory of another process cannot be read here");
    }
    place.unseal_wholly();
    let token = mint(&serve, "acme");
    for number in 0..200 {
        let name = format!("n{}", number % 10);
        assert_eq!(serve.send(&put(&name, "value", &token)).status, 204);
        assert_eq!(serve.send(&get(&name, &token)).status, 200);
    }
    let share = Share::parse(&place.shares[0]).expect("a share").to_text();
    let values: Vec<_> =
        place.shares.iter().map(|text| text.as_bytes()[60..100].to_vec()).collect();
    assert_eq!(*share, place.shares[0]);
    let looked_for: Vec<&[u8]> =
        [&kek, &wrap].into_iter().chain(&values).map(Vec::as_slice).collect();
    let open = found(&serve, &looked_for).expect("it was read before");
    assert!(open[1] > 0, "what wraps the DEKs is in memory while they are: {open:?}");
    says(&serve.run(&["seal", "--yes"]), &["no key in memory"]);
    let sealed = found(&serve, &looked_for).expect("it was read before");
    println!("open: {open:?}, sealed: {sealed:?}");
    assert!(sealed.iter().all(|count| *count == 0), "open: {open:?}, sealed: {sealed:?}");
}

/// `HKDF-SHA256(ikm = KEK, salt = store id, info = label)`, as docs/SECURITY.md has it.
fn derived(store: StoreId, kek: &[u8], label: &[u8]) -> Vec<u8> {
    let mut key = vec![0; 32];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, store.as_bytes()).extract(kek);
    let label = [label];
    let okm = prk.expand(&label, hkdf::HKDF_SHA256).expect("32 bytes");
    okm.fill(&mut key).expect("32 bytes");
    key
}

/// How often each is in the memory that a process can write to; `None` where that
/// must not be read.
fn found(serve: &Serve, needles: &[&[u8]]) -> Option<Vec<usize>> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", serve.pid())).ok()?;
    let mut memory = File::open(format!("/proc/{}/mem", serve.pid())).ok()?;
    let mut counts = vec![0; needles.len()];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut region = vec![0; usize::try_from(to - from).ok()?];
        memory.seek(SeekFrom::Start(from)).ok()?;
        // Some that are the kernel's cannot be read.
        if memory.read_exact(&mut region).is_err() {
            continue;
        }
        for (needle, count) in needles.iter().zip(&mut counts) {
            *count += occurrences(&region, needle);
        }
    }
    Some(counts)
}

/// By the standard library's search for a byte: one of ours would take a minute in a
/// test's build.
fn occurrences(region: &[u8], needle: &[u8]) -> usize {
    // Most of a memory is zeros.
    let anchor = needle.iter().position(|byte| *byte != 0).expect("no key is all zeros");
    let (mut rest, mut count) = (region, 0);
    while let Ok(1..) = rest.skip_until(needle[anchor]) {
        let begins = (region.len() - rest.len()).checked_sub(1 + anchor);
        let found = begins.and_then(|at| region.get(at..at + needle.len()));
        count += usize::from(found == Some(needle));
    }
    count
}
