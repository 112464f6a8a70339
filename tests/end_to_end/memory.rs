//! What stands in the memory of a server, and what may be swapped of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::keys::{Keys, kek_of};
use crate::support::{
    Client, Output, Random, Request, Serve, ended, eventually, init, maintain, signal, tenure,
};

/// Whether the memory of others can be read and all of ours locked. A container may
/// forbid it; then these tests say so, and under CI and in `tests/run` they fail.
fn permitted(what: &str) -> bool {
    let may = rustix::thread::capabilities(None).expect("a process has capabilities").effective;
    let needed =
        rustix::thread::CapabilitySet::SYS_PTRACE | rustix::thread::CapabilitySet::IPC_LOCK;
    if may.contains(needed) {
        return true;
    }
    let required = ["CI", "TENURE_TEST_REQUIRE_MEMORY"];
    if let Some(name) = required.into_iter().find(|name| std::env::var_os(name).is_some()) {
        panic!("{what} needs CAP_SYS_PTRACE and CAP_IPC_LOCK, and {name} asks for it; run as root");
    }
    eprintln!("\n*** SKIPPED: {what} was NOT tested: it needs CAP_SYS_PTRACE and CAP_IPC_LOCK.\n");
    false
}

/// How often each of these stands in the memory of a process.
fn counted(pid: u32, needles: &[&[u8]]) -> Vec<usize> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/memory/count.py");
    let mut command = Command::new("python3");
    command.arg(program).arg(pid.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("python3 is there");
    let lines: String = needles.iter().map(|needle| hex::encode(needle) + "\n").collect();
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(lines.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the memory of {pid} can be read");
    let counts = String::from_utf8(output.stdout).expect("numbers");
    counts.lines().map(|line| line.parse().expect("a number")).collect()
}

/// The command under these limits: `ulimit -l`, in KiB, and without the capability that
/// would lift it.
fn limited(locked: &str, command: &Command) -> Command {
    let shell = if rustix::process::geteuid().is_root() {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "bash"]);
        setpriv
    } else {
        Command::new("bash")
    };
    in_bash(&format!("ulimit -l {locked}"), shell, command)
}

