//! Several attempts in one: the checks of a group, and the addresses of a name, all at once and
//! within the one deadline. How they are judged says [`panel`](crate::probe::panel).

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::timeout_at;

use crate::core::outcome::{Outcome, Verdict};
use crate::policy::model::{Addresses, Check, Target};
use crate::probe::panel::{Member, Panel};
use crate::probe::prober::Prober;
use crate::probe::report::Report;
use crate::probe::trace::{Limit, Trace};

/// Addresses of one name that are tried at once; further ones are not tried.
const ADDRESSES_MAX: usize = 32;

/// A running attempt.
type Attempt<'a> = Pin<Box<dyn Future<Output = Report> + Send + 'a>>;

impl Prober {
    /// What may be several attempts: checks, addresses, or both.
    pub(super) fn many<'a>(
        &'a self,
        check: &'a Check,
        addresses: Addresses,
        limit: Limit,
    ) -> Attempt<'a> {
        Box::pin(async move {
            match (check, addresses) {
                (Check::Several(several), _) => {
                    let members = several.checks.iter().map(|(name, check)| {
                        (Arc::from(name.as_str()), self.many(check, addresses, limit))
                    });
                    gather(several.need, members.collect(), limit).await
                }
                (_, Addresses::All { min_permille }) => {
                    self.everywhere(check, min_permille, limit).await
                }
                (_, Addresses::One) => self.one(check, Trace::begin(), limit).await,
            }
        })
    }

    /// One check at every address of its name, which is resolved once.
    async fn everywhere(&self, check: &Check, min_permille: u32, limit: Limit) -> Report {
        let mut trace = Trace::begin();
        let named = |target: &&Target| target.host.parse::<IpAddr>().is_err();
        let Some(target) = check.target().filter(named) else {
            return self.one(check, trace, limit).await;
        };
        trace.limit(limit);
        let found = timeout_at(limit.ends, self.dialler.find(target, &mut trace)).await;
        let found = match found.unwrap_or_else(|_late| Err(trace.timed_out(limit.timeout))) {
            Ok(found) => found,
            Err(finding) => return trace.report(Err(finding)),
        };
        let tried = found.addresses.iter().take(ADDRESSES_MAX);
        let members: Vec<(Arc<str>, Attempt<'_>)> = tried
            .map(|ip| {
                let trace = trace.at(&target.host, *ip);
                let attempt: Attempt<'_> = Box::pin(self.one(check, trace, limit));
                (Arc::from(ip.to_string()), attempt)
            })
            .collect();
        let share = usize::try_from(min_permille).unwrap_or(usize::MAX);
        let need = members.len().saturating_mul(share).div_ceil(1000).max(1);
        let report = gather(need, members, limit).await;
        // Dead where it was last known to be, and denied by now: a matter of the name.
        let failed = report.observation.outcome.verdict() == Verdict::Fail;
        let denied = found.doubt.filter(|doubt| failed && doubt.outcome == Outcome::Dns);
        denied.map_or(report, |doubt| trace.report(Err(doubt)))
    }
}

/// Runs all at once until enough have ended, and judges them in the order given.
async fn gather(need: usize, mut running: Vec<(Arc<str>, Attempt<'_>)>, limit: Limit) -> Report {
    let panel = Panel { size: running.len(), need };
    let mut ended: Vec<Option<Member>> = vec![None; running.len()];
    let settled = poll_fn(|cx| {
        for ((name, attempt), end) in running.iter_mut().zip(&mut ended) {
            if end.is_none()
                && let Poll::Ready(report) = attempt.as_mut().poll(cx)
            {
                *end = Some((Arc::clone(name), report));
            }
        }
        if panel.settled(&ended) { Poll::Ready(()) } else { Poll::Pending }
    });
    settled.await;
    let ended: Vec<Member> = ended.into_iter().flatten().collect();
    panel.verdict(&ended, limit.started.elapsed())
}
