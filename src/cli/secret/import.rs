//! `tenure import`: the secrets of a file into a tenant.
//!
//! First it is found out what is new and what differs; then that alone is written, in
//! batches that are stored whole or not at all, each secret on the condition that it is
//! still as it was seen: nobody's newer write is replaced unseen.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind};

use super::super::args::WhenArg;
use super::super::clock::SystemClock;
use super::super::failure::{CliError, Exit};
use super::super::maintain::Output;
use super::super::progress::Bar;
use super::super::signals::wait_for;
use super::super::{internal, prompt};
use super::export::AT_ONCE;
use super::files::{self, Format, Item};
use super::target::{Names, Target, TargetArgs};
use super::tell;
use crate::api::admin::Progress;
use crate::client::{
    BATCH, Client, ClientError, Condition, Description, Entry, NewSecret, Refusal, State, Version,
};
use crate::domain::{Clock, NamePrefix, SecretName, SecretValue, Timestamp, ValidityWindow};

/// Of names and values in a batch: below what a server takes in one body.
const BATCH_BYTES: usize = 1024 * 1024;

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// A file of secrets, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How it is written [default: as its name says: .env, .env.*, .json, .yaml, .yml]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Only show what would be stored: names, never values
    #[arg(long)]
    dry_run: bool,
    /// Replace what exists and differs, and do not ask
    #[arg(long, conflicts_with = "keep")]
    replace: bool,
    /// Leave what exists as it is
    #[arg(long)]
    keep: bool,
    /// When those expire for which the file says nothing: 30d, 2030-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    expires: Option<WhenArg>,
    /// Store also what has expired, and can be read no more
    #[arg(long)]
    allow_expired: bool,
    /// kebab makes db-password of DB_PASSWORD
    #[arg(long, value_enum, default_value = "keep")]
    name_case: NameCase,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NameCase {
    Keep,
    Kebab,
}

pub(in crate::cli) async fn import(args: ImportArgs, output: Output) -> Result<(), CliError> {
    let items = files::load(&args.file, args.format)?;
    let now = SystemClock.read().wall;
    let (client, names) = Target::find(&args.target)?.open()?;
    let wanted = wanted(items, &args, &names, now)?;
    let bar = Bar::patient();
    let mut plan = Plan::make(&client, &names, wanted, &bar).await?;
    drop(bar);
    if args.keep {
        plan.keep();
    }
    if args.dry_run {
        let shown = plan.shown(&names, true);
        return output.show(&shown, || shown.text());
    }
    if !plan.changed.is_empty() && !args.replace {
        confirm(&plan, &names, &args)?;
    }
    let shown = plan.shown(&names, false);
    store(&client, &names, plan).await?;
    if output.json {
        return output.show(&shown, String::new);
    }
    tell(&shown.sentence(&names));
    Ok(())
}

/// A secret as it shall be.
struct Wanted {
    name: SecretName,
    secret: NewSecret,
}

fn wanted(
    items: Vec<Item>,
    args: &ImportArgs,
    names: &Names,
    now: Timestamp,
) -> Result<Vec<Wanted>, CliError> {
    let expires = args.expires.as_ref().map(|when| when.moment(now)).transpose()?;
    let mut all = BTreeMap::new();
    let mut expired = Vec::new();
    for Item { name, value, window } in items {
        let typed = cased(name.as_str(), args.name_case);
        let window = until(window, expires).ok_or_else(|| {
            CliError::usage(format!("'{typed}' would expire by --expires before it is valid"))
        })?;
        if window.expires_on().is_some_and(|end| end <= now) {
            expired.push(typed.clone());
        }
        let whole = names.whole(&typed)?;
        if all.insert(whole, NewSecret { value, window }).is_some() {
            return Err(CliError::usage(format!(
                "two names of the file become '{typed}'; say --name-case keep, or rename one"
            )));
        }
    }
    if !expired.is_empty() && !args.allow_expired {
        return Err(CliError::usage(format!(
            "these have expired, and could not be read: {}; --allow-expired stores them all the \
             same",
            expired.join(", ")
        )));
    }
    Ok(all.into_iter().map(|(name, secret)| Wanted { name, secret }).collect())
}

