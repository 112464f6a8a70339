//! docs/cli.md says of the commands what their definitions say.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use clap::{Arg, Command};

/// Between these lines, in the document, everything is written by this test.
const PARTS: [(&str, Part); 2] = [("table of commands", table), ("every command", reference)];
type Part = fn(&Command) -> String;
const HOW: &str = "UPDATE_DOCS=1 cargo test --test project commands";

#[test]
fn the_document_on_the_command_line_is_what_the_definitions_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let found = fs::read_to_string(&path).unwrap();
    let mut command = tenure::cli::definition().disable_help_subcommand(true);
    command.build();
    let made = PARTS.iter().fold(found.clone(), |text, (name, part)| {
        let [begin, end] =
            ["begin", "end"].map(|word| format!("<!-- {word}: {name}; made by {HOW} -->\n"));
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
        format!("{before}{begin}\n{}\n{end}{after}", part(&command).trim_end())
    });
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert!(made == found, "docs/cli.md is stale; run: {HOW}");
    }
}

fn table(command: &Command) -> String {
    let mut table = "| command | does |\n| --- | --- |\n".to_owned();
    for (words, command) in leaves(command, "tenure") {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let anchor = words.replace(' ', "-");
        writeln!(table, "| [`{words}`](#{anchor}) | {} |", escaped(&about)).unwrap();
    }
    table
}

fn reference(command: &Command) -> String {
    leaves(command, "tenure").iter().map(|(words, command)| section(words, command)).collect()
}

/// Commands that do something, in the order in which they are defined.
fn leaves<'c>(command: &'c Command, words: &str) -> Vec<(String, &'c Command)> {
    if !command.has_subcommands() {
        return vec![(words.to_owned(), command)];
    }
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.flat_map(|below| leaves(below, &format!("{words} {}", below.get_name()))).collect()
}

fn section(words: &str, command: &Command) -> String {
    let said = command.get_long_about().or_else(|| command.get_about());
    let said = said.map(ToString::to_string).unwrap_or_default();
    let mut text = format!("### {words}\n");
    // The first of them is a heading in --help, and so without a full stop.
    for paragraph in said.split("\n\n") {
        write!(text, "\n{}.\n", escaped(paragraph.trim().trim_end_matches('.'))).unwrap();
    }
    write!(text, "\n```text\n{}\n```\n\n", usage(words, command)).unwrap();
    let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_everywhere(arg));
    for arg in arguments {
        writeln!(text, "- {}", item(arg)).unwrap();
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if text.ends_with("\n\n") {
        text + &examples(&after) + "\n"
    } else {
        text + "\n" + &examples(&after) + "\n"
    }
}

fn usage(words: &str, command: &Command) -> String {
    let usage = command.clone().bin_name(words).render_usage().to_string();
    usage.trim_start_matches("Usage: ").trim().to_owned()
}

/// Said once, in front of them all.
fn is_everywhere(arg: &Arg) -> bool {
    ["help", "json", "version"].contains(&arg.get_id().as_str())
}

fn item(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let values = values.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ");
    let takes = arg.get_num_args().is_some_and(|number| number.takes_values());
    let name = match (arg.get_long(), takes) {
        (Some(long), true) => format!("--{long} {values}"),
        (Some(long), false) => format!("--{long}"),
        (None, _) => values,
    };
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text =
        format!("`{name}`: {}", escaped(&help.map(ToString::to_string).unwrap_or_default()));
    let possible: Vec<_> =
        arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if takes && !possible.is_empty() && !arg.is_hide_possible_values_set() {
        write!(text, " [{}]", possible.join(", ")).unwrap();
    }
    if let Some(variable) = arg.get_env() {
        write!(text, " [env: {}]", variable.to_string_lossy()).unwrap();
    }
    let defaults: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        write!(text, " [default: {}]", defaults.join(" ")).unwrap();
    }
    text
}

/// Lines that are to be typed, and what is said below them.
fn examples(after: &str) -> String {
    let (mut text, mut in_example) = (String::new(), false);
    for line in after.lines() {
        let is_example = line.starts_with("  ");
        if is_example != in_example {
            text += if is_example { "```sh\n" } else { "```\n" };
        }
        in_example = is_example;
        match line {
            "Example:" => {}
            line if is_example => writeln!(text, "{}", line.trim_start()).unwrap(),
            line => writeln!(text, "{}", escaped(line)).unwrap(),
        }
    }
    if in_example { text + "```\n" } else { text }
}

/// One line, in which nothing is a mark of Markdown.
fn escaped(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace('*', "\\*").replace('<', "\\<").replace('|', "\\|")
}
