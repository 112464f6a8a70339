//! The Debian package on a machine of its own: installed, used, upgraded, removed, purged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::support::{Machine, Output, eventually};

/// Made once, of the program that the tests are built with.
pub fn package() -> &'static Path {
    static PACKAGE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, package) = PACKAGE.get_or_init(make);
    package
}

fn make() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deb");
    let mut made = Command::new(script);
    made.args(["--fast", "--binary", env!("CARGO_BIN_EXE_tenure"), "--output"]);
    let output = made.arg(folder.path()).output().expect("bash exists");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n(./tests/run installs what it needs)");
    let mut files = fs::read_dir(folder.path()).expect("a folder");
    let package = files.next().expect("a package").expect("a file").path();
    (folder, package)
}

const PACKAGE: &str = "/srv/tenure.deb";
const LATER: &str = "/srv/later.deb";

/// A machine with the package at hand.
fn machine() -> Option<Machine> {
    let machine = Machine::boot()?;
    machine.bring(package(), PACKAGE);
    Some(machine)
}

/// Puts one of a later version at hand.
fn bring_later(machine: &Machine) {
    machine.run(&format!(
        "dpkg-deb -R {PACKAGE} /srv/later
         sed -i 's/^Version: .*/Version: 99.0-1/' /srv/later/DEBIAN/control
         dpkg-deb --root-owner-group -Zgzip -z1 -b /srv/later {LATER}"
    ));
}

/// Makes a tenant with a secret in it; answers a token.
fn store_a_secret(machine: &Machine) -> String {
    machine.until_ready();
    machine.run("tenure tenant create acme");
    let token = machine.run("tenure token mint --tenant acme --scope '*'").trim().to_owned();
    machine.run(&format!("TENURE_TOKEN={token} tenure put password hunter2 {SERVER}"));
    token
}

const SERVER: &str = "--addr http://127.0.0.1:7300 --tenant acme";

#[track_caller]
fn assert_serves_the_secret(machine: &Machine, token: &str) {
    machine.until_ready();
    let value = machine.run(&format!("TENURE_TOKEN={token} tenure get password {SERVER}"));
    assert_eq!(value, "hunter2");
}

fn state(machine: &Machine, of: &str) -> String {
    machine.output(&format!("systemctl {of} tenure.service")).stdout.trim().to_owned()
}

fn pid(machine: &Machine) -> String {
    state(machine, "show --property=MainPID --value")
}

/// Owner, group and mode.
fn rights(machine: &Machine, path: &str) -> String {
    machine.run(&format!("stat --format='%U %G %a' {path}")).trim().to_owned()
}

#[test]
fn a_package_is_installed_used_upgraded_removed_and_purged_and_nothing_stored_is_lost() {
    let Some(machine) = machine() else { return };

    let said = machine.run(&format!("dpkg -i {PACKAGE}"));
    assert!(said.contains("copy /etc/tenure/kek to where"), "{said}");
    assert_eq!(rights(&machine, "/var/lib/tenure"), "tenure tenure 700");
    assert_eq!(rights(&machine, "/etc/tenure/kek"), "tenure tenure 600");
    assert_eq!(rights(&machine, "/etc/tenure/tenure.toml"), "root root 644");
    assert_eq!(
        machine.run("stat --format=%U /proc/$(systemctl show -P MainPID tenure)"),
        "tenure\n"
    );
    let kek = fs::read_to_string(machine.path("/etc/tenure/kek")).expect("a KEK");
    assert!(!said.contains(kek.trim()), "the KEK is not shown");
    let token = store_a_secret(&machine);
    assert_serves_the_secret(&machine, &token);
    machine.run("zgrep -q '^ring ' /usr/share/doc/tenure/third-party-licences.gz");
    machine.run("grep -q third-party-licences.gz /usr/share/doc/tenure/copyright");
    machine.run("man --where tenure tenure-serve tenure-kek-rotate");
    machine.run("source /usr/share/bash-completion/completions/tenure && complete -p tenure");

    // The maintenance that its user does while it is stopped, and root's while it serves.
    machine.run("systemctl stop tenure && runuser -u tenure -- tenure verify");
    machine.run("systemctl start tenure");
    machine.until_ready();
    machine.run("tenure kek rotate && systemctl restart tenure");
    assert_serves_the_secret(&machine, &token);

    bring_later(&machine);
    machine.run("echo '# Ours.' >> /etc/tenure/tenure.toml");
    let before = pid(&machine);
    machine.run(&format!("dpkg -i {LATER}"));
    assert_ne!(pid(&machine), before, "the new version serves");
    assert_eq!(machine.run("tail -n1 /etc/tenure/tenure.toml"), "# Ours.\n");
    assert_serves_the_secret(&machine, &token);

    machine.run("dpkg -r tenure");
    assert_eq!(state(&machine, "is-active"), "inactive");
    machine.run(&format!("dpkg -i {LATER}"));
    assert_serves_the_secret(&machine, &token);

    let said = machine.run("dpkg -P tenure");
    assert!(said.contains("/var/lib/tenure is kept"), "{said}");
    assert!(said.contains("/etc/tenure/kek is kept"), "{said}");
    assert_eq!(machine.run("ls -A /etc/tenure").lines().next(), Some("kek"));
    let said = machine.run(&format!("dpkg -i {PACKAGE}"));
    assert!(said.contains("there is a store in /var/lib/tenure already"), "{said}");
    machine.run("systemctl enable --now tenure");
    assert_serves_the_secret(&machine, &token);
}

