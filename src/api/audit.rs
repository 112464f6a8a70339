//! The audit as it is shown: entries, and what of them is asked for.
//!
//! An entry's JSON is what is stored, committed to and exported, so a later version
//! must read all that an earlier one wrote: members are only ever added, and left out
//! where they say nothing.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What was done, or was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditOp {
    SecretRead,
    SecretList,
    SecretWrite,
    SecretDelete,
    /// The removal of what had expired.
    SecretSweep,
    TenantCreate,
    TenantList,
    TenantShow,
    TenantDelete,
    TenantRestore,
    TenantLimit,
    StoreRestore,
    TokenMint,
    TokenRevoke,
    TokenList,
    RootList,
    RootRotate,
    ApiKeyCreate,
    ApiKeyList,
    ApiKeyShow,
    ApiKeyRevoke,
    /// Some that were none of ours, or no longer; summed.
    CredentialRefused,
    /// The removal of revocations and API keys past their time.
    CredentialsSweep,
    KekStatus,
    KekRotate,
    DekList,
    DekRotate,
    ClockAccept,
    BackupCreate,
    Seal,
    Unseal,
    Start,
    /// Entries are missing, and how many.
    Lost,
    /// Entries may be missing.
    Gap,
    /// Old entries were moved out of the store.
    AuditArchive,
}

impl AuditOp {
    pub const ALL: [Self; 35] = [
        Self::SecretRead,
        Self::SecretList,
        Self::SecretWrite,
        Self::SecretDelete,
        Self::SecretSweep,
        Self::TenantCreate,
        Self::TenantList,
        Self::TenantShow,
        Self::TenantDelete,
        Self::TenantRestore,
        Self::TenantLimit,
        Self::StoreRestore,
        Self::TokenMint,
        Self::TokenRevoke,
        Self::TokenList,
        Self::RootList,
        Self::RootRotate,
        Self::ApiKeyCreate,
        Self::ApiKeyList,
        Self::ApiKeyShow,
        Self::ApiKeyRevoke,
        Self::CredentialRefused,
        Self::CredentialsSweep,
        Self::KekStatus,
        Self::KekRotate,
        Self::DekList,
        Self::DekRotate,
        Self::ClockAccept,
        Self::BackupCreate,
        Self::Seal,
        Self::Unseal,
        Self::Start,
        Self::Lost,
        Self::Gap,
        Self::AuditArchive,
    ];

    /// As it stands in an entry.
    pub const fn word(self) -> &'static str {
        match self {
            Self::SecretRead => "secret.read",
            Self::SecretList => "secret.list",
            Self::SecretWrite => "secret.write",
            Self::SecretDelete => "secret.delete",
            Self::SecretSweep => "secret.sweep",
            Self::TenantCreate => "tenant.create",
            Self::TenantList => "tenant.list",
            Self::TenantShow => "tenant.show",
            Self::TenantDelete => "tenant.delete",
            Self::TenantRestore => "tenant.restore",
            Self::TenantLimit => "tenant.limit",
            Self::StoreRestore => "store.restore",
            Self::TokenMint => "token.mint",
            Self::TokenRevoke => "token.revoke",
            Self::TokenList => "token.list",
            Self::RootList => "root.list",
            Self::RootRotate => "root.rotate",
            Self::ApiKeyCreate => "api_key.create",
            Self::ApiKeyList => "api_key.list",
            Self::ApiKeyShow => "api_key.show",
            Self::ApiKeyRevoke => "api_key.revoke",
            Self::CredentialRefused => "credential.refused",
            Self::CredentialsSweep => "credentials.sweep",
            Self::KekStatus => "kek.status",
            Self::KekRotate => "kek.rotate",
            Self::DekList => "dek.list",
            Self::DekRotate => "dek.rotate",
            Self::ClockAccept => "clock.accept",
            Self::BackupCreate => "backup.create",
            Self::Seal => "seal",
            Self::Unseal => "unseal",
            Self::Start => "start",
            Self::Lost => "lost",
            Self::Gap => "gap",
            Self::AuditArchive => "audit.archive",
        }
    }
}

