//! Servers that are stored, and which of all that is said counts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::Desk;
use crate::support::{Output, Terminal, eventually, maintain};

/// At home, where no store of `tenure dev` is found.
fn at_home(desk: &Desk, args: &[&str]) -> Command {
    let mut command = desk.tenure(args);
    command.current_dir(desk.home());
    command
}

fn run(desk: &Desk, args: &[&str]) -> Output {
    Output::of(&mut at_home(desk, args))
}

fn address(desk: &Desk) -> String {
    format!("http://{}", desk.dev().address)
}

fn login(desk: &Desk, more: &[&str], credential: &str) -> Output {
    let address = address(desk);
    let args = [&["login", "--addr", &address][..], more].concat();
    Output::with_input(&mut at_home(desk, &args), credential)
}

#[track_caller]
fn done(output: Output) -> Output {
    assert_eq!(output.code, Some(0), "{output:?}");
    output
}

fn config(desk: &Desk) -> PathBuf {
    desk.home().join(".config/tenure")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn whoami(command: &mut Command) -> Value {
    serde_json::from_str(&done(Output::of(command)).stdout).unwrap()
}

#[test]
fn a_server_is_stored_once_and_meant_from_then_on() {
    let desk = Desk::new();
    desk.store("db", "hunter2");
    let token = desk.dev().token.clone();
    run(&desk, &["get", "db"]).assert_fails(2, &["no server is named", "tenure login"]);
    let output = done(login(&desk, &[], &format!("{token}\n")));
    assert_eq!(output.stdout, "");
    for words in ["accepts it for tenant 'dev'", "good for 30 days, until 2", "the default one"] {
        assert!(output.stderr.contains(words), "{words}: {output:?}");
    }
    assert!(!output.stderr.contains(&token), "{output:?}");
    assert_eq!(done(run(&desk, &["get", "db"])).stdout, "hunter2");

    let (folder, credentials) = (config(&desk), config(&desk).join("credentials.toml"));
    assert_eq!((mode(&folder), mode(&credentials)), (0o700, 0o600));
    assert!(fs::read_to_string(&credentials).unwrap().contains(&token));
    let profiles = fs::read_to_string(folder.join("profiles.toml")).unwrap();
    assert!(profiles.contains("credential = \"file\"") && !profiles.contains(&token), "{profiles}");

    let output = done(run(&desk, &["logout"]));
    assert!(output.stderr.contains("are removed from this machine"), "{output:?}");
    assert!(!fs::read_to_string(&credentials).unwrap().contains(&token));
    run(&desk, &["get", "db"]).assert_fails(2, &["no server is named"]);
    run(&desk, &["logout"]).assert_fails(3, &["no default profile"]);
}

/// As those have it who keep their settings in a repository.
#[test]
fn files_that_are_links_stay_links_and_are_written_where_they_lead() {
    let desk = Desk::new();
    let token = desk.dev().token.clone();
    let settings = desk.home().join("settings");
    fs::create_dir_all(config(&desk)).unwrap();
    fs::set_permissions(config(&desk), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(&settings).unwrap();
    let link = |name: &str| {
        let target = format!("../../settings/{name}");
        std::os::unix::fs::symlink(target, config(&desk).join(name)).unwrap();
    };
    // One leads to nothing yet, and one to a link.
    link("credentials.toml");
    fs::write(desk.home().join("profiles.toml"), "").unwrap();
    std::os::unix::fs::symlink("../profiles.toml", settings.join("profiles.toml")).unwrap();
    link("profiles.toml");
    done(login(&desk, &[], &token));
    done(login(&desk, &["--profile", "other"], &token));
    done(run(&desk, &["profile", "use", "other"]));
    for name in ["profiles.toml", "credentials.toml"] {
        let is_link = |path: &Path| fs::symlink_metadata(path).unwrap().is_symlink();
        assert!(is_link(&config(&desk).join(name)), "{name}");
        assert_eq!(is_link(&settings.join(name)), name == "profiles.toml");
        assert_eq!(mode(&settings.join(name)), 0o600);
    }
    let profiles = fs::read_to_string(desk.home().join("profiles.toml")).unwrap();
    assert!(profiles.contains("default = \"other\""), "{profiles}");
    assert!(fs::read_to_string(settings.join("credentials.toml")).unwrap().contains(&token));
    assert_eq!(fs::read_dir(&settings).unwrap().count(), 2, "nothing lies beside them");
    assert_eq!(done(run(&desk, &["list"])).stdout, "");
    done(run(&desk, &["logout"]));
    assert!(fs::symlink_metadata(config(&desk).join("profiles.toml")).unwrap().is_symlink());
}

#[test]
fn on_a_terminal_what_is_missing_is_asked_for_and_the_credential_is_not_shown() {
    let desk = Desk::new();
    let create = ["api-key", "create", "--tenant", "dev", "--scope", "Secret.Read"];
    let key = maintain(&desk.path(".tenure"), &create).stdout;
    let open = |args: &[&str]| {
        Terminal::open(args, |command| {
            desk.place(command);
            command.current_dir(desk.home());
        })
    };
    let mut terminal = open(&["login"]);
    terminal.expect("Address of the server (https://…): ");
    terminal.type_in(&format!("{}\n", address(&desk)));
    terminal.expect("(not shown): ");
    terminal.type_in(&key);
    terminal.expect("Tenant: ");
    terminal.type_in("dev\n");
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("the server knows until when") && !shown.contains(key.trim()),
        "{shown}"
    );
    assert_eq!(done(run(&desk, &["list"])).stdout, "");

    // A token says for which tenant it is, and of a known profile the address is known.
    let mut terminal = open(&["login"]);
    terminal.expect("(not shown): ");
    terminal.type_in(&format!("{}\n", desk.dev().token));
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains(&desk.dev().token) && !shown.contains("Tenant: "), "{shown}");

    let line = format!(
        "trap : INT; {} login --profile other --addr {}; echo code $?; stty -a",
        env!("CARGO_BIN_EXE_tenure"),
        address(&desk)
    );
    let mut terminal = Terminal::shell(&line, |command| desk.place(command));
    terminal.expect("(not shown): ");
    terminal.type_in("hunt\u{3}");
    let (_, shown) = terminal.ended();
    assert!(shown.contains("error: interrupted\r\ncode 130\r\n"), "{shown}");
    assert!(shown.contains(" echo ") && !shown.contains("-echo "), "{shown}");
    assert!(shown.contains(" icanon ") && shown.contains("isig "), "{shown}");
    run(&desk, &["whoami", "--profile", "other"]).assert_fails(3, &["no profile 'other'"]);
}