/// `first` in a shell, which then becomes the command.
fn in_bash(first: &str, mut shell: Command, command: &Command) -> Command {
    shell.args(["-c", &format!("{first} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// In KiB.
fn status_of(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a known field");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

fn serve(data: &Path, adapt: impl FnOnce(&mut Command)) -> Serve {
    Serve::start_with(data, |command| {
        command.arg("--data").arg(data);
        adapt(command);
    })
}

#[test]
fn all_memory_is_locked_where_that_is_allowed() {
    if !permitted("locking all memory") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let off = serve(&data, |command| {
        command.env("TENURE_MEMORY_LOCK", "off");
    });
    let (locked, resident) = (status_of(off.pid(), "VmLck:"), status_of(off.pid(), "VmRSS:"));
    assert_eq!(locked, 0);
    let (_, log) = off.stop_by("TERM");
    assert!(log.contains("may be swapped, as memory.lock is \"off\""), "{log}");
    let on = serve(&data, |command| {
        command.env("TENURE_MEMORY_LOCK", "required");
    });
    let (locked, then) = (status_of(on.pid(), "VmLck:"), status_of(on.pid(), "VmRSS:"));
    assert!(locked >= then, "{locked} KiB are locked, {then} are resident");
    // Locked as it is used, not as it is asked for.
    assert!(then < resident * 3 / 2, "{resident} KiB without, {then} with");
    println!("resident: {resident} KiB, and {then} locked");
    let (_, log) = on.stop_by("TERM");
    assert!(log.contains("memory is locked: nothing is swapped"), "{log}");
}

#[test]
fn under_a_limit_keys_are_locked_as_far_as_it_goes_and_the_start_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let few = serve(&data, |command| *command = limited("4096", command));
    let locked = status_of(few.pid(), "VmLck:");
    assert!((4..=4096).contains(&locked), "{locked} KiB");
    let (_, log) = few.stop_by("TERM");
    assert!(log.contains("keys are locked, values may be swapped: LimitMEMLOCK"), "{log}");

    let none = serve(&data, |command| *command = limited("0", command));
    assert_eq!(status_of(none.pid(), "VmLck:"), 0);
    let (_, log) = none.stop_by("TERM");
    assert!(log.contains("WARN  keys may be swapped: the limit"), "{log}");

    let mut required = tenure();
    required.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    required.env("TENURE_MEMORY_LOCK", "required");
    let refused = Output::of(&mut limited("4096", &required));
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused.stderr.contains("the limit is 4096 KiB; set LimitMEMLOCK=infinity"),
        "{refused:?}"
    );
}

/// Writes and reads it, with and without what JSON escapes, and goes away.
fn burst(address: std::net::SocketAddr, tenant: &str, token: &str, marker: &str) {
    std::thread::scope(|threads| {
        for client in 0..4 {
            threads.spawn(move || {
                let mut connection = Client::new(address);
                let long = "z".repeat(20_000);
                for n in 0..25 {
                    let end = ["", "\n\"", "\u{e4}", &long][n % 4];
                    let path = format!("/api/{tenant}/secrets/n{client}-{}", n % 5);
                    let body = json!({ "value": format!("{marker}{end}") }).to_string();
                    let put = Request::put(path.clone(), body).bearer(token);
                    assert_eq!(connection.send(&put).status, 204);
                    let get = Request::get(path).bearer(token);
                    assert!(connection.send(&get).text().contains(marker));
                    let bare = get.header("Accept", "text/plain");
                    assert!(connection.send(&bare).text().contains(marker));
                    let value = format!("{marker}{end}");
                    let of = |half| json!({ "name": format!("p{client}-{half}"), "value": value });
                    let both = json!({ "secrets": [of(0), of(1)] }).to_string();
                    let post = Request::post(format!("/api/{tenant}/secrets"), both);
                    assert_eq!(connection.send(&post.bearer(token)).status, 200);
                }
            });
        }
    });
}

#[test]
fn a_plaintext_and_its_token_are_nowhere_once_their_connections_have_ended() {
    if !permitted("reading a server's memory") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start(&data);
    let (token, marker) = (acme(&serve), marker());
    let (token, needles) = (token.as_str(), [marker.as_bytes(), token.as_bytes()]);

    let mut open = Client::new(serve.address);
    let path = "/api/acme/secrets/kept-open";
    let body = json!({ "value": marker }).to_string();
    assert_eq!(open.send(&Request::put(path, body).bearer(token)).status, 204);
    let held = counted(serve.pid(), &needles);
    assert!(held.iter().all(|count| (1..=2).contains(count)), "an open connection's: {held:?}");
    burst(serve.address, "acme", token, &marker);
    drop(open);
    wiped(&serve, &needles);
}

#[test]
fn nor_are_they_where_they_came_over_tls() {
    if !permitted("reading a server's memory") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    fs::write(&certificate, made.cert.pem()).expect("a file");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    let serve = serve(&data, |command| {
        command.env("TENURE_TLS_CERTIFICATE", &certificate).env("TENURE_TLS_KEY", &key);
    });
    let (token, marker) = (acme(&serve), marker());
    let body = json!({ "value": format!("{marker}{}", "z".repeat(20_000)) }).to_string();
    let curl = |adapt: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "30"]);
        curl.args(["-H", &format!("Authorization: Bearer {token}"), "--cacert"]).arg(&certificate);
        curl.args(adapt).arg(format!("https://{}/api/acme/secrets/n", serve.address));
        let output = Output::of(&mut curl);
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout
    };
    for _ in 0..10 {
        curl(&["-X", "PUT", "-H", "Content-Type: application/json", "-d", &body]);
        assert!(curl(&[]).contains(&marker));
    }
    wiped(&serve, &[marker.as_bytes(), token.as_bytes()]);
}

