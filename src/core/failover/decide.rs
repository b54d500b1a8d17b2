//! The decision itself.

use std::cmp::Reverse;

use super::verdict::{Next, Reason, Return, Verdict, Wait};
use super::view::{Candidate, Fault, Loss, Place, View};
use crate::core::action::{HoldReason, MoveKind};
use crate::core::rules::{FailbackMode, FailoverRules, OnAllDown};
use crate::core::time::Instant;

/// An endpoint with a bad score is left only for one whose score is better by more than this.
pub const HYSTERESIS: u16 = 200;

/// Decides.
#[must_use]
pub fn decide(view: &View<'_>, rules: &FailoverRules, now: Instant) -> Verdict {
    let at = match view.place {
        Place::Starting { since, patience } => return start(view, rules, now, since + patience),
        Place::Nowhere => None,
        Place::At(at) => Some(at),
    };
    let loss = loss(view, at);
    let verdict = Verdict::new(view, loss);
    if let Some(pin) = view.pinned {
        let verdict = verdict.because(Reason::Pinned);
        if at != Some(pin) {
            return verdict.go(Some(pin), MoveKind::Switchover);
        }
        return ordered(verdict, view, HoldReason::Pinned);
    }
    if view.paused {
        return ordered(verdict.because(Reason::Paused), view, HoldReason::Paused);
    }
    if let Some(why) = view.blind {
        let verdict = Verdict { outage: view.outage, ..verdict.because(Reason::Blind) };
        return if loss.is_some() { verdict.hold(why, None) } else { verdict };
    }
    match loss {
        Some(loss) => leave(verdict.because(Reason::Lost { loss }), view, rules, now),
        None => comeback(verdict.because(Reason::ActiveServes), view, rules, now),
    }
}

/// The best candidate a person would be sent to: usable, proven if possible.
#[must_use]
pub fn best_other(view: &View<'_>) -> Option<usize> {
    let at = match view.place {
        Place::At(at) => Some(at),
        Place::Starting { .. } | Place::Nowhere => None,
    };
    let usable =
        |proven: bool| best(view, move |i, c| Some(i) != at && c.usable() && (c.proven || !proven));
    usable(true).or_else(|| usable(false))
}

/// Where to go when the active endpoint no longer exists: the best other one, or the preferred.
#[must_use]
pub fn refuge(view: &View<'_>) -> Option<usize> {
    view.pinned.or_else(|| best_other(view)).or_else(|| preferred(view))
}

/// A person decided where the service is: say what they keep it from, and nothing else.
fn ordered(mut verdict: Verdict, view: &View<'_>, why: HoldReason) -> Verdict {
    let Some(loss) = verdict.loss else { return verdict };
    verdict.outage |= loss.hard() && view.blind.is_none() && !anything_left(view);
    verdict.because(Reason::Lost { loss }).hold(why, None)
}

fn loss(view: &View<'_>, at: Option<usize>) -> Option<Loss> {
    let Some(active) = at.and_then(|at| view.candidates.get(at)) else {
        return Some(Loss::Nothing);
    };
    match active.fault {
        None | Some(Fault::Unknown) if active.drained && view.pinned.is_none() => {
            Some(Loss::Drained)
        }
        Some(Fault::LowScore) if active.drained && view.pinned.is_none() => Some(Loss::Drained),
        Some(Fault::LowScore) => much_better(view, active).then_some(Loss::Fault(Fault::LowScore)),
        None | Some(Fault::Unknown) => {
            (view.verifying && active.failures > 0).then_some(Loss::VerifyFailed)
        }
        Some(fault) => Some(Loss::Fault(fault)),
    }
}

fn much_better(view: &View<'_>, active: &Candidate) -> bool {
    view.candidates
        .iter()
        .any(|c| c.usable() && c.proven && c.score > active.score.saturating_add(HYSTERESIS))
}

fn leave(verdict: Verdict, view: &View<'_>, rules: &FailoverRules, now: Instant) -> Verdict {
    let Some(loss) = verdict.loss else { return verdict };
    if !affordable(view, loss) && worth_a_move(view, loss) {
        let until = view.budget.frees_at;
        return verdict.because(Reason::BudgetSpent).hold(HoldReason::Budget, until);
    }
    if let Some(to) = best(view, |i, c| eligible(view, loss, i, c) && c.usable() && c.proven) {
        return verdict.because(Reason::Proven { candidate: to }).go(Some(to), loss.kind());
    }
    match loss {
        Loss::VerifyFailed | Loss::Fault(Fault::LowScore) => verdict.because(Reason::NowhereElse),
        Loss::Fault(Fault::AuthFailed | Fault::Throttled) => {
            leave_for_another_credential(verdict, view, rules, now)
        }
        Loss::Fault(_) | Loss::Drained | Loss::Nothing => leave_unproven(verdict, view, rules, now),
    }
}

