//! `tenure backup`: create, verify, restore.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::access::{self, Beside, DevStore, send_pieces};
use super::args::{BackupArgs, BackupCommand, CredentialsArg, StoreArgs};
use super::backup_file::{self, Target};
use super::clock::SystemClock;
use super::data::{NewStore, RestoreInto};
use super::failure::{CliError, Exit};
use super::kek::Fetched;
use super::maintain::{Output, size, verification_text};
use super::progress::Bar;
use super::shares::Input;
use super::{internal, kek, logging};
use crate::api::admin::{
    BackupContents, BackupMade, BackupRestored, Command, Failure, HiddenText, LeftOut, Progress,
    Reply, Verification,
};
use crate::config::Config;
use crate::domain::{Clock, TenantName};
use crate::vault::backup::{self, BackupError, Credentials, WantedStore};

pub(super) async fn run(args: BackupArgs, output: Output) -> Result<(), CliError> {
    match args.command {
        BackupCommand::Create { file, store } => create(&file, &store, output).await,
        BackupCommand::Verify { file, kek_file, store } => {
            verify(&file, kek_file.as_deref(), &store, output).await
        }
        BackupCommand::Restore(args) => {
            let from = Backup { file: &args.file, kek_file: args.backup_kek_file.as_deref() };
            match (args.tenant, args.new_name, args.credentials) {
                (Some(tenant), Some(new_name), None) => {
                    let wanted = (tenant, new_name, args.dry_run);
                    restore_tenant(&from, wanted, &args.store, output).await
                }
                (None, None, Some(credentials)) => {
                    let without = args.without.iter().map(|name| tenant_name(name));
                    let without = without.collect::<Result<_, _>>()?;
                    let (credentials, caller) = (credentials.into(), access::here_by());
                    let at = SystemClock.read().wall;
                    let wanted = WantedStore { credentials, without, caller, at };
                    restore_store(&from, &wanted, args.dry_run, &args.store, output).await
                }
                // clap refuses these before.
                _ => Err(CliError::usage(
                    "either --credentials keep|revoke, or --tenant NAME --as NEW",
                )),
            }
        }
    }
}

fn tenant_name(text: &str) -> Result<TenantName, CliError> {
    TenantName::parse(text).map_err(|error| CliError::usage(format!("a tenant's name {error}")))
}

impl From<CredentialsArg> for Credentials {
    fn from(said: CredentialsArg) -> Self {
        match said {
            CredentialsArg::Keep => Self::Keep,
            CredentialsArg::Revoke => Self::Revoke,
        }
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        Failure::from(error).into()
    }
}

async fn create(file: &Path, store: &StoreArgs, output: Output) -> Result<(), CliError> {
    let target = Target::named(file)?;
    let beside = Beside::Download(target.writer()?);
    let reply = access::execute_with(store, Command::BackupCreate, beside).await?;
    let to_standard = matches!(target, Target::Standard);
    target.keep()?;
    let Reply::BackupCreated(made) = &reply else { return Err(internal("no backup was made")) };
    let text = || made_text(made, file);
    if to_standard {
        // Standard output holds the backup.
        let mut stderr = std::io::stderr().lock();
        stderr.write_all(text().as_bytes()).map_err(internal)?;
    } else {
        output.show(&reply, text)?;
    }
    if made.left_out.is_empty() {
        return Ok(());
    }
    Err(CliError {
        exit: Exit::Damaged,
        message:
            "the backup goes without damaged tenants; 'tenure verify' says what is wrong, and \
                  an earlier backup may still hold them"
                .to_owned(),
    })
}

fn made_text(made: &BackupMade, file: &Path) -> String {
    let BackupMade { begun_on, bytes, tenants, rows, left_out } = made;
    format!(
        "wrote {}: {tenants} tenants, {rows} rows, {}, of {begun_on}\n{}",
        file.display(),
        size(*bytes),
        left_out_text(left_out)
    )
}

fn left_out_text(left_out: &[LeftOut]) -> String {
    left_out.iter().map(|LeftOut { tenant, why }| format!("without '{tenant}': {why}\n")).collect()
}

/// Whether standard input is left for whoever is asked for shares.
fn input_beside(file: &Path) -> Input {
    if file == Path::new("-") { Input::Taken } else { Input::Free }
}

