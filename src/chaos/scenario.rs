//! The scenarios: what is done to whom, in which order, and what is promised meanwhile.
//!
//! Pure: a scenario and a cast give a plan, which can be read as well as played. What is random in
//! it is drawn from the seed when the plan is made.

use std::time::Duration;

use crate::chaos::bounds::{Bounds, RELOAD, START};
use crate::chaos::fault::Fault;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::rng::Rng;
use crate::core::rules::{OnAllDown, ServiceRules};

/// Time that a client is given to be seen well, or not, between two steps.
const LOOK: Duration = Duration::from_millis(600);
/// How long a rate-limited endpoint asks to be left alone.
const STAY_AWAY: Duration = Duration::from_secs(1);
/// How often a flapping endpoint goes down.
const FLAPS: u32 = 4;

/// A scenario by its name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What is injected.
    pub injects: &'static str,
    /// What must happen.
    pub must: &'static str,
    /// Whether it is played when none is named.
    pub basic: bool,
    /// Writes its script.
    pub script: fn(&mut Author<'_>),
}

impl PartialEq for Scenario {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Scenario {}

/// Who plays.
#[derive(Clone, Debug)]
pub struct Cast<'a> {
    /// The service.
    pub rules: &'a ServiceRules,
    /// The preferred endpoint, which is active before anything happens.
    pub home: EndpointName,
    /// The bounds of the service.
    pub bounds: Bounds,
    /// Time between two calls of the client.
    pub pace: Duration,
}

/// To whom something is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whom {
    /// The preferred endpoint.
    Home,
    /// Every other one.
    Others,
    /// Every one.
    All,
}

impl Whom {
    /// In words.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Home => "the preferred endpoint",
            Self::Others => "every other endpoint",
            Self::All => "every endpoint",
        }
    }
}

/// One step of a script.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing is done for so long.
    Pause(Duration),
    /// A fault is put in force.
    Arm(Whom, Fault),
    /// Whatever was done to them is undone.
    Heal(Whom),
    /// Something must come about; so long is waited for it at most.
    Await(Goal, Duration),
    /// The policy file is overwritten with one that is not valid.
    Spoil,
    /// The policy file is as it was.
    Mend,
    /// The sidecar is killed with SIGKILL.
    Kill,
    /// Another one is started.
    Restart,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Goal {
    /// The env file names another endpoint than the preferred one.
    Away,
    /// The env file names the preferred endpoint.
    Back,
    /// The sidecar has said that no endpoint is alive.
    AllDown,
    /// The preferred endpoint is healthy again.
    Well,
    /// Every endpoint is healthy.
    AllWell,
    /// The sidecar has refused the policy file.
    Refused,
    /// The policy file is in force.
    Accepted,
}

impl Goal {
    /// In words, as what has come about.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Away => "the env file names another endpoint",
            Self::Back => "the env file names the preferred endpoint again",
            Self::AllDown => "the loss of all endpoints is told",
            Self::Well => "the preferred endpoint is healthy again",
            Self::AllWell => "every endpoint is healthy",
            Self::Refused => "the policy is refused",
            Self::Accepted => "the policy is in force again",
        }
    }
}

/// What is measured, and its bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Promise {
    /// From the fault on the preferred endpoint to the first verdict about it.
    Detected(Duration),
    /// From the decision to the env file.
    Published(Duration),
    /// From the fault to the env file that names another endpoint.
    Switched(Duration),
    /// The longest time without a good call.
    Outage(Duration),
    /// From the healing of the others to the env file that names one of them.
    Rescued(Duration),
    /// From the start of another sidecar to the env file that names another endpoint.
    Resumed(Duration),
    /// From the healing of the preferred endpoint to the env file that names it again.
    Returned(Duration),
    /// The same takes no less than this: the hold is kept.
    Held(Duration),
    /// From the edit that is not valid to its refusal.
    PolicyRefused(Duration),
    /// From the repaired policy to its being in force again.
    PolicyAccepted(Duration),
    /// How often the env file names another endpoint than before: exactly so often.
    Moves(u32),
    /// How often the loss of all endpoints is told.
    AllDownTold(u32),
    /// Calls are as quick after everything as before, but for a quarter and so much.
    AsQuick(Duration),
    /// No call may fail at all, or outside the time between fault and switch.
    FailedCalls(Failing),
}

/// When calls may fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failing {
    /// Never.
    Never,
    /// Between the fault and the switch.
    UntilSwitched,
    /// While no endpoint serves, or nobody is there to switch.
    WhileFaulty,
}

