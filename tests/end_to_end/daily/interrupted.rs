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
        assert_eq!((code, shown.trim_end()), (Some(130), "^C"), "{args:?}");
    }
}