#[test]
fn what_the_server_does_not_accept_is_not_stored() {
    let mut desk = Desk::new();
    let token = desk.dev().token.clone();
    // Of another store, and otherwise good.
    let other = Desk::new().dev().token.clone();
    login(&desk, &[], &other).assert_fails(8, &["does not accept it", "nothing was stored"]);
    for (wrong, words) in [
        ("", "no credential was given"),
        ("two words", "a single word"),
        ("hunter2", "no token and no API key"),
        ("tnr_hunter2", "no whole API key"),
    ] {
        let refused = login(&desk, &["--tenant", "dev"], wrong);
        refused.assert_fails(2, &[words]);
        assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    }
    let tenant = login(&desk, &["--tenant", "acme"], &token);
    tenant.assert_fails(2, &["for tenant 'dev'", "--tenant says 'acme'"]);
    let keyless = Output::with_input(&mut at_home(&desk, &["login"]), &token);
    keyless.assert_fails(2, &["say --addr URL"]);
    assert!(!config(&desk).join("profiles.toml").exists());

    // Who may write and not list is told so, and stored.
    let mint = ["token", "mint", "--tenant", "dev", "--scope", "Secret.Write"];
    let writer = maintain(&desk.path(".tenure"), &mint).stdout;
    let output = done(login(&desk, &["--profile", "writer"], &writer));
    assert!(output.stderr.contains("it may not list in tenant 'dev'"), "{output:?}");

    let address = address(&desk);
    desk.stop();
    let args = ["login", "--addr", &address, "--profile", "later"];
    let away = Output::with_input(&mut at_home(&desk, &args), &token);
    away.assert_fails(5, &["cannot be reached", "--no-check"]);
    let args = [&args[..], &["--no-check"]].concat();
    let output = done(Output::with_input(&mut at_home(&desk, &args), &token));
    assert!(output.stderr.contains("was not asked"), "{output:?}");
    let asked = run(&desk, &["whoami", "--profile", "later"]);
    assert_eq!(asked.code, Some(5), "{asked:?}");
    assert!(asked.stdout.contains("server      did not say\n"), "{asked:?}");
}

