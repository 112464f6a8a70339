//! The first page of help: commands by what they are for, with those of daily use first.

use clap::Command;

/// What every terminal shows without breaking lines.
const WIDTH: usize = 80;

/// Each command is in one of them.
pub(super) const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Daily commands",
        &[
            "put", "get", "list", "rm", "exists", "edit", "copy", "run", "render", "import",
            "export", "dev",
        ],
    ),
    ("Which server", &["login", "logout", "profile", "whoami"]),
    (
        "Server commands",
        &["init", "serve", "unseal", "seal", "status", "tenant", "token", "api-key"],
    ),
    (
        "Maintenance and the rest",
        &[
            "sweep",
            "verify",
            "audit",
            "compact",
            "backup",
            "dek",
            "kek",
            "config",
            "clock",
            "notify",
            "completions",
            "man",
            "help",
        ],
    ),
];

/// The library has no headings for commands.
pub(super) fn grouped(command: Command) -> Command {
    let mut template = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    let widest = command.get_subcommands().map(|sub| sub.get_name().len()).max().unwrap_or(0);
    for (heading, names) in GROUPS {
        template += &format!("\n{heading}:\n");
        for sub in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            template += &entry(sub.get_name(), widest, &about);
        }
    }
    template += "\nOptions:\n{options}{after-help}";
    command.help_template(template)
}

/// A name, and what is said of it beside it.
fn entry(name: &str, widest: usize, about: &str) -> String {
    let mut lines = vec![format!("  {name:widest$} ")];
    for word in about.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line + 1 + word.chars().count() > WIDTH {
            lines.push(" ".repeat(widest + 3));
        }
        if let Some(line) = lines.last_mut() {
            *line += " ";
            *line += word;
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let mut command = super::super::definition();
        command.build();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&sub.get_name()));
            assert_eq!(groups.count(), 1, "{}", sub.get_name());
        }
    }

    #[test]
    fn what_is_long_goes_on_below_itself() {
        let entry = entry("seal", 7, &"word ".repeat(20));
        for line in entry.lines() {
            assert!(line.len() <= WIDTH, "{line}");
        }
        assert!(entry.starts_with("  seal     word word") && entry.contains("\n           word"));
    }
}
