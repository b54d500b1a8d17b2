//! A file that is shared keeps what others wrote in it.

use std::path::Path;

use mcp_failover::output::{render, verify};
use mcp_failover::policy::model::{Content, Env, EnvFormat, EnvMode, File};

use super::readers::{self, Reader};
use super::{config, config_of, env_file};

fn file(format: EnvFormat) -> File {
    let env = Env { format, mode: EnvMode::Merge };
    File { content: Content::Env(env), ..env_file(Path::new("shared.env")) }
}

fn merged(format: EnvFormat, revision: u64, endpoint: &str, existing: &str) -> String {
    let text = render(&file(format), &config(revision, endpoint), Some(existing.as_bytes()));
    String::from_utf8(text.unwrap().to_vec()).unwrap()
}

#[test]
fn foreign_lines_stay_and_ours_change_in_place() {
    let existing = "# my settings\nDEBUG = yes # why not\r\n\nexport INDEX_HOST=old\n\
                    CERT=\"-----BEGIN\nINDEX_KEY=not really\n-----END\"\n# INDEX_KEY=\"commented\n\
                    OTHER='x'\nINDEX_HOST=again\nlast=without break";
    let text = merged(EnvFormat::Dotenv, 5, "primary", existing);
    let wanted = "# my settings\nDEBUG = yes # why not\r\n\nexport INDEX_HOST=https://primary.example.com\n\
                  CERT=\"-----BEGIN\nINDEX_KEY=not really\n-----END\"\n# INDEX_KEY=\"commented\n\
                  OTHER='x'\nlast=without break\n\
                  INDEX_KEY=key-of-primary\nMCP_FAILOVER_INDEX_ENDPOINT=primary\nMCP_FAILOVER_REVISION=5\n";
    assert!(text.starts_with(wanted), "{text}");
    assert!(verify(text.as_bytes()).unwrap().checksum_ok);
}

#[test]
fn merging_into_its_own_result_changes_nothing() {
    let existing = [
        (EnvFormat::Dotenv, "A=1\nB=\"two\nlines\"\n"),
        (EnvFormat::Docker, "A=1\n# c\nINDEX_KEY=x\nB=raw 'text\n"),
        (EnvFormat::Systemd, "; c\nA=it's\nB=\"two\\\nlines\" 'more'\nINDEX_HOST=x\\\ny\nC=1"),
        (EnvFormat::Shell, "A=it\\'s\nB='two\nlines' # it's fine\nif true; then C=1; fi\n"),
        (EnvFormat::Json, "{\"A\": [1, {\"x\":  2}], \"INDEX_KEY\": \"old\", \"B\": null}"),
    ];
    for (format, existing) in existing {
        let first = merged(format, 5, "primary", existing);
        assert_eq!(merged(format, 5, "primary", &first), first, "{format:?}");
        let there = merged(format, 6, "backup", &first);
        assert!(verify(there.as_bytes()).unwrap().checksum_ok, "{format:?}");
        assert_eq!(merged(format, 5, "primary", &there), first, "{format:?}");
    }
}

#[test]
fn the_reader_sees_both_sides() {
    let dotenv = "MINE='a\nINDEX_KEY=b'\nINDEX_HOST=x";
    let mut shared: Vec<(EnvFormat, &str, Reader)> = vec![
        (EnvFormat::Docker, "MINE=a\nINDEX_HOST=x", readers::docker_rules),
        (EnvFormat::Systemd, "MINE=\"a\nINDEX_KEY=b\"\nINDEX_HOST=x\\\n y", readers::systemd_rules),
        (EnvFormat::Shell, "export MINE='a\nINDEX_KEY=b'\nINDEX_HOST=\"x\ny\"", readers::sh),
        (EnvFormat::Json, "{\"MINE\": \"a\", \"INDEX_HOST\": \"x\"}", readers::json),
    ];
    if readers::has_python() {
        shared.push((EnvFormat::Dotenv, dotenv, readers::python));
    }
    if readers::has_node() {
        shared.push((EnvFormat::Dotenv, dotenv, readers::node));
    }
    for (format, existing, reader) in shared {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared");
        std::fs::write(&path, merged(format, 5, "primary", existing)).unwrap();
        let seen = reader(&path);
        assert_eq!(seen["INDEX_HOST"], "https://primary.example.com", "{format:?}");
        assert_eq!(seen["INDEX_KEY"], "key-of-primary", "{format:?}");
        assert!(seen["MINE"].starts_with('a'), "{format:?}");
    }
}

#[test]
fn a_variable_leaves_with_the_endpoint_that_had_it() {
    for format in [EnvFormat::Dotenv, EnvFormat::Json] {
        let start: &[u8] =
            if format == EnvFormat::Json { b"{\"TOKEN2\": \"x\"}" } else { b"TOKEN2=x\n" };
        let with = config_of(1, "primary", &[("HOST", "a"), ("TOKEN", "of-primary")]);
        let without = config_of(2, "backup", &[("HOST", "b")]);
        let first = render(&file(format), &with, Some(start)).unwrap();
        let second = render(&file(format), &without, Some(&first)).unwrap();
        let second = String::from_utf8(second.to_vec()).unwrap();
        assert!(!second.contains("of-primary"), "{second}");
        assert!(second.contains("TOKEN2"), "{second}");
    }
}

#[test]
fn a_shell_line_that_does_more_is_not_ours() {
    let existing = "INDEX_KEY=x exec server\nINDEX_HOST=y # only a comment\n";
    let text = merged(EnvFormat::Shell, 5, "primary", existing);
    let wanted = "INDEX_KEY=x exec server\nexport INDEX_HOST='https://primary.example.com'\n";
    assert!(text.starts_with(wanted), "{text}");
    assert!(text.contains("\nexport INDEX_KEY='key-of-primary'\n"), "{text}");
}

#[test]
fn a_file_that_ends_within_a_quote_is_left_alone() {
    for (format, existing) in [
        (EnvFormat::Shell, "A='open\n"),
        (EnvFormat::Systemd, "A=\"open\n"),
        (EnvFormat::Systemd, "# continued \\"),
        (EnvFormat::Json, "[\"sesame\"]"),
        (EnvFormat::Json, "{\"sesame\": "),
    ] {
        let result = render(&file(format), &config(1, "primary"), Some(existing.as_bytes()));
        let error = result.unwrap_err().explain();
        assert!(error.starts_with("merge into the existing file"), "{error}");
        assert!(!error.contains("sesame"), "{error}");
    }
}

#[test]
fn padding_of_an_interrupted_write_is_cleared() {
    let text = merged(EnvFormat::Dotenv, 5, "primary", "A=1\n");
    assert_eq!(merged(EnvFormat::Dotenv, 5, "primary", &format!("{text}\n\n\n\n")), text);
}
