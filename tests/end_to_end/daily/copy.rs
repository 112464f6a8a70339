use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::Desk;
use crate::kek::bench::Watch;
use crate::support::{Output, eventually, signal};

/// An X server without a screen.
struct Screen {
    server: Child,
    display: String,
}

impl Screen {
    fn new() -> Self {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-nolisten", "tcp"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().expect("Xvfb is there");
        let mut number = String::new();
        let stdout = server.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut number).expect("the number of a display");
        Self { server, display: format!(":{}", number.trim()) }
    }

    fn copy(&self, desk: &Desk, args: &[&str]) -> Output {
        let mut command = desk.tenure(args);
        Output::of(command.env("DISPLAY", &self.display))
    }

    /// What a paste gives; `None` where there is nothing.
    fn pasted(&self, target: &str) -> Option<String> {
        // It waits for ever for an owner who ends before he answers.
        let mut command = Command::new("timeout");
        command.args(["5", "xclip", "-o", "-selection", "clipboard", "-target", target]);
        let output = command.env("DISPLAY", &self.display).output().expect("xclip is there");
        output.status.success().then(|| String::from_utf8(output.stdout).expect("text"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Processes that hold the clipboard of this display.
fn holders(screen: &Screen) -> Vec<u32> {
    let display = format!("DISPLAY={}", screen.display);
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let found = processes.filter_map(|process| {
        let words = fs::read(process.path().join("cmdline")).ok()?;
        let variables = fs::read(process.path().join("environ")).ok()?;
        let ours = variables.split(|byte| *byte == 0).any(|line| line == display.as_bytes());
        let holds = String::from_utf8_lossy(&words).contains("hold-clipboard");
        (ours && holds).then(|| process.file_name().to_str()?.parse().ok()).flatten()
    });
    found.collect()
}

#[test]
fn what_is_copied_can_be_pasted_for_a_while_and_no_longer() {
    let (desk, screen) = (Desk::new(), Screen::new());
    desk.store("db", "hunter2 \"ä");
    let said = screen.copy(&desk, &["copy", "db", "--clear-after", "3s"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
    assert_eq!(said.stderr, "copied 'db'; the clipboard is cleared in 3s\n");
    assert_eq!(screen.pasted("UTF8_STRING").as_deref(), Some("hunter2 \"ä"));
    assert_eq!(screen.pasted("x-kde-passwordManagerHint").as_deref(), Some("secret"));
    eventually("the clipboard to be cleared", || {
        screen.pasted("UTF8_STRING").is_none().then_some(())
    });
    eventually("the holder to be gone", || holders(&screen).is_empty().then_some(()));
}

#[test]
fn the_holder_is_gone_as_soon_as_something_else_is_copied_or_it_is_killed() {
    let (desk, screen) = (Desk::new(), Screen::new());
    desk.store("one", "hunter2");
    desk.store("two", "hunter3");
    assert_eq!(screen.copy(&desk, &["copy", "one"]).code, Some(0));
    let first = holders(&screen);
    assert_eq!(first.len(), 1);
    assert_eq!(screen.copy(&desk, &["copy", "two", "--clear-after", "1h"]).code, Some(0));
    eventually("the first to be gone", || {
        let left = holders(&screen);
        (left.len() == 1 && left != first).then_some(())
    });
    assert_eq!(screen.pasted("UTF8_STRING").as_deref(), Some("hunter3"));
    holders(&screen).into_iter().for_each(|pid| signal(pid, "KILL"));
    eventually("the clipboard to be empty", || {
        screen.pasted("UTF8_STRING").is_none().then_some(())
    });
}

#[test]
fn a_value_on_its_way_to_the_clipboard_shows_nowhere() {
    let (desk, screen) = (Desk::new(), Screen::new());
    let secret = "word-of-copy-that-nobody-else-says";
    desk.store("x", secret);
    let watch = Watch::begin(&[secret]);
    assert_eq!(screen.copy(&desk, &["copy", "x"]).code, Some(0));
    let holder = holders(&screen)[0];
    let variables = fs::read(format!("/proc/{holder}/environ")).unwrap();
    let variables = String::from_utf8_lossy(&variables).into_owned();
    assert!(!variables.contains(secret) && !variables.contains("TENURE"), "{variables}");
    watch.end();
    signal(holder, "TERM");
    eventually("the clipboard to be empty", || {
        screen.pasted("UTF8_STRING").is_none().then_some(())
    });
}

#[test]
fn where_there_is_no_clipboard_it_is_said() {
    let desk = Desk::new();
    desk.store("x", "hunter2");
    desk.run(&["copy", "x"]).assert_fails(5, &["no clipboard here", "DISPLAY", "tenure get"]);
    let mut command = desk.tenure(&["copy", "x"]);
    let gone = Output::of(command.env("DISPLAY", ":4711"));
    gone.assert_fails(5, &["no clipboard here", "tenure get"]);
    let mut command = desk.tenure(&["copy", "x", "--clear-after", "2h"]);
    Output::of(command.env("DISPLAY", ":4711")).assert_fails(2, &["at most 1h"]);
    let mut command = desk.tenure(&["copy", "absent"]);
    Output::of(command.env("DISPLAY", ":4711")).assert_fails(3, &["no secret 'absent'"]);
}
