//! The server as a service: what it tells who started it, the sockets it takes over, a
//! reload, and an upgrade that nobody notices. systemd itself need not run.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::faulty_fs::FaultyFs;
use crate::support::{Client, Output, Request, Serve, ended, eventually, init, maintain, tenure};

/// The service manager's ear.
struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Ear {
    fn in_folder(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
        Self { socket, path }
    }

    /// What it is told next.
    fn hear(&self) -> String {
        let mut words = [0; 4096];
        let length = self.socket.recv(&mut words).expect("something is told within a minute");
        String::from_utf8_lossy(&words[..length]).into_owned()
    }

    /// The first that has these words in it, and all before it.
    fn hear_until(&self, words: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.hear());
            if heard.last().is_some_and(|last| last.contains(words)) {
                return heard;
            }
        }
    }

    fn last_with(&self, words: &str) -> String {
        self.hear_until(words).pop().expect("it was heard")
    }
}

/// A store, its tenant and a token.
struct Place {
    folder: tempfile::TempDir,
    data: PathBuf,
    token: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = init(folder.path());
        assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
        let minted = maintain(&data, &["token", "mint", "--tenant", "acme", "--scope", "*"]);
        let token = minted.stdout.trim().to_owned();
        Self { folder, data, token }
    }

    fn put(&self, name: &str) -> Request {
        Request::put(path(name), r#"{"value":"v"}"#).bearer(&self.token)
    }

    fn get(&self, name: &str) -> Request {
        Request::get(path(name)).bearer(&self.token)
    }

    fn told(&self, ear: &Ear, adapt: impl FnOnce(&mut Command)) -> Serve {
        Serve::start_with(&self.data, |command| {
            command.arg("--data").arg(&self.data).env("NOTIFY_SOCKET", &ear.path);
            adapt(command);
        })
    }
}

fn path(name: &str) -> String {
    format!("/api/acme/secrets/{name}")
}

#[test]
fn it_says_when_it_is_ready_and_when_it_stops() {
    let place = Place::new();
    let ear = Ear::in_folder(place.folder.path());
    let serve = place.told(&ear, |_| {});
    let heard = ear.hear_until("READY=1");
    assert!(heard[0].contains("STATUS=opening the store"), "{heard:?}");
    assert!(heard.iter().any(|words| words.contains("EXTEND_TIMEOUT_USEC=")), "{heard:?}");
    assert_eq!(heard.iter().filter(|words| words.contains("READY=1")).count(), 1);
    let ready = heard.last().expect("it is there");
    assert!(ready.contains(&format!("STATUS=serving on http://{}", serve.address)), "{ready}");
    assert_eq!(serve.send(&Request::get("/readyz")).status, 200);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert!(ear.last_with("STOPPING=1").contains("STATUS=finishing"));
}

#[test]
fn a_sealed_server_is_ready_and_says_that_it_is_sealed() {
    let place = Place::new();
    let ear = Ear::in_folder(place.folder.path());
    let serve = place.told(&ear, |command| {
        command.env("TENURE_KEK_FILE", place.folder.path().join("none"));
        command.env("TENURE_KEK_START_SEALED", "true");
    });
    let ready = ear.last_with("READY=1");
    assert!(ready.contains("STATUS=sealed") && ready.contains("'tenure unseal'"), "{ready}");
    fs::rename(place.data.with_extension("kek"), place.folder.path().join("none")).unwrap();
    assert_eq!(serve.run(&["unseal"]).code, Some(0));
    assert!(ear.last_with("READY=1").contains("STATUS=serving"));
}

