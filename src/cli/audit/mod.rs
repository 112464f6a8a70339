//! `tenure audit`: what was done, by whom.

mod export;
mod proof;

use clap::{Args, Subcommand};

use super::access;
use super::args::StoreArgs;
use super::clock::SystemClock;
use super::credentials::table;
use super::failure::CliError;
use super::maintain::Output;
use crate::api::admin::{Command, Reply};
use crate::api::audit::{AuditEntry, AuditFilter, AuditFrom, AuditOp, CopiedEntry, NumberedEntry};
use crate::config::TimeSpan;
use crate::domain::{Clock, Timestamp};

/// What is asked for at once.
const PAGE: usize = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenure audit tail\n  tenure audit query --tenant acme \
    --since 7d --op secret\n\nEach tenant has an audit of its secrets, and the system one of \
    tenants, credentials and keys.\nEvery change has its entry, in the commit that the change is \
    in. The server signs where\neach ends, so that what is altered or cut off shows \
    (docs/audit.md).")]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Show the newest entries
    #[command(after_help = "Example:\n  tenure audit tail\n  tenure audit tail --tenant acme \
        --limit 5 --json")]
    Tail(TailArgs),
    /// Show the entries for which all that is given holds, oldest first
    #[command(after_help = "Example:\n  tenure audit query --tenant acme --name db-password\n  \
        tenure audit query --op api_key --since 2026-01-01T00:00:00Z --json")]
    Query(QueryArgs),
    /// Follow every entry up to what the server signed, and name the first that is wrong
    #[command(after_help = "Example:\n  tenure audit verify\n  tenure audit verify \
        audit.jsonl --key 4f1c…\n  tenure audit verify --key 4f1c… --head head.json \
        /mnt/copy-of-data\n\nWith --key, an export or a data folder that no server has open is \
        verified without any\nother key. --head FILE, of an earlier 'tenure audit head -o FILE', \
        shows too that newer\nentries were cut off. Exit code 7: something is wrong.")]
    Verify(proof::VerifyArgs),
    /// Write entries and all that proves them as JSON lines
    #[command(after_help = "Example:\n  tenure audit export -o audit.jsonl\n  tenure audit \
        export --tenant acme --since 30d | gzip > acme.gz\n\nIt holds names in clear, and no \
        value. 'tenure audit verify FILE --key HEX' verifies it, and\nso can any program: \
        docs/audit.md.")]
    Export(export::ExportArgs),
    /// Show the newest checkpoint, and sign one first where something was done since
    #[command(after_help = "Example:\n  tenure audit head\n  tenure audit head -o \
        head-2026-01-31.json\n\nIt signs how many entries there are and the last of each. Keep \
        it where this machine cannot\nchange it: with it 'tenure audit verify --head FILE' tells \
        when newer entries are gone.")]
    Head(proof::HeadArgs),
    /// Show the public key that checkpoints are signed with
    #[command(after_help = "Example:\n  tenure audit key\n  tenure audit key --json")]
    Key(proof::KeyArgs),
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
struct QueryArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Only from this entry on, by its number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    /// At most so many [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
struct WhichArgs {
    /// Of this tenant; otherwise of the system
    #[arg(long)]
    tenant: Option<String>,
    /// Only of the secret of this name
    #[arg(long)]
    name: Option<String>,
    /// Only since this moment: RFC 3339, or so long ago, such as 24h or 7d
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only before this moment
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only of whom tokens were minted for, or who is named so elsewhere
    #[arg(long)]
    subject: Option<String>,
    /// Only this operation, such as secret.write, or all of a kind, such as secret
    #[arg(long, value_parser = operation)]
    op: Option<String>,
    /// Only with this result: ok, or the code of a problem
    #[arg(long, value_name = "CODE")]
    result: Option<String>,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = text.parse::<TimeSpan>() {
        return Ok(SystemClock.read().wall.saturating_sub(ago.as_duration()));
    }
    Timestamp::parse(text).map_err(|error| format!("{error}, or a time span such as 7d"))
}

/// A misspelt one would find nothing, and look as if nothing had been done.
fn operation(text: &str) -> Result<String, String> {
    let is_kind = |op: &AuditOp| op.word().split('.').next() == Some(text);
    if AuditOp::ALL.iter().any(|op| op.word() == text || is_kind(op)) {
        return Ok(text.to_owned());
    }
    let all: Vec<_> = AuditOp::ALL.iter().map(|op| op.word()).collect();
    Err(format!("there is no such operation; there are {}", all.join(", ")))
}

