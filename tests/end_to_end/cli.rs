//! Every command, with a server running and without; every way in which one
//! fails, its exit code, and what it tells to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tenure::domain::Timestamp;

use crate::support::{Dev, Output, Request, Serve, eventually, init, maintain, store_in, tenure};

/// A folder for one test, with a store that `tenure init` made in `data`.
struct Place {
    folder: tempfile::TempDir,
    data: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = init(folder.path());
        Self { folder, data }
    }

    fn run(&self, args: &[&str]) -> Output {
        maintain(&self.data, args)
    }

    fn kek(&self) -> PathBuf {
        self.folder.path().join("data.kek")
    }

    /// What `tenure serve` says that does not get to serve.
    fn serve(&self, adapt: impl FnOnce(&mut Command)) -> Output {
        let mut command = tenure();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&self.data);
        adapt(&mut command);
        Output::of(&mut command)
    }
}

#[track_caller]
fn done(output: Output) -> String {
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stderr, "", "{output:?}");
    output.stdout
}

#[track_caller]
fn fails(output: &Output, code: i32, words: &[&str]) {
    output.assert_fails(code, words);
}

#[track_caller]
fn json_of(output: Output) -> Value {
    let stdout = done(output);
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// The value at `pointer`, which becomes the word in `as_what`: for what no test
/// can know beforehand.
#[track_caller]
fn mask(document: &mut Value, pointer: &str, is: fn(&Value) -> bool) {
    let found = document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is there"));
    assert!(is(found), "{pointer}: {found}");
    *found = json!("*");
}

fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|id| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()))
}

fn is_revocation_id(value: &Value) -> bool {
    value.as_str().is_some_and(|id| id.len() == 128 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|time| time.ends_with('Z') && time.as_bytes().get(10) == Some(&b'T'))
}

/// All that maintenance does, as text; the same whether a server runs or not.
fn every_maintenance_command(run: &dyn Fn(&[&str]) -> Output, server: &str) {
    assert_eq!(
        done(run(&["tenant", "list"])),
        "no tenants yet; 'tenure tenant create NAME' makes one\n"
    );
    let created = done(run(&["tenant", "create", "acme"]));
    assert!(created.starts_with("tenant 'acme' created\nnext: tenure token mint --tenant acme"));
    fails(&run(&["tenant", "create", "acme"]), 4, &["exists already", "tenure tenant list"]);
    let list = done(run(&["tenant", "list"]));
    let mut lines = list.lines();
    assert_eq!(
        lines.next().map(|line| line.split_whitespace().collect::<Vec<_>>()),
        Some(vec!["NAME", "ID", "CREATED"])
    );
    assert!(lines.next().is_some_and(|line| line.starts_with("acme  ")) && lines.next().is_none());

    let mint = ["token", "mint", "--tenant", "acme", "--scope", "Secret.Read", "--ttl", "10m"];
    let token = done(run(&mint));
    assert!(token.ends_with('\n') && token.trim().len() > 100);
    assert!(!token.trim().contains(char::is_whitespace), "the token alone: {token:?}");
    fails(&run(&["token", "mint", "--tenant", "none", "--scope", "*"]), 3, &["no tenant 'none'"]);
    fails(&run(&["token", "mint", "--tenant", "acme", "--scope", "Read"]), 2, &["'Read'"]);
    fails(&run(&["token", "mint", "--tenant", "a/b", "--scope", "*"]), 2, &["a tenant's name"]);
    let zero = ["token", "mint", "--tenant", "acme", "--scope", "*", "--ttl", "0s"];
    fails(&run(&zero), 2, &["between 1 second and 10 years"]);

    every_command_about_credentials(run);

    assert_eq!(done(run(&["sweep"])), "acme: removed 0\nremoved 0 expired secrets\n");
    let dry = done(run(&["sweep", "--dry-run", "--tenant", "acme", "--retain", "1h"]));
    assert_eq!(dry, "acme: would remove 0\nwould remove 0 expired secrets\n");
    fails(&run(&["sweep", "--tenant", "none"]), 3, &["no tenant 'none'", "tenure tenant list"]);

    let status = done(run(&["status"]));
    let labels: Vec<_> = status.lines().map(|line| line.get(..12).unwrap_or(line).trim()).collect();
    let expected = "version,server,state,data,size,free,tenants,secrets,clock,floor,last sweep";
    assert_eq!(labels, expected.split(',').collect::<Vec<_>>());
    for words in [
        format!("server      {server}\n"),
        "state       unsealed, writable\n".to_owned(),
        "secrets     0 valid, 0 not valid yet, 0 expired\n".to_owned(),
        "(undisputed)\n".to_owned(),
    ] {
        assert!(status.contains(&words), "{words}{status}");
    }
    let accepted = done(run(&["clock", "accept"]));
    assert!(accepted.starts_with("accepted ") && accepted.contains("the latest undisputed was"));

    fails(&run(&["tenant", "delete", "acme"]), 2, &["--yes"]);
    fails(&run(&["tenant", "delete", "none", "--yes"]), 3, &["no tenant 'none'"]);
    assert!(done(run(&["tenant", "delete", "acme", "--yes"])).starts_with("tenant 'acme' deleted"));
    fails(&run(&["token", "mint", "--tenant", "acme", "--scope", "*"]), 3, &["no tenant 'acme'"]);
}