async fn verify(
    file: &Path,
    kek_file: Option<&Path>,
    store: &StoreArgs,
    output: Output,
) -> Result<(), CliError> {
    logging::of_a_command();
    let kek = match kek_file {
        Some(file) => kek::fetch_from(file)?,
        None => {
            let config = access::configure(store, DevStore::Allowed, Vec::new())?;
            kek::fetch_beside(&config, input_beside(file))?
        }
    };
    let contents = check(file, kek, &[]).await?;
    let sound = contents.sound;
    let reply = Reply::BackupVerified(contents);
    output.show(&reply, || match &reply {
        Reply::BackupVerified(contents) => contents_text(contents),
        _ => String::new(),
    })?;
    if sound {
        return Ok(());
    }
    Err(CliError {
        exit: Exit::Damaged,
        message: "the file is as it was written, but the store was damaged when it was made; take \
                  an earlier backup, or restore it without the damaged tenants (--without NAME)"
            .to_owned(),
    })
}

fn contents_text(contents: &BackupContents) -> String {
    let BackupContents { sound, begun_on, finished_on, program, bytes, parts, left_out } = contents;
    let found = Verification { sound: *sound, parts: parts.clone() };
    format!(
        "{} of tenure {program}, made between {begun_on} and {finished_on}\n{}{}",
        size(*bytes),
        verification_text(&found),
        left_out_text(left_out)
    )
}

/// Reads all of a backup in this process.
async fn check(
    file: &Path,
    kek: Fetched,
    without: &[TenantName],
) -> Result<BackupContents, CliError> {
    reading(file, async |pieces, bytes, report| {
        let begun = backup::begin(pieces).await?;
        let kek = kek.prove_backup(&begun.kek_record())?.kek;
        Ok(backup::verify(begun, &kek, without, bytes, &report).await?)
    })
    .await
}

/// Where a backup is, and which KEK it needs where that is not the store's.
struct Backup<'a> {
    file: &'a Path,
    kek_file: Option<&'a Path>,
}

impl Backup<'_> {
    fn kek(&self, config: &Config) -> Result<Fetched, CliError> {
        let configured = || kek::fetch_beside(config, input_beside(self.file));
        self.kek_file.map_or_else(configured, kek::fetch_from)
    }
}

/// Why a backup was not read: for what is in it, or for what is here.
enum Unread {
    Backup(BackupError),
    Here(CliError),
}

