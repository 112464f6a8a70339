//! `tenure render`: a file made of a template and secrets.

mod template;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::failure::{CliError, Exit};
use super::super::maintain::{Output, print};
use super::get;
use super::several::read_all;
use super::target::{Names, Target, TargetArgs};
use super::whole_file::{self, Over};
use crate::client::{Client, Secret};
use crate::domain::{SecretName, SecretValue};

use template::Template;

const MOST_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Args)]
pub(in crate::cli) struct RenderArgs {
    /// File with places for secrets; '-' is standard input
    #[arg(value_name = "TEMPLATE")]
    template: PathBuf,
    /// Write to this file, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Who may read and write the file, in octal
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = mode,
        requires = "output")]
    mode: u32,
    /// Write nothing; say which secrets are needed, and which of them are missing
    #[arg(long, conflicts_with = "output")]
    check: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// Bits for owner, group and others, and no more.
fn mode(text: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or("must be octal digits such as 0600 or 0640, at most 0777")
}

pub(in crate::cli) async fn render(args: RenderArgs, output: Output) -> Result<(), CliError> {
    if output.json && !args.check && args.output.is_none() {
        return Err(CliError::usage(
            "standard output is the rendered text: --json goes with -o FILE or --check",
        ));
    }
    let text = read(&args.template)?;
    let template = Template::parse(&text)
        .map_err(|error| CliError::usage(format!("{}, {error}", shown(&args.template))))?;
    let (client, names) = Target::find(&args.target)?.open()?;
    let needed = Needed::of(&template, &names)?;
    if args.check {
        return check(&client, &names, &needed, output).await;
    }
    let secrets = read_all(&client, &needed.whole).await;
    let secrets = secrets.map_err(|error| names.place.failed(error))?;
    let rendered = fill(&template, &names, &needed, &secrets)?;
    match &args.output {
        None => print(rendered.as_bytes()),
        Some(file) => {
            whole_file::put(file, rendered.as_bytes(), args.mode, Over::AFile)?;
            let written = Written { file: file.display().to_string(), needs: &needed.typed };
            if output.json { output.show(&written, String::new) } else { Ok(()) }
        }
    }
}

/// The secrets of a template, as they are typed and as the server knows them.
struct Needed<'t> {
    typed: Vec<&'t str>,
    whole: Vec<SecretName>,
}

impl<'t> Needed<'t> {
    fn of(template: &'t Template, names: &Names) -> Result<Self, CliError> {
        let typed: Vec<_> = template.names().into_iter().collect();
        let whole = typed.iter().map(|name| names.whole(name)).collect::<Result<_, _>>()?;
        Ok(Self { typed, whole })
    }
}

/// With every secret, or not at all.
fn fill(
    template: &Template,
    names: &Names,
    needed: &Needed<'_>,
    secrets: &[Option<Secret>],
) -> Result<Zeroizing<String>, CliError> {
    let pairs = || needed.typed.iter().zip(secrets);
    let missing: Vec<_> = pairs().filter(|(_, s)| s.is_none()).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        return Err(absent(names, &missing));
    }
    let value = |name: &str| {
        let (_, secret) = pairs().find(|(typed, _)| **typed == name)?;
        secret.as_ref()?.value.as_ref().map(SecretValue::expose)
    };
    template.filled(value).map_err(|name| CliError {
        exit: Exit::NotFound,
        message: format!("the value of '{name}' is null; '| json' writes it so"),
    })
}

fn absent(names: &Names, missing: &[&str]) -> CliError {
    match missing {
        [name] => get::missing(names, name),
        _ => CliError {
            exit: Exit::NotFound,
            message: format!(
                "there are no secrets '{}' in tenant '{}' that are valid now; 'tenure list' shows \
                 which there are",
                missing.join("', '"),
                names.place.tenant
            ),
        },
    }
}

#[derive(Serialize)]
struct Written<'t> {
    file: String,
    needs: &'t [&'t str],
}

#[derive(Serialize)]
struct Checked<'t> {
    needs: &'t [&'t str],
    missing: Vec<&'t str>,
}

async fn check(
    client: &Client,
    names: &Names,
    needed: &Needed<'_>,
    output: Output,
) -> Result<(), CliError> {
    let mut missing = Vec::new();
    for (typed, whole) in needed.typed.iter().zip(&needed.whole) {
        let found = client.describe(whole).await.map_err(|error| names.place.failed(error))?;
        if found.is_none() {
            missing.push(*typed);
        }
    }
    let checked = Checked { needs: &needed.typed, missing };
    output.show(&checked, || {
        let line = |name: &&str| match checked.missing.contains(name) {
            true => format!("{name}  missing\n"),
            false => format!("{name}\n"),
        };
        checked.needs.iter().map(line).collect()
    })?;
    if checked.missing.is_empty() { Ok(()) } else { Err(absent(names, &checked.missing)) }
}

fn read(template: &Path) -> Result<String, CliError> {
    let failed =
        |error: io::Error| CliError::usage(format!("{} cannot be read: {error}", shown(template)));
    let mut bytes = Vec::new();
    let from: &mut dyn Read = if template.as_os_str() == "-" {
        &mut io::stdin().lock()
    } else {
        &mut File::open(template).map_err(failed)?
    };
    from.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(CliError::usage(format!("{} is longer than 1 MiB", shown(template))));
    }
    String::from_utf8(bytes)
        .map_err(|_| CliError::usage(format!("{} is not UTF-8 text", shown(template))))
}

fn shown(template: &Path) -> String {
    match template.as_os_str() == "-" {
        true => "the template on standard input".to_owned(),
        false => template.display().to_string(),
    }
}