#[test]
fn the_watchdog_is_fed_until_a_writer_sticks_and_again_when_it_goes_on() {
    let Some(disk) = FaultyFs::mount() else { return };
    let place = Place::new();
    let data = disk.data();
    let made = Output::of(
        tenure()
            .args(["init", "--data"])
            .arg(&data)
            .env("TENURE_KEK_FILE", place.folder.path().join("kek")),
    );
    assert_eq!(made.code, Some(0), "{made:?}");
    let ear = Ear::in_folder(place.folder.path());
    let kek = place.folder.path().join("kek");
    let serve = Serve::start_with(&place.data, |command| {
        command.arg("--data").arg(&data).env("TENURE_KEK_FILE", &kek);
        command.env("NOTIFY_SOCKET", &ear.path).env("WATCHDOG_USEC", "4000000");
    });
    ear.hear_until("READY=1");
    ear.hear_until("WATCHDOG=1");
    let kek = kek.as_path();
    let created = || {
        let mut command = tenure();
        command
            .args(["tenant", "create", "stuck", "--data"])
            .arg(&data)
            .env("TENURE_KEK_FILE", kek);
        Output::of(&mut command).code
    };
    thread::scope(|scope| {
        let mut writing = None;
        // Nothing that asks the disk comes back meanwhile.
        disk.with(|_| {
            writing = Some(scope.spawn(created));
            let silent = Duration::from_secs(3);
            ear.socket.set_read_timeout(Some(silent)).expect("a time limit");
            // It was fed every second; now for three in a row it is not.
            let begun = Instant::now();
            while ear.socket.recv(&mut [0; 4096]).is_ok() {
                assert!(begun.elapsed() < Duration::from_secs(60), "it is fed by one that sticks");
            }
        });
        ear.socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
        ear.hear_until("WATCHDOG=1");
        assert_eq!(writing.expect("it was begun").join().expect("it ends"), Some(0));
    });
    assert!(serve.log().contains("something has stuck for"), "{}", serve.log());
}

#[test]
fn what_can_change_changes_at_a_reload_and_the_rest_is_named() {
    let place = Place::new();
    let ear = Ear::in_folder(place.folder.path());
    let file = place.folder.path().join("tenure.toml");
    let write = |text: &str| {
        let kek = place.data.with_extension("kek");
        let fixed = format!("data = {:?}\nkek.file = {kek:?}\n", place.data);
        fs::write(&file, fixed + text).unwrap();
    };
    write("");
    let serve = Serve::start_with(&place.data, |command| {
        command.arg("--config").arg(&file).env("NOTIFY_SOCKET", &ear.path);
    });
    ear.hear_until("READY=1");
    assert!(!serve.log().contains("DEBUG"), "{}", serve.log());

    write(
        "log.level = \"debug\"\nhttp.workers = 7\nlimits.address_rate = 1\nlimits.address_burst = 1\n",
    );
    serve.signal("HUP");
    let reloading = ear.last_with("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    let ready = ear.last_with("READY=1");
    let said = "changed limits.address_rate, limits.address_burst, log.level; only after a \
                restart: http.workers";
    assert!(ready.contains(said) && serve.log().contains(said), "{ready}\n{}", serve.log());
    assert_eq!(serve.send(&place.get("none")).status, 404);
    assert_eq!(serve.send(&place.get("none")).status, 429, "the limits are the new ones");
    assert!(serve.log().contains("DEBUG"), "{}", serve.log());

    write("log.level = \"loud\"\n");
    serve.signal("HUP");
    ear.hear_until("RELOADING=1");
    let ready = ear.last_with("READY=1");
    assert!(ready.contains("nothing was changed: ") && ready.contains("log.level"), "{ready}");
    assert!(ready.contains("STATUS=serving"), "{ready}");
    let log = serve.log();
    let error = log.lines().find(|line| line.contains("nothing was changed")).expect("it is said");
    assert!(error.contains("ERROR") && error.contains("tenure.toml, line 3"), "{error}");
    assert_eq!(serve.send(&place.get("none")).status, 429, "the limits stay");
}

/// Starts a server on a socket of ours, as systemd would: the shell puts it at
/// descriptor 3 and becomes the program.
fn activated(listener: &TcpListener, data: &Path, log: &Path) -> Child {
    let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_tenure"), "serve", "--data"]).arg(data);
    let log = fs::File::options().create(true).append(true).open(log).expect("a log");
    command.stdin(OwnedFd::from(listener.try_clone().expect("a socket")));
    command.stderr(log.try_clone().expect("a log")).stdout(log);
    command.spawn().expect("bash exists")
}

#[test]
fn who_connects_while_a_server_on_a_socket_of_systemd_restarts_waits_and_is_served() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let log = place.folder.path().join("activated.log");
    let read = || fs::read_to_string(&log).unwrap_or_default();
    let mut server = activated(&listener, &place.data, &log);
    let clients = Clients::begin(&place, address);
    for restart in 1..=3 {
        let served = |times| eventually("it to serve", || (count(&read()) >= times).then_some(()));
        served(restart);
        clients.have_done_more(50);
        crate::support::signal(server.id(), "TERM");
        assert_eq!(ended(&mut server).code(), Some(0), "{}", read());
        server = activated(&listener, &place.data, &log);
        served(restart + 1);
    }
    clients.have_done_more(50);
    clients.end_and_check(&place);
    crate::support::signal(server.id(), "KILL");
    ended(&mut server);
}

