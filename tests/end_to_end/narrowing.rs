//! Narrowing a token offline: by our own commands, and by the very examples of
//! docs/tokens.md, whose result is held against a running server.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Dev, Operated, Output, Request, tenure};

/// A server with the tenant `acme`, two secrets and a token for reading them.
struct Acme {
    dev: Dev,
    owner: String,
    token: String,
    folder: tempfile::TempDir,
}

const VALUE: &str = "the key to the deployment";

impl Acme {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(&folder.path().join("data"));
        dev.create_tenant("acme");
        let owner = dev.mint("acme", &["*"]);
        let acme = Self { token: dev.mint("acme", &["*"]), owner, dev, folder };
        for name in ["ci-deploy-key", "production"] {
            let put = Request::put(path(name), json!({ "value": VALUE }).to_string());
            assert_eq!(acme.status(put, &acme.owner), 204);
        }
        acme
    }

    fn status(&self, request: Request, token: &str) -> u16 {
        self.dev.client().send(&request.bearer(token)).status
    }

    /// What the recipe promises of a job's token.
    fn hold_to_the_recipe(&self, token: &str) {
        let get = |name: &str| self.status(Request::get(path(name)), token);
        assert_eq!(get("ci-deploy-key"), 200);
        assert_eq!(get("ci-other"), 404);
        assert_eq!(get("production"), 403);
        assert_eq!(get("ci"), 403);
        let put = Request::put(path("ci-deploy-key"), r#"{"value":"stolen"}"#);
        assert_eq!(self.status(put, token), 403);
        assert_eq!(self.status(Request::delete(path("ci-deploy-key")), token), 403);
        let list = self.dev.client().send(&Request::get("/api/acme/secrets").bearer(token));
        assert_eq!(list.json(), json!(["ci-deploy-key"]));
        let inspection = inspected(token);
        let narrowed = inspection["narrowedTo"].as_array().unwrap();
        assert_eq!(narrowed.len(), 3, "{inspection}");
        assert_eq!(narrowed[0], "only to read and list");
        assert_eq!(narrowed[1], "only secrets whose name begins with \"ci-\"");
        let until = narrowed[2].as_str().unwrap().strip_prefix("only before ").unwrap();
        let until = tenure::domain::Timestamp::parse(until).unwrap();
        let left = until.unix_seconds() - now();
        assert!((1..=600).contains(&left), "ten minutes: {left} s are left");
    }
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

fn path(name: &str) -> String {
    format!("/api/acme/secrets/{name}")
}

fn token_command(words: &[&str]) -> Command {
    let mut command = tenure();
    command.arg("token").args(words);
    command
}

/// With this token on standard input.
fn given(token: &str, words: &[&str]) -> Output {
    let mut command = token_command(words);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses its arguments does not read it.
    let _ = stdin.write_all(token.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn made(token: &str, words: &[&str]) -> String {
    let output = given(token, words);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    let made = output.stdout.strip_suffix('\n').unwrap();
    assert!(!made.contains(char::is_whitespace), "the token alone: {made:?}");
    made.to_owned()
}

#[track_caller]
fn refused(token: &str, words: &[&str], says: &[&str]) {
    let output = given(token, words);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{output:?}");
    for word in says {
        assert!(output.stderr.contains(word), "no {word:?} in {output:?}");
    }
    let tail = &token[token.len().saturating_sub(40)..];
    assert!(tail.len() < 40 || !output.stderr.contains(tail), "{output:?}");
}

fn inspected(token: &str) -> Value {
    let output = given(token, &["inspect", "--json"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

#[test]
fn a_token_is_narrowed_offline_and_the_server_holds_it_to_that() {
    let acme = Acme::new();
    let job = made(&acme.token, &["attenuate", "--read-only", "--prefix", "ci-", "--ttl", "10m"]);
    acme.hold_to_the_recipe(&job);
    acme.hold_to_the_recipe(&made(&job, &["seal"]));
    let get = |name: &str, token: &str| acme.status(Request::get(path(name)), token);

    let named = ["attenuate", "--name", "production", "--name", "other", "--prefix", "x"];
    let named = made(&acme.token, &named);
    assert_eq!((get("production", &named), get("other", &named)), (200, 404));
    assert_eq!((get("xylophone", &named), get("ci-deploy-key", &named)), (404, 403));
    let put = Request::put(path("other"), r#"{"value":"v"}"#);
    assert_eq!(acme.status(put, &named), 204, "writing was not taken away");

    let later = made(&acme.token, &["attenuate", "--not-before", "2020-01-01T00:00:00Z"]);
    assert_eq!(get("production", &later), 200);
    let soon = tenure::domain::Timestamp::from_unix_seconds(now() + 1_800).to_string();
    let later = made(&acme.token, &["attenuate", "--not-before", &soon]);
    assert_eq!(get("production", &later), 403);
    assert_eq!(get("production", &acme.token), 200, "the token it was made of stays");
}

#[test]
fn the_token_comes_from_a_pipe_or_a_variable_and_goes_out_alone() {
    let acme = Acme::new();
    let words = ["attenuate", "--read-only"];
    made(&format!("{}\n", acme.token), &words);
    let by_variable = Output::of(token_command(&words).env("TENURE_TOKEN", &acme.token));
    assert_eq!(by_variable.code, Some(0), "{by_variable:?}");
    assert_eq!(inspected(&by_variable.stdout)["narrowedTo"], json!(["only to read and list"]));
    let output = given(&acme.token, &["attenuate", "--read-only", "--json"]);
    let shown: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(shown.as_object().unwrap().len(), 2);
    assert_eq!(shown["allows"], inspected(shown["token"].as_str().unwrap()));
    assert_eq!(shown["allows"]["blocks"], 2);
    let sealed = given(&acme.token, &["seal", "--json"]);
    let shown: Value = serde_json::from_str(&sealed.stdout).unwrap();
    assert_eq!(shown["allows"]["sealed"], true);
    refused("", &words, &["not well-formed"]);
    let argument = Output::of(token_command(&words).arg(&acme.token));
    assert_eq!(argument.code, Some(2), "a token is no argument: {argument:?}");
}

#[test]
fn on_a_terminal_it_says_what_the_new_token_allows() {
    let acme = Acme::new();
    let line = format!("{} token attenuate --prefix ci-", env!("CARGO_BIN_EXE_tenure"));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TENURE_TOKEN", &acme.token);
    let output = Output::of(script.stdin(Stdio::null()));
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("narrowed    only secrets whose name begins with \"ci-\""));
}

#[test]
fn what_would_not_be_taken_is_not_made() {
    let acme = Acme::new();
    let token = acme.token.as_str();
    refused(token, &["attenuate"], &["--read-only", "--help"]);
    refused(token, &["attenuate", "--name", "a/b"], &["--name", "A-Z a-z 0-9"]);
    refused(token, &["attenuate", "--prefix", "a b"], &["--prefix", "A-Z a-z 0-9"]);
    refused(token, &["attenuate", "--prefix", ""], &["every name"]);
    refused(token, &["attenuate", "--not-before", "tomorrow"], &["--not-before", "RFC 3339"]);
    refused(token, &["attenuate", "--ttl", "0s"], &["at least 1 second"]);
    refused(token, &["attenuate", "--ttl", "2h"], &["cannot extend it", "new token"]);
    let late = "2999-01-01T00:00:00Z";
    refused(token, &["attenuate", "--not-before", late], &["only when it has ended"]);
    let thrice =
        (0..3).fold(token.to_owned(), |token, _| made(&token, &["attenuate", "--read-only"]));
    refused(&thrice, &["attenuate", "--read-only"], &["narrowed 3 times", "an earlier one"]);
    let full =
        crate::support::tokens::narrowed(token, &r#"check if operation("read");"#.repeat(16));
    refused(&full, &["attenuate", "--read-only"], &["17 checks", "at most 16"]);
    let names: Vec<_> = (0..150).map(|number| format!("--name={number:0>40}")).collect();
    let words: Vec<_> = ["attenuate"].into_iter().chain(names.iter().map(String::as_str)).collect();
    refused(token, &words, &["larger than 4 KiB", "a prefix"]);
    let sealed = made(token, &["seal"]);
    refused(&sealed, &["attenuate", "--read-only"], &["sealed", "ask for one"]);
    refused(&sealed, &["seal"], &["sealed"]);
    let foreign_shape = crate::support::tokens::narrowed(token, r#"scope("*")"#);
    refused(&foreign_shape, &["attenuate", "--read-only"], &["not a documented check"]);
    refused(&token[..token.len() / 2], &["attenuate", "--read-only"], &["not well-formed"]);
}

// The examples of docs/tokens.md.

const DOCUMENT: &str = include_str!("../../docs/tokens.md");

/// The first block of this language.
fn example(language: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("\n```").unwrap().0
}

/// What tests/run installed for them.
fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/narrowing");
    assert!(
        tools.join("installed").exists(),
        "the libraries of these examples are not there: run ./tests/run, which installs them"
    );
    tools
}

/// What an example prints, that is given the server and a token.
fn printed(acme: &Acme, command: &mut Command) -> String {
    command.env("TENURE_ADDR", format!("http://{}", acme.dev.address));
    let output = Output::of(command.env("TENURE_TOKEN", &acme.token).stdin(Stdio::null()));
    assert_eq!(output.code, Some(0), "{output:?}");
    let token = output.stdout.strip_suffix('\n').unwrap();
    assert!(!token.contains(char::is_whitespace), "the token alone: {token:?}");
    token.to_owned()
}

#[test]
fn the_recipe_gives_a_job_its_token() {
    let acme = Acme::new();
    let binary = Path::new(env!("CARGO_BIN_EXE_tenure")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&path)));
    let mut shell = Command::new("sh");
    shell.args(["-euc", example("sh")]).current_dir(acme.folder.path());
    shell.env("PATH", path.unwrap()).env("TENURE_DATA", &acme.dev.data);
    shell.env("TENURE_ADDR", format!("http://{}", acme.dev.address));
    shell.env_remove("TENURE_TOKEN").env_remove("TENURE_CONFIG");
    let output = Output::of(&mut shell);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    assert!(output.stdout.ends_with(&json!(VALUE).to_string()), "{output:?}");
    assert!(output.stdout.contains("narrowed    only to read and list\n"), "{output:?}");
    let job = fs::read_to_string(acme.folder.path().join("job.token")).unwrap();
    acme.hold_to_the_recipe(job.trim());
}

#[test]
fn the_example_in_python_narrows_as_the_recipe_does() {
    let acme = Acme::new();
    let python = tools().join("python/bin/python");
    let job = printed(&acme, Command::new(python).args(["-c", example("python")]));
    acme.hold_to_the_recipe(&job);
}

#[test]
fn the_example_in_javascript_narrows_as_the_recipe_does() {
    let acme = Acme::new();
    let script = acme.folder.path().join("narrow.mjs");
    fs::write(&script, example("js")).unwrap();
    let modules = acme.folder.path().join("node_modules");
    std::os::unix::fs::symlink(tools().join("node_modules"), modules).unwrap();
    let mut node = Command::new("node");
    node.args(["--experimental-wasm-modules", "--no-warnings"]).arg(script);
    acme.hold_to_the_recipe(&printed(&acme, &mut node));
}
