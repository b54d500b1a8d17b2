//! What a policy with templates means.

use std::fmt::Write as _;

use mcp_failover::policy::model::{Content, File, Output, Policy, Quoting};

use super::given::{Given, codes, compiled};

const SERVICE: &str = r#"version = 1
[services.search]
[[services.search.endpoints]]
name = "primary"
url = "https://one.example.com"
env = { SEARCH_URL = "https://one.example.com", SEARCH_KEY = "${KEY}" }
[[services.search.endpoints]]
name = "backup"
url = "https://two.example.com"
env = { SEARCH_URL = "https://two.example.com", SEARCH_KEY = "${KEY}" }
"#;

fn given() -> Given {
    Given::default().with_var("KEY", "canary \"key\"")
}

fn with(output: &str) -> String {
    format!("{SERVICE}[[outputs]]\ntype = \"template\"\n{output}")
}

fn file(policy: &Policy) -> &File {
    match policy.outputs.as_slice() {
        [Output::File(file)] => file,
        other => panic!("one file: {other:?}"),
    }
}

#[test]
fn the_ending_of_the_file_says_how_values_are_quoted_unless_told_otherwise() {
    let cases = [
        ("x.json", "", Quoting::Json),
        ("x.yaml", "", Quoting::Yaml),
        ("x.yml", "", Quoting::Yaml),
        ("x.toml", "", Quoting::Toml),
        ("x.ini", "", Quoting::Plain),
        ("json", "", Quoting::Plain),
        ("x.conf", "quoting = \"json\"", Quoting::Json),
        ("x.json", "quoting = \"plain\"", Quoting::Plain),
    ];
    for (path, more, wanted) in cases {
        let text = "v = 1";
        let text = if wanted == Quoting::Json { "1" } else { text };
        let output = format!("path = \"/run/mcp/{path}\"\ntext = \"{text}\"\n{more}\n");
        let found = compiled(&with(&output), &given());
        let Content::Template(template) = &file(&found.policy).content else { panic!("{path}") };
        assert_eq!(template.quoting, wanted, "{path} {more}");
    }
}

#[test]
fn a_template_is_a_file_that_is_watched_and_part_of_the_digest() {
    let policy = with("path = \"x.ini\"\nsource = \"x.ini.j2\"\n");
    let first = compiled(&policy, &given().with_file("x.ini.j2", "a")).policy;
    assert_eq!(first.secret_files, [std::path::PathBuf::from("x.ini.j2")]);
    let second = compiled(&policy, &given().with_file("x.ini.j2", "b")).policy;
    assert_ne!(first.digest, second.digest);
    assert_ne!(first.outputs, second.outputs);
    assert_eq!(file(&first).name, "template:x.ini");
}

#[test]
fn every_endpoint_is_tried_and_the_absence_of_all_where_it_may_be() {
    let text = "path = \"x.ini\"\ntext = \"{{ services.search.env.SEARCH_KEY }}\"\n";
    assert_eq!(codes(&with(text), &given()), Vec::<&str>::new());
    let second = SERVICE.replacen("SEARCH_KEY = \"${KEY}\" }", "X = \"1\" }", 2);
    let second = second.replacen("X = \"1\"", "SEARCH_KEY = \"1\"", 1);
    let uneven = with(text).replace(SERVICE, &second);
    assert!(codes(&uneven, &given()).contains(&"MF0708"));
    let fails = with(text).replace(
        "[services.search]\n",
        "[services.search]\nfailover = { on_all_down = \"fail\" }\n",
    );
    assert_eq!(codes(&fails, &given()), ["MF0708"]);
    let guarded = fails.replace("{{ s", "{% if services.search.endpoint %}{{ s");
    let guarded = guarded.replace("KEY }}\"\n", "KEY }}{% endif %}\"\n");
    assert_eq!(codes(&guarded, &given()), Vec::<&str>::new());
}

#[test]
fn a_service_that_the_output_does_not_want_is_not_defined() {
    let two = SERVICE
        .replace("[services.search]", "[services.other]")
        .replace("services.search", "services.other");
    let text = "path = \"x.ini\"\ntext = \"{{ services.search.url }}\"\nservices = [\"other\"]\n";
    let policy = with(text) + two.trim_start_matches("version = 1");
    assert_eq!(codes(&policy, &given()), ["MF0708"]);
}

#[test]
fn what_is_wrong_elsewhere_is_not_told_again_of_the_template() {
    let text =
        with("path = \"x.ini\"\ntext = \"{{ services.search.env.SEARCH_KEY }} {{ nope }}\"\n");
    assert_eq!(codes(&text, &Given::default()), ["MF0301", "MF0301"]);
}

#[test]
fn the_last_of_thousands_of_endpoints_is_tried_too() {
    let mut policy = with("path = \"x.ini\"\ntext = \"{{ services.search.env.SEARCH_KEY }}\"\n");
    for n in 0..2_000 {
        let name = if n == 1_999 { "OTHER" } else { "SEARCH_KEY" };
        write!(
            policy,
            "[[services.search.endpoints]]\nname = \"e{n}\"\nurl = \"https://e{n}.example.com\"\n\
             env = {{ {name} = \"${{KEY}}\" }}\n"
        )
        .unwrap();
    }
    assert!(codes(&policy, &given()).contains(&"MF0708"));
}

#[test]
fn no_value_is_in_what_is_told_of_a_template() {
    let texts = [
        "{{ services.search.env.SEARCH_KEY - 1 }}",
        "{{ services.search.env.SEARCH_KEY|int }}",
        "\\\"{{ services.search.env.SEARCH_KEY }}\\\"",
        "{{ services[services.search.env.SEARCH_KEY].url }}",
    ];
    for text in texts {
        let policy = with(&format!("path = \"x.json\"\ntext = \"{text}\"\n"));
        let source = super::source(&policy);
        let found = mcp_failover::policy::compile(&source, &given()).unwrap_err();
        let told = mcp_failover::policy::diagnostic::render_text(&found.0, &source, false);
        assert!(!format!("{told}{found:?}").contains("canary"), "{told}");
    }
}

#[test]
fn every_example_of_the_page_compiles() {
    let page = include_str!("../../docs/templates.md");
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let template =
        page.split("```jinja\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let given = given().with_file("/etc/mcp-failover/server.json.j2", template);
    let mut seen = 0;
    for block in blocks {
        assert_eq!(codes(&format!("{SERVICE}{block}\n"), &given), Vec::<&str>::new(), "{block}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}
