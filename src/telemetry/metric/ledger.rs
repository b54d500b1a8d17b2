//! The series whose labels the policy names, counted as things happen, and their text form.
//!
//! A series is one number, or one row of buckets, under a key of its label values: with thousands
//! of endpoints, what a series costs is what the sidecar weighs. Nothing is buffered between
//! scrapes, so nothing has to be tidied up when nobody scrapes.
//!
//! Invariants
//! 1. Every series is of a [`Metric`] of the catalogue and has exactly its labels.
//! 2. What is forgotten is gone from the next scrape on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::catalogue::{Kind, Metric};
use super::{float, recorder};

/// Keeps label values apart in a key; no name and no word of ours holds it.
const SEPARATOR: char = '\u{1f}';

static LEDGER: Mutex<Ledger> = Mutex::new(Ledger { families: BTreeMap::new(), key: String::new() });

struct Ledger {
    families: BTreeMap<&'static str, Family>,
    /// Where keys are put together, so that counting allocates nothing.
    key: String,
}

/// The series of one metric, by their label values.
#[derive(Default)]
struct Family {
    labels: &'static [&'static str],
    series: BTreeMap<Box<str>, Value>,
}

enum Value {
    Number(f64),
    Spread(Box<Spread>),
}

/// A distribution.
struct Spread {
    /// How many fell into each bucket; the last one has no upper bound.
    counts: Box<[u64]>,
    sum: f64,
}

impl Ledger {
    /// Shows the series of these labels to `change`, made by `new` when it is not there yet.
    fn with(
        &mut self,
        metric: &'static Metric,
        values: &[&str],
        new: impl FnOnce() -> Value,
        change: impl FnOnce(&mut Value),
    ) {
        debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
        self.key.clear();
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.key.push(SEPARATOR);
            }
            self.key.push_str(value);
        }
        let family = self.families.entry(metric.name).or_default();
        family.labels = metric.labels;
        if let Some(value) = family.series.get_mut(self.key.as_str()) {
            change(value);
        } else {
            let mut value = new();
            change(&mut value);
            family.series.insert(self.key.as_str().into(), value);
        }
    }
}

pub(super) fn add(metric: &'static Metric, values: &[&str], count: u64) {
    debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
    if recorder::keeps(metric) {
        return recorder::add(metric, values, count);
    }
    let new = || Value::Number(0.0);
    lock().with(metric, values, new, |value| {
        if let Value::Number(number) = value {
            *number += float(count);
        }
    });
}

pub(super) fn set(metric: &'static Metric, values: &[&str], value: f64) {
    debug_assert_ne!(metric.kind, Kind::Histogram, "{}", metric.name);
    // The library counts in whole numbers; a counter that is set counts seconds.
    if recorder::keeps(metric) && metric.kind == Kind::Gauge {
        return recorder::set(metric, values, value);
    }
    let new = || Value::Number(value);
    lock().with(metric, values, new, |known| *known = Value::Number(value));
}

pub(super) fn observe(metric: &'static Metric, values: &[&str], span: Duration) {
    debug_assert_eq!(metric.kind, Kind::Histogram, "{}", metric.name);
    if recorder::keeps(metric) {
        return recorder::observe(metric, values, span);
    }
    let seconds = span.as_secs_f64();
    let bucket = metric.buckets.partition_point(|bound| *bound < seconds);
    let new = || {
        let counts = vec![0; metric.buckets.len() + 1].into_boxed_slice();
        Value::Spread(Box::new(Spread { counts, sum: 0.0 }))
    };
    lock().with(metric, values, new, |value| {
        if let Value::Spread(spread) = value {
            spread.sum += seconds;
            if let Some(count) = spread.counts.get_mut(bucket) {
                *count = count.saturating_add(1);
            }
        }
    });
}

/// Drops every series whose labels `gone` recognises.
pub(super) fn forget(gone: impl Fn(&Labels<'_>) -> bool) {
    for family in lock().families.values_mut() {
        let names = family.labels;
        family.series.retain(|key, _| !gone(&Labels { names, key }));
    }
}

/// The labels of one series.
pub(super) struct Labels<'a> {
    names: &'a [&'static str],
    key: &'a str,
}

impl Labels<'_> {
    /// The value of one label, if the series has it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let at = self.names.iter().position(|candidate| *candidate == name)?;
        self.key.split(SEPARATOR).nth(at)
    }
}

