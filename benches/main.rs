//! What Tenure costs, measured beside what it stands on, in one run: ratios are
//! what matters, since machines differ.
//!
//! Kinds that are compared take turns, so that whatever else the machine does
//! meets all of them. Client and server share the machine; the processor time of
//! the server alone stands beside its requests per second.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark reports")]

mod harness;
mod http;
mod keys;
mod scale;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::Outcome;
use harness::machine::{self, Activity};
use harness::report::Document;

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let run = match words.as_slice() {
        // What this program starts as a server of its own.
        ["--bench", "--serve-bare", tls @ ..] => http::bare::serve(tls),
        words if words.contains(&"--bench") => Options::parse(words).and_then(|o| run(&o)),
        // `cargo test --all-targets` starts it like this.
        _ => {
            println!("run ./benches/run to measure");
            Ok(())
        }
    };
    match run {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches: {problem}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// As `./benches/run` describes them.
struct Options {
    /// All where none is named.
    only: Vec<String>,
    seconds: u64,
    rounds: usize,
    secrets: Vec<usize>,
    tenants: usize,
    against: Option<PathBuf>,
    keep: Option<PathBuf>,
}

impl Options {
    /// `--bench` comes from cargo.
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut options = Self {
            only: Vec::new(),
            seconds: 5,
            rounds: 3,
            secrets: vec![1_000, 100_000, 1_000_000],
            tenants: 10_000,
            against: None,
            keep: None,
        };
        let mut words = words.iter().filter(|word| **word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match *word {
                "http" | "store" | "scale" | "keys" => options.only.push((*word).to_owned()),
                "--long" => options.secrets.push(10_000_000),
                "--seconds" => options.seconds = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--secrets" => {
                    let sizes: Result<_, _> = value()?.split(',').map(str::parse).collect();
                    options.secrets = sizes?;
                }
                "--tenants" => options.tenants = value()?.parse()?,
                "--against" => options.against = Some(value()?.into()),
                "--keep" => options.keep = Some(value()?.into()),
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(options)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn runs(&self, bench: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == bench)
    }
}

fn run(options: &Options) -> Outcome<()> {
    let folder = scratch_folder()?;
    let mut document = Document::new(&machine::describe(folder.path())?);
    let before = Activity::observe();
    if options.runs("http") {
        document.add(http::run(folder.path(), options)?);
    }
    if options.runs("store") {
        document.add(store::run(folder.path(), options)?);
    }
    if options.runs("keys") {
        document.add(keys::run(folder.path(), options)?);
    }
    if options.runs("scale") {
        let stores = options.keep.as_deref().unwrap_or(folder.path());
        scale::run(stores, options)?.into_iter().for_each(|section| document.add(section));
    }
    let after = Activity::observe();
    let caution = if before.is_busy() || after.is_busy() {
        " It was busy with other work, so that rates are too low, the highest latencies far too \
          high, and ratios of little worth."
    } else {
        ""
    };
    document.note(&format!(
        "Each kind was measured for {} s in each of {} rounds, in turns. Beside this run the \
         machine did, before it: {before}; and after it: {after}.{caution}",
        options.seconds, options.rounds,
    ));
    if options.only.is_empty() && options.against.is_none() && options.keep.is_none() {
        document.write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"))?;
    }
    Ok(())
}

/// Beside the build, so on a disk: a folder in memory would sync for nothing.
fn scratch_folder() -> Outcome<tempfile::TempDir> {
    let target = Path::new(env!("CARGO_BIN_EXE_tenure")).parent().ok_or("no build folder")?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(target)?)
}
