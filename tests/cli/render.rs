//! `render`.

use super::{Place, quiet_policy};

#[test]
fn values_are_masked_unless_asked_for() {
    let place = Place::new();
    place.file("failover.toml", &quiet_policy());
    let masked = place.run(&["render"]).code(0);
    assert!(!masked.out.contains("canary") && !masked.err.contains("canary"), "{masked:?}");
    assert!(masked.out.contains("SEARCH_KEY=") && masked.out.contains("***"), "{}", masked.out);
    assert!(masked.out.contains("MCP_FAILOVER_SEARCH_ENDPOINT=primary"), "{}", masked.out);
    let shown = place.run(&["render", "--show-secrets"]).code(0);
    assert!(shown.out.contains("SEARCH_KEY=canary-of-the-primary"), "{}", shown.out);
    assert!(!shown.out.contains("canary-of-the-secondary"), "{}", shown.out);
}

#[test]
fn nothing_is_written() {
    let place = Place::new();
    place.file("failover.toml", &quiet_policy());
    place.run(&["render", "--show-secrets"]).code(0);
    let names: Vec<_> = std::fs::read_dir(place.path()).expect("the directory").collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn one_output_can_be_picked_by_name_or_path() {
    let place = Place::new();
    let more = "[[outputs]]\nname = \"json\"\ntype = \"env_file\"\npath = \"out.json\"\nformat = \"json\"\n";
    place.file("failover.toml", &format!("{}{more}", quiet_policy()));
    let all = place.run(&["render"]).code(0).out;
    assert!(all.contains("# out.env\n") && all.contains("# out.json\n"), "{all}");
    let document = place.run(&["render", "--output", "json"]).code(0).json();
    assert_eq!(document["MCP_FAILOVER_SEARCH_ENDPOINT"], "primary");
    let by_path = place.run(&["render", "--output", "out.env"]).code(0).out;
    assert!(by_path.contains("SEARCH_URL="), "{by_path}");
    let ran = place.run(&["render", "--output", "other"]).code(2);
    assert!(ran.err.contains("failed to find output other in the policy"), "{}", ran.err);
}

const TEMPLATE: &str = "[[outputs]]\nname = \"server\"\ntype = \"template\"\npath = \"server.json\"\n\
                        source = \"server.json.j2\"\n";

/// A place with an env file and a template.
fn with_template(template: &str) -> Place {
    let place = Place::new();
    place.file("failover.toml", &format!("{}{TEMPLATE}", quiet_policy()));
    place.file("server.json.j2", template);
    place
}

#[test]
fn a_template_is_shown_filled_in_and_masked() {
    let place = with_template("{\"key\": {{ services.search.env.SEARCH_KEY }}}\n");
    let masked = place.run(&["render", "--output", "server"]).code(0);
    assert_eq!(masked.out, "{\"key\": \"***\"}\n");
    let shown = place.run(&["render", "--output", "server.json", "--show-secrets"]).code(0);
    assert_eq!(shown.json()["key"], "canary-of-the-primary");
}

#[test]
fn what_another_endpoint_would_give_can_be_seen() {
    let place =
        with_template("[{{ services.search.endpoint }}, {{ services.search.env.SEARCH_KEY }}]\n");
    let other = ["render", "--endpoint", "search=secondary", "--output", "server"];
    let shown = place.run(&[&other[..], &["--show-secrets"]].concat()).code(0).json();
    assert_eq!(shown, serde_json::json!(["secondary", "canary-of-the-secondary"]));
    let all = place.run(&["render", "--json", "--endpoint", "search=secondary"]).code(0).json();
    assert_eq!(all["schema"], 1);
    let [env, template] = all["outputs"].as_array().expect("a list").as_slice() else {
        panic!("two outputs: {all}");
    };
    assert_eq!((&env["path"], &template["name"]), (&"out.env".into(), &"server".into()));
    assert_eq!(template["active"]["search"], "secondary");
    assert_eq!(template["content"], "[\"secondary\", \"***\"]\n");
    assert!(env["content"].as_str().is_some_and(|text| text.contains("ENDPOINT=secondary\n")));
}

#[test]
fn an_endpoint_that_there_is_not_is_said() {
    let place = with_template("{}\n");
    let cases = [
        ("search=third", "failed to find endpoint third of service search in the policy"),
        ("other=primary", "failed to find service other in the policy"),
        ("search", "write SERVICE=NAME"),
    ];
    for (given, says) in cases {
        let ran = place.run(&["render", "--endpoint", given]).code(2);
        assert!(ran.err.contains(says), "{}", ran.err);
    }
}

#[test]
fn a_template_that_computes_with_a_masked_value_says_what_to_do() {
    let place = with_template(
        "{{ services.search.env.SEARCH_KEY[10]|int(default=7) if \
                               services.search.env.SEARCH_KEY|length > 3 else nope }}\n",
    );
    let ran = place.run(&["render", "--output", "server"]).code(1);
    assert!(
        ran.err.contains("failed to render server: fill in the template, line 1"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("try --show-secrets"), "{}", ran.err);
}
