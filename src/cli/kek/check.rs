//! `tenure kek`: whether the configured source gives the KEK of the store, and a new
//! KEK for whoever keeps one elsewhere.

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::super::access;
use super::super::args::{KekArgs, KekCommand, StoreArgs};
use super::super::maintain::Output;
use super::reach::Reached;
use super::{CliError, fetch, protection, rewrap, rotate};
use crate::crypto::{Kek, KekRecord};

pub(in crate::cli) async fn run(args: KekArgs, output: Output) -> Result<(), CliError> {
    match args.command {
        KekCommand::Check { store } => check(&store, output).await,
        KekCommand::Generate => generate(output),
        KekCommand::Rotate(args) => rotate::rotate(args, output).await,
        KekCommand::Rewrap(args) => rewrap::rewrap(args, output).await,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    /// Where the KEK was had from now.
    source: &'static str,
    fingerprint: String,
    /// Where it was had from when the store came under it; `None` where the store is
    /// older than that is written down.
    store_source: Option<&'static str>,
    /// Since when the store is under it, RFC 3339.
    since: Option<String>,
    protection: String,
}

async fn check(store: &StoreArgs, output: Output) -> Result<(), CliError> {
    let (config, folder) = access::enter_for(store)?;
    let kek = fetch(&config)?;
    let reached = Reached::reach(&folder, &config).await?;
    let record = reached.record().clone();
    reached.close().await;
    kek.prove(folder.path(), &record)?;
    let fingerprint = record.fingerprint();
    let KekRecord { store_id: _, check: _, origin } = record;
    let answer = Checked {
        source: config.kek.source.as_str(),
        fingerprint,
        store_source: origin.as_ref().map(|origin| origin.way.word()),
        since: origin.as_ref().map(|origin| origin.since.to_string()),
        protection: protection(&config),
    };
    output.show(&answer, || checked_text(&answer))
}

fn checked_text(answer: &Checked) -> String {
    let Checked { source, fingerprint, store_source: _, since, protection } = answer;
    let since = since.as_ref().map_or(String::new(), |since| format!(", since {since}"));
    format!(
        "kek.source = \"{source}\" gives the KEK of this store ({fingerprint}{since})\n\n\
         {protection}\n"
    )
}

#[derive(Serialize)]
struct Generated {
    #[serde(serialize_with = "shown")]
    kek: Zeroizing<String>,
}

/// It is printed for its operator to keep.
fn shown<S: Serializer>(kek: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kek)
}

fn generate(output: Output) -> Result<(), CliError> {
    let answer = Generated { kek: Kek::generate().to_text() };
    output.show(&answer, || format!("{}\n", answer.kek.as_str()))
}
