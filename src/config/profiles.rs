//! The two files in which a user keeps servers: `profiles.toml`, which server and which
//! tenant goes by which name, and `credentials.toml`, what opens them where there is no
//! keyring.
//!
//! Errors repeat nothing of what a file says: it may be a credential.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::domain::{TenantName, WebAddress};

/// What a user calls a server and a tenant on it: 1 to 64 of `A-Z a-z 0-9 - _`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileName(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters of A-Z a-z 0-9 - _")]
pub struct ProfileNameError;

impl ProfileName {
    pub const MAX_LEN: usize = 64;

    pub fn parse(text: &str) -> Result<Self, ProfileNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let whole = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(plain);
        if whole { Ok(Self(text.into())) } else { Err(ProfileNameError) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = ProfileNameError;

    fn from_str(text: &str) -> Result<Self, ProfileNameError> {
        Self::parse(text)
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the credential of a profile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialPlace {
    Keyring,
    /// `credentials.toml`.
    File,
}

impl CredentialPlace {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keyring => "keyring",
            Self::File => "file",
        }
    }
}

/// A server, and a tenant on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub address: WebAddress,
    pub tenant: TenantName,
    /// Who vouches for the server's certificate; absolute.
    pub ca: Option<PathBuf>,
    pub credential: CredentialPlace,
}

