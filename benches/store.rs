//! What it costs to remember: a durable snapshot and a durable history record.
//!
//! Measures the disk of the temporary directory; set `TMPDIR` to choose another.

#![expect(clippy::expect_used, reason = "a bench that cannot set up has nothing to measure")]

use divan::{Bencher, counter::BytesCount};
use mcp_failover::core::action::{Decision, MoveKind};
use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::core::record::{HistoryRecord, SCHEMA};
use mcp_failover::store::{HistoryQuery, Store};
use tempfile::TempDir;

/// A time of day, in milliseconds since 1970.
const NOW: u64 = 1_763_900_000_000;

fn main() {
    divan::main();
}

fn fresh() -> (TempDir, Store) {
    let dir = TempDir::new().expect("a folder");
    let store = Store::open(dir.path(), NOW).expect("opened").store;
    (dir, store)
}

fn record(revision: u64) -> HistoryRecord {
    HistoryRecord {
        schema: SCHEMA,
        at: "2025-11-23T12:13:20.000Z".to_owned(),
        decision: Decision {
            revision: Revision::new(revision),
            service: ServiceName::new("pinecone"),
            from: Some(EndpointName::new("primary")),
            to: Some(EndpointName::new("secondary")),
            kind: MoveKind::Failover,
            cause: "three attempts in a row were refused".to_owned(),
            evidence: Vec::new(),
        },
    }
}

/// Snapshots of about 4, 100 and 1,000 endpoints.
#[divan::bench(args = [2_000, 40_000, 400_000])]
fn save(bencher: Bencher<'_, '_>, bytes: usize) {
    let (_dir, mut store) = fresh();
    let snapshot = vec![b'x'; bytes];
    let mut revision = 0;
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        revision += 1;
        store.save(&snapshot, revision, NOW).expect("saved");
    });
}

#[divan::bench]
fn append(bencher: Bencher<'_, '_>) {
    let (_dir, mut store) = fresh();
    let mut revision = 0;
    bencher.bench_local(|| {
        revision += 1;
        store.append(&record(revision), NOW).expect("appended");
    });
}

fn kept(records: u64) -> (TempDir, Store) {
    let (dir, mut store) = fresh();
    for revision in 1..=records {
        store.append(&record(revision), NOW).expect("appended");
    }
    (dir, store)
}

/// A start with a week's history.
#[divan::bench(args = [100, 2_000])]
fn open(bencher: Bencher<'_, '_>, records: u64) {
    let (dir, store) = kept(records);
    drop(store);
    bencher.bench_local(|| Store::open(dir.path(), NOW).expect("opened"));
}

#[divan::bench(args = [20, 2_000])]
fn history(bencher: Bencher<'_, '_>, limit: usize) {
    let (_dir, store) = kept(2_000);
    let query = HistoryQuery { limit: Some(limit), ..HistoryQuery::default() };
    bencher.bench_local(|| store.history(&query).expect("read"));
}
