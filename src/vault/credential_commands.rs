//! What an operator asks about credentials: words into proofs, and back.

use std::sync::Arc;
use std::time::Duration;

use super::Vault;
use super::codec::Malformed;
use super::credential_rows::{decode_target, encode_target};
use super::credentials::{
    Act, CredentialError, ListedApiKey, MAX_REVOCATIONS, MadeApiKey, NewApiKey, Revoked, Wanted,
};
use super::maintenance::{failure, find_tenant};
use crate::api::admin::{
    ApiKeyRow, Failure, FailureKind, Reply, Revocable, RevocationRow, RootRow, When,
};
use crate::auth::{
    ApiKeyId, Caller, CredentialId, CredentialKind, Identity, Refusal, Revocation, RevocationId,
    RevocationTarget, Subject,
};
use crate::domain::{Scope, ScopeSet, TenantId, Timestamp};

pub(super) async fn revoke(
    vault: &Arc<Vault>,
    what: Revocable,
    act: Act,
    caller: Caller,
) -> Result<Reply, Failure> {
    let wanted = wanted(vault, what)?;
    let target = wanted.target.clone();
    let Revoked { revocation, api_keys } = vault.revoke(wanted, act, caller).await?;
    let listed = |key| ListedApiKey { key, last_used: None };
    let api_keys = api_keys.into_iter().map(|key| api_key_row(vault, &listed(key))).collect();
    let revocation = revocation_row(vault, &target, &revocation);
    Ok(Reply::TokensRevoked { dry_run: act == Act::DryRun, revocation, api_keys })
}

fn wanted(vault: &Vault, what: Revocable) -> Result<Wanted, Failure> {
    let plain = |target, before| Wanted { target, before, token_tenant: None, token_expires: None };
    Ok(match what {
        Revocable::Token { token } => of_token(vault, token.expose())?,
        Revocable::Id { id } => {
            let id = RevocationId::parse(&id);
            let id = id.map_err(|error| usage(format!("a revocation id {error}")))?;
            plain(RevocationTarget::Token(id), None)
        }
        Revocable::Subject { tenant, subject, issuer } => {
            let tenant = find_tenant(vault, &tenant)?;
            let subject = parse_subject("the subject", &subject)?;
            let who = match issuer {
                None => Identity::of_biscuit(subject),
                Some(issuer) => Identity {
                    kind: CredentialKind::Oidc,
                    issuer: Some(known_issuer(vault, &issuer)?),
                    subject,
                },
            };
            let before = vault.all_issued_before(tenant.id, Some(&who));
            plain(RevocationTarget::Subject(tenant.id, who), Some(before))
        }
        Revocable::Tenant { tenant, before } => {
            let tenant = find_tenant(vault, &tenant)?;
            let end = vault.all_issued_before(tenant.id, None);
            let before = match before {
                When::Now => end,
                When::InSeconds(_) => return Err(usage("--before needs a date, or 'now'".into())),
                When::At(text) => parse_time("--before", &text)?,
            };
            if before > end {
                let why = "--before must not be in the future: what is minted until then would be \
                           born revoked";
                return Err(usage(why.to_owned()));
            }
            plain(RevocationTarget::Tenant(tenant.id), Some(before))
        }
    })
}

/// A misspelt one would revoke nothing, and say that it did.
fn known_issuer(vault: &Vault, name: &str) -> Result<Arc<str>, Failure> {
    let issuers = || vault.issuers().iter().map(|issuer| issuer.name());
    issuers().find(|known| *known == name).map(Arc::from).ok_or_else(|| {
        let known = issuers().collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".to_owned() } else { known };
        usage(format!("no issuer {name:?} is configured; those that are: {known}"))
    })
}

/// By its last block: what this text is, and all that it could still become.
fn of_token(vault: &Vault, token: &str) -> Result<Wanted, Failure> {
    if token.starts_with("tnr_") {
        return Err(usage("that is an API key; 'tenure api-key revoke ID' ends one".to_owned()));
    }
    let principal = vault.identify(token).map_err(|refusal| unidentified(&refusal))?;
    let CredentialId::Biscuit(blocks) = principal.id() else {
        return Err(unidentified(&Refusal::Malformed));
    };
    let last = *blocks.last().ok_or_else(|| unidentified(&Refusal::Malformed))?;
    Ok(Wanted {
        target: RevocationTarget::Token(last),
        before: None,
        token_tenant: principal.tenant_id(),
        token_expires: principal.expires(),
    })
}