/// `profiles.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profiles {
    /// The one that is meant where nothing else is said; one of `named`.
    pub default: Option<ProfileName>,
    pub named: BTreeMap<ProfileName, Profile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProfiles {
    default: Option<String>,
    #[serde(default)]
    profile: BTreeMap<String, WrittenProfile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProfile {
    address: String,
    tenant: String,
    ca: Option<PathBuf>,
    credential: CredentialPlace,
}

impl Profiles {
    pub fn parse(text: &str) -> Result<Self, String> {
        let WrittenProfiles { default, profile } = toml::from_str(text).map_err(unreadable)?;
        let mut named = BTreeMap::new();
        for (name, WrittenProfile { address, tenant, ca, credential }) in profile {
            let name = profile_name(&name)?;
            let address = WebAddress::parse(&address)
                .map_err(|error| format!("the address of profile '{name}' {error}"))?;
            let tenant = TenantName::parse(&tenant)
                .map_err(|error| format!("the tenant of profile '{name}' {error}"))?;
            named.insert(name, Profile { address, tenant, ca, credential });
        }
        let default = default.map(|name| profile_name(&name)).transpose()?;
        if default.as_ref().is_some_and(|name| !named.contains_key(name)) {
            return Err("default names no profile of the file".to_owned());
        }
        Ok(Self { default, named })
    }

    /// What [`Profiles::parse`] reads.
    pub fn text(&self) -> String {
        let Self { default, named } = self;
        let mut text = "# Written by 'tenure login'.\n".to_owned();
        if let Some(default) = default {
            text += &format!("default = \"{default}\"\n");
        }
        for (name, Profile { address, tenant, ca, credential }) in named {
            text += &format!(
                "\n[profile.{name}]\naddress = {}\ntenant = \"{tenant}\"\n",
                quoted(address.as_str())
            );
            if let Some(ca) = ca {
                text += &format!("ca = {}\n", quoted(&ca.to_string_lossy()));
            }
            text += &format!("credential = \"{}\"\n", credential.as_str());
        }
        text
    }
}

/// `credentials.toml`: the credential of a profile, with the address that it is for.
#[derive(Default)]
pub struct Credentials(BTreeMap<ProfileName, Kept>);

struct Kept {
    address: WebAddress,
    credential: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCredential {
    address: String,
    credential: String,
}

impl Credentials {
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: BTreeMap<String, WrittenCredential> =
            toml::from_str(text).map_err(unreadable)?;
        let mut kept = BTreeMap::new();
        for (name, WrittenCredential { address, credential }) in written {
            let name = profile_name(&name)?;
            let address = WebAddress::parse(&address)
                .map_err(|error| format!("the address of profile '{name}' {error}"))?;
            kept.insert(name, Kept { address, credential: Zeroizing::new(credential) });
        }
        Ok(Self(kept))
    }

    /// What [`Credentials::parse`] reads.
    pub fn text(&self) -> Zeroizing<String> {
        // With room for all of it: a string that grows leaves its old bytes behind.
        let most = |kept: &Kept| 6 * (kept.credential.len() + kept.address.as_str().len()) + 256;
        let room = self.0.values().map(most).sum::<usize>();
        let mut text = Zeroizing::new(String::with_capacity(room + 256));
        text.push_str(
            "# Written by 'tenure login'. Whoever reads this file has these credentials.\n",
        );
        for (name, Kept { address, credential }) in &self.0 {
            text.push_str(&format!("\n[{name}]\naddress = {}\n", quoted(address.as_str())));
            text.push_str("credential = ");
            quote(credential, &mut text);
            text.push('\n');
        }
        text
    }

    /// Only for the address that it was stored for.
    pub fn of(&self, name: &ProfileName, address: &WebAddress) -> Option<Zeroizing<String>> {
        let kept = self.0.get(name).filter(|kept| kept.address == *address)?;
        Some(kept.credential.clone())
    }

    pub fn keep(&mut self, name: ProfileName, address: WebAddress, credential: Zeroizing<String>) {
        self.0.insert(name, Kept { address, credential });
    }

    /// Answers whether there was one.
    pub fn remove(&mut self, name: &ProfileName) -> bool {
        self.0.remove(name).is_some()
    }
}

fn profile_name(text: &str) -> Result<ProfileName, String> {
    ProfileName::parse(text).map_err(|error| format!("the name of a profile {error}"))
}

/// Without the line that it is about.
pub(super) fn unreadable(error: toml::de::Error) -> String {
    let said = error.message().lines().next().unwrap_or_default();
    // What it found instead of a word that it knows, it repeats.
    let named = said.split('`').next().unwrap_or_default().trim_end();
    if named == said { said.to_owned() } else { format!("{named} something else") }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    quote(text, &mut quoted);
    quoted
}

/// A basic string of TOML.
fn quote(text: &str, into: &mut String) {
    into.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => into.extend(['\\', character]),
            control if control.is_control() => {
                into.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            plain => into.push(plain),
        }
    }
    into.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> ProfileName {
        ProfileName::parse(text).unwrap()
    }

    fn address(text: &str) -> WebAddress {
        WebAddress::parse(text).unwrap()
    }

    fn profile(ca: Option<&str>) -> Profile {
        Profile {
            address: address("https://tenure.example:8443/a"),
            tenant: TenantName::parse("acme").unwrap(),
            ca: ca.map(PathBuf::from),
            credential: CredentialPlace::Keyring,
        }
    }

    #[test]
    fn profiles_are_written_for_people_too() {
        let named = BTreeMap::from([(name("work"), profile(Some("/etc/ca \"of\" us.pem")))]);
        let profiles = Profiles { default: Some(name("work")), named };
        assert_eq!(
            profiles.text(),
            "# Written by 'tenure login'.\ndefault = \"work\"\n\n[profile.work]\naddress = \
             \"https://tenure.example:8443/a\"\ntenant = \"acme\"\nca = \"/etc/ca \\\"of\\\" \
             us.pem\"\ncredential = \"keyring\"\n"
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(names in prop::collection::vec("[A-Za-z0-9_-]{1,64}", 0..4),
                                    ca in "\\PC{0,20}", credential in "[ -~\\t\\n]{0,80}") {
            let mut profiles = Profiles::default();
            let mut credentials = Credentials::default();
            for text in &names {
                profiles.named.insert(name(text), profile(Some(&ca)));
                let at = profile(None).address;
                credentials.keep(name(text), at, Zeroizing::new(credential.clone()));
            }
            profiles.default = profiles.named.keys().next().cloned();
            prop_assert_eq!(&Profiles::parse(&profiles.text()).unwrap(), &profiles);
            let read = Credentials::parse(&credentials.text()).unwrap();
            for text in &names {
                let at = profile(None).address;
                let kept = read.of(&name(text), &at).unwrap();
                prop_assert_eq!(kept.as_str(), &credential);
            }
        }
    }

    #[test]
    fn a_credential_is_for_the_address_that_it_was_stored_for() {
        let mut credentials = Credentials::default();
        let (here, there) = (address("https://a.example"), address("https://b.example"));
        credentials.keep(name("work"), here.clone(), Zeroizing::new("x".to_owned()));
        assert!(credentials.of(&name("work"), &here).is_some());
        assert!(credentials.of(&name("work"), &there).is_none());
        assert!(credentials.of(&name("other"), &here).is_none());
        assert!(credentials.remove(&name("work")) && !credentials.remove(&name("work")));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_not_repeated() {
        for text in [
            "token = 'hunter2'",
            "hunter2",
            "default = 'hunter2'",
            "[profile.work]\naddress = 'hunter2'\ntenant = 'a'\ncredential = 'file'",
            "[profile.work]\naddress = 'https://a.example'\ntenant = 'hunter2/'\ncredential = 'file'",
            "[profile.work]\naddress = 'https://a.example'\ntenant = 'a'\ncredential = 'hunter2'",
            "[profile.'hunter2/']\naddress = 'https://a.example'\ntenant = 'a'\ncredential = 'file'",
            "[profile.work]\nhunter2 = 1",
        ] {
            let refusal = Profiles::parse(text).unwrap_err();
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
        for text in ["hunter2", "[work]\ncredential = 'hunter2'", "[work]\nhunter2 = 'x'"] {
            let refusal = Credentials::parse(text).err().unwrap();
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
