//! Entries of the audit are copied to where others read them: all of them, whatever becomes
//! of the server or of the place, and nothing that the audit does not hold.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Client, Output, Request, Serve, ended, eventually, init, maintain, signal, tenure,
};

const VALUE: &str = "kept-to-itself-9f2c";

/// A store with a tenant acme, and where its audit is copied to.
struct Store {
    folder: tempfile::TempDir,
    data: PathBuf,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = init(folder.path());
        assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
        fs::create_dir(folder.path().join("logs")).expect("a folder");
        Self { folder, data }
    }

    fn copies(&self) -> PathBuf {
        self.folder.path().join("logs/audit.jsonl")
    }

    fn serve(&self) -> Serve {
        self.serve_with(|_| {})
    }

    fn serve_with(&self, adapt: impl FnOnce(&mut Command)) -> Serve {
        Serve::start_with(&self.data, |command| {
            command.arg("--data").arg(&self.data);
            command.env("TENURE_AUDIT_FILE_PATH", self.copies());
            adapt(command);
        })
    }

    /// Chain and number of each entry that is in the store, system and acme.
    fn stored(&self) -> BTreeSet<(Option<String>, u64)> {
        let mut all = BTreeSet::new();
        for tenant in [None, Some("acme")] {
            let of_tenant = tenant.map_or(vec![], |tenant| vec!["--tenant", tenant]);
            let args = [&["audit", "query", "--json"], of_tenant.as_slice()].concat();
            let found = maintain(&self.data, &args);
            assert_eq!(found.code, Some(0), "{found:?}");
            for line in found.stdout.lines() {
                all.insert((tenant.map(str::to_owned), number(&parse(line))));
            }
        }
        all
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn number(entry: &Value) -> u64 {
    entry["number"].as_u64().expect("a number")
}

fn place(entry: &Value) -> (Option<String>, u64) {
    (entry["chain"].as_str().map(str::to_owned), number(entry))
}

/// Where each line of a file is in the audit.
fn places(path: &Path) -> Vec<(Option<String>, u64)> {
    lines(path).iter().map(place).collect()
}

fn assert_once(places: &[(Option<String>, u64)]) {
    let once: BTreeSet<_> = places.iter().collect();
    assert_eq!(places.len(), once.len(), "one was copied twice");
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last one may be under way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(parse).collect()
}

fn mint(serve: &Serve) -> String {
    let minted = serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    assert_eq!(minted.code, Some(0), "{minted:?}");
    minted.stdout.trim().to_owned()
}

fn put(serve: &Serve, token: &str, name: &str) {
    let body = format!(r#"{{"value":"{VALUE}"}}"#);
    let put = Request::put(format!("/api/acme/secrets/{name}"), body).bearer(token);
    assert_eq!(serve.send(&put).status, 204);
}

/// Waits until a copy names this secret.
fn copied(path: &Path, name: &str) {
    eventually(name, || lines(path).iter().any(|line| line["name"] == name).then_some(()));
}

#[test]
fn a_file_has_each_entry_once() {
    let store = Store::new();
    let serve = store.serve();
    let token = mint(&serve);
    for n in 0..20 {
        put(&serve, &token, &format!("secret-{n}"));
        serve.send(&Request::get(format!("/api/acme/secrets/secret-{n}")).bearer(&token));
    }
    serve.send(&Request::get("/api/acme/secrets/none").bearer("not-a-token"));
    copied(&store.copies(), "secret-19");
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    // What came last is copied by the next start.
    let serve = store.serve();
    eventually("all entries", || {
        let all: BTreeSet<_> = places(&store.copies()).into_iter().collect();
        store.stored().is_subset(&all).then_some(())
    });
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert_once(&places(&store.copies()));

    let text = fs::read_to_string(store.copies()).expect("copies");
    assert!(!text.contains(VALUE) && !text.contains(&token), "{text}");
    assert_eq!(fs::metadata(store.copies()).expect("copies").mode() & 0o777, 0o600);
    // As a query has it.
    let query = maintain(&store.data, &["audit", "query", "--tenant", "acme", "--json"]);
    for line in query.stdout.lines() {
        let asked = parse(line);
        let copies = lines(&store.copies());
        let of_acme = |copy: &&Value| copy["chain"] == "acme" && number(copy) == number(&asked);
        assert_eq!(copies.iter().find(of_acme), Some(&asked));
    }
}

#[test]
fn nothing_is_missing_after_kills() {
    let store = Store::new();
    for round in 0..4 {
        let serve = store.serve();
        let token = mint(&serve);
        for n in 0..10 {
            put(&serve, &token, &format!("secret-{round}-{n}"));
        }
        if round % 2 == 0 {
            // In the middle of copying, or before.
            copied(&store.copies(), &format!("secret-{round}-0"));
        }
        serve.kill();
    }
    let serve = store.serve();
    let stored = store.stored();
    assert!(stored.len() >= 44, "{stored:?}");
    eventually("all entries", || {
        let all: BTreeSet<_> = places(&store.copies()).into_iter().collect();
        stored.is_subset(&all).then_some(())
    });
    drop(serve);
}

#[test]
fn without_its_cursors_it_repeats_and_loses_nothing() {
    let store = Store::new();
    let serve = store.serve();
    let token = mint(&serve);
    put(&serve, &token, "first");
    copied(&store.copies(), "first");
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let cursors = store.data.join("audit-file.cursors");
    assert_eq!(fs::metadata(&cursors).expect("cursors").mode() & 0o777, 0o600);
    fs::write(&cursors, "damaged").expect("written");
    let serve = store.serve();
    put(&serve, &token, "second");
    copied(&store.copies(), "second");
    let names: Vec<_> = lines(&store.copies()).iter().map(|line| line["name"].clone()).collect();
    assert_eq!(names.iter().filter(|name| **name == "first").count(), 2);
    assert!(serve.log().contains("copies of the audit begin anew"), "{}", serve.log());
}

#[test]
fn a_rotated_file_is_followed_by_a_new_one() {
    let store = Store::new();
    let serve = store.serve();
    let (token, path) = (mint(&serve), store.copies());
    put(&serve, &token, "before");
    copied(&path, "before");
    let old = path.with_extension("1");
    fs::rename(&path, &old).expect("renamed");
    serve.signal("HUP");
    // Without anything to be written to it.
    eventually("a new file", || path.exists().then_some(()));
    put(&serve, &token, "after");
    copied(&path, "after");
    let all: Vec<_> = places(&old).into_iter().chain(places(&path)).collect();
    assert_once(&all);
    assert_eq!(fs::metadata(&path).expect("copies").mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&old).expect("copies").contains("after"));
}

#[test]
fn a_folder_that_vanishes_keeps_no_request_waiting() {
    let store = Store::new();
    let serve = store.serve();
    let (token, logs) = (mint(&serve), store.folder.path().join("logs"));
    put(&serve, &token, "before");
    copied(&store.copies(), "before");
    fs::remove_dir_all(&logs).expect("removed");
    for n in 0..10 {
        put(&serve, &token, &format!("meanwhile-{n}"));
    }
    eventually("a warning", || serve.log().contains("wait in the store").then_some(()));
    fs::create_dir(&logs).expect("made");
    copied(&store.copies(), "meanwhile-9");
    let names: Vec<_> = lines(&store.copies()).iter().map(|line| line["name"].clone()).collect();
    for n in 0..10 {
        assert!(names.contains(&Value::from(format!("meanwhile-{n}"))), "{n}");
    }
    eventually("that it goes on", || serve.log().contains("go to").then_some(()));
    let log = serve.log();
    assert_eq!(log.matches("wait in the store").count(), 1, "{log}");
    assert!(log.contains("again") && !log.contains("meanwhile"), "{log}");
}

#[test]
fn a_full_disk_keeps_no_request_waiting() {
    let store = Store::new();
    let serve = Serve::start_with(&store.data, |command| {
        command.arg("--data").arg(&store.data);
        command.env("TENURE_AUDIT_FILE_PATH", "/dev/full");
        command.env("TENURE_METRICS_LISTEN", "127.0.0.1:0");
    });
    let token = mint(&serve);
    eventually("a warning", || serve.log().contains("No space left").then_some(()));
    for n in 0..10 {
        put(&serve, &token, &format!("meanwhile-{n}"));
    }
    // It was to no avail that a tenant waited for it, and is said so.
    assert_eq!(serve.run(&["tenant", "delete", "acme", "--yes"]).code, Some(0));
    eventually("a complaint", || {
        serve.log().contains("which is deleted: entries 0 to ").then_some(())
    });
    let metrics = metrics(&serve);
    for sample in ["tenure_audit_copies_failing{to=\"file\"} 1", "tenure_audit_uncopied_total"] {
        assert!(metrics.lines().any(|line| line.starts_with(sample)), "no {sample} in {metrics}");
    }
    assert_eq!(serve.stop_by("TERM").0, Some(0));
}

fn metrics(serve: &Serve) -> String {
    let log = serve.log();
    let (_, at) = log.split_once("metrics are at http://").expect("a listener");
    let address = at.split('/').next().and_then(|at| at.parse().ok()).expect("an address");
    Client::new(address).send(&Request::get("/metrics")).text()
}

#[test]
fn a_seal_ends_copies_and_an_unsealing_goes_on_with_them() {
    let store = Store::new();
    let serve = store.serve();
    let token = mint(&serve);
    put(&serve, &token, "before");
    // A follower that kept the keys would keep the seal waiting.
    assert_eq!(serve.run(&["seal", "--yes"]).code, Some(0));
    assert_eq!(serve.run(&["unseal"]).code, Some(0));
    put(&serve, &token, "after");
    copied(&store.copies(), "after");
    assert_once(&places(&store.copies()));
}

#[test]
fn a_hashed_name_is_told_by_no_copy() {
    let store = Store::new();
    let serve = store.serve_with(|command| {
        command.env("TENURE_AUDIT_NAMES", "hashed");
    });
    let token = mint(&serve);
    put(&serve, &token, "db-password-of-acme");
    serve.send(&Request::get("/api/acme/secrets/db-password-of-acme").bearer(&token));
    let names = eventually("two copies", || {
        let of_reads = |line: &Value| line["op"] == "secret.read" || line["op"] == "secret.write";
        let found = lines(&store.copies());
        let names: Vec<_> = found.iter().filter(|line| of_reads(line)).collect();
        (names.len() == 2)
            .then(|| names.iter().map(|line| line["name"].clone()).collect::<Vec<_>>())
    });
    assert_eq!(names[0], names[1]);
    assert_eq!(names[0].as_str().map(str::len), Some(32));
    let text = fs::read_to_string(store.copies()).expect("copies");
    assert!(!text.contains("db-password"), "{text}");
}

#[test]
fn what_is_left_of_a_tenant_is_copied_before_it_goes() {
    let store = Store::new();
    let serve = store.serve();
    let token = mint(&serve);
    for n in 0..5 {
        put(&serve, &token, &format!("last-{n}"));
    }
    assert_eq!(serve.run(&["tenant", "delete", "acme", "--yes"]).code, Some(0));
    // When it is gone they are there.
    let of_acme: Vec<_> =
        places(&store.copies()).into_iter().filter(|(chain, _)| chain.is_some()).collect();
    assert_eq!(of_acme.len(), 5, "{of_acme:?}");
}

#[test]
fn a_reload_changes_where_copies_go() {
    let store = Store::new();
    let file = store.folder.path().join("tenure.toml");
    let other = store.folder.path().join("logs/other.jsonl");
    let configure = |path: &Path| {
        let text = format!(
            "data = {:?}\nkek.file = {:?}\n[audit.file]\npath = {path:?}\n",
            store.data,
            store.data.with_extension("kek")
        );
        fs::write(&file, text).expect("written");
    };
    configure(&store.copies());
    let serve = Serve::start_with(&store.data, |command| {
        command.arg("--config").arg(&file);
    });
    let token = mint(&serve);
    put(&serve, &token, "before");
    copied(&store.copies(), "before");
    configure(&other);
    serve.signal("HUP");
    eventually("the change", || serve.log().contains("audit.file.path").then_some(()));
    put(&serve, &token, "after");
    copied(&other, "after");
    let names: Vec<_> = lines(&other).iter().map(|line| line["name"].clone()).collect();
    assert!(!names.contains(&Value::from("before")), "it goes on where the other ended");
}

#[test]
fn what_cannot_be_written_to_is_refused_by_a_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |path: &str| {
        let mut command = tenure();
        command.args(["config", "check"]).env("TENURE_AUDIT_FILE_PATH", path);
        Output::of(command.env("TENURE_DATA", folder.path().join("data")))
    };
    let inside = |name: &str| folder.path().join(name).display().to_string();
    check("audit.jsonl").assert_fails(2, &["audit.file.path", "not an absolute path"]);
    check(&inside("none/audit.jsonl")).assert_fails(2, &["audit.file.path", "is no folder"]);
    check(&inside("")).assert_fails(2, &["audit.file.path", "that is a folder"]);
    assert_eq!(check(&inside("audit.jsonl")).code, Some(0));
    assert!(!folder.path().join("audit.jsonl").exists(), "a check writes nothing");
}

