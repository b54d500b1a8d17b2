//! The series of the program itself, kept by the metrics library and its Prometheus exporter.
//!
//! Their labels hold words of the program only, so they are few and live as long as the process.
//! What the policy names comes and goes with it, and by the thousand; the library keeps a series
//! for ever, at about a kibibyte each, so those stand in [`super::ledger`].

use std::sync::OnceLock;
use std::time::Duration;

use metrics::Label;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::catalogue::{CATALOGUE, Kind, Metric, Unit};

/// Labels whose values the policy makes.
const OF_THE_POLICY: [&str; 4] = ["service", "endpoint", "output", "alert"];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Whether the library keeps this metric.
pub(super) fn keeps(metric: &Metric) -> bool {
    !metric.labels.iter().any(|label| OF_THE_POLICY.contains(label))
}

/// Starts collecting; only the first call does anything.
pub(super) fn install() {
    RECORDER.get_or_init(|| {
        // Fails only when something else in this process collects metrics, which gets them then.
        let handle = build().map_err(|error| tracing::error!(%error, "no metrics")).ok()?;
        CATALOGUE.iter().filter(|metric| keeps(metric)).for_each(|metric| describe(metric));
        Some(handle)
    });
}

fn build() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in CATALOGUE.iter().filter(|metric| metric.kind == Kind::Histogram) {
        let name = Matcher::Full(metric.name.to_owned());
        builder = builder.set_buckets_for_metric(name, metric.buckets)?;
    }
    builder.install_recorder()
}

fn describe(metric: &Metric) {
    let unit = match metric.unit {
        Unit::Count => metrics::Unit::Count,
        Unit::Seconds => metrics::Unit::Seconds,
        Unit::Bytes => metrics::Unit::Bytes,
        Unit::Ratio => metrics::Unit::Percent,
    };
    match metric.kind {
        Kind::Counter => metrics::describe_counter!(metric.name, unit, metric.help),
        Kind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.help),
        Kind::Histogram => metrics::describe_histogram!(metric.name, unit, metric.help),
    }
}

pub(super) fn add(metric: &'static Metric, values: &[&str], count: u64) {
    metrics::counter!(metric.name, labels(metric, values)).increment(count);
}

pub(super) fn set(metric: &'static Metric, values: &[&str], value: f64) {
    metrics::gauge!(metric.name, labels(metric, values)).set(value);
}

pub(super) fn observe(metric: &'static Metric, values: &[&str], span: Duration) {
    metrics::histogram!(metric.name, labels(metric, values)).record(span.as_secs_f64());
}

fn labels(metric: &'static Metric, values: &[&str]) -> Vec<Label> {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let pairs = metric.labels.iter().zip(values);
    pairs.map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
}

/// All that the library keeps, in the text exposition format of Prometheus.
pub(super) fn render() -> String {
    handle().map(PrometheusHandle::render).unwrap_or_default()
}

/// Moves what histograms have buffered into their buckets; without it they grow between scrapes.
pub(super) fn upkeep() {
    if let Some(handle) = handle() {
        handle.run_upkeep();
    }
}

fn handle() -> Option<&'static PrometheusHandle> {
    RECORDER.get().and_then(Option::as_ref)
}
