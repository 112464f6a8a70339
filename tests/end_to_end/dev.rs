//! `tenure dev`: a store in one command, and what it prints works as pasted. And
//! how any server starts, says that it does, and stops.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Dev, Output, Request, Serve, ended, eventually, init, maintain, secret, signal, tenure,
};

/// A `tenure dev` whose standard output stands in a file.
struct Printed {
    child: Child,
    text: String,
}

impl Printed {
    /// Starts it in `folder` and waits for the last line.
    fn start(folder: &Path, args: &[&str]) -> Self {
        let path = folder.join("printed.txt");
        let mut command = tenure();
        command.args(["dev", "--listen", "127.0.0.1:0"]).args(args).current_dir(folder);
        command.stdout(File::create(&path).expect("a file"));
        command.stderr(File::create(folder.join("errors.txt")).expect("a file"));
        let mut child = command.spawn().expect("the program starts");
        let text = eventually("tenure dev to be ready", || {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                panic!("it ended with {status}: {}", read(&folder.join("errors.txt")));
            }
            Some(read(&path)).filter(|text| text.ends_with("Ctrl-C stops it.\n"))
        });
        fs::remove_file(&path).expect("ours");
        assert_eq!(read(&folder.join("errors.txt")), "", "nothing to complain about");
        fs::remove_file(folder.join("errors.txt")).expect("ours");
        Self { child, text }
    }

    /// What stands beside a label.
    fn says(&self, label: &str) -> String {
        let line = self.text.lines().find_map(|line| line.trim_start().strip_prefix(label));
        line.unwrap_or_else(|| panic!("{label} in {}", self.text)).trim().to_owned()
    }

    /// The lines to paste.
    fn commands(&self) -> Vec<&str> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("  "));
        lines.filter(|line| line.contains(" && ")).collect()
    }

    /// Each command in a shell of its own, in some other folder.
    fn paste_all(&self) -> Vec<String> {
        let run = |line: &&str| {
            let mut bash = Command::new("bash");
            bash.args(["-c", line]).current_dir("/").stdin(Stdio::null());
            for name in ["TENURE_ADDR", "TENURE_TENANT", "TENURE_TOKEN", "http_proxy"] {
                bash.env_remove(name);
            }
            let output = Output::of(&mut bash);
            assert_eq!(output.code, Some(0), "{line}: {output:?}");
            output.stdout
        };
        self.commands().iter().map(run).collect()
    }

    fn stop(mut self, name: &str) -> Option<i32> {
        signal(self.child.id(), name);
        ended(&mut self.child).code()
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What `tenure dev` prints, with its own address, token and folder.
fn welcome(address: &str, token: &str, data: &str, load: &str, holds: &str) -> String {
    let tenure = env!("CARGO_BIN_EXE_tenure");
    format!(
        r#"tenure dev is ready

  address  {address}
  tenant   dev
  data     {data}
  docs     {address}/api/docs
  token    {token}
  holds    {holds}

Store a secret, read it, list the names (paste into another shell):

  {load} && {tenure} put greeting hello
  {load} && {tenure} get greeting
  {load} && {tenure} list

The same secret over HTTP:

  {load} && curl -sS "$TENURE_ADDR/api/$TENURE_TENANT/secrets/greeting" -H "Authorization: Bearer $TENURE_TOKEN"

Ctrl-C stops it.
"#
    )
}

/// What the lines print, one after the other.
const PASTED: [&str; 4] = ["", "hello", "greeting\n", r#""hello""#];

#[test]
fn what_dev_prints_works_as_pasted_and_is_kept_until_tomorrow() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Printed::start(folder.path(), &[]);
    let env_file = folder.path().join(".tenure/dev.env");
    let (address, token) = (first.says("address"), first.says("token"));
    let load = format!(". {}", env_file.display());
    let holds = "no secret yet";
    assert_eq!(first.text, welcome(&address, &token, "./.tenure", &load, holds));
    assert_eq!(first.paste_all(), PASTED);
    let variables = format!(
        "export TENURE_ADDR={address}\nexport TENURE_TENANT=dev\nexport TENURE_TOKEN={token}\n"
    );
    assert_eq!(read(&env_file), variables);
    let mode = fs::metadata(&env_file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Maintenance finds it without being told where it is.
    let status = Output::of(tenure().arg("status").current_dir(folder.path()));
    assert!(status.stdout.contains("server      running\n"), "{status:?}");
    assert!(status.stdout.contains("secrets     1 valid"), "{status:?}");
    assert_eq!(first.stop("INT"), Some(0));

    let second = Printed::start(folder.path(), &[]);
    let commands = second.commands();
    let read_again = Output::of(Command::new("bash").args(["-c", commands[1]]));
    assert_eq!(read_again.stdout, "hello", "yesterday's secret");
    assert_eq!(second.says("holds"), "1 secret: greeting");
    assert_eq!(second.paste_all(), PASTED);
    assert_eq!(second.stop("TERM"), Some(0));
}

/// A shell that has `tenure` in its path is shown that word.
#[test]
fn where_tenure_is_in_the_path_it_is_called_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tenure"), bin.join("tenure")).expect("a link");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let printed = |path: &str| {
        let mut command = tenure();
        command.args(["dev", "--ephemeral", "--listen", "127.0.0.1:0"]).env("PATH", path);
        let out = folder.path().join("printed.txt");
        let mut child =
            command.stdout(File::create(&out).expect("a file")).spawn().expect("starts");
        let text = eventually("it to be ready", || {
            Some(read(&out)).filter(|text| text.ends_with("Ctrl-C stops it.\n"))
        });
        signal(child.id(), "INT");
        assert_eq!(ended(&mut child).code(), Some(0));
        text
    };
    assert!(printed(&path).contains(" && tenure get greeting\n"));
    assert!(
        printed("/usr/bin:/bin").contains(&format!(" && {} get", env!("CARGO_BIN_EXE_tenure")))
    );
}

