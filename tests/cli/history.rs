//! `history` where no sidecar runs.

use mcp_failover::core::record::HistoryRecord;
use mcp_failover::store::Store;
use serde_json::json;

use super::{Place, quiet_policy};

fn record(revision: u64, service: &str) -> HistoryRecord {
    serde_json::from_value(json!({
        "schema": 1, "at": "2026-01-01T00:00:00.000Z", "revision": revision, "service": service,
        "from": "primary", "to": "secondary", "kind": "failover", "cause": "it died",
        "evidence": [],
    }))
    .expect("a record")
}

#[test]
fn the_state_directory_is_read_newest_first() {
    let place = Place::new();
    place.file("failover.toml", &quiet_policy());
    let now = 1_767_225_600_000;
    let mut opened = Store::open(&place.path().join("state"), now).expect("a store");
    for (revision, service) in [(1, "search"), (2, "other"), (3, "search")] {
        opened.store.append(&record(revision, service), now).expect("an append");
    }
    drop(opened);
    let revisions = |args: &[&str]| -> Vec<u64> {
        let ran = place.run(args).code(0);
        let one = |line: &str| {
            let record: HistoryRecord = serde_json::from_str(line).expect("a record");
            record.decision.revision.get()
        };
        ran.out.lines().map(one).collect()
    };
    assert_eq!(revisions(&["history", "--json"]), [3, 2, 1]);
    assert_eq!(revisions(&["history", "--json", "-n", "2"]), [3, 2]);
    assert_eq!(revisions(&["history", "--json", "--service", "search"]), [3, 1]);
}

#[test]
fn no_state_at_all_is_no_move_so_far() {
    let place = Place::new();
    place.file("failover.toml", &quiet_policy());
    std::fs::create_dir_all(place.path().join("state")).expect("a directory");
    let ran = place.run(&["history"]).code(0);
    assert!(ran.out.is_empty() && ran.err.contains("no move so far"), "{ran:?}");
}
