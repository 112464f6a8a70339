//! The maintenance commands: what they ask, and how they show the answer.

use std::io::{ErrorKind, IsTerminal, Read, Write};

use serde::Serialize;
use zeroize::Zeroizing;

use super::access;
use super::args::{
    ClockArgs, ClockCommand, CompactArgs, StoreArgs, SweepArgs, TenantArgs, TenantCommand,
    TokenArgs, TokenCommand, VerifyArgs,
};
use super::failure::{CliError, Exit};
use super::{credentials, internal, narrow, prompt, seal, tenant_limits};
use crate::api::admin::{
    Command, CompactedDatabase, Databases, Reply, SealedStatus, Status, Verification, VerifiedPart,
};
use crate::auth::{self, Inspection};

/// How answers are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
}

impl Output {
    /// As one line of JSON, or as `text` says it.
    pub(super) fn show(
        self,
        answer: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        let shown = Zeroizing::new(if self.json {
            serde_json::to_string(answer).map_err(internal)? + "\n"
        } else {
            text()
        });
        print(shown.as_bytes())
    }
}

/// Writes an answer. Whoever reads no further has read enough.
pub(super) fn print(answer: &[u8]) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(answer).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(internal(error)),
        _ => Ok(()),
    }
}

pub(super) async fn tenant(args: TenantArgs, output: Output) -> Result<(), CliError> {
    match args.command {
        TenantCommand::Create { name, store } => {
            let reply = access::execute(&store, Command::TenantCreate { name }).await?;
            output.show(&reply, || match &reply {
                Reply::TenantCreated { name, .. } => format!(
                    "tenant '{name}' created\nnext: tenure token mint --tenant {name} --scope \
                     Secret.Read --scope Secret.Write\n"
                ),
                _ => String::new(),
            })
        }
        TenantCommand::List { store } => {
            let reply = access::execute(&store, Command::TenantList).await?;
            output.show(&reply, || tenant_table(&reply))
        }
        TenantCommand::Show { name, store } => tenant_limits::show(name, &store, output).await,
        TenantCommand::Limit(args) => tenant_limits::limit(args, output).await,
        TenantCommand::Delete { name, yes, store } => {
            if !yes {
                confirm_deletion(&name)?;
            }
            let reply = access::execute(&store, Command::TenantDelete { name }).await?;
            output.show(&reply, || match &reply {
                Reply::TenantDeleted { name } => format!(
                    "tenant '{name}' deleted: its keys are destroyed, so what remains of its \
                     secrets anywhere cannot be read\n"
                ),
                _ => String::new(),
            })
        }
    }
}

fn tenant_table(reply: &Reply) -> String {
    let Reply::Tenants { tenants } = reply else { return String::new() };
    if tenants.is_empty() {
        return "no tenants yet; 'tenure tenant create NAME' makes one\n".to_owned();
    }
    let width = tenants.iter().map(|tenant| tenant.name.len()).max().unwrap_or(0).max(4);
    let mut table = format!("{:width$}  {:32}  CREATED\n", "NAME", "ID");
    for tenant in tenants {
        table += &format!("{:width$}  {:32}  {}\n", tenant.name, tenant.id, tenant.created_on);
    }
    table
}

/// Asks for the name again: there is no way back.
fn confirm_deletion(name: &str) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "deleting a tenant destroys its secrets for good; say --yes where nobody can be asked",
        ));
    }
    let ask = format!("This destroys every secret of '{name}' for good. Type its name to go on: ");
    if prompt::typed(&ask)?.trim() == name {
        return Ok(());
    }
    Err(CliError { exit: Exit::Usage, message: "not deleted: that is another name".to_owned() })
}

pub(super) async fn token(args: TokenArgs, output: Output) -> Result<(), CliError> {
    match args.command {
        TokenCommand::Mint { tenant, scope, server_admin: _, ttl, subject, store } => {
            let ttl_seconds = ttl.as_duration().as_secs();
            // Without a tenant it was asked for the server's.
            let command = match tenant {
                Some(tenant) => Command::TokenMint { tenant, scopes: scope, ttl_seconds, subject },
                None => Command::TokenMintServer { ttl_seconds, subject },
            };
            let reply = access::execute(&store, command).await?;
            output.show(&reply, || match &reply {
                Reply::Token { token, .. } => format!("{token}\n"),
                _ => String::new(),
            })
        }
        TokenCommand::Attenuate(args) => narrow::attenuate(args, output),
        TokenCommand::Seal => narrow::seal(output),
        TokenCommand::Inspect { token } => inspect(token, output),
        TokenCommand::Revoke(args) => credentials::revoke(args, output).await,
        TokenCommand::List { tenant, limit, after, store } => {
            credentials::list_revocations(&store, (tenant, after, limit), output).await
        }
        TokenCommand::RotateRoot { honour_old_until, now: _, store } => {
            credentials::rotate_root(&store, honour_old_until, output).await
        }
        TokenCommand::Roots { store } => credentials::roots(&store, output).await,
    }
}