/// A scenario for a cast: what is played and what is promised.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario.
    pub scenario: Scenario,
    /// What was drawn from.
    pub seed: u64,
    /// The service.
    pub service: ServiceName,
    /// Its preferred endpoint.
    pub home: EndpointName,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What is promised.
    pub promises: Vec<Promise>,
}

impl Plan {
    /// How long it takes at most, if everything goes as promised.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.steps.iter().map(Step::longest).sum()
    }
}

impl Step {
    /// In words.
    #[must_use]
    pub fn sentence(&self) -> String {
        let seconds = |span: &Duration| format!("{:.3} s", span.as_secs_f64());
        match self {
            Self::Pause(span) => format!("wait {}", seconds(span)),
            Self::Arm(whom, fault) => format!("{} {}", whom.label(), fault.sentence()),
            Self::Heal(whom) => format!("heal {}", whom.label()),
            Self::Await(goal, most) => {
                format!("until {}, for {} at most", goal.sentence(), seconds(most))
            }
            Self::Spoil => "overwrite the policy with rubbish".into(),
            Self::Mend => "repair the policy".into(),
            Self::Kill => "kill the sidecar".into(),
            Self::Restart => "start another sidecar".into(),
        }
    }

    const fn longest(&self) -> Duration {
        match self {
            Self::Pause(span) | Self::Await(_, span) => *span,
            Self::Arm(..)
            | Self::Heal(_)
            | Self::Spoil
            | Self::Mend
            | Self::Kill
            | Self::Restart => Duration::ZERO,
        }
    }
}

impl Scenario {
    /// The script for a cast; the same seed gives the same.
    #[must_use]
    pub fn plan(&self, cast: &Cast<'_>, seed: u64) -> Plan {
        let rng = Rng::new(seed);
        let mut author = Author { cast, rng, steps: Vec::new(), promises: Vec::new() };
        // Where within the rhythm of probes the fault begins is left to chance.
        let offset = author.up_to(cast.rules.probe.interval);
        author.pause(offset);
        (self.script)(&mut author);
        author.pause(LOOK);
        author.promise(Promise::AsQuick(cast.bounds.allowance()));
        let Author { steps, promises, .. } = author;
        let (service, home) = (cast.rules.name.clone(), cast.home.clone());
        Plan { scenario: *self, seed, service, home, steps, promises }
    }
}

/// Writes a script.
#[derive(Debug)]
pub struct Author<'a> {
    cast: &'a Cast<'a>,
    rng: Rng,
    steps: Vec<Step>,
    promises: Vec<Promise>,
}

