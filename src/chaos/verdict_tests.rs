//! The judge before logs that were made up.

use std::time::Duration;

use super::*;
use crate::chaos::bounds::Bounds;
use crate::chaos::fault::Fault;
use crate::chaos::lab::Book;
use crate::chaos::observe::{Call, Canary};
use crate::chaos::scenario::{Cast, find};
use crate::core::action::{Decision, MoveKind};
use crate::core::id::Revision;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn endpoint(name: &str) -> EndpointName {
    EndpointName::new(name)
}

fn plan() -> Plan {
    let book = Book::built_in().expect("our own policy");
    let part = book.services.into_iter().next().expect("a service").part.expect("it can be played");
    let bounds = Bounds::new(&part.rules, Duration::ZERO);
    let home = endpoint("primary");
    let cast = Cast { rules: &part.rules, home, bounds, pace: at(20) };
    find("kill-service").expect("a scenario").plan(&cast, 1)
}

fn decision(revision: u64, from: &str, to: &str, kind: MoveKind) -> Decision {
    Decision {
        revision: Revision::new(revision),
        service: crate::core::id::ServiceName::new("search"),
        from: Some(endpoint(from)),
        to: Some(endpoint(to)),
        kind,
        cause: String::new(),
        evidence: Vec::new(),
    }
}

/// A drill as it should go: broken at 1 s, switched at 1.3 s, healed at 2 s, back at 3 s.
fn good() -> Log {
    let away = decision(2, "primary", "secondary", MoveKind::Failover);
    let back = decision(3, "secondary", "primary", MoveKind::Failback);
    let file = |millis, revision, active: &str| Written {
        at: at(millis),
        revision: Revision::new(revision),
        active: Some(endpoint(active)),
    };
    let mut log = Log {
        files: vec![file(100, 1, "primary"), file(1305, 2, "secondary"), file(3000, 3, "primary")],
        reads: 4000,
        events: vec![
            (at(1300), Event::Switched(away.clone())),
            (at(2995), Event::Switched(back.clone())),
        ],
        history: Some(vec![back, away]),
        marks: vec![
            (at(500), Mark::Steady),
            (at(1000), Mark::Armed(Whom::Home, Fault::Killed)),
            (at(1306), Mark::Reached(Goal::Away)),
            (at(2000), Mark::Healed(Whom::Home)),
            (at(2001), Mark::Serving(Whom::Home)),
            (at(3001), Mark::Reached(Goal::Back)),
            (at(3600), Mark::SteadyAgain),
        ],
        canaries: vec![Canary {
            endpoint: endpoint("primary"),
            fault: Fault::Killed,
            outcome: "refused".into(),
            effective: true,
        }],
        ..Log::default()
    };
    for begun in (0..4000).step_by(20) {
        let dead = (1000..1305).contains(&begun);
        let end = if dead { CallEnd::Failed } else { CallEnd::Good };
        log.calls.push(Call { begun: at(begun), ended: at(begun + 2), end });
    }
    log
}

fn judged(change: impl FnOnce(&mut Log)) -> Judgement {
    let mut log = good();
    change(&mut log);
    judge(&plan(), &log, &Aftermath::default())
}

/// The checks that do not hold.
fn broken(judgement: &Judgement) -> Vec<&'static str> {
    judgement.checks.iter().filter(|check| !check.holds()).map(|check| check.id).collect()
}

#[test]
fn a_drill_that_went_well_passes() {
    let judgement = judged(|_| {});
    assert_eq!(judgement.verdict, Verdict::Pass, "{:?}", judgement.reasons);
    let of = |id| judgement.checks.iter().find(|check| check.id == id).and_then(|one| one.measured);
    assert_eq!(of("detection"), Some(Quantity::Time(at(300))));
    assert_eq!(of("switch"), Some(Quantity::Time(at(5))));
    assert_eq!(of("fault_to_file"), Some(Quantity::Time(at(305))));
    assert_eq!(of("client_outage"), Some(Quantity::Time(at(340))));
    assert_eq!(of("failback"), Some(Quantity::Time(at(1000))));
    assert_eq!(of("failed_calls"), Some(Quantity::Count(16)));
}

/// Something that spoils a log.
type Change = Box<dyn Fn(&mut Log)>;

