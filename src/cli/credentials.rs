//! `tenure api-key`, and what `tenure token` does to tokens that are out there.

use super::access;
use super::args::{ApiKeyArgs, ApiKeyCommand, RevokeArgs, StoreArgs, WhenArg};
use super::failure::CliError;
use super::maintain::{Output, presented_token, token_from_stdin};
use crate::api::admin::{
    ApiKeyRow, Command, HiddenText, Reply, Revocable, RevocationRow, RootRow, When,
};

pub(super) async fn api_key(args: ApiKeyArgs, output: Output) -> Result<(), CliError> {
    match args.command {
        ApiKeyCommand::Create { tenant, scope, expires, name, store } => {
            let expires = expires.map(|WhenArg(when)| when);
            let command = Command::ApiKeyCreate { tenant, scopes: scope, name, expires };
            let reply = access::execute(&store, command).await?;
            output.show(&reply, || match &reply {
                Reply::ApiKeyCreated { key, .. } => format!("{key}\n"),
                _ => String::new(),
            })
        }
        ApiKeyCommand::List { tenant, store } => {
            let reply = access::execute(&store, Command::ApiKeyList { tenant }).await?;
            output.show(&reply, || match &reply {
                Reply::ApiKeys { api_keys } => api_key_table(api_keys),
                _ => String::new(),
            })
        }
        ApiKeyCommand::Revoke { id, dry_run, store } => {
            let reply = access::execute(&store, Command::ApiKeyRevoke { id, dry_run }).await?;
            output.show(&reply, || match &reply {
                Reply::ApiKeyRevoked { dry_run, api_key } => {
                    let done = if *dry_run { "would revoke" } else { "revoked" };
                    format!("{done} API key {}\n", described(api_key))
                }
                _ => String::new(),
            })
        }
    }
}

fn described(api_key: &ApiKeyRow) -> String {
    let ApiKeyRow { id, tenant, name, last_used_on, .. } = api_key;
    let name = name.as_ref().map(|name| format!(" '{name}'")).unwrap_or_default();
    let used =
        last_used_on.as_ref().map_or("never used".to_owned(), |at| format!("last used {at}"));
    format!("{id}{name} of tenant '{tenant}', {used}")
}

fn api_key_table(api_keys: &[ApiKeyRow]) -> String {
    if api_keys.is_empty() {
        return "no API keys; 'tenure api-key create' makes one\n".to_owned();
    }
    let mut rows =
        vec![["ID", "TENANT", "SCOPES", "EXPIRES", "LAST USED", "NAME"].map(String::from)];
    rows.extend(api_keys.iter().map(|key| {
        let ApiKeyRow { id, tenant, name, scopes, expires_on, last_used_on, expired, .. } = key;
        let ends = match (expires_on, expired) {
            (None, _) => "never".to_owned(),
            (Some(at), false) => at.clone(),
            (Some(at), true) => format!("{at} (has)"),
        };
        let used = last_used_on.clone().unwrap_or_else(|| "never".to_owned());
        let name = name.clone().unwrap_or_default();
        [id.clone(), tenant.clone(), scopes.join(","), ends, used, name]
    }));
    table(&rows)
}

