//! The scenarios themselves, by name.

use std::time::Duration;

use crate::chaos::bounds::{RELOAD, START};
use crate::chaos::fault::Fault;
use crate::chaos::scenario::{Author, Failing, Goal, LOOK, Promise, Scenario, Step, Whom};

/// How long a rate-limited endpoint asks to be left alone.
const STAY_AWAY: Duration = Duration::from_secs(1);
/// How often a flapping endpoint goes down.
const FLAPS: u32 = 4;

/// Late enough that no attempt gets an answer in time.
fn too_late(author: &Author<'_>) -> Fault {
    let timeout = author.cast.rules.probe.timeout;
    Fault::Slow(timeout * 2 + Duration::from_secs(1))
}

fn latency_jitter(author: &mut Author<'_>) {
    let rules = author.cast.rules;
    let slow = if rules.breaker.slow_rate_permille > 1000 {
        Duration::MAX
    } else {
        rules.breaker.slow_call
    };
    let most = rules.probe.timeout.min(slow).min(author.cast.bounds.allowance() * 4) / 4;
    author.nuisance(Fault::Jitter(most));
    author.promise(Promise::FailedCalls(Failing::Never));
}

fn flapping(author: &mut Author<'_>) {
    let hold = author.cast.rules.failover.failback.hold;
    let mut out = author.leave(Fault::Killed);
    for _ in 1..FLAPS {
        author.heal(Whom::Home);
        // Never well for as long as a return needs.
        let up = author.up_to(hold / 2);
        author.pause(up);
        author.arm(Whom::Home, Fault::Killed);
        let down = LOOK + author.up_to(LOOK);
        author.pause(down);
        out += up + down;
    }
    let back = author.come_back(Fault::Killed, out, FLAPS);
    author.promise(Promise::Moves(1 + back));
    author.promise(Promise::FailedCalls(Failing::UntilSwitched));
}

fn all_down(author: &mut Author<'_>) {
    let told = author.bounds().switch(Fault::Killed) + author.bounds().standby();
    author.arm(Whom::All, Fault::Killed);
    author.await_for(Goal::AllDown, told);
    author.pause(LOOK * 2);
    let out = told * 2 + LOOK * 2;
    author.heal(Whom::Home);
    let recovery = author.bounds().recovery(Fault::Killed, out);
    author.await_for(Goal::Well, recovery);
    author.heal(Whom::Others);
    author.await_for(Goal::AllWell, author.bounds().recovery(Fault::Killed, out + recovery * 2));
    author.promise(Promise::AllDownTold(1));
    author.promise(Promise::Moves(author.moves_to_nothing() * 2));
    author.promise(Promise::FailedCalls(Failing::WhileFaulty));
}

fn secondary_dies_first(author: &mut Author<'_>) {
    let rules = author.cast.rules;
    author.arm(Whom::Others, Fault::Killed);
    let unnoticed = author.bounds().standby() + author.bounds().detection(Fault::Killed);
    author.pause(unnoticed);
    author.arm(Whom::Home, Fault::Killed);
    let told = author.bounds().switch(Fault::Killed);
    author.await_for(Goal::AllDown, told);
    author.pause(LOOK);
    author.heal(Whom::Others);
    let others_out = unnoticed + told * 2 + LOOK * 2;
    let rescue = author.bounds().recovery(Fault::Killed, others_out) + rules.failover.proof_timeout;
    author.await_for(Goal::Away, rescue);
    author.pause(LOOK);
    let out = told * 2 + rescue * 2 + LOOK * 3;
    let back = author.come_back(Fault::Killed, out, 1);
    author.promise(Promise::AllDownTold(1));
    author.promise(Promise::Rescued(rescue));
    author.promise(Promise::Moves(1 + author.moves_to_nothing() + back));
    author.promise(Promise::FailedCalls(Failing::WhileFaulty));
}

fn rate_limited(author: &mut Author<'_>) {
    let fault = Fault::RateLimited(STAY_AWAY);
    if author.another_account() {
        author.outage(fault);
    } else {
        author.nuisance(fault);
    }
}

fn policy_corrupted(author: &mut Author<'_>) {
    let reload = RELOAD + author.bounds().allowance();
    author.steps.push(Step::Spoil);
    author.await_for(Goal::Refused, reload);
    let out = author.leave(Fault::Killed);
    author.steps.push(Step::Mend);
    author.await_for(Goal::Accepted, reload);
    author.promise(Promise::PolicyRefused(reload));
    author.promise(Promise::PolicyAccepted(reload));
    let back = author.come_back(Fault::Killed, out + reload * 2, 1);
    author.promise(Promise::Moves(1 + back));
    author.promise(Promise::FailedCalls(Failing::UntilSwitched));
}

