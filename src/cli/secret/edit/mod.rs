//! `tenure edit`: a secret in an editor, and back.

mod editor;
mod folder;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::clock::SystemClock;
use super::super::failure::{CliError, Exit};
use super::super::internal;
use super::super::maintain::Output;
use super::super::prompt;
use super::super::signals::Ends;
use super::given;
use super::put::{is_conflict, refused, remark};
use super::target::{Names, Target, TargetArgs};
use super::tell;
use super::window::{WindowArgs, in_words};
use crate::client::{Client, ClientError, Condition, NewSecret, Version};
use crate::domain::{Clock, SecretName, SecretValue, ValidityWindow};

use editor::Editor;
use folder::PrivateFolder;
pub(in crate::cli) use folder::guard;

#[derive(Debug, Args)]
pub(in crate::cli) struct EditArgs {
    /// Name of the secret; a new one is made
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn edit(args: EditArgs, output: Output) -> Result<(), CliError> {
    let EditArgs { name: typed, window, target } = args;
    let (client, names) = Target::find(&target)?.open()?;
    let name = names.whole(&typed)?;
    let editor = Editor::find()?;
    let task = Task { client, names, typed, name, said: window };
    let opened = task.open().await?;
    task.window(&opened.base)?;
    // From here on there is plaintext: nothing ends this without removing it.
    let mut ends = Ends::listen()?;
    let folder = PrivateFolder::make()?;
    let file = folder.write(&task.typed, opened.value.expose().as_bytes()).map_err(internal)?;
    let stored = task.until_stored(&opened, &editor, &file, &mut ends).await;
    drop(folder);
    let version = stored?;
    let changed = version.is_some();
    let version = version.as_ref().or(opened.base.version.as_ref());
    let answer = json!({ "name": task.typed, "changed": changed, "version": version });
    output.show(&answer, String::new)
}

/// What is edited, and how it is to be stored.
struct Task {
    client: Client,
    names: Names,
    typed: String,
    name: SecretName,
    said: WindowArgs,
}

/// What a new value replaces.
#[derive(Clone)]
struct Base {
    /// `None`: there is nothing.
    version: Option<Version>,
    window: ValidityWindow,
}

/// A secret as it was when the editor was opened.
struct Opened {
    base: Base,
    /// Empty where there was none.
    value: SecretValue,
}

/// What to do with what was edited and could not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Store,
    Edit,
    Discard,
}

impl Task {
    async fn open(&self) -> Result<Opened, CliError> {
        let read = self.client.read(&self.name).await;
        let Some(secret) = read.map_err(|error| self.names.place.failed(error))? else {
            return Ok(Opened { base: self.base().await?, value: value("") });
        };
        let value = secret.value.ok_or_else(|| {
            CliError::usage(format!(
                "the value of '{}' is null, which no text is; 'tenure put' replaces it",
                self.typed
            ))
        })?;
        let base = Base { version: Some(secret.version), window: secret.window };
        Ok(Opened { base, value })
    }

    /// What is there now.
    async fn base(&self) -> Result<Base, CliError> {
        let failed = |error| self.names.place.failed(error);
        match self.client.describe(&self.name).await.map_err(failed)? {
            Some((version, window)) => Ok(Base { version: Some(version), window }),
            None if self.client.lists(&self.name).await.map_err(failed)? => {
                Err(CliError::usage(format!(
                    "'{}' is not valid yet, so that it cannot be read and edited; 'tenure put' \
                     replaces it",
                    self.typed
                )))
            }
            None => Ok(Base { version: None, window: ValidityWindow::default() }),
        }
    }

    fn window(&self, base: &Base) -> Result<ValidityWindow, CliError> {
        self.said.over(base.window, SystemClock.read().wall)
    }

    /// `None` where nothing was changed. What was edited is kept until it is stored, or
    /// discarded by whoever edited it.
    async fn until_stored(
        &self,
        opened: &Opened,
        editor: &Editor,
        file: &Path,
        ends: &mut Ends,
    ) -> Result<Option<Version>, CliError> {
        editor.open(file, ends).await?;
        let mut base = Some(opened.base.clone());
        loop {
            let failed = match self.attempt(opened, &mut base, file, ends).await {
                Err(error) if error.exit != Exit::Interrupted => error,
                done => return done,
            };
            if failed.exit == Exit::Conflict {
                // What somebody else stored is replaced only by who was told of it.
                base = None;
            }
            let exit = failed.exit;
            match ask(failed, ends).await? {
                Next::Store => {}
                Next::Edit => editor.open(file, ends).await?,
                Next::Discard => {
                    let message = "what was edited is discarded".to_owned();
                    return Err(CliError { exit, message });
                }
            }
        }
    }