/// In columns as wide as what stands in them; the last one as it is.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|column| rows.iter().filter_map(move |row| row.get(column)))
        .map(|cells| cells.map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

pub(super) async fn revoke(args: RevokeArgs, output: Output) -> Result<(), CliError> {
    let RevokeArgs { token, id, subject, issuer, tenant, before, dry_run, store } = args;
    let what = match (token, id, subject, tenant, before) {
        (Some(from), None, None, None, None) => Revocable::Token { token: read_token(from)? },
        (None, Some(id), None, None, None) => Revocable::Id { id },
        (None, None, Some(subject), Some(tenant), None) => {
            Revocable::Subject { tenant, subject, issuer }
        }
        (None, None, None, Some(tenant), Some(WhenArg(before))) => {
            Revocable::Tenant { tenant, before }
        }
        _ => {
            return Err(CliError::usage(
                "say what to revoke: --token, --id HEX, --subject NAME --tenant NAME, or --tenant \
                 NAME --before TIME",
            ));
        }
    };
    let reply = access::execute(&store, Command::TokenRevoke { what, dry_run }).await?;
    output.show(&reply, || match &reply {
        Reply::TokensRevoked { dry_run, revocation, api_keys } => {
            revoked_text(*dry_run, revocation, api_keys)
        }
        _ => String::new(),
    })
}

/// Of standard input for `-`, else of the environment: an argument would show in the
/// list of processes.
fn read_token(from: Option<String>) -> Result<HiddenText, CliError> {
    let token = match from {
        Some(_) => token_from_stdin("revoke --token -")?,
        None => presented_token("revoke --token")?,
    };
    Ok(HiddenText::new(token.trim()))
}

fn revoked_text(dry_run: bool, revocation: &RevocationRow, api_keys: &[ApiKeyRow]) -> String {
    let done = if dry_run { "would revoke" } else { "revoked" };
    let mut text = format!("{done} {}\n", revocation_sentence(revocation));
    for key in api_keys {
        text += &format!("{done} API key {}\n", described(key));
    }
    text
}

fn revocation_sentence(revocation: &RevocationRow) -> String {
    let RevocationRow { kind: _, id, tenant, subject, issuer, before, .. } = revocation;
    let within = tenant.as_ref().map(|name| format!(" in tenant '{name}'")).unwrap_or_default();
    let before = before.as_ref().map(|at| format!(" before {at}")).unwrap_or_default();
    match (id, subject, issuer) {
        (Some(id), _, _) => format!("the token {id}{within} and everything narrowed from it"),
        (None, Some(subject), None) => format!("what was minted for '{subject}'{within}{before}"),
        (None, Some(subject), Some(issuer)) => {
            format!("what {issuer} issued to '{subject}'{within}{before}")
        }
        (None, None, _) => format!("everything issued{within}{before}"),
    }
}

pub(super) async fn list_revocations(
    store: &StoreArgs,
    (tenant, after, limit): (Option<String>, Option<String>, usize),
    output: Output,
) -> Result<(), CliError> {
    let command = Command::TokenRevocations { tenant, after, limit };
    let reply = access::execute(store, command).await?;
    output.show(&reply, || match &reply {
        Reply::Revocations { revocations, next } => revocation_list(revocations, next.as_deref()),
        _ => String::new(),
    })
}

fn revocation_list(revocations: &[RevocationRow], next: Option<&str>) -> String {
    if revocations.is_empty() {
        return "nothing is revoked\n".to_owned();
    }
    let mut rows = vec![["REVOKED ON", "KEPT UNTIL", "WHAT"].map(String::from)];
    rows.extend(
        revocations
            .iter()
            .map(|row| [row.revoked_on.clone(), row.kept_until.clone(), revocation_sentence(row)]),
    );
    let more = next.map(|next| format!("there are more: --after {next}\n"));
    table(&rows) + &more.unwrap_or_default()
}

pub(super) async fn rotate_root(
    store: &StoreArgs,
    honour_old: Option<WhenArg>,
    output: Output,
) -> Result<(), CliError> {
    let honour_old = honour_old.map_or(When::Now, |WhenArg(when)| when);
    let reply = access::execute(store, Command::TokenRotateRoot { honour_old }).await?;
    show_roots(&reply, output)
}

pub(super) async fn roots(store: &StoreArgs, output: Output) -> Result<(), CliError> {
    show_roots(&access::execute(store, Command::TokenRoots).await?, output)
}

fn show_roots(reply: &Reply, output: Output) -> Result<(), CliError> {
    output.show(reply, || match reply {
        Reply::Roots { roots } | Reply::RootRotated { roots } => root_table(roots),
        _ => String::new(),
    })
}

fn root_table(roots: &[RootRow]) -> String {
    let mut rows = vec![["ID", "PUBLIC KEY", "HONOURED"].map(String::from)];
    rows.extend(roots.iter().map(|root| {
        let honoured = match (root.signs, &root.honoured_until) {
            (true, _) => "signs".to_owned(),
            (false, Some(until)) => format!("until {until}"),
            (false, None) => "without end".to_owned(),
        };
        [root.id.to_string(), root.public_key.clone(), honoured]
    }));
    table(&rows)
}
