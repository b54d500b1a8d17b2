//! What the keys mean: layers, defaults, interpolation, fingerprints.

use std::fmt::Write;
use std::time::Duration;

use mcp_failover::core::rules::{EndpointRules, ServiceRules};
use mcp_failover::policy::model::{Check, HttpCheck, Policy};

use super::given::{Given, codes, compiled};

const SECOND: Duration = Duration::from_secs(1);

/// A policy of one service with two endpoints; `head` goes into the service, `tail` to the end.
fn two(head: &str, tail: &str) -> String {
    format!(
        r#"version = 1
[services.search]
{head}
[[services.search.endpoints]]
name = "a"
url  = "https://a.example.com/base"
env  = {{ API_KEY = "${{KEY_A}}" }}
[[services.search.endpoints]]
name = "b"
url  = "https://b.example.com"
env  = {{ API_KEY = "${{KEY_B}}" }}
[[outputs]]
type = "env_file"
path = "/run/mcp/failover.env"
{tail}"#
    )
}

fn keys() -> Given {
    Given::default().with_var("KEY_A", "key-a").with_var("KEY_B", "key-b")
}

fn policy(text: &str) -> Policy {
    compiled(text, &keys()).policy
}

fn rules(policy: &Policy) -> &ServiceRules {
    &policy.rules.services["search"]
}

fn endpoint<'a>(policy: &'a Policy, name: &str) -> &'a EndpointRules {
    rules(policy).endpoints.iter().find(|one| one.name.as_str() == name).unwrap()
}

fn http<'a>(policy: &'a Policy, name: &str) -> &'a HttpCheck {
    let check = &policy.services["search"].endpoints[name].probe.check;
    let Check::Http(http) = check else { panic!("not an http probe: {check:?}") };
    http
}

#[test]
fn the_cost_of_probing_sets_the_pace() {
    let metered = policy(&two("", ""));
    let free = policy(&two("cost = \"free\"", ""));
    let pace = |policy: &Policy| {
        let cadence = rules(policy).probe.clone();
        (cadence.interval, cadence.fast_interval, cadence.standby_interval, cadence.timeout)
    };
    assert_eq!(pace(&metered), (10 * SECOND, SECOND, 60 * SECOND, 5 * SECOND));
    assert_eq!(pace(&free), (2 * SECOND, SECOND / 5, 10 * SECOND, 3 * SECOND));
}

#[test]
fn the_breaker_follows_the_guide_unless_told_otherwise() {
    let limits = rules(&policy(&two("", ""))).breaker.clone();
    assert_eq!((limits.failure_threshold, limits.reset_timeout), (5, 60 * SECOND));
    let limits = rules(&policy(&two("breaker = { failure_rate = 0.0 }", ""))).breaker.clone();
    assert_eq!(limits.failure_rate_permille, 1001, "never");
}

#[test]
fn a_service_overrides_its_preset_which_overrides_the_defaults() {
    let text = two(
        "preset = \"pinecone\"\nprobe = { headers = { Api-Key = \"${endpoint.env.API_KEY}\" }, fall = 9 }",
        "[defaults.probe]\nfall = 7\nrise = 7\nbody = \"ignored\"",
    );
    let policy = policy(&text);
    let cadence = &rules(&policy).probe;
    assert_eq!((cadence.fall, cadence.rise), (9, 7));
    let http = http(&policy, "a");
    let header = |name: &str| {
        let found = http.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.expose().to_owned())
    };
    assert_eq!(header("Api-Key").as_deref(), Some("key-a"), "the service's own");
    assert_eq!(header("Content-Type").as_deref(), Some("application/json"), "the preset's");
    assert_eq!(http.body.as_ref().unwrap().expose(), "{}", "the preset's");
}

#[test]
fn a_probe_of_another_type_takes_only_the_pace_of_its_preset() {
    let policy = policy(&two("preset = \"mcp\"\nprobe = { type = \"tcp\" }", ""));
    assert_eq!(policy.services["search"].endpoints["a"].probe.check.label(), "tcp");
}

