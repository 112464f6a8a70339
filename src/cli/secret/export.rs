//! `tenure export`: all secrets into one file, which `tenure import` takes back.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::super::failure::CliError;
use super::super::maintain::{Output, print};
use super::super::progress::Bar;
use super::files::{self, Detail, Format, Item};
use super::target::{Names, Target, TargetArgs};
use super::tell;
use super::whole_file::{self, Over};
use crate::api::admin::Progress;
use crate::client::{Client, Description, State};
use crate::domain::{NamePrefix, SecretName, ValidityWindow};

/// Requests under way at a time.
pub(super) const AT_ONCE: usize = 16;

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// Only names that begin with it
    #[arg(value_name = "BEGINNING", default_value = "", hide_default_value = true)]
    beginning: String,
    /// How it is written [default: as the name of FILE says, else dotenv]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write a new file, which only you can read, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With notBefore and expiresOn of each; of JSON and YAML
    #[arg(long)]
    with_windows: bool,
    /// Replace FILE where it exists
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn export(args: ExportArgs, output: Output) -> Result<(), CliError> {
    let of_file = args.output.as_deref().and_then(Format::of);
    let otherwise = if output.json { Format::Json } else { Format::Dotenv };
    let format = args.format.or(of_file).unwrap_or(otherwise);
    let detail = if args.with_windows { Detail::WithWindows } else { Detail::Values };
    if (format, detail) == (Format::Dotenv, Detail::WithWindows) {
        return Err(CliError::usage("dotenv holds no windows; say --format json or yaml"));
    }
    let (client, names) = Target::find(&args.target)?.open()?;
    let below = names.below(&args.beginning)?;
    let items = all(&client, &names, &below).await?;
    let text = files::write(&items, format, detail).map_err(CliError::usage)?;
    tell_of_windows(&items, format, detail);
    tell_of_names(&items, format);
    let Some(path) = &args.output else { return show(text.as_bytes()) };
    let over = if args.force { Over::AFile } else { Over::Nothing };
    whole_file::put(path, text.as_bytes(), 0o600, over)?;
    tell(&format!("wrote {} to {}", files::counted(items.len()), path.display()));
    Ok(())
}

/// What is taken back without its window has no end any more.
fn tell_of_windows(items: &[Item], format: Format, detail: Detail) {
    let windows = items.iter().filter(|item| item.window != ValidityWindow::default()).count();
    if windows == 0 || detail == Detail::WithWindows {
        return;
    }
    let with = match format {
        Format::Dotenv => "--format json --with-windows writes them",
        Format::Json | Format::Yaml => "--with-windows writes them",
    };
    tell(&format!("the windows of {} are not in it; {with}", files::counted(windows)));
}

/// What is taken back under another name is another secret.
fn tell_of_names(items: &[Item], format: Format) {
    let other = |item: &Item| Some((item.name.clone(), files::other_name(&item.name, format)?));
    if let Some((name, variable)) = items.iter().find_map(other) {
        tell(&format!(
            "names are those of variables, as 'tenure run' has them: '{}' is {variable}; --format \
             json or yaml keeps them",
            name.as_str()
        ));
    }
}

fn show(text: &[u8]) -> Result<(), CliError> {
    if std::io::stdout().is_terminal() {
        tell("these are values, on your screen; -o FILE writes a file that only you can read");
    }
    print(text)
}

/// Each as it is when it is read.
async fn all(client: &Client, names: &Names, below: &NamePrefix) -> Result<Vec<Item>, CliError> {
    let described = client.all_descriptions(below).await;
    let described = described.map_err(|error| names.place.failed(error))?;
    let (valid, waiting): (Vec<_>, Vec<_>) =
        described.into_iter().partition(|described| described.state == State::Valid);
    if !waiting.is_empty() {
        let shown: Vec<_> = waiting.iter().map(|secret| names.shown(&secret.name)).collect();
        tell(&format!("left out, since not valid yet: {}", shown.join(", ")));
    }
    let (bar, of) = (Bar::patient(), valid.len() as u64);
    let reads = stream::iter(valid).map(|Description { name, .. }| read(client, names, name));
    let mut reads = reads.buffered(AT_ONCE);
    let (mut items, mut done) = (Vec::new(), 0);
    while let Some(item) = reads.try_next().await? {
        done += 1;
        bar.show(Progress { what: "reading".into(), done, of: Some(of) });
        items.extend(item);
    }
    Ok(items)
}

/// `None`: it went away meanwhile.
async fn read(client: &Client, names: &Names, whole: SecretName) -> Result<Option<Item>, CliError> {
    let read = client.read(&whole).await.map_err(|error| names.place.failed(error))?;
    let Some(secret) = read else { return Ok(None) };
    let shown = names.shown(&whole);
    let name = SecretName::parse(shown).map_err(|_| {
        CliError::usage(format!(
            "the secret '{}' has no name beside the prefix; say --prefix \"\"",
            whole.as_str()
        ))
    })?;
    Ok(Some(Item { name, value: secret.value, window: secret.window }))
}
