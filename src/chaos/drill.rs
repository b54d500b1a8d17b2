//! Plays one scenario in a lab of its own.
//!
//! Validate, reach the steady state, play the steps and put every fault to the proof, reach the
//! steady state again, look at what the sidecar holds, take the lab down, judge. The last two
//! happen whatever became of the others.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::admin::control_client::Client;
use crate::admin::document::{EndpointDocument, StatusDocument};
use crate::admin::protocol::{Answer, HistoryQuery, Request};
use crate::chaos::bounds::{Bounds, START};
use crate::chaos::fault::Fault;
use crate::chaos::lab::{CONTROL, ENV, Holding, Lab, LabError, Part};
use crate::chaos::observe::{
    CallEnd, Canary, EnvReader, Expected, Listener, LoadClient, Mark, Notebook, pace,
};
use crate::chaos::scenario::{Cast, Goal, Plan, Scenario, Step, Whom};
use crate::chaos::verdict::{Aftermath, Judgement, Verdict, judge};
use crate::core::action::{Decision, Event};
use crate::core::health::Health;
use crate::core::id::EndpointName;
use crate::core::outcome::Verdict as OutcomeVerdict;
use crate::policy::model::Probe;
use crate::probe::Prober;

/// Time between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(3);
/// The same where the sidecar must be asked.
const ASK: Duration = Duration::from_millis(25);
/// Good calls in a row that are a steady state.
const STEADY_CALLS: usize = 30;
/// Looks at what a sidecar holds; the least of them counts.
const LOOKS: u32 = 25;
/// Beyond everything that a steady state takes by the policy.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a canary looks for a delay that is random.
const CANARY_LOOKS: u32 = 12;
/// What overwrites a policy that is to be spoilt.
const RUBBISH: &str = "version = 1\n[services.search\nthis is not a policy = = 1\n";

/// How drills are played.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program whose `run` is the sidecar.
    pub program: PathBuf,
    /// What is allowed to the machine.
    pub allowance: Duration,
    /// Whether the directories of labs are kept.
    pub keep: bool,
    /// Cancelled from outside to undo everything and return.
    pub stop: CancellationToken,
}

/// Where a drill is.
#[derive(Clone, Copy, Debug)]
pub enum Phase<'a> {
    /// The lab is being built.
    Building,
    /// The steady state is being reached.
    Baseline,
    /// The steady state is reached, and nothing has been done yet.
    Ready(&'a Plan),
    /// A step is being played.
    Playing(&'a Step),
    /// The steady state is being reached again.
    Settling,
    /// Everything is being undone.
    RollingBack,
}

/// Hears where a drill is, and may look at its lab.
pub type Told<'a> = &'a dyn Fn(Phase<'_>, &Lab);

/// A drill that was played.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it was played from.
    pub seed: u64,
    /// The plan; `None` when it did not come so far.
    pub plan: Option<Plan>,
    /// What came of it.
    pub judgement: Judgement,
    /// The lab's directory, when it is kept.
    pub kept: Option<PathBuf>,
    /// Whether it was cut short from outside.
    pub interrupted: bool,
    /// How long it took.
    pub took: Duration,
}

/// Plays a scenario once.
pub async fn play(
    part: &Part,
    scenario: &Scenario,
    seed: u64,
    options: &Options,
    told: Told<'_>,
) -> Run {
    let notes = Notebook::begin();
    let mut after = Aftermath::default();
    let mut drill = match Drill::begin(part, seed, options, notes.clone()).await {
        Ok(drill) => drill,
        Err(error) => return broken(seed, &notes, format!("failed to {error}")),
    };
    let mut plan = None;
    let interrupted = tokio::select! {
        played = drill.run(scenario, &mut plan, told) => {
            match played {
                Ok(holding) => after.holding = holding,
                Err(error) => after.broken = Some(error),
            }
            false
        }
        () = options.stop.cancelled() => {
            after.broken = Some("it was interrupted".to_owned());
            true
        }
    };
    told(Phase::RollingBack, &drill.lab);
    let kept = drill.lab.kept().map(ToOwned::to_owned);
    after.leftovers = Box::pin(drill.end()).await;
    let log = notes.with(|log| log.clone());
    let judgement = match &plan {
        Some(plan) => judge(plan, &log, &after),
        None => nothing(after.broken.unwrap_or_default()),
    };
    Run { seed, plan, judgement, kept, interrupted, took: notes.now() }
}

/// A drill that did not begin.
fn broken(seed: u64, notes: &Notebook, why: String) -> Run {
    let judgement = nothing(why);
    Run { seed, plan: None, judgement, kept: None, interrupted: false, took: notes.now() }
}

fn nothing(why: String) -> Judgement {
    Judgement { verdict: Verdict::Error, checks: Vec::new(), reasons: vec![why] }
}

/// A lab and those who watch it.
struct Drill<'a> {
    part: &'a Part,
    seed: u64,
    bounds: Bounds,
    notes: Notebook,
    lab: Lab,
    prober: Prober,
    watchers: Option<(EnvReader, LoadClient, Listener)>,
    canaries: JoinSet<()>,
    /// The preferred endpoint, once it is known.
    home: Option<EndpointName>,
}

