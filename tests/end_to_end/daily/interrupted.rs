use std::io::Read;
use std::net::TcpListener;

use super::Desk;
use crate::support::Terminal;

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