/// Messages of syslog that came up to one that names this secret.
fn received(socket: &UnixDatagram, name: &str) -> Vec<Value> {
    let mut buffer = vec![0; 65_536];
    let mut all: Vec<Value> = Vec::new();
    while all.last().is_none_or(|entry| entry["name"] != name) {
        let bytes = socket.recv(&mut buffer).expect("a message");
        let message = String::from_utf8(buffer[..bytes].to_vec()).expect("UTF-8");
        assert!(!message.contains(VALUE), "{message}");
        let (header, entry) = message.split_once("]: ").expect("a header");
        assert!(header.starts_with("<158>") && header.contains(" tenure["), "{message}");
        all.push(parse(entry));
    }
    all
}

#[test]
fn syslog_has_what_came_while_nobody_listened() {
    let store = Store::new();
    let path = store.folder.path().join("log");
    let serve = Serve::start_with(&store.data, |command| {
        command.arg("--data").arg(&store.data);
        command.env("TENURE_AUDIT_SYSLOG_SOCKET", &path);
        command.env("TENURE_AUDIT_SYSLOG_FACILITY", "local3");
    });
    let token = mint(&serve);
    put(&serve, &token, "before");
    eventually("a warning", || serve.log().contains("wait in the store").then_some(()));
    let listen = || {
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
        socket
    };
    let first = listen();
    let mut all = received(&first, "before");
    // It is started again.
    drop(first);
    fs::remove_file(&path).expect("removed");
    let second = listen();
    put(&serve, &token, "after");
    all.extend(received(&second, "after"));
    let found: Vec<_> = all.iter().map(place).collect();
    let once: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(found.len(), once.len(), "one was told twice");
    let of_acme: Vec<_> = found.iter().filter(|(chain, _)| chain.is_some()).collect();
    assert_eq!(of_acme.len(), 2, "{found:?}");
    assert!(store.stored().is_subset(&once));
}

