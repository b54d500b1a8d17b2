//! `[redis]`: its defaults, and every wrong value.

use std::time::Duration;

use mcp_failover::policy::compile;
use mcp_failover::policy::diagnostic::Diagnostic;
use mcp_failover::policy::diff::PolicyDiff;
use mcp_failover::policy::model::{Policy, Redis};

use super::given::{Given, codes, compiled, source};

const CANARY: &str = "canary-of-the-password";

fn text(table: &str) -> String {
    format!(
        r#"version = 1
[services.search]
[[services.search.endpoints]]
name = "a"
url  = "https://a.example.com"
[[services.search.endpoints]]
name = "b"
url  = "https://b.example.com"
[[outputs]]
type = "env_file"
path = "/run/mcp/failover.env"
{table}"#
    )
}

fn given() -> Given {
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    Given::default()
        .with_var("PASSWORD", CANARY)
        .with_var("URL", &format!("rediss://u:{CANARY}@r.example.com:1/2"))
        .with_file("/etc/ca.pem", pem)
}

fn policy(table: &str) -> Policy {
    compiled(&text(table), &given()).policy
}

fn redis(table: &str) -> Redis {
    let policy = policy(&format!("[redis]\n{table}"));
    (**policy.redis.as_ref().expect("a Redis")).clone()
}

#[test]
fn there_is_none_unless_asked_for_and_an_address_is_enough() {
    assert!(policy("").redis.is_none());
    let made = redis("url = \"redis://redis.example.com\"");
    assert_eq!(made.to_string(), "redis://redis.example.com:6379/0");
    assert!(made.login.is_none() && made.tls.is_none() && made.recover && !made.compat);
    assert_eq!((made.prefix.as_str(), made.history), ("mcpf", 1000));
    assert_eq!(made.history_age, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(made.timeout, Duration::from_secs(2));
}

#[test]
fn a_login_comes_from_the_address_or_from_keys() {
    let login = |table: &str| {
        let login = redis(table).login.expect("a login");
        (login.username.expose().to_owned(), login.password.expose().to_owned())
    };
    let whole = redis("url = \"${URL}\"\nca_file = \"/etc/ca.pem\"");
    assert_eq!(whole.to_string(), "rediss://r.example.com:1/2");
    assert!(whole.tls.is_some_and(|tls| tls.ca.is_some()));
    assert_eq!(login("url = \"${URL}\""), ("u".to_owned(), CANARY.to_owned()));
    let alone = login("url = \"redis://[::1]\"\npassword = \"${PASSWORD}\"");
    assert_eq!(alone, (String::new(), CANARY.to_owned()));
    let old = login("url = \"redis://:${PASSWORD}@r.example.com\"");
    assert_eq!(old, (String::new(), CANARY.to_owned()));
    let both = login(
        "url = \"redis://r.example.com\"\nusername = \"sidecar\"\npassword = \"${PASSWORD}\"",
    );
    assert_eq!(both, ("sidecar".to_owned(), CANARY.to_owned()));
}

#[test]
fn every_wrong_value_has_a_place_and_a_code() {
    let at = "url = \"redis://r.example.com\"\n";
    for (table, code) in [
        (String::new(), "MF0202"),
        ("url = 5".to_owned(), "MF0203"),
        ("url = \"\"".to_owned(), "MF0401"),
        ("url = \"r.example.com:6379\"".to_owned(), "MF0401"),
        ("url = \"https://r.example.com\"".to_owned(), "MF0415"),
        ("url = \"redis://r.example.com/x\"".to_owned(), "MF0401"),
        ("url = \"redis://r.example.com/99999\"".to_owned(), "MF0401"),
        ("url = \"redis://r.example.com/0?timeout=1\"".to_owned(), "MF0401"),
        ("url = \"redis://u@r.example.com\"".to_owned(), "MF0803"),
        (
            "url = \"redis://u:${PASSWORD}@r.example.com\"\npassword = \"${PASSWORD}\"".to_owned(),
            "MF0803",
        ),
        (format!("{at}username = \"u\""), "MF0803"),
        (format!("{at}password = \"\""), "MF0212"),
        (format!("{at}password = \"${{NOT}}\""), "MF0301"),
        (format!("{at}prefix = \"a b\""), "MF0210"),
        (format!("{at}prefix = \"\""), "MF0210"),
        (format!("{at}prefix = \"a{{b\""), "MF0210"),
        (format!("{at}history = 0"), "MF0205"),
        (format!("{at}history = 10001"), "MF0205"),
        (format!("{at}history_age = \"31d\""), "MF0205"),
        (format!("{at}history_age = 5"), "MF0206"),
        (format!("{at}timeout = \"11s\""), "MF0205"),
        (format!("{at}timeout = \"0s\""), "MF0208"),
        (format!("{at}recover = \"yes\""), "MF0203"),
        (format!("{at}compat = 1"), "MF0203"),
        (format!("{at}ca_file = \"/etc/ca.pem\""), "MF0209"),
        (format!("{at}ca_file = \"/no/such/file\""), "MF0304"),
        (format!("{at}urll = \"x\""), "MF0201"),
    ] {
        let text = text(&format!("[redis]\n{table}"));
        let found = compile(&source(&text), &given()).expect_err("it is wrong").0;
        let hit = found.iter().find(|one: &&Diagnostic| one.code.as_str() == code);
        let hit = hit.unwrap_or_else(|| panic!("{table}: {code} is not in {found:#?}"));
        assert!(
            table.is_empty() || hit.labels.first().is_some_and(|label| label.line >= 13),
            "{table}: {hit:?}"
        );
        assert!(!format!("{found:?}").contains(CANARY));
    }
}

#[test]
fn a_password_in_the_file_itself_is_warned_of() {
    let codes = |table: &str| codes(&text(&format!("[redis]\n{table}")), &given());
    assert_eq!(codes("url = \"redis://u:written-out@r.example.com\""), ["MF0901"]);
    let key = codes("url = \"redis://r.example.com\"\npassword = \"written-out\"");
    assert_eq!(key, ["MF0901"]);
    assert!(codes("url = \"${URL}\"").is_empty());
}

#[test]
fn another_password_is_another_policy_and_none_is_shown() {
    let one = policy("[redis]\nurl = \"${URL}\"");
    let other = given().with_var("URL", "rediss://u:other@r.example.com:1/2");
    let other = compiled(&text("[redis]\nurl = \"${URL}\""), &other).policy;
    assert_ne!(one.digest, other.digest);
    assert_eq!(PolicyDiff::between(&one, &other).summary(), ["[redis] changed"]);
    assert!(!format!("{one:?}").contains(CANARY), "{one:?}");
}
