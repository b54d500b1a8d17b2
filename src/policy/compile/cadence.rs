//! When probes run, when breakers trip, when services move: layers and defaults.
//!
//! Each setting comes from the service, else its preset, else `[defaults]`, else what the cost of
//! probing allows. A default that would contradict a given value gives way to it silently; two
//! given values that contradict each other are an error.

use std::time::Duration;

use crate::core::rules::{
    BreakerMode, BreakerRules, Cadence, FailbackMode, FailbackRules, FailoverRules, FlapRules,
    OnAllDown,
};
use crate::policy::code::Code;
use crate::policy::raw::{self, Cost, CostWord, Ctx, NonNegative, Positive, Probe, Ratio, Span};

/// Longest deadline of one attempt.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);
/// A rate above one: never reached.
const NEVER: u32 = 1001;

/// The defaults that a cost implies, in milliseconds.
struct Defaults {
    interval: u64,
    fast: u64,
    down: u64,
    down_max: u64,
    standby: u64,
    timeout: u64,
    fall: u32,
}

const FREE: Defaults = Defaults {
    interval: 2_000,
    fast: 200,
    down: 2_000,
    down_max: 60_000,
    standby: 10_000,
    timeout: 3_000,
    fall: 3,
};
const METERED: Defaults = Defaults {
    interval: 10_000,
    fast: 1_000,
    down: 10_000,
    down_max: 60_000,
    standby: 60_000,
    timeout: 5_000,
    fall: 3,
};
const DEEP_FREE: Defaults = Defaults {
    interval: 30_000,
    fast: 5_000,
    down: 30_000,
    down_max: 300_000,
    standby: 60_000,
    timeout: 5_000,
    fall: 2,
};
const DEEP_METERED: Defaults = Defaults {
    interval: 300_000,
    fast: 30_000,
    down: 300_000,
    down_max: 900_000,
    standby: 900_000,
    timeout: 10_000,
    fall: 2,
};

const fn defaults(cost: Option<&Cost>, deep: bool) -> &'static Defaults {
    match (cost, deep) {
        (Some(Cost::Word(CostWord::Free)), false) => &FREE,
        (Some(Cost::Word(CostWord::Free)), true) => &DEEP_FREE,
        (Some(Cost::Word(CostWord::Metered) | Cost::Quota(_)) | None, false) => &METERED,
        (Some(Cost::Word(CostWord::Metered) | Cost::Quota(_)) | None, true) => &DEEP_METERED,
    }
}

fn given(span: Option<Positive>) -> Option<Duration> {
    span.map(|span| span.value)
}

fn given0(span: Option<NonNegative>) -> Option<Duration> {
    span.map(|span| span.value)
}

fn permille<const MAX: u32>(ratio: Option<Ratio<MAX>>, default: u32) -> u32 {
    ratio.map_or(default, |ratio| ratio.permille)
}

/// Builds a probe's cadence from its merged layers.
pub(super) fn cadence(
    probe: &Probe,
    cost: Option<&Cost>,
    deep: bool,
    ctx: &mut Ctx<'_>,
) -> Cadence {
    let base = defaults(cost, deep);
    let millis = Duration::from_millis;
    ordered(probe.fast_interval, "fast_interval", probe.interval, "interval", ctx);
    let (down, down_max) = (probe.down_interval, probe.down_interval_max);
    ordered(down, "down_interval", down_max, "down_interval_max", ctx);
    if let Some(timeout) = probe.timeout
        && timeout.value > MAX_TIMEOUT
    {
        let message = "a timeout of more than two minutes";
        ctx.error(Code::TimeoutTooLong, timeout.span, message, "a few seconds are usual");
    }
    let interval = given(probe.interval)
        .or(given(probe.fast_interval).map(|fast| fast.max(millis(base.interval))));
    let interval = interval.unwrap_or(millis(base.interval));
    let down = given(down).unwrap_or_else(|| {
        millis(base.down).max(interval).min(given(down_max).unwrap_or(Duration::MAX))
    });
    Cadence {
        interval,
        fast_interval: given(probe.fast_interval).unwrap_or(millis(base.fast).min(interval)),
        down_interval: down,
        down_interval_max: given(down_max).unwrap_or(millis(base.down_max).max(down)),
        standby_interval: given(probe.standby_interval)
            .unwrap_or(millis(base.standby).max(interval)),
        timeout: given(probe.timeout).unwrap_or(millis(base.timeout)),
        rise: probe.rise.map_or(2, |count| count.value),
        fall: probe.fall.map_or(base.fall, |count| count.value),
        jitter_permille: permille(probe.jitter, 100),
    }
}

/// Reports two given spans of which the first is longer.
fn ordered(
    low: Option<Positive>,
    low_name: &str,
    high: Option<Positive>,
    high_name: &str,
    ctx: &mut Ctx<'_>,
) {
    if let (Some(low), Some(high)) = (low, high)
        && low.value > high.value
    {
        let message = format!("`{low_name}` is longer than `{high_name}`");
        ctx.error(Code::BadOrder, low.span.or(high.span), message, "");
        if low.span != Span::NONE {
            ctx.reporter.also(high.span, "");
        }
    }
}

