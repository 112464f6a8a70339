//! What the program says of itself: help and manual pages.

use std::fs;
use std::process::Command;

use super::Desk;
use crate::support::{Output, tenure};

fn help(args: &[&str]) -> String {
    let mut command = tenure();
    let output = Output::of(command.args(args).env("COLUMNS", "80").env("NO_COLOR", "1"));
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    output.stdout
}

#[test]
fn the_first_page_of_help_fits_a_terminal_and_begins_with_daily_commands() {
    let help = help(&["--help"]);
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("no {text:?} in {help}"));
    assert!(at("Daily commands:") < at("Which server:"));
    assert!(at("Which server:") < at("Server commands:"));
    assert!(at("Server commands:") < at("Options:") && at("Options:") < at("First steps:"));
}

/// The commands of the first page, one after the other, by who reads nothing else.
#[test]
fn the_first_steps_of_the_help_lead_somewhere() {
    let desk = Desk::new();
    let help = help(&["--help"]);
    let (_, steps) = help.split_once("First steps:\n").expect("first steps");
    let steps = steps.lines().map_while(|line| line.strip_prefix("  "));
    let steps: Vec<_> =
        steps.map(|line| line.split("   ").next().unwrap_or_default().trim()).collect();
    // The store of this desk is the one that the first of them starts.
    assert_eq!(steps.first(), Some(&"tenure dev"));
    let mut shown = Vec::new();
    for step in steps.iter().skip(1) {
        let words: Vec<_> = step.split(' ').skip(1).collect();
        let output = Output::with_input(&mut desk.tenure(&words), "hunter2");
        assert_eq!(output.code, Some(0), "{step}: {output:?}");
        shown.push(output.stdout);
    }
    // Stored, listed, read and injected.
    assert_eq!(shown, ["", "db-password\n", "hunter2", "hunter2\n"]);
}

#[test]
fn a_misspelt_command_or_option_is_told_the_right_one() {
    for (args, words) in [
        (&["whoam"][..], "similar subcommand exists: 'whoami'"),
        (&["get", "db", "--profil", "x"], "similar argument exists: '--profile'"),
        (&["token", "mnt"], "'mint'"),
    ] {
        let output = Output::of(tenure().args(args));
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(words), "{words}: {output:?}");
    }
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let shell = |line: &str| {
        let (_, shown) = crate::support::Terminal::shell(line, |command| {
            command.env_remove("NO_COLOR").env("T", env!("CARGO_BIN_EXE_tenure"));
            command.env("TERM", "xterm").current_dir("/");
        })
        .ended();
        shown
    };
    assert!(shell("$T whoam").contains("\u{1b}["));
    assert!(shell("$T sweep --data /nowhere").contains("\u{1b}[31merror:"));
    for line in
        ["NO_COLOR=1 $T whoam", "NO_COLOR=1 $T sweep --data /nowhere", "$T whoam 2>&1 | cat"]
    {
        let shown = shell(line);
        assert!(shown.contains("error:") && !shown.contains('\u{1b}'), "{line}: {shown}");
    }
}

#[test]
fn every_command_has_a_manual_page_without_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let output = Output::of(tenure().args(["man", "--dir"]).arg(&pages));
    assert_eq!(output.code, Some(0), "{output:?}");
    let mut names: Vec<_> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in ["tenure.1", "tenure-get.1", "tenure-token-attenuate.1", "tenure-profile-use.1"] {
        assert!(names.iter().any(|page| page == name), "{name}: {names:?}");
    }
    for name in &names {
        let page = pages.join(name);
        let shown = Output::of(
            Command::new("man")
                .args(["--warnings=all", "-E", "UTF-8", "-l"])
                .arg(&page)
                .env("MANWIDTH", "80"),
        );
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{name}: {shown:?}");
        let lint =
            Output::of(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&page));
        assert_eq!((lint.code, lint.stdout.as_str()), (Some(0), ""), "{name}: {lint:?}");
        let command = name.trim_end_matches(".1").replace('-', " ");
        assert!(
            shown.stdout.contains("EXAMPLE") || command == "tenure",
            "{name}: {}",
            shown.stdout
        );
    }
    let page = Output::of(tenure().arg("man")).stdout;
    assert_eq!(page, fs::read_to_string(pages.join("tenure.1")).unwrap());
    // Lines of an example are as they are to be typed.
    let man = Output::of(Command::new("man").arg("-l").arg(pages.join("tenure-login.1")));
    let example =
        man.stdout.lines().any(|line| line.trim() == "tenure login --profile work < token.txt");
    assert!(example, "{}", man.stdout);
    let nowhere = Output::of(tenure().args(["man", "--dir", "/dev/null/x"]));
    nowhere.assert_fails(2, &["/dev/null/x cannot be written to"]);
}

/// The recording in README.md, line by line.
#[test]
fn the_first_session_of_the_readme_is_what_happens() {
    let desk = Desk::new();
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let session = readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next());
    let steps: Vec<_> = session.expect("a session").split("$ ").skip(1).collect();
    assert!(steps.len() >= 4, "{steps:?}");
    for step in steps {
        let (line, expected) = step.split_once('\n').expect("a line");
        // It runs already, in the other shell.
        if line == "tenure dev" {
            continue;
        }
        let shown = in_a_shell(&desk, line);
        assert!(fits(&shown, expected), "$ {line}\n{expected}is:\n{shown}");
    }
}

/// What a shell shows, of both outputs.
fn in_a_shell(desk: &Desk, line: &str) -> String {
    let mut shell = Command::new("sh");
    desk.place(shell.args(["-c", &format!("exec 2>&1; {line}")]));
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tenure"));
    let folder = program.parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").expect("a path");
    shell.env("PATH", format!("{folder}:{path}"));
    let output = Output::of(&mut shell);
    assert_eq!(output.code, Some(0), "{line}: {output:?}");
    output.stdout
}

/// Whether a text is as another says, in which … stands for any characters of a line.
fn fits(shown: &str, expected: &str) -> bool {
    let fits_line = |(shown, expected): (&str, &str)| {
        let mut parts = expected.split('…');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = shown.strip_prefix(first) else { return false };
        let parts: Vec<_> = parts.collect();
        let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
        for part in between {
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    };
    let same_length = shown.lines().count() == expected.lines().count();
    same_length && shown.lines().zip(expected.lines()).all(fits_line)
}

#[test]
fn what_does_not_fit_a_recording_is_seen() {
    assert!(fits("a b c\n", "a … c\n") && fits("a\n", "a\n") && fits("a-b-c", "…-…"));
    assert!(!fits("a b d\n", "a … c\n") && !fits("a\nb\n", "a\n") && !fits("ab", "a"));
}
