//! What is counted and timed while this program serves.
//!
//! It stands below all layers, as the log does: whoever does something countable says
//! so here, and the edge shows the sum. Before [`begin`], and so in every command that
//! serves nothing, what is said goes nowhere, and nothing gathers that nobody reads.
//!
//! Guaranteed here: a label's value is `'static`, a word of the program. What a client
//! sent cannot become one, so that no name, path or credential is ever shown, and the
//! number of series is bounded by the program's text.
//!
//! This module must not know what a secret, a request or a store is.

mod exporter;
mod series;

use std::sync::OnceLock;
use std::time::Duration;

use exporter::Exporter;
pub use exporter::{Counter, Histogram};
pub use series::*;

static METERS: OnceLock<Meters> = OnceLock::new();

/// Labels of a series, in the order in which it names them.
pub type Labels<'l> = &'l [&'static str];

/// Counts from here on. Whoever calls it calls [`Meters::keep_up`] every second.
pub fn begin() -> &'static Meters {
    METERS.get_or_init(Meters::new)
}

/// `None` where nothing is served.
pub fn meters() -> Option<&'static Meters> {
    METERS.get()
}

/// Whether what was looked for was at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    Hit,
    Miss,
}

/// Whether copies of the audit are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    Well,
    Failing,
}

/// A token was looked for among those that were verified.
pub fn token_looked_up(lookup: Lookup) {
    if let Some(meters) = meters() {
        meters.tokens.count(lookup);
    }
}

/// The sorted names of a tenant were looked for.
pub fn list_looked_up(lookup: Lookup) {
    if let Some(meters) = meters() {
        meters.lists.count(lookup);
    }
}

/// So many batches were made durable together, in so long a time.
pub fn synced(batches: usize, took: Duration) {
    if let Some(meters) = meters() {
        meters.batches.add(batches as u64);
        meters.syncs.took(took);
    }
}

/// A credential was refused.
pub fn refused(reason: &'static str) {
    if let Some(meters) = meters() {
        meters.exporter.counter(&AUTHENTICATION_FAILURES, &[reason]).add(1);
    }
}

/// An expired secret was removed.
pub fn swept() {
    if let Some(meters) = meters() {
        meters.swept.add(1);
    }
}

/// A sweep of all tenants ended.
pub fn sweep_ended() {
    if let Some(meters) = meters() {
        meters.sweeps.add(1);
    }
}

/// So many entries of reads and refusals were stored.
pub fn audit_recorded(entries: u64) {
    if let Some(meters) = meters() {
        meters.recorded.add(entries);
    }
}

/// So many could not be.
pub fn audit_lost(entries: u64) {
    if let Some(meters) = meters() {
        meters.lost.add(entries);
    }
}

/// So many entries were copied to this place.
pub fn audit_copied(to: &'static str, entries: u64) {
    if let Some(meters) = meters() {
        meters.exporter.counter(&AUDIT_COPIED, &[to]).add(entries);
    }
}

/// So many cannot be copied there any more.
pub fn audit_uncopied(to: &'static str, entries: u64) {
    if let Some(meters) = meters() {
        meters.exporter.counter(&AUDIT_UNCOPIED, &[to]).add(entries);
    }
}

/// How it stands with copies to this place.
pub fn audit_copying(to: &'static str, behind: Duration, copying: Copying) {
    if let Some(meters) = meters() {
        meters.set(&AUDIT_COPIES_BEHIND, &[to], behind.as_secs_f64());
        meters.set(&AUDIT_COPIES_FAILING, &[to], f64::from(copying == Copying::Failing));
    }
}

/// Everything that is counted. What is counted often is found without a look-up.
pub struct Meters {
    exporter: Exporter,
    tokens: Lookups,
    lists: Lookups,
    batches: Counter,
    syncs: Histogram,
    sweeps: Counter,
    swept: Counter,
    recorded: Counter,
    lost: Counter,
}

impl Meters {
    fn new() -> Self {
        let exporter = Exporter::new(SERIES);
        Self {
            tokens: Lookups::of(&exporter, &TOKEN_LOOKUPS),
            lists: Lookups::of(&exporter, &LIST_LOOKUPS),
            batches: exporter.counter(&COMMIT_BATCHES, &[]),
            syncs: exporter.histogram(&SYNC_DURATION, &[]),
            sweeps: exporter.counter(&SWEEPS, &[]),
            swept: exporter.counter(&SWEPT_SECRETS, &[]),
            recorded: exporter.counter(&AUDIT_RECORDED, &[]),
            lost: exporter.counter(&AUDIT_LOST, &[]),
            exporter,
        }
    }

    /// For whoever counts often, and keeps it.
    pub fn counter(&self, series: &'static Series, labels: Labels<'_>) -> Counter {
        self.exporter.counter(series, labels)
    }

    /// For whoever times often, and keeps it.
    pub fn histogram(&self, series: &'static Series, labels: Labels<'_>) -> Histogram {
        self.exporter.histogram(series, labels)
    }

    /// Says how it stands. Seldom: it is looked up each time.
    pub fn set(&self, series: &'static Series, labels: Labels<'_>, value: f64) {
        self.exporter.set(series, labels, value);
    }

    /// The same for what somebody else counts.
    pub fn set_total(&self, series: &'static Series, labels: Labels<'_>, total: u64) {
        self.exporter.counter(series, labels).set(total);
    }

    /// In the text format of Prometheus (version 0.0.4).
    pub fn text(&self) -> String {
        self.exporter.text()
    }

    /// Sums up what was timed: until then each time that was taken is kept.
    pub fn keep_up(&self) {
        self.exporter.keep_up();
    }
}

struct Lookups {
    hits: Counter,
    misses: Counter,
}

impl Lookups {
    fn of(exporter: &Exporter, series: &'static Series) -> Self {
        let of = |result| exporter.counter(series, &[result]);
        Self { hits: of("hit"), misses: of("miss") }
    }

    fn count(&self, lookup: Lookup) {
        match lookup {
            Lookup::Hit => self.hits.add(1),
            Lookup::Miss => self.misses.add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_with_its_help_and_type() {
        let meters = Meters::new();
        meters.tokens.count(Lookup::Hit);
        meters.syncs.took(Duration::from_micros(300));
        meters.set(&SECRETS, &["valid"], 7.0);
        let text = meters.text();
        for line in [
            "# TYPE tenure_token_lookups_total counter",
            "tenure_token_lookups_total{result=\"hit\"} 1",
            "tenure_token_lookups_total{result=\"miss\"} 0",
            "# TYPE tenure_store_sync_duration_seconds histogram",
            "tenure_store_sync_duration_seconds_bucket{le=\"0.00025\"} 0",
            "tenure_store_sync_duration_seconds_bucket{le=\"0.0005\"} 1",
            "tenure_store_sync_duration_seconds_count 1",
            "# TYPE tenure_secrets gauge",
            "tenure_secrets{state=\"valid\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
        assert!(text.contains("# HELP tenure_secrets "), "{text}");
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for Series { name, kind, help, labels } in SERIES {
            let ours = name.starts_with("tenure_") || name.starts_with("process_");
            assert!(ours, "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && labels.len() <= 4, "{name}");
            assert_eq!(name.ends_with("_duration_seconds"), *kind == Kind::Histogram, "{name}");
        }
        let names: std::collections::BTreeSet<_> =
            SERIES.iter().map(|series| series.name).collect();
        assert_eq!(names.len(), SERIES.len(), "a name stands for two");
    }
}