fn unidentified(refusal: &Refusal) -> Failure {
    usage(format!("nothing was revoked, since this store does not honour it: {refusal}"))
}

pub(super) fn revocations(
    vault: &Vault,
    tenant: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> Result<Reply, Failure> {
    let only = tenant.map(|name| find_tenant(vault, name)).transpose()?.map(|tenant| tenant.id);
    let after = after.map(parse_cursor).transpose().map_err(|Malformed| {
        usage("--after takes what the page before said comes next".to_owned())
    })?;
    let limit = limit.clamp(1, MAX_REVOCATIONS);
    let mut page: Vec<(RevocationTarget, Revocation)> = vault.authenticator.look(|standing| {
        let all = standing.revocations.iter(after.as_ref());
        let wanted = all.filter(|(target, said)| only.is_none() || target.tenant(said) == only);
        wanted.take(limit + 1).map(|(target, said)| (target.clone(), *said)).collect()
    });
    let more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| more);
    let next = last.map(|(target, _)| hex::encode(encode_target(target)));
    let rows = page.iter().map(|(target, said)| revocation_row(vault, target, said));
    Ok(Reply::Revocations { revocations: rows.collect(), next })
}

fn parse_cursor(text: &str) -> Result<RevocationTarget, Malformed> {
    decode_target(&hex::decode(text).map_err(|_| Malformed)?)
}

fn revocation_row(vault: &Vault, target: &RevocationTarget, said: &Revocation) -> RevocationRow {
    let (kind, id, who) = match target {
        RevocationTarget::Token(id) => ("token", Some(id.to_string()), None),
        RevocationTarget::Subject(_, who) => ("subject", None, Some(who)),
        RevocationTarget::Tenant(_) => ("tenant", None, None),
    };
    RevocationRow {
        kind: kind.to_owned(),
        id,
        tenant: target.tenant(said).and_then(|id| tenant_name(vault, id)),
        subject: who.map(|who| who.subject.to_string()),
        issuer: who.and_then(|who| who.issuer.as_deref().map(str::to_owned)),
        before: said.before.map(|at| at.to_string()),
        revoked_on: said.revoked_on.to_string(),
        kept_until: said.keep_until.to_string(),
    }
}

pub(super) async fn rotate_root(
    vault: &Arc<Vault>,
    honour_old: When,
    caller: Caller,
) -> Result<Reply, Failure> {
    let until = match moment("--honour-old-until", honour_old, vault)? {
        None => None,
        Some(until) if until > vault.now().for_expiry() => Some(until),
        Some(_) => {
            let why = "--honour-old-until must be in the future; --now ends all tokens at once";
            return Err(usage(why.to_owned()));
        }
    };
    vault.rotate_root(until, caller).await?;
    Ok(Reply::RootRotated { roots: root_rows(vault) })
}

pub(super) fn roots(vault: &Vault) -> Reply {
    Reply::Roots { roots: root_rows(vault) }
}

fn root_rows(vault: &Vault) -> Vec<RootRow> {
    let roots = vault.public_roots();
    let newest = roots.last().map(|root| root.id);
    let row = |root: &crate::auth::PublicRoot| RootRow {
        id: root.id,
        public_key: hex::encode(root.public_key),
        signs: Some(root.id) == newest,
        honoured_until: root.until.map(|at| at.to_string()),
    };
    roots.iter().map(row).collect()
}

pub(super) async fn create_api_key(
    vault: &Arc<Vault>,
    tenant: &str,
    scopes: &[String],
    name: Option<&str>,
    expires: Option<When>,
    caller: Caller,
) -> Result<Reply, Failure> {
    let tenant = find_tenant(vault, tenant)?;
    let scopes = parse_scopes(scopes)?;
    let name = name.map(|name| parse_subject("the name", name)).transpose()?;
    let expires_on = match expires {
        None => None,
        Some(When::Now) => return Err(CredentialError::ExpiresInThePast.into()),
        Some(when) => moment("--expires", when, vault)?,
    };
    let new = NewApiKey { scopes, name, expires_on };
    let MadeApiKey { key, mut text } = vault.add_api_key(tenant, new, caller).await?;
    let api_key = api_key_row(vault, &ListedApiKey { key, last_used: None });
    Ok(Reply::ApiKeyCreated { key: std::mem::take(&mut *text), api_key })
}