fn every_command_about_credentials(run: &dyn Fn(&[&str]) -> Output) {
    let none = "no API keys; 'tenure api-key create' makes one\n";
    assert_eq!(done(run(&["api-key", "list"])), none);
    let create = ["api-key", "create", "--tenant", "acme", "--scope", "Secret.Read"];
    let key = done(run(&[&create[..], &["--name", "job", "--expires", "30d"]].concat()));
    let id = key.split('_').nth(1).expect("an id");
    assert!(key.starts_with("tnr_") && key.trim().len() == 64 && key.ends_with('\n'), "{key:?}");
    for (more, words) in [
        (["--expires", "2001-01-01"], "in the future"),
        (["--expires", "0s"], "in the future"),
        (["--name", ""], "the name must not be empty"),
        (["--scope", "Server.Admin"], "'Server.Admin' is not a scope"),
    ] {
        fails(&run(&[&create[..], &more].concat()), 2, &[words]);
    }
    let nowhere = ["api-key", "create", "--tenant", "none", "--scope", "*"];
    fails(&run(&nowhere), 3, &["no tenant 'none'"]);
    let list = done(run(&["api-key", "list", "--tenant", "acme"]));
    let lines: Vec<_> = list.lines().collect();
    let heads: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(heads, ["ID", "TENANT", "SCOPES", "EXPIRES", "LAST", "USED", "NAME"]);
    assert!(lines[1].starts_with(&format!("{id}  acme    Secret.Read  ")), "{list}");
    assert!(lines[1].ends_with("never      job") && lines.len() == 2, "{list}");
    assert!(!list.contains(&key[21..40]));
    let dry = done(run(&["api-key", "revoke", id, "--dry-run"]));
    assert_eq!(dry, format!("would revoke API key {id} 'job' of tenant 'acme', never used\n"));
    let whole = run(&["api-key", "revoke", key.trim()]);
    fails(&whole, 2, &["16 hexadecimal digits"]);
    assert!(!whole.stderr.contains(&key[21..40]), "{whole:?}");
    assert!(done(run(&["api-key", "revoke", id])).starts_with("revoked API key "));
    fails(&run(&["api-key", "revoke", id]), 3, &["no such API key", "tenure api-key list"]);

    assert_eq!(done(run(&["token", "list"])), "nothing is revoked\n");
    let subject = ["token", "revoke", "--subject", "ci", "--tenant", "acme"];
    let dry = done(run(&[&subject[..], &["--dry-run"]].concat()));
    assert!(dry.starts_with("would revoke what was minted for 'ci' in tenant 'acme' before 2"));
    assert_eq!(done(run(&["token", "list"])), "nothing is revoked\n");
    assert!(done(run(&subject)).starts_with("revoked what was minted for 'ci'"));
    let of_tenant = ["token", "revoke", "--tenant", "acme", "--before", "2020-01-31"];
    let text = "revoked everything issued in tenant 'acme' before 2020-01-31T00:00:00Z\n";
    assert_eq!(done(run(&of_tenant)), text);
    assert_eq!(done(run(&["token", "list", "--tenant", "acme"])).lines().count(), 3);
    let page = done(run(&["token", "list", "--limit", "1"]));
    let next = page.lines().last().and_then(|line| line.strip_prefix("there are more: --after "));
    let next = next.expect("a second page");
    assert_eq!(done(run(&["token", "list", "--after", next])).lines().count(), 2);
    fails(&run(&["token", "list", "--after", "x"]), 2, &["--after"]);
    for (args, words) in [
        (&["token", "revoke"][..], "say what to revoke"),
        (&["token", "revoke", "--tenant", "acme"], "say what to revoke"),
        (&["token", "revoke", "--id", "00"], "128 hexadecimal digits"),
        (&["token", "revoke", "--tenant", "acme", "--before", "2200-01-01"], "in the future"),
        (&["token", "rotate-root", "--honour-old-until", "2001-01-01"], "in the future"),
    ] {
        fails(&run(args), 2, &[words]);
    }
    for (args, words) in [
        (&["token", "revoke", "--tenant", "acme", "--before", "soon"][..], "RFC 3339"),
        (&["token", "revoke", "--subject", "ci"], "--tenant"),
        (&["token", "revoke", "--id", "00", "--tenant", "acme"], "cannot be used with"),
        (&["token", "rotate-root"], "--honour-old-until"),
        (&["token", "rotate-root", "--now", "--honour-old-until", "7d"], "cannot be used with"),
    ] {
        let refused = run(args);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }

    let rotated = done(run(&["token", "rotate-root", "--honour-old-until", "7d"]));
    let lines: Vec<_> = rotated.lines().collect();
    assert!(
        lines[lines.len() - 2].contains("until 2") && lines[lines.len() - 1].ends_with("signs")
    );
    assert_eq!(done(run(&["token", "roots"])), rotated);
    let now = done(run(&["token", "rotate-root", "--now"]));
    assert!(now.lines().count() == 2 && now.trim_end().ends_with("signs"), "{now}");
}

#[test]
fn every_maintenance_command_works_without_a_server_and_with_one() {
    let place = Place::new();
    every_maintenance_command(&|args| place.run(args), "not running");
    let serve = Serve::start(&place.data);
    every_maintenance_command(&|args| serve.run(args), "running");
}