fn count(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" serving ")).count()
}

#[test]
fn a_socket_activated_by_systemd_is_served_on() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--fdname=api", "-l", &port.to_string(), env!("CARGO_BIN_EXE_tenure"), "serve"]);
    command.arg("--data").arg(&place.data).stdin(Stdio::null()).stderr(Stdio::null());
    let mut server = command.stdout(Stdio::null()).spawn().unwrap_or_else(|error| {
        panic!("systemd-socket-activate: {error}; it is in Debian's package systemd")
    });
    let answer = eventually("an answer", || {
        Client::new(port).send_unless_closed(&place.get("none")).filter(|a| a.status != 503)
    });
    assert_eq!(answer.status, 404);
    crate::support::signal(server.id(), "TERM");
    assert_eq!(ended(&mut server).code(), Some(0));
}

#[test]
fn a_socket_that_cannot_be_served_on_is_refused_with_what_to_do() {
    let place = Place::new();
    let run = |script: &str| {
        let script = format!("{script} exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_tenure"), "serve", "--data"]);
        Output::of(command.arg(&place.data))
    };
    let ours = "export LISTEN_PID=$$ LISTEN_FDS=1;";
    run(&format!("exec 3</dev/null; {ours}")).assert_fails(2, &["cannot be served on", ".socket"]);
    run(&format!("exec 3<&-; {ours}")).assert_fails(2, &["descriptor 3", "not open"]);
    let two = "exec 3</dev/null 4</dev/null; export LISTEN_PID=$$ LISTEN_FDS=2;";
    run(two).assert_fails(2, &["FileDescriptorName=api"]);
    run("export LISTEN_PID=$$ LISTEN_FDS=x;").assert_fails(2, &["LISTEN_FDS"]);
}

/// Clients that read and write without end, over new connections and over kept ones,
/// and take no failure.
struct Clients {
    end: std::sync::Arc<AtomicBool>,
    done: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
    address: SocketAddr,
}

#[derive(Clone, Copy)]
enum Keeps {
    Open,
    Closed,
}

impl Clients {
    fn begin(place: &Place, address: SocketAddr) -> Self {
        let (end, done) = (std::sync::Arc::<AtomicBool>::default(), std::sync::Arc::default());
        let kinds = [Keeps::Open, Keeps::Closed, Keeps::Open, Keeps::Closed];
        let mut clients = Self { end, done, threads: Vec::new(), address };
        clients.threads =
            kinds.into_iter().enumerate().map(|(i, k)| clients.one(place, i, k)).collect();
        clients
    }

