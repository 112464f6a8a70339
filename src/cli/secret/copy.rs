//! `tenure copy`: a value on the clipboard, for a short while.
//!
//! On a desktop of Linux, what is copied stays with the process that copied it. So one of
//! this program stays behind, has the value by a pipe, and hands it to whoever pastes; when
//! it ends, however it ends, the clipboard is empty.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use arboard::{Clipboard, SetExtLinux};
use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::failure::{CliError, Exit};
use super::super::helper::{Beside, Helper};
use super::super::internal;
use super::super::maintain::Output;
use super::near::missing_but_near;
use super::target::{Target, TargetArgs};
use super::tell;
use crate::domain::TimeSpan;

const HOLD: &str = "hold-clipboard";
/// By which a desktop is found.
const DISPLAYS: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];
const VARIABLES: [&str; 5] =
    ["DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "HOME"];
/// How often it is looked whether the clipboard is ours yet, which takes no time at all.
const LOOK: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Args)]
pub(in crate::cli) struct CopyArgs {
    /// Name of the secret
    #[arg(value_name = "NAME")]
    name: String,
    /// When it is taken away again, at most 1h
    #[arg(long, value_name = "D", default_value = "30s")]
    clear_after: TimeSpan,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn copy(args: CopyArgs, output: Output) -> Result<(), CliError> {
    let CopyArgs { name: typed, clear_after, target } = args;
    if clear_after.is_zero() || clear_after.as_duration() > LONGEST {
        return Err(CliError::usage("--clear-after must be more than 0s, and at most 1h"));
    }
    if !DISPLAYS.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return Err(no_clipboard("neither DISPLAY nor WAYLAND_DISPLAY is set"));
    }
    let (client, names) = Target::find(&target)?.open()?;
    let name = names.whole(&typed)?;
    let read = client.read(&name).await.map_err(|error| names.place.failed(error))?;
    let Some(secret) = read else { return Err(missing_but_near(&client, &names, &typed).await) };
    let value = secret.value.ok_or_else(|| CliError {
        exit: Exit::NotFound,
        message: format!("the value of '{typed}' is null; there is nothing to copy"),
    })?;
    let millis = clear_after.as_duration().as_millis().to_string();
    let mut holder = Helper::start(&[HOLD, "--for-ms", &millis], &VARIABLES)?;
    holder.tell(value.expose().as_bytes())?;
    holder.hang_up();
    holder.ready().map_err(|why| no_clipboard(&why))?;
    tell(&format!("copied '{typed}'; the clipboard is cleared in {clear_after}"));
    output.show(&json!({ "name": typed, "clearAfter": clear_after.to_string() }), String::new)
}

fn no_clipboard(why: &str) -> CliError {
    CliError::unavailable(format!(
        "there is no clipboard here: {why}; 'tenure get' prints the value"
    ))
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HoldArgs {
    /// How long, in milliseconds
    #[arg(long, value_name = "N")]
    for_ms: u64,
}

/// The process that stays behind.
pub(in crate::cli) fn hold(args: &HoldArgs) -> Result<(), CliError> {
    let beside = Beside::stand().map_err(internal)?;
    let mut value = Zeroizing::new(String::new());
    io::stdin().lock().read_to_string(&mut value).map_err(internal)?;
    let until = Instant::now() + Duration::from_millis(args.for_ms);
    let opened = Clipboard::new().and_then(|ours| Ok((ours, Clipboard::new()?)));
    let (ours, mut seen) = match opened {
        Ok(opened) => opened,
        Err(error) => return beside.answer(Some(&error.to_string())).map_err(internal),
    };
    let held = std::thread::scope(|scope| {
        let holding = scope.spawn(|| serve(ours, &value, until));
        while !holding.is_finished() && !is(&mut seen, &value) {
            std::thread::sleep(LOOK);
        }
        // Nobody waits for the answer of one that was overtaken.
        if !holding.is_finished() {
            let _ = beside.answer(None);
        }
        holding.join().unwrap_or(Err(arboard::Error::ClipboardNotSupported))
    });
    let why = held.err().map(|error| error.to_string());
    // Once more is not heard.
    let _ = beside.answer(why.as_deref());
    if why.is_none() && std::env::var_os("WAYLAND_DISPLAY").is_some() {
        // There the first part does not wait.
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }
    // The last one that is dropped would hand the value to a manager of clipboards. The
    // process ends instead.
    std::mem::forget(seen);
    Ok(())
}

/// Under X11 until then, or until something else is copied. It is set once: a second time
/// could take the place of what was copied in between.
fn serve(mut clipboard: Clipboard, value: &str, until: Instant) -> Result<(), arboard::Error> {
    clipboard.set().exclude_from_history().wait_until(until).text(value)
}

/// Whether a paste would give the value.
fn is(clipboard: &mut Clipboard, value: &str) -> bool {
    clipboard.get().text().is_ok_and(|text| Zeroizing::new(text).as_str() == value)
}