pub(super) fn list_api_keys(vault: &Vault, tenant: Option<&str>) -> Result<Reply, Failure> {
    let only = tenant.map(|name| find_tenant(vault, name)).transpose()?.map(|tenant| tenant.id);
    let keys = vault.listed_api_keys(|key| only.is_none_or(|tenant| key.tenant == tenant));
    let mut api_keys: Vec<_> = keys.iter().map(|listed| api_key_row(vault, listed)).collect();
    api_keys
        .sort_by(|a, b| (&a.tenant, &a.created_on, &a.id).cmp(&(&b.tenant, &b.created_on, &b.id)));
    Ok(Reply::ApiKeys { api_keys })
}

pub(super) async fn revoke_api_key(
    vault: &Arc<Vault>,
    id: &str,
    act: Act,
    caller: Caller,
) -> Result<Reply, Failure> {
    let digits = id.strip_prefix("tnr_").unwrap_or(id);
    let id = ApiKeyId::parse(digits);
    let id = id.map_err(|error| usage(format!("the id of an API key {error}")))?;
    let last_used = vault.authenticator.look(|standing| standing.api_keys.last_used(id));
    let key = vault.drop_api_key(id, None, act, caller).await?;
    let api_key = api_key_row(vault, &ListedApiKey { key, last_used });
    Ok(Reply::ApiKeyRevoked { dry_run: act == Act::DryRun, api_key })
}

fn api_key_row(vault: &Vault, listed: &ListedApiKey) -> ApiKeyRow {
    let ListedApiKey { key, last_used } = listed;
    let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let now = vault.now().for_expiry();
    ApiKeyRow {
        id: key.id.to_string(),
        tenant: tenant_name(vault, key.tenant).unwrap_or_default(),
        name: key.name.as_ref().map(ToString::to_string),
        scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        created_on: key.created_on.to_string(),
        expires_on: text(key.expires_on),
        last_used_on: text(*last_used),
        expired: key.expires_on.is_some_and(|at| now >= at),
    }
}

fn tenant_name(vault: &Vault, id: TenantId) -> Option<String> {
    vault.tenant(id).ok().map(|tenant| tenant.name.to_string())
}

pub(super) fn parse_scopes(words: &[String]) -> Result<ScopeSet, Failure> {
    let parse =
        |word: &String| Scope::parse(word).map_err(|error| usage(format!("'{word}' {error}")));
    words.iter().map(parse).collect()
}

fn parse_subject(what: &str, text: &str) -> Result<Subject, Failure> {
    Subject::parse(text).map_err(|error| usage(format!("{what} {error}")))
}

/// `None` is now.
fn moment(flag: &str, when: When, vault: &Vault) -> Result<Option<Timestamp>, Failure> {
    Ok(match when {
        When::Now => None,
        When::InSeconds(seconds) => {
            Some(vault.now().for_expiry().saturating_add(Duration::from_secs(seconds)))
        }
        When::At(text) => Some(parse_time(flag, &text)?),
    })
}

fn parse_time(flag: &str, text: &str) -> Result<Timestamp, Failure> {
    Timestamp::parse(text).map_err(|error| usage(format!("{flag} {error}")))
}

fn usage(message: String) -> Failure {
    failure(FailureKind::Usage, message)
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        let (kind, remedy) = match &error {
            CredentialError::Store(error) => return error.clone().into(),
            CredentialError::NoScope => (FailureKind::Usage, "name one with --scope"),
            CredentialError::ExpiresInThePast => {
                (FailureKind::Usage, "leave --expires out for one that holds until it is revoked")
            }
            CredentialError::TooManyApiKeys { .. } => (
                FailureKind::Conflict,
                "revoke one that nobody uses ('tenure api-key list'), or raise \
                 api_keys.max_per_tenant",
            ),
            CredentialError::NoSuchApiKey => {
                (FailureKind::NotFound, "'tenure api-key list' shows all")
            }
            CredentialError::TooManyRevocations => (
                FailureKind::Conflict,
                "revoke by subject or by tenant, which is one for many tokens, or end all tokens \
                 with 'tenure token rotate-root --now'",
            ),
            CredentialError::TooManyRoots(_) => (
                FailureKind::Conflict,
                "wait until one has ended ('tenure token roots'), or end all with --now",
            ),
        };
        failure(kind, format!("{error}; {remedy}"))
    }
}
