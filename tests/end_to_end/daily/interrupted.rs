use std::io::Read;
use std::net::TcpListener;

use super::Desk;
use crate::support::{Terminal, signal};

#[test]
fn ctrl_c_ends_every_command_that_waits_for_a_server() {
    let desk = Desk::new();
    // One that takes requests and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    for args in [
        &["get", "x"][..],
        &["list"],
        &["list", "--long"],
        &["exists", "x"],
        &["put", "x", "v"],
        &["rm", "x", "--yes"],
        &["edit", "x"],
        &["copy", "x"],
    ] {
        let mut terminal = Terminal::open(args, |command| {
            desk.place(command);
            command.env("TENURE_ADDR", &address).env("TENURE_TENANT", "dev");
            command.env("TENURE_TOKEN", "hunter2").env("EDITOR", "true").env("DISPLAY", ":4711");
        });
        let (mut asked, _) = silent.accept().unwrap();
        assert_ne!(asked.read(&mut [0; 64]).unwrap(), 0, "{args:?}");
        terminal.type_in("\x03");
        let (code, shown) = terminal.ended();
        // One that changes something says what may have become of it.
        let said = shown.trim_end().strip_prefix("^C");
        let expected = match args {
            ["rm", ..] => "error: interrupted: 'x' may have been deleted, or not",
            _ => "",
        };
        assert!(
            code == Some(130) && said.is_some_and(|said| said.starts_with(expected)),
            "{shown}"
        );
        assert!(!expected.is_empty() || said == Some(""), "{args:?}: {shown}");
    }
}

/// Runs `tenure` on a terminal, ends it by a signal once it shows `asked`, and answers what
/// the terminal showed, with how it is set afterwards. A shell for scripts does not set it.
/// Whoever runs these tests may ignore signals, as nohup(1) does.
fn signalled(desk: &Desk, args: &str, asked: &str, name: &str) -> String {
    let line = format!(
        "trap : INT; sh -c 'echo pid $$.; exec env --default-signal {} {args}'; echo code $?.; stty -a",
        env!("CARGO_BIN_EXE_tenure")
    );
    let terminal = Terminal::shell(&line, |command| {
        desk.place(command);
        command.env("EDITOR", "stty raw -echo; echo open; exec sleep 600; :");
        command.env("TENURE_KEK_SOURCE", "passphrase");
    });
    terminal.expect(asked);
    let shown = terminal.shown();
    let (_, pid) = shown.split_once("pid ").expect("a pid");
    let pid = pid.split('.').next().and_then(|pid| pid.parse().ok()).expect("a number");
    signal(pid, name);
    terminal.ended().1
}

#[test]
fn a_signal_from_elsewhere_leaves_a_terminal_as_it_was() {
    let desk = Desk::new();
    let login = format!("login --profile other --addr http://{}", desk.dev().address);
    let hidden = ["put typed", &login, "init --data other"];
    let ends = [("HUP", 129), ("INT", 130), ("QUIT", 131), ("TERM", 143)];
    let at_a_question = hidden.into_iter().flat_map(|args| ends.map(|end| (args, end)));
    let while_it_is_edited = ["HUP", "TERM"].map(|name| ("edit x", (name, 130)));
    for (args, (name, code)) in at_a_question.chain(while_it_is_edited) {
        let asked = match args {
            "init --data other" => "New passphrase: ",
            "edit x" => "open",
            _ => "(not shown): ",
        };
        let shown = signalled(&desk, args, asked, name);
        assert!(shown.contains(&format!("code {code}.")), "{args} {name}: {shown}");
        let (_, modes) = shown.rsplit_once("code ").expect("an end");
        for mode in ["echo", "icanon", "isig", "opost"] {
            let is_on = modes.split([' ', ';', '\r', '\n']).any(|word| word == mode);
            assert!(is_on, "{args} {name}, {mode}: {shown}");
        }
    }
    assert_eq!(desk.stored("typed"), None);
}

/// What a question put off happens again once it is answered.
#[test]
fn behind_a_question_that_was_answered_signals_end_as_before() {
    let desk = Desk::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    for (key, code) in [("\x03", 130), ("\x1c", 131)] {
        let mut terminal = Terminal::open(&["put", "x"], |command| {
            desk.place(command);
            command.env("TENURE_ADDR", &address).env("TENURE_TENANT", "dev");
            command.env("TENURE_TOKEN", "hunter2");
        });
        terminal.expect("(not shown): ");
        terminal.type_in("typed\n");
        let (mut asked, _) = silent.accept().unwrap();
        assert_ne!(asked.read(&mut [0; 64]).unwrap(), 0, "{code}");
        terminal.type_in(key);
        let (ended, shown) = terminal.ended();
        assert_eq!(ended, Some(code), "{shown}");
    }
}

/// Where an editor runs, Ctrl-C and its signal are for the editor.
#[test]
fn an_interrupt_from_elsewhere_ends_no_edit() {
    let desk = Desk::new();
    let terminal = Terminal::shell(
        &format!("echo pid $$.; exec {} edit x", env!("CARGO_BIN_EXE_tenure")),
        |command| {
            desk.place(command);
            command.env("EDITOR", "echo open; while [ ! -e go ]; do sleep 0.05; done; printf v >");
        },
    );
    terminal.expect("open");
    let shown = terminal.shown();
    let pid = shown.split_once("pid ").and_then(|(_, pid)| pid.split('.').next()?.parse().ok());
    signal(pid.expect("a pid"), "INT");
    desk.write("go", "");
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(desk.stored("x"), Some(serde_json::json!("v")));
}