/// Builds breaker limits from their merged layers.
pub(super) fn breaker(raw: &raw::Breaker, ctx: &mut Ctx<'_>) -> BreakerRules {
    let seconds = Duration::from_secs;
    ordered(raw.reset_timeout, "reset_timeout", raw.reset_timeout_max, "reset_timeout_max", ctx);
    if raw.slow_rate.is_some() && raw.slow_call.is_none() {
        let span = raw.at.of("slow_rate");
        let help = "add `slow_call`: how long a slow call takes";
        ctx.error(Code::MissingKey, span, "`slow_rate` without `slow_call`", help);
    }
    let rate = |permille: u32| if permille == 0 { NEVER } else { permille };
    let reset = given(raw.reset_timeout)
        .unwrap_or_else(|| seconds(60).min(given(raw.reset_timeout_max).unwrap_or(Duration::MAX)));
    let slow = if raw.slow_call.is_some() { permille(raw.slow_rate, 800) } else { 0 };
    BreakerRules {
        mode: match raw.mode.map(|mode| mode.value) {
            Some(raw::BreakerMode::Disabled) => BreakerMode::Disabled,
            Some(raw::BreakerMode::MetricsOnly) => BreakerMode::MetricsOnly,
            Some(raw::BreakerMode::Auto) | None => BreakerMode::Auto,
        },
        failure_threshold: raw.failure_threshold.map_or(5, |count| count.value),
        failure_rate_permille: rate(permille(raw.failure_rate, 500)),
        slow_rate_permille: rate(slow),
        slow_call: given(raw.slow_call).unwrap_or(seconds(60)),
        min_calls: raw.min_calls.map_or(20, |count| count.value),
        window: given(raw.window).unwrap_or(seconds(60)),
        window_buckets: 10,
        reset_timeout: reset,
        reset_timeout_max: given(raw.reset_timeout_max).unwrap_or(seconds(300).max(reset)),
        jitter_permille: permille(raw.jitter, 100),
        half_open_permits: raw.half_open_permits.map_or(2, |count| count.value),
        half_open_passes: raw.half_open_passes.map_or(2, |count| count.value),
        permit_lease: given(raw.permit_lease).unwrap_or(seconds(10)),
    }
}

/// Builds the rules of moving from their merged layers.
pub(super) fn failover(raw: &raw::Failover, probe: &Cadence, ctx: &mut Ctx<'_>) -> FailoverRules {
    let round = probe.fast_interval.saturating_mul(2) + probe.timeout;
    FailoverRules {
        on_all_down: match raw.on_all_down.map(|choice| choice.value) {
            Some(raw::OnAllDown::Preferred) => OnAllDown::Preferred,
            Some(raw::OnAllDown::Fail) => OnAllDown::Fail,
            Some(raw::OnAllDown::Hold) | None => OnAllDown::Hold,
        },
        failback: failback(raw.failback.as_ref()),
        budget: raw.budget.map_or(6, |count| count.value),
        budget_window: given(raw.budget_window).unwrap_or(Duration::from_secs(3600)),
        freshness: given(raw.freshness).unwrap_or(round),
        proof_timeout: given(raw.proof_timeout).unwrap_or(round),
        verify: given0(raw.verify).unwrap_or(probe.interval.saturating_mul(2) + probe.timeout),
        flap: flap(raw.flap.as_ref(), ctx),
    }
}

fn failback(raw: Option<&raw::Failback>) -> FailbackRules {
    let mode = raw.and_then(|raw| raw.mode).map(|mode| mode.value);
    FailbackRules {
        mode: match mode {
            Some(raw::FailbackMode::Manual) => FailbackMode::Manual,
            Some(raw::FailbackMode::Never) => FailbackMode::Never,
            Some(raw::FailbackMode::Auto) | None => FailbackMode::Auto,
        },
        hold: given0(raw.and_then(|raw| raw.hold)).unwrap_or(Duration::from_secs(300)),
        rise: raw.and_then(|raw| raw.rise).map_or(5, |count| count.value),
        spread: given0(raw.and_then(|raw| raw.spread)).unwrap_or(Duration::ZERO),
    }
}

/// The suppress limit is three penalties: one outage costs two (down, and left), and a single
/// outage must not delay the return beyond its hold.
fn flap(raw: Option<&raw::Flap>, ctx: &mut Ctx<'_>) -> FlapRules {
    let default = raw::Flap::default();
    let raw = raw.unwrap_or(&default);
    let suppress = raw.suppress.map_or(3000, |count| count.value);
    let reuse = raw.reuse.map_or(750.min(suppress), |count| count.value);
    if reuse > suppress {
        let span = raw.reuse.map_or(Span::NONE, |count| count.span);
        ctx.error(Code::BadOrder, span, "`reuse` is larger than `suppress`", "");
    }
    FlapRules {
        penalty: raw.penalty.map_or(1000, |count| count.value),
        half_life: given(raw.half_life).unwrap_or(Duration::from_secs(15 * 60)),
        suppress,
        reuse,
        max_suppress: given(raw.max_suppress).unwrap_or(Duration::from_secs(3600)),
    }
}
