//! Ten thousand attempts, to be read by a person: what servers hold and weigh before and after.
//! `benches/mcp-sessions` runs it.

use mcp_failover::policy::model::McpEra;

use super::server::Server;
use super::{PATIENT, ask, assert_ok, mcp, prober};

const ATTEMPTS: usize = 10_000;
/// Attempts before the first weighing, in which a server takes what it always needs.
const WARM_UP: usize = 100;

async fn endure(name: &str, server: &Server, era: McpEra) {
    let prober = prober();
    let mut check = mcp(server.port());
    check.era = era;
    for _ in 0..WARM_UP {
        assert_ok(&ask(&prober, &check, PATIENT).await);
    }
    println!("{name}: {} kB before", server.weight());
    for made in 1..=ATTEMPTS {
        assert_ok(&ask(&prober, &check, PATIENT).await);
        if made % (ATTEMPTS / 4) == 0 {
            println!("{name}: {} kB after {made}", server.weight());
        }
    }
    prober.settled().await;
}

#[tokio::test]
#[ignore = "takes minutes and proves no more than the same with fewer attempts"]
async fn servers_neither_hold_sessions_nor_grow() {
    let Some(server) = Server::python("fastmcp").await else { return };
    for (name, era) in [("FastMCP, legacy", McpEra::Legacy), ("FastMCP, modern", McpEra::Modern)] {
        endure(name, &server, era).await;
        server.holds(0).await;
        println!("{name}: no session left");
    }
    let Some(server) = Server::everything().await else { return };
    endure("server-everything", &server, McpEra::Auto).await;
    println!("server-everything: {} sessions begun and ended", server.ended_all().await);
}
