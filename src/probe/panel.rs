//! One verdict of several attempts made at once: of the checks of one endpoint, or of one check at
//! every address of its name.
//!
//! 1. As soon as enough are `ok`, the verdict is `ok`: nothing can change it, and what has not
//!    ended is abandoned. When enough pass only with those that warn, it is `degraded`.
//! 2. Else all are waited for. When it would not be enough even if those without a verdict had
//!    passed, the verdict is the outcome of a failed one: the one that leaves least doubt whose
//!    fault it is, so `refused` before `timeout`.
//! 3. Else those without a verdict decide, and so is the outcome of one of them: the first that a
//!    person has to act on, so `auth` before `local`. The longest wish to be left alone counts.
//! 4. Phases, address and status are those of the attempt that decided, or on a pass of the one
//!    that took longest. The certificate is the one that ends first, the quota the scarcest.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::core::outcome::{Observation, Outcome, Verdict};
use crate::probe::report::{Phases, Report};

/// Attempts that a detail names.
const NAMED_MAX: usize = 3;

/// What is wanted of the attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    /// How many there are.
    pub(super) size: usize,
    /// How many must pass.
    pub(super) need: usize,
}

/// What became of one attempt.
pub(super) type Member = (Arc<str>, Report);

impl Panel {
    /// Whether these settle it, whatever the others come to.
    pub(super) fn settled(self, ended: &[Option<Member>]) -> bool {
        let ended = ended.iter().flatten();
        let ok = |member: &&Member| member.1.observation.outcome == Outcome::Ok;
        ended.clone().count() >= self.size || ended.filter(ok).count() >= self.need
    }

    /// The verdict of those that have ended.
    pub(super) fn verdict(self, ended: &[Member], total: Duration) -> Report {
        let passed = count(ended, |outcome| outcome.verdict() == Verdict::Pass);
        let decisive = if passed >= self.need {
            self.passing(ended)
        } else {
            let neutral = count(ended, |outcome| outcome.verdict() == Verdict::Neutral);
            let kind = if passed + neutral < self.need { Verdict::Fail } else { Verdict::Neutral };
            let of_kind = ended.iter().filter(|(_, report)| verdict(report) == kind);
            of_kind.min_by_key(|(_, report)| rank(report.observation.outcome))
        };
        let Some((_, decisive)) = decisive else { return nothing(total) };
        let mut report = decisive.clone();
        report.phases.total = total;
        report.observation = Observation {
            outcome: patient(decisive.observation.outcome, ended),
            latency: total,
            detail: self.detail(ended, passed),
        };
        let certificates = ended.iter().filter_map(|(_, report)| report.certificate_expires_in);
        report.certificate_expires_in = certificates.min();
        let quotas = ended.iter().filter_map(|(_, report)| report.quota);
        report.quota = quotas.min_by_key(|quota| quota.remaining.unwrap_or(u64::MAX));
        report
    }

    /// On a pass: the slowest that is `ok` when those are enough, else the first that warns.
    fn passing(self, ended: &[Member]) -> Option<&Member> {
        let enough = count(ended, |outcome| outcome == Outcome::Ok) >= self.need;
        let wanted = if enough { Outcome::Ok } else { Outcome::Degraded };
        let mut of_kind = ended.iter().filter(|(_, report)| report.observation.outcome == wanted);
        if enough { of_kind.max_by_key(|(_, report)| report.phases.total) } else { of_kind.next() }
    }

    /// How many passed, and what kept the others from it; what decided comes first.
    fn detail(self, ended: &[Member], passed: usize) -> Option<Arc<str>> {
        let mut told: Vec<&Member> =
            ended.iter().filter(|(_, report)| report.observation.outcome != Outcome::Ok).collect();
        if told.is_empty() {
            return None;
        }
        told.sort_by_key(|(_, report)| rank(report.observation.outcome));
        let mut detail = format!("{passed} of {} passed", self.size);
        for (name, report) in told.iter().take(NAMED_MAX) {
            let seen = &report.observation;
            let what = seen.detail.as_deref().unwrap_or(seen.outcome.label());
            // Writing to a string cannot fail.
            write!(detail, "; {name}: {what}").ok();
        }
        if told.len() > NAMED_MAX {
            write!(detail, "; and {} more", told.len() - NAMED_MAX).ok();
        }
        Some(Arc::from(detail))
    }
}

fn verdict(report: &Report) -> Verdict {
    report.observation.outcome.verdict()
}

fn count(members: &[Member], is: impl Fn(Outcome) -> bool) -> usize {
    members.iter().filter(|(_, report)| is(report.observation.outcome)).count()
}

/// The order in which outcomes speak for the others of their kind.
const fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Refused => 0,
        Outcome::Tls => 1,
        Outcome::Protocol => 2,
        Outcome::ServerError => 3,
        Outcome::Reset => 4,
        Outcome::Dns => 5,
        Outcome::Timeout => 6,
        Outcome::Auth => 7,
        Outcome::ClientError => 8,
        Outcome::WrongRole => 9,
        Outcome::Throttled { .. } => 10,
        Outcome::Local => 11,
        Outcome::Degraded => 12,
        Outcome::Ok => 13,
    }
}

/// A wish to be left alone is as long as the longest.
fn patient(outcome: Outcome, ended: &[Member]) -> Outcome {
    let Outcome::Throttled { .. } = outcome else { return outcome };
    let wishes = ended.iter().filter_map(|(_, report)| {
        let Outcome::Throttled { retry_after } = report.observation.outcome else { return None };
        retry_after
    });
    Outcome::Throttled { retry_after: wishes.max() }
}

