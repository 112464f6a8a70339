//! The tables `[[oidc]]`: issuers whose access tokens are accepted.
//!
//! They are of the file alone: a variable or a flag says one value, and nobody can
//! say in one value which of several issuers it is for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::TimeSpan;
use crate::domain::{Scope, TenantName, WebAddress};

pub(super) const SECTION: &str = "oidc";

/// An issuer, where its keys are, and what its words mean here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    /// Exactly as it stands in tokens.
    pub issuer: WebAddress,
    pub audience: String,
    pub tenant_claim: String,
    /// By what stands in that claim.
    pub tenants: BTreeMap<String, TenantName>,
    /// Whether a claim that is not listed names the tenant of that name.
    pub every_tenant: bool,
    /// By the issuer's words for them.
    pub scopes: BTreeMap<String, Scope>,
    /// Asked of the issuer where there is none.
    pub jwks_uri: Option<WebAddress>,
    /// PEM; in place of the machine's.
    pub ca_file: Option<PathBuf>,
    pub refresh: TimeSpan,
    /// As which Swagger UI signs its user in.
    pub client_id: Option<String>,
}

/// One key of such a table.
#[derive(Debug)]
pub struct OidcKey {
    /// `oidc.issuer`.
    pub(super) path: &'static str,
    read: fn(&mut Draft, &DeValue<'_>, &Path) -> Result<(), String>,
}

impl OidcKey {
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// As it stands in its table.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// Errors are clauses that follow the key's name.
    pub(super) fn read(
        &self,
        draft: &mut Draft,
        value: &DeValue<'_>,
        folder: &Path,
    ) -> Result<(), String> {
        (self.read)(draft, value, folder)
    }
}

/// Every key there is, in the order of `config/tenure.toml`.
pub fn oidc_keys() -> &'static [OidcKey] {
    KEYS
}

const KEYS: &[OidcKey] = &[
    OidcKey {
        path: "oidc.issuer",
        read: |draft, value, _| {
            let issuer = address(value)?;
            if issuer.has_query() {
                return Err("must not have a query".to_owned());
            }
            draft.issuer = Some(issuer);
            Ok(())
        },
    },
    OidcKey {
        path: "oidc.audience",
        read: |draft, value, _| {
            draft.audience = Some(word(value)?);
            Ok(())
        },
    },
    OidcKey {
        path: "oidc.tenant_claim",
        read: |draft, value, _| {
            draft.tenant_claim = Some(word(value)?);
            Ok(())
        },
    },
    OidcKey {
        path: "oidc.tenants",
        read: |draft, value, _| {
            draft.tenants = Some(table(value, tenant)?);
            Ok(())
        },
    },
    OidcKey {
        path: "oidc.scopes",
        read: |draft, value, _| {
            draft.scopes = Some(table(value, scope)?);
            Ok(())
        },
    },
    OidcKey {
        path: "oidc.jwks_uri",
        read: |draft, value, _| {
            draft.jwks_uri = unless_empty(value, address)?;
            Ok(())
        },
    },
    OidcKey {
        path: "oidc.ca_file",
        read: |draft, value, folder| {
            draft.ca_file = unless_empty(value, word)?.map(|file| folder.join(file));
            Ok(())
        },
    },
    OidcKey {
        path: "oidc.refresh",
        read: |draft, value, _| {
            let refresh = text(value)?.parse::<TimeSpan>().map_err(|error| error.to_string())?;
            if !(SHORTEST_REFRESH..=LONGEST_REFRESH).contains(&refresh) {
                return Err(format!("must be from {SHORTEST_REFRESH} to {LONGEST_REFRESH}"));
            }
            draft.refresh = Some(refresh);
            Ok(())
        },
    },
    OidcKey {
        path: "oidc.client_id",
        read: |draft, value, _| {
            draft.client_id = unless_empty(value, word)?;
            Ok(())
        },
    },
];

const DEFAULT_TENANT_CLAIM: &str = "tenant";
const DEFAULT_REFRESH: TimeSpan = TimeSpan::seconds(600);
const SHORTEST_REFRESH: TimeSpan = TimeSpan::seconds(1);
/// A good part of the 24 hours for which keys are used that nobody could renew.
const LONGEST_REFRESH: TimeSpan = TimeSpan::seconds(6 * 3600);
/// On either side of the table of tenants: whatever the claim says.
const WHATEVER: &str = "*";

/// A table while it is read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    issuer: Option<WebAddress>,
    audience: Option<String>,
    tenant_claim: Option<String>,
    tenants: Option<BTreeMap<String, Meant>>,
    scopes: Option<BTreeMap<String, Scope>>,
    jwks_uri: Option<WebAddress>,
    ca_file: Option<PathBuf>,
    refresh: Option<TimeSpan>,
    client_id: Option<String>,
}

