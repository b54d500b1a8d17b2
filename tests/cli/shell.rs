//! The command in a shell: completions, manual pages, pipes, colour.

use std::process::{Command, Stdio};

use super::{BINARY, Place, Ran, quiet_policy};
use crate::common;

/// Runs a line of bash.
fn bash(script: &str) -> Option<Ran> {
    let ran = Command::new("bash").args(["--norc", "-c", script]).output();
    match ran {
        Ok(output) => Some(Ran::from(output)),
        Err(error) => {
            common::skip(&format!("bash: {error}"));
            None
        }
    }
}

#[test]
fn bash_completes_commands_and_options() {
    // As bash does it: the function registered for the command, with the word and the one before.
    let complete = |words: &str, at: usize| {
        let before = at - 1;
        format!(
            "source <('{BINARY}' completions bash); \
             registered=$(complete -p mcp-failover); \
             function=$(sed 's/.* -F \\([^ ]*\\).*/\\1/' <<< \"$registered\"); \
             COMP_WORDS=({words}); COMP_CWORD={at}; \
             \"$function\" mcp-failover \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{before}]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
    };
    let cases = [
        ("mcp-failover hi", 1, "history"),
        ("mcp-failover switch --fo", 2, "--force"),
        ("mcp-failover check --format j", 3, "json"),
    ];
    for (words, at, completed) in cases {
        let Some(ran) = bash(&complete(words, at)) else { return };
        assert_eq!(ran.out.trim(), completed, "{words}: {ran:?}");
    }
}

#[test]
fn every_shell_has_its_script() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = place.run(&["completions", shell]).code(0);
        assert!(ran.out.contains("healthcheck"), "{shell}");
    }
    place.run(&["completions", "tcsh"]).code(2);
}

/// A command and all below it.
fn commands(command: &clap::Command) -> usize {
    1 + command.get_subcommands().map(commands).sum::<usize>()
}

#[test]
fn there_is_a_manual_page_for_every_command_and_man_renders_it() {
    let place = Place::new();
    let dir = place.path().join("man");
    place.run(&["man", &dir.to_string_lossy()]).code(0);
    let pages = std::fs::read_dir(&dir).expect("the pages").count();
    assert_eq!(pages, commands(&mcp_failover::cli::command()));
    let page = dir.join("mcp-failover-switch.1");
    let mut man = Command::new("man");
    man.arg("-l").arg(&page).env("MANWIDTH", "80").env("MANPAGER", "cat");
    match man.stderr(Stdio::piped()).output() {
        Ok(output) if output.status.success() => {
            let text = Ran::from(output).out;
            assert!(text.contains("--force"), "{text}");
        }
        Ok(output) => common::skip(&format!("man: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => common::skip(&format!("man: {error}")),
    }
}

#[test]
fn the_manual_page_goes_to_standard_output_without_a_directory() {
    let ran = Place::new().run(&["man"]).code(0);
    assert!(ran.out.contains(".TH mcp-failover 1"), "{}", ran.out);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = Place::new();
    place.file("failover.toml", &quiet_policy());
    for args in [["schema"].as_slice(), &["completions", "zsh"], &["man"], &["check"], &["--help"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = place.command(args).stdout(writer).output().expect("the binary starts");
        let ran = Ran::from(output).code(0);
        assert!(ran.err.is_empty(), "{ran:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        return common::skip("there is no /dev/full");
    };
    let place = Place::new();
    let mut command = place.command(["schema"]);
    let ran = Ran::from(command.stdout(full).output().expect("the binary starts")).code(1);
    assert!(ran.err.starts_with("error: failed to write to standard output: "), "{}", ran.err);
}

#[test]
fn colour_is_for_terminals_and_for_those_who_insist() {
    let colourful = |place: &Place| {
        place.file("failover.toml", &quiet_policy());
        let good = place.run(&["check"]).code(0).out;
        place.file("failover.toml", "version = 2");
        let bad = place.run(&["check"]).code(78).err;
        (good.contains('\x1b'), bad.contains('\x1b'))
    };
    assert_eq!(colourful(&Place::new()), (false, false));
    assert_eq!(colourful(&Place::new().with("CLICOLOR_FORCE", "1")), (true, true));
    let both = Place::new().with("CLICOLOR_FORCE", "1").with("NO_COLOR", "1");
    assert_eq!(colourful(&both), (false, false));
}

#[test]
fn the_schema_is_json() {
    let document = Place::new().run(&["schema"]).code(0).json();
    assert_eq!(document["title"], "mcp-failover policy");
}
