//! `chaos explain`: a scenario as it would be played on a policy, with every bound.

use clap::Args;
use serde_json::{Value, json};

use crate::chaos::bounds::Bounds;
use crate::chaos::lab::Part;
use crate::chaos::observe::pace;
use crate::chaos::scenario::{Cast, Plan, Promise, Scenario, Step};
use crate::cli::chaos::policy::{DrilledArgs, parts};
use crate::cli::chaos::run::known;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;
use crate::core::record::SCHEMA;

/// Show the phases of a scenario and the bounds that follow from the policy.
#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The scenario.
    #[arg(value_name = "SCENARIO")]
    scenario: String,
    #[command(flatten)]
    drilled: DrilledArgs,
    /// What the script is drawn from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let scenario = known(&self.scenario)?;
        let parts = parts(&self.drilled.book()?, terminal)?;
        let allowance = self.drilled.allowance();
        let plans: Vec<Plan> = parts
            .iter()
            .filter_map(|part| {
                plan(part, scenario, &Bounds::new(&part.rules, allowance), self.seed)
            })
            .collect();
        if self.json {
            let plans: Vec<Value> = plans.iter().map(document).collect();
            terminal.print_json(&json!({
                "schema": SCHEMA,
                "scenario": scenario.name,
                "injects": scenario.injects,
                "must": scenario.must,
                "allowance_seconds": allowance.as_secs_f64(),
                "seed": self.seed,
                "plans": plans,
            }))?;
            return Ok(Exit::Fine);
        }
        let mut text = format!(
            "{}\n  injects {}\n  must    {}\n",
            terminal.paint(Tone::Strong, scenario.name),
            scenario.injects,
            scenario.must
        );
        for plan in &plans {
            text.push_str(&view(plan, terminal));
        }
        let note = format!("\nEach bound holds {} for the machine.\n", time::latency(allowance));
        text.push_str(&terminal.paint(Tone::Quiet, note));
        terminal.print(&text)?;
        Ok(Exit::Fine)
    }
}

/// The script that would be played if the first endpoint of the best tier is active.
pub(super) fn plan(part: &Part, scenario: &Scenario, bounds: &Bounds, seed: u64) -> Option<Plan> {
    let home = part.rules.endpoints.iter().min_by_key(|endpoint| endpoint.tier)?;
    let (home, pace) = (home.name.clone(), pace(bounds.call()));
    let cast = Cast { rules: &part.rules, home, bounds: bounds.clone(), pace };
    Some(scenario.plan(&cast, seed))
}

fn view(plan: &Plan, terminal: Terminal) -> String {
    let service = terminal.paint(Tone::Strong, &plan.service);
    let longest = time::span(plan.longest());
    let mut text = format!("\n{service} at {}, {longest} at most\n", plan.home);
    for (number, step) in (1..).zip(&plan.steps) {
        let line = format!("{number:>4}. {}\n", step.sentence());
        text.push_str(&line);
    }
    let mut table = Table::new(&["  PROMISE", "BOUND"]);
    for promise in &plan.promises {
        let (what, bound) = words(*promise);
        table.row(vec![Cell::from(format!("  {what}")), bound.into()]);
    }
    text.push_str(&table.render(terminal));
    text
}

/// A promise in words.
fn words(promise: Promise) -> (&'static str, String) {
    use crate::chaos::scenario::Failing;
    match promise {
        Promise::Detected(bound) => ("fault to verdict", time::latency(bound)),
        Promise::Published(bound) => ("decision to env file", time::latency(bound)),
        Promise::Switched(bound) => ("fault to env file", time::latency(bound)),
        Promise::Outage(bound) => ("longest time without a good call", time::latency(bound)),
        Promise::Rescued(bound) => ("backup healed to env file", time::latency(bound)),
        Promise::Resumed(bound) => ("next sidecar to env file", time::latency(bound)),
        Promise::Returned(bound) => ("healed to env file, hold included", time::latency(bound)),
        Promise::Held(hold) => ("the same, at least", time::latency(hold)),
        Promise::PolicyRefused(bound) => ("edit to refusal", time::latency(bound)),
        Promise::PolicyAccepted(bound) => ("repair to acceptance", time::latency(bound)),
        Promise::Moves(count) => ("moves", format!("exactly {count}")),
        Promise::AllDownTold(count) => ("loss of all told", format!("exactly {count}")),
        Promise::AsQuick(more) => (
            "calls at the end",
            format!("as quick as before, within 25 % and {}", time::latency(more)),
        ),
        Promise::FailedCalls(Failing::Never) => ("failed calls", "none".into()),
        Promise::FailedCalls(Failing::UntilSwitched) => {
            ("failed calls", "none before the fault or after the switch".into())
        }
        Promise::FailedCalls(Failing::WhileFaulty) => {
            ("failed calls", "none before the fault or after its end".into())
        }
    }
}

fn document(plan: &Plan) -> Value {
    let steps: Vec<String> = plan.steps.iter().map(Step::sentence).collect();
    let promise = |promise: &Promise| {
        let (what, bound) = words(*promise);
        json!({ "promise": what, "bound": bound })
    };
    let promises: Vec<Value> = plan.promises.iter().map(promise).collect();
    json!({
        "service": plan.service.as_str(),
        "endpoint": plan.home.as_str(),
        "longest_seconds": plan.longest().as_secs_f64(),
        "steps": steps,
        "promises": promises,
    })
}
