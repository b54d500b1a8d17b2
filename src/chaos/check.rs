//! One measurement, and what it is held against.

use std::time::Duration;

/// A number with its unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quantity {
    /// A span of time.
    Time(Duration),
    /// How often, or how many.
    Count(u64),
    /// Bytes.
    Bytes(u64),
}

impl Quantity {
    /// As a number in its base unit: seconds, or as it is.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Self::Time(span) => span.as_secs_f64(),
            Self::Count(count) | Self::Bytes(count) => {
                u32::try_from(count).map_or(f64::MAX, f64::from)
            }
        }
    }

    /// The unit's name in reports.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Time(_) => "seconds",
            Self::Count(_) => "count",
            Self::Bytes(_) => "bytes",
        }
    }
}

/// What a measurement is held against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// No more than this.
    AtMost(Quantity),
    /// No less than this.
    AtLeast(Quantity),
    /// Exactly this.
    Exactly(Quantity),
    /// Nothing: it is only told.
    Told,
}

impl Limit {
    /// Its name in reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::AtMost(_) => "at_most",
            Self::AtLeast(_) => "at_least",
            Self::Exactly(_) => "exactly",
            Self::Told => "told",
        }
    }
}

/// One measurement and what it is held against.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Its name in reports.
    pub id: &'static str,
    /// What was measured; `None` when it was not seen.
    pub measured: Option<Quantity>,
    /// What it is held against.
    pub limit: Limit,
    /// What else there is to say when it does not hold.
    pub why: String,
}

impl Check {
    pub(super) fn time(id: &'static str, measured: Option<Duration>, bound: Duration) -> Self {
        let (measured, limit) =
            (measured.map(Quantity::Time), Limit::AtMost(Quantity::Time(bound)));
        Self { id, measured, limit, why: String::new() }
    }

    pub(super) const fn most(id: &'static str, measured: Quantity, most: Quantity) -> Self {
        let limit = Limit::AtMost(most);
        Self { id, measured: Some(measured), limit, why: String::new() }
    }

    pub(super) const fn exactly(id: &'static str, measured: u64, wanted: u64) -> Self {
        let limit = Limit::Exactly(Quantity::Count(wanted));
        Self { id, measured: Some(Quantity::Count(measured)), limit, why: String::new() }
    }

    pub(super) const fn told(id: &'static str, measured: Quantity) -> Self {
        Self { id, measured: Some(measured), limit: Limit::Told, why: String::new() }
    }

    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// Whether it is as it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        match (self.measured, self.limit) {
            (_, Limit::Told) => true,
            (None, _) => false,
            (Some(Quantity::Time(measured)), Limit::AtMost(Quantity::Time(most))) => {
                measured <= most
            }
            (Some(measured), Limit::AtMost(most)) => measured.number() <= most.number(),
            (Some(measured), Limit::AtLeast(least)) => measured.number() >= least.number(),
            (Some(measured), Limit::Exactly(wanted)) => measured == wanted,
        }
    }

    /// Why it does not hold, in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        let measured = self.measured.map_or_else(|| "not seen".to_owned(), shown);
        let limit = match self.limit {
            Limit::AtMost(most) => format!("at most {}", shown(most)),
            Limit::AtLeast(least) => format!("at least {}", shown(least)),
            Limit::Exactly(wanted) => format!("{} wanted", shown(wanted)),
            Limit::Told => String::new(),
        };
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        format!("{} is {measured}, {limit}{why}", self.id.replace('_', " "))
    }
}

/// A quantity for people: `0.412 s`, `3`, `120 KiB`.
#[must_use]
pub fn shown(quantity: Quantity) -> String {
    match quantity {
        Quantity::Time(span) => format!("{:.3} s", span.as_secs_f64()),
        Quantity::Count(count) => count.to_string(),
        Quantity::Bytes(bytes) => format!("{} KiB", bytes / 1024),
    }
}
