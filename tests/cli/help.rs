//! Help, usage and mistakes in arguments.

use super::Place;

/// Every command, with arguments that make it print help.
const COMMANDS: [&str; 27] = [
    "run",
    "exec",
    "check",
    "doctor",
    "probe",
    "status",
    "explain",
    "switch",
    "pin",
    "unpin",
    "drain",
    "undrain",
    "pause",
    "resume",
    "history",
    "watch",
    "render",
    "reload",
    "backup",
    "restore",
    "init",
    "schema",
    "healthcheck",
    "chaos",
    "demo",
    "completions",
    "man",
];

#[test]
fn the_commands_are_those_documented_and_no_others() {
    let command = mcp_failover::cli::command();
    // What we say only to ourselves is not for people.
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let known: Vec<&str> = shown.map(clap::Command::get_name).collect();
    assert_eq!(known, COMMANDS);
}

#[test]
fn the_description_of_the_commands_is_consistent() {
    mcp_failover::cli::command().debug_assert();
}

#[test]
fn every_command_and_every_argument_is_explained() {
    for command in mcp_failover::cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} says nothing of itself");
        for argument in command.get_arguments() {
            let explained = argument.get_help().is_some() || argument.get_id() == "help";
            assert!(explained, "{name} does not explain {}", argument.get_id());
        }
    }
}

#[test]
fn each_command_has_help_and_lists_it_on_one_line() {
    let place = Place::new();
    let overview = place.run(&["--help"]).code(0).out;
    for name in COMMANDS {
        let ran = place.run(&[name, "--help"]).code(0);
        assert!(ran.out.contains("Usage: mcp-failover"), "{name}: {}", ran.out);
        assert!(ran.err.is_empty(), "{name}: {}", ran.err);
        let line = overview.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| line.len() <= 100), "{name} in:\n{overview}");
    }
}

#[test]
fn help_tells_the_exit_codes() {
    let overview = Place::new().run(&["--help"]).code(0).out;
    assert!(overview.contains("0 fine, 1 failed, 2 usage, 3 unhealthy, 78 policy invalid"));
}

#[test]
fn nothing_asked_is_a_usage_error_with_help() {
    let ran = Place::new().run(&[]).code(2);
    assert!(ran.err.contains("Commands:"), "{}", ran.err);
}

#[test]
fn a_misspelt_command_is_a_usage_error_with_a_suggestion() {
    let ran = Place::new().run(&["statsu"]).code(2);
    assert!(ran.err.contains("'status'"), "{}", ran.err);
    assert!(ran.out.is_empty(), "{}", ran.out);
}

#[test]
fn a_misspelt_option_is_a_usage_error() {
    let ran = Place::new().run(&["status", "--jsn"]).code(2);
    assert!(ran.err.contains("--json"), "{}", ran.err);
}

#[test]
fn a_pin_needs_a_span_of_time_that_is_one() {
    let place = Place::new();
    for span in ["10", "0s", "-5m", "soon"] {
        let ran = place.run(&["pin", "search", "primary", &format!("--for={span}")]).code(2);
        assert!(ran.err.contains("--for"), "{span}: {}", ran.err);
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let ran = Place::new().run(&["--version"]).code(0);
    assert_eq!(ran.out, format!("mcp-failover {}\n", env!("CARGO_PKG_VERSION")));
}
