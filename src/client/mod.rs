//! A client of the HTTP API: what the command line speaks to any server with.
//!
//! A credential goes to the one address that it was given for, and nowhere by way of a
//! redirect. What is safe to repeat is repeated for a moment; of a write whose answer
//! was lost nobody knows whether it was applied, so it is told, and never sent again.
//! Knows nothing of terminals, files or the environment.

mod answers;
mod error;
mod transport;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::domain::{
    NamePrefix, SecretName, SecretValue, TenantName, TimeSpan, Timestamp, ValidityWindow,
    WebAddress,
};

pub use error::{ClientError, Refusal};

use answers::{Described, window_of};
use transport::{Answer, Ask, Method, Repeat, Transport};

/// Which server, which tenant, and as whom.
#[derive(Debug)]
pub struct Server {
    pub address: WebAddress,
    pub tenant: TenantName,
    pub credential: Credential,
    /// Who vouches for its certificate, as PEM; without it, whom the machine trusts.
    pub ca: Option<PathBuf>,
}

/// What a request proves its sender with.
pub enum Credential {
    Token(Zeroizing<String>),
    ApiKey(Zeroizing<String>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::ApiKey(_) => "ApiKey(..)",
        })
    }
}

/// What a server calls the state of a secret: an ETag without its quotes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Version(String);

impl Version {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What cannot be a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a version as the server says it, such as 17")]
pub struct VersionError;

/// As a person gives it, with or without the quotes of an ETag.
impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        const MOST: usize = 64;
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let fits = (1..=MOST).contains(&bare.len());
        match fits && bare.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => Ok(Self(bare.to_owned())),
            false => Err(VersionError),
        }
    }
}

/// A secret that was read.
#[derive(Debug)]
pub struct Secret {
    /// `None` is the JSON value `null`.
    pub value: Option<SecretValue>,
    pub version: Version,
    pub window: ValidityWindow,
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub name: SecretName,
    pub version: Version,
    pub window: ValidityWindow,
    pub state: State,
}

/// Of a secret that is listed, by the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Valid,
    NotYetValid,
}

/// What a write is to store.
#[derive(Debug)]
pub struct NewSecret {
    pub value: Option<SecretValue>,
    pub window: ValidityWindow,
}

/// What must hold for a write to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    None,
    /// There is no readable secret.
    Absent,
    /// It is still the one that was read.
    Unchanged(Version),
}

/// One of several secrets that are stored together or not at all.
#[derive(Debug)]
pub struct Entry {
    pub name: SecretName,
    pub secret: NewSecret,
    pub condition: Condition,
}

/// A part of a list, in the order of names.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether others follow the last one.
    pub more: bool,
}

/// The most names on one page (`limit` of a list).
pub const PAGE: u16 = 10_000;
/// The most secrets that are stored together.
pub const BATCH: usize = 100;

#[derive(Debug)]
pub struct Client {
    transport: Transport,
    secrets: String,
}

impl Client {
    pub fn new(server: Server) -> Result<Self, ClientError> {
        let Server { address, tenant, credential, ca } = server;
        let transport = Transport::new(&address, &credential, ca.as_deref())?;
        Ok(Self { transport, secrets: format!("/api/{tenant}/secrets") })
    }

    /// `None`: nothing is valid there.
    pub async fn read(&self, name: &SecretName) -> Result<Option<Secret>, ClientError> {
        let Some(answer) = self.look(Method::Get, name).await? else { return Ok(None) };
        let value = answers::value(&answer)?;
        Ok(Some(Secret { value, version: answers::version(&answer)?, window: window_of(&answer) }))
    }

    /// The same without the value, which does not leave the server.
    pub async fn describe(
        &self,
        name: &SecretName,
    ) -> Result<Option<(Version, ValidityWindow)>, ClientError> {
        let Some(answer) = self.look(Method::Head, name).await? else { return Ok(None) };
        Ok(Some((answers::version(&answer)?, window_of(&answer))))
    }

    async fn look(&self, method: Method, name: &SecretName) -> Result<Option<Answer>, ClientError> {
        let ask = Ask::new(method, self.path(name));
        match self.transport.send(&ask, Repeat::Safe).await {
            Err(ClientError::Refused(refusal)) if refusal.is_absence() => Ok(None),
            answered => answered.map(Some),
        }
    }

    /// Durable once it is answered.
    pub async fn write(
        &self,
        name: &SecretName,
        new: &NewSecret,
        condition: &Condition,
    ) -> Result<Version, ClientError> {
        let ask = Ask::new(Method::Put, self.path(name)).json(answers::body(new)).on(condition);
        let answer = self.transport.send(&ask, Repeat::IfNotApplied).await?;
        answers::version(&answer)
    }

