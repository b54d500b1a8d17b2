//! The scenarios: what is done to whom, in which order, and what is promised meanwhile.
//!
//! Pure: a scenario and a cast give a plan, which can be read as well as played. What is random in
//! it is drawn from the seed when the plan is made.

mod catalogue;

use std::time::Duration;

use crate::chaos::bounds::Bounds;
use crate::chaos::fault::Fault;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::rng::Rng;
use crate::core::rules::{OnAllDown, ServiceRules};

pub use catalogue::{CATALOGUE, find};

/// Time that a client is given to be seen well, or not, between two steps.
const LOOK: Duration = Duration::from_millis(600);

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