/// `None`: it would be empty.
fn until(window: ValidityWindow, expires: Option<Timestamp>) -> Option<ValidityWindow> {
    let end = window.expires_on().or(expires);
    ValidityWindow::new(window.not_before(), end).ok()
}

fn cased(name: &str, case: NameCase) -> String {
    match case {
        NameCase::Keep => name.to_owned(),
        NameCase::Kebab => name.to_ascii_lowercase().replace('_', "-"),
    }
}

/// What there is to do, each secret with the condition under which it was found.
#[derive(Default)]
struct Plan {
    added: Vec<Entry>,
    changed: Vec<Entry>,
    /// They exist and differ, and stay.
    kept: Vec<SecretName>,
    unchanged: usize,
}

enum Found {
    Absent,
    Different(Version),
    Same,
}

impl Plan {
    async fn make(
        client: &Client,
        names: &Names,
        wanted: Vec<Wanted>,
        bar: &Bar,
    ) -> Result<Self, CliError> {
        let there = there(client, names, &wanted).await?;
        let of = wanted.len() as u64;
        let looks = stream::iter(wanted).map(|wanted| {
            let described = there.get(&wanted.name);
            async move {
                let found = compare(client, described, &wanted).await;
                found.map(|found| (wanted, found)).map_err(|error| names.place.failed(error))
            }
        });
        let mut looks = looks.buffered(AT_ONCE);
        let (mut plan, mut done) = (Self::default(), 0);
        while let Some((Wanted { name, secret }, found)) = looks.try_next().await? {
            done += 1;
            bar.show(Progress { what: "comparing".into(), done, of: Some(of) });
            match found {
                Found::Absent => {
                    plan.added.push(Entry { name, secret, condition: Condition::Absent });
                }
                Found::Different(version) => {
                    let condition = Condition::Unchanged(version);
                    plan.changed.push(Entry { name, secret, condition });
                }
                Found::Same => plan.unchanged += 1,
            }
        }
        Ok(plan)
    }

    fn keep(&mut self) {
        self.kept = self.changed.drain(..).map(|entry| entry.name).collect();
    }

    fn shown(&self, names: &Names, dry_run: bool) -> Shown {
        let of = |entries: &[Entry]| -> Vec<String> {
            entries.iter().map(|entry| names.shown(&entry.name).to_owned()).collect()
        };
        Shown {
            dry_run,
            added: of(&self.added),
            changed: of(&self.changed),
            kept: self.kept.iter().map(|name| names.shown(name).to_owned()).collect(),
            unchanged: self.unchanged,
        }
    }
}

