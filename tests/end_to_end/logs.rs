//! The log of a server: its forms, a line for each request, and what is in none of them.

use std::process::Command;

use serde_json::Value;

use super::support::{Client, Request, Serve, init};

/// What was logged while secrets were used, and what must not be in it.
struct Logged {
    lines: Vec<String>,
    kept: Vec<String>,
}

const HOSTILE: &str = "id\"},{\"level\":\"error\",\"message\":\"forged";

fn logged(adapt: impl FnOnce(&mut Command)) -> Logged {
    let folder = tempfile::tempdir().unwrap();
    let data = init(folder.path());
    let server = Serve::start_with(&data, |command| {
        adapt(command.arg("--data").arg(&data));
    });
    assert_eq!(server.run(&["tenant", "create", "acme"]).code, Some(0));
    let minted = ["token", "mint", "--tenant", "acme", "--scope", "*", "--ttl", "1h"];
    let token = server.run(&minted).stdout.trim().to_owned();
    let created = ["api-key", "create", "--tenant", "acme", "--scope", "Secret.Read"];
    let key = server.run(&created).stdout.trim().to_owned();
    let mut client = Client::new(server.address);
    let path = "/api/acme/secrets/launch-codes";
    let body = r#"{"value":"treasure-7301"}"#;
    let put = Request::put(path, body).bearer(&token).header("X-Request-Id", "first-1");
    assert_eq!(client.send(&put).header("x-request-id"), Some("first-1"));
    let get = Request::get(path).api_key(&key).header("X-Request-Id", HOSTILE);
    let answer = client.send(&get);
    assert_eq!(answer.status, 200);
    assert!(!answer.header("x-request-id").unwrap().contains('"'), "{answer:?}");
    let stray = Request::new("BREW", "/api/acme/coffee-pot").bearer("wrong-token");
    assert_eq!(client.send(&stray).status, 404);
    let (code, log) = server.stop_by("TERM");
    assert_eq!(code, Some(0), "{log}");
    let words = ["launch-codes", "treasure-7301", "coffee-pot", "BREW", "wrong-token", "forged"];
    let kept = words.into_iter().map(str::to_owned).chain([token, key]).collect();
    Logged { lines: log.lines().map(str::to_owned).collect(), kept }
}

impl Logged {
    fn assert_nothing_is_told(&self) {
        for word in &self.kept {
            let told = self.lines.iter().find(|line| line.contains(word));
            assert_eq!(told, None, "{word}");
        }
    }

    fn requests(&self) -> Vec<&String> {
        self.lines.iter().filter(|line| line.contains("/api/{tenantId}/secrets/{key}")).collect()
    }
}

#[test]
fn requests_have_a_line_each_when_it_is_asked_for() {
    let logged = logged(|command| _ = command.env("TENURE_LOG_REQUESTS", "true"));
    logged.assert_nothing_is_told();
    let requests = logged.requests();
    assert_eq!(requests.len(), 2, "{:?}", logged.lines);
    for word in [
        " INFO  answered id=first-1 method=PUT route=/api/{tenantId}/secrets/{key} status=204 ",
        " seconds=0.",
        " credential=biscuit",
    ] {
        assert!(requests[0].contains(word), "{word:?} is not in {}", requests[0]);
    }
    assert!(requests[1].ends_with(" credential=api_key"), "{}", requests[1]);
    let stray = "method=other route=none status=404 ";
    assert!(logged.lines.iter().any(|line| line.contains(stray)), "{:?}", logged.lines);
}

#[test]
fn nobody_asked_for_a_line_of_each_request() {
    let logged = logged(|command| _ = command.env("RUST_LOG", "trace"));
    logged.assert_nothing_is_told();
    assert_eq!(logged.requests(), Vec::<&String>::new());
}

#[test]
fn json_is_an_object_in_each_line() {
    let logged = logged(|command| {
        command.env("TENURE_LOG_REQUESTS", "true").env("TENURE_LOG_FORMAT", "json");
    });
    logged.assert_nothing_is_told();
    let objects = logged.lines.iter().map(|line| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        for field in ["time", "level", "target", "message"] {
            assert!(object[field].is_string(), "{line}");
        }
        object
    });
    let objects: Vec<_> = objects.collect();
    let put = objects.iter().find(|object| object["id"] == "first-1").expect("a line");
    assert_eq!((&put["status"], &put["method"]), (&204.into(), &"PUT".into()));
    assert!(put["seconds"].as_f64().unwrap() > 0.0, "{put}");
    assert_eq!((&put["level"], &put["target"]), (&"info".into(), &"tenure::request".into()));
}

#[test]
fn the_journal_gets_priorities_in_place_of_times() {
    let logged = logged(|command| {
        command.env("TENURE_LOG_FORMAT", "journal").env("RUST_LOG", "tenure=debug");
    });
    logged.assert_nothing_is_told();
    for line in &logged.lines {
        assert!(["<3>", "<4>", "<6>", "<7>"].iter().any(|mark| line.starts_with(mark)), "{line}");
    }
    assert!(logged.lines.iter().any(|line| line.starts_with("<6>serving ")), "{:?}", logged.lines);
}

#[test]
fn the_journal_is_known_by_what_systemd_says_of_it() {
    // A shell tells the truth, once its standard error is what the server will have.
    let truth = r#"JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@""#;
    let logged_by = |said: &'static str| {
        logged(move |command| {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", said, "sh"]).arg(command.get_program()).args(command.get_args());
            shell.env_remove("RUST_LOG");
            *command = shell;
        })
    };
    let journal = logged_by(truth);
    assert!(journal.lines.iter().all(|line| line.starts_with('<')), "{:?}", journal.lines);
    let elsewhere = logged_by(r#"JOURNAL_STREAM=1:1 exec "$@""#);
    assert!(elsewhere.lines.iter().all(|line| !line.starts_with('<')), "{:?}", elsewhere.lines);
}

#[test]
fn rust_log_is_heeded_in_place_of_the_configured_level() {
    let quiet = logged(|command| {
        command.env("TENURE_LOG_LEVEL", "debug").env("RUST_LOG", "tenure=info,tenure::request=off");
        command.env("TENURE_LOG_REQUESTS", "true");
    });
    assert_eq!(quiet.requests(), Vec::<&String>::new());
    assert!(quiet.lines.iter().any(|line| line.contains(" serving ")), "{:?}", quiet.lines);
    assert!(!quiet.lines.iter().any(|line| line.contains(" DEBUG ")), "{:?}", quiet.lines);
}