fn every_answer_about_deks(json: &dyn Fn(&[&str]) -> Value) {
    let rotated = |dry_run: bool, reencrypted: Value| json!({"reply": "deks-rotated", "dryRun": dry_run, "tenants": 1, "system": true, "reencrypted": reencrypted});
    assert_eq!(json(&["dek", "rotate", "--dry-run"]), rotated(true, Value::Null));
    assert_eq!(json(&["dek", "rotate"]), rotated(false, Value::Null));
    let done = json!({"secrets": 0, "damaged": 0});
    assert_eq!(json(&["dek", "rotate", "--rewrite"]), rotated(false, done));
    let mut list = json(&["dek", "list"]);
    for of in [0, 1] {
        mask(&mut list, &format!("/deks/{of}/madeOn"), is_time);
    }
    // The system outlives the tenant of one round.
    mask(&mut list, "/deks/1/id", |id| id.as_u64() >= Some(3));
    let dek = |tenant: Value, id: Value| json!({"tenant": tenant, "id": id, "state": "active", "madeOn": "*"});
    assert_eq!(
        list,
        json!({"reply": "deks", "deks": [dek(json!("acme"), json!(3)), dek(Value::Null, json!("*"))]})
    );
}

fn every_answer_in_json(run: &dyn Fn(&[&str]) -> Output, serving: bool, data: &Path) {
    let json = |args: &[&str]| json_of(run(&[args, &["--json"]].concat()));
    let mut created = json(&["tenant", "create", "acme"]);
    mask(&mut created, "/id", is_id);
    assert_eq!(created, json!({"reply": "tenant-created", "name": "acme", "id": "*"}));
    let mut list = json(&["tenant", "list"]);
    mask(&mut list, "/tenants/0/id", is_id);
    mask(&mut list, "/tenants/0/createdOn", is_time);
    let tenants = json!([{"name": "acme", "id": "*", "createdOn": "*"}]);
    assert_eq!(list, json!({"reply": "tenants", "tenants": tenants}));
    let mut token = json(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    mask(&mut token, "/token", |token| token.as_str().is_some_and(|token| token.len() > 100));
    mask(&mut token, "/expiresOn", is_time);
    assert_eq!(token, json!({"reply": "token", "token": "*", "expiresOn": "*"}));
    every_answer_about_credentials(&json);
    let swept = |dry_run: bool| json!({"reply": "swept", "dryRun": dry_run, "tenants": [{"tenant": "acme", "secrets": 0, "damaged": 0}]});
    assert_eq!(json(&["sweep"]), swept(false));
    assert_eq!(json(&["sweep", "--dry-run"]), swept(true));
    let part = |part: &str, rows: u64| json!({"tenant": null, "part": part, "rows": rows, "secrets": 0, "faults": [], "faultCount": 0});
    let mut own = part("secrets", 0);
    own["tenant"] = json!("acme");
    // That somebody serves is a row too.
    let of_system = part("system", 5 + u64::from(serving));
    let found = json!([part("keyring", 5), of_system, own]);
    assert_eq!(json(&["verify"]), json!({"reply": "verified", "sound": true, "parts": found}));
    every_answer_about_deks(&json);
    let mut status = json(&["status"]);
    for time in ["/clock/now", "/clock/floor", "/lastSweep"] {
        mask(&mut status, time, is_time);
    }
    mask(&mut status, "/dataBytes", |bytes| bytes.as_u64() > Some(0));
    mask(&mut status, "/freeBytes", |bytes| bytes.as_u64() > Some(0));
    let expected = json!({
        "reply": "status", "version": env!("CARGO_PKG_VERSION"), "serving": serving,
        "sealed": false, "writable": true, "reason": null, "data": data, "dataBytes": "*",
        "freeBytes": "*", "tenants": 1, "secrets": {"valid": 0, "pending": 0, "expired": 0},
        "clock": {"now": "*", "floor": "*", "disputed": false}, "lastSweep": "*",
    });
    assert_eq!(status, expected);
    let mut accepted = json(&["clock", "accept"]);
    mask(&mut accepted, "/now", is_time);
    mask(&mut accepted, "/floorBefore", is_time);
    assert_eq!(accepted, json!({"reply": "clock-accepted", "now": "*", "floorBefore": "*"}));
    let deleted = json(&["tenant", "delete", "acme", "--yes"]);
    assert_eq!(deleted, json!({"reply": "tenant-deleted", "name": "acme"}));
}

/// Ends as many rows behind as it found.
fn every_answer_about_credentials(json: &dyn Fn(&[&str]) -> Value) {
    let create =
        ["api-key", "create", "--tenant", "acme", "--scope", "*", "--expires", "2200-01-01"];
    let mut created = json(&create);
    let id = created["apiKey"]["id"].as_str().expect("an id").to_owned();
    mask(&mut created, "/key", |key| key.as_str().is_some_and(|key| key.len() == 64));
    mask(&mut created, "/apiKey/createdOn", is_time);
    let row = json!({
        "id": id, "tenant": "acme", "name": null, "scopes": ["*"], "createdOn": "*",
        "expiresOn": "2200-01-01T00:00:00Z", "lastUsedOn": null, "expired": false,
    });
    assert_eq!(created, json!({"reply": "api-key-created", "key": "*", "apiKey": row}));
    let mut list = json(&["api-key", "list"]);
    mask(&mut list, "/apiKeys/0/createdOn", is_time);
    assert_eq!(list, json!({"reply": "api-keys", "apiKeys": [row]}));
    let mut revoked = json(&["api-key", "revoke", &id]);
    mask(&mut revoked, "/apiKey/createdOn", is_time);
    let expected = json!({"reply": "api-key-revoked", "dryRun": false, "apiKey": row});
    assert_eq!(revoked, expected);
    let revoke = ["token", "revoke", "--tenant", "acme", "--before", "now", "--dry-run"];
    let mut revoked = json(&revoke);
    for time in ["/revocation/before", "/revocation/revokedOn", "/revocation/keptUntil"] {
        mask(&mut revoked, time, is_time);
    }
    let row = json!({
        "kind": "tenant", "id": null, "tenant": "acme", "subject": null, "issuer": null,
        "before": "*", "revokedOn": "*", "keptUntil": "*",
    });
    let expected =
        json!({"reply": "tokens-revoked", "dryRun": true, "revocation": row, "apiKeys": []});
    assert_eq!(revoked, expected);
    let none = json!({"reply": "revocations", "revocations": [], "next": null});
    assert_eq!(json(&["token", "list"]), none);
    let mut roots = json(&["token", "roots"]);
    mask(&mut roots, "/roots/0/publicKey", |key| key.as_str().is_some_and(|key| key.len() == 64));
    let row = json!({"id": 1, "publicKey": "*", "signs": true, "honouredUntil": null});
    assert_eq!(roots, json!({"reply": "roots", "roots": [row]}));
}

#[test]
fn every_answer_is_one_line_of_json_where_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let made = Output::of(tenure().args(["init", "--json", "--data"]).arg(&data));
    let kek = data.with_extension("kek");
    assert_eq!(json_of(made), json!({"data": data, "kekCreated": kek}));
    every_answer_in_json(&|args| maintain(&data, args), false, &data);
    let serve = Serve::start(&data);
    every_answer_in_json(&|args| serve.run(args), true, &data);
}