/// A line is there, or else nothing.
fn line_of_copies(machine: &Machine, name: &str) -> Option<()> {
    let found = machine.output(&format!("grep '\"name\":\"{name}\"' {COPIES}"));
    (found.code == Some(0)).then_some(())
}

const COPIES: &str = "/var/log/tenure/audit.jsonl";

#[test]
fn copies_of_the_audit_go_to_a_file_that_is_rotated_and_to_the_journal() {
    let Some(machine) = machine() else { return };
    machine.run(&format!("dpkg -i {PACKAGE}"));
    machine.run(&format!(
        "sed -i 's|^# path = \"\"|path = \"{COPIES}\"|; s|^# enabled = false|enabled = true|' \
             /etc/tenure/tenure.toml
         tenure config check && systemctl reload tenure"
    ));
    let token = store_a_secret(&machine);
    eventually("a copy", || line_of_copies(&machine, "password"));
    assert_eq!(rights(&machine, "/var/log/tenure"), "tenure tenure 700");
    assert_eq!(rights(&machine, COPIES), "tenure tenure 600");
    eventually("an entry of the journal", || {
        let wanted = "TENURE_OP=secret.write TENURE_TENANT=acme TENURE_NAME=password";
        let found = machine.output(&format!("journalctl --output=cat --no-pager {wanted}"));
        found.stdout.contains("audit: secret.write password of acme: ok").then_some(())
    });
    machine.run("type -P logrotate || { echo 'no logrotate; ./tests/run installs it'; exit 1; }");
    machine.run("logrotate --force /etc/logrotate.d/tenure");
    eventually("a new file", || {
        (machine.output(&format!("test -e {COPIES} -a -e {COPIES}.1")).code == Some(0))
            .then_some(())
    });
    machine.run(&format!("TENURE_TOKEN={token} tenure put later hunter3 {SERVER}"));
    eventually("a copy in the new file", || line_of_copies(&machine, "later"));
    assert_eq!(rights(&machine, COPIES), "tenure tenure 600");
    assert!(!machine.run("cat /var/log/tenure/*").contains("hunter"));
}

#[test]
fn an_upgrade_leaves_a_stopped_or_disabled_service_alone() {
    let Some(machine) = machine() else { return };
    machine.run(&format!("dpkg -i {PACKAGE} && systemctl disable --now tenure"));
    bring_later(&machine);
    let said = machine.run(&format!("dpkg -i {LATER}"));
    assert_eq!(state(&machine, "is-active"), "inactive", "{said}");
    assert_eq!(state(&machine, "is-enabled"), "disabled", "{said}");
}

#[test]
fn where_somebody_brings_a_kek_or_a_configuration_nothing_is_made_nor_started() {
    let Some(machine) = machine() else { return };
    for brought in ["/etc/tenure/kek", "/etc/tenure/tenure.toml", "/var/lib/tenure/backup"] {
        machine.run(&format!("mkdir -p $(dirname {brought}) && echo '# Ours.' > {brought}"));
        let said = machine.run(&format!("dpkg --force-confold -i {PACKAGE}"));
        assert!(said.contains("no store was made"), "{brought}: {said}");
        assert!(said.contains("runuser -u tenure -- tenure init"), "{brought}: {said}");
        assert_eq!(state(&machine, "is-active"), "inactive", "{brought}");
        assert_eq!(state(&machine, "is-enabled"), "disabled", "{brought}");
        assert_eq!(machine.run(&format!("cat {brought}")), "# Ours.\n");
        machine.run("test ! -e /var/lib/tenure/FORMAT");
        machine.run("dpkg -P tenure && rm -rf /etc/tenure /var/lib/tenure");
    }
}

/// A disk that is full, for instance: the package is then not configured, and it goes on
/// where it was broken off.
#[test]
fn an_installation_that_fails_says_why_and_loses_no_kek() {
    let Some(machine) = machine() else { return };
    machine.run(
        "systemd-sysusers - <<< 'u tenure -' && install -d -m 0700 -o tenure /var/lib/tenure
         mount -t tmpfs -o size=8k,mode=0700,uid=tenure tmpfs /var/lib/tenure",
    );
    let failed = machine.output(&format!("dpkg -i {PACKAGE}"));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("error: "), "{failed:?}");
    let kek = machine.run("cat /etc/tenure/kek");
    machine.run("umount /var/lib/tenure && dpkg --configure tenure");
    assert_eq!(machine.run("cat /etc/tenure/kek"), kek, "the one that was drawn first");
}

#[test]
fn lintian_finds_no_error_in_the_package() {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error", "--tag-display-limit", "0"]);
    let output = lintian.arg(package()).output().expect("lintian; ./tests/run installs it");
    let output = Output::from(output);
    assert_eq!(output.code, Some(0), "{output:?}");
}

/// To the byte, of the same program. It takes as long as all of the above.
#[test]
fn a_package_is_the_same_whenever_it_is_made() {
    if std::env::var_os("TENURE_TEST_LONG").is_none() {
        return;
    }
    // After the first one: they are made in the same place.
    let first = fs::read(package()).expect("a package");
    let (_folder, again) = make();
    assert!(fs::read(again).expect("a package") == first);
}
