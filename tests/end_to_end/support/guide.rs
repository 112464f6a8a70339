//! The commands of a document, for tests that follow it.

use std::collections::BTreeMap;

/// Its blocks of commands, by the word that follows `sh`; those without one are examples.
pub fn steps(guide: &str) -> BTreeMap<String, String> {
    let mut steps = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in guide.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(words)) => {
                let name = words.strip_prefix("sh").map(|name| name.trim().to_owned());
                open = Some((name.unwrap_or_default(), String::new()));
            }
            (Some(_), Some(_)) => {
                let (name, commands) = open.take().expect("it is open");
                if !name.is_empty() {
                    assert!(steps.insert(name, commands).is_none(), "each step has a name");
                }
            }
            (Some((_, commands)), None) => *commands += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    steps
}
