//! The state directory against crashes, damage, full disks and other sidecars.

mod backup;
mod bucket;
mod crash;
mod damage;
mod keeping;
mod space;

use mcp_failover::core::action::{Decision, MoveKind};
use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::core::record::{HistoryRecord, SCHEMA};
use mcp_failover::store::HistoryQuery;

/// A time of day, in milliseconds since 1970.
const NOW: u64 = 1_763_900_000_000;

fn record(revision: u64) -> HistoryRecord {
    of("pinecone", MoveKind::Failover, revision)
}

fn of(service: &str, kind: MoveKind, revision: u64) -> HistoryRecord {
    HistoryRecord {
        schema: SCHEMA,
        at: "2025-11-23T12:13:20.000Z".to_owned(),
        decision: Decision {
            revision: Revision::new(revision),
            service: ServiceName::new(service),
            from: Some(EndpointName::new("primary")),
            to: Some(EndpointName::new("secondary")),
            kind,
            cause: "three attempts in a row were refused\nand \"quoted\"".to_owned(),
            evidence: Vec::new(),
        },
    }
}

fn revisions(records: &[HistoryRecord]) -> Vec<u64> {
    records.iter().map(|record| record.decision.revision.get()).collect()
}

const ALL: HistoryQuery = HistoryQuery { service: None, kind: None, limit: None };