#[test]
fn verify_says_what_is_sound_and_ends_with_7_where_something_is_not() {
    let place = Place::new();
    for tenant in ["acme", "beta"] {
        done(place.run(&["tenant", "create", tenant]));
    }
    let serve = Serve::start(&place.data);
    let mint = ["token", "mint", "--tenant", "acme", "--scope", "*"];
    let token = done(serve.run(&mint)).trim().to_owned();
    let put = Request::put("/api/acme/secrets/password", r#"{"value":"hunter2"}"#).bearer(&token);
    assert_eq!(serve.send(&put).status, 204);
    let sound = done(serve.run(&["verify"]));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = sound.lines().map(words).collect();
    let expected = [
        "keyring 0 secrets 7 rows sound",
        "system 0 secrets 7 rows sound",
        "tenant acme 1 secrets 2 rows sound",
        "tenant beta 0 secrets 0 rows sound",
    ];
    assert_eq!(lines, expected);
    fails(&serve.run(&["verify", "--tenant", "nobody"]), 3, &["nobody"]);
    assert_eq!(serve.run(&["verify", "--rate", "0"]).code, Some(2));
    let (code, log) = serve.stop_by("TERM");
    assert_eq!(code, Some(0));
    assert!(!log.contains("was not taken"), "{log}");

    // That somebody serves was a row.
    let of_system = |rows: u32| format!("{rows} rows  sound\ntenant acme");
    let rested = sound.replace(&of_system(7), &of_system(6));
    assert_eq!(done(place.run(&["verify"])), rested);
    fs::remove_file(store_in(&place.data).join("tenants-0000/CURRENT")).expect("it is there");
    let damaged = place.run(&["verify"]);
    assert_eq!(damaged.code, Some(7), "{damaged:?}");
    let remedy = damaged.stderr.lines().last().expect("an error");
    assert!(remedy.contains("tenure backup restore"), "{remedy}");
    for named in ["keyring", "tenant acme", "tenant beta", "tenants-0000", "1 faults"] {
        assert!(damaged.stdout.contains(named), "{damaged:?}");
    }
    assert!(!format!("{damaged:?}").contains("hunter2"), "{damaged:?}");
    let json = place.run(&["verify", "--json"]);
    assert_eq!(json.code, Some(7), "{json:?}");
    assert!(json.stdout.starts_with(r#"{"reply":"verified","sound":false,"#), "{json:?}");
}

#[test]
fn init_says_where_things_are_and_what_comes_next_and_does_it_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let init = || Output::of(tenure().args(["init", "--data"]).arg(&data));
    let said = done(init());
    let (data_shown, kek) = (data.display(), data.with_extension("kek"));
    assert!(said.starts_with(&format!(
        "made a store in {data_shown}\nmade its KEK at {}\n",
        kek.display()
    )));
    for next in ["tenure serve", "tenure tenant create acme", "tenure token mint --tenant acme"] {
        let line = said.lines().find(|line| line.trim_start().starts_with(next));
        assert!(line.is_some_and(|line| line.ends_with(&format!("--data {data_shown}"))), "{said}");
    }
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&kek)), (0o700, 0o600));
    let before = fs::read(&kek).expect("a KEK");
    fails(&init(), 4, &["initialized already", "tenure serve"]);
    assert_eq!(fs::read(&kek).expect("a KEK"), before);
    // The commands that it named.
    for line in said.lines().filter_map(|line| line.strip_prefix("  tenure t")) {
        let args: Vec<_> = line.split_whitespace().collect();
        done(Output::of(tenure().arg(format!("t{}", args[0])).args(&args[1..])));
    }
}