impl<'a> Drill<'a> {
    async fn begin(
        part: &'a Part,
        seed: u64,
        options: &Options,
        notes: Notebook,
    ) -> Result<Self, LabError> {
        let lab = Lab::build(part, &options.program, seed, options.keep).await?;
        let prober = Prober::new().map_err(|error| LabError::Policy(error.to_string()))?;
        let bounds = Bounds::new(&part.rules, options.allowance);
        let canaries = JoinSet::new();
        let (watchers, home) = (None, None);
        Ok(Self { part, seed, bounds, notes, lab, prober, watchers, canaries, home })
    }

    /// Everything but the end; gives what the sidecar held before and after.
    async fn run(
        &mut self,
        scenario: &Scenario,
        plan: &mut Option<Plan>,
        told: Told<'_>,
    ) -> Result<Option<(Holding, Holding)>, String> {
        told(Phase::Building, &self.lab);
        self.validate().await?;
        self.watch().map_err(|error| format!("the lab could not be started: {error}"))?;
        told(Phase::Baseline, &self.lab);
        if !self.steady(PATIENCE + self.bounds.standby() * 3 + START).await {
            return Err("the steady state was not reached: nothing was injected".to_owned());
        }
        let home = self.notes.with(|log| log.active().cloned());
        let home = home.ok_or("the file names no endpoint")?;
        self.must_be_preferred(&home)?;
        self.home = Some(home.clone());
        let before = self.holding().await;
        let rules = &self.part.rules;
        let (bounds, pace) = (self.bounds.clone(), pace(self.bounds.call()));
        let cast = Cast { rules, home, bounds, pace };
        let plan = plan.insert(scenario.plan(&cast, self.seed));
        told(Phase::Ready(plan), &self.lab);
        self.notes.mark(Mark::Steady);
        for step in &plan.steps {
            told(Phase::Playing(step), &self.lab);
            self.step(step, &plan.home).await.map_err(|error| format!("a step failed: {error}"))?;
        }
        told(Phase::Settling, &self.lab);
        while self.canaries.join_next().await.is_some() {}
        if self.steady(PATIENCE + self.bounds.standby() * 3).await {
            self.notes.mark(Mark::SteadyAgain);
        }
        let later = self.holding().await;
        let history = self.history().await;
        self.notes.with(|log| log.history = history);
        if self.lab.lost_its_sidecar() {
            self.notes.mark(Mark::Lost);
        }
        Ok(before.zip(later))
    }

    /// The lab must satisfy the service's own probes before anything depends on it.
    async fn validate(&self) -> Result<(), String> {
        for (name, probe) in self.probes() {
            let report = self.prober.run(&probe, probe.timeout).await;
            let outcome = report.observation.outcome;
            if outcome.verdict() != OutcomeVerdict::Pass {
                return Err(format!(
                    "the lab's answer does not satisfy the probe of {name}: {outcome}"
                ));
            }
        }
        Ok(())
    }

