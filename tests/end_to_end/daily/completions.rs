//! Completions, asked for as the shells ask for them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Desk;
use crate::support::{Output, Terminal, eventually};

fn desk() -> Desk {
    let desk = Desk::new();
    for name in ["db-password", "db-user", "mail-password"] {
        desk.store(name, "hunter2");
    }
    desk
}

/// With `tenure` in PATH, as a user has it.
fn place(desk: &Desk, command: &mut Command) {
    desk.place(command);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tenure"));
    let folder = program.parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").expect("a path");
    command.env("PATH", format!("{folder}:{path}")).env_remove("BASH_ENV").env("TERM", "dumb");
}

/// What stands for the last of the words, as the script of bash asks.
fn asked(desk: &Desk, words: &[&str], adapt: impl FnOnce(&mut Command)) -> Vec<String> {
    let mut command = desk.tenure(&[&["--"], words].concat());
    command.env("TENURE_COMPLETE", "bash");
    command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string()).env("_CLAP_IFS", "\n");
    adapt(&mut command);
    let output = Output::of(&mut command);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    output.stdout.lines().map(str::to_owned).collect()
}

/// The same for names. On a machine that is busy a server may take longer than a shell
/// waits, and what it answered is kept for the next question.
fn known(desk: &Desk, words: &[&str]) -> Vec<String> {
    eventually("names", || {
        let names = asked(desk, words, |_| {});
        Some(names).filter(|names| names.iter().any(|name| !name.starts_with('-')))
    })
}

#[test]
fn commands_options_names_and_profiles_are_known() {
    let desk = desk();
    let ask = |words: &[&str]| asked(&desk, words, |_| {});
    assert_eq!(ask(&["tenure", "comp"]), ["completions", "compact"]);
    assert_eq!(ask(&["tenure", "token", "att"]), ["attenuate"]);
    assert_eq!(ask(&["tenure", "completions", ""])[..3], ["bash", "zsh", "fish"]);
    assert_eq!(ask(&["tenure", "get", "--pro"]), ["--profile"]);
    assert_eq!(known(&desk, &["tenure", "get", "db-"]), ["db-password", "db-user"]);
    assert_eq!(known(&desk, &["tenure", "get", "--prefix", "mail-", "p"]), ["password"]);
    assert!(
        ask(&["tenure", "get", "--profile", "none", ""]).iter().all(|word| word.starts_with('-'))
    );
    let address = format!("http://{}", desk.dev().address);
    let login = ["login", "--profile", "work", "--addr", &address];
    assert_eq!(Output::with_input(&mut desk.tenure(&login), &desk.dev().token).code, Some(0));
    assert_eq!(ask(&["tenure", "get", "--profile", "w"]), ["work"]);
    assert_eq!(ask(&["tenure", "profile", "use", ""]).first().map(String::as_str), Some("work"));
}

#[test]
fn names_are_kept_for_some_seconds_where_only_their_user_reads_them() {
    let mut desk = desk();
    let words = ["tenure", "get", "db-"];
    assert_eq!(known(&desk, &words), ["db-password", "db-user"]);
    let folder = desk.home().join(".cache/tenure");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("names"))), (0o700, 0o600));
    let kept = fs::read_to_string(folder.join("names")).unwrap();
    assert!(kept.contains("db-user") && !kept.contains("hunter2"), "{kept}");
    assert!(!kept.contains(&desk.dev().token), "{kept}");
    desk.stop();
    assert_eq!(asked(&desk, &words, |_| {}), ["db-password", "db-user"]);
    let names = fs::File::options().write(true).open(folder.join("names")).unwrap();
    names.set_modified(std::time::SystemTime::now() - Duration::from_secs(11)).unwrap();
    assert_eq!(asked(&desk, &words, |_| {}), [""; 0]);
}

#[test]
fn where_no_server_answers_nothing_is_said_and_nobody_waits() {
    let desk = desk();
    let off = |command: &mut Command| {
        command.env("TENURE_COMPLETE_NAMES", "off");
    };
    assert_eq!(asked(&desk, &["tenure", "get", "db-"], off), [""; 0]);
    assert!(!desk.home().join(".cache/tenure").exists());

    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let hangs = asked(&desk, &["tenure", "get", "db-"], |command| {
        command.env("TENURE_ADDR", format!("http://{}", silent.local_addr().unwrap()));
        command.env("TENURE_TOKEN", "x").env("TENURE_TENANT", "dev");
    });
    assert_eq!(hangs, [""; 0]);
    // It would be 30 s; 300 ms are meant, and this machine may be busy.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    desk.write(".tenure.toml", "nonsense");
    assert_eq!(asked(&desk, &["tenure", "get", "db-"], |_| {}), [""; 0]);
}

#[test]
fn bash_completes_the_name_of_a_secret() {
    let desk = desk();
    let mut shell = Terminal::shell("bash --norc --noprofile -i", |command| place(&desk, command));
    shell.type_in("PS1=; source <(tenure completions bash); echo rea''dy\n");
    shell.expect("ready\r\n");
    known(&desk, &["tenure", "get", "db-pas"]);
    shell.type_in("tenure get db-pas\t\n");
    shell.expect("hunter2");
    shell.type_in("tenure whoa\t\n");
    shell.expect("accepts it");
    shell.type_in("exit\n");
    let (_, shown) = shell.ended();
    assert!(!shown.contains("error"), "{shown}");
}

#[test]
fn zsh_completes_the_name_of_a_secret() {
    let desk = desk();
    let mut shell = Terminal::shell("zsh -f -i", |command| place(&desk, command));
    shell.type_in(
        "autoload -U compinit; compinit -u -D; source <(tenure completions zsh); echo rea''dy\n",
    );
    shell.expect("ready\r\n");
    known(&desk, &["tenure", "get", "db-pas"]);
    shell.type_in("tenure get db-pas\t\n");
    shell.expect("hunter2");
    shell.type_in("exit\n");
    let (_, shown) = shell.ended();
    assert!(!shown.contains("error"), "{shown}");
}

#[test]
fn fish_completes_the_name_of_a_secret() {
    let desk = desk();
    let mut command = Command::new("fish");
    let line = "tenure completions fish | source; complete -C 'tenure get db-'; \
                complete -C 'tenure whoa'";
    command.args(["--no-config", "-c", line]);
    place(&desk, &mut command);
    known(&desk, &["tenure", "get", "db-"]);
    let output = Output::of(&mut command);
    let words: Vec<_> = output.stdout.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(words, ["db-password", "db-user", "whoami"], "{output:?}");
    assert_eq!(output.stderr, "");
}