#[test]
fn a_folder_whose_name_a_shell_would_take_apart_is_quoted() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("it's $(here) & \"there\"");
    let dev = Printed::start(folder.path(), &["--data", data.to_str().expect("UTF-8")]);
    assert_eq!(dev.paste_all(), PASTED);
}

#[test]
fn an_ephemeral_store_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let dev = Printed::start(folder.path(), &["--ephemeral"]);
    let (address, token) = (dev.says("address"), dev.says("token"));
    let load = format!("export TENURE_ADDR={address} TENURE_TENANT=dev TENURE_TOKEN={token}");
    assert_eq!(
        dev.text,
        welcome(&address, &token, "memory, until it stops", &load, "no secret yet")
    );
    assert_eq!(dev.paste_all(), PASTED);
    assert_eq!(dev.stop("INT"), Some(0));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    let again = Printed::start(folder.path(), &["--ephemeral"]);
    let names = Output::of(Command::new("bash").args(["-c", again.commands()[2]]));
    assert_eq!(names.stdout, "");
}

#[test]
fn a_dev_store_whose_key_is_lost_gets_no_other_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    assert_eq!(Dev::start(&data).stop(), Some(0));
    let kek = data.join("kek");
    let kept = fs::read(&kek).expect("a KEK");
    fs::remove_file(&kek).expect("ours");
    let mut again = tenure();
    let again = Output::of(again.args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(&data));
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("there is no KEK at"), "{again:?}");
    assert!(!kek.exists());
    fs::write(&kek, kept).expect("a KEK");
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o600)).expect("ours");
    assert_eq!(Dev::start(&data).stop(), Some(0));
}