/// Those of the wanted that are stored, valid or not yet valid.
async fn there(
    client: &Client,
    names: &Names,
    wanted: &[Wanted],
) -> Result<BTreeMap<SecretName, Description>, CliError> {
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
        return Ok(BTreeMap::new());
    };
    let below = common_beginning(&first.name, &last.name)?;
    let is_wanted = |name: &SecretName| wanted.binary_search_by(|w| w.name.cmp(name)).is_ok();
    let (mut all, mut after) = (BTreeMap::new(), None);
    loop {
        let page = client.descriptions(&below, after.as_ref()).await;
        let page = page.map_err(|error| names.place.failed(error))?;
        let end = page.items.last().map(|described| described.name.clone());
        let found = page.items.into_iter().filter(|described| is_wanted(&described.name));
        all.extend(found.map(|described| (described.name.clone(), described)));
        after = end.filter(|end| page.more && *end < last.name);
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Of the first and the last in order, and so of all between them.
fn common_beginning(first: &SecretName, last: &SecretName) -> Result<NamePrefix, CliError> {
    let pairs = first.as_str().chars().zip(last.as_str().chars());
    let common: String = pairs.take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    NamePrefix::parse(&common).map_err(internal)
}

async fn compare(
    client: &Client,
    described: Option<&Description>,
    Wanted { name, secret: wanted }: &Wanted,
) -> Result<Found, ClientError> {
    let Some(described) = described else { return Ok(Found::Absent) };
    // What is not valid yet cannot be read, and so not be compared.
    if described.window != wanted.window || described.state == State::NotYetValid {
        return Ok(Found::Different(described.version.clone()));
    }
    let Some(read) = client.read(name).await? else { return Ok(Found::Absent) };
    let same = read.window == wanted.window && exposed(&read.value) == exposed(&wanted.value);
    Ok(if same { Found::Same } else { Found::Different(read.version) })
}

fn exposed(value: &Option<SecretValue>) -> Option<&str> {
    value.as_ref().map(SecretValue::expose)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    dry_run: bool,
    added: Vec<String>,
    changed: Vec<String>,
    kept: Vec<String>,
    unchanged: usize,
}

impl Shown {
    /// Names only.
    fn text(&self) -> String {
        let Self { dry_run: _, added, changed, kept, unchanged } = self;
        let mut text = String::new();
        for (sign, names, note) in
            [('+', added, ""), ('~', changed, ""), ('=', kept, " (differs, and is kept)")]
        {
            for name in names {
                text += &format!("{sign} {name}{note}\n");
            }
        }
        text + &format!("= {unchanged} unchanged\n")
    }

    fn sentence(&self, names: &Names) -> String {
        let Self { dry_run: _, added, changed, kept, unchanged } = self;
        let kept = match kept.len() {
            0 => String::new(),
            kept => format!(", {kept} kept as they are"),
        };
        format!(
            "stored {} new, replaced {}{kept}, {unchanged} unchanged, in tenant '{}'",
            added.len(),
            changed.len(),
            names.place.tenant
        )
    }
}

fn confirm(plan: &Plan, names: &Names, args: &ImportArgs) -> Result<(), CliError> {
    let shown = plan.shown(names, false);
    let (many, list) = (shown.changed.len(), shown.changed.join(", "));
    let asks = !files::is_stdin(&args.file)
        && std::io::stdin().is_terminal()
        && std::io::stderr().is_terminal();
    let conflict = |message: String| CliError { exit: Exit::Conflict, message };
    if !asks {
        return Err(conflict(format!(
            "nothing was stored: these exist and differ: {list}; say --replace to replace them, or \
             --keep to leave them"
        )));
    }
    let question = format!("{}Replace {many}? [y/N] ", shown.text());
    match prompt::typed(&question)?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(conflict("nothing was stored; --keep stores what is new alone".to_owned())),
    }
}

/// Writes batch after batch. What fails tells what was stored and what was not.
async fn store(client: &Client, names: &Names, plan: Plan) -> Result<(), CliError> {
    let Plan { added, changed, .. } = plan;
    let batches = batches(added.into_iter().chain(changed));
    let of: usize = batches.iter().map(Vec::len).sum();
    let interrupts = wait_for(SignalKind::interrupt()).map_err(internal)?;
    let (bar, mut ctrl_c) = (Bar::patient(), CtrlC { interrupts, pressed: 0 });
    let mut done = 0;
    for (number, batch) in batches.iter().enumerate() {
        let failure = match ctrl_c.during(client.write_all(batch)).await {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(failed(names, batch, error)),
            None => Some((Fate::Unknown, interrupted())),
        };
        let fate = failure.as_ref().map_or(Fate::Stored, |(fate, _)| *fate);
        if fate == Fate::Stored {
            done += batch.len();
            bar.show(Progress { what: "storing".into(), done: done as u64, of: Some(of as u64) });
        }
        let last = number + 1 == batches.len();
        let failure = failure.or((ctrl_c.pressed > 0 && !last).then(|| (fate, interrupted())));
        if let Some((_, error)) = failure {
            drop(bar);
            tell_fate(names, &batches, number, fate);
            return Err(error);
        }
    }
    Ok(())
}

fn batches(entries: impl Iterator<Item = Entry>) -> Vec<Vec<Entry>> {
    let mut all: Vec<Vec<Entry>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let value = entry.secret.value.as_ref().map_or(0, in_json);
        let size = entry.name.as_str().len() + value;
        match all.last_mut() {
            Some(batch) if batch.len() < BATCH && bytes + size <= BATCH_BYTES => {
                bytes += size;
                batch.push(entry);
            }
            _ => {
                bytes = size;
                all.push(vec![entry]);
            }
        }
    }
    all
}

/// What a value takes in a body.
fn in_json(value: &SecretValue) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    value.expose().bytes().map(escaped).sum()
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stored,
    NotStored,
    Unknown,
}

/// Once: the batch under way is finished. Twice: it is not waited for.
struct CtrlC {
    interrupts: Signal,
    pressed: usize,
}

