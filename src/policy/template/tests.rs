//! What templates may do, and what they never do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const URL: &str = "https://a.example.com";

fn env(values: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    values.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value))).collect()
}

fn context(env: &BTreeMap<String, Secret>) -> Context<'_> {
    let facts = Facts {
        endpoint: "primary",
        url: URL,
        env,
        from: "backup",
        cause: "why",
        kind: "failback",
    };
    let services = [("search", facts), ("graph-db", facts)].into();
    Context { revision: Revision::new(7), services }
}

fn filled(quoting: Quoting, text: &str, values: &[(&str, &str)]) -> Result<String, Fault> {
    let env = env(values);
    let template = Template { text: Secret::from(text), quoting };
    let bytes = render(&template, &context(&env))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn plain(text: &str) -> String {
    filled(Quoting::Plain, text, &[("KEY", "k-1")]).unwrap()
}

fn fault(text: &str) -> Fault {
    filled(Quoting::Plain, text, &[("KEY", "sesame-9183")]).unwrap_err()
}

#[test]
fn every_name_is_known() {
    let text = "{{ revision }} {{ services.search.endpoint }} {{ services.search.url }} \
                {{ services.search.env.KEY }} {{ services['graph-db'].from }} \
                {{ services.search.cause }} {{ services.search.kind }}\n";
    assert_eq!(plain(text), format!("7 primary {URL} k-1 backup why failback\n"));
}

#[test]
fn services_and_variables_come_in_the_order_of_their_names() {
    let text = "{% for name, service in services|items %}\n{{ name }}:{% for key in service.env %}\
                {{ key }}={{ service.env[key] }} {% endfor %}\n{% endfor %}\n";
    let given = filled(Quoting::Plain, text, &[("B", "2"), ("A", "1")]).unwrap();
    assert_eq!(given, "graph-db:A=1 B=2 search:A=1 B=2 ");
}

#[test]
fn a_line_with_nothing_but_a_tag_leaves_nothing_and_the_last_line_break_stays() {
    let text = "[a]\n  {% if services.search.endpoint %}\nx = 1\n  {% endif %}\n";
    assert_eq!(plain(text), "[a]\nx = 1\n");
}

#[test]
fn a_name_that_is_not_defined_is_never_an_empty_text() {
    let texts = [
        "{{ services.search.env.NOPE }}",
        "{{ services.serach.url }}",
        "{{ nope }}",
        "{% if services.search.env.NOPE %}x{% endif %}",
        "{% for x in services.search.nope %}x{% endfor %}",
        "{{ services.search.env.NOPE|upper }}",
        "{{ services.search.env.NOPE|tojson }}",
        "{{ services.search.env.NOPE|shell }}",
        "{{ services.search.env.NOPE|ini }}",
        "{{ services.search.env.NOPE ~ 'x' }}",
        "{{ [services.search.env.NOPE]|tojson }}",
    ];
    for text in texts {
        assert_eq!(fault(text).kind, FaultKind::Undefined, "{text}");
    }
    assert_eq!(plain("{{ services.search.env.NOPE|default('x') }}"), "x");
    assert_eq!(plain("{{ services.search.env.NOPE is defined }}"), "false");
}

#[test]
fn no_fault_holds_a_value() {
    let texts = [
        "{{ services.search.env.KEY - 1 }}",
        "{{ services.search.env.KEY + 1 }}",
        "{{ services.search.env.KEY|int }}",
        "{{ services.search.env.KEY|float }}",
        "{{ services.search.env.KEY.nope() }}",
        "{{ services.search.env.KEY() }}",
        "{{ [1]|map(services.search.env.KEY)|list }}",
        "{{ services[services.search.env.KEY].url }}",
        "{{ 1|round(services.search.env.KEY) }}",
        "{{ range(services.search.env.KEY) }}",
        "{{ services.search.env.KEY|format(1) + 1 }}",
        "{{ -services.search.env.KEY }}",
        "{{ services.search.env }}",
        "{{ services.search.env|shell }}",
        "{{ [services.search.env.KEY] }}",
        "{{ (services.search.env.KEY ~ '\n')|ini }}",
        "{{ {}[services.search.env.KEY].x }}",
        "{{ services.search.env|tojson(nope=services.search.env.KEY) }}",
        "{{ '%d'|format(services.search.env.KEY) }}",
    ];
    for text in texts {
        let told = fault(text);
        assert!(!format!("{told} {told:?}").contains("sesame"), "{text}: {told:?}");
    }
}

#[test]
fn what_is_wrong_with_the_text_is_said_in_its_line() {
    let told = fault("one\ntwo {{ 1 + }}\n");
    assert_eq!((told.kind, told.line), (FaultKind::Syntax, 2));
    assert_eq!(told.to_string(), "line 2: unexpected end of variable block");
    for text in ["{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}"] {
        assert_eq!(fault(text).kind, FaultKind::Syntax, "{text}");
    }
    for text in ["{{ 1|nope }}", "{{ debug() }}", "{{ namespace() }}", "{{ 1|pprint }}"] {
        assert_eq!(fault(text).kind, FaultKind::Unknown, "{text}");
    }
}

#[test]
fn a_template_can_neither_go_on_for_ever_nor_grow_without_end() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    let texts = [
        loops.to_owned(),
        "{{ 'x' * 1000000000 }}".to_owned(),
        "{{ range(99999)|join('x' * 999) }}".to_owned(),
        "{% for a in range(9999) recursive %}{{ loop(range(9999)) }}{% endfor %}".to_owned(),
        format!(
            "{{% set x = '{}' %}}{{% for a in range(99) %}}{{{{ x }}}}{{% endfor %}}",
            "y".repeat(20_000)
        ),
    ];
    for text in texts {
        let told = fault(&text);
        let known = matches!(told.kind, FaultKind::Unbounded | FaultKind::Operation);
        assert!(known, "{told:?}");
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
    assert_eq!(fault(&deep).kind, FaultKind::Syntax);
    let lists = format!("{{{{ {}1{}|tojson }}}}", "[".repeat(100), "]".repeat(100));
    fault(&lists);
}

#[test]
fn plain_text_takes_words_and_numbers_but_no_lists() {
    assert_eq!(plain("{{ 1 }} {{ 1.5 }} {{ true }} {{ 'a' if false }}|"), "1 1.5 true |");
    for text in ["{{ none }}", "{{ [1] }}", "{{ services }}"] {
        assert_eq!(fault(text).kind, FaultKind::Operation, "{text}");
    }
}

#[test]
fn a_whole_value_brings_its_quotes_unless_it_is_said_to_be_safe() {
    let text =
        "{{ services.search.env.KEY }} {{ 1 }} {{ true }} {{ services.search.env.KEY|safe }}";
    let values = [("KEY", "a\"b")];
    for quoting in [Quoting::Json, Quoting::Yaml, Quoting::Toml] {
        assert_eq!(filled(quoting, text, &values).unwrap(), "\"a\\\"b\" 1 true a\"b");
        let list = filled(quoting, "{{ ['a', 1] }}", &values).unwrap();
        assert_eq!(list, "[\"a\",1]");
    }
    assert_eq!(
        filled(Quoting::Json, "{{ services.search.env }}", &values).unwrap(),
        "{\"KEY\":\"a\\\"b\"}"
    );
    assert_eq!(filled(Quoting::Yaml, "{{ none }}", &values).unwrap(), "null");
    assert!(filled(Quoting::Toml, "{{ none }}", &values).is_err());
    assert!(filled(Quoting::Toml, "{{ services.search.env }}", &values).is_err());
    let off = "{% autoescape false %}{{ services.search.env.KEY }}{% endautoescape %}";
    assert_eq!(filled(Quoting::Json, off, &values).unwrap(), "a\"b");
    let captured = "{% set x %}{{ services.search.env.KEY }}{% endset %}{{ x }}";
    assert_eq!(filled(Quoting::Json, captured, &values).unwrap(), "\"a\\\"b\"");
}

#[test]
fn the_filters_quote_for_their_readers() {
    let given = |filter: &str, value: &str| {
        let text = format!("{{{{ services.search.env.KEY|{filter} }}}}");
        filled(Quoting::Plain, &text, &[("KEY", value)])
    };
    assert_eq!(given("tojson", "a\"\n\u{85}\u{2028}").unwrap(), r#""a\"\n\u0085\u2028""#);
    assert_eq!(given("shell", "it's $HOME").unwrap(), r"'it'\''s $HOME'");
    assert_eq!(given("systemd", "a\"$b").unwrap(), r#""a\"\$b""#);
    assert_eq!(given("ini", "50% = x; y").unwrap(), "50% = x; y");
    assert_eq!(given("urlencode", "p@ss/w").unwrap(), "p%40ss/w");
    for value in ["a\nb", " a", "a ", "a\u{7f}", "a\u{85}b"] {
        assert!(given("ini", value).is_err(), "{value:?}");
    }
}

#[test]
fn every_undefined_name_is_found_at_once() {
    let text = "{{ services.serach.url }}\n{{ services.search.env.KEYS }} {{ nope|upper }}\n\
                {{ services.search.env.KEY|uper }} {{ services['x'].env.KEY }}\n\
                {% for a in services.y.env %}{{ a.b }}{% endfor %}\n";
    let env = env(&[("KEY", "v")]);
    let found = faults(text, Quoting::Json, &context(&env)).unwrap_err();
    let place = |one: &Fault| text.get(one.range.clone()?);
    let names: Vec<_> = found.iter().filter_map(place).collect();
    let wanted = [
        "services.serach.url",
        "services.search.env.KEYS",
        "nope|upper",
        "services.search.env.KEY|uper",
        "services['x'].env",
        "services.y.env",
    ];
    assert_eq!(names, wanted);
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[\\PC\\s]{0,12}", "[\"'\\\\$%{}#:\\n\\r\\t -]{0,8}"]
}

proptest! {
    #[test]
    fn any_value_is_one_json_and_one_toml_text(value in value()) {
        let text = "{{ services.search.env.KEY }}";
        let json = filled(Quoting::Json, text, &[("KEY", &value)]).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), &*value);
        let toml = format!("v = {}\n", filled(Quoting::Toml, text, &[("KEY", &value)]).unwrap());
        let table: toml::Table = toml.parse().unwrap();
        prop_assert_eq!(table["v"].as_str(), Some(&*value));
    }

    #[test]
    fn any_text_renders_or_is_refused_with_a_place_inside_it(
        text in prop_oneof![
            any::<String>(),
            "(\\{\\{|\\}\\}|\\{%|%\\}| |\\||\\.|services|search|env|KEY|if|for|in|endif|endfor|set|[\\[\\]()'\"x1~+-]){0,30}",
        ],
    ) {
        let env = env(&[("KEY", "v")]);
        if let Err(found) = faults(&text, Quoting::Json, &context(&env)) {
            prop_assert!(!found.is_empty());
            for range in found.iter().filter_map(|one| one.range.clone()) {
                prop_assert!(text.get(range).is_some());
            }
        }
    }
}

#[test]
fn the_page_and_the_explanation_name_all_that_can_be_named() {
    let page = include_str!("../../../docs/templates.md");
    let explained = crate::policy::code::explain("MF0708").unwrap().explanation;
    for name in SERVICE_NAMES {
        assert!(page.contains(&format!("| `services.NAME.{name}")), "{name}");
        assert!(explained.contains(&format!(".{name}")), "{name}");
    }
    assert!(page.contains("| `revision` |") && explained.contains("`revision`"));
}