    fn probes(&self) -> Vec<(EndpointName, std::sync::Arc<Probe>)> {
        let service = self.lab.staged().policy.services.get(&self.part.name);
        let endpoints = service.into_iter().flat_map(|service| service.endpoints.iter());
        endpoints.map(|(name, one)| (name.clone(), std::sync::Arc::clone(&one.probe))).collect()
    }

    /// Starts the sidecar and those who watch.
    fn watch(&mut self) -> io::Result<()> {
        let expected = Expected::of(&self.lab.staged().policy, &self.part.name);
        let (env, control) = (self.lab.path(ENV), self.lab.path(CONTROL));
        let notes = || self.notes.clone();
        let deadline = self.bounds.call();
        let reader = EnvReader::start(env.clone(), expected.clone(), notes())?;
        let client = LoadClient::start(env, expected, notes(), deadline);
        let listener = Listener::noting(control, notes());
        self.watchers = Some((reader, client, listener));
        self.lab.start()
    }

    /// Waits until every endpoint is healthy and calls have been good for a while.
    async fn steady(&mut self, most: Duration) -> bool {
        let begun = self.notes.now();
        let calm = |log: &mut super::observe::Log| {
            let since = log.calls.iter().rev().filter(|call| call.begun >= begun);
            let good = since.take_while(|call| call.end == CallEnd::Good).take(STEADY_CALLS);
            good.count() == STEADY_CALLS
        };
        while self.notes.now() < begun + most {
            if self.notes.with(calm) && self.came_about(Goal::AllWell).await {
                return true;
            }
            if self.lab.lost_its_sidecar() {
                return false;
            }
            sleep(ASK).await;
        }
        false
    }

    fn must_be_preferred(&self, home: &EndpointName) -> Result<(), String> {
        let endpoints = &self.part.rules.endpoints;
        let best = endpoints.iter().map(|endpoint| endpoint.tier).min();
        let here = endpoints.iter().find(|endpoint| endpoint.name == *home);
        if here.map(|endpoint| endpoint.tier) == best {
            return Ok(());
        }
        Err(format!("the steady state was not reached: the file names {home}"))
    }

    async fn holding(&self) -> Option<Holding> {
        let mut least: Option<Holding> = None;
        for _ in 0..LOOKS {
            let now = Holding::of(self.lab.pid()?)?;
            least = Some(least.map_or(now, |before| before.least(now)));
            sleep(ASK).await;
        }
        least
    }

    async fn step(&mut self, step: &Step, home: &EndpointName) -> io::Result<()> {
        match step {
            Step::Pause(span) => sleep(*span).await,
            Step::Arm(whom, fault) => self.arm(*whom, *fault, home).await,
            Step::Heal(whom) => {
                // Counted from before it serves: what is measured is never too short.
                self.notes.mark(Mark::Healed(*whom));
                for name in self.names(*whom, home) {
                    self.lab.arm(&name, Fault::None).await;
                }
                self.notes.mark(Mark::Serving(*whom));
            }
            Step::Await(goal, most) => self.await_for(*goal, *most).await,
            Step::Spoil => {
                self.notes.mark(Mark::Spoiled);
                self.lab.write_policy(RUBBISH)?;
            }
            Step::Mend => {
                self.notes.mark(Mark::Mended);
                self.lab.mend_policy()?;
            }
            Step::Kill => {
                self.notes.mark(Mark::Killed);
                self.lab.kill().await;
            }
            Step::Restart => {
                self.notes.mark(Mark::Restarted);
                self.lab.start()?;
            }
        }
        Ok(())
    }

    fn names(&self, whom: Whom, home: &EndpointName) -> Vec<EndpointName> {
        self.lab.whom(whom, home).cloned().collect()
    }

    /// Puts a fault in force, and proves it by a probe of our own on each endpoint.
    async fn arm(&mut self, whom: Whom, fault: Fault, home: &EndpointName) {
        // Counted from before it is in force: what is measured is never too short.
        self.notes.mark(Mark::Armed(whom, fault));
        let names = self.names(whom, home);
        for name in &names {
            self.lab.arm(name, fault).await;
        }
        for (name, probe) in self.probes().into_iter().filter(|(name, _)| names.contains(name)) {
            let (prober, notes) = (self.prober.clone(), self.notes.clone());
            self.canaries.spawn(async move {
                let canary = prove(&prober, &probe, name, fault).await;
                notes.with(|log| log.canaries.push(canary));
            });
        }
    }