#[test]
fn a_credential_that_has_expired_says_so_and_what_to_do() {
    let desk = Desk::new();
    let mint = ["token", "mint", "--tenant", "dev", "--scope", "*", "--ttl", "2s"];
    let token = maintain(&desk.path(".tenure"), &mint).stdout;
    done(login(&desk, &[], &token));
    let output = eventually("the token expires", || {
        Some(run(&desk, &["get", "db"])).filter(|output| output.code == Some(8))
    });
    output.assert_fails(8, &["The token has expired", "tenure login --profile default"]);
    let who = run(&desk, &["whoami"]);
    assert_eq!(who.code, Some(8), "{who:?}");
    for words in ["expiry      it expired ", "server      does not accept it\n"] {
        assert!(who.stdout.contains(words), "{who:?}");
    }
    let again = login(&desk, &["--profile", "again", "--no-check"], &token);
    again.assert_fails(8, &["it expired", "nothing was stored"]);
}

#[test]
fn of_all_that_is_said_the_nearest_counts_and_whoami_says_which() {
    let desk = Desk::new();
    let (address, token) = (address(&desk), desk.dev().token.clone());
    done(login(&desk, &["--profile", "one"], &token));
    done(login(&desk, &["--profile", "two"], &token));
    let origin = |command: &mut Command| whoami(command)["address"]["from"].clone();
    let args = ["whoami", "--json"];
    assert_eq!(origin(&mut at_home(&desk, &args)), "profile 'one'");
    let dev = desk.path(".tenure/dev.env").canonicalize().unwrap();
    assert_eq!(origin(&mut desk.tenure(&args)), dev.to_str().unwrap());
    assert_eq!(origin(desk.tenure(&args).env("TENURE_PROFILE", "two")), "profile 'two'");
    let variables = |command: &mut Command| {
        command.env("TENURE_PROFILE", "two").env("TENURE_ADDR", &address);
        command.env("TENURE_TOKEN", &token).env("TENURE_TENANT", "dev");
    };
    let mut command = desk.tenure(&args);
    variables(&mut command);
    assert_eq!(origin(&mut command), "TENURE_ADDR");
    let flag = ["whoami", "--json", "--profile", "one"];
    let mut command = desk.tenure(&flag);
    variables(&mut command);
    assert_eq!(origin(&mut command), "profile 'one'");
    let mut command = desk.tenure(&["whoami", "--profile", "one", "--addr", &address]);
    let both = Output::of(&mut command);
    assert_eq!(both.code, Some(2));
    assert!(both.stderr.contains("cannot be used with"), "{both:?}");
    // An address that is said never gets the credential of another place.
    let mut command = at_home(&desk, &["whoami"]);
    let alone = Output::of(command.env("TENURE_ADDR", &address));
    alone.assert_fails(2, &["no credential for it"]);
    let mut command = at_home(&desk, &["whoami"]);
    Output::of(command.env("TENURE_PROFILE", "a/b")).assert_fails(2, &["TENURE_PROFILE must be"]);
}

#[test]
fn whoami_says_everything_but_the_credential() {
    let desk = Desk::new();
    let mint = ["token", "mint", "--tenant", "dev", "--scope", "Secret.Read", "--subject", "ci"];
    let whole = done(maintain(&desk.path(".tenure"), &mint)).stdout;
    // For less than the hour that it is good for, of which something may be gone.
    let mut narrow = desk.tenure(&["token", "attenuate", "--prefix", "ci-", "--ttl", "30m"]);
    let token = done(Output::with_input(&mut narrow, &whole)).stdout;
    desk.write(".tenure.toml", "prefix = 'ci-'\n");
    done(login(&desk, &["--profile", "job"], &token));
    let who = done(desk.run(&["whoami", "--profile", "job"]));
    let project = desk.path(".tenure.toml").canonicalize().unwrap();
    for line in [
        format!("address     {}  (from profile 'job')\n", address(&desk)),
        "tenant      dev  (from profile 'job')\n".to_owned(),
        format!("prefix      ci-  (from {})\n", project.display()),
        "credential  a token  (from profile 'job')\nsubject     ci\nscopes      Secret.Read\n"
            .into(),
        "server      accepts it\n".to_owned(),
    ] {
        assert!(who.stdout.contains(&line), "{line}{}", who.stdout);
    }
    assert!(
        who.stdout.lines().filter(|line| line.starts_with("narrowed ")).count() == 2,
        "{who:?}"
    );
    assert!(!who.stdout.contains(token.trim()) && who.stderr.is_empty(), "{who:?}");
    let shown =
        whoami(&mut desk.tenure(&["whoami", "--profile", "job", "--json", "--tenant", "x"]));
    assert_eq!(shown["tenant"], json!({"value": "x", "from": "--tenant"}));
    assert_eq!(shown["accepted"], json!(true));
    assert_eq!(shown["credential"]["narrowedTo"].as_array().unwrap().len(), 2);
    assert!(!shown.to_string().contains(token.trim()));

    let create = ["api-key", "create", "--tenant", "dev", "--scope", "*"];
    let key = maintain(&desk.path(".tenure"), &create).stdout;
    done(login(&desk, &["--profile", "key", "--tenant", "dev"], &key));
    let who = done(desk.run(&["whoami", "--profile", "key"])).stdout;
    let id = &key[..20];
    assert!(who.contains("an API key") && who.contains(&format!("subject     {id}\n")), "{who}");
    assert!(!who.contains(&key[21..40]), "{who}");
}