impl From<BackupError> for Unread {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

impl From<CliError> for Unread {
    fn from(error: CliError) -> Self {
        Self::Here(error)
    }
}

/// Works on the pieces of a file, which another thread reads, and shows how far it
/// is.
async fn reading<T>(
    file: &Path,
    work: impl AsyncFnOnce(
        mpsc::Receiver<Vec<u8>>,
        Option<u64>,
        Box<dyn Fn(Progress) + Send + Sync>,
    ) -> Result<T, Unread>,
) -> Result<T, CliError> {
    let (file, bytes) = backup_file::open(file)?;
    let (sender, pieces) = mpsc::channel(8);
    let reader = std::thread::spawn(move || send_pieces(file, sender));
    let (told, mut heard) = mpsc::channel(16);
    // Where the bar is slow, it misses some.
    let report = Box::new(move |now| drop(told.try_send(now)));
    let bar = Bar::new();
    let showing = async {
        while let Some(now) = heard.recv().await {
            bar.show(now);
        }
    };
    let (done, ()) = tokio::join!(work(pieces, bytes, report), showing);
    match done {
        Ok(done) => Ok(done),
        // A file that cannot be read looks like one that ends too early.
        Err(Unread::Backup(BackupError::Truncated)) if reader.is_finished() => {
            match reader.join() {
                Ok(Err(error)) => Err(internal(format!("the backup cannot be read: {error}"))),
                _ => Err(BackupError::Truncated.into()),
            }
        }
        Err(Unread::Backup(error)) => Err(error.into()),
        Err(Unread::Here(error)) => Err(error),
    }
}

async fn restore_tenant(
    from: &Backup<'_>,
    (tenant, new_name, dry_run): (String, String, bool),
    store: &StoreArgs,
    output: Output,
) -> Result<(), CliError> {
    let (file, bytes) = backup_file::open(from.file)?;
    let kek = from.kek_file.map(kek::from_named_file).transpose()?;
    let kek = kek.map(|kek| HiddenText::new(&kek.to_text()));
    let command = Command::BackupRestore { tenant, new_name, dry_run, bytes, kek };
    let reply = access::execute_with(store, command, Beside::Upload(file)).await?;
    output.show(&reply, || match &reply {
        Reply::BackupRestored(restored) => restored_text(restored, None),
        _ => String::new(),
    })
}

async fn restore_store(
    from: &Backup<'_>,
    wanted: &WantedStore,
    dry_run: bool,
    store: &StoreArgs,
    output: Output,
) -> Result<(), CliError> {
    let config = access::configure(store, DevStore::Refused, Vec::new())?;
    logging::of_a_command();
    config.require_kek_apart_from_data()?;
    let target = RestoreInto::look_at(&config.data)?;
    let (restored, kek_created) = if dry_run {
        let contents = check(from.file, from.kek(&config)?, &wanted.without).await?;
        if !contents.sound {
            return Err(BackupError::Unsound(Box::new(contents)).into());
        }
        let credentials = wanted.credentials.outcome().to_owned();
        (BackupRestored { dry_run, tenant: None, credentials, contents }, None)
    } else {
        restore_into(target, from, wanted, &config).await?
    };
    let data = config.data.display().to_string();
    let reply = Reply::BackupRestored(restored);
    output.show(&reply, || match &reply {
        Reply::BackupRestored(restored) => {
            let made = kek_created.map(|file| format!("made a new KEK at {}\n", file.display()));
            made.unwrap_or_default() + &restored_text(restored, Some(&data))
        }
        _ => String::new(),
    })
}

async fn restore_into(
    target: RestoreInto,
    from: &Backup<'_>,
    wanted: &WantedStore,
    config: &Config,
) -> Result<(BackupRestored, Option<std::path::PathBuf>), CliError> {
    // Before anything is made: the keys are most likely to be missing.
    let backup_kek = from.kek(config)?;
    let other = from.kek_file.map(|_| kek::create(config)).transpose()?;
    let new = target.begin()?;
    let store = match new.open(config).await {
        Ok(store) => store,
        Err(error) => return Err(abandoned(new, error)),
    };
    let filled = reading(from.file, async |pieces, bytes, report| {
        let begun = backup::begin(pieces).await?;
        let proved = backup_kek.prove_backup(&begun.kek_record())?;
        let kek = match &other {
            Some(other) => (&other.kek, other.origin()),
            None => (&proved.kek, proved.origin()),
        };
        let target = Arc::clone(&store);
        Ok(backup::restore(begun, &proved.kek, target, kek, wanted, bytes, &report).await?)
    });
    let filled = filled.await;
    store.close().await;
    drop(store);
    match filled {
        Ok(restored) => {
            new.complete()?;
            Ok((restored, other.and_then(|other| other.created)))
        }
        Err(error) => Err(abandoned(new, error)),
    }
}

/// Removes what was begun. Where even that fails, the next restore does it.
fn abandoned(new: NewStore, why: CliError) -> CliError {
    if let Err(error) = new.discard() {
        log::warn!("{}", error.message);
    }
    why
}

fn restored_text(restored: &BackupRestored, data: Option<&str>) -> String {
    let BackupRestored { dry_run, tenant, credentials, contents } = restored;
    let (done, holds) = match (dry_run, data) {
        (true, _) => ("would restore", contents_text(contents)),
        (false, Some(_)) => ("restored", contents_text(contents)),
        (false, None) => ("restored", String::new()),
    };
    if let Some(tenant) = tenant {
        return format!(
            "{holds}{done} tenant '{}' as '{}': {} secrets, as of between {} and {}\nno \
             credentials come with it; next: tenure token mint --tenant {} --scope Secret.Read\n",
            tenant.name,
            tenant.restored_as,
            tenant.secrets,
            contents.begun_on,
            contents.finished_on,
            tenant.restored_as
        );
    }
    let tenants = contents.parts.iter().filter(|part| part.tenant.is_some()).count();
    let secrets: u64 = contents.parts.iter().map(|part| part.secrets).sum();
    let tokens = match credentials.as_str() {
        "kept" => "tokens and API keys of before the backup stay good until they expire",
        _ => "tokens minted before are refused, and API keys too; mint new ones",
    };
    format!(
        "{holds}{done} {tenants} tenants with {secrets} secrets into {}\n{tokens}\n",
        data.unwrap_or_default()
    )
}
