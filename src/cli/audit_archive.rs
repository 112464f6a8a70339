//! Old entries of the audit, moved into files.
//!
//! Each file is an export that can be verified by itself. Entries leave the store only
//! when theirs is whole, durable and under its name.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::aside::Aside;
use super::backup_file::{NewFile, stamp, write_pieces};
use super::clock::SystemClock;
use super::data::cannot;
use super::failure::CliError;
use super::internal;
use super::maintain::size;
use crate::api::audit_export::ExportMade;
use crate::config::Audit;
use crate::domain::{Clock, Timestamp};
use crate::vault::{OldAudit, Vault};

/// So much longer than wanted entries may stay, as a share of it: a file for every day,
/// where they stay for a year, is enough.
const SHARE: u32 = 10;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);
/// How often it is looked whether some are due, at the least.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// `None` where entries stay for good.
pub(super) fn start(wanted: &Audit, vault: &Arc<Vault>) -> Result<Option<Aside>, CliError> {
    let Audit { keep, archive: Some(folder), .. } = wanted else { return Ok(None) };
    if keep.is_zero() {
        return Ok(None);
    }
    let archive =
        Archive { vault: vault.clone(), folder: folder.clone(), keep: keep.as_duration() };
    Aside::start("audit archive", move || async move { archive.run().await }).map(Some)
}

struct Archive {
    vault: Arc<Vault>,
    folder: PathBuf,
    keep: Duration,
}

impl Archive {
    async fn run(&self) {
        let slack = (self.keep / SHARE).clamp(SECOND, DAY);
        loop {
            if let Err(error) = self.move_due(slack).await {
                let message = error.message;
                log::error!("old entries of the audit stay in the store: {message}");
            }
            tokio::time::sleep(slack.min(HOUR)).await;
        }
    }

    /// Nothing, until some are older than they need be: then all that are old enough.
    async fn move_due(&self, slack: Duration) -> Result<(), CliError> {
        let old = self.vault.old_audit(self.keep, slack).await.map_err(internal)?;
        let Some(old) = old else { return Ok(()) };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|error| cannot("make", &self.folder, &error))?;
        let path = self.folder.join(name_of(SystemClock.read().wall));
        let ExportMade { entries, bytes, damaged, .. } = self.write(&old, &path).await?;
        let shown = path.display();
        if damaged > 0 {
            return Err(internal(format!(
                "{damaged} blocks of them do not decrypt; {shown} has all others, and 'tenure \
                 verify' says which"
            )));
        }
        self.vault.forget_old_audit(old, &shown.to_string()).await.map_err(internal)?;
        log::info!("moved {entries} entries of the audit to {shown} ({})", size(bytes));
        Ok(())
    }

    async fn write(&self, old: &OldAudit, path: &Path) -> Result<ExportMade, CliError> {
        let new = NewFile::create(path)?;
        let (sender, pieces) = mpsc::channel(8);
        let file = new.writer().map_err(internal)?;
        let writing = async {
            let written = write_pieces(file, pieces).await;
            written.map_err(|error| cannot("write", path, &error))
        };
        let making = async { Ok(self.vault.export_old_audit(old, sender).await?) };
        let (made, ()) = tokio::try_join!(making, writing)?;
        new.keep()?;
        Ok(made)
    }
}

/// `audit-20300131T120000Z.jsonl`
fn name_of(at: Timestamp) -> String {
    format!("audit-{}.jsonl", stamp(at))
}
