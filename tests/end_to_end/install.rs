//! docs/install.md, followed step by step: every command in it is run as it stands there, on
//! machines that begin with nothing but this folder and the program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::packages::package;
use crate::support::guide::steps;
use crate::support::{Machine, eventually};

const GUIDE: &str = include_str!("../../docs/install.md");
/// Where the folder of the project is, on a machine.
const HERE: &str = "/srv/tenure";

struct Reader {
    machine: Machine,
    steps: BTreeMap<String, String>,
}

impl Reader {
    /// Who has built the program, as the guide begins.
    fn begin() -> Option<Self> {
        let machine = Machine::boot()?;
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        machine.bring(&project.join("config"), &format!("{HERE}/config"));
        let program = Path::new(env!("CARGO_BIN_EXE_tenure"));
        machine.bring(program, &format!("{HERE}/target/release/tenure"));
        Some(Self { machine, steps: steps(GUIDE) })
    }

    fn step(&self, name: &str) -> String {
        let commands = self.steps.get(name).unwrap_or_else(|| panic!("the guide has {name}"));
        format!("export PATH=~/.local/bin:$PATH; cd {HERE}\n{commands}")
    }

    /// Runs a step, and answers what it printed.
    #[track_caller]
    fn follow(&self, name: &str) -> String {
        self.machine.run(&self.step(name))
    }

    /// Begins a step that lasts.
    fn begin_step(&self, name: &str) -> Child {
        let mut shell = self.machine.command(&self.step(name));
        shell.stdout(Stdio::null()).spawn().expect("nsenter exists")
    }

    fn has(&self, path: &str) -> bool {
        self.machine.path(path).exists()
    }
}

#[test]
fn a_developer_is_led_from_the_program_to_a_first_secret() {
    let Some(reader) = Reader::begin() else { return };
    let mut shell = reader.begin_step("development");
    eventually("tenure dev to serve", || reader.has("/srv/tenure/.tenure/dev.env").then_some(()));
    let printed = reader.follow("development-use");
    assert!(printed.ends_with("hello"), "{printed}");
    reader.follow("development-end");
    assert!(shell.wait().expect("the child is ours").success());
    assert!(!reader.has("/srv/tenure/.tenure"));
    reader.machine.run("[ ! -e ~/.local/bin/tenure ]");
}

#[test]
fn an_operator_is_led_through_the_life_of_the_package() {
    let Some(reader) = Reader::begin() else { return };
    let name = package().file_name().expect("a name").to_string_lossy();
    reader.machine.bring(package(), &format!("{HERE}/target/debian/{name}"));
    reader.follow("package-install");
    reader.machine.until_ready();
    let printed = reader.follow("first");
    assert!(printed.ends_with("hello"), "{printed}");
    reader.follow("package-end");
    assert!(!reader.has("/usr/bin/tenure") && !reader.has("/var/lib/tenure"));
}

#[test]
fn an_operator_is_led_through_an_installation_by_hand() {
    let Some(reader) = Reader::begin() else { return };
    reader.follow("hand");
    reader.follow("hand-serve");
    reader.machine.until_ready();
    let printed = reader.follow("first");
    assert!(printed.ends_with("hello"), "{printed}");
    reader.follow("hand-upgrade");
    reader.follow("hand-end");
    assert!(!reader.has("/usr/local/bin/tenure") && !reader.has("/var/lib/tenure"));
}

/// What takes too long for a test is what these tests begin with.
#[test]
fn every_step_of_the_guide_is_followed() {
    let mut steps = steps(GUIDE);
    assert_eq!(steps.remove("build").as_deref(), Some("cargo build --release --locked\n"));
    assert_eq!(steps.remove("package").as_deref(), Some("packaging/deb\n"));
    let followed = [
        "development",
        "development-use",
        "development-end",
        "package-install",
        "first",
        "package-end",
        "hand",
        "hand-serve",
        "hand-upgrade",
        "hand-end",
    ];
    for step in followed {
        assert!(steps.remove(step).is_some(), "the guide has {step}");
    }
    assert!(steps.is_empty(), "{steps:?} is followed by nobody");
}
