//! `deny.toml`, held offline: bans, licences and the form of the exceptions. New
//! advisories are what `cargo deny check advisories` asks for.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use semver::{Version, VersionReq};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

#[derive(Deserialize)]
struct Deny {
    advisories: Advisories,
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Advisories {
    ignore: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    id: String,
    reason: String,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize, Clone)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[test]
fn nothing_banned_is_in_the_tree() {
    assert_none(banned(&deny(), &packages()));
}

#[test]
fn every_licence_is_allowed() {
    assert_none(unlicensed(&deny(), &packages()));
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let elsewhere = packages().into_iter().filter(|package| {
        package.name != env!("CARGO_PKG_NAME")
            && !package.source.as_deref().is_some_and(|source| source.starts_with("registry+"))
    });
    assert_none(elsewhere.map(|package| package.name).collect());
}

#[test]
fn every_exception_is_dated_explained_and_still_needed() {
    assert_none(unfounded(&deny(), &packages()));
}

#[test]
fn a_planted_violation_is_found() {
    let deny: Deny = toml::from_str(
        r#"
        [advisories]
        ignore = [
            { id = "RUSTSEC-2020-0001", reason = "kept, 2026-11-23: it is only used while compiling" },
            { id = "RUSTSEC-2020-0002", reason = "gone, 2026-11-23: it is only used while compiling" },
            { id = "RUSTSEC-2020-0003", reason = "kept: it is only used while compiling" },
            { id = "RUSTSEC-2020-0004", reason = "kept, 2026-11-23: fine" },
            { id = "2020-0005", reason = "kept, 2026-11-23: it is only used while compiling" },
        ]
        [licenses]
        allow = ["MIT", "Apache-2.0"]
        [bans]
        deny = [
            { crate = "bad", reason = "" },
            { crate = "old:<2.0.0", reason = "" },
        ]
        "#,
    )
    .unwrap();
    let package = |name: &str, version: &str, license: Option<&str>| Package {
        name: name.into(),
        version: version.into(),
        license: license.map(Into::into),
        source: None,
    };
    let tree = [
        package("kept", "1.0.0", Some("MIT/Apache-2.0")),
        package("bad", "1.0.0", Some("(MIT OR GPL-3.0-only) AND Apache-2.0")),
        package("old", "1.9.9", Some("MIT AND GPL-3.0-only")),
        package("old", "2.0.0", Some("GPL-3.0-only OR Apache-2.0 WITH LLVM-exception")),
        package("own", "1.0.0", None),
    ];
    assert_eq!(banned(&deny, &tree), ["bad 1.0.0: ", "old 1.9.9: "]);
    let unlicensed = unlicensed(&deny, &tree);
    let names: Vec<_> = unlicensed.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["old 1.9.9", "old 2.0.0", "own 1.0.0"]);
    let ids: Vec<_> = unfounded(&deny, &tree);
    assert_eq!(ids.len(), 4, "{ids:?}");
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

fn banned(deny: &Deny, packages: &[Package]) -> Vec<String> {
    let pairs = deny.bans.deny.iter().flat_map(|ban| packages.iter().map(move |p| (ban, p)));
    pairs
        .filter(|(ban, package)| matches_spec(&ban.spec, package))
        .map(|(ban, package)| format!("{} {}: {}", package.name, package.version, ban.reason))
        .collect()
}

/// `name`, or `name:requirement` as cargo-deny writes it.
fn matches_spec(spec: &str, package: &Package) -> bool {
    let (name, requirement) = spec.split_once(':').unwrap_or((spec, ""));
    let matches_version = || {
        let version = Version::parse(&package.version).unwrap();
        VersionReq::parse(requirement).unwrap().matches(&version)
    };
    name == package.name && (requirement.is_empty() || matches_version())
}

fn unlicensed(deny: &Deny, packages: &[Package]) -> Vec<String> {
    let allowed = deny.licenses.allow.iter().map(|name| Licensee::parse(name).unwrap());
    let allowed: Vec<_> = allowed.collect();
    let is_allowed = |package: &&Package| {
        let text = package.license.as_deref().unwrap_or_default();
        Expression::parse_mode(text, ParseMode::LAX).is_ok_and(|expression| {
            expression.evaluate(|need| allowed.iter().any(|licence| licence.satisfies(need)))
        })
    };
    let refused = packages.iter().filter(|package| !is_allowed(package));
    refused
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect()
}

fn unfounded(deny: &Deny, packages: &[Package]) -> Vec<String> {
    let is_founded = |exception: &&Exception| {
        let parts = exception.reason.split_once(", ").and_then(|(name, rest)| {
            let (date, why) = rest.split_once(": ")?;
            Some((name, date, why))
        });
        parts.is_some_and(|(name, date, why)| {
            packages.iter().any(|package| package.name == name)
                && is_date(date)
                && why.len() >= 20
                && exception.id.starts_with("RUSTSEC-")
        })
    };
    let unfounded = deny.advisories.ignore.iter().filter(|exception| !is_founded(exception));
    unfounded.map(|exception| format!("{}: {}", exception.id, exception.reason)).collect()
}

fn is_date(text: &str) -> bool {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    time::Date::parse(text, format).is_ok()
}

fn deny() -> Deny {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Everything in the lock file, for every platform.
fn packages() -> Vec<Package> {
    static PACKAGES: OnceLock<Vec<Package>> = OnceLock::new();
    PACKAGES.get_or_init(read_metadata).clone()
}

fn read_metadata() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo metadata failed; `cargo fetch --locked` gets what it lacks:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice::<Metadata>(&output.stdout).unwrap().packages
}