/// How messages are written, and what rsyslog is told so that it reads them.
#[derive(Clone, Copy)]
struct Reading {
    format: &'static str,
    /// Of its input, beside the socket.
    options: &'static str,
    /// What stands behind the header.
    text: &'static str,
}

/// As on /dev/log: the blank behind the header is of the message there.
const LOCAL: Reading = Reading { format: "local", options: "", text: "%msg:2:$%" };
const RFC_5424: Reading = Reading {
    format: "rfc5424",
    options: "UseSpecialParser=\"off\" ParseHostname=\"on\"",
    text: "%msg%",
};

/// rsyslog with a socket of its own, until this is dropped.
struct Rsyslog(Child);

impl Rsyslog {
    /// What it takes from `socket` it appends to `file`, a line each: what is behind the header.
    fn start(socket: &Path, file: &Path, reading: Reading) -> Self {
        let Reading { format: _, options, text } = reading;
        let folder = file.parent().expect("a folder");
        let configuration = folder.join("rsyslog.conf");
        let rules = format!(
            "global(workDirectory={folder:?})\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imuxsock\" Socket={socket:?} {options})\n\
             template(name=\"text\" type=\"string\" string=\"{text}\\n\")\n\
             if $programname == \"tenure\" and $syslogfacility-text == \"local3\" then \
             action(type=\"omfile\" file={file:?} template=\"text\")\n"
        );
        fs::write(&configuration, rules).expect("written");
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.args(["-n", "-i", "NONE", "-f"]).arg(&configuration);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let rsyslog = Self(child.expect("rsyslogd is there: ./tests/run installs it"));
        eventually("rsyslog", || UnixDatagram::unbound().ok()?.connect(socket).ok());
        rsyslog
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        signal(self.0.id(), "TERM");
        ended(&mut self.0);
    }
}