fn inspect(token: Option<String>, output: Output) -> Result<(), CliError> {
    let token = match token {
        Some(token) => Zeroizing::new(token),
        None => presented_token("inspect")?,
    };
    let inspection = auth::inspect(token.trim()).map_err(CliError::usage)?;
    output.show(&inspection, || inspection_text(&inspection))
}

pub(super) fn inspection_text(inspection: &Inspection) -> String {
    let Inspection {
        tenant,
        tenant_id,
        subject,
        issued,
        expires,
        scopes,
        root_id,
        narrowed_to,
        sealed,
        blocks: _,
        revocation_ids,
    } = inspection;
    let may: Vec<_> = scopes
        .iter()
        .map(|scope| match *scope {
            "Secret.Read" => "get and list secrets",
            "Secret.Write" => "put and delete secrets",
            "*" => "do everything in the tenant",
            "Server.Admin" => "read the server's metrics, and nothing of a tenant",
            other => other,
        })
        .collect();
    let whose = match (tenant, tenant_id) {
        (Some(tenant), Some(id)) => format!("tenant      {tenant} (id {id})"),
        _ => "tenant      none: it is for the server itself".to_owned(),
    };
    let mut text = format!(
        "{whose}\nsubject     {subject}\nmay         {}\n\
         from        {issued}\nuntil       {expires}\nroot        {root_id}\n",
        may.join(", ")
    );
    for sentence in narrowed_to {
        text += &format!("narrowed    {sentence}\n");
    }
    for id in revocation_ids {
        text += &format!("revoke by   {id}\n");
    }
    text += if *sealed { "sealed      it cannot be narrowed further\n" } else { "" };
    text + "\nThe signature was not checked: only the server that minted it can say that it holds.\n"
}

/// The token that a command is about, from `TENURE_TOKEN` or standard input.
pub(super) fn presented_token(command: &str) -> Result<Zeroizing<String>, CliError> {
    match std::env::var("TENURE_TOKEN") {
        Ok(token) => Ok(Zeroizing::new(token)),
        Err(_) => token_from_stdin(command),
    }
}

/// The token on standard input.
pub(super) fn token_from_stdin(command: &str) -> Result<Zeroizing<String>, CliError> {
    /// More than any token, so that one that is too large is told so.
    const MOST_INPUT: usize = 64 * 1024;
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CliError::usage(format!(
            "no token: pipe it in ('tenure token {command} < token.txt') or set TENURE_TOKEN"
        )));
    }
    // Reserved at once: a buffer that grows leaves its old bytes behind.
    let mut token = Zeroizing::new(String::with_capacity(MOST_INPUT));
    let read = stdin.lock().take(MOST_INPUT as u64).read_to_string(&mut token);
    read.map_err(|_| CliError::usage("standard input holds no token"))?;
    Ok(token)
}

pub(super) async fn sweep(args: SweepArgs, output: Output) -> Result<(), CliError> {
    let command = Command::Sweep {
        tenant: args.tenant,
        retain_seconds: args.retain.as_duration().as_secs(),
        dry_run: args.dry_run,
    };
    let reply = access::execute(&args.store, command).await?;
    output.show(&reply, || {
        let Reply::Swept { dry_run, tenants } = &reply else { return String::new() };
        let verb = if *dry_run { "would remove" } else { "removed" };
        let lines = tenants.iter().map(|t| {
            let damaged = match t.damaged {
                0 => String::new(),
                damaged => format!(", left {damaged} damaged"),
            };
            format!("{}: {verb} {}{damaged}\n", t.tenant, t.secrets)
        });
        let total: u64 = tenants.iter().map(|t| t.secrets).sum();
        lines.collect::<String>() + &format!("{verb} {total} expired secrets\n")
    })
}

pub(super) async fn status(store: &StoreArgs, output: Output) -> Result<(), CliError> {
    let reply = access::execute(store, Command::Status).await?;
    output.show(&reply, || match &reply {
        Reply::Status(status) => status_text(status),
        Reply::Sealed(status) => sealed_text(status),
        _ => String::new(),
    })
}

fn sealed_text(status: &SealedStatus) -> String {
    let SealedStatus { version, reason, data, data_bytes, free_bytes, source, .. } = status;
    let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let lines = [
        ("version", version.clone()),
        ("server", "running".to_owned()),
        ("state", format!("sealed{why}")),
        ("data", data.clone()),
        ("size", size(*data_bytes)),
        ("free", free_bytes.map_or_else(|| "unknown".to_owned(), size)),
        ("KEK from", source.clone().unwrap_or_else(|| "unknown".to_owned())),
    ];
    lined_up(lines) + &seal::next(status)
}