impl fmt::Display for AuditOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Serialize for AuditOp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for AuditOp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let unknown = || D::Error::custom("an operation of no known name");
        Self::ALL.into_iter().find(|op| op.word() == word).ok_or_else(unknown)
    }
}

/// Who acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditActor {
    Token,
    ApiKey,
    /// An access token of another issuer.
    AccessToken,
    /// A command at this machine.
    Local,
    /// The server by itself.
    Server,
    /// Whoever presented what is no credential of ours.
    Stranger,
}

/// What is recorded of one act. The order of its members is that of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// By the wall clock, RFC 3339.
    pub at: String,
    pub op: AuditOp,
    /// In the system's chain: whom it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Of the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `ok`, or why not: the code of the problem.
    pub result: String,
    pub by: AuditActor,
    /// Which one it was; it opens nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Of a local command: the user's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// An address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What else there is to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// An entry and its number in its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NumberedEntry {
    pub number: u64,
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// An entry as programs read it, from a query or where it is copied to. Its chain and its
/// number tell it from every other one, so what was copied twice can be recognized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CopiedEntry {
    /// The tenant's name; `None`: the system's chain.
    pub chain: Option<String>,
    /// Of the tenant: another one of the same name has another. Hexadecimal.
    pub chain_id: Option<String>,
    #[serde(flatten)]
    pub entry: NumberedEntry,
}

/// Which entries are wanted: those for which all that is given holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditFilter {
    /// A secret's.
    pub name: Option<String>,
    /// Not before this moment, RFC 3339.
    pub since: Option<String>,
    /// Before this moment.
    pub until: Option<String>,
    pub subject: Option<String>,
    /// An operation, or what several begin with: `secret` is all of `secret.write` and so on.
    pub op: Option<String>,
    pub result: Option<String>,
}

/// From where a chain is looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditFrom {
    /// This entry, and on to later ones.
    Entry(u64),
    /// As many as are wanted, up to the newest.
    Newest,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> AuditEntry {
        AuditEntry {
            at: "2030-01-02T03:04:05Z".to_owned(),
            op: AuditOp::SecretWrite,
            tenant: None,
            name: Some("db".to_owned()),
            result: "ok".to_owned(),
            by: AuditActor::Token,
            credential: Some("ab".to_owned()),
            subject: Some("Jörg \"x\"".to_owned()),
            issuer: None,
            from: Some("192.0.2.1".to_owned()),
            request: Some("r-1".to_owned()),
            detail: None,
        }
    }

    #[test]
    fn the_json_of_an_entry_is_frozen() {
        let json = "{\"at\":\"2030-01-02T03:04:05Z\",\"op\":\"secret.write\",\"name\":\"db\",\
                    \"result\":\"ok\",\"by\":\"token\",\"credential\":\"ab\",\
                    \"subject\":\"Jörg \\\"x\\\"\",\"from\":\"192.0.2.1\",\"request\":\"r-1\"}";
        assert_eq!(serde_json::to_string(&entry()).unwrap(), json);
        assert_eq!(serde_json::from_str::<AuditEntry>(json).unwrap(), entry());
    }

    #[test]
    fn a_copied_entry_says_which_one_it_is() {
        let entry = NumberedEntry { number: 7, entry: entry() };
        let of_tenant = CopiedEntry {
            chain: Some("acme".to_owned()),
            chain_id: Some("0a".to_owned()),
            entry: entry.clone(),
        };
        let json = serde_json::to_string(&of_tenant).unwrap();
        let begins = "{\"chain\":\"acme\",\"chainId\":\"0a\",\"number\":7,\"at\":\"2030-";
        assert!(json.starts_with(begins), "{json}");
        let of_system = CopiedEntry { chain: None, chain_id: None, entry };
        let json = serde_json::to_string(&of_system).unwrap();
        assert!(json.starts_with("{\"chain\":null,\"chainId\":null,\"number\":7,"), "{json}");
    }

    #[test]
    fn every_operation_has_one_word() {
        for op in AuditOp::ALL {
            let json = serde_json::to_string(&op).unwrap();
            assert_eq!(json, format!("\"{op}\""));
            assert_eq!(serde_json::from_str::<AuditOp>(&json).unwrap(), op);
        }
    }
}