#[test]
fn a_given_interval_bends_the_defaults_beside_it() {
    let cadence = rules(&policy(&two("probe = { interval = \"500ms\" }", ""))).probe.clone();
    assert!(cadence.fast_interval <= cadence.interval);
    let cadence = rules(&policy(&two("probe = { interval = \"10m\" }", ""))).probe.clone();
    assert!(cadence.standby_interval >= cadence.interval);
    assert!(cadence.down_interval_max >= cadence.down_interval);
}

#[test]
fn the_place_in_the_file_is_the_tier_unless_priorities_are_given() {
    let tiers = |text: &str| -> Vec<u32> {
        rules(&policy(text)).endpoints.iter().map(|one| one.tier).collect()
    };
    assert_eq!(tiers(&two("", "")), [0, 1]);
    let peers = two("", "").replace("name = \"a\"", "name = \"a\"\npriority = 0");
    assert_eq!(tiers(&peers), [0, 0], "endpoints without one are preferred like the first");
}

#[test]
fn the_path_of_the_probe_follows_that_of_the_address() {
    let with = |url: &str, probe: &str| {
        let text = two(&format!("probe = {{ {probe} }}"), "");
        let policy = policy(&text.replace("https://a.example.com/base", url));
        http(&policy, "a").path.expose().to_owned()
    };
    assert_eq!(with("https://a.example.com", ""), "/");
    assert_eq!(with("https://a.example.com/base/", "path = \"/x\""), "/base/x");
    assert_eq!(with("https://a.example.com/base?k=v", "path = \"/x?y=1\""), "/base/x?y=1&k=v");
}

#[test]
fn an_endpoint_may_change_its_own_check() {
    let text = two("probe = { path = \"/x\" }", "")
        .replace("name = \"b\"", "name = \"b\"\nprobe = { path = \"/y\", port = 8443 }");
    let policy = policy(&text);
    assert_eq!(http(&policy, "a").path.expose(), "/base/x");
    assert_eq!((http(&policy, "b").path.expose(), http(&policy, "b").target.port), ("/y", 8443));
}

#[test]
fn interpolation_fills_in_variables_files_and_endpoints() {
    let given = keys().with_file("/run/secrets/k", "from-file\n").with_var("EMPTY", "");
    let headers = r#"probe = { headers = { X-A = "${endpoint.env.API_KEY}", X-B = "${file:/run/secrets/k}", X-C = "${EMPTY:-none}-${endpoint.name}", X-D = "$$5 $x" } }"#;
    let policy = compiled(&two(headers, ""), &given).policy;
    let values: Vec<_> =
        http(&policy, "a").headers.iter().map(|(_, value)| value.expose()).collect();
    assert_eq!(values, ["key-a", "from-file", "none-a", "$5 $x"]);
    assert_eq!(policy.secret_files.len(), 1);
}