impl Author<'_> {
    fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.rng.below(most.saturating_add(1)))
    }

    fn pause(&mut self, span: Duration) {
        self.steps.push(Step::Pause(span));
    }

    fn arm(&mut self, whom: Whom, fault: Fault) {
        self.steps.push(Step::Arm(whom, fault));
    }

    fn heal(&mut self, whom: Whom) {
        self.steps.push(Step::Heal(whom));
    }

    /// Waits half as long again as promised, so that what is late is measured too.
    fn await_for(&mut self, goal: Goal, promised: Duration) {
        self.steps.push(Step::Await(goal, promised + promised / 2 + LOOK));
    }

    fn promise(&mut self, promise: Promise) {
        self.promises.push(promise);
    }

    const fn bounds(&self) -> &Bounds {
        &self.cast.bounds
    }

    /// The fault, the switch, and some time after it.
    fn leave(&mut self, fault: Fault) -> Duration {
        let switch = self.bounds().switch(fault);
        self.arm(Whom::Home, fault);
        self.await_for(Goal::Away, switch);
        let stay = LOOK + self.up_to(LOOK);
        self.pause(stay);
        self.promise(Promise::Detected(self.bounds().detection(fault)));
        self.promise(Promise::Published(self.bounds().publish()));
        self.promise(Promise::Switched(switch));
        self.promise(Promise::Outage(self.bounds().outage(fault, self.cast.pace)));
        switch + switch / 2 + stay
    }

    /// The healing, and the return if there is to be one; gives the moves that it takes.
    fn come_back(&mut self, fault: Fault, out: Duration, outages: u32) -> u32 {
        self.heal(Whom::Home);
        if !self.bounds().returns() {
            let recovery = self.bounds().recovery(fault, out) + self.bounds().standby();
            self.await_for(Goal::AllWell, recovery);
            return 0;
        }
        let failback = self.bounds().failback(fault, out, outages);
        self.await_for(Goal::Back, failback);
        self.promise(Promise::Returned(failback));
        self.promise(Promise::Held(self.cast.rules.failover.failback.hold));
        1
    }

    /// One outage of the preferred endpoint by a fault that must be found.
    fn outage(&mut self, fault: Fault) {
        let out = self.leave(fault);
        let back = self.come_back(fault, out, 1);
        self.promise(Promise::Moves(1 + back));
        self.promise(Promise::FailedCalls(Failing::UntilSwitched));
    }

    /// A fault that must not move anything.
    fn nuisance(&mut self, fault: Fault) {
        self.arm(Whom::Home, fault);
        let span = LOOK.saturating_mul(2) + self.cast.rules.probe.interval.saturating_mul(4);
        self.pause(span);
        self.heal(Whom::Home);
        self.promise(Promise::Moves(0));
    }

    /// What publishing no endpoint at all adds to the moves.
    fn moves_to_nothing(&self) -> u32 {
        u32::from(self.cast.rules.failover.on_all_down == OnAllDown::Fail)
    }

    /// Whether another endpoint has a quota of its own.
    fn another_account(&self) -> bool {
        let endpoints = &self.cast.rules.endpoints;
        let home = endpoints.iter().find(|endpoint| endpoint.name == self.cast.home);
        home.is_some_and(|home| endpoints.iter().any(|other| other.account != home.account))
    }
}

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::chaos::lab::Book;

    fn with_plan<T>(
        scenario: &Scenario,
        seed: u64,
        look: impl FnOnce(&ServiceRules, Plan) -> T,
    ) -> T {
        let book = Book::built_in().expect("our own policy");
        let part =
            book.services.first().expect("a service").part.clone().expect("it can be played");
        let bounds = Bounds::new(&part.rules, Duration::ZERO);
        let home = part.rules.endpoints.first().expect("an endpoint").name.clone();
        let pace = Duration::from_millis(20);
        let plan = scenario.plan(&Cast { rules: &part.rules, home, bounds, pace }, seed);
        look(&part.rules, plan)
    }

    #[test]
    fn each_scenario_has_a_name_of_its_own_by_which_it_is_found() {
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        assert!(CATALOGUE.iter().all(|scenario| find(scenario.name) == Some(scenario)));
        assert_eq!(find("nothing"), None);
    }

    /// Whom a fault is still on when the script is over.
    fn still_faulty(plan: &Plan) -> (bool, bool) {
        let (mut home, mut others) = (false, false);
        for step in &plan.steps {
            let (whom, faulty) = match step {
                Step::Arm(whom, _) => (*whom, true),
                Step::Heal(whom) => (*whom, false),
                Step::Pause(_)
                | Step::Await(..)
                | Step::Spoil
                | Step::Mend
                | Step::Kill
                | Step::Restart => continue,
            };
            match whom {
                Whom::Home => home = faulty,
                Whom::Others => others = faulty,
                Whom::All => (home, others) = (faulty, faulty),
            }
        }
        (home, others)
    }

    proptest! {
        #[test]
        fn a_script_follows_from_its_seed_and_undoes_what_it_does(
            seed in any::<u64>(), at in 0..CATALOGUE.len(),
        ) {
            let scenario = CATALOGUE.get(at).expect("a scenario");
            let (steps, again) = with_plan(scenario, seed, |_, plan| {
                let again = with_plan(scenario, seed, |_, again| again.steps);
                (plan.steps, again)
            });
            prop_assert_eq!(steps, again);
            with_plan(scenario, seed, |rules, plan| {
                assert_eq!(still_faulty(&plan), (false, false));
                let count = |wanted: &Step| plan.steps.iter().filter(|step| *step == wanted).count();
                assert_eq!(count(&Step::Spoil), count(&Step::Mend));
                assert_eq!(count(&Step::Kill), count(&Step::Restart));
                let moves = |one: &Promise| matches!(one, Promise::Moves(_));
                assert_eq!(plan.promises.iter().filter(|one| moves(one)).count(), 1);
                let first = plan.steps.first();
                assert!(matches!(first, Some(Step::Pause(span)) if *span <= rules.probe.interval));
            });
        }
    }

    #[test]
    fn what_jitters_stays_below_every_limit_of_the_policy() {
        with_plan(find("latency-jitter").expect("a scenario"), 1, |rules, plan| {
            let most = rules.probe.timeout / 2;
            let small =
                |step: &Step| matches!(step, Step::Arm(_, Fault::Jitter(late)) if *late < most);
            assert!(plan.steps.iter().any(small));
        });
    }
}