    async fn await_for(&mut self, goal: Goal, most: Duration) {
        let begun = self.notes.now();
        while self.notes.now() < begun + most {
            if self.came_about(goal).await {
                return self.notes.mark(Mark::Reached(goal));
            }
            if self.lab.lost_its_sidecar() {
                return self.notes.mark(Mark::Lost);
            }
            sleep(LOOK).await;
        }
        self.notes.mark(Mark::Missed(goal));
    }

    async fn came_about(&self, goal: Goal) -> bool {
        let home = self.home.as_ref();
        let active = || self.notes.with(|log| log.active().cloned());
        let well = |document: &StatusDocument, name: Option<&EndpointName>| {
            let service = document.services.get(&self.part.name);
            let endpoints = service.into_iter().flat_map(|service| &service.endpoints);
            let mut meant = endpoints.filter(|(one, _)| name.is_none_or(|name| *one == name));
            meant.all(|(_, one)| serves(one))
        };
        match goal {
            Goal::Away => active().is_some_and(|now| Some(&now) != home),
            Goal::Back => active().is_some_and(|now| Some(&now) == home),
            Goal::AllDown => self.notes.with(|log| {
                log.events.iter().any(|(_, event)| matches!(event, Event::AllDown { .. }))
            }),
            Goal::Well => self.status().await.is_some_and(|document| well(&document, home)),
            Goal::AllWell => self.status().await.is_some_and(|document| well(&document, None)),
            Goal::Refused => self.status().await.is_some_and(|document| !document.policy.valid),
            Goal::Accepted => self.status().await.is_some_and(|document| document.policy.valid),
        }
    }

    /// What the sidecar says of itself; `None` while there is none.
    async fn status(&self) -> Option<StatusDocument> {
        sleep(ASK).await;
        let mut client = Client::connect(&self.lab.path(CONTROL)).await.ok()?;
        let answer = client.call(&Request::Status).await.ok()?;
        if let Answer::Status(document) = answer { Some(*document) } else { None }
    }

    /// Every move that the sidecar remembers.
    async fn history(&self) -> Option<Vec<Decision>> {
        let query = HistoryQuery { service: None, n: HistoryQuery::COUNT_MAX };
        let mut client = Client::connect(&self.lab.path(CONTROL)).await.ok()?;
        let answer = client.call(&Request::History { query }).await.ok()?;
        let Answer::History(records) = answer else { return None };
        Some(records.into_iter().map(|record| record.decision).collect())
    }

    /// Undoes everything; tells what is left.
    async fn end(mut self) -> Vec<String> {
        self.canaries.shutdown().await;
        self.prober.settled().await;
        let Self { lab, watchers, .. } = self;
        // Without a sidecar there is nothing to see, and a file that goes with its directory is no
        // fault of anybody's.
        drop(watchers);
        lab.tear_down().await
    }
}

/// Whether an endpoint could be chosen now.
fn serves(endpoint: &EndpointDocument) -> bool {
    let healthy = matches!(endpoint.health, Health::Healthy | Health::Degraded);
    healthy && endpoint.unusable.is_none()
}

/// Whether a fault shows to the service's own probe.
async fn prove(prober: &Prober, probe: &Probe, endpoint: EndpointName, fault: Fault) -> Canary {
    let run = || prober.run(probe, probe.timeout);
    let Fault::Jitter(most) = fault else {
        let outcome = run().await.observation.outcome;
        let effective = outcome.verdict() != OutcomeVerdict::Pass;
        return Canary { endpoint, fault, outcome: outcome.to_string(), effective };
    };
    let mut outcome = String::new();
    for _ in 0..CANARY_LOOKS {
        let observation = run().await.observation;
        outcome = observation.outcome.to_string();
        if observation.latency > most / 8 {
            return Canary { endpoint, fault, outcome, effective: true };
        }
    }
    Canary { endpoint, fault, outcome, effective: false }
}