fn leave_for_another_credential(
    verdict: Verdict,
    view: &View<'_>,
    rules: &FailoverRules,
    now: Instant,
) -> Verdict {
    let Some(loss) = verdict.loss else { return verdict };
    if view.candidates.iter().enumerate().any(|(i, c)| eligible(view, loss, i, c) && c.usable()) {
        let verdict = verdict.because(Reason::AwaitingProof { until: None });
        return verdict.hold(HoldReason::AwaitingProof, None);
    }
    let verdict = comeback(verdict.because(Reason::SameCredential), view, rules, now);
    if matches!(verdict.next, Next::Go { .. }) {
        return verdict;
    }
    let wake = verdict.wake;
    verdict.hold(HoldReason::SameCredential, wake)
}

/// Nothing is proven: wait for a proof, then guess, then give up.
fn leave_unproven(
    verdict: Verdict,
    view: &View<'_>,
    rules: &FailoverRules,
    now: Instant,
) -> Verdict {
    let Some(loss) = verdict.loss else { return verdict };
    let until = view.waiting_since.unwrap_or(now) + rules.proof_timeout;
    let open = |i: usize, c: &Candidate| {
        let question = c.fault.is_none_or(Fault::open_question);
        let hopeful = if view.outage { c.fault.is_none() } else { question };
        Some(i) != active(view) && !c.drained && hopeful
    };
    let pending = view.candidates.iter().enumerate().any(|(i, c)| open(i, c));
    if pending && now < until {
        let verdict = verdict.because(Reason::AwaitingProof { until: Some(until) });
        return verdict.hold(HoldReason::AwaitingProof, Some(until));
    }
    if let Some(to) = guess(view, loss) {
        return verdict.because(Reason::Unproven { candidate: to }).go(Some(to), loss.kind());
    }
    if loss.hard() { all_down(verdict, view, rules) } else { verdict.because(Reason::NowhereElse) }
}

fn all_down(mut verdict: Verdict, view: &View<'_>, rules: &FailoverRules) -> Verdict {
    verdict.outage = true;
    let verdict = verdict.because(Reason::NothingAlive);
    if view.outage || view.budget.left == 0 {
        return verdict;
    }
    let to = match rules.on_all_down {
        OnAllDown::Hold => return verdict,
        OnAllDown::Preferred => preferred(view),
        OnAllDown::Fail => None,
    };
    if to == active(view) { verdict } else { verdict.go(to, MoveKind::Failover) }
}

fn start(view: &View<'_>, rules: &FailoverRules, now: Instant, deadline: Instant) -> Verdict {
    let mut verdict = Verdict::new(view, None).because(Reason::Starting);
    if let Some(pin) = view.pinned {
        return verdict.because(Reason::Pinned).go(Some(pin), MoveKind::Start);
    }
    let Place::Starting { since, .. } = view.place else { return verdict };
    if let Some(to) = best(view, |_, c| c.usable() && c.proven) {
        let settle = since + rules.proof_timeout;
        let verdict = verdict.because(Reason::Proven { candidate: to });
        if now < settle && better_tier_unsettled(view, to) {
            let mut verdict = verdict.because(Reason::BetterTierUnsettled);
            verdict.wake = Some(settle);
            return verdict;
        }
        return verdict.go(Some(to), MoveKind::Start);
    }
    if now < deadline {
        verdict.wake = Some(deadline);
        return verdict.because(Reason::AwaitingProof { until: Some(deadline) });
    }
    if let Some(to) = best(view, |_, c| c.usable()) {
        let verdict = verdict.because(Reason::Unproven { candidate: to });
        return verdict.go(Some(to), MoveKind::Start);
    }
    verdict.outage = true;
    let to = match rules.on_all_down {
        OnAllDown::Hold | OnAllDown::Preferred => preferred(view),
        OnAllDown::Fail => None,
    };
    verdict.because(Reason::NothingAlive).go(to, MoveKind::Start)
}

fn better_tier_unsettled(view: &View<'_>, than: usize) -> bool {
    let tier = view.candidates.get(than).map_or(0, |c| c.tier);
    view.candidates.iter().any(|c| {
        let open = c.fault.is_none_or(Fault::open_question);
        c.tier < tier && !c.drained && open
    })
}

fn comeback(mut verdict: Verdict, view: &View<'_>, rules: &FailoverRules, now: Instant) -> Verdict {
    let Some(tier) = active(view).and_then(|at| view.candidates.get(at)).map(|c| c.tier) else {
        return verdict;
    };
    let better = |c: &Candidate| c.usable() && c.tier < tier;
    let ready = |c: &Candidate| better(c) && obstacle(view, rules, c, now).is_none();
    if let Some(to) = best(view, |_, c| ready(c)) {
        let verdict = verdict.because(Reason::BetterTier { candidate: to, waits_for: None });
        return verdict.go(Some(to), MoveKind::Failback);
    }
    for c in view.candidates.iter().filter(|c| better(c)) {
        let at = obstacle(view, rules, c, now).and_then(|(_, at)| at);
        verdict.wake = earlier(verdict.wake, at.filter(|at| *at > now));
    }
    let Some(to) = best(view, |_, c| better(c)) else { return verdict };
    let wait = view.candidates.get(to).and_then(|c| obstacle(view, rules, c, now));
    verdict.comeback = wait.map(|(waits_for, at)| Return { to, at, waits_for });
    verdict.because(Reason::BetterTier { candidate: to, waits_for: wait.map(|(wait, _)| wait) })
}