#[test]
fn rsyslog_as_it_comes_takes_what_a_file_has_byte_for_byte() {
    assert_received_by_rsyslog(LOCAL);
}

#[test]
fn rsyslog_that_is_told_to_reads_rfc_5424() {
    assert_received_by_rsyslog(RFC_5424);
}

fn assert_received_by_rsyslog(reading: Reading) {
    let store = Store::new();
    let logs = store.folder.path().join("logs");
    let (socket, file) = (logs.join("socket"), logs.join("received"));
    let rsyslog = Rsyslog::start(&socket, &file, reading);
    let serve = store.serve_with(|command| {
        command.env("TENURE_AUDIT_SYSLOG_SOCKET", &socket);
        command.env("TENURE_AUDIT_SYSLOG_FACILITY", "local3");
        command.env("TENURE_AUDIT_SYSLOG_FORMAT", reading.format);
    });
    // What a daemon could take for something of its own.
    let subject = "J\u{f6}rg \"x\" %msg% #012 \\n {$} <1>";
    let minted =
        serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*", "--subject", subject]);
    let token = minted.stdout.trim();
    for n in 0..50 {
        put(&serve, token, &format!("secret-{n}"));
    }
    copied(&store.copies(), "secret-49");
    copied(&file, "secret-49");
    // It is started again, and has what came meanwhile.
    drop(rsyslog);
    put(&serve, token, "meanwhile");
    let _rsyslog = Rsyslog::start(&socket, &file, reading);
    copied(&file, "meanwhile");
    copied(&store.copies(), "meanwhile");
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let copies = fs::read_to_string(store.copies()).expect("copies");
    let of_subject = format!("\"subject\":{}", serde_json::json!(subject));
    assert!(copies.contains(&of_subject), "{copies}");
    let last = copies.lines().count();
    eventually("the last of them", || {
        let received = fs::read_to_string(&file).ok()?;
        (received.lines().count() >= last).then_some(())
    });
    let received = fs::read_to_string(&file).expect("they came");
    let once = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(once(&received), once(&copies));
}

