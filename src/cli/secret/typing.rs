//! Names for somebody who is typing one: of profiles, and of secrets, which a server is
//! asked for.
//!
//! The last answer is kept for some seconds, since a shell asks with every press of the
//! key. Names say much about who keeps the secrets: they are in a file that only its user
//! may read, and only the names that the credential may list.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::home::{Home, base_folder};
use super::keyring::Patience;
use super::target::{Names, Target, TargetArgs};
use crate::client::Client;

/// How long an answer is taken for true.
const FRESH: Duration = Duration::from_secs(10);
/// More than a person reads.
const MOST_NAMES: u16 = 1_000;
const MOST_BYTES: u64 = 256 * 1024;
/// In front of the names: the form of the file.
const FORM: &str = "tenure names 1";

pub(in crate::cli) fn profile_names() -> Vec<String> {
    let profiles = Home::find().and_then(|home| home.profiles()).unwrap_or_default();
    profiles.named.keys().map(ToString::to_string).collect()
}

/// The names of the target that the words of an unfinished line mean, as they are typed.
/// None where anything is amiss: this is no place for an error.
pub(in crate::cli) fn names_that_begin_with(
    words: &[String],
    typed: &str,
    within: Duration,
) -> Vec<String> {
    let Ok(target) = Target::find_within(&target_of(words), Patience::Little(within)) else {
        return Vec::new();
    };
    let asked = asked(&target, typed);
    let file = cache_file();
    let known = file.as_deref().and_then(|file| kept(file, &asked, SystemTime::now()));
    known.unwrap_or_else(|| {
        let names = target.open().ok().and_then(|(client, names)| ask(&client, &names, typed));
        if let (Some(file), Some(names)) = (file, &names) {
            keep(&file, &asked, names);
        }
        names.unwrap_or_default()
    })
}

/// What the options of a line say that may end anywhere.
fn target_of(words: &[String]) -> TargetArgs {
    fn said<T: std::str::FromStr>(words: &[String], option: &str) -> Option<T> {
        let mut words = words.iter().skip_while(|word| word.split('=').next() != Some(option));
        let first = words.next()?;
        let value = first.split_once('=').map(|(_, value)| value);
        value.or_else(|| words.next().map(String::as_str))?.parse().ok()
    }
    TargetArgs {
        profile: said(words, "--profile"),
        addr: said(words, "--addr"),
        tenant: said(words, "--tenant"),
        prefix: said(words, "--prefix"),
        ca: said(words, "--ca"),
    }
}

fn ask(client: &Client, names: &Names, typed: &str) -> Option<Vec<String>> {
    let below = names.below(typed).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let page = runtime.block_on(client.first_names(&below, MOST_NAMES)).ok()?;
    Some(page.items.iter().map(|name| names.shown(name).to_owned()).collect())
}

/// What must be the same for an answer to be the same. None of it is a secret.
fn asked(target: &Target, typed: &str) -> String {
    let Target { server, source, prefix, origins: _ } = target;
    format!("{} {} {} {typed} {source}", server.address, server.tenant, prefix.as_str())
}

fn cache_file() -> Option<PathBuf> {
    let folder = base_folder("XDG_CACHE_HOME", ".cache")?.join("tenure");
    match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        Ok(()) if is_ours_alone(&folder) => Some(folder.join("names")),
        _ => None,
    }
}

fn is_ours_alone(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| {
        about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o077 == 0
    })
}

/// `None` where it is older, of another question, or no such file.
fn kept(file: &Path, asked: &str, now: SystemTime) -> Option<Vec<String>> {
    let about = fs::metadata(file).ok()?;
    let age = now.duration_since(about.modified().ok()?).ok()?;
    if age >= FRESH || about.len() > MOST_BYTES || !is_ours_alone(file) {
        return None;
    }
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines();
    let same = lines.next() == Some(FORM) && lines.next() == Some(asked);
    same.then(|| lines.map(str::to_owned).collect())
}

/// In place of what was kept before. Where it cannot be written the server is asked again.
fn keep(file: &Path, asked: &str, names: &[String]) {
    let text = [&[FORM, asked][..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    let fresh = file.with_file_name(format!(".names.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut open| open.write_all((text.join("\n") + "\n").as_bytes()))
        .and_then(|()| fs::rename(&fresh, file));
    if written.is_err() {
        // There may be none.
        let _ = fs::remove_file(&fresh);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_answer_is_kept_for_ten_seconds_and_for_the_same_question() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("names");
        let names = ["a".to_owned(), "b".to_owned()];
        keep(&file, "question", &names);
        let written = fs::metadata(&file).unwrap();
        assert_eq!(written.permissions().mode() & 0o777, 0o600);
        let written = written.modified().unwrap();
        let after = |seconds| written + Duration::from_secs(seconds);
        assert_eq!(kept(&file, "question", after(9)).as_deref(), Some(&names[..]));
        assert_eq!(kept(&file, "question", after(10)), None);
        assert_eq!(kept(&file, "question", written - Duration::from_secs(1)), None);
        assert_eq!(kept(&file, "another", after(0)), None);
        keep(&file, "another", &[]);
        assert_eq!(kept(&file, "another", after(0)), Some(Vec::new()));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(kept(&file, "another", after(0)), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_line_that_is_not_whole_says_what_it_says() {
        let of = |line: &str| target_of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let args = of("tenure get --tenant acme --prefix=shop- --addr https://a.example db --ca");
        assert_eq!(args.tenant.unwrap().as_str(), "acme");
        assert_eq!(args.prefix.unwrap().as_str(), "shop-");
        assert_eq!(args.addr.unwrap().as_str(), "https://a.example");
        assert!(args.ca.is_none() && args.profile.is_none());
        assert!(of("tenure get --tenant a/b --profile").tenant.is_none());
    }
}