#[test]
fn a_minted_token_opens_what_it_says_and_inspect_says_it() {
    let place = Place::new();
    done(place.run(&["tenant", "create", "acme"]));
    let mint = ["token", "mint", "--tenant", "acme", "--scope", "Secret.Write", "--subject", "ci"];
    let token = done(place.run(&mint)).trim().to_owned();
    let serve = Serve::start(&place.data);
    let path = "/api/acme/secrets/name";
    let put = Request::put(path, r#"{"value": "v"}"#).bearer(&token);
    assert_eq!(serve.send(&put).status, 204);
    assert_eq!(serve.send(&Request::get(path).bearer(&token)).status, 403);
    let both = ["--scope", "Secret.Read", "--scope", "Secret.Write"];
    let both = serve.run(&[&mint[..4], &both[..]].concat());
    let both = done(both).trim().to_owned();
    assert_eq!(serve.send(&Request::get(path).bearer(&both)).json(), "v");

    let inspect = || {
        let mut command = tenure();
        command.args(["token", "inspect"]);
        command
    };
    let from_stdin = done(Output::with_input(&mut inspect(), &format!("{token}\n")));
    for words in [
        "tenant      acme (id ",
        "subject     ci\n",
        "may         put and delete secrets\n",
        "until       20",
        "signature was not checked",
    ] {
        assert!(from_stdin.contains(words), "{words}: {from_stdin}");
    }
    assert!(!from_stdin.contains(&token));
    assert_eq!(done(Output::of(inspect().env("TENURE_TOKEN", &token))), from_stdin);
    assert_eq!(done(Output::of(inspect().arg(&token))), from_stdin);
    let mut inspected = json_of(Output::of(inspect().arg("--json").env("TENURE_TOKEN", &token)));
    mask(&mut inspected, "/tenantId", is_id);
    mask(&mut inspected, "/issued", is_time);
    mask(&mut inspected, "/expires", is_time);
    mask(&mut inspected, "/revocationIds/0", is_revocation_id);
    let expected = json!({
        "tenant": "acme", "tenantId": "*", "subject": "ci", "issued": "*", "expires": "*",
        "scopes": ["Secret.Write"], "rootId": 1, "narrowedTo": [], "sealed": false, "blocks": 1,
        "revocationIds": ["*"],
    });
    assert_eq!(inspected, expected);
    let broken = Output::with_input(&mut inspect(), &token[..token.len() / 2]);
    fails(&broken, 2, &["not well-formed"]);
    assert!(!broken.stderr.contains(&token[..20]), "{broken:?}");
    fails(&Output::with_input(&mut inspect(), ""), 2, &[]);
}

#[test]
fn sweep_removes_what_expired_longer_ago_than_is_retained() {
    let place = Place::new();
    for tenant in ["acme", "other"] {
        done(place.run(&["tenant", "create", tenant]));
    }
    let serve = Serve::start(&place.data);
    for tenant in ["acme", "other"] {
        let token = done(serve.run(&["token", "mint", "--tenant", tenant, "--scope", "*"]));
        for (name, window) in [
            ("long-gone", r#", "expiresOn": "2020-01-01T00:00:00Z""#),
            ("pending", r#", "notBefore": "2999-01-01T00:00:00Z""#),
            ("valid", r#", "expiresOn": "2999-01-01T00:00:00Z""#),
        ] {
            let body = format!(r#"{{"value": "v"{window}}}"#);
            let put = Request::put(format!("/api/{tenant}/secrets/{name}"), body);
            assert_eq!(serve.send(&put.bearer(token.trim())).status, 204);
        }
    }
    let counts = || json_of(serve.run(&["status", "--json"]))["secrets"].clone();
    assert_eq!(counts(), json!({"valid": 2, "pending": 2, "expired": 2}));
    let none = done(serve.run(&["sweep", "--retain", "3000d"]));
    assert!(none.ends_with("removed 0 expired secrets\n"), "{none}");
    let dry = "acme: would remove 1\nother: would remove 1\nwould remove 2 expired secrets\n";
    assert_eq!(done(serve.run(&["sweep", "--dry-run"])), dry);
    assert_eq!(counts()["expired"], 2, "a dry run removes nothing");
    let one = done(serve.run(&["sweep", "--tenant", "acme", "--retain", "24h"]));
    assert_eq!(one, "acme: removed 1\nremoved 1 expired secrets\n");
    assert_eq!(counts(), json!({"valid": 2, "pending": 2, "expired": 1}));
    serve.kill();
    // The rest without a server.
    let rest = done(place.run(&["sweep"]));
    assert_eq!(rest, "acme: removed 0\nother: removed 1\nremoved 1 expired secrets\n");
    let status = done(place.run(&["status"]));
    assert!(status.contains("2 valid, 2 not valid yet, 0 expired"), "{status}");
    assert!(!status.contains("last sweep  never"), "{status}");
}

#[test]
fn a_server_sweeps_on_its_own() {
    let place = Place::new();
    done(place.run(&["tenant", "create", "acme"]));
    let token = done(place.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]));
    let serve = Serve::start_with(&place.data, |command| {
        command.env("TENURE_SWEEP_EVERY", "100ms").env("TENURE_SWEEP_RETAIN", "1h");
        command.arg("--data").arg(&place.data);
    });
    let put = |name: &str, expired: SystemTime| {
        let seconds = expired.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let expired = Timestamp::from_unix_seconds(i64::try_from(seconds).expect("a time"));
        let body = json!({"value": "v", "expiresOn": expired.to_string()}).to_string();
        let put = Request::put(format!("/api/acme/secrets/{name}"), body).bearer(token.trim());
        assert_eq!(serve.send(&put).status, 204);
    };
    let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
    put("retained", ago(60));
    put("old", ago(2 * 3600));
    let swept = "INFO  swept 1 expired secrets of 'acme' and left 0 damaged ones";
    eventually(swept, || serve.log().contains(swept).then_some(()));
    let status = json_of(serve.run(&["status", "--json"]));
    assert_eq!(status["secrets"], json!({"valid": 0, "pending": 0, "expired": 1}));
}

#[test]
fn a_deleted_tenant_takes_its_tokens_along_even_if_it_is_made_again() {
    let place = Place::new();
    let serve = Serve::start(&place.data);
    let path = "/api/acme/secrets/name";
    let mint = || done(serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]));
    done(serve.run(&["tenant", "create", "acme"]));
    let old = mint();
    let get = |token: &str| serve.send(&Request::get(path).bearer(token.trim())).status;
    let put = Request::put(path, r#"{"value": "v"}"#).bearer(old.trim());
    assert_eq!((serve.send(&put).status, get(&old)), (204, 200));
    done(serve.run(&["tenant", "delete", "acme", "--yes"]));
    assert_eq!(get(&old), 401);
    done(serve.run(&["tenant", "create", "acme"]));
    assert_eq!((get(&old), get(&mint())), (401, 404));
    serve.kill();
    let serve = Serve::start(&place.data);
    assert_eq!(serve.send(&Request::get(path).bearer(old.trim())).status, 401);
}

#[test]
fn deleting_a_tenant_asks_for_its_name_on_a_terminal() {
    let place = Place::new();
    done(place.run(&["tenant", "create", "acme"]));
    let delete = format!(
        "{} tenant delete acme --data {}",
        env!("CARGO_BIN_EXE_tenure"),
        place.data.display()
    );
    let typed = |text: &str| {
        let mut script = Command::new("script");
        Output::with_input(script.args(["-qec", &delete, "/dev/null"]), text)
    };
    let other = typed("amce\n");
    assert_eq!(other.code, Some(2), "{other:?}");
    assert!(other.stdout.contains("destroys every secret of 'acme' for good"), "{other:?}");
    assert!(other.stdout.contains("not deleted: that is another name"), "{other:?}");
    assert!(done(place.run(&["tenant", "list"])).contains("acme"));
    let same = typed("acme\n");
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.stdout.contains("tenant 'acme' deleted"), "{same:?}");
    assert!(!done(place.run(&["tenant", "list"])).contains("acme"));
}

#[test]
fn the_help_of_every_command_shows_an_example() {
    let mut open = vec![Vec::new()];
    let mut seen = 0;
    while let Some(words) = open.pop() {
        let help = done(Output::of(tenure().args(&words).arg("--help")));
        let line = format!("tenure {}", words.join(" "));
        assert!(
            help.contains("Example:\n  ")
                || (words.is_empty() && help.contains("First steps:\n  ")),
            "{line}: {help}"
        );
        let example = help.lines().any(|shown| shown.trim_start().starts_with(line.trim()));
        assert!(example, "an example begins with {line}: {help}");
        seen += 1;
        for name in listed_commands(&help, words.is_empty()) {
            open.push([&words[..], &[name]].concat());
        }
    }
    assert!(seen >= 60, "of {seen} commands and groups the help was found");
}

/// On the first page they are in groups, in front of the options.
fn listed_commands(help: &str, first_page: bool) -> Vec<String> {
    let (from, to) =
        if first_page { ("Daily commands:", "Options:") } else { ("Commands:", "\n\n") };
    let listed = help.split_once(from).map_or("", |(_, after)| after);
    let listed = listed.split(to).next().unwrap_or_default().lines();
    let entries = listed.filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
    let names = entries.map(|(name, _)| name).filter(|name| !name.is_empty() && *name != "help");
    names.map(str::to_owned).collect()
}

#[test]
fn wrong_words_end_with_2_and_say_what_is_right() {
    let place = Place::new();
    let unknown = Output::of(tenure().arg("sreve"));
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("serve"), "{unknown:?}");
    for (args, word) in [
        (&["sweep", "--retain", "soon"][..], "--retain"),
        (&["token", "mint", "--tenant", "acme"], "--scope"),
        (&["serve", "--listen", "localhost"], "--listen"),
        (&["dev", "--ephemeral"], "--ephemeral"),
        (&["status", "--retain", "1h"], "--retain"),
    ] {
        let output = place.run(args);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(word) && output.stderr.contains("--help"), "{output:?}");
    }
    assert_eq!(Output::of(&mut tenure()).code, Some(2), "without words");
    let version = done(Output::of(tenure().arg("--version")));
    assert_eq!(version, format!("tenure {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn where_there_is_no_store_every_command_says_how_to_make_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("nothing");
    for args in [
        &["status"][..],
        &["tenant", "list"],
        &["token", "mint", "--tenant", "a", "--scope", "*"],
        &["sweep"],
        &["clock", "accept"],
        &["serve", "--listen", "127.0.0.1:0"],
    ] {
        fails(&maintain(&data, args), 3, &["there is no store in", "tenure init --data"]);
    }
    assert!(!data.exists(), "nothing was made");
    let orphan = folder.path().join("no/such/folder");
    fs::write(folder.path().join("no"), "a file").expect("a file");
    let made = Output::of(tenure().args(["init", "--data"]).arg(&orphan));
    fails(&made, 1, &["cannot"]);
}

#[test]
fn a_kek_that_is_wrong_in_any_way_is_refused_and_never_repeated() {
    let place = Place::new();
    let good = fs::read_to_string(place.kek()).expect("a KEK");
    let wrong = "5e".repeat(32);
    let write = |text: &str, mode: u32| {
        fs::write(place.kek(), text).expect("a KEK");
        fs::set_permissions(place.kek(), fs::Permissions::from_mode(mode)).expect("ours");
    };
    let refused = |words: &[&str]| {
        for output in [place.run(&["status"]), place.serve(|_| {})] {
            fails(&output, 2, words);
            let said = &output.stderr;
            assert!(!said.contains(good.trim()) && !said.contains("5e5e5e5e"), "{said}");
        }
    };
    write(&wrong, 0o600);
    refused(&["not the KEK of this store"]);
    write(&format!("{}\n5e5e5e5e", good.trim()), 0o600);
    refused(&["64 hexadecimal digits"]);
    write(&wrong[..62], 0o600);
    refused(&["64 hexadecimal digits"]);
    write("", 0o600);
    refused(&["64 hexadecimal digits"]);
    write(&good, 0o644);
    refused(&["mode 0644", &format!("chmod 600 {}", place.kek().display())]);
    fs::remove_file(place.kek()).expect("ours");
    refused(&["there is no KEK at", &place.kek().display().to_string()]);
    let again = Output::of(tenure().args(["init", "--data"]).arg(&place.data));
    fails(&again, 4, &["initialized already"]);
    assert!(!place.kek().exists(), "a store that has a KEK gets no second one");

    let by = |variable: &str, value: &str| {
        let mut command = tenure();
        command.args(["status", "--data"]).arg(&place.data).env(variable, value);
        Output::of(&mut command)
    };
    let pasted = by("TENURE_KEK_FILE", good.trim());
    fails(&pasted, 2, &["must name the place"]);
    assert!(!pasted.stderr.contains(good.trim()), "{pasted:?}");
    fails(&by("TENURE_KEK_SOURCE", "env"), 2, &["TENURE_KEK", "kek.env"]);
    write(&good, 0o600);
    done(place.run(&["status"]));
}

#[test]
fn a_kek_from_the_environment_works_and_one_in_the_data_folder_does_not() {
    let place = Place::new();
    let kek = fs::read_to_string(place.kek()).expect("a KEK");
    fs::remove_file(place.kek()).expect("ours");
    let from_variable = |command: &mut Command, kek: &str| {
        command.env("TENURE_KEK_SOURCE", "env").env("TENURE_KEK", kek);
    };
    let serve = Serve::start_with(&place.data, |command| {
        from_variable(command.arg("--data").arg(&place.data), kek.trim());
    });
    // The server has the KEK; who asks it needs none.
    done(serve.run(&["tenant", "create", "acme"]));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let garbled = place.serve(|command| from_variable(command, "not-a-kek-at-all"));
    fails(&garbled, 2, &["TENURE_KEK", "64 hexadecimal digits"]);
    assert!(!garbled.stderr.contains("not-a-kek"), "{garbled:?}");

    let inside = place.data.join("kek");
    fs::write(&inside, &kek).expect("a KEK");
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o600)).expect("ours");
    let link = place.folder.path().join("link");
    std::os::unix::fs::symlink(&inside, &link).expect("a link");
    for path in [&inside, &place.data.join("../data/kek"), &link] {
        let refused = place.serve(|command| {
            command.env("TENURE_KEK_FILE", path);
        });
        fails(&refused, 2, &["inside the data folder", "move it out"]);
    }
}