    fn one(&self, place: &Place, number: usize, keeps: Keeps) -> thread::JoinHandle<Vec<String>> {
        let (end, done, address) = (self.end.clone(), self.done.clone(), self.address);
        let token = place.token.clone();
        thread::spawn(move || {
            let (mut client, mut written) = (Client::new(address), Vec::new());
            while !end.load(Ordering::Relaxed) {
                let name = format!("n{number}-{}", written.len());
                let mut put = Request::put(path(&name), r#"{"value":"v"}"#).bearer(&token);
                if matches!(keeps, Keeps::Closed) {
                    put = put.header("Connection", "close");
                }
                let answer = client.try_send(&put);
                let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(answer.status, 204, "{answer:?}");
                written.push(name);
                done.fetch_add(1, Ordering::Relaxed);
            }
            written
        })
    }

    fn have_done_more(&self, requests: usize) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("requests to be answered", || {
            let failed = self.threads.iter().any(thread::JoinHandle::is_finished);
            assert!(!failed, "a client met a failure");
            (self.done.load(Ordering::Relaxed) >= before + requests).then_some(())
        });
    }

    /// What was acknowledged is there.
    fn end_and_check(self, place: &Place) {
        self.end.store(true, Ordering::Relaxed);
        let written =
            self.threads.into_iter().flat_map(|thread| thread.join().expect("no failure"));
        let mut client = Client::new(self.address);
        for name in written {
            assert_eq!(client.send(&place.get(&name)).status, 200, "{name} was acknowledged");
        }
    }
}

#[test]
fn a_new_binary_takes_over_without_a_request_that_fails() {
    let place = Place::new();
    let program = place.folder.path().join("tenure");
    install(&program);
    let log = place.folder.path().join("upgrade.log");
    let read = || fs::read_to_string(&log).unwrap_or_default();
    let mut server = start_program(&program, &place.data, &log);
    let serving = |times| eventually("it to serve", || (count(&read()) >= times).then_some(()));
    serving(1);
    let text = read();
    let line = text.lines().find(|line| line.contains(" serving ")).expect("it serves");
    let address = line.rsplit_once("://").expect("a URL").1.parse().expect("an address");
    let clients = Clients::begin(&place, address);
    for upgrade in 1..=3 {
        clients.have_done_more(50);
        install(&program);
        crate::support::signal(server.id(), "USR2");
        serving(upgrade + 1);
        assert!(server.try_wait().expect("ours").is_none(), "it is the same process");
    }
    clients.have_done_more(50);

    // One that does not start changes nothing.
    fs::remove_file(&program).unwrap();
    fs::write(&program, "#!/bin/sh\necho error: not today >&2; exit 2\n").unwrap();
    make_executable(&program);
    crate::support::signal(server.id(), "USR2");
    eventually("a refusal", || read().contains("no upgrade: ").then_some(()));
    assert!(read().contains("error: not today; the program stays as it is"), "{}", read());
    clients.have_done_more(50);
    clients.end_and_check(&place);
    assert_eq!(count(&read()), 4);
    crate::support::signal(server.id(), "TERM");
    assert_eq!(ended(&mut server).code(), Some(0), "{}", read());
    assert!(!read().contains(&place.token), "the log holds no token");
}

/// A new file under the old name, as a package manager does it.
fn install(program: &Path) {
    let fresh = program.with_extension("new");
    fs::copy(env!("CARGO_BIN_EXE_tenure"), &fresh).expect("a copy");
    fs::rename(fresh, program).expect("the same file system");
}

fn make_executable(program: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("ours");
}

fn start_program(program: &Path, data: &Path, log: &Path) -> Child {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("TENURE_"))
    {
        command.env_remove(name);
    }
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    let log = fs::File::create(log).expect("a log");
    command.stdin(Stdio::null()).stderr(log.try_clone().expect("a log")).stdout(log);
    command.spawn().expect("the program starts")
}

