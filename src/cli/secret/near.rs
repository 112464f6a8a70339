//! "Did you mean": what to say of a name that is not there.

use std::io::IsTerminal;

use super::super::failure::{CliError, Exit};
use super::get::missing;
use super::target::Names;
use crate::client::Client;
use crate::domain::SecretName;

/// So many are named at most.
const MOST: usize = 3;

/// With the names that are like it, where a person reads it and the credential may list.
pub(super) async fn missing_but_near(client: &Client, names: &Names, typed: &str) -> CliError {
    let plain = missing(names, typed);
    if !std::io::stderr().is_terminal() {
        return plain;
    }
    // One page: nobody waits for a million names because of a slip.
    let Ok(below) = names.below("") else { return plain };
    let Ok(page) = client.names(&below, None).await else { return plain };
    let shown: Vec<_> = page.items.iter().map(|name: &SecretName| names.shown(name)).collect();
    let tenant = &names.place.tenant;
    let message = if shown.contains(&typed) {
        format!(
            "'{typed}' in tenant '{tenant}' is not valid yet; 'tenure list --long' shows from when"
        )
    } else {
        let near = near(typed, &shown);
        if near.is_empty() {
            return plain;
        }
        format!("there is no secret '{typed}' in tenant '{tenant}'; did you mean {}?", or(&near))
    };
    CliError { exit: Exit::NotFound, message }
}

/// The nearest first.
pub(in crate::cli) fn near<'n>(typed: &str, names: &[&'n str]) -> Vec<&'n str> {
    let typed = folded(typed);
    // A slip for every three characters.
    let most = (typed.chars().count() / 3).max(1);
    let mut near: Vec<_> = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&typed, &folded(name)), *name))
        .filter(|(distance, _)| *distance <= most)
        .collect();
    near.sort_unstable();
    near.into_iter().take(MOST).map(|(_, name)| name).collect()
}

/// What is confused most: case, and the kinds of dashes.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn or(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let names = ["api-key", "db-password", "db-user", "DB_PASSWORD_2"];
        assert_eq!(near("db-pasword", &names), ["db-password", "DB_PASSWORD_2"]);
        assert_eq!(near("DB_USER", &names), ["db-user"]);
        assert_eq!(near("bd-user", &names), ["db-user"]);
        assert!(near("smtp", &names).is_empty());
        assert!(near("x", &names).is_empty());
    }

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        assert_eq!(or(&["a"]), "'a'");
        assert_eq!(or(&["a", "b", "c"]), "'a', 'b' or 'c'");
    }
}
