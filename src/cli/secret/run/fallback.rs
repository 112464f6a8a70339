//! The encrypted copy that `--fallback` keeps for a start without the server.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::whole_file::{self, Over};
use super::secrets::{Held, Secrets, drop_invalid};
use super::variables::{Others, Wanted};
use crate::cli::failure::CliError;
use crate::client::{Credential, Server};
use crate::crypto::{CopyBinding, decrypt_copy, encrypt_copy};
use crate::domain::{NamePrefix, SecretName, SecretValue, Timestamp, ValidityWindow};

/// How old a copy may be.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// What no environment can hold.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Whose copy it is.
pub(super) struct Owner {
    credential: Zeroizing<Vec<u8>>,
    place: String,
}

impl Owner {
    pub(super) fn of(server: &Server) -> Self {
        let (Credential::Token(text) | Credential::ApiKey(text)) = &server.credential;
        Self {
            credential: Zeroizing::new(text.as_bytes().to_vec()),
            place: format!("{}\n{}", server.address.as_str(), server.tenant),
        }
    }
}

pub(super) struct Fallback {
    path: PathBuf,
    owner: Owner,
    request: String,
}

/// What a copy holds, as JSON. It knows no member but these.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Contents<'s> {
    fetched_at: String,
    secrets: Vec<Kept<'s>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept<'s> {
    name: Cow<'s, str>,
    value: Option<Cow<'s, str>>,
    not_before: Option<String>,
    expires_on: Option<String>,
}

impl Fallback {
    pub(super) fn new(path: &Path, owner: Owner, wanted: &Wanted, below: &NamePrefix) -> Self {
        let mut request = match wanted.others {
            Others::Given => format!("all={}\n", below.as_str()),
            Others::LeftOut => String::new(),
        };
        let mut named: Vec<_> = wanted.named.values().collect();
        named.sort();
        named.dedup();
        for name in named {
            request += &format!("name={}\n", name.as_str());
        }
        Self { path: path.to_owned(), owner, request }
    }

    /// Whether there is something to start from; not whether it is good.
    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Replaces the copy.
    pub(super) fn keep(&self, secrets: &Secrets, now: Timestamp) -> Result<(), CliError> {
        let kept = secrets.iter().map(|(name, held)| Kept {
            name: name.as_str().into(),
            value: held.value.as_ref().map(|value| value.expose().into()),
            not_before: held.window.not_before().map(|time| time.to_string()),
            expires_on: held.window.expires_on().map(|time| time.to_string()),
        });
        let contents = Contents { fetched_at: now.to_string(), secrets: kept.collect() };
        let mut json = Zeroizing::new(Vec::new());
        serde_json::to_writer(&mut *json, &contents).map_err(crate::cli::internal)?;
        whole_file::put(&self.path, &encrypt_copy(self.binding(), &json), 0o600, Over::AFile)
    }

    /// What the copy holds that is valid, and how old it is; else why it is of no use.
    pub(super) fn read(&self, now: Timestamp) -> Result<(Secrets, Duration), String> {
        let path = self.path.display();
        let copy = match self.bytes() {
            Ok(copy) => copy,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("there is no copy yet in {path}"));
            }
            Err(error) => return Err(format!("{path} cannot be read: {error}")),
        };
        let contents = decrypt_copy(self.binding(), &copy)
            .map_err(|error| format!("the copy in {path} {error}"))?;
        let (mut secrets, fetched_at) =
            understood(&contents).ok_or_else(|| format!("the copy in {path} is damaged"))?;
        let age = age(fetched_at, now).map_err(|why| format!("the copy in {path} {why}"))?;
        drop_invalid(&mut secrets, now);
        Ok((secrets, age))
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn binding(&self) -> CopyBinding<'_> {
        CopyBinding {
            credential: &self.owner.credential,
            place: self.owner.place.as_bytes(),
            request: self.request.as_bytes(),
        }
    }
}

fn age(fetched_at: Timestamp, now: Timestamp) -> Result<Duration, String> {
    let micros = now.unix_micros().saturating_sub(fetched_at.unix_micros());
    let Ok(micros) = u64::try_from(micros) else {
        return Err(format!("was made at {fetched_at}, later than it is by this machine's clock"));
    };
    let age = Duration::from_micros(micros);
    if age > LONGEST {
        return Err(format!("is of {fetched_at}, older than 24 hours"));
    }
    Ok(age)
}

