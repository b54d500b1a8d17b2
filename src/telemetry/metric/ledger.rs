//! The live series, and the recorder behind them.
//!
//! The recorder drops a series only when nothing has touched it since the last scrape but one.
//! The ledger therefore holds a handle of every live counter and gauge and touches them all just
//! before each scrape; a series that is forgotten is no longer touched, and is gone by the second
//! scrape. Histograms carry no endpoint label and stay.
//!
//! Invariants
//! 1. Touch and scrape are one step under one lock, so a live series is never dropped.
//! 2. Every series is of a [`Metric`] of the catalogue and has exactly its labels.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Label};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

use super::catalogue::{CATALOGUE, Kind, Metric, Unit};

/// Long enough to tell two scrapes apart, short enough that the second one forgets.
const IDLE: Duration = Duration::from_millis(1);

type Series = (&'static str, Vec<String>);

static LEDGER: Mutex<BTreeMap<Series, Live>> = Mutex::new(BTreeMap::new());
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// A live series.
struct Live {
    labels: &'static [&'static str],
    handle: Handle,
}

/// The gauge's value is kept because touching it means setting it again.
enum Handle {
    Counter(Counter),
    Gauge(Gauge, f64),
}

/// Why metrics cannot be collected.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Another recorder is installed in this process.
    #[error("install the metric recorder: {0}")]
    Recorder(String),
}

pub(super) fn install() -> Result<(), InstallError> {
    let mut ledger = lock();
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let mask = MetricKindMask::COUNTER | MetricKindMask::GAUGE;
    let mut builder = PrometheusBuilder::new().idle_timeout(mask, Some(IDLE));
    for metric in CATALOGUE.iter().filter(|metric| metric.kind == Kind::Histogram) {
        builder = builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
            .map_err(|error| InstallError::Recorder(error.to_string()))?;
    }
    let handle =
        builder.install_recorder().map_err(|error| InstallError::Recorder(error.to_string()))?;
    ledger.clear();
    for metric in CATALOGUE {
        describe(metric);
    }
    RECORDER.get_or_init(|| handle);
    Ok(())
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
    debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
    let mut ledger = lock();
    let live = ledger.entry(series(metric, values)).or_insert_with(|| {
        let counter = metrics::counter!(metric.name, labels(metric, values));
        Live { labels: metric.labels, handle: Handle::Counter(counter) }
    });
    if let Handle::Counter(counter) = &live.handle {
        counter.increment(count);
    }
}

pub(super) fn set(metric: &'static Metric, values: &[&str], value: f64) {
    debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
    let mut ledger = lock();
    let live = ledger.entry(series(metric, values)).or_insert_with(|| {
        let gauge = metrics::gauge!(metric.name, labels(metric, values));
        Live { labels: metric.labels, handle: Handle::Gauge(gauge, value) }
    });
    if let Handle::Gauge(gauge, latest) = &mut live.handle {
        *latest = value;
        gauge.set(value);
    }
}

pub(super) fn observe(metric: &'static Metric, values: &[&str], span: Duration) {
    debug_assert_eq!(metric.kind, Kind::Histogram, "{}", metric.name);
    metrics::histogram!(metric.name, labels(metric, values)).record(span.as_secs_f64());
}

/// Drops every series whose labels `gone` recognises.
pub(super) fn forget(gone: impl Fn(&Labels<'_>) -> bool) {
    lock().retain(|(_, values), live| !gone(&Labels { names: live.labels, values }));
}

/// The labels of one series.
pub(super) struct Labels<'a> {
    names: &'a [&'static str],
    values: &'a [String],
}

impl Labels<'_> {
    /// The value of one label, if the series has it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let at = self.names.iter().position(|candidate| *candidate == name)?;
        self.values.get(at).map(String::as_str)
    }
}

pub(super) fn render() -> String {
    let ledger = lock();
    for live in ledger.values() {
        match &live.handle {
            Handle::Counter(counter) => counter.increment(0),
            Handle::Gauge(gauge, latest) => gauge.set(*latest),
        }
    }
    RECORDER.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Moves what histograms have buffered into their buckets; without it they grow between scrapes.
pub(super) fn upkeep() {
    if let Some(recorder) = RECORDER.get() {
        recorder.run_upkeep();
    }
}

fn lock() -> std::sync::MutexGuard<'static, BTreeMap<Series, Live>> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn series(metric: &'static Metric, values: &[&str]) -> Series {
    (metric.name, values.iter().map(|value| (*value).to_owned()).collect())
}

fn labels(metric: &'static Metric, values: &[&str]) -> Vec<Label> {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let pairs = metric.labels.iter().zip(values);
    pairs.map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
}