/// Nothing was there to be tried.
fn nothing(total: Duration) -> Report {
    Report {
        observation: Observation::new(Outcome::Local, total).with_detail("nothing was tried"),
        phases: Phases { total, ..Phases::default() },
        address: None,
        certificate_expires_in: None,
        status: None,
        quota: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: Duration = Duration::from_millis(90);

    fn member(name: &str, outcome: Outcome, millis: u64) -> Member {
        let took = Duration::from_millis(millis);
        let mut report = nothing(took);
        report.observation = Observation::new(outcome, took);
        (Arc::from(name), report)
    }

    fn judged(need: usize, outcomes: &[Outcome]) -> (Outcome, String) {
        let members: Vec<Member> =
            outcomes.iter().zip(1..).map(|(outcome, at)| member("m", *outcome, at)).collect();
        let report = Panel { size: members.len(), need }.verdict(&members, TOTAL);
        assert_eq!(report.observation.latency, TOTAL);
        (report.observation.outcome, report.observation.detail.as_deref().unwrap_or("").to_owned())
    }

    fn outcome(need: usize, outcomes: &[Outcome]) -> Outcome {
        judged(need, outcomes).0
    }

    const THROTTLED: Outcome = Outcome::Throttled { retry_after: None };

    #[test]
    fn enough_that_are_ok_are_a_pass_whatever_the_others_say() {
        use Outcome::{Auth, Degraded, Ok, Refused};
        assert_eq!(judged(2, &[Ok, Ok]), (Ok, String::new()));
        assert_eq!(judged(1, &[Refused, Ok]), (Ok, "1 of 2 passed; m: refused".to_owned()));
        assert_eq!(outcome(2, &[Auth, Ok, Ok]), Ok);
        assert_eq!(outcome(1, &[Degraded, Ok]), Ok);
        assert_eq!(outcome(2, &[Degraded, Ok]), Degraded);
        assert_eq!(outcome(2, &[Degraded, Refused, Ok]), Degraded);
    }

    #[test]
    fn what_fails_for_certain_fails_by_its_least_doubtful_member() {
        use Outcome::{Auth, Ok, Refused, ServerError, Timeout};
        assert_eq!(outcome(2, &[Ok, Timeout]), Timeout);
        assert_eq!(outcome(2, &[Timeout, Refused]), Refused);
        assert_eq!(outcome(3, &[Timeout, ServerError, Ok]), ServerError);
        assert_eq!(outcome(2, &[Auth, Timeout]), Timeout, "the credential would not help");
        assert_eq!(outcome(3, &[Auth, Timeout, Refused]), Refused);
    }

    #[test]
    fn what_has_no_verdict_decides_only_where_it_could_have_been_enough() {
        use Outcome::{Auth, ClientError, Local, Ok, Refused, WrongRole};
        assert_eq!(outcome(2, &[Ok, Auth]), Auth);
        assert_eq!(outcome(2, &[Ok, Auth, Refused]), Auth);
        assert_eq!(outcome(1, &[Refused, Local]), Local);
        assert_eq!(outcome(2, &[THROTTLED, WrongRole, Refused]), WrongRole);
        assert_eq!(outcome(2, &[Local, THROTTLED]), THROTTLED);
        assert_eq!(outcome(1, &[Local, ClientError]), ClientError);
    }

    #[test]
    fn the_longest_wish_to_be_left_alone_counts() {
        let wish = |seconds| Outcome::Throttled { retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(outcome(2, &[wish(3), wish(9)]), wish(9));
        assert_eq!(outcome(2, &[THROTTLED, wish(9)]), wish(9));
        assert_eq!(outcome(2, &[THROTTLED, Outcome::Ok]), THROTTLED);
    }

    #[test]
    fn it_is_settled_when_nothing_can_change_it() {
        let panel = Panel { size: 3, need: 2 };
        let ended = |outcomes: &[Outcome]| {
            let ended = outcomes.iter().map(|end| Some(member("m", *end, 1)));
            panel.settled(&ended.chain([None]).collect::<Vec<_>>())
        };
        assert!(!ended(&[]) && !ended(&[Outcome::Ok]) && !ended(&[Outcome::Ok, Outcome::Degraded]));
        assert!(!ended(&[Outcome::Refused, Outcome::Refused]), "the others may say more");
        assert!(ended(&[Outcome::Ok, Outcome::Ok]));
        assert!(ended(&[Outcome::Refused, Outcome::Refused, Outcome::Ok]));
    }

    #[test]
    fn the_numbers_are_those_of_who_decided() {
        let mut members = [
            member("fast", Outcome::Ok, 1),
            member("slow", Outcome::Ok, 80),
            member("dead", Outcome::Refused, 85),
        ];
        members[0].1.status = Some(200);
        members[1].1.status = Some(204);
        members[0].1.certificate_expires_in = Some(Duration::from_secs(7));
        members[2].1.certificate_expires_in = Some(Duration::from_secs(5));
        let report = Panel { size: 3, need: 2 }.verdict(&members, TOTAL);
        assert_eq!((report.status, report.phases.total), (Some(204), TOTAL));
        assert_eq!(report.certificate_expires_in, Some(Duration::from_secs(5)));
        members[2].1.status = Some(500);
        let report = Panel { size: 3, need: 3 }.verdict(&members, TOTAL);
        assert_eq!(report.status, Some(500));
    }

    #[test]
    fn a_detail_is_short_however_many_fail() {
        let all = [Outcome::Timeout, Outcome::Refused, Outcome::Auth, Outcome::Tls, Outcome::Ok];
        let wanted = "1 of 5 passed; m: refused; m: tls; m: timeout; and 1 more";
        assert_eq!(judged(5, &all).1, wanted);
        assert_eq!(outcome(1, &[]), Outcome::Local);
    }
}