/// Writes the samples of one metric.
pub(super) fn write(metric: &'static Metric, page: &mut Page<'_>) {
    let ledger = lock();
    let Some(family) = ledger.families.get(metric.name) else { return };
    for (key, value) in &family.series {
        let values: Vec<&str> = key.split(SEPARATOR).collect();
        match value {
            Value::Number(number) => page.sample(metric, &values, *number),
            Value::Spread(spread) => page.spread(metric, &values, (&spread.counts, spread.sum)),
        }
    }
}

/// The text that a scrape gets, in the exposition format of Prometheus.
pub(super) struct Page<'a> {
    text: &'a mut String,
    headed: bool,
}

impl<'a> Page<'a> {
    /// Adds one metric to `text`; a metric without samples leaves no trace.
    pub(super) const fn new(text: &'a mut String) -> Self {
        Self { text, headed: false }
    }

    pub(super) fn sample(&mut self, metric: &Metric, values: &[&str], number: f64) {
        self.head(metric);
        self.line((metric, ""), values, None, number);
    }

    fn spread(&mut self, metric: &Metric, values: &[&str], (counts, sum): (&[u64], f64)) {
        self.head(metric);
        let mut total = 0_u64;
        let bounds = metric.buckets.iter().copied().chain([f64::INFINITY]);
        for (count, bound) in counts.iter().zip(bounds) {
            total = total.saturating_add(*count);
            self.line((metric, "_bucket"), values, Some(bound), float(total));
        }
        self.line((metric, "_sum"), values, None, sum);
        self.line((metric, "_count"), values, None, float(total));
    }

    fn head(&mut self, metric: &Metric) {
        if !std::mem::replace(&mut self.headed, true) {
            let Metric { name, help, kind, .. } = metric;
            let kind = kind.label();
            self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
    }

    fn line(
        &mut self,
        (metric, suffix): (&Metric, &str),
        values: &[&str],
        bound: Option<f64>,
        number: f64,
    ) {
        self.text.push_str(metric.name);
        self.text.push_str(suffix);
        let mut mark = '{';
        for (label, value) in metric.labels.iter().zip(values) {
            self.text.push(mark);
            mark = ',';
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(value, self.text);
            self.text.push('"');
        }
        match bound {
            Some(bound) if bound.is_finite() => self.put(format_args!("{mark}le=\"{bound}\"}} ")),
            Some(_) => self.put(format_args!("{mark}le=\"+Inf\"}} ")),
            None if mark == ',' => self.text.push_str("} "),
            None => self.text.push(' '),
        }
        self.put(format_args!("{number}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory cannot fail; the error type is that of the trait.
        let _never: std::fmt::Result = self.text.write_fmt(text);
    }
}

fn escape(value: &str, text: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Ledger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::{ALERTS_QUEUED, LOOP_LAG};
    use super::*;

    #[test]
    fn a_distribution_is_shown_as_rising_sums() {
        let mut text = String::new();
        let counts = [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];
        Page::new(&mut text).spread(&LOOP_LAG, &[], (&counts, 7.5));
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines[0], "mcp_failover_loop_lag_seconds_bucket{le=\"0.0001\"} 1");
        assert_eq!(lines[1], "mcp_failover_loop_lag_seconds_bucket{le=\"0.0005\"} 1");
        assert_eq!(lines[2], "mcp_failover_loop_lag_seconds_bucket{le=\"0.001\"} 3");
        assert_eq!(lines[8], "mcp_failover_loop_lag_seconds_bucket{le=\"1\"} 3");
        assert_eq!(lines[10], "mcp_failover_loop_lag_seconds_bucket{le=\"+Inf\"} 4");
        assert_eq!(
            lines[11..],
            ["mcp_failover_loop_lag_seconds_sum 7.5", "mcp_failover_loop_lag_seconds_count 4"]
        );
    }

    #[test]
    fn a_label_value_cannot_break_out_of_its_quotes() {
        let mut text = String::new();
        Page::new(&mut text).sample(&ALERTS_QUEUED, &["a\"}\n\\"], 2.0);
        let line = text.lines().nth(2).expect("a sample");
        assert_eq!(line, "mcp_failover_alerts_queued{alert=\"a\\\"}\\n\\\\\"} 2");
    }

    #[test]
    fn a_metric_without_samples_leaves_no_trace() {
        let mut text = String::new();
        Page::new(&mut text);
        assert!(text.is_empty());
    }

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let buckets = LOOP_LAG.buckets;
        assert_eq!(buckets.partition_point(|bound| *bound < 0.001), 2);
        assert_eq!(buckets.partition_point(|bound| *bound < 9.0), buckets.len());
    }
}