#[test]
fn a_data_folder_that_is_not_ours_alone_is_refused() {
    let place = Place::new();
    let mode = |mode| {
        fs::set_permissions(&place.data, fs::Permissions::from_mode(mode)).expect("ours");
    };
    mode(0o755);
    let remedy = format!("chmod 700 {}", place.data.display());
    fails(&place.run(&["status"]), 2, &[&remedy]);
    fails(&place.serve(|_| {}), 2, &[&remedy]);
    mode(0o700);
    fs::write(place.data.join("FORMAT"), "tenure data 3\n").expect("ours");
    fails(&place.run(&["status"]), 2, &["newer version"]);
    fails(&place.serve(|_| {}), 2, &["newer version"]);
    let init = Output::of(tenure().args(["init", "--data"]).arg(&place.data));
    fails(&init, 2, &["newer version"]);

    let foreign = place.folder.path().join("foreign");
    fs::create_dir(&foreign).expect("a folder");
    fs::write(foreign.join("letter.txt"), "Dear").expect("a file");
    for command in ["init", "dev"] {
        let output = Output::of(tenure().args([command, "--data"]).arg(&foreign));
        fails(&output, 2, &["holds other files", "--data"]);
    }
    assert_eq!(fs::read_dir(&foreign).expect("a folder").count(), 1, "nothing was added");
    assert!(!foreign.with_extension("kek").exists());
}