/// A label and what it is about on each line.
pub(super) fn lined_up(lines: impl IntoIterator<Item = (&'static str, String)>) -> String {
    lines.into_iter().map(|(label, text)| format!("{label:<11} {text}\n")).collect()
}

fn status_text(status: &Status) -> String {
    let Status {
        version,
        serving,
        sealed,
        writable,
        reason,
        data,
        data_bytes,
        free_bytes,
        tenants,
        secrets,
        clock,
        last_sweep,
    } = status;
    let server = if *serving { "running" } else { "not running" };
    let mut state = match (sealed, writable) {
        (true, _) => "sealed".to_owned(),
        (false, true) => "unsealed, writable".to_owned(),
        (false, false) => "unsealed, not writable".to_owned(),
    };
    if let Some(reason) = reason {
        state += &format!(" ({reason})");
    }
    let clock_state = if clock.disputed {
        "disputed: nothing is swept; see 'tenure clock accept'"
    } else {
        "undisputed"
    };
    let lines = [
        ("version", version.clone()),
        ("server", server.to_owned()),
        ("state", state),
        ("data", data.clone()),
        ("size", size(*data_bytes)),
        ("free", free_bytes.map_or_else(|| "unknown".to_owned(), size)),
        ("tenants", tenants.to_string()),
        (
            "secrets",
            format!(
                "{} valid, {} not valid yet, {} expired",
                secrets.valid, secrets.pending, secrets.expired
            ),
        ),
        ("clock", format!("{} ({clock_state})", clock.now)),
        ("floor", clock.floor.clone()),
        ("last sweep", last_sweep.clone().unwrap_or_else(|| "never".to_owned())),
    ];
    lined_up(lines)
}

/// To one decimal, in the largest unit that leaves a whole part.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

pub(super) async fn clock(args: &ClockArgs, output: Output) -> Result<(), CliError> {
    let ClockCommand::Accept { store } = &args.command;
    let reply = access::execute(store, Command::ClockAccept).await?;
    output.show(&reply, || match &reply {
        Reply::ClockAccepted { now, floor_before } => {
            format!("accepted {now} as the time; the latest undisputed was {floor_before}\n")
        }
        _ => String::new(),
    })
}

pub(super) async fn compact(args: CompactArgs, output: Output) -> Result<(), CliError> {
    let databases = match (args.database, args.all) {
        (Some(name), _) => Databases::One(name),
        (None, true) => Databases::All,
        (None, false) => Databases::Wasteful,
    };
    let command = Command::Compact { databases, dry_run: args.dry_run };
    let reply = access::execute(&args.store, command).await?;
    output.show(&reply, || match &reply {
        Reply::Compacted { dry_run, databases } => compaction_table(databases, *dry_run),
        _ => String::new(),
    })
}

fn compaction_table(databases: &[CompactedDatabase], dry_run: bool) -> String {
    let width = databases.iter().map(|row| row.database.len()).max().unwrap_or(0).max(8);
    let mut table = format!("{:width$}  {:>12}  {:>12}  COMPACTED\n", "DATABASE", "SIZE", "LIVE");
    for row in databases {
        let CompactedDatabase { database, bytes, live_bytes, chosen, bytes_after } = row;
        let live = live_bytes.map_or_else(|| "damaged".to_owned(), size);
        let done = match bytes_after {
            Some(after) => format!("to {}", size(*after)),
            None if dry_run && *chosen => "would be".to_owned(),
            None => "no".to_owned(),
        };
        table += &format!("{database:width$}  {:>12}  {live:>12}  {done}\n", size(*bytes));
    }
    table
}

pub(super) async fn verify(args: VerifyArgs, output: Output) -> Result<(), CliError> {
    let command = Command::Verify { tenant: args.tenant, rows_per_second: args.rate };
    let reply = access::execute(&args.store, command).await?;
    output.show(&reply, || match &reply {
        Reply::Verified(verification) => verification_text(verification),
        _ => String::new(),
    })?;
    match reply {
        Reply::Verified(Verification { sound: false, .. }) => Err(CliError {
            exit: Exit::Damaged,
            message: "damage was found; 'tenure backup restore' brings back what a backup holds, \
                      the whole store or one tenant beside it (--tenant NAME --as NEW)"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

pub(super) fn verification_text(verification: &Verification) -> String {
    let name = |part: &VerifiedPart| match &part.tenant {
        Some(tenant) => format!("tenant {tenant}"),
        None => part.part.clone(),
    };
    let width = verification.parts.iter().map(|part| name(part).len()).max().unwrap_or(0);
    let mut text = String::new();
    for part in &verification.parts {
        let found = match part.fault_count {
            0 => "sound".to_owned(),
            count => format!("{count} faults"),
        };
        text += &format!(
            "{:width$}  {:>9} secrets  {:>9} rows  {found}\n",
            name(part),
            part.secrets,
            part.rows
        );
        for fault in &part.faults {
            text += &format!("  {fault}\n");
        }
        let unlisted = part.fault_count.saturating_sub(part.faults.len() as u64);
        if unlisted > 0 {
            text += &format!("  and {unlisted} more\n");
        }
    }
    text
}