fn understood(contents: &[u8]) -> Option<(Secrets, Timestamp)> {
    let Contents { fetched_at, secrets } = serde_json::from_slice(contents).ok()?;
    let secrets = secrets.into_iter().map(Kept::held).collect::<Option<_>>()?;
    Some((secrets, Timestamp::parse(&fetched_at).ok()?))
}

impl Kept<'_> {
    fn held(self) -> Option<(SecretName, Held)> {
        let Self { name, value, not_before, expires_on } = self;
        let end = |text: Option<String>| text.map(|text| Timestamp::parse(&text)).transpose().ok();
        let window = ValidityWindow::new(end(not_before)?, end(expires_on)?).ok()?;
        let value = value.map(|value| SecretValue::new(Zeroizing::new(value.into_owned())));
        let held = Held { value, window, version: None };
        Some((SecretName::parse(&name).ok()?, held))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_900_000_000 + hours * 3_600)
    }

    struct Place {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("copy");
            Self { _folder: folder, path }
        }

        fn fallback(&self, credential: &str, place: &str, below: &str) -> Fallback {
            let owner = Owner {
                credential: Zeroizing::new(credential.as_bytes().to_vec()),
                place: place.to_owned(),
            };
            let wanted = Wanted { named: BTreeMap::new(), others: Others::Given };
            Fallback::new(&self.path, owner, &wanted, &NamePrefix::parse(below).unwrap())
        }
    }

    fn secrets() -> Secrets {
        let held = |value: Option<&str>, expires_on| Held {
            value: value.map(|value| SecretValue::new(Zeroizing::new(value.to_owned()))),
            window: ValidityWindow::new(Some(at(-1)), expires_on).unwrap(),
            version: None,
        };
        let name = |name| SecretName::parse(name).unwrap();
        [
            (name("lasting"), held(Some("hunter2"), None)),
            (name("none"), held(None, None)),
            (name("short"), held(Some("for an hour"), Some(at(1)))),
        ]
        .into()
    }

    #[test]
    fn a_copy_gives_what_is_valid_for_24_hours() {
        let place = Place::new();
        let fallback = place.fallback("token", "here", "shop-");
        assert!(fallback.read(at(0)).unwrap_err().contains("no copy yet"));
        fallback.keep(&secrets(), at(0)).unwrap();
        let count = |now| fallback.read(now).map(|(secrets, age)| (secrets.len(), age.as_secs()));
        assert_eq!(count(at(0)), Ok((3, 0)));
        assert_eq!(count(at(1)), Ok((2, 3_600)), "one expired");
        assert_eq!(count(at(24)), Ok((2, 86_400)));
        let late = Timestamp::from_unix_micros(at(24).unix_micros() + 1);
        assert!(count(late).unwrap_err().contains("older than 24 hours"));
        assert!(count(at(-1)).unwrap_err().contains("later than it is"));
        let (read, _) = fallback.read(at(0)).unwrap();
        let (name, held) = read.first_key_value().unwrap();
        assert_eq!((name.as_str(), held.value.as_ref().unwrap().expose()), ("lasting", "hunter2"));
    }

    #[test]
    fn a_copy_of_something_else_is_of_no_use_and_says_why() {
        let place = Place::new();
        place.fallback("token", "here", "shop-").keep(&secrets(), at(0)).unwrap();
        let why = |credential, of, below| {
            place.fallback(credential, of, below).read(at(0)).map(|_| ()).unwrap_err()
        };
        assert!(why("other", "here", "shop-").contains("another credential"));
        assert!(why("token", "there", "shop-").contains("another server or tenant"));
        assert!(why("token", "here", "").contains("for other secrets"));
        std::fs::write(&place.path, "hunter2").unwrap();
        assert!(why("token", "here", "shop-").contains("is no copy"));
    }

    #[test]
    fn a_copy_is_not_readable_and_is_ours_alone() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new();
        place.fallback("token", "here", "shop-").keep(&secrets(), at(0)).unwrap();
        let about = std::fs::metadata(&place.path).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        let bytes = std::fs::read(&place.path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for word in ["hunter2", "lasting", "shop", "here"] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