#[test]
fn an_address_that_cannot_be_served_on_is_refused() {
    let place = Place::new();
    let listen = |address: &str| {
        let mut command = tenure();
        command.args(["serve", "--listen", address, "--data"]).arg(&place.data);
        Output::of(&mut command)
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    fails(&listen(&address), 5, &[&address, "--listen names another"]);
    let dev = place.folder.path().join("dev");
    let dev_on =
        |address: &str| Output::of(tenure().args(["dev", "--listen", address, "--data"]).arg(&dev));
    fails(&dev_on(&address), 5, &[&address, "--listen names another"]);
    fails(&dev_on("0.0.0.0:0"), 2, &["loopback only", "tenure serve"]);
    for address in ["0.0.0.0:0", "[::]:0"] {
        let words = [address, "plain HTTP", "tls.certificate", "terminated_elsewhere"];
        fails(&listen(address), 2, &words);
    }
    let elsewhere = Serve::start_with(&place.data, |command| {
        command.env("TENURE_TLS_TERMINATED_ELSEWHERE", "true").arg("--data").arg(&place.data);
    });
    assert_eq!(elsewhere.send(&Request::get("/readyz")).status, 200);
}

#[test]
fn a_configuration_file_is_served_and_its_faults_are_named() {
    let place = Place::new();
    let file = place.folder.path().join("tenure.toml");
    let config = |text: &str| fs::write(&file, text).expect("a file");
    config("data = \"data\"\nlog.level = \"info\"\n\n[kek]\nfile = \"data.kek\"\n");
    let serve = Serve::start_with(&place.data, |command| {
        command.arg("--config").arg(&file);
    });
    let mut status = tenure();
    let status = done(Output::of(status.args(["status", "--config"]).arg(&file)));
    assert!(status.contains("server      running\n"), "{status}");
    let by_variable = done(Output::of(tenure().arg("status").env("TENURE_CONFIG", &file)));
    assert!(by_variable.contains("server      running\n"), "{by_variable}");
    assert_eq!(serve.stop_by("TERM").0, Some(0));

    let refused = || Output::of(tenure().args(["serve", "--config"]).arg(&file));
    config("data = \"data\"\n\n[http]\nworker = 3\n");
    fails(&refused(), 2, &["line 4", "http.worker", "did you mean `http.workers`?"]);
    config("data = \"data\"\n[kek]\nfile = \"data.kek\"\n[sweep]\nevery = \"often\"\n");
    fails(&refused(), 2, &["line 5", "sweep.every", "often"]);
    config("data = [");
    fails(&refused(), 2, &["not TOML"]);
    fs::remove_file(&file).expect("ours");
    fails(&refused(), 2, &["cannot read", "--config"]);
    let misspelt = place.serve(|command| {
        command.env("TENURE_LISTNE", "0.0.0.0:1");
    });
    fails(&misspelt, 2, &["TENURE_LISTNE", "TENURE_LISTEN"]);
}

#[test]
fn the_admin_socket_is_private_and_one_left_behind_is_replaced() {
    let place = Place::new();
    let socket = place.data.join("admin.sock");
    let serve = Serve::start(&place.data);
    let facts = fs::symlink_metadata(&socket).expect("a socket");
    assert!(facts.file_type().is_socket());
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);
    serve.kill();
    assert!(socket.exists(), "a kill leaves it");
    let status = done(place.run(&["status"]));
    assert!(status.contains("server      not running\n"), "{status}");
    let serve = Serve::start(&place.data);
    assert!(done(serve.run(&["status"])).contains("server      running\n"));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert!(!socket.exists(), "a stop removes it");
}

