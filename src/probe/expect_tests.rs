//! What each expectation accepts and refuses.

use std::collections::BTreeMap;

use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;

use super::*;

fn expecting() -> HttpExpect {
    HttpExpect { status: vec![(200, 299)], ..HttpExpect::default() }
}

fn headers_of(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    pairs.iter().map(pair).collect()
}

fn whole(text: &str) -> Body {
    Body { bytes: text.as_bytes().to_vec(), whole: true }
}

fn outcome(step: Step) -> Outcome {
    step.map_or_else(|finding| finding.outcome, |()| Outcome::Ok)
}

fn detail(step: Step) -> String {
    step.expect_err("a finding").detail.into_owned()
}

fn of_status(code: u16) -> Outcome {
    outcome(status(&expecting(), StatusCode::from_u16(code).unwrap(), &HeaderMap::new()))
}

fn of_json(pointer: &str, wanted: Option<Value>, text: &str) -> Outcome {
    let expect = HttpExpect { json: BTreeMap::from([(pointer.to_owned(), wanted)]), ..expecting() };
    outcome(body(&expect, &HeaderMap::new(), &whole(text)))
}

#[test]
fn a_status_outside_the_accepted_is_sorted_by_its_class() {
    assert_eq!(of_status(204), Outcome::Ok);
    assert_eq!(of_status(101), Outcome::Protocol);
    assert_eq!(of_status(302), Outcome::Protocol);
    for code in [401, 403] {
        assert_eq!(of_status(code), Outcome::Auth, "{code}");
    }
    for code in [400, 402, 404, 405, 407, 418, 422, 499] {
        assert_eq!(of_status(code), Outcome::ClientError, "{code}");
    }
    assert_eq!(of_status(429), Outcome::Throttled { retry_after: None });
    for code in [500, 502, 503, 504, 599] {
        assert_eq!(of_status(code), Outcome::ServerError, "{code}");
    }
    assert_eq!(of_status(999), Outcome::Protocol);
}

#[test]
fn a_status_that_is_accepted_passes_whatever_its_class() {
    let expect = HttpExpect { status: vec![(401, 401), (500, 503)], ..HttpExpect::default() };
    let sorted = |code| outcome(status(&expect, code, &HeaderMap::new()));
    assert_eq!(sorted(StatusCode::UNAUTHORIZED), Outcome::Ok);
    assert_eq!(sorted(StatusCode::SERVICE_UNAVAILABLE), Outcome::Ok);
    assert_eq!(sorted(StatusCode::GATEWAY_TIMEOUT), Outcome::ServerError);
    assert_eq!(sorted(StatusCode::OK), Outcome::Protocol, "an answer that was not expected");
}

#[test]
fn the_policys_own_map_comes_first() {
    let outcomes = BTreeMap::from([
        (200, MappedOutcome::Degraded),
        (403, MappedOutcome::Throttled),
        (404, MappedOutcome::WrongRole),
        (500, MappedOutcome::Ok),
    ]);
    let expect = HttpExpect { outcomes, ..expecting() };
    let sorted = |code| outcome(status(&expect, code, &headers_of(&[("retry-after", "7")])));
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(sorted(StatusCode::OK), Outcome::Degraded);
    assert_eq!(sorted(StatusCode::FORBIDDEN), Outcome::Throttled { retry_after });
    assert_eq!(sorted(StatusCode::NOT_FOUND), Outcome::WrongRole);
    assert_eq!(sorted(StatusCode::INTERNAL_SERVER_ERROR), Outcome::Ok);
}

#[test]
fn a_redirect_is_told_without_its_target() {
    let to = headers_of(&[("location", "https://example.com/?token=secret")]);
    let told = detail(status(&expecting(), StatusCode::FOUND, &to));
    assert_eq!(told, "HTTP 302: redirect to another address");
}

#[test]
fn a_header_must_be_there_and_contain_what_it_must() {
    let expect = HttpExpect {
        headers: BTreeMap::from([
            ("content-type".to_owned(), "json".to_owned()),
            ("x-any".to_owned(), String::new()),
        ]),
        ..expecting()
    };
    let check = |pairs| headers(&expect, &headers_of(pairs));
    assert_eq!(check(&[("content-type", "application/json"), ("x-any", "")]), Ok(()));
    assert_eq!(check(&[("content-type", "text"), ("content-type", "json"), ("x-any", "")]), Ok(()));
    assert_eq!(detail(check(&[("content-type", "application/json")])), "header x-any is missing");
    assert_eq!(detail(check(&[("content-type", "text/html")])), "header content-type differs");
}