#[test]
fn profiles_are_listed_chosen_and_never_come_to_mean_another_server() {
    let desk = Desk::new();
    let (address, token) = (address(&desk), desk.dev().token.clone());
    let nothing = done(run(&desk, &["profile", "list"]));
    assert_eq!((nothing.stdout.as_str(), nothing.stderr.contains("no profiles")), ("", true));
    done(login(&desk, &["--profile", "one"], &token));
    let two = done(login(&desk, &["--profile", "two"], &token));
    assert!(two.stderr.contains("tenure profile use two"), "{two:?}");
    let list = done(run(&desk, &["profile", "list"])).stdout;
    let rows: Vec<Vec<_>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "TENANT", "CREDENTIAL", "ADDRESS"]);
    assert_eq!(rows[1], ["*", "one", "dev", "file", address.as_str()]);
    assert_eq!(rows[2], ["two", "dev", "file", address.as_str()]);
    done(run(&desk, &["profile", "use", "two"]));
    let shown: Value =
        serde_json::from_str(&done(run(&desk, &["profile", "list", "--json"])).stdout).unwrap();
    assert_eq!((&shown[0]["default"], &shown[1]["default"]), (&json!(false), &json!(true)));
    run(&desk, &["profile", "use", "three"]).assert_fails(3, &["there are one, two"]);

    let args = ["login", "--profile", "one", "--addr", "https://tenure.example"];
    let other = Output::with_input(&mut at_home(&desk, &args), &token);
    other.assert_fails(4, &["is for http://127.0.0.1", "tenure logout --profile one"]);
    let gone = done(run(&desk, &["logout"]));
    assert!(gone.stderr.contains("tenure profile use one"), "{gone:?}");

    let args = ["login", "--addr", &address, "--profile", "three", "--json"];
    let mut shown: Value =
        serde_json::from_str(&done(Output::with_input(&mut at_home(&desk, &args), &token)).stdout)
            .unwrap();
    assert!(shown["expires"].take().is_string());
    assert_eq!(
        shown,
        json!({"profile": "three", "address": address, "tenant": "dev", "kind": "token",
               "expires": null, "checked": true, "credentialStore": "file", "default": true})
    );
}

#[test]
fn a_file_that_others_can_reach_or_that_makes_no_sense_is_not_used() {
    let desk = Desk::new();
    done(login(&desk, &[], &desk.dev().token));
    let (folder, credentials) = (config(&desk), config(&desk).join("credentials.toml"));
    let profiles = folder.join("profiles.toml");
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, wide, narrow) in
        [(&credentials, 0o640, 0o600), (&folder, 0o755, 0o700), (&profiles, 0o620, 0o600)]
    {
        chmod(path, wide);
        let refused = run(&desk, &["whoami"]);
        refused.assert_fails(2, &["others have access", &format!("chmod {narrow:o}")]);
        chmod(path, narrow);
    }
    for file in [&credentials, &profiles] {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, "hunter2").unwrap();
        let refused = run(&desk, &["whoami"]);
        refused.assert_fails(2, &[file.to_str().unwrap()]);
        assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
        fs::write(file, text).unwrap();
    }
    // The credential is for the address that it was stored for.
    let text = fs::read_to_string(&profiles).unwrap();
    fs::write(&profiles, text.replace("http://127", "https://127")).unwrap();
    run(&desk, &["whoami"]).assert_fails(8, &["no credential is stored for profile 'default'"]);
}
