//! Every form in which a limit is told, and none of the forms that look like it.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn told(pairs: &[(&'static str, &str)]) -> Option<Quota> {
    let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    read(&headers.collect())
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what may be none")]
fn quota(limit: Option<u64>, remaining: Option<u64>, seconds: Option<u64>) -> Option<Quota> {
    Some(Quota { limit, remaining, resets_in: seconds.map(Duration::from_secs) })
}

#[test]
fn every_family_of_headers_is_read() {
    for (before, after) in FAMILIES {
        let name = |what: &str| format!("{before}{what}{after}").parse().unwrap();
        let headers = [("limit", "100"), ("remaining", "40"), ("reset", "30")];
        let headers = headers.map(|(what, value)| (name(what), value.parse().unwrap()));
        let read = read(&headers.into_iter().collect());
        assert_eq!(read, quota(Some(100), Some(40), Some(30)), "{before}*{after}");
    }
}

#[test]
fn a_part_is_better_than_nothing() {
    assert_eq!(told(&[("x-ratelimit-remaining", "0")]), quota(None, Some(0), None));
    assert_eq!(told(&[("x-ratelimit-limit-requests", "60")]), quota(Some(60), None, None));
    let reset = told(&[("x-ratelimit-reset-requests", "6m0s")]);
    assert_eq!(reset, quota(None, None, Some(360)));
}

#[test]
fn a_limit_followed_by_its_windows_counts_itself() {
    let read = told(&[("ratelimit-limit", "100, 100;w=60"), ("ratelimit-remaining", "99.5")]);
    assert_eq!(read, quota(Some(100), Some(99), None));
}

#[test]
fn of_the_drafts_limits_the_tightest_counts() {
    let read = told(&[
        ("ratelimit", "\"burst\";r=90;t=1, \"daily, free\";r=5;t=3000"),
        ("ratelimit-policy", "\"burst\";q=100;w=60,\"daily, free\";q=1000;w=86400"),
    ]);
    assert_eq!(read, quota(Some(1000), Some(5), Some(3000)));
    assert_eq!(told(&[("ratelimit", "default;r=50;t=30")]), quota(None, Some(50), Some(30)));
}

#[test]
fn the_older_draft_is_read_too() {
    let read = told(&[("ratelimit", "limit=100, remaining=50, reset=5")]);
    assert_eq!(read, quota(Some(100), Some(50), Some(5)));
}

#[test]
fn garbage_is_no_quota() {
    for garbage in ["", "many", "-1", "0x10", "1e3", "10 apples", "=", "\"", ";;;", ",,,"] {
        assert_eq!(told(&[("x-ratelimit-limit", garbage)]), None, "{garbage}");
        assert_eq!(told(&[("ratelimit", garbage)]), None, "{garbage}");
    }
    assert_eq!(told(&[]), None);
}

fn usage(used: &Value, limit: &Value) -> Option<Quota> {
    let expect = HttpExpect {
        quota_used: Some("/key/usage".to_owned()),
        quota_limit: Some("/key/limit".to_owned()),
        ..HttpExpect::default()
    };
    of_json(&expect, &json!({ "key": { "usage": used, "limit": limit } }))
}

#[test]
fn a_body_tells_what_is_used_of_how_much() {
    assert_eq!(usage(&json!(150), &json!(1000)), quota(Some(1000), Some(850), None));
    assert_eq!(usage(&json!(1200), &json!(1000)), quota(Some(1000), Some(0), None));
    assert_eq!(usage(&json!(1.5), &json!(10.0)), quota(Some(10), Some(9), None));
}

#[test]
fn no_limit_is_no_quota_and_an_unknown_use_leaves_nothing_known() {
    assert_eq!(usage(&json!(150), &Value::Null), None);
    assert_eq!(usage(&json!(150), &json!("plenty")), None);
    assert_eq!(usage(&Value::Null, &json!(1000)), quota(Some(1000), None, None));
    assert_eq!(usage(&json!(-5), &json!(1000)), quota(Some(1000), None, None));
    assert_eq!(of_json(&HttpExpect::default(), &json!({ "key": 1 })), None);
}

proptest! {
    #[test]
    fn no_header_is_too_strange(text in "[ -~]{0,80}|[\"rtqw0-9;=, ]{0,80}") {
        told(&[("ratelimit", &text), ("ratelimit-policy", &text), ("x-ratelimit-limit", &text)]);
    }
}
