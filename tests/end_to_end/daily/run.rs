use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::Desk;
use crate::support::{Output, Request, Terminal, ended, eventually, maintain, signal};

/// A program of a shell.
fn script(line: &str) -> [&str; 4] {
    ["--", "sh", "-c", line]
}

fn run(desk: &Desk, options: &[&str], line: &str) -> Output {
    desk.run(&[&["run"], options, &script(line)].concat())
}

fn started(desk: &Desk, options: &[&str], line: &str) -> Started {
    let mut command = desk.tenure(&[&["run"], options, &script(line)].concat());
    Started::of(&mut command)
}

/// One that a test which fails does not leave behind.
struct Started(Child);

impl Started {
    fn of(command: &mut Command) -> Self {
        Self(command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until it says so, and answers all that was said.
    fn says(&mut self, text: &str) -> String {
        let stderr = self.0.stderr.as_mut().expect("a pipe");
        let (mut said, mut piece) = (String::new(), [0; 512]);
        while !said.contains(text) {
            let length = stderr.read(&mut piece).unwrap();
            assert!(length > 0, "{said}");
            said += &String::from_utf8_lossy(&piece[..length]);
        }
        said
    }
}

impl std::ops::Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // What has ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(path: &Path) -> String {
    eventually(&path.display().to_string(), || {
        fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
}

fn is_there(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // One that nobody has waited for yet is dead all the same.
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Every file below a folder, and what it holds.
fn assert_nowhere(value: &str, folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(value, &path);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(value.len()).any(|window| window == value.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn a_command_has_the_secrets_of_the_project_as_variables() {
    let desk = Desk::new();
    desk.store("shop-db-password", "hunter2 \"ä\n");
    desk.store("shop-api_key", "k");
    desk.store("other", "o");
    desk.store_body("shop-null", r#"{"value": null}"#);
    desk.store_body("shop-later", r#"{"value": "x", "notBefore": "2100-01-01T00:00:00Z"}"#);
    desk.write(".tenure.toml", "prefix = 'shop-'\n");
    let line = "printf '%s|%s|%s' \"$DB_PASSWORD\" \"$API_KEY\" \"${OTHER-}${NULL-}${LATER-}\"";
    let output = run(&desk, &[], line);
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "hunter2 \"ä\n|k|"), "{output:?}");
    assert_eq!(output.stderr, "");
    let named = run(&desk, &["--env", "X=api_key"], "echo \"$X${API_KEY-}${DB_PASSWORD-}\"");
    assert_eq!(named.stdout, "k\n");
    let all = run(&desk, &["--env", "X=api_key", "--all"], "echo \"$X${API_KEY-}$DB_PASSWORD\"");
    assert_eq!(all.stdout, "khunter2 \"ä\n\n");
    let whole = run(&desk, &["--prefix", ""], "echo \"$SHOP_API_KEY$OTHER\"");
    assert_eq!(whole.stdout, "ko\n");
}

#[test]
fn variables_that_are_set_give_way_unless_they_are_kept_and_credentials_are_taken_out() {
    let desk = Desk::new();
    desk.store("word", "new");
    let address = format!("http://{}", desk.dev().address);
    let with = |options: &[&str]| {
        let line = "echo $WORD ${TENURE_TOKEN:+token} $TENURE_ADDR";
        let mut command = desk.tenure(&[&["run"], options, &script(line)].concat());
        command.env("WORD", "old").env("TENURE_ADDR", &address).env("TENURE_TENANT", "dev");
        Output::of(command.env("TENURE_TOKEN", &desk.dev().token)).stdout
    };
    assert_eq!(with(&[]), format!("new {address}\n"));
    assert_eq!(with(&["--keep-existing"]), format!("old {address}\n"));
    assert_eq!(with(&["--keep-credential"]), format!("new token {address}\n"));
}

#[test]
fn what_cannot_be_a_variable_stops_it_before_the_command() {
    let desk = Desk::new();
    let refused = |code, words: &[&str]| run(&desk, &[], "echo started").assert_fails(code, words);
    for (name, words) in
        [("1st", &["'1st'", "--env"][..]), ("ld-preload", &["LD_PRELOAD", "--all --env"])]
    {
        desk.store(name, "hunter2");
        refused(2, words);
        let gone = desk.dev().send(Request::delete(format!("/api/dev/secrets/{name}")));
        assert_eq!(gone.status, 204);
    }
    desk.store("nul", "hunter2\0");
    refused(2, &["'nul'", "NUL"]);
    run(&desk, &["--env", "A=absent"], "echo started").assert_fails(3, &["no secret 'absent'"]);
    run(&desk, &["--json"], "echo started").assert_fails(2, &["--json"]);
    let words = desk.run(&["run", "--env", "A-B=x", "--", "true"]);
    assert!(words.code == Some(2) && words.stderr.contains("letters, digits and _"), "{words:?}");
}

#[test]
fn the_command_takes_the_place_of_tenure() {
    let desk = Desk::new();
    desk.store("word", "hunter2");
    assert_eq!(run(&desk, &[], "exit 42").code, Some(42));
    desk.run(&["run", "--", "no-such-program"]).assert_fails(127, &["no program"]);
    let path = desk.write("plain", "x");
    let plain = path.to_str().unwrap();
    desk.run(&["run", "--", plain]).assert_fails(126, &["cannot be run"]);
    (0..40).for_each(|n| desk.store(&format!("large-{n}"), &"x".repeat(60_000)));
    for options in [&["--prefix", "large-1"][..], &["--prefix", "large-1", "--watch"]] {
        let all = [&["--env", "A=0", "--env", "B=1"], options].concat();
        assert_eq!(run(&desk, &all, "exit 0").code, Some(0));
    }
    for options in [&[][..], &["--watch"]] {
        run(&desk, options, "true").assert_fails(126, &["too large for an environment"]);
    }
    desk.run(&["run", "--env", "A=word", "--watch", "--", "no-such-program"])
        .assert_fails(127, &["no program"]);

    let pid = desk.path("pid");
    let line = "echo $$ > pid; exec sleep 1000";
    let mut child = started(&desk, &["--env", "A=word"], line);
    assert_eq!(wait_for(&pid).trim(), child.id().to_string(), "no parent lingers");
    // The shell has written before it becomes another program.
    eventually("the shell to be that program", || {
        let words = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
        (words == b"sleep\x001000\0").then_some(())
    });
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child).signal(), Some(15));
}

#[test]
fn the_command_inherits_what_it_would_without_tenure() {
    let desk = Desk::new();
    let shown = "umask; ulimit -n; ulimit -c; grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
    let outside = "umask 0027; ulimit -n 200; ulimit -c 0; trap '' HUP; ";
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        desk.place(&mut command);
        Output::of(command.args(["-c", line]))
    };
    let tenure = env!("CARGO_BIN_EXE_tenure");
    let plain = shell(&format!("{outside} exec sh -c \"{shown}\""));
    for options in ["", "--watch"] {
        let given = shell(&format!("{outside} exec {tenure} run {options} -- sh -c \"{shown}\""));
        assert_eq!(given.stdout, plain.stdout, "{options}: {given:?}");
    }
}

#[test]
fn an_interrupt_reaches_the_command_once() {
    let desk = Desk::new();
    for options in ["", "--watch"] {
        let line = format!(
            "exec {} run {options} -- sh -c 'trap \"echo caught\" INT; echo ready; n=0; \
             while [ $n -lt 20 ]; do sleep 0.05; n=$((n+1)); done; exit 7'",
            env!("CARGO_BIN_EXE_tenure")
        );
        let mut terminal = Terminal::shell(&line, |command| desk.place(command));
        terminal.expect("ready");
        terminal.type_in("\u{3}");
        let (code, shown) = terminal.ended();
        assert_eq!(code, Some(7), "{options}: {shown}");
        assert_eq!(shown.matches("caught").count(), 1, "{options}: {shown}");
    }
}

#[test]
fn an_interrupt_before_the_command_ends_tenure() {
    let desk = Desk::new();
    // A server that takes connections and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", deaf.local_addr().unwrap());
    let template = desk.write("template", "{{ secret \"a\" }}");
    let template = template.to_str().unwrap();
    let file = desk.path("file");
    for args in [
        &["run", "--", "echo", "started"][..],
        &["run", "--watch", "--fallback", file.to_str().unwrap(), "--", "echo", "started"],
        &["render", template, "-o", file.to_str().unwrap()],
    ] {
        let mut terminal = Terminal::open(args, |command| {
            desk.place(command);
            command.env("TENURE_ADDR", &address).env("TENURE_TENANT", "dev");
            command.env("TENURE_TOKEN", "x");
        });
        let (_connection, _) = deaf.accept().unwrap();
        terminal.type_in("\u{3}");
        let (code, shown) = terminal.ended();
        assert_eq!(code, Some(130), "{args:?}: {shown}");
        assert!(!shown.contains("started") && !file.exists(), "{args:?}: {shown}");
    }
}

#[test]
fn a_watched_command_is_started_anew_when_a_value_changes() {
    let desk = Desk::new();
    desk.store("word", "one");
    let line = "echo $WORD >> log; trap 'echo told >> log; exit 0' TERM; \
                while :; do sleep 0.02; done";
    let mut child = started(&desk, &["--watch", "--watch-interval", "100ms"], line);
    let log = desk.path("log");
    let shows = |text: &str| {
        eventually(text, || (fs::read_to_string(&log).ok()? == text).then_some(()));
    };
    shows("one\n");
    desk.store("word", "two");
    shows("one\ntold\ntwo\n");
    desk.store("other", "appears");
    shows("one\ntold\ntwo\ntold\ntwo\n");
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child).code(), Some(0), "the command's own");
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(said.matches("secrets have changed").count(), 2, "{said}");
}

#[test]
fn a_watched_command_goes_on_while_the_server_is_away() {
    let mut desk = Desk::new();
    desk.store("word", "one");
    let line = "echo $WORD >> log; exec sleep 1000";
    let mut child = started(&desk, &["--watch", "--watch-interval", "100ms"], line);
    assert_eq!(wait_for(&desk.path("log")), "one\n");
    desk.stop();
    let mut said = child.says("goes on with what it has");
    signal(child.id(), "INT");
    assert_eq!(ended(&mut child).signal(), Some(2), "as the command died");
    said += &std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(said.matches("goes on").count(), 1, "{said}");
    assert_eq!(fs::read_to_string(desk.path("log")).unwrap(), "one\n");
}

#[test]
fn a_watched_command_goes_on_when_its_credential_is_revoked() {
    let desk = Desk::new();
    desk.store("word", "one");
    let mint = ["token", "mint", "--tenant", "dev", "--scope", "Secret.Read", "--subject", "ci"];
    let token = maintain(&desk.path(".tenure"), &mint).stdout;
    let words = script("echo $WORD >> log; exec sleep 1000");
    let args = [&["run", "--watch", "--watch-interval", "100ms"][..], &words].concat();
    let mut command = desk.tenure(&args);
    command.env("TENURE_ADDR", format!("http://{}", desk.dev().address));
    command.env("TENURE_TENANT", "dev").env("TENURE_TOKEN", token.trim());
    let mut child = Started::of(&mut command);
    assert_eq!(wait_for(&desk.path("log")), "one\n");
    let revoke = ["token", "revoke", "--subject", "ci", "--tenant", "dev"];
    assert_eq!(maintain(&desk.path(".tenure"), &revoke).code, Some(0));
    desk.store("word", "two");
    let said = child.says("goes on with what it has");
    assert!(said.contains("is not valid") && !said.contains(token.trim()), "{said}");
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child).signal(), Some(15));
    assert_eq!(fs::read_to_string(desk.path("log")).unwrap(), "one\n");
}