#[test]
fn what_is_shown_of_an_address_holds_no_value() {
    let text = two("probe = { type = \"tcp\" }", "")
        .replace("https://a.example.com/base", "redis://user:${KEY_A}@a.example.com/0?x=${KEY_B}");
    let policy = policy(&text);
    let shown = policy.services["search"].endpoints["a"].url.clone();
    assert_eq!(shown.as_deref(), Some("redis://a.example.com/0"));
    assert!(!format!("{policy:?}").contains("key-a"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_tolerated() {
    let text = format!("\u{feff}{}", two("", "").replace('\n', "\r\n"));
    assert_eq!(codes(&text, &keys()), Vec::<&str>::new());
    let wrong = text.replace("version = 1", "version = 1\r\ncolour = 1");
    let found = mcp_failover::policy::compile(&super::given::source(&wrong), &keys()).unwrap_err();
    let label = &found.0[0].labels[0];
    assert_eq!((label.line, label.column), (2, 1));
}

#[test]
fn columns_are_counted_in_characters() {
    let text = two("", "").replace("name = \"a\"", "name = \"a\" # ä\nurls = 1");
    let text = text.replace("[services.search]", "[services.search]\n\"é\" = 1");
    let found = mcp_failover::policy::compile(&super::given::source(&text), &keys()).unwrap_err();
    let places: Vec<_> =
        found.0.iter().map(|one| (one.labels[0].line, one.labels[0].column)).collect();
    assert_eq!(places, [(3, 1), (7, 1)]);
}

#[test]
fn a_new_secret_is_a_new_policy_and_a_new_endpoint() {
    let text = two("", "");
    let before = policy(&text);
    let after = compiled(&text, &keys().with_var("KEY_A", "rotated")).policy;
    assert_eq!(before.digest, policy(&text).digest, "the same input gives the same digest");
    assert_ne!(before.digest, after.digest);
    assert_ne!(endpoint(&before, "a").identity, endpoint(&after, "a").identity);
    assert_ne!(endpoint(&before, "a").credential, endpoint(&after, "a").credential);
    assert_eq!(endpoint(&before, "a").host, endpoint(&after, "a").host);
    assert_eq!(endpoint(&before, "b"), endpoint(&after, "b"));
}

#[test]
fn a_new_pace_keeps_what_is_known_of_an_endpoint() {
    let before = policy(&two("", ""));
    let after = policy(&two("probe = { interval = \"20s\" }", ""));
    assert_ne!(before.digest, after.digest);
    assert_eq!(endpoint(&before, "a").identity, endpoint(&after, "a").identity);
    let after = policy(&two("probe = { path = \"/other\" }", ""));
    assert_ne!(endpoint(&before, "a").identity, endpoint(&after, "a").identity);
}

#[test]
fn one_key_at_two_addresses_is_one_credential_and_one_account() {
    let text = two("", "").replace("${KEY_B}", "${KEY_A}");
    let policy = policy(&text);
    let (a, b) = (endpoint(&policy, "a"), endpoint(&policy, "b"));
    assert_eq!((a.credential, a.account), (b.credential, b.account));
    assert_ne!(a.host, b.host);
}

#[test]
fn endpoints_without_a_credential_are_told_apart_by_their_host() {
    let text = two("", "").replace("env  = { API_KEY = \"${KEY_A}\" }", "");
    let text = text.replace("env  = { API_KEY = \"${KEY_B}\" }", "");
    let policy = policy(&text);
    assert_ne!(endpoint(&policy, "a").credential, endpoint(&policy, "b").credential);
}

#[test]
fn a_quota_counts_endpoints_of_one_account_together() {
    let quota = "cost = { n = 70, per = \"10m\" }\nprobe = { interval = \"10s\", standby_interval = \"1m\" }";
    assert_eq!(codes(&two(quota, ""), &keys()), Vec::<&str>::new(), "60 calls an account");
    let shared = two(quota, "").replace("name = \"a\"", "name = \"a\"\naccount = \"x\"");
    let shared = shared.replace("name = \"b\"", "name = \"b\"\naccount = \"x\"");
    assert_eq!(codes(&shared, &keys()), Vec::<&str>::new(), "60 + 10 = 70 calls: just within");
    assert_eq!(codes(&shared.replace("n = 70", "n = 69"), &keys()), ["MF0502"]);
}

#[test]
fn a_variable_that_is_not_set_hides_no_other_error() {
    let text = two("colour = 1\nstrategy = \"round_robin\"", "mode = 600");
    let found = codes(&text, &Given::default());
    assert_eq!(found, ["MF0201", "MF0604", "MF0301", "MF0301", "MF0203"]);
}

#[test]
fn an_unreadable_value_is_not_called_missing_as_well() {
    let text =
        two("", "").replace("name = \"a\"", "name = 1").replace("path = \"", "path = 1 # \"");
    assert_eq!(codes(&text, &keys()), ["MF0203", "MF0203"]);
}

#[test]
fn keys_of_tls_are_refused_where_there_is_no_tls() {
    let text = two("probe = { server_name = \"x.example.com\" }", "");
    assert_eq!(codes(&text, &keys()), Vec::<&str>::new());
    let mixed = text.replace("https://b", "http://b");
    assert_eq!(codes(&mixed, &keys()), Vec::<&str>::new());
    assert_eq!(codes(&mixed.replace("https://a", "http://a"), &keys()), ["MF0209"]);
}

#[test]
fn five_thousand_endpoints_compile() {
    let mut text = two("", "");
    for n in 0..5000 {
        write!(
            text,
            "[[services.search.endpoints]]\nname = \"e{n}\"\nurl = \"https://e{n}.example.com\"\nenv = {{ API_KEY = \"${{KEY_A}}\" }}\n"
        )
        .unwrap();
    }
    assert_eq!(rules(&policy(&text)).endpoints.len(), 5002);
}

#[test]
fn a_diff_names_what_changed_and_nothing_else() {
    use mcp_failover::policy::diff::PolicyDiff;
    let before = policy(&two("", ""));
    assert!(PolicyDiff::between(&before, &before).is_empty());
    let text = two("", "mode = \"0640\"\n[admin]\nlisten = \"off\"")
        .replace("name = \"b\"", "name = \"c\"")
        .replace("/base", "/other");
    let diff = PolicyDiff::between(&before, &policy(&text));
    assert_eq!(diff.endpoints_added, ["search/c"]);
    assert_eq!(diff.endpoints_removed, ["search/b"]);
    assert_eq!(diff.endpoints_changed, ["search/a"]);
    assert_eq!(diff.outputs_changed, ["env_file:/run/mcp/failover.env"]);
    assert!(diff.admin && !diff.control && !diff.sidecar && diff.services_changed.is_empty());
    assert_eq!(diff.summary()[0], "endpoints added: search/c");
}

#[test]
fn a_diff_says_that_the_server_is_run_otherwise() {
    use mcp_failover::policy::diff::PolicyDiff;
    let before = policy(&two("", ""));
    let text = two("", "[child]\nstop_timeout = \"9s\"");
    let summary = PolicyDiff::between(&before, &policy(&text)).summary();
    assert_eq!(summary, ["[child] changed"]);
}

#[test]
fn the_control_socket_is_as_given_else_where_the_commands_look_else_beside_the_state() {
    let text = "version = 1\n[sidecar]\nstate_dir = \"/state\"\n[services.a.probe]\n\
                type = \"tcp\"\n[[services.a.endpoints]]\nname = \"one\"\n\
                url = \"tcp://one.example.com:1\"\n[[outputs]]\ntype = \"env_file\"\n\
                path = \"/run/a.env\"\n";
    let socket = |text: &str, given: &Given| {
        compiled(text, given).policy.control.socket.display().to_string()
    };
    let none = Given::default();
    let runtime = Given::default().with_var("RUNTIME_DIRECTORY", "/run/mine");
    let named = Given::default()
        .with_var("RUNTIME_DIRECTORY", "/run/mine")
        .with_var("MCP_FAILOVER_CONTROL", "/run/named.sock");
    assert_eq!(socket(text, &none), "/state/control.sock");
    assert_eq!(socket(text, &runtime), "/run/mine/control.sock");
    assert_eq!(socket(text, &named), "/run/named.sock");
    let explicit = format!("{text}[control]\nsocket = \"/run/given.sock\"\n");
    assert_eq!(socket(&explicit, &named), "/run/given.sock");
}

#[test]
fn a_host_is_no_part_of_a_credential_and_a_user_is() {
    let both = |a: &str, b: &str| {
        let text = format!(
            "version = 1\n[[services.search.endpoints]]\nname = \"a\"\nurl = \"{a}\"\n\
             [[services.search.endpoints]]\nname = \"b\"\nurl = \"{b}\"\n\
             [[outputs]]\ntype = \"env_file\"\npath = \"/run/a.env\"\n"
        );
        let policy = policy(&text);
        endpoint(&policy, "a").credential == endpoint(&policy, "b").credential
    };
    assert!(both("redis://u:${KEY_A}@a.example.com", "redis://u:${KEY_A}@b.example.com"));
    assert!(!both("redis://u:${KEY_A}@a.example.com", "redis://v:${KEY_A}@b.example.com"));
    assert!(!both("redis://u:${KEY_A}@a.example.com", "redis://u:${KEY_B}@b.example.com"));
    assert!(!both("redis://a.example.com", "redis://b.example.com"), "none at all");
}

#[test]
fn equal_checks_have_equal_fingerprints_and_a_secret_tells_them_apart() {
    let text = two("probe = { headers = { X-Key = \"${endpoint.env.API_KEY}\" } }", "")
        .replace("https://a.example.com/base", "https://b.example.com");
    let print =
        |text: &str, name: &str| policy(text).services["search"].endpoints[name].probe.fingerprint;
    assert_ne!(print(&text, "a"), print(&text, "b"));
    let same = text.replace("${KEY_B}", "${KEY_A}");
    assert_eq!(print(&same, "a"), print(&same, "b"));
    assert_ne!(print(&same, "a"), 0);
}

#[test]
fn a_probe_of_usage_too_often_for_tavily_is_refused_with_the_arithmetic() {
    let text = two("preset = \"tavily\"", "").replace("API_KEY =", "TAVILY_API_KEY =");
    assert_eq!(codes(&text, &keys()), Vec::<&str>::new());
    let often = text.replace(
        "preset = \"tavily\"",
        "preset = \"tavily\"\ndeep_probe = { interval = \"59s\", fast_interval = \"59s\" }",
    );
    assert_eq!(codes(&often, &keys()), ["MF0502"]);
    let deep = &policy(&text).services["search"].endpoints["a"].deep_probe.clone().unwrap();
    let Check::Http(http) = &deep.check else { panic!("{deep:?}") };
    assert_eq!(http.expect.quota_used.as_deref(), Some("/key/usage"));
}

#[test]
fn the_checks_of_a_combination_count_one_by_one() {
    let three = "cost = { n = 179, per = \"10m\" }\nprobe = { type = \"all\", interval = \"10s\", \
                 checks = [{ type = \"tls\" }, { type = \"tcp\" }, { type = \"http\" }] }";
    assert_eq!(codes(&two(three, ""), &keys()), ["MF0502"]);
    let within = three.replace("179", "180");
    assert_eq!(codes(&two(&within, ""), &keys()), Vec::<&str>::new());
}

#[test]
fn graphlits_secret_signs_and_is_not_sent() {
    use mcp_failover::policy::model::TokenSource;
    let env = "{ GRAPHLIT_ORGANIZATION_ID = \"org\", GRAPHLIT_ENVIRONMENT_ID = \"env\", GRAPHLIT_JWT_SECRET = \"${KEY_A}\" }";
    let text = two("preset = \"graphlit\"", "")
        .replace("{ API_KEY = \"${KEY_A}\" }", env)
        .replace("{ API_KEY = \"${KEY_B}\" }", &env.replace("KEY_A", "KEY_B"));
    let policy = policy(&text);
    let deep = policy.services["search"].endpoints["a"].deep_probe.clone().unwrap();
    let Check::Http(http) = &deep.check else { panic!("{deep:?}") };
    let Some(TokenSource::Jwt(jwt)) = &http.token else { panic!("no token") };
    assert!(jwt.claims.expose().contains("\"x-graphlit-organization-id\":\"org\""));
    assert_eq!(jwt.secret.expose(), "key-a");
    let sent = http.headers.iter().map(|(_, value)| value).chain(&http.body);
    assert!(sent.into_iter().all(|value| !value.expose().contains("key-a")));
    assert_ne!(endpoint(&policy, "a").credential, endpoint(&policy, "b").credential);
}