    async fn attempt(
        &self,
        opened: &Opened,
        base: &mut Option<Base>,
        file: &Path,
        ends: &mut Ends,
    ) -> Result<Option<Version>, CliError> {
        let text = edited(file, &opened.value)?;
        let window = self.window(&opened.base)?;
        if text == opened.value && window == opened.base.window {
            tell(&format!("'{}' is unchanged; nothing was stored", self.typed));
            return Ok(None);
        }
        let base = match base {
            Some(base) => base,
            None => base.insert(ends.or_end(self.base()).await?),
        };
        let stored = ends.or_end(self.store(text, base)).await;
        stored.map(Some).map_err(|error| self.left_open(error))
    }

    /// Whoever breaks off a request that was sent must look what became of it.
    fn left_open(&self, error: CliError) -> CliError {
        if error.exit != Exit::Interrupted {
            return error;
        }
        let message = format!(
            "interrupted while it was stored: '{}' may have been changed, or not",
            self.typed
        );
        CliError { message, ..error }
    }

    async fn store(&self, value: SecretValue, base: &Base) -> Result<Version, CliError> {
        let condition = base.version.clone().map_or(Condition::Absent, Condition::Unchanged);
        let window = self.window(base)?;
        let new = NewSecret { value: Some(value), window };
        let version = match self.client.write(&self.name, &new, &condition).await {
            Ok(version) => version,
            Err(error) => match self.stored_all_the_same(&error, &new, base).await {
                Some(version) => version,
                None => return Err(self.not_stored(&condition, error)),
            },
        };
        let ends = in_words(&window, SystemClock.read().wall);
        let (name, place) = (&self.typed, &self.names.place);
        tell(&format!("stored '{name}' in {place}: {ends}{}", remark(&new)));
        Ok(version)
    }

    /// Where the answer was lost, the server has what was sent, or has not: then another
    /// attempt would take it for somebody else's.
    async fn stored_all_the_same(
        &self,
        error: &ClientError,
        new: &NewSecret,
        base: &Base,
    ) -> Option<Version> {
        if !matches!(error, ClientError::Unknown { .. }) {
            return None;
        }
        let there = self.client.read(&self.name).await.ok()??;
        let is_ours = there.value == new.value && there.window == new.window;
        (is_ours && Some(&there.version) != base.version.as_ref()).then_some(there.version)
    }

    fn not_stored(&self, condition: &Condition, error: ClientError) -> CliError {
        if is_conflict(&error) {
            let message = format!("'{}' was changed by somebody else meanwhile", self.typed);
            return CliError { exit: Exit::Conflict, message };
        }
        refused(&self.names, &self.typed, condition, error)
    }
}

/// What the file holds now. Where the value had no line break at its end, one that the
/// editor added is taken off.
fn edited(file: &Path, before: &SecretValue) -> Result<SecretValue, CliError> {
    let opened = File::open(file).map_err(|error| {
        CliError::usage(format!("what was edited is not in its file any more ({error})"))
    })?;
    let now = given::read(opened, "what was edited")?;
    match now.expose().strip_suffix('\n') {
        Some(rest) if !before.expose().ends_with('\n') => Ok(value(rest)),
        _ => Ok(now),
    }
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(Zeroizing::new(text.to_owned()))
}

/// Until one of the three is said.
async fn ask(failed: CliError, ends: &mut Ends) -> Result<Next, CliError> {
    if !io::stdin().is_terminal() {
        let CliError { exit, message } = failed;
        let message = format!("{message}; what was edited is discarded");
        return Err(CliError { exit, message });
    }
    let store = if failed.exit == Exit::Conflict { "overwrite" } else { "try again" };
    loop {
        let question = format!(
            "{}\nYour text is kept. Store it (s: {store}), edit it again (e), or discard it (d)? ",
            failed.message
        );
        match prompt::typed_unless(ends, &question).await?.to_ascii_lowercase().as_str() {
            "s" => return Ok(Next::Store),
            "e" => return Ok(Next::Edit),
            "d" => return Ok(Next::Discard),
            _ => {}
        }
    }
}
