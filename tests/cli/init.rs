//! `init`.

use std::os::unix::fs::PermissionsExt;

use super::Place;

/// The variables of the four services, with values that must not be found again.
fn furnished() -> Place {
    Place::new()
        .with("PINECONE_HOST", "canary-a.example.com")
        .with("PINECONE_API_KEY", "canary-b")
        .with("PINECONE_BACKUP_HOST", "canary-c.example.com")
        .with("PINECONE_BACKUP_API_KEY", "canary-d")
        .with("NEO4J_URI", "neo4j+s://canary-e.example.com")
        .with("NEO4J_USERNAME", "canary-f")
        .with("NEO4J_PASSWORD", "canary-g")
        .with("NEO4J_BACKUP_URI", "neo4j+s://canary-h.example.com")
        .with("GRAPHLIT_ORGANIZATION_ID", "canary-i")
        .with("GRAPHLIT_ENVIRONMENT_ID", "canary-j")
        .with("GRAPHLIT_JWT_SECRET", "canary-k")
        .with("TAVILY_API_KEY", "canary-l")
        .with("TAVILY_BACKUP_API_KEY", "canary-m")
}

#[test]
fn the_policy_refers_to_variables_and_holds_no_value() {
    let place = furnished();
    let ran = place.run(&["init"]).code(0);
    let text = std::fs::read_to_string(place.path().join("failover.toml")).expect("the policy");
    for shown in [&text, &ran.out, &ran.err] {
        assert!(!shown.contains("canary"), "a value got into:\n{shown}");
    }
    assert!(text.contains("\"${PINECONE_BACKUP_API_KEY}\""), "{text}");
}

#[test]
fn the_policy_is_valid_where_the_variables_are() {
    let place = furnished();
    place.run(&["init"]).code(0);
    let ran = place.run(&["check"]).code(0);
    assert_eq!(ran.out, "failover.toml: valid, 4 services, 7 endpoints, 1 output\n");
}

#[test]
fn an_existing_file_is_replaced_only_by_force() {
    let place = furnished();
    place.file("failover.toml", "mine");
    let ran = place.run(&["init"]).code(1);
    assert!(ran.err.contains("it exists"), "{}", ran.err);
    assert!(ran.err.contains("help: pass --force"), "{}", ran.err);
    let path = place.path().join("failover.toml");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "mine");
    place.run(&["init", "--force"]).code(0);
    assert!(std::fs::read_to_string(&path).expect("the file").contains("version = 1"));
    let names: Vec<_> = std::fs::read_dir(place.path()).expect("the directory").collect();
    assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");
}

#[test]
fn the_policy_can_be_printed_instead() {
    let place = furnished();
    let ran = place.run(&["init", "--stdout", "--env-file", "/run/mcp/a \"b\".env"]).code(0);
    assert!(ran.out.contains("path = \"/run/mcp/a \\\"b\\\".env\""), "{}", ran.out);
    assert!(!place.path().join("failover.toml").exists());
    place.file("printed.toml", &ran.out);
    place.run(&["check", "printed.toml"]).code(0);
}

#[test]
fn nothing_found_is_said_with_what_is_looked_for() {
    let ran = Place::new().run(&["init"]).code(1);
    assert!(ran.err.contains("failed to find a service in the environment"), "{}", ran.err);
    assert!(ran.err.contains("PINECONE_HOST"), "{}", ran.err);
}

#[test]
fn the_file_is_readable_because_it_holds_no_secret() {
    let place = furnished();
    place.run(&["init"]).code(0);
    let meta = std::fs::metadata(place.path().join("failover.toml")).expect("the policy");
    assert_eq!(meta.permissions().mode() & 0o600, 0o600);
    assert_eq!(meta.permissions().mode() & 0o111, 0);
}
