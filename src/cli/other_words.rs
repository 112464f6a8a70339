//! "Did you mean", for words that other programs have for what is called otherwise here: by
//! their letters, which is what clap compares, nobody could guess.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::secret::near;

/// A word, and what may be meant by it; what is no subcommand at that place is not.
const WORDS: [(&[&str], &[&str]); 8] = [
    (&["set", "write", "store", "add", "update"], &["put"]),
    (&["add", "new", "make"], &["create", "mint"]),
    (&["create", "issue"], &["mint"]),
    (&["read", "show", "cat", "view"], &["get"]),
    (&["delete", "remove", "del", "destroy", "unset"], &["rm"]),
    (&["rm", "remove", "del", "destroy"], &["delete", "revoke"]),
    (&["delete"], &["revoke"]),
    (&["ls", "dir"], &["list"]),
];

/// The same error; of a subcommand that is not there with what may have been meant, where
/// something is known that clap does not.
pub(super) fn with_tip(
    mut error: Error,
    definition: &Command,
    typed: impl Iterator<Item = OsString>,
) -> Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let there = names_where(definition, typed, word);
    let mut meant = meant_by(word, &there);
    if meant.is_empty()
        && error.kind() == ErrorKind::InvalidSubcommand
        && error.get(ContextKind::SuggestedSubcommand).is_none()
    {
        meant = near(word, &there).into_iter().map(str::to_owned).collect();
    }
    if !meant.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(meant));
    }
    error
}

/// The subcommands that there are where `word` stands.
fn names_where<'d>(
    mut at: &'d Command,
    typed: impl Iterator<Item = OsString>,
    word: &str,
) -> Vec<&'d str> {
    for argument in typed.skip(1).take_while(|argument| argument != word) {
        at = at.find_subcommand(&argument).unwrap_or(at);
    }
    at.get_subcommands().filter(|sub| !sub.is_hide_set()).map(Command::get_name).collect()
}

fn meant_by(word: &str, there: &[&str]) -> Vec<String> {
    let said = WORDS.iter().filter(|(words, _)| words.contains(&word));
    let meant = said.flat_map(|(_, meant)| *meant).filter(|meant| there.contains(meant));
    meant.map(|meant| (*meant).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::definition;
    use super::*;

    fn tip(typed: &str) -> Option<String> {
        let arguments = || std::iter::once("tenure").chain(typed.split(' ')).map(OsString::from);
        let error = definition().try_get_matches_from(arguments()).expect_err("it is none");
        let text = with_tip(error, &definition(), arguments()).to_string();
        assert!(text.starts_with("error: unrecognized subcommand"), "{text}");
        let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "))?;
        tip.split_once(": ").map(|(_, names)| names.to_owned())
    }

    #[test]
    fn a_word_of_another_program_is_told_as_what_it_is_called_here() {
        for (typed, meant) in [
            ("delete db-password", "'rm'"),
            ("remove db-password", "'rm'"),
            ("set db-password", "'put'"),
            ("show db-password", "'get'"),
            ("ls", "'list'"),
            ("tenant rm acme", "'delete'"),
            ("tenant new acme", "'create'"),
            ("token create", "'mint'"),
            ("api-key delete x", "'revoke'"),
        ] {
            assert_eq!(tip(typed).as_deref(), Some(meant), "{typed}");
        }
    }

    #[test]
    fn a_slip_is_told_as_before_and_after_help_too() {
        for (typed, meant) in
            [("statsu", "'status'"), ("token mitn", "'mint'"), ("help audti", "'audit'")]
        {
            assert_eq!(tip(typed).as_deref(), Some(meant), "{typed}");
        }
        assert_eq!(tip("xyzzy"), None);
    }

    #[test]
    fn whoever_is_meant_exists() {
        let everywhere = definition();
        let mut all: Vec<_> = everywhere.get_subcommands().collect();
        all.extend(everywhere.get_subcommands().flat_map(Command::get_subcommands));
        let meant = WORDS.iter().flat_map(|(_, meant)| *meant);
        for meant in meant {
            assert!(all.iter().any(|sub| sub.get_name() == *meant), "{meant}");
        }
    }
}