#[test]
fn a_connection_that_is_kept_alive_is_told_with_its_last_answer() {
    let place = Place::new();
    let serve = Serve::start(&place.data);
    let mut kept = Client::new(serve.address);
    assert_eq!(kept.send(&place.put("k")).header("connection"), None);
    serve.signal("TERM");
    eventually("the stop", || serve.log().contains("stopping: ").then_some(()));
    let last = kept.send(&place.get("k"));
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    // And one that says nothing holds nobody up for its whole keep-alive of a minute.
    let (code, log) = serve.stop_by("TERM");
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn the_server_has_no_privilege_that_it_does_not_need() {
    let place = Place::new();
    let serve = Serve::start(&place.data);
    let tasks = fs::read_dir(format!("/proc/{}/task", serve.pid())).expect("it runs");
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
        };
        // CAP_IPC_LOCK and CAP_DAC_READ_SEARCH at most.
        let allowed = (1_u64 << 14) | (1 << 2);
        let Some(effective) = field("CapEff:") else { continue };
        let effective = u64::from_str_radix(&effective, 16).expect("a mask");
        assert_eq!(effective & !allowed, 0, "{status}");
        assert_eq!(field("NoNewPrivs:").as_deref(), Some("1"), "{status}");
        assert_eq!(field("Umask:").as_deref(), Some("0077"), "{status}");
    }
}

#[test]
fn a_configuration_is_checked_and_shown_with_where_each_value_was_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tenure.toml");
    fs::write(&file, "data = \"here\"\nhttp.workers = 3\nkek.file = \"key\"\n").unwrap();
    let run = |what: &str, adapt: &dyn Fn(&mut Command)| {
        let mut command = tenure();
        command.args(["config", what, "--config"]).arg(&file);
        adapt(&mut command);
        Output::of(&mut command)
    };
    let checked = run("check", &|_| {});
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.starts_with("the configuration is sound"), "{checked:?}");
    let key = "5ecret5ecret5ecret5ecret5ecret5ecret5ecret5ecret5ecret5ecret5ecr";
    let shown = run("show", &|command| {
        command.env("TENURE_LOG_LEVEL", "debug").env("TENURE_KEK_FILE", key);
    });
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for line in [
        format!("http.workers = 3  # {}, line 2", file.display()),
        "log.level = \"debug\"  # environment variable TENURE_LOG_LEVEL".to_owned(),
        "listen = \"127.0.0.1:7300\"  # default".to_owned(),
    ] {
        assert!(shown.stdout.lines().any(|shown| shown == line), "no {line} in {}", shown.stdout);
    }
    assert!(!shown.stdout.contains(key), "a key that was pasted is not shown");

    fs::write(&file, "data = \"here\"\nlisten = \"0.0.0.0:7300\"\n").unwrap();
    run("check", &|_| {}).assert_fails(2, &["listen", "tls"]);
    fs::write(&file, "dta = \"here\"\n").unwrap();
    run("check", &|_| {}).assert_fails(2, &["line 1", "`dta`", "did you mean `data`"]);
}

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/systemd");

/// Of Debian's package systemd, which `tests/run` installs.
fn systemd_analyze(arguments: &[&str]) -> Output {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).output().unwrap_or_else(|error| {
        panic!("systemd-analyze: {error}; it is in Debian's package systemd")
    });
    Output::from(output)
}

#[test]
fn the_unit_is_rated_two_or_better() {
    let unit = format!("{UNITS}/tenure.service");
    let rated =
        systemd_analyze(&["security", "--offline=true", "--no-pager", "--threshold=20", &unit]);
    assert_eq!(rated.code, Some(0), "{}", rated.stdout);
    assert!(rated.stdout.contains("Overall exposure level"), "{rated:?}");
}

#[test]
fn the_units_are_sound() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut units = Vec::new();
    for name in ["tenure.service", "tenure.socket"] {
        let text = fs::read_to_string(format!("{UNITS}/{name}")).expect("a unit");
        // Where it is installed here.
        let text = text.replace("/usr/bin/tenure", env!("CARGO_BIN_EXE_tenure"));
        units.push(folder.path().join(name));
        fs::write(folder.path().join(name), text).unwrap();
    }
    let units: Vec<_> = units.iter().map(|unit| unit.to_str().expect("a path")).collect();
    let verified = systemd_analyze(&[&["verify", "--man=no"][..], &units].concat());
    assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""), "{verified:?}");
}
