//! Years of trouble in seconds: seeded worlds around one engine, judged after every step.
//!
//! `MCPF_SIM_SEED=7` replays one world; `MCPF_SIM_SEEDS` and `MCPF_SIM_STEPS` say how many worlds
//! and how many inputs each.

mod checks;
mod policy;
mod upstream;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use checks::Seen;
use world::{Tally, World};

/// A run that never saw one of these has shown nothing.
const MUST_SEE: [&str; 22] = [
    "failover",
    "failback",
    "switchover",
    "start",
    "reload",
    "rollback",
    "ineffective",
    "effective at last",
    "all down",
    "revived",
    "half-open",
    "isolation",
    "throttled",
    "auth failed",
    "probe misconfigured",
    "critical failure",
    "output failure",
    "held by pin",
    "held by stall",
    "held by budget",
    "held by credential",
    "outage of the active endpoint",
];

#[test]
fn years_of_trouble_break_no_invariant() {
    let steps = number("MCPF_SIM_STEPS").unwrap_or(8000);
    let seeds: Vec<u64> = match number("MCPF_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("MCPF_SIM_SEEDS").unwrap_or(300)).collect(),
    };
    let mut seen = Seen::new();
    let mut total = Tally::default();
    for seed in &seeds {
        let (tally, saw) = live(*seed, steps);
        total.add(&tally);
        for (what, count) in saw {
            *seen.entry(what).or_default() += count;
        }
    }
    println!("{} worlds, {total}\n{seen:?}", seeds.len());
    if number("MCPF_SIM_SEED").is_none() {
        let unseen: Vec<_> = MUST_SEE.iter().filter(|what| !seen.contains_key(*what)).collect();
        assert!(unseen.is_empty(), "the run is void: never seen {unseen:?}");
    }
}

fn live(seed: u64, steps: u64) -> (Tally, Seen) {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        world.live(steps);
        world.report()
    }));
    lived.unwrap_or_else(|cause| {
        eprintln!(
            "replay: MCPF_SIM_SEED={seed} MCPF_SIM_STEPS={steps} \
             cargo test --test all simulation -- --nocapture"
        );
        resume_unwind(cause)
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.elapsed += other.elapsed;
        self.restarts += other.restarts;
        self.crashes += other.crashes;
        self.reloads += other.reloads;
        self.stalls += other.stalls;
        self.cuts += other.cuts;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let year = Duration::from_secs(365 * 86_400);
        write!(
            f,
            "{} steps over {:.1} years: {} restarts, {} crashes, {} reloads, {} stalls, {} cuts",
            self.steps,
            self.elapsed.div_duration_f64(year),
            self.restarts,
            self.crashes,
            self.reloads,
            self.stalls,
            self.cuts,
        )
    }
}