#[test]
fn what_a_watched_command_left_running_ends_before_it_is_started_anew() {
    let desk = Desk::new();
    desk.store("word", "one");
    // A shell that waits for another, which would go on without it.
    let line = "sh -c 'echo $$ $WORD >> log; exec sleep 1000'; true";
    let mut child = started(&desk, &["--watch", "--watch-interval", "100ms"], line);
    let log = wait_for(&desk.path("log"));
    let (pid, _) = log.split_once(' ').unwrap();
    desk.store("word", "two");
    eventually("the next", || {
        let log = fs::read_to_string(desk.path("log")).unwrap();
        log.ends_with(" two\n").then(|| assert!(!is_there(pid), "{log}"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let log = fs::read_to_string(desk.path("log")).unwrap();
    let last = log.lines().last().and_then(|line| line.split_once(' ')).unwrap().0;
    signal(last.parse().unwrap(), "KILL");
}

#[test]
fn a_watched_command_that_does_not_end_when_told_is_killed() {
    let desk = Desk::new();
    desk.store("word", "one");
    let line = "echo $WORD >> log; trap 'echo told >> log' TERM; while :; do sleep 0.02; done";
    let mut child = started(&desk, &["--watch", "--watch-interval", "100ms"], line);
    assert_eq!(wait_for(&desk.path("log")), "one\n");
    desk.store("word", "two");
    // After the ten seconds that it is given.
    eventually("a start with the new value", || {
        (fs::read_to_string(desk.path("log")).ok()? == "one\ntold\ntwo\n").then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_named_secret_that_expires_ends_a_watched_command_and_another_is_taken_away() {
    let desk = Desk::new();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(4);
    let soon = soon.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let soon = tenure::domain::Timestamp::from_unix_seconds(soon.try_into().unwrap());
    desk.store_body("short", &format!(r#"{{"value": "s", "expiresOn": "{soon}"}}"#));
    // An hour: only the window's end can wake them.
    let watch = ["--watch", "--watch-interval", "1h"];
    let listed = "echo ${SHORT-gone} >> listed; exec sleep 1000";
    let mut without = started(&desk, &watch, listed);
    let named = [&watch[..], &["--env", "SHORT=short"]].concat();
    let mut with = started(&desk, &named, "echo $SHORT >> named; exec sleep 1000");
    assert_eq!(wait_for(&desk.path("named")), "s\n");
    assert_eq!(ended(&mut with).code(), Some(3));
    let said = std::io::read_to_string(with.stderr.take().unwrap()).unwrap();
    assert!(said.contains("no secret 'short'"), "{said}");
    eventually("a start without it", || {
        (fs::read_to_string(desk.path("listed")).ok()? == "s\ngone\n").then_some(())
    });
    signal(without.id(), "TERM");
    assert_eq!(ended(&mut without).signal(), Some(15));
}

#[test]
fn a_watched_command_dies_with_tenure_and_nothing_is_left_on_disk() {
    let desk = Desk::new();
    desk.store("word", "correct-horse-battery");
    let copy = desk.path("copy");
    let copy = copy.to_str().unwrap();
    for options in [&[][..], &["--fallback", copy], &["--watch"], &["--watch", "--fallback", copy]]
    {
        let line = "echo $$ > pid; trap '' TERM; while :; do sleep 0.02; done";
        let mut child = started(&desk, options, line);
        let pid = wait_for(&desk.path("pid"));
        for entry in fs::read_dir("/proc").unwrap() {
            let words = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words);
            assert!(!words.contains("correct-horse-battery"), "{words}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the end of the command", || (!is_there(&pid)).then_some(()));
        fs::remove_file(desk.path("pid")).unwrap();
        // The store's own file is ciphertext, its log too is searched.
        assert_nowhere("correct-horse-battery", desk.home());
    }
}

/// A server that answers everything with 503, or nothing at all.
struct Unavailable {
    listener: Arc<TcpListener>,
    address: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Says503,
    Silent,
}

impl Unavailable {
    fn at(address: SocketAddr, how: How) -> Self {
        let listener = Arc::new(TcpListener::bind(address).expect("it is free again"));
        let accepting = Arc::clone(&listener);
        std::thread::spawn(move || {
            let answer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\
                          Connection: close\r\nContent-Length: 0\r\n\r\n";
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = accepting.accept() {
                let asked = stream.read(&mut [0; 4_096]).unwrap_or(0);
                if asked == 0 {
                    return;
                }
                match how {
                    How::Says503 => drop(stream.write_all(answer.as_bytes())),
                    How::Silent => kept.push(stream),
                }
            }
        });
        Self { listener, address }
    }

    /// Frees its port.
    fn stop(self) {
        let Self { listener, address } = self;
        drop(TcpStream::connect(address).expect("it listens"));
        eventually("its end", || (Arc::strong_count(&listener) == 1).then_some(()));
    }
}

#[test]
fn a_copy_serves_while_the_server_is_away_and_only_then() {
    let mut desk = Desk::new();
    desk.store("word", "hunter2");
    desk.store_body("last", r#"{"value": "x", "expiresOn": "2100-01-01T00:00:00Z"}"#);
    let copy = desk.path("copy");
    let options = ["--fallback", copy.to_str().unwrap()];
    let line = "echo $WORD";
    let only = [&options[..], &["--fallback-only"]].concat();
    run(&desk, &only, line).assert_fails(5, &["no copy yet"]);
    assert_eq!(run(&desk, &options, line).stdout, "hunter2\n");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    desk.store("word", "newer");
    let offline = run(&desk, &only, line);
    assert_eq!(offline.stdout, "hunter2\n");
    assert!(offline.stderr.contains("from a copy"), "{offline:?}");

    // One that says no is believed.
    let address = format!("http://{}", desk.dev().address);
    let as_other = |address: &str, token: &str| {
        let mut command = desk.tenure(&[&["run"], &options[..], &script(line)].concat());
        command.env("TENURE_ADDR", address).env("TENURE_TENANT", "dev");
        Output::of(command.env("TENURE_TOKEN", token))
    };
    as_other(&address, "x").assert_fails(8, &[]);
    as_other("http://127.0.0.1:1", &desk.dev().token)
        .assert_fails(5, &["cannot be reached", "another server or tenant"]);
    as_other("http://127.0.0.1:1", "x").assert_fails(5, &["another credential"]);

    let address = desk.dev().address;
    desk.stop();
    for how in [How::Says503, How::Silent] {
        let server = Unavailable::at(address, how);
        let away = run(&desk, &options, line);
        assert_eq!((away.code, away.stdout.as_str()), (Some(0), "hunter2\n"), "{away:?}");
        server.stop();
    }
    let away = run(&desk, &options, line);
    assert_eq!((away.code, away.stdout.as_str()), (Some(0), "hunter2\n"), "{away:?}");
    let named = [&options[..], &["--env", "A=word"]].concat();
    run(&desk, &named, line).assert_fails(5, &["for other secrets"]);
    fs::write(&copy, "hunter2").unwrap();
    let broken = run(&desk, &options, line);
    broken.assert_fails(5, &["cannot be reached", "is no copy"]);
    assert!(!broken.stderr.contains("hunter2"), "{broken:?}");
}