/// Makes the tenant acme, and a token for all of it.
fn acme(serve: &Serve) -> String {
    assert_eq!(serve.run(&["tenant", "create", "acme"]).code, Some(0));
    let minted = serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    assert_eq!(minted.code, Some(0), "{minted:?}");
    minted.stdout.trim().to_owned()
}

/// A text that is nowhere else.
fn marker() -> String {
    let mut random = Random::seeded();
    format!("marker-{:016x}-{:016x}", random.below(u64::MAX), random.below(u64::MAX))
}

/// Waits until none of a plaintext and a token is left: a server hears a moment later that
/// a connection has ended.
fn wiped(serve: &Serve, needles: &[&[u8]; 2]) {
    eventually("the memory to be wiped", || {
        let left = counted(serve.pid(), needles);
        println!("plaintexts, tokens: {left:?}");
        (left == [0, 0]).then_some(())
    });
}

#[test]
fn keys_are_where_the_documents_say_and_gone_with_their_tenant() {
    if !permitted("reading a server's memory") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    for tenant in ["acme", "beta"] {
        assert_eq!(maintain(&data, &["tenant", "create", tenant]).code, Some(0));
    }
    let backup = folder.path().join("b");
    let made = maintain(&data, &["backup", "create", backup.to_str().expect("a plain path")]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let keys = Keys::of(&backup, &kek_of(&data));
    let kek = fs::read_to_string(kek_of(&data)).expect("it is there").trim().to_owned();
    let serve = Serve::start(&data);

    let raw = |key: &String| hex::decode(key).expect("hexadecimal");
    let count = |keys: &[String]| {
        let keys: Vec<_> = keys.iter().map(raw).collect();
        counted(serve.pid(), &keys.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    assert_eq!(counted(serve.pid(), &[kek.as_bytes(), &raw(&kek)]), [0, 0], "the KEK");
    assert_eq!(count(&keys.derived), [1, 1], "what it becomes");
    assert_eq!(count(&keys.roots), [1], "the root that signs tokens");
    assert_eq!(count(&keys.signing), [1], "the key that signs checkpoints of the audit");
    assert_eq!(serve.run(&["audit", "head"]).code, Some(0));
    assert_eq!(count(&keys.signing), [1], "the same once it has signed");
    for (tenant, keys) in &keys.tenants {
        assert_eq!(count(&keys.plain), [1, 1], "DEK and seed of '{tenant}'");
    }
    assert_eq!(serve.run(&["tenant", "delete", "acme", "--yes"]).code, Some(0));
    eventually("the keys to be wiped", || {
        (count(&keys.tenants["acme"].plain) == [0, 0]).then_some(())
    });
    assert_eq!(count(&keys.tenants["beta"].plain), [1, 1]);
}

#[test]
fn a_server_that_is_aborted_leaves_no_core() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let control = tempfile::tempdir().expect("a folder");
    let mut sleep = unlimited_core(Command::new("sleep").arg("60"));
    let mut sleep = sleep.current_dir(control.path()).spawn().expect("bash is there");
    eventually("bash to become sleep", || {
        let name = fs::read_to_string(format!("/proc/{}/comm", sleep.id())).expect("it runs");
        (name == "sleep\n").then_some(())
    });
    signal(sleep.id(), "ABRT");
    ended(&mut sleep);
    if cores_in(control.path()) == 0 {
        eprintln!("no process leaves a core in its folder here: only the limits are tested");
    }
    let server = serve(&data, |command| {
        *command = unlimited_core(command);
        command.current_dir(folder.path());
    });
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let numbers: Vec<_> = core.expect("a limit").split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"]);
    assert_eq!(server.stop_by("ABRT").0, None, "a signal ended it");
    assert_eq!(cores_in(folder.path()), 0);
}

/// The command where a core may be as large as it can.
fn unlimited_core(command: &Command) -> Command {
    in_bash("ulimit -c \"$(ulimit -H -c)\"", Command::new("bash"), command)
}

fn cores_in(folder: &Path) -> usize {
    let names = fs::read_dir(folder).expect("a folder").flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with("core")).count()
}
