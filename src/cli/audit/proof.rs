//! `tenure audit key`, `head` and `verify`: that the audit is the one that was signed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::access::{self, DevStore};
use super::super::args::StoreArgs;
use super::super::backup_file::{self, Existing, NewFile};
use super::super::data::{DataFolder, cannot};
use super::super::failure::{CliError, Exit};
use super::super::maintain::{Output, lined_up};
use super::super::progress::Bar;
use super::super::{internal, logging};
use crate::api::admin::{Command, Reply};
use crate::api::audit_export::{
    AuditKeyRow, AuditProof, Checkpoint, CheckpointRow, ProvedChain, SignedCheckpoint,
};
use crate::config::Config;
use crate::crypto::{AuditPublicKey, sha256};
use crate::domain::TenantName;
use crate::http::AdminClient;
use crate::vault::{Trust, verify_copy, verify_export};

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
pub(super) struct HeadArgs {
    /// Write it to this file, as 'tenure audit verify --head' reads it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file where there is one
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// An export, '-' for standard input, or a data folder [default: the store]
    #[arg(value_name = "EXPORT")]
    what: Option<PathBuf>,
    /// The public key that signs, as 'tenure audit key' printed it
    #[arg(long, value_name = "HEX", value_parser = AuditPublicKey::parse)]
    key: Option<AuditPublicKey>,
    /// A checkpoint that was kept elsewhere: nothing that it signs may be gone
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn key(args: KeyArgs, output: Output) -> Result<(), CliError> {
    let reply = access::execute(&args.store, Command::AuditKey).await?;
    output.show(&reply, || match &reply {
        Reply::AuditKey(AuditKeyRow { fingerprint, public_key }) => {
            lined_up([("fingerprint", fingerprint.clone()), ("public key", public_key.clone())])
        }
        _ => String::new(),
    })
}

pub(super) async fn head(args: HeadArgs, output: Output) -> Result<(), CliError> {
    let HeadArgs { output: file, force, store } = args;
    let existing = if force { Existing::Replaced } else { Existing::Refused };
    let new = file.as_deref().map(|file| NewFile::begin(file, existing)).transpose()?;
    let reply = access::execute(&store, Command::AuditHead).await?;
    let Reply::AuditHead(signed) = reply else { return Err(internal("there is no checkpoint")) };
    if let Some(new) = new {
        let json = serde_json::to_string(&signed).map_err(internal)? + "\n";
        let written = new.writer().and_then(|mut to| to.write_all(json.as_bytes()));
        written.map_err(internal)?;
        new.keep()?;
    }
    output.show(&signed, || head_text(&signed, file.as_deref()))
}

fn head_text(signed: &SignedCheckpoint, file: Option<&Path>) -> String {
    let Ok(read) = serde_json::from_str::<Checkpoint>(&signed.text) else {
        return String::new();
    };
    let kept = file.map_or_else(
        || "keep one elsewhere: tenure audit head -o FILE\n".to_owned(),
        |file| format!("wrote {}: keep it where this machine cannot change it\n", file.display()),
    );
    let hash = hex::encode(sha256(signed.text.as_bytes()));
    let lines = [("checkpoint", read.number.to_string()), ("of", read.at), ("SHA-256", hash)];
    lined_up(lines) + &kept
}

pub(super) async fn verify(args: VerifyArgs, output: Output) -> Result<(), CliError> {
    let VerifyArgs { what, key, head, mut store } = args;
    let head = head.map(|file| read_head(&file)).transpose()?;
    let trust = Trust { key, head };
    let proof = match what {
        Some(folder) if folder.is_dir() => {
            store.data = Some(folder);
            verify_store(&store, trust).await?
        }
        Some(file) => of_export(&file, &trust)?,
        None => verify_store(&store, trust).await?,
    };
    let reply = Reply::AuditProved(proof);
    output.show(&reply, || match &reply {
        Reply::AuditProved(proof) => text(proof),
        _ => String::new(),
    })?;
    match reply {
        Reply::AuditProved(AuditProof { sound: false, .. }) => Err(CliError {
            exit: Exit::Damaged,
            message: "the audit is not the one that was signed; keep what you have, and compare \
                      it with earlier exports and with checkpoints that were kept elsewhere"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

fn read_head(file: &Path) -> Result<SignedCheckpoint, CliError> {
    /// More than a checkpoint ever has.
    const MOST_BYTES: u64 = 4 * 1024 * 1024;
    let (opened, _) = backup_file::open(file)?;
    let mut text = String::new();
    let read = opened.take(MOST_BYTES).read_to_string(&mut text);
    read.map_err(|error| cannot("read", file, &error))?;
    serde_json::from_str(&text).map_err(|_| {
        CliError::usage(format!(
            "{} is no checkpoint; 'tenure audit head -o FILE' writes one",
            file.display()
        ))
    })
}

/// Line by line, in this process, with nothing of a store.
fn of_export(file: &Path, trust: &Trust) -> Result<AuditProof, CliError> {
    logging::of_a_command();
    let (opened, _) = backup_file::open(file)?;
    let lines = Lines(BufReader::new(opened));
    verify_export(lines, trust).map_err(|error| cannot("read", file, &error))
}

/// Lines of a bounded length: an export has no longer ones, and what is none must not
/// fill the memory.
struct Lines<R>(BufReader<R>);

impl<R: Read> Iterator for Lines<R> {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<io::Result<String>> {
        const MOST_BYTES: u64 = 4 * 1024 * 1024;
        let mut line = Vec::new();
        match self.0.by_ref().take(MOST_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                Some(Ok(String::from_utf8_lossy(line).into_owned()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// With a key that was named, a store that nobody has open is verified without its KEK.
async fn verify_store(store: &StoreArgs, trust: Trust) -> Result<AuditProof, CliError> {
    let config = access::configure(store, DevStore::Allowed, Vec::new())?;
    let folder = access::enter(&config)?;
    if let Some(key) = trust.key
        && AdminClient::connect(folder.path())?.is_none()
    {
        logging::of_a_command();
        return without_keys(&config, &folder, key, trust.head).await;
    }
    let Trust { key, head } = trust;
    let command = Command::AuditVerify { key: key.map(|key| key.to_string()), head };
    match access::execute(store, command).await? {
        Reply::AuditProved(proof) => Ok(proof),
        _ => Err(internal("nothing was verified")),
    }
}

async fn without_keys(
    config: &Config,
    folder: &DataFolder,
    key: AuditPublicKey,
    head: Option<SignedCheckpoint>,
) -> Result<AuditProof, CliError> {
    let store = folder.open(config).await?;
    let bar = Bar::patient();
    let proof = verify_copy(&*store, key, head.as_ref(), &move |now| bar.show(now)).await;
    store.close().await;
    proof.map_err(|error| crate::api::admin::Failure::from(error).into())
}

fn text(proof: &AuditProof) -> String {
    let AuditProof { sound: _, key, key_from_export, checkpoints, newest, chains, faults } = proof;
    let mut text = String::new();
    if let Some(CheckpointRow { number, at, hash }) = newest {
        text += &format!(
            "{checkpoints} checkpoints by the key {key}, the newest number {number} of {at}\n\
             SHA-256 {hash}\n"
        );
    }
    for chain in chains {
        text += &chain_text(chain);
    }
    for fault in faults {
        text += &format!("{fault}\n");
    }
    if *key_from_export {
        text += "the key is the one that the export names: with --key HEX, of 'tenure audit key' \
                 on the server, it proves that the server signed it\n";
    }
    text
}

fn chain_text(chain: &ProvedChain) -> String {
    let ProvedChain { chain, tenant, from, next, signed, fault } = chain;
    // An export may say anything.
    let tenant = tenant.as_deref().filter(|tenant| TenantName::parse(tenant).is_ok());
    let name = match tenant {
        Some(tenant) => format!("tenant {tenant}"),
        None if chain.bytes().all(|byte| byte == b'0') => "system".to_owned(),
        None => format!("tenant {chain}"),
    };
    let found = match fault {
        None => "sound".to_owned(),
        Some(fault) => format!("FAULT\n  {fault}"),
    };
    let unsigned = match next.saturating_sub(*signed) {
        0 => String::new(),
        some => format!(", the last {some} not signed yet"),
    };
    let entries = next.saturating_sub(*from);
    let begin = if *from == 0 { String::new() } else { format!(" from {from} on") };
    format!("{name}  {entries} entries{begin}{unsigned}  {found}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_export_calls_a_tenant_steers_no_terminal() {
        let (id, named) = ("05".repeat(16), Some("acme".to_owned()));
        let chain = ProvedChain { chain: id.clone(), tenant: named, ..ProvedChain::default() };
        assert!(chain_text(&chain).starts_with("tenant acme  0 entries"));
        let steering = ProvedChain { tenant: Some("\u{1b}[2J".to_owned()), ..chain };
        assert!(chain_text(&steering).starts_with(&format!("tenant {id}  0 entries")));
    }

    #[test]
    fn lines_are_read_whatever_is_in_them() {
        let bytes: &[u8] = b"one\n\xff\xfe\n\nlast";
        let lines: Vec<_> = Lines(BufReader::new(bytes)).map(Result::unwrap).collect();
        assert_eq!(lines, ["one", "\u{fffd}\u{fffd}", "", "last"]);
    }
}