#[test]
fn json_pointers_find_and_compare_values() {
    let text = r#"{"a":{"b":[1,{"c~d/e":null}]},"n":1536.0,"s":"1536"}"#;
    assert_eq!(of_json("/a/b/0", Some(json!(1)), text), Outcome::Ok);
    assert_eq!(of_json("/a/b/1/c~0d~1e", None, text), Outcome::Ok, "null exists");
    assert_eq!(of_json("/a/b/1/c~0d~1e", Some(Value::Null), text), Outcome::Ok);
    assert_eq!(of_json("", None, text), Outcome::Ok, "the whole document");
    assert_eq!(of_json("/n", Some(json!(1536)), text), Outcome::Ok, "one number, two spellings");
    assert_eq!(of_json("/s", Some(json!(1536)), text), Outcome::Protocol);
    assert_eq!(of_json("/n", Some(json!(1537)), text), Outcome::Protocol);
    assert_eq!(of_json("/a/b/2", None, text), Outcome::Protocol);
    assert_eq!(of_json("/absent", None, text), Outcome::Protocol);
}

#[test]
fn what_is_not_json_fails_a_json_expectation() {
    for text in ["", "<html>", "{\"a\":1", "{\"a\":1}}", "\u{feff}{}", "NaN"] {
        assert_eq!(of_json("", None, text), Outcome::Protocol, "{text}");
    }
    assert_eq!(of_json("", None, &"[".repeat(60_000)), Outcome::Protocol, "no stack is used up");
}

#[test]
fn large_numbers_are_not_confused_with_their_neighbours() {
    let text = r#"{"n":9007199254740993}"#;
    assert_eq!(of_json("/n", Some(json!(9_007_199_254_740_993_u64)), text), Outcome::Ok);
    assert_eq!(of_json("/n", Some(json!(9_007_199_254_740_992_u64)), text), Outcome::Protocol);
}

#[test]
fn a_cut_body_is_never_taken_for_json() {
    let expect = HttpExpect { json: BTreeMap::from([(String::new(), None)]), ..expecting() };
    let cut = Body { bytes: b"{}".to_vec(), whole: false };
    assert_eq!(outcome(body(&expect, &HeaderMap::new(), &cut)), Outcome::Protocol);
}

#[test]
fn graphql_errors_fail_a_200() {
    let expect = HttpExpect { graphql: true, ..expecting() };
    let check = |text: &str| outcome(body(&expect, &HeaderMap::new(), &whole(text)));
    assert_eq!(check(r#"{"data":{"a":1}}"#), Outcome::Ok);
    assert_eq!(check(r#"{"data":{"a":1},"errors":[]}"#), Outcome::Ok);
    assert_eq!(check(r#"{"data":{"a":1},"errors":null}"#), Outcome::Ok);
    assert_eq!(check(r#"{"data":null,"errors":[{"message":"no"}]}"#), Outcome::Protocol);
    assert_eq!(check(r#"{"errors":"no"}"#), Outcome::Protocol);
    assert_eq!(check("[]"), Outcome::Protocol);
}

#[test]
fn texts_are_looked_for_in_the_body() {
    let expect = HttpExpect {
        body_contains: vec!["ready".to_owned()],
        body_excludes: vec!["degraded".to_owned()],
        body_matches: Some(regex_lite::Regex::new("^re[a-z]+").unwrap()),
        ..expecting()
    };
    let check = |text: &str| body(&expect, &HeaderMap::new(), &whole(text));
    assert_eq!(check("ready to serve"), Ok(()));
    assert_eq!(detail(check("starting")), "body lacks an expected text");
    assert_eq!(detail(check("ready, degraded")), "body contains an excluded text");
    assert_eq!(detail(check("not ready")), "body does not match the pattern");
}

#[test]
fn a_body_that_is_not_text_is_no_reason_to_stop() {
    let expect = HttpExpect { body_contains: vec!["ok".to_owned()], ..expecting() };
    let bytes = Body { bytes: b"\xff\xfe ok".to_vec(), whole: true };
    assert_eq!(body(&expect, &HeaderMap::new(), &bytes), Ok(()));
}

#[test]
fn a_compressed_body_is_not_guessed_at() {
    let expect = HttpExpect { body_contains: vec!["ok".to_owned()], ..expecting() };
    let check = |expect: &HttpExpect, coding: &'static str| {
        outcome(body(expect, &headers_of(&[("content-encoding", coding)]), &whole("ok")))
    };
    assert_eq!(check(&expect, "gzip"), Outcome::Protocol);
    assert_eq!(check(&expect, "Identity"), Outcome::Ok);
    assert_eq!(check(&expecting(), "gzip"), Outcome::Ok, "nobody looks at it");
}

#[test]
fn a_late_answer_is_degraded() {
    let slow = Some(Duration::from_millis(500));
    assert_eq!(speed(slow, Duration::from_millis(500)), Ok(()));
    assert_eq!(outcome(speed(slow, Duration::from_millis(501))), Outcome::Degraded);
    assert_eq!(speed(None, Duration::from_secs(3600)), Ok(()));
}