#[test]
fn each_broken_promise_is_named() {
    let file = |millis, revision, active: &str| Written {
        at: at(millis),
        revision: Revision::new(revision),
        active: Some(endpoint(active)),
    };
    let cases: Vec<(&str, Change)> = vec![
        ("detection", Box::new(|log| log.events.clear())),
        ("switch", Box::new(|log| log.events.iter_mut().for_each(|(at, _)| *at -= self::at(60)))),
        ("fault_to_file", Box::new(|log| log.files.iter_mut().for_each(|one| one.at += at(900)))),
        ("client_outage", Box::new(|log| log.calls.retain(|call| call.begun < at(1000)))),
        ("hold", Box::new(|log| log.files[2].at = at(2100))),
        ("moves", Box::new(move |log| log.files.push(file(3700, 4, "secondary")))),
        ("false_moves", Box::new(move |log| log.files.push(file(3700, 4, "secondary")))),
        ("failed_outside", Box::new(|log| log.calls[180].end = CallEnd::Failed)),
        ("wrong_answers", Box::new(|log| log.calls[180].end = CallEnd::Wrong)),
        ("bad_reads", Box::new(|log| log.note_bad(at(7), "torn"))),
        ("revisions_back", Box::new(|log| log.files[2].revision = Revision::new(2))),
        ("lost_events", Box::new(|log| log.lost_events = 1)),
        ("moves_untold", Box::new(|log| log.history = Some(Vec::new()))),
        ("unmet", Box::new(|log| log.marks.push((at(3500), Mark::Missed(Goal::Back))))),
        ("unmet", Box::new(|log| log.marks.push((at(3500), Mark::Lost)))),
        ("steady_again", Box::new(|log| log.marks.retain(|(_, one)| *one != Mark::SteadyAgain))),
    ];
    for (id, change) in cases {
        let judgement = judged(|log| change(log));
        assert_eq!(judgement.verdict, Verdict::Fail, "{id}");
        assert!(broken(&judgement).contains(&id), "{id} holds in {:?}", broken(&judgement));
    }
}

#[test]
fn slower_calls_at_the_end_are_noticed() {
    let judgement = judged(|log| {
        for call in log.calls.iter_mut().filter(|call| call.begun >= at(3600)) {
            call.ended += at(50);
        }
    });
    assert_eq!(broken(&judgement), ["calls_p95"]);
}

#[test]
fn what_is_left_or_held_afterwards_counts() {
    let before = Holding { memory: 1 << 20, descriptors: 20 };
    let judged = |after: Aftermath| judge(&plan(), &good(), &after);
    let holding = |memory, descriptors| Aftermath {
        holding: Some((before, Holding { memory, descriptors })),
        ..Aftermath::default()
    };
    assert_eq!(judged(holding(2 << 20, 21)).verdict, Verdict::Pass);
    assert_eq!(broken(&judged(holding(64 << 20, 20))), ["memory_drift"]);
    assert_eq!(broken(&judged(holding(1 << 20, 40))), ["descriptor_drift"]);
    let leftovers = vec!["file x".to_owned()];
    assert_eq!(broken(&judged(Aftermath { leftovers, ..Aftermath::default() })), ["leftovers"]);
}

#[test]
fn a_fault_that_did_not_show_is_an_error_whatever_else_was_seen() {
    let judgement = judged(|log| log.canaries[0].effective = false);
    assert_eq!(judgement.verdict, Verdict::Error);
    let judgement = judged(|log| {
        log.canaries.clear();
        log.bad_reads = 1;
    });
    assert_eq!(judgement.verdict, Verdict::Error, "no fault was put to the proof");
    let broken = Aftermath { broken: Some("interrupted".into()), ..Aftermath::default() };
    let judgement = judge(&plan(), &good(), &broken);
    assert_eq!((judgement.verdict, &*judgement.reasons.concat()), (Verdict::Error, "interrupted"));
}

#[test]
fn an_empty_log_passes_nothing() {
    let judgement = judge(&plan(), &Log::default(), &Aftermath::default());
    assert_ne!(judgement.verdict, Verdict::Pass);
    assert!(broken(&judgement).contains(&"fault_to_file"));
}