/// What keeps us from returning to `c` now, and until when as far as time alone decides.
fn obstacle(
    view: &View<'_>,
    rules: &FailoverRules,
    c: &Candidate,
    now: Instant,
) -> Option<(Wait, Option<Instant>)> {
    let held_at = c.held_at.unwrap_or(now);
    let bars = [c.suppressed_until, c.barred_until];
    let by_time = bars.into_iter().flatten().fold(held_at, Instant::max);
    match rules.failback.mode {
        FailbackMode::Manual => return Some((Wait::ManualMode, None)),
        FailbackMode::Never => return Some((Wait::NeverMode, None)),
        FailbackMode::Auto => {}
    }
    if view.manual {
        return Some((Wait::PersonsChoice, None));
    }
    if c.barred_until.is_some_and(|until| now < until) {
        return Some((Wait::RolledBack, Some(by_time)));
    }
    if c.suppressed_until.is_some_and(|until| now < until) {
        return Some((Wait::Suppressed, Some(by_time)));
    }
    if now < held_at {
        return Some((Wait::Hold, Some(by_time)));
    }
    if view.budget.left < 2 {
        return Some((Wait::Budget, view.budget.frees_at));
    }
    if c.passes < rules.failback.rise {
        return Some((Wait::Rise, Some(now)));
    }
    (!c.proven).then_some((Wait::FreshPass, Some(now)))
}

/// Whether the budget allows leaving. What a person ordered is free, and so is a move out of
/// nowhere: it can only help.
fn affordable(view: &View<'_>, loss: Loss) -> bool {
    view.budget.left > 0 || loss.kind() == MoveKind::Switchover || view.place == Place::Nowhere
}

/// Whether there would be somewhere to go: proven, still to be proven, or slow but alive.
fn worth_a_move(view: &View<'_>, loss: Loss) -> bool {
    let hopeful = |c: &Candidate| {
        let question = loss.hard() && !view.outage && c.fault.is_some_and(Fault::open_question);
        let slow = loss.hard() && c.fault == Some(Fault::LowScore);
        c.usable() || ((question || slow) && !c.drained)
    };
    view.candidates.iter().enumerate().any(|(i, c)| eligible(view, loss, i, c) && hopeful(c))
}

/// Whether leaving the active endpoint for `c` can help at all.
fn eligible(view: &View<'_>, loss: Loss, i: usize, c: &Candidate) -> bool {
    let Some(at) = active(view) else { return true };
    let Some(active) = view.candidates.get(at) else { return true };
    i != at
        && match loss {
            Loss::Fault(Fault::AuthFailed) => c.credential != active.credential,
            Loss::Fault(Fault::Throttled) => c.account != active.account,
            Loss::Fault(Fault::LowScore) => c.score > active.score.saturating_add(HYSTERESIS),
            Loss::Fault(_) | Loss::Drained | Loss::VerifyFailed | Loss::Nothing => true,
        }
}

/// The best of what is not proven: usable without a fresh pass, then a bad score, then a stranger
/// that has not failed.
fn guess(view: &View<'_>, loss: Loss) -> Option<usize> {
    let other = |i: usize, c: &Candidate| Some(i) != active(view) && !c.drained;
    let usable = best(view, |i, c| other(i, c) && c.fault.is_none());
    if usable.is_some() || !loss.hard() {
        return usable;
    }
    let slow = best(view, |i, c| other(i, c) && c.fault == Some(Fault::LowScore));
    let stranger = |c: &Candidate| c.fault == Some(Fault::Unknown) && c.failures == 0;
    slow.or_else(|| best(view, |i, c| !view.outage && other(i, c) && stranger(c)))
}

fn anything_left(view: &View<'_>) -> bool {
    view.candidates.iter().enumerate().any(|(i, c)| {
        let question = matches!(c.fault, None | Some(Fault::LowScore | Fault::Unknown));
        Some(i) != active(view) && !c.drained && question
    })
}

fn preferred(view: &View<'_>) -> Option<usize> {
    best(view, |_, c| !c.drained)
        .and_then(|b| view.candidates.get(b))
        .and_then(|b| view.candidates.iter().position(|c| !c.drained && c.tier == b.tier))
        .or_else(|| {
            let first = view.candidates.iter().enumerate().min_by_key(|(i, c)| (c.tier, *i));
            first.map(|(i, _)| i)
        })
}

/// The best candidate that qualifies: better tier, then no warning, then the order of the file.
fn best(view: &View<'_>, fits: impl Fn(usize, &Candidate) -> bool) -> Option<usize> {
    let fitting = view.candidates.iter().enumerate().filter(|(i, c)| fits(*i, c));
    fitting.min_by_key(|(i, c)| (c.tier, c.degraded, Reverse(c.proven), *i)).map(|(i, _)| i)
}

const fn active(view: &View<'_>) -> Option<usize> {
    match view.place {
        Place::At(at) => Some(at),
        Place::Starting { .. } | Place::Nowhere => None,
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
