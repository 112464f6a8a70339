//! `tenure man`: a manual page for each command, made of its definition.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::failure::CliError;
use super::internal;
use super::maintain::Output;

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for every command into this folder, which is made where it is missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn man(args: ManArgs, output: Output) -> Result<(), CliError> {
    let mut command = super::definition().disable_help_subcommand(true);
    command.build();
    let Some(folder) = args.dir else {
        let page = Page::of(command).map_err(internal)?;
        let mut stdout = std::io::stdout().lock();
        return stdout.write_all(&page.text).and_then(|()| stdout.flush()).map_err(internal);
    };
    let cannot =
        |error| CliError::usage(format!("{} cannot be written to: {error}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(cannot)?;
    let mut names = Vec::new();
    for page in pages(command).map_err(internal)? {
        std::fs::write(folder.join(&page.name), &page.text).map_err(cannot)?;
        names.push(page.name);
    }
    output.show(&serde_json::json!({ "pages": names }), || {
        format!("{} pages in {}\n", names.len(), folder.display())
    })
}

/// One page, by the name of its file.
struct Page {
    name: String,
    text: Vec<u8>,
}

fn pages(command: Command) -> std::io::Result<Vec<Page>> {
    let mut all = Vec::new();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        all.extend(pages(below.clone())?);
    }
    all.push(Page::of(command)?);
    Ok(all)
}

impl Page {
    fn of(command: Command) -> std::io::Result<Self> {
        let end = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let has_commands = command.has_subcommands();
        // The library would run the lines of the examples together.
        let man = Man::new(command.after_help(Resettable::Reset));
        let man = man.source(concat!("tenure ", env!("CARGO_PKG_VERSION"))).manual("Tenure");
        let mut text = Vec::new();
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if has_commands {
            man.render_subcommands_section(&mut text)?;
        }
        closing(&end).to_writer(&mut text)?;
        Ok(Self { name: man.get_filename(), text })
    }
}

/// Examples as they are to be typed, and what is said below them.
fn closing(text: &str) -> Roff {
    let mut roff = Roff::default();
    let mut in_example = false;
    for line in text.lines() {
        let is_example = line.starts_with("  ");
        if is_example != in_example {
            roff.control(if is_example { "EX" } else { "EE" }, []);
            in_example = is_example;
        }
        match line.strip_suffix(':') {
            Some(heading) if !is_example => roff.control("SH", [heading.to_uppercase().as_str()]),
            _ if line.is_empty() => roff.control("PP", []),
            _ => roff.text([roman(line)]),
        };
    }
    if in_example {
        roff.control("EE", []);
    }
    roff
}
