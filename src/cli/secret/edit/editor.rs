//! The editor that a person has chosen, on one file.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::super::super::failure::{CliError, Exit};
use super::super::super::internal;
use super::super::super::signals::Ends;
use super::super::super::terminal::AsItWas;

/// Where nobody has chosen, the first of these that is there.
const USUAL: [&str; 2] = ["vi", "nano"];

/// Keeps Vim and its kin from writing copies of what is edited: no swap file, no viminfo or
/// shada (which hold what was deleted or yanked), no backup, no undo file. They come after
/// its own configuration, and a Vim that lacks one of these passes over it.
const OF_VIM: [&str; 5] =
    ["-n", "-i", "NONE", "-c", "silent! set nobackup nowritebackup noundofile noswapfile"];

/// How long an editor may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(3);

pub(super) struct Editor {
    /// A line of shell, as git takes it: it may hold options.
    line: OsString,
    options: &'static [&'static str],
}

impl Editor {
    pub(super) fn find() -> Result<Self, CliError> {
        let chosen = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os);
        let usual = USUAL.into_iter().filter(|name| in_path(name).is_some()).map(OsString::from);
        let line = chosen.filter(|line| !line.is_empty()).chain(usual).next().ok_or_else(|| {
            CliError::usage("there is no editor: set EDITOR to one, such as EDITOR=nano")
        })?;
        let options = if is_vim(&line) { &OF_VIM[..] } else { &[] };
        Ok(Self { line, options })
    }

    /// Waits until it has ended, and ended well. Its own temporary files are beside `file`.
    /// One that fell or was ended may leave a terminal on which nothing typed is seen.
    pub(super) async fn open(&self, file: &Path, ends: &mut Ends) -> Result<(), CliError> {
        let mut words = OsString::from(if is_simple(&self.line) { "exec " } else { "" });
        words.push(&self.line);
        words.push(" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(&words).arg(&self.line).args(self.options).arg(file);
        command.envs(file.parent().map(|folder| ("TMPDIR", folder)));
        let terminal = AsItWas::note();
        let mut child = command.spawn().map_err(internal)?;
        let status = tokio::select! {
            status = child.wait() => status.map_err(internal),
            ended = ends.but_interrupts() => {
                end(&mut child).await;
                Err(ended)
            }
        };
        if !status.as_ref().is_ok_and(ExitStatus::success)
            && let Some(terminal) = terminal
        {
            terminal.restore();
        }
        let status = status?;
        ends.forget_interrupts().await;
        if status.success() { Ok(()) } else { Err(self.failed(status)) }
    }

    fn failed(&self, status: ExitStatus) -> CliError {
        let name = self.line.to_string_lossy();
        let message = match (status.code(), status.signal()) {
            (Some(127), _) => {
                return CliError::usage(format!(
                    "the editor '{name}' is not there; set EDITOR to one that is. Nothing was stored"
                ));
            }
            (Some(code), _) => {
                format!("the editor '{name}' ended with code {code}; nothing was stored")
            }
            (None, signal) => format!(
                "the editor '{name}' was ended by signal {}; nothing was stored",
                signal.unwrap_or_default()
            ),
        };
        CliError { exit: Exit::Internal, message }
    }
}

/// As a terminal that is gone would.
async fn end(child: &mut Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::HUP);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Whether the shell may become the editor, so that signals are the editor's alone: a single
/// command without assignments.
fn is_simple(line: &OsStr) -> bool {
    let line = line.to_string_lossy();
    let assigns = line.split_whitespace().next().is_some_and(|word| word.contains('='));
    !assigns && !line.contains(['|', '&', ';', '<', '>', '(', ')', '`', '\n'])
}

/// By the name of the program, or of what is behind that: `vi` and `editor` may be any.
fn is_vim(line: &OsStr) -> bool {
    let line = line.to_string_lossy();
    let word = program_of(&line);
    let behind = in_path(word).and_then(|path| fs::canonicalize(path).ok());
    is_kin(&name_of(Path::new(word)))
        || behind.is_some_and(|path| is_kin(&name_of(&path)) || says_vim(&path))
}

/// The first word that is neither an assignment nor a program that starts another.
fn program_of(line: &str) -> &str {
    const STARTERS: [&str; 6] = ["command", "env", "exec", "ionice", "nice", "nohup"];
    let mut words = line.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
    let passed_over = |word: &&str| {
        word.contains('=')
            || word.starts_with('-')
            || STARTERS.contains(&&*name_of(Path::new(word)))
    };
    words.find(|word| !passed_over(word)).unwrap_or_default()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_kin(name: &str) -> bool {
    let name = name.strip_prefix('n').or_else(|| name.strip_prefix('g')).unwrap_or(name);
    name == "vim" || name.starts_with("vim.")
}

/// Of a program called `vi`: whether it is a small Vim, or a script that looks for a Vim, as
/// some distributions have it.
fn says_vim(path: &Path) -> bool {
    if !["vi", "view", "ex"].contains(&&*name_of(path)) {
        return false;
    }
    let program = fs::read(path).unwrap_or_default();
    let word: &[u8] = if program.starts_with(b"#!") { b"vim" } else { b"Vi IMproved" };
    program.windows(word.len()).any(|window| window == word)
}

/// Where the shell would find it.
fn in_path(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vim_is_known_by_its_name() {
        let plain = ["vim", "/usr/bin/vim -u NONE", "nvim", "'gvim' -f", "vim.tiny"];
        let behind = ["LANG=C vim", "env LANG=C vim -f", "/usr/bin/env vim", "nice -10 nvim"];
        for line in plain.into_iter().chain(behind) {
            assert!(is_vim(OsStr::new(line)), "{line}");
        }
        for line in ["nano", "code --wait", "emacs -nw", "vimdiffer", "sh -c vim", ""] {
            assert!(!is_vim(OsStr::new(line)), "{line}");
        }
    }

    #[test]
    fn vi_is_vim_where_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let says = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            is_vim(path.as_os_str())
        };
        assert!(says("vi", "#!/bin/sh\nexec vim \"$@\"\n"));
        assert!(says("view", "\x7fELF ... VIM - Vi IMproved 9.0 ..."));
        assert!(!says("vi", "#!/bin/sh\nexec nvi \"$@\"\n"));
        assert!(!says("vi", "\x7fELF ... a vi ..."));
        assert!(!says("edit", "#!/bin/sh\nexec vim \"$@\"\n"));
    }

    #[test]
    fn a_single_command_is_told_from_more() {
        for line in ["vim", "code --wait", "'my editor' -n", "$HOME/bin/edit", "emacs -nw --x=1"] {
            assert!(is_simple(OsStr::new(line)), "{line}");
        }
        for line in ["LANG=C vim", "vim && true", "f() { vim \"$@\"; }; f", "vim | cat"] {
            assert!(!is_simple(OsStr::new(line)), "{line}");
        }
    }

    #[test]
    fn an_editor_that_failed_says_how() {
        let editor = Editor { line: "hx".into(), options: &[] };
        let said = |raw| editor.failed(ExitStatus::from_raw(raw));
        assert!(said(127 << 8).message.contains("set EDITOR"));
        assert_eq!(said(127 << 8).exit, Exit::Usage);
        assert!(said(1 << 8).message.contains("code 1; nothing was stored"));
        assert!(said(2).message.contains("signal 2"));
    }
}
