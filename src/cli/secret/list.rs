//! `tenure list`: which secrets there are.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::super::clock::SystemClock;
use super::super::failure::CliError;
use super::super::internal;
use super::super::maintain::Output;
use super::table::{Look, Table};
use super::target::{Names, Target, TargetArgs};
use crate::client::{Client, Description, Page, State, Version};
use crate::domain::{Clock, NamePrefix, SecretName, TimeSpan};

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Only names that begin with it
    #[arg(value_name = "BEGINNING", default_value = "", hide_default_value = true)]
    beginning: String,
    /// A table with state, window and version
    #[arg(long)]
    long: bool,
    /// Only what ends within so long from now, such as 14d
    #[arg(long, value_name = "D")]
    expiring_within: Option<TimeSpan>,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn list(args: ListArgs, output: Output) -> Result<(), CliError> {
    let ListArgs { beginning, long, expiring_within: within, target } = args;
    let (client, names) = Target::find(&target)?.open()?;
    let below = names.below(&beginning)?;
    let listing = Listing { client, names, below, within };
    match (long, output.json) {
        (false, true) => listing.names_as_json(output).await,
        (false, false) => listing.print_names().await,
        (true, true) => listing.details_as_json(output).await,
        (true, false) => listing.print_table().await,
    }
}

struct Listing {
    client: Client,
    names: Names,
    below: NamePrefix,
    within: Option<TimeSpan>,
}

impl Listing {
    async fn names_as_json(&self, output: Output) -> Result<(), CliError> {
        let mut shown = Vec::new();
        self.each_name(|page| {
            shown.extend(page.iter().map(|name| self.names.shown(name).to_owned()));
            Ok(Go::On)
        })
        .await?;
        output.show(&shown, String::new)
    }

    async fn print_names(&self) -> Result<(), CliError> {
        let lines = |page: &[SecretName]| -> String {
            page.iter().map(|name| self.names.shown(name).to_owned() + "\n").collect()
        };
        self.each_name(|page| print(&lines(page))).await
    }

    async fn details_as_json(&self, output: Output) -> Result<(), CliError> {
        let mut shown = Vec::new();
        self.each_description(|page| {
            shown.extend(page.iter().map(|secret| Shown::of(&self.names, secret)));
            Ok(Go::On)
        })
        .await?;
        output.show(&shown, String::new)
    }

    async fn print_table(&self) -> Result<(), CliError> {
        let mut table = Table::new(Look::of(&io::stdout()), SystemClock.read().wall);
        self.each_description(|page| match page {
            // A heading over nothing says nothing.
            [] => Ok(Go::On),
            page => print(&table.lines(page, |secret| self.names.shown(&secret.name))),
        })
        .await
    }

    async fn each_name(
        &self,
        mut use_page: impl FnMut(&[SecretName]) -> Result<Go, CliError>,
    ) -> Result<(), CliError> {
        if self.within.is_some() {
            let names = |page: &[Description]| -> Vec<SecretName> {
                page.iter().map(|secret| secret.name.clone()).collect()
            };
            return self.each_description(|page| use_page(&names(page))).await;
        }
        let mut after = None;
        loop {
            let page = self.client.names(&self.below, after.as_ref()).await;
            let page = page.map_err(|error| self.names.place.failed(error))?;
            let go = use_page(&page.items)?;
            after = next(go, page, SecretName::clone);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn each_description(
        &self,
        mut use_page: impl FnMut(&[Description]) -> Result<Go, CliError>,
    ) -> Result<(), CliError> {
        let mut after = None;
        loop {
            let page = match self.within {
                Some(within) => self.client.expiring(&self.below, after.as_ref(), within).await,
                None => self.client.descriptions(&self.below, after.as_ref()).await,
            };
            let page = page.map_err(|error| self.names.place.failed(error))?;
            let go = use_page(&page.items)?;
            after = next(go, page, |secret| secret.name.clone());
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Whether more is wanted. There may be millions: a page is used before the next is asked
/// for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    /// Whoever read them has gone, as `head` does.
    NoFurther,
}

fn next<T>(go: Go, page: Page<T>, name: impl Fn(&T) -> SecretName) -> Option<SecretName> {
    page.items.last().filter(|_| page.more && go == Go::On).map(name)
}

fn print(lines: &str) -> Result<Go, CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Go::On),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Go::NoFurther),
        Err(error) => Err(internal(error)),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    name: String,
    state: State,
    not_before: Option<String>,
    expires_on: Option<String>,
    version: Version,
}

impl Shown {
    fn of(names: &Names, Description { name, version, window, state }: &Description) -> Self {
        Self {
            name: names.shown(name).to_owned(),
            state: *state,
            not_before: window.not_before().map(|time| time.to_string()),
            expires_on: window.expires_on().map(|time| time.to_string()),
            version: version.clone(),
        }
    }
}