fn sidecar_killed(author: &mut Author<'_>) {
    let detection = author.bounds().detection(Fault::Killed);
    author.arm(Whom::Home, Fault::Killed);
    let before = author.up_to(detection / 4);
    author.pause(before);
    author.steps.push(Step::Kill);
    author.pause(LOOK);
    author.steps.push(Step::Restart);
    let resume = START + author.bounds().switch(Fault::Killed) + author.bounds().standby();
    author.await_for(Goal::Away, resume);
    author.pause(LOOK);
    author.promise(Promise::Resumed(resume));
    let out = before + LOOK * 3 + resume * 2;
    let back = author.come_back(Fault::Killed, out, 1);
    author.promise(Promise::Moves(1 + back));
    author.promise(Promise::FailedCalls(Failing::WhileFaulty));
}

/// Every scenario, in the order in which they are told.
pub const CATALOGUE: [Scenario; 14] = [
    Scenario {
        name: "kill-service",
        injects: "the preferred endpoint refuses connections and resets those it had",
        must: "clients are on the backup within the bound for refusals, and back after the hold",
        basic: true,
        script: |author| author.outage(Fault::Killed),
    },
    Scenario {
        name: "network-partition",
        injects: "packets to the preferred endpoint vanish, open connections fall silent",
        must: "the switch comes within the bound for silence: the timeout is part of it",
        basic: true,
        script: |author| author.outage(Fault::Partitioned),
    },
    Scenario {
        name: "resource-exhaustion",
        injects: "it takes one connection a second, answers that with 503, and its queue is full",
        must: "that it still answers now and then does not keep the service there",
        basic: true,
        script: |author| author.outage(Fault::Exhausted),
    },
    Scenario {
        name: "slow-response",
        injects: "every answer of the preferred endpoint comes later than the timeout",
        must: "it is found by the deadline of the whole attempt",
        basic: true,
        script: |author| author.outage(too_late(author)),
    },
    Scenario {
        name: "latency-jitter",
        injects: "answers come late by a random time, always below the timeout",
        must: "nothing moves, and no call fails",
        basic: true,
        script: latency_jitter,
    },
    Scenario {
        name: "flapping",
        injects: "the preferred endpoint goes down and up again, four times",
        must: "the service leaves once and returns once, when it is well for the whole hold",
        basic: false,
        script: flapping,
    },
    Scenario {
        name: "all-down",
        injects: "every endpoint is killed; then the preferred one comes back first",
        must: "no rotation among the dead, the loss is told once, and all is as before",
        basic: false,
        script: all_down,
    },
    Scenario {
        name: "secondary-dies-first",
        injects: "the backups die, then the preferred endpoint; the backups come back first",
        must: "nobody is sent to a dead backup; the first that is alive is taken at once",
        basic: false,
        script: secondary_dies_first,
    },
    Scenario {
        name: "rate-limited",
        injects: "the preferred endpoint answers with 429 and Retry-After",
        must: "the service moves if another endpoint has a quota of its own, else it stays",
        basic: false,
        script: rate_limited,
    },
    Scenario {
        name: "lying-200",
        injects: "the preferred endpoint answers with 200 and a login page",
        must: "what the probe expects of an answer finds it out",
        basic: false,
        script: |author| author.outage(Fault::Lying),
    },
    Scenario {
        name: "truncated-answers",
        injects: "answers end in the middle",
        must: "half an answer is a failure",
        basic: false,
        script: |author| author.outage(Fault::Truncating),
    },
    Scenario {
        name: "dripping-answers",
        injects: "answers come byte by byte, without end",
        must: "the deadline is that of the whole attempt, not of each read",
        basic: false,
        script: |author| author.outage(Fault::Dripping),
    },
    Scenario {
        name: "policy-corrupted",
        injects: "the policy file is overwritten with rubbish, then the preferred endpoint dies",
        must: "the policy in force stays, and keeps its promises; the repaired file is accepted",
        basic: false,
        script: policy_corrupted,
    },
    Scenario {
        name: "sidecar-killed",
        injects: "the preferred endpoint dies, and the sidecar is killed before it can tell",
        must: "the file stays whole; the next sidecar switches, with a higher revision",
        basic: false,
        script: sidecar_killed,
    },
];

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    CATALOGUE.iter().find(|scenario| scenario.name == name)
}
