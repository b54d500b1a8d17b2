//! The catalogue keeps its own promises.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_name_follows_the_conventions() {
    let mut names = BTreeSet::new();
    for metric in CATALOGUE {
        let name = metric.name;
        assert!(names.insert(name), "{name} stands twice");
        assert!(name.starts_with("mcp_failover_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert_eq!(metric.buckets.is_empty(), metric.kind != Kind::Histogram, "{name}");
        assert!(metric.buckets.is_sorted(), "{name}");
        assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{name}");
        let base = name.trim_end_matches("_total");
        assert_eq!(base.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
        assert_eq!(base.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
        assert_eq!(base.ends_with("_ratio"), metric.unit == Unit::Ratio, "{name}");
    }
}

#[test]
fn the_documentation_has_a_row_for_every_metric() {
    let table = markdown();
    assert_eq!(table.lines().count(), CATALOGUE.len() + 2);
    for metric in CATALOGUE {
        assert!(table.contains(&format!("| `{}` |", metric.name)), "{}", metric.name);
    }
}

#[test]
fn a_count_is_shown_exactly() {
    for count in [0, 1, 4_294_967_295, 4_294_967_296, 9_007_199_254_740_991_u64] {
        assert_eq!(format!("{}", float(count)), count.to_string());
    }
}
