//! MCP servers: real ones, made ones, and those that mean harm.

mod endurance;
mod eras;
mod fake;
mod hostile;
mod real;
mod server;
mod sessions;
mod stdio;
mod tokens;

use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, HttpCheck, McpCheck, McpEra, McpExpect, Probe};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::{Prober, Report};

use super::{PATIENT, SLACK, assert_end, target};

/// A server at `/mcp` on this port, of whichever era.
fn mcp(port: u16) -> McpCheck {
    let http = HttpCheck { path: Secret::from("/mcp"), ..HttpCheck::new(target(port)) };
    McpCheck { http, era: McpEra::Auto, expect: McpExpect::default() }
}

fn expecting(port: u16, tools: &[&str], server: Option<&str>) -> McpCheck {
    let mut check = mcp(port);
    check.expect.tools = tools.iter().map(|&tool| tool.to_owned()).collect();
    check.expect.server = server.map(str::to_owned);
    check
}

/// One attempt by a prober that may have made others before.
async fn ask(prober: &Prober, check: &McpCheck, timeout: Duration) -> Report {
    let probe = Probe::new(timeout, Check::Mcp(Box::new(check.clone())));
    let attempt = Box::pin(prober.run(&probe, timeout));
    let report = tokio::time::timeout(timeout + SLACK, attempt).await;
    report.expect("an attempt ends by its deadline")
}

#[track_caller]
fn assert_ok(report: &Report) {
    assert_end(report, Outcome::Ok, "");
}

fn prober() -> Prober {
    Prober::new().expect("TLS works")
}
