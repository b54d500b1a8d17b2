//! Refuses a policy whose probing would use up more than its quota.
//!
//! Counted is the steady state: of each service one endpoint at `interval`, the others at
//! `standby_interval`, the deep probe likewise. Which one is active is not known, so of the
//! endpoints on an account the dearest case counts: one of them is. An attempt that makes several
//! requests, as a combination or an MCP session does, counts as many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::ordered::Gather as _;
use crate::core::rules::Cadence;
use crate::policy::code::Code;
use crate::policy::compile::service::Built;
use crate::policy::duration;
use crate::policy::model::{Check, Endpoint, McpEra, McpExpect};
use crate::policy::raw::{Cost, Ctx, Span};

/// What one probe of one service costs.
#[derive(Debug)]
pub(super) struct Load {
    service: String,
    interval: Duration,
    standby: Duration,
    /// Calls allowed within a span.
    quota: Option<(u32, Duration)>,
    span: Span,
    /// Whether it is the deep probe's.
    deep: bool,
    /// The account of each endpoint.
    pub(super) accounts: Vec<u64>,
    /// Most requests of one attempt.
    pub(super) each: u32,
}

impl Load {
    pub(super) fn new(service: &str, cadence: &Cadence, cost: Option<Cost>, span: Span) -> Self {
        let quota = match cost {
            Some(Cost::Quota(quota)) => match (quota.n.0, quota.per.0) {
                (Some(n), Some(per)) => Some((n.value, per.value)),
                _ => None,
            },
            Some(Cost::Word(_)) | None => None,
        };
        let (interval, standby) = (cadence.interval, cadence.standby_interval);
        let service = service.to_owned();
        let accounts = Vec::new();
        Self { service, interval, standby, quota, span, deep: false, accounts, each: 1 }
    }

    /// The same, for a deep probe.
    pub(super) fn deep(self) -> Self {
        Self { deep: true, ..self }
    }

    /// The check of an endpoint that this is about.
    pub(super) fn check<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a Check> {
        let shallow = (!self.deep).then_some(&endpoint.probe);
        shallow.or(endpoint.deep_probe.as_ref().filter(|_| self.deep)).map(|probe| &probe.check)
    }

    /// Thousandths of calls that `count` endpoints make within `per`, and the sum as text.
    fn calls(&self, count: usize, per: Duration) -> (u128, String) {
        let one = |gap: Duration| per.as_millis() * 1000 / gap.as_millis().max(1);
        let standby = u128::try_from(count.saturating_sub(1)).unwrap_or(u128::MAX);
        let starts = one(self.interval).saturating_add(one(self.standby).saturating_mul(standby));
        let calls = starts.saturating_mul(u128::from(self.each));
        let (span, gap) = (duration::format(per), duration::format(self.interval));
        let mut text = format!("`{}` {span}/{gap}", self.service);
        if standby > 0 {
            text = format!("{text} + {standby}×{span}/{}", duration::format(self.standby));
        }
        if self.each > 1 {
            text = format!("{}×({text})", self.each);
        }
        (calls, text)
    }
}

/// Most requests of one attempt, counted in the longest of the ways it can go.
pub(super) fn calls(check: &Check) -> u32 {
    let listed = |expect: &McpExpect| u32::from(!expect.tools.is_empty());
    match check {
        Check::Several(several) => several.checks.iter().map(|(_, check)| calls(check)).sum(),
        // Discovery alone; or discovery in vain, `initialize`, its notification, `ping`, `DELETE`.
        Check::Mcp(mcp) if mcp.era == McpEra::Modern => 1 + listed(&mcp.expect),
        Check::Mcp(mcp) => 5 + listed(&mcp.expect),
        Check::Http(_)
        | Check::Tcp(_)
        | Check::Tls(_)
        | Check::Exec(_)
        | Check::McpStdio(_)
        | Check::Bolt(_)
        | Check::Neo4j(_)
        | Check::Redis(_)
        | Check::Postgres(_)
        | Check::Grpc(_)
        | Check::Dns(_) => 1,
    }
}

/// Checks every account against every quota declared for it.
pub(super) fn check(built: &[Built], ctx: &mut Ctx<'_>) {
    let loads = || built.iter().flat_map(|one| &one.loads).filter(|load| load.quota.is_some());
    let mut accounts: BTreeMap<u64, Vec<(&Load, usize)>> = BTreeMap::new();
    for load in loads() {
        for account in load.accounts.iter().collect::<BTreeSet<_>>() {
            let count = load.accounts.iter().filter(|one| *one == account).count();
            accounts.entry(*account).or_default().push((load, count));
        }
    }
    for shares in accounts.values() {
        let quotas: BTreeSet<_> = shares.iter().filter_map(|(load, _)| load.quota).gather_set();
        for (n, per) in quotas {
            check_one(shares, n, per, ctx);
        }
    }
}

fn check_one(shares: &[(&Load, usize)], n: u32, per: Duration, ctx: &mut Ctx<'_>) {
    let parts: Vec<_> = shares.iter().map(|(load, count)| load.calls(*count, per)).collect();
    let sum: u128 = parts.iter().map(|(calls, _)| calls).sum();
    let allowed = u128::from(n) * 1000;
    if sum <= allowed {
        return;
    }
    let terms: Vec<_> = parts.iter().map(|(_, text)| text.as_str()).collect();
    let message = format!(
        "probing makes {} calls in {}, the quota is {n}: {}",
        tenths(sum),
        duration::format(per),
        terms.join(" + "),
    );
    // Rounded up to the next tenth, so that following the advice is enough.
    let factor = (sum * 1000).div_ceil(allowed).div_ceil(100) * 100;
    let help = format!("intervals {} times as long would fit", tenths(factor));
    let mut spans = shares.iter().map(|(load, _)| load.span);
    ctx.error(Code::QuotaExceeded, spans.next().unwrap_or(Span::NONE), message, help);
    spans.for_each(|span| ctx.reporter.also(span, "counts too"));
}

/// Thousandths as a number with at most one decimal.
fn tenths(thousandths: u128) -> String {
    match (thousandths / 1000, thousandths % 1000 / 100) {
        (whole, 0) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
}