/// Why a table as a whole is refused: its key, the problem, the remedy.
pub(super) type Fault = (&'static str, &'static str, &'static str);

impl Draft {
    /// The issuer, or what keeps the table from being one.
    pub(super) fn finish(self) -> Result<Oidc, Fault> {
        let Self {
            issuer,
            audience,
            tenant_claim,
            tenants,
            scopes,
            jwks_uri,
            ca_file,
            refresh,
            client_id,
        } = self;
        let issuer = issuer.ok_or((
            "oidc.issuer",
            "is missing from an [[oidc]] table",
            "set it to what stands in `iss` of its tokens, to the letter",
        ))?;
        let audience = audience.ok_or((
            "oidc.audience",
            "is missing",
            "set it to what stands in `aud` of tokens for this server; without it, tokens for \
             others would be good here",
        ))?;
        let tenants = tenants.filter(|tenants| !tenants.is_empty()).ok_or((
            "oidc.tenants",
            "names no tenant",
            "say which claim means which, such as { acme = \"acme\" }, or { \"*\" = \"*\" } to \
             trust the issuer with all",
        ))?;
        let scopes = scopes.filter(|scopes| !scopes.is_empty()).ok_or((
            "oidc.scopes",
            "names no scope",
            "say which word means which, such as { \"tenure:read\" = \"Secret.Read\" }",
        ))?;
        if issuer.is_encrypted() && jwks_uri.as_ref().is_some_and(|uri| !uri.is_encrypted()) {
            return Err((
                "oidc.jwks_uri",
                "is plain http, and the issuer is not",
                "use its https address",
            ));
        }
        let (tenants, every_tenant) = split(tenants)?;
        Ok(Oidc {
            issuer,
            audience,
            tenant_claim: tenant_claim.unwrap_or_else(|| DEFAULT_TENANT_CLAIM.to_owned()),
            tenants,
            every_tenant,
            scopes,
            jwks_uri,
            ca_file,
            refresh: refresh.unwrap_or(DEFAULT_REFRESH),
            client_id,
        })
    }
}

/// What a claim stands for.
#[derive(Debug)]
enum Meant {
    Tenant(TenantName),
    /// The tenant that it names.
    Itself,
}

/// A wildcard has two sides, so that none comes of a slip: a name that is not
/// listed cannot mean one tenant, nor one claim all of them.
fn split(tenants: BTreeMap<String, Meant>) -> Result<(BTreeMap<String, TenantName>, bool), Fault> {
    let mut listed = BTreeMap::new();
    let mut every_tenant = false;
    for (claim, meant) in tenants {
        match (claim.as_str(), meant) {
            (WHATEVER, Meant::Itself) => every_tenant = true,
            (WHATEVER, Meant::Tenant(_)) | (_, Meant::Itself) => {
                return Err((
                    "oidc.tenants",
                    "has \"*\" on one side only",
                    "write \"*\" = \"*\" to trust the issuer with every tenant, or name both",
                ));
            }
            (_, Meant::Tenant(name)) => drop(listed.insert(claim, name)),
        }
    }
    Ok((listed, every_tenant))
}

fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| "must be a string, in quotes".to_owned())
}

/// What may stand in a token and in a page: printable, and not without end.
fn word(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let fits = (1..=512).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 512 printable bytes".to_owned()) }
}

fn address(value: &DeValue<'_>) -> Result<WebAddress, String> {
    text(value)?.parse().map_err(|error: crate::domain::WebAddressError| error.to_string())
}

/// Empty is none, as with every optional key.
fn unless_empty<T>(
    value: &DeValue<'_>,
    read: impl Fn(&DeValue<'_>) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text(value)?.is_empty() { Ok(None) } else { read(value).map(Some) }
}

fn table<T>(
    value: &DeValue<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    let shape = "must be a table of strings, such as { theirs = \"ours\" }";
    let table = value.as_table().ok_or(shape)?;
    let entries = table.iter().map(|(theirs, ours)| {
        let ours = read(ours.get_ref().as_str().ok_or(shape)?)?;
        Ok((theirs.get_ref().to_string(), ours))
    });
    entries.collect()
}

fn tenant(name: &str) -> Result<Meant, String> {
    if name == WHATEVER {
        return Ok(Meant::Itself);
    }
    TenantName::parse(name)
        .map(Meant::Tenant)
        .map_err(|error| format!("has on its right a tenant's name that {error}"))
}

/// `Server.Admin` is no scope of any token: no issuer can be trusted with it.
fn scope(name: &str) -> Result<Scope, String> {
    Scope::parse(name).map_err(|_| {
        "must have Secret.Read, Secret.Write or * on its right; no other scope can come from an \
         issuer"
            .to_owned()
    })
}