/// A disk of 128 KiB in memory, which is there for who knows its holder.
struct SmallDisk {
    holder: Child,
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where this user may mount nothing.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        // Of users too: a server without the capabilities of root gets there only so.
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user"]);
        let mount = "mount -t tmpfs -o size=128k,mode=0700 none \"$0\"; echo mounted; exec cat";
        unshare.args(["--mount", "sh", "-ec", mount]).arg(folder.path());
        let mut holder =
            unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare exists");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut said).expect("it is read");
        if said == "mounted\n" {
            return Some(Self { holder, folder });
        }
        ended(&mut holder);
        let required = ["CI", "TENURE_TEST_REQUIRE_MACHINE"];
        if let Some(name) = required.into_iter().find(|name| std::env::var_os(name).is_some()) {
            panic!("a full disk needs a namespace of mounts, and {name} asks for it; run as root");
        }
        eprintln!("\n*** SKIPPED: a full disk was NOT tested: there is no namespace of mounts.\n");
        None
    }

    fn path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.folder.path().strip_prefix("/").expect("it is absolute"))
    }

    /// Takes all that is free.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.path().join("ballast")).expect("a file");
        let full = std::io::copy(&mut std::io::repeat(b'x'), &mut ballast).expect_err("an end");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    fn free(&self) {
        fs::remove_file(self.path().join("ballast")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

#[test]
fn a_disk_that_was_full_has_every_entry_and_no_half_line() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Store::new();
    let path = disk.path().join("audit.jsonl");
    let serve = store.serve_with(|command| {
        command.env("TENURE_AUDIT_FILE_PATH", &path);
    });
    let token = mint(&serve);
    for round in 0..3 {
        put(&serve, &token, &format!("before-{round}"));
        copied(&path, &format!("before-{round}"));
        let (stood, warned) =
            (fs::read(&path).expect("copies"), serve.log().matches("wait in").count());
        disk.fill();
        // More than is left in the file's last page.
        for n in 0..15 {
            put(&serve, &token, &format!("meanwhile-{round}-{n}"));
        }
        eventually("a warning", || (serve.log().matches("wait in").count() > warned).then_some(()));
        let now = fs::read(&path).expect("copies");
        assert!(now.starts_with(&stood) && now.ends_with(b"\n"), "half a line");
        disk.free();
        copied(&path, &format!("meanwhile-{round}-14"));
    }
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let text = fs::read_to_string(&path).expect("copies");
    let all: BTreeSet<_> = text.lines().map(|line| place(&parse(line))).collect();
    // Whatever the next start adds.
    let stored = store.stored();
    assert!(stored.len() >= 48 && stored.is_subset(&all), "{} of {}", all.len(), stored.len());
}

#[test]
fn a_program_that_takes_over_goes_on_with_copies() {
    let store = Store::new();
    let serve = store.serve();
    let token = mint(&serve);
    put(&serve, &token, "before");
    serve.signal("USR2");
    eventually("the next program", || (serve.log().matches("serving ").count() == 2).then_some(()));
    put(&serve, &token, "after");
    copied(&store.copies(), "after");
    assert_once(&places(&store.copies()));
    assert!(lines(&store.copies()).iter().any(|line| line["name"] == "before"));
}