#[test]
fn a_server_says_that_it_is_up_and_ready_to_everyone() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = Serve::start(&init(folder.path()));
    let healthy = serve.send(&Request::get("/healthz"));
    assert_eq!((healthy.status, healthy.text().as_str()), (200, r#"{"status":"up"}"#));
    let ready = serve.send(&Request::get("/readyz"));
    assert_eq!((ready.status, ready.text().as_str()), (200, r#"{"status":"ready"}"#));
    for answer in [healthy, ready] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

/// Connections on which a request was answered, and which are open still.
fn idle_connections(serve: &Serve, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(serve.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(br#"{"status":"up"}"#) {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            answer.extend(byte);
        }
        stream
    };
    (0..count).map(connect).collect()
}

#[test]
fn a_stop_does_not_wait_for_idle_connections_and_says_when_it_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    for name in ["TERM", "INT"] {
        let serve = Serve::start(&data);
        let mut idle = idle_connections(&serve, 20);
        let begun = Instant::now();
        let (code, log) = serve.stop_by(name);
        assert_eq!(code, Some(0), "{log}");
        // A stuck request would be waited for 30 s.
        assert!(begun.elapsed() < Duration::from_secs(10), "SIG{name}: {:?}", begun.elapsed());
        let (stopping, stopped) = (log.find("stopping: "), log.find("INFO  stopped"));
        assert!(stopping.is_some() && stopping < stopped, "{log}");
        assert!(!data.join("admin.sock").exists());
        for stream in &mut idle {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert_eq!(rest, b"", "nothing comes unasked");
        }
    }
}

#[test]
fn a_stop_waits_for_a_request_under_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let dev = Dev::start(&folder.path().join("data"));
    let body = r#"{"value": "slowly"}"#;
    let mut stream = TcpStream::connect(dev.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        secret("slow"),
        dev.token,
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // That the body is asked for proves that the request is under way.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).expect("an interim answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    dev.signal("TERM");
    eventually("the server to stop listening", || TcpStream::connect(dev.address).err());
    stream.write_all(body.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, then the end");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let data = dev.data.clone();
    assert_eq!(dev.stop_answered(), Some(0));
    assert_eq!(Dev::start(&data).get("slow").json(), "slowly");
}

#[test]
fn a_signal_right_after_the_start_stops_in_good_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    for _ in 0..10 {
        assert_eq!(Dev::start(&data).stop(), Some(0));
    }
}

#[test]
fn a_hangup_does_not_end_a_server_without_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = Serve::start(&init(folder.path()));
    serve.signal("HUP");
    assert_eq!(serve.send(&Request::get("/readyz")).status, 200);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
}

#[test]
fn the_status_counts_what_is_stored_and_its_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dev = Dev::start_with(&data, |command| {
        command.env("RUST_LOG", "info");
    });
    for n in 0..40 {
        assert_eq!(dev.put(&format!("large-{n}"), &"x".repeat(60_000)).status, 204);
    }
    let size = |data: &PathBuf| {
        let status = maintain(data, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
        assert_eq!(status["secrets"]["valid"], 40);
        status["dataBytes"].as_u64().expect("a number")
    };
    assert!(size(&data) > 40 * 60_000, "{} while it serves", size(&data));
    assert_eq!(dev.stop(), Some(0));
    assert!(size(&data) > 40 * 60_000, "{} afterwards", size(&data));
}

#[test]
fn rust_log_makes_dev_tell_what_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    for (level, told) in [("info", true), ("warn", false)] {
        let dev = Dev::start_with(&data, |command| {
            command.env("RUST_LOG", level);
        });
        assert_eq!(dev.stop(), Some(0));
        let log = data.with_extension("log");
        assert_eq!(read(&log).contains("INFO  stopped"), told, "{}", read(&log));
        fs::remove_file(log).expect("ours");
    }
}

#[test]
fn dev_tells_a_script_in_json_what_it_tells_a_person_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dev = Dev::start_with(&data, |command| {
        command.arg("--json");
    });
    let line = eventually("the welcome", || {
        let log = dev.log();
        log.lines().find(|line| line.starts_with('{')).map(str::to_owned)
    });
    let welcome: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        welcome,
        serde_json::json!({
            "address": format!("http://{}", dev.address),
            "tenant": "dev",
            "token": dev.token,
            "data": data.display().to_string(),
            "secrets": 0,
        })
    );
}