impl CtrlC {
    /// `None`: the work was left alone.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                _ = self.interrupts.recv() => {
                    self.pressed += 1;
                    if self.pressed > 1 {
                        return None;
                    }
                }
            }
        }
    }
}

fn interrupted() -> CliError {
    CliError { exit: Exit::Interrupted, message: format!("broken off; {AGAIN}") }
}

const AGAIN: &str = "the same command again goes on";

fn failed(names: &Names, batch: &[Entry], error: ClientError) -> (Fate, CliError) {
    let fate = match &error {
        ClientError::Unknown { .. } => Fate::Unknown,
        _ => Fate::NotStored,
    };
    if let ClientError::Refused(refusal) = &error
        && let 409 | 412 = refusal.status
    {
        let exit = Exit::Conflict;
        let who = blamed(names, batch, refusal);
        let message = format!("{who} changed since it was looked at; {AGAIN}, and compares anew");
        return (fate, CliError { exit, message });
    }
    let CliError { exit, message } = names.place.failed(error);
    let fate = if exit == Exit::Unknown { Fate::Unknown } else { fate };
    (fate, CliError { exit, message: format!("{message}; {AGAIN}") })
}

/// Which secrets of the batch a server complains of, as `secrets[3]`.
fn blamed(names: &Names, batch: &[Entry], refusal: &Refusal) -> String {
    let fields = refusal.errors.iter().flatten().map(|(field, _)| field);
    let blamed = fields.filter_map(|field| {
        let number = field.strip_prefix("secrets[")?.split(']').next()?;
        Some(format!("'{}'", names.shown(&batch.get(number.parse::<usize>().ok()?)?.name)))
    });
    let blamed: Vec<_> = blamed.collect();
    if blamed.is_empty() { "one of them".to_owned() } else { blamed.join(", ") }
}

/// Every name is in one of the lines.
fn tell_fate(names: &Names, batches: &[Vec<Entry>], ended_at: usize, fate: Fate) {
    let line = |what: &str, batches: &mut dyn Iterator<Item = &Vec<Entry>>| {
        let names: Vec<_> = batches.flatten().map(|entry| names.shown(&entry.name)).collect();
        if !names.is_empty() {
            tell(&format!("{what}: {}", names.join(", ")));
        }
    };
    let stored = if fate == Fate::Stored { ended_at + 1 } else { ended_at };
    let unknown = usize::from(fate == Fate::Unknown);
    line("stored", &mut batches.iter().take(stored));
    line("stored or not", &mut batches.iter().skip(stored).take(unknown));
    line("not stored", &mut batches.iter().skip(stored + unknown));
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn entry(name: &str, bytes: usize) -> Entry {
        let value = SecretValue::new(Zeroizing::new("x".repeat(bytes)));
        Entry {
            name: SecretName::parse(name).unwrap(),
            secret: NewSecret { value: Some(value), window: ValidityWindow::default() },
            condition: Condition::Absent,
        }
    }

    #[test]
    fn a_batch_is_what_a_server_takes_at_once() {
        let sizes = |entries: Vec<Entry>| -> Vec<usize> {
            batches(entries.into_iter()).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes((0..250).map(|_| entry("a", 1)).collect()), [100, 100, 50]);
        let large = BATCH_BYTES / 2 - 1;
        assert_eq!(sizes((0..3).map(|_| entry("a", large)).collect()), [2, 1]);
        assert_eq!(sizes(vec![entry("a", 1), entry("a", BATCH_BYTES), entry("a", 1)]), [1, 1, 1]);
        assert!(sizes(vec![]).is_empty());
    }

    #[test]
    fn all_between_the_first_and_the_last_begin_as_both() {
        let name = |name| SecretName::parse(name).unwrap();
        let common = |a, b| common_beginning(&name(a), &name(b)).unwrap().as_str().to_owned();
        assert_eq!(common("shop-a", "shop-b"), "shop-");
        assert_eq!(common("a", "b"), "");
        assert_eq!(common("a", "a"), "a");
        assert_eq!(common("a", "ab"), "a");
    }

    #[test]
    fn kebab_is_what_the_environment_is_mapped_from() {
        assert_eq!(cased("DB_PASSWORD", NameCase::Kebab), "db-password");
        assert_eq!(cased("DB_PASSWORD", NameCase::Keep), "DB_PASSWORD");
    }
}