    /// Stores all of up to [`BATCH`] secrets or none.
    pub async fn write_all(&self, entries: &[Entry]) -> Result<Vec<Version>, ClientError> {
        let ask = Ask::new(Method::Post, self.secrets.clone()).json(answers::batch(entries));
        let answer = self.transport.send(&ask, Repeat::IfNotApplied).await?;
        answers::versions(&answer)
    }

    /// Whether there was something to delete.
    pub async fn delete(
        &self,
        name: &SecretName,
        condition: &Condition,
    ) -> Result<bool, ClientError> {
        let ask = Ask::new(Method::Delete, self.path(name)).on(condition);
        match self.transport.send(&ask, Repeat::IfNotApplied).await {
            Err(ClientError::Refused(refusal)) if refusal.is_absence() => Ok(false),
            answered => answered.map(|_| true),
        }
    }

    /// At most [`PAGE`] names.
    pub async fn names(
        &self,
        prefix: &NamePrefix,
        after: Option<&SecretName>,
    ) -> Result<Page<SecretName>, ClientError> {
        let answer = self.page(prefix, after, "").await?;
        answers::page(&answer, |name: String| SecretName::parse(&name).ok())
    }

    /// At most so many names, the first ones that begin so.
    pub async fn first_names(
        &self,
        prefix: &NamePrefix,
        limit: u16,
    ) -> Result<Page<SecretName>, ClientError> {
        let answer = self.page_of(limit, prefix, None, "").await?;
        answers::page(&answer, |name: String| SecretName::parse(&name).ok())
    }

    /// At most [`PAGE`] secrets without their values.
    pub async fn descriptions(
        &self,
        prefix: &NamePrefix,
        after: Option<&SecretName>,
    ) -> Result<Page<Description>, ClientError> {
        let answer = self.page(prefix, after, "&details=true").await?;
        let page: Page<Description> = answers::page(&answer, Described::known)?;
        match (page.items.first(), after) {
            // One that repeats itself would be walked for ever.
            (Some(first), Some(after)) if first.name <= *after => Err(answer.not_understood()),
            _ => Ok(page),
        }
    }

    /// All that begin so.
    pub async fn all_descriptions(
        &self,
        prefix: &NamePrefix,
    ) -> Result<Vec<Description>, ClientError> {
        let mut all: Vec<Description> = Vec::new();
        loop {
            let after = all.last().map(|described| described.name.clone());
            let mut page = self.descriptions(prefix, after.as_ref()).await?;
            let more = page.more && !page.items.is_empty();
            all.append(&mut page.items);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Those that end within so long from now.
    pub async fn expiring(
        &self,
        prefix: &NamePrefix,
        after: Option<&SecretName>,
        within: TimeSpan,
    ) -> Result<Page<Description>, ClientError> {
        let more = format!("&details=true&expiringWithin={within}");
        answers::page(&self.page(prefix, after, &more).await?, Described::known)
    }

    /// Whether there is one of this name, which may not be valid yet.
    pub async fn lists(&self, name: &SecretName) -> Result<bool, ClientError> {
        // Nothing that begins with a name comes before it.
        let prefix = NamePrefix::parse(name.as_str()).unwrap_or_default();
        Ok(self.first_names(&prefix, 1).await?.items.first() == Some(name))
    }

    async fn page(
        &self,
        prefix: &NamePrefix,
        after: Option<&SecretName>,
        more: &str,
    ) -> Result<Answer, ClientError> {
        self.page_of(PAGE, prefix, after, more).await
    }

    async fn page_of(
        &self,
        limit: u16,
        prefix: &NamePrefix,
        after: Option<&SecretName>,
        more: &str,
    ) -> Result<Answer, ClientError> {
        // Names need no escape in an address.
        let mut path = format!("{}?limit={limit}{more}", self.secrets);
        if !prefix.as_str().is_empty() {
            path += &format!("&prefix={}", prefix.as_str());
        }
        if let Some(after) = after {
            path += &format!("&after={}", after.as_str());
        }
        self.transport.send(&Ask::new(Method::Get, path), Repeat::Safe).await
    }

    fn path(&self, name: &SecretName) -> String {
        format!("{}/{}", self.secrets, name.as_str())
    }
}

/// The window with these ends, as a server that keeps its word says them.
fn window(not_before: Option<Timestamp>, expires_on: Option<Timestamp>) -> Option<ValidityWindow> {
    ValidityWindow::new(not_before, expires_on).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_a_server_may_have_said() {
        for text in ["17", "\"17\"", "18446744073709551615"] {
            let version: Version = text.parse().unwrap();
            assert_eq!(version.as_str(), text.trim_matches('"'));
        }
        for text in ["", "\"\"", "1 7", "\"17", "W/\"17\"", "1\n7", &"1".repeat(65)] {
            assert_eq!(text.parse::<Version>(), Err(VersionError), "{text:?}");
        }
    }
}
