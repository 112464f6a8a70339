//! Credentials in the keyring of the desktop: a real one, none, and one that hangs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::Desk;
use crate::support::{Output, tenure};

/// A line of a shell on a session bus of its own, at home. `$T` is the program, `$A` the
/// address of the server, and its token is on standard input.
fn on_a_bus(desk: &Desk, line: &str) -> Output {
    let mut command = Command::new("dbus-run-session");
    command.args(["--", "sh", "-c", line]);
    desk.place(&mut command);
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("TENURE_")) {
        command.env_remove(name);
    }
    command.current_dir(desk.home()).env("T", env!("CARGO_BIN_EXE_tenure"));
    command.env("A", format!("http://{}", desk.dev().address));
    Output::with_input(&mut command, &desk.dev().token)
}

fn kept_in_a_file(desk: &Desk) -> bool {
    let file = desk.home().join(".config/tenure/credentials.toml");
    fs::read_to_string(file).is_ok_and(|text| text.contains(&desk.dev().token))
}

#[test]
fn where_there_is_a_keyring_the_credential_is_in_it_and_nowhere_else() {
    let desk = Desk::new();
    desk.store("db", "hunter2");
    let output = on_a_bus(
        &desk,
        "cat > token; printf pass | gnome-keyring-daemon --unlock --components=secrets > /dev/null
         $T login --addr $A < token; rm token
         $T get db; echo; $T profile list
         grep -rlF \"$(secret-tool lookup application tenure profile default)\" . ; echo searched
         $T logout && secret-tool lookup application tenure; echo $?",
    );
    assert!(output.stderr.contains("stored in the keyring as profile 'default'"), "{output:?}");
    assert!(
        output.stdout.contains("hunter2\n") && output.stdout.contains("  keyring  "),
        "{output:?}"
    );
    // Nothing of it is at home in the clear but what the server itself keeps.
    let mut found: Vec<_> = output.stdout.lines().filter(|line| line.starts_with("./")).collect();
    found.sort_unstable();
    assert_eq!(found, ["./project/.tenure.log", "./project/.tenure/dev.env"], "{output:?}");
    assert!(output.stdout.ends_with("searched\n1\n"), "{output:?}");
}

#[test]
fn a_keyring_that_is_locked_is_not_waited_for_and_a_file_takes_its_place() {
    let desk = Desk::new();
    let output = on_a_bus(&desk, "$T login --addr $A; echo code $?");
    assert!(output.stdout.ends_with("code 0\n"), "{output:?}");
    assert!(output.stderr.contains("the keyring cannot be used: "), "{output:?}");
    assert!(output.stderr.contains("credentials.toml as profile 'default'"), "{output:?}");
    assert!(kept_in_a_file(&desk));
    let output = on_a_bus(&desk, "$T login --addr $A --credential-store keyring; echo code $?");
    assert!(output.stdout.ends_with("code 5\n"), "{output:?}");
    assert!(output.stderr.contains("--credential-store file"), "{output:?}");
}

/// A `secret-tool` that does what the script says, and notes how it was called.
fn pretended(desk: &Desk, script: &str) -> Command {
    let folder = desk.home().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("secret-tool");
    let noted = "printf '%s\\n' \"$0 $*\" >> \"$HOME/called\"; env >> \"$HOME/called\"";
    fs::write(&program, format!("#!/bin/sh\n{noted}\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = tenure();
    desk.place(&mut command);
    let path = std::env::var("PATH").unwrap();
    command.current_dir(desk.home()).env("PATH", format!("{}:{path}", folder.display()));
    command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere");
    command
}

const WORKS: &str = "case $1 in store) cat > \"$HOME/kept\" ;; lookup) cat \"$HOME/kept\" ;; \
                     clear) rm \"$HOME/kept\" ;; esac";

#[test]
fn the_credential_is_no_argument_and_in_no_variable_of_the_keyrings_program() {
    let desk = Desk::new();
    let (address, token) = (format!("http://{}", desk.dev().address), desk.dev().token.clone());
    let mut login = pretended(&desk, WORKS);
    login.args(["login", "--addr", &address]).env("TENURE_TOKEN", &token);
    let output = Output::with_input(&mut login, &token);
    assert_eq!(output.code, Some(0), "{output:?}");
    let mut get = pretended(&desk, WORKS);
    let output =
        Output::of(get.args(["list", "--profile", "default"]).env("TENURE_API_KEY", &token));
    assert_eq!(output.code, Some(0), "{output:?}");
    let called = fs::read_to_string(desk.home().join("called")).unwrap();
    assert!(called.contains("secret-tool store --label=Tenure: default"), "{called}");
    assert!(!called.contains(&token), "{called}");
    assert!(!kept_in_a_file(&desk));

    // Stored in a file instead, the keyring's is removed.
    let mut login = pretended(&desk, WORKS);
    login.args(["login", "--credential-store", "file"]);
    assert_eq!(Output::with_input(&mut login, &token).code, Some(0));
    assert!(kept_in_a_file(&desk) && !desk.home().join("kept").exists());
}

#[test]
fn a_keyring_that_hangs_or_fails_later_says_what_to_do() {
    let desk = Desk::new();
    let (address, token) = (format!("http://{}", desk.dev().address), desk.dev().token.clone());
    let mut login = pretended(&desk, WORKS);
    login.args(["login", "--addr", &address]);
    assert_eq!(Output::with_input(&mut login, &token).code, Some(0));
    let hangs = Output::of(pretended(&desk, "exec sleep 600").arg("list"));
    hangs.assert_fails(5, &["is locked, or does not answer", "--credential-store file"]);
    let fails = Output::of(pretended(&desk, "echo 'secret-tool: no luck' >&2; exit 1").arg("list"));
    fails.assert_fails(5, &["profile 'default': no luck"]);
    let forgot = Output::of(pretended(&desk, "exit 1").arg("list"));
    forgot.assert_fails(8, &["no credential is stored for profile 'default'"]);
    let mut gone = pretended(&desk, WORKS);
    let gone = Output::of(gone.env("PATH", "/nowhere").arg("list"));
    gone.assert_fails(5, &["secret-tool is not installed", "libsecret-tools"]);
    let mut later = pretended(&desk, "exec sleep 600");
    later.args(["login", "--profile", "later", "--addr", &address]);
    let output = Output::with_input(&mut later, &token);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("is locked, or does not answer"), "{output:?}");
}
