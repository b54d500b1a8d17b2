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