#[test]
fn a_data_folder_deeper_than_a_socket_address_works_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("d".repeat(120));
    fs::create_dir(&deep).expect("a folder");
    let data = init(&deep);
    let serve = Serve::start(&data);
    done(serve.run(&["tenant", "create", "acme"]));
    assert!(done(serve.run(&["status"])).contains("server      running\n"));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert!(!data.join("admin.sock").exists());
    assert!(done(maintain(&data, &["tenant", "list"])).contains("acme"));
}

#[test]
fn a_command_while_another_process_holds_the_store_is_told_to_wait() {
    let place = Place::new();
    let serve = Serve::start(&place.data);
    // As if that server were starting still.
    fs::remove_file(place.data.join("admin.sock")).expect("ours");
    fails(&place.run(&["status"]), 5, &["another tenure holds", "stop it"]);
    assert_eq!(serve.send(&Request::get("/readyz")).status, 200);
}

#[test]
fn a_damaged_store_ends_with_1_and_says_to_restore_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dev = Dev::start(&data);
    assert_eq!(dev.stop(), Some(0));
    let mark = store_in(&data).join("system/1/mark");
    fs::remove_file(&mark).expect("the mark of the system database");
    let output = maintain(&data, &["status"]);
    fails(&output, 1, &["restore"]);
}