impl WhichArgs {
    fn into_parts(self) -> (Option<String>, AuditFilter) {
        let Self { tenant, name, since, until, subject, op, result } = self;
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let (since, until) = (text(since), text(until));
        (tenant, AuditFilter { name, since, until, subject, op, result })
    }
}

pub(super) async fn run(args: AuditArgs, output: Output) -> Result<(), CliError> {
    match args.command {
        AuditCommand::Tail(args) => tail(args, output).await,
        AuditCommand::Query(args) => query(args, output).await,
        AuditCommand::Verify(args) => proof::verify(args, output).await,
        AuditCommand::Export(args) => export::run(args, output).await,
        AuditCommand::Head(args) => proof::head(args, output).await,
        AuditCommand::Key(args) => proof::key(args, output).await,
    }
}

async fn tail(args: TailArgs, output: Output) -> Result<(), CliError> {
    let TailArgs { which, limit, store } = args;
    let (tenant, filter) = which.into_parts();
    let (from, limit) = (AuditFrom::Newest, limit.into());
    let command = Command::AuditQuery { tenant, filter, from, limit };
    let (entries, _) = entries(access::execute(&store, command).await?);
    show(&entries, output)
}

/// Page by page: what is shown need not fit into memory.
async fn query(args: QueryArgs, output: Output) -> Result<(), CliError> {
    let QueryArgs { which, from, limit, store } = args;
    let (tenant, filter) = which.into_parts();
    let (mut next, mut left, mut shown) = (Some(from), limit.unwrap_or(usize::MAX), false);
    while let Some(from) = next.filter(|_| left > 0) {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        let (from, limit) = (AuditFrom::Entry(from), left.min(PAGE));
        let command = Command::AuditQuery { tenant, filter, from, limit };
        let page;
        (page, next) = entries(access::execute(&store, command).await?);
        left -= page.len().min(left);
        if !page.is_empty() {
            show(&page, output)?;
            shown = true;
        }
    }
    if shown { Ok(()) } else { show(&[], output) }
}

fn entries(reply: Reply) -> (Vec<CopiedEntry>, Option<u64>) {
    let Reply::Audit { chain, chain_id, entries, next } = reply else { return (Vec::new(), None) };
    let of_chain = |entry| CopiedEntry { chain: chain.clone(), chain_id: chain_id.clone(), entry };
    (entries.into_iter().map(of_chain).collect(), next)
}

/// As JSON, a line for each entry: pages of a query follow one another.
fn show(entries: &[CopiedEntry], output: Output) -> Result<(), CliError> {
    if output.json {
        return entries.iter().try_for_each(|entry| output.show(entry, String::new));
    }
    output.show(&entries, || text(entries))
}

fn text(entries: &[CopiedEntry]) -> String {
    if entries.is_empty() {
        return "no entries\n".to_owned();
    }
    let mut rows =
        vec![["NUMBER", "WHEN", "WHAT", "RESULT", "WHO", "FROM", "DETAIL"].map(String::from)];
    rows.extend(entries.iter().map(row));
    table(&rows)
}

fn row(copied: &CopiedEntry) -> [String; 7] {
    let NumberedEntry { number, entry } = &copied.entry;
    let AuditEntry { at, op, tenant, name, result, subject, issuer, from, detail, .. } = entry;
    let about = name.as_ref().or(tenant.as_ref());
    let what = about.map_or_else(|| op.to_string(), |about| format!("{op} {about}"));
    let by = serde_json::to_value(entry.by).ok();
    let by = by.as_ref().and_then(|by| by.as_str()).unwrap_or_default();
    let who = subject.as_ref().map_or_else(|| by.to_owned(), |subject| format!("{by} {subject}"));
    let who = issuer.as_ref().map_or_else(|| who.clone(), |issuer| format!("{who} of {issuer}"));
    [
        number.to_string(),
        at.clone(),
        what,
        result.clone(),
        who,
        from.clone().unwrap_or_else(|| "-".to_owned()),
        detail.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_its_name_or_its_kind() {
        for known in ["secret.write", "secret", "api_key", "seal"] {
            assert_eq!(operation(known).as_deref(), Ok(known));
        }
        for unknown in ["secret.wirte", "sec", "", "write"] {
            assert!(operation(unknown).unwrap_err().contains("secret.write, "), "{unknown}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Timestamp::from_unix_seconds(1)));
        let ago = moment("1h").unwrap();
        assert!(ago < SystemClock.read().wall);
        assert!(moment("yesterday").unwrap_err().contains("7d"));
    }
}
