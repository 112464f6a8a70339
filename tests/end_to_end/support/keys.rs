//! What another program finds in a backup (tests/tools/keys).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::Output;

/// A program of that folder, in Python with the library that it needs.
pub fn reader(program: &str) -> Command {
    let mut command = python();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    command.arg("-B").arg(root.join("tests/tools/keys").join(program));
    command
}

/// Python, with that library.
pub fn python() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = root.join("target/test-tools/keys");
    assert!(
        tools.join("installed").exists(),
        "{} is missing: ./tests/run installs it",
        tools.display()
    );
    Command::new(tools.join("python/bin/python"))
}

/// The keys in a backup; `""` is the system.
#[derive(Debug, serde::Deserialize)]
pub struct Keys {
    /// Of what the KEK becomes: those that are kept as they are.
    pub derived: Vec<String>,
    /// The private halves of the token roots.
    pub roots: Vec<String>,
    /// The private half of what signs checkpoints of the audit.
    pub signing: Vec<String>,
    pub tenants: BTreeMap<String, TenantKeys>,
}

/// All hexadecimal.
#[derive(Debug, serde::Deserialize)]
pub struct TenantKeys {
    /// Its DEKs, and last its anchor seed.
    pub wrapped: Vec<String>,
    pub plain: Vec<String>,
    /// The encrypted heads of its secrets.
    pub heads: Vec<String>,
}

impl Keys {
    pub fn of(backup: &Path, kek: &Path) -> Self {
        let output = Output::of(reader("list_keys.py").arg(backup).arg(kek));
        assert_eq!(output.code, Some(0), "{output:?}");
        serde_json::from_str(&output.stdout).expect("JSON")
    }
}

/// Where [`super::init`] leaves the KEK of a data folder.
pub fn kek_of(data: &Path) -> PathBuf {
    data.with_extension("kek")
}
