//! The metrics libraries, behind types of our own. No other file names them.

use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::Labels;
use super::series::{Kind, Series};

/// Upper ends, in seconds: of a read in memory, of a sync, of a call that waits.
const BUCKETS: [f64; 17] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

const WHENCE: Metadata<'static> = Metadata::new("tenure", Level::INFO, None);

/// Holds all series, and writes them down.
pub(super) struct Exporter {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Exporter {
    pub fn new(series: &[&Series]) -> Self {
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS);
        let recorder = builder.expect("there are buckets").build_recorder();
        for Series { name, kind, help, labels: _ } in series.iter().copied() {
            let (name, help) = ((*name).into(), (*help).into());
            match kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    pub fn counter(&self, series: &Series, values: Labels<'_>) -> Counter {
        Counter(self.recorder.register_counter(&key(series, values), &WHENCE))
    }

    pub fn histogram(&self, series: &Series, values: Labels<'_>) -> Histogram {
        Histogram(self.recorder.register_histogram(&key(series, values), &WHENCE))
    }

    pub fn set(&self, series: &Series, values: Labels<'_>, value: f64) {
        self.recorder.register_gauge(&key(series, values), &WHENCE).set(value);
    }

    pub fn text(&self) -> String {
        self.handle.render()
    }

    pub fn keep_up(&self) {
        self.handle.run_upkeep();
    }
}

fn key(series: &Series, values: Labels<'_>) -> Key {
    debug_assert_eq!(series.labels.len(), values.len(), "{}", series.name);
    let labels = series.labels.iter().zip(values);
    let labels = labels.map(|(label, value)| Label::from_static_parts(label, value));
    Key::from_parts(series.name, labels.collect::<Vec<_>>())
}

/// Rises.
pub struct Counter(metrics::Counter);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.increment(count);
    }

    /// To what somebody else counted.
    pub fn set(&self, total: u64) {
        self.0.absolute(total);
    }
}

/// Tells how often something took how long.
pub struct Histogram(metrics::Histogram);

impl Histogram {
    pub fn took(&self, time: Duration) {
        self.0.record(time.as_secs_f64());
    }
}
