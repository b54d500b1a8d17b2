//! Several drills, several times each, some of them at the same time.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::chaos::check::{Check, Limit, Quantity};
use crate::chaos::drill::{Options, Phase, Run, play};
use crate::chaos::lab::{Lab, Part};
use crate::chaos::scenario::Scenario;
use crate::chaos::verdict::Verdict;
use crate::core::id::ServiceName;

/// What is played.
#[derive(Clone, Debug)]
pub struct Programme {
    /// The services.
    pub parts: Vec<Arc<Part>>,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// How often each is played.
    pub runs: u32,
    /// What the first run is drawn from; each further one takes the number after it.
    pub seed: u64,
    /// How many are played at the same time.
    pub jobs: usize,
}

/// One scenario on one service.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Slot {
    scenario: usize,
    part: usize,
}

/// What came of one scenario on one service.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario.
    pub scenario: Scenario,
    /// The service.
    pub service: ServiceName,
    /// Its runs, in the order of their seeds.
    pub runs: Vec<Run>,
}

/// One measurement over all runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name.
    pub id: &'static str,
    /// The measurements, rising; one that was not seen is missing.
    pub measured: Vec<Quantity>,
    /// What each was held against; the widest where they differ.
    pub limit: Limit,
    /// Whether all of them hold.
    pub holds: bool,
}

/// Hears of what is being played.
pub trait Audience {
    /// A drill has come to a phase.
    fn told(&self, scenario: &Scenario, service: &ServiceName, phase: Phase<'_>, lab: &Lab);
    /// A drill has ended; so many of so many have.
    fn ended(&self, scenario: &Scenario, service: &ServiceName, run: &Run, done: (usize, usize));
}

impl Outcome {
    /// The worst of its runs.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.runs.iter().map(|run| run.judgement.verdict);
        verdicts.max().unwrap_or(Verdict::Error)
    }

    /// The first check of this name, by its first run.
    #[must_use]
    pub fn figure(&self, id: &str) -> Option<Figure> {
        self.figures().into_iter().find(|figure| figure.id == id)
    }

    /// Every measurement over all runs, in the order in which they are judged.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<Figure> = Vec::new();
        for check in self.runs.iter().flat_map(|run| &run.judgement.checks) {
            match figures.iter_mut().find(|figure| figure.id == check.id) {
                Some(figure) => figure.add(check),
                None => figures.push(Figure::of(check)),
            }
        }
        for figure in &mut figures {
            figure.measured.sort_by(|one, two| one.number().total_cmp(&two.number()));
        }
        figures
    }
}

impl Figure {
    fn of(check: &Check) -> Self {
        let measured = check.measured.into_iter().collect();
        Self { id: check.id, measured, limit: check.limit, holds: check.holds() }
    }

    fn add(&mut self, check: &Check) {
        self.measured.extend(check.measured);
        self.holds &= check.holds();
        let number = |limit: Limit| match limit {
            Limit::AtMost(bound) | Limit::AtLeast(bound) | Limit::Exactly(bound) => bound.number(),
            Limit::Told => 0.0,
        };
        if number(check.limit) > number(self.limit) {
            self.limit = check.limit;
        }
    }

    /// The least, the median and the greatest.
    #[must_use]
    pub fn spread(&self) -> Option<(Quantity, Quantity, Quantity)> {
        let median = self.measured.get(self.measured.len() / 2)?;
        Some((*self.measured.first()?, *median, *self.measured.last()?))
    }
}

/// Plays a programme. What is under way when it is cut short is undone before this returns.
pub async fn perform(
    programme: &Programme,
    options: &Options,
    audience: Rc<dyn Audience>,
) -> Vec<Outcome> {
    let slots = slots(programme);
    let total = slots.len() * usize::try_from(programme.runs).unwrap_or(1);
    let permits = Arc::new(Semaphore::new(programme.jobs.max(1)));
    let local = LocalSet::new();
    let ended = local.run_until(async {
        let mut drills = JoinSet::new();
        for slot in &slots {
            let Some((scenario, part)) = at(programme, *slot) else { continue };
            for turn in 0..programme.runs {
                let drill = Turn {
                    slot: *slot,
                    scenario,
                    part: Arc::clone(&part),
                    seed: programme.seed.wrapping_add(u64::from(turn)),
                    options: options.clone(),
                };
                let (permits, audience) = (Arc::clone(&permits), Rc::clone(&audience));
                drills.spawn_local(async move {
                    // The semaphore is never closed.
                    let _permit = permits.acquire_owned().await;
                    drill.play(&*audience).await
                });
            }
        }
        let mut ended = Vec::new();
        while let Some(joined) = drills.join_next().await {
            let Ok(Some((slot, run))) = joined else { continue };
            ended.push((slot, run));
            let (done, last) = (ended.len(), ended.last());
            if let Some(((scenario, part), (_, run))) = at(programme, slot).zip(last) {
                audience.ended(&scenario, &part.name, run, (done, total));
            }
        }
        ended
    });
    gathered(programme, &slots, &ended.await)
}

fn slots(programme: &Programme) -> Vec<Slot> {
    let parts = 0..programme.parts.len();
    let of = |scenario| parts.clone().map(move |part| Slot { scenario, part });
    (0..programme.scenarios.len()).flat_map(of).collect()
}

fn at(programme: &Programme, slot: Slot) -> Option<(Scenario, Arc<Part>)> {
    let scenario = programme.scenarios.get(slot.scenario)?;
    Some((*scenario, Arc::clone(programme.parts.get(slot.part)?)))
}

fn gathered(programme: &Programme, slots: &[Slot], ended: &[(Slot, Run)]) -> Vec<Outcome> {
    let outcome = |slot: &Slot| {
        let (scenario, part) = at(programme, *slot)?;
        let own = ended.iter().filter(|(of, _)| of == slot);
        let mut runs: Vec<Run> = own.map(|(_, run)| run.clone()).collect();
        runs.sort_by_key(|run| run.seed);
        Some(Outcome { scenario, service: part.name.clone(), runs })
    };
    slots.iter().filter_map(outcome).filter(|outcome| !outcome.runs.is_empty()).collect()
}

/// One run to be played.
struct Turn {
    slot: Slot,
    scenario: Scenario,
    part: Arc<Part>,
    seed: u64,
    options: Options,
}

impl Turn {
    /// Plays it, unless everything was cut short before.
    async fn play(self, audience: &dyn Audience) -> Option<(Slot, Run)> {
        if self.options.stop.is_cancelled() {
            return None;
        }
        let told = |phase: Phase<'_>, lab: &Lab| {
            audience.told(&self.scenario, &self.part.name, phase, lab);
        };
        let run = play(&self.part, &self.scenario, self.seed, &self.options, &told);
        Some((self.slot, Box::pin(run).await))
    }
}

/// The labs that were kept.
#[must_use]
pub fn kept(outcomes: &[Outcome]) -> Vec<PathBuf> {
    let runs = outcomes.iter().flat_map(|outcome| &outcome.runs);
    runs.filter_map(|run| run.kept.clone()).collect()
}
