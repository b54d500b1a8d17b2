//! What is written is what the format's reader gets back.

use std::path::Path;

use mcp_failover::output::{ActiveConfig, render, verify};
use mcp_failover::policy::model::{Content, Env, EnvFormat, File};
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::readers::{self, Reader};
use super::{config, config_of, env_file};

const EVERY: [EnvFormat; 5] =
    [EnvFormat::Dotenv, EnvFormat::Docker, EnvFormat::Systemd, EnvFormat::Shell, EnvFormat::Json];

/// Values that real deployments have; every format must carry each of them.
const ORDINARY: &[&str] = &[
    "",
    "plain",
    "https://index-1.example.com:443/path?x=1&y=2#fragment",
    "neo4j+s://db.example.com",
    "p@ss'word",
    "p@ss\"word",
    "it's \"quoted\"",
    "a b  c",
    " led and trailed ",
    "#starts",
    "has # inside",
    "price$5",
    "$HOME",
    "$(id)",
    "`id`",
    "50%",
    "back\\slash",
    "C:\\path\\to",
    "{\"json\": [1, \"two\"]}",
    "snow ☃ and é",
    "a=b=c",
    "semi;colon&amp|pipe",
    "!bang",
    "~tilde",
    "*glob?",
    "tab\tinside",
];

fn file(path: &Path, format: EnvFormat) -> File {
    let env = Env { format, ..Env::default() };
    File { content: Content::Env(env), ..env_file(path) }
}

/// Each value as a variable of its own, without those that the format refuses alone.
fn accepted(format: EnvFormat, values: &[String]) -> Vec<(String, String)> {
    let fits = |value: &str| {
        let config = config_of(1, "primary", &[("V", value)]);
        render(&file(Path::new("x"), format), &config, None).is_ok()
    };
    let values = values.iter().filter(|value| fits(value)).enumerate();
    values.map(|(at, value)| (format!("V{at:04}"), value.clone())).collect()
}

fn config_with(values: &[(String, String)]) -> ActiveConfig {
    let env: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    config_of(7, "primary", &env)
}

/// Writes all values into one file and has the reader read it once.
#[track_caller]
fn assert_read_back(format: EnvFormat, values: &[(String, String)], reader: Reader) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("values.env");
    let text = render(&file(&path, format), &config_with(values), None).unwrap();
    std::fs::write(&path, &*text).unwrap();
    let seen = reader(&path);
    for (name, value) in values {
        assert_eq!(seen.get(name), Some(value), "{name} in {format:?}");
    }
    assert_eq!(seen["MCP_FAILOVER_INDEX_ENDPOINT"], "primary");
    assert_eq!(seen["MCP_FAILOVER_REVISION"], "7");
}

/// Strings made of whatever any of the readers treats in a way of its own.
fn nasty(count: usize) -> Vec<String> {
    let parts = proptest::sample::select(vec![
        "'", "\"", "\\", "\\\\", "\\'", "\\\"", "\\n", "\\r", "\\u0041", "$", "$$", "$V0001",
        "${V0001}", "${X:-y}", "${", "}", "$(id)", "`", "`id`", "#", " #", "# ", ";", " ", "  ",
        "\t", "\n", "\n\n", "\r", "\r\n", "\u{b}", "\u{1}", "\u{7f}", "\u{85}", "\u{a0}",
        "\u{2028}", "\u{feff}", "é", "☃", "🦀", "=", "A=b", "\nA=b", "export ", "a", "0", "-", "%",
        "!", "*", "~", "&", "|", "<", ">", "(", ")", "{", "/", ":", ",",
    ]);
    let value = proptest::collection::vec(parts, 0..6).prop_map(|parts| parts.concat());
    let mut runner = TestRunner::default();
    (0..count).map(|_| value.new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn every_format_carries_what_deployments_have() {
    let ordinary: Vec<_> = ORDINARY.iter().map(|&value| value.to_owned()).collect();
    for format in EVERY {
        assert_eq!(accepted(format, &ordinary).len(), ordinary.len(), "{format:?}");
    }
}

#[test]
fn dotenv_is_read_back_by_python() {
    if readers::has_python() {
        assert_read_back(EnvFormat::Dotenv, &batch(EnvFormat::Dotenv), readers::python);
    }
}

#[test]
fn dotenv_is_read_back_by_node() {
    if readers::has_node() {
        assert_read_back(EnvFormat::Dotenv, &batch(EnvFormat::Dotenv), readers::node);
    }
}

#[test]
fn shell_is_read_back_by_sh() {
    assert_read_back(EnvFormat::Shell, &batch(EnvFormat::Shell), readers::sh);
}

#[test]
fn docker_is_read_back_by_its_client_and_its_rules() {
    let values = batch(EnvFormat::Docker);
    assert_read_back(EnvFormat::Docker, &values, readers::docker_rules);
    if readers::has_docker() {
        assert_read_back(EnvFormat::Docker, &values, readers::docker);
    }
}

#[test]
fn systemd_is_read_back_by_its_rules() {
    assert_read_back(EnvFormat::Systemd, &batch(EnvFormat::Systemd), readers::systemd_rules);
}

/// The program at hand doubles as `EnvironmentFile=` in all but two things: it expands `$`, so
/// that each is doubled for it, and leaves out what is empty.
#[test]
fn systemd_is_read_back_by_its_own_parser() {
    if !readers::has_systemd() {
        return;
    }
    let values = batch(EnvFormat::Systemd);
    let values: Vec<_> = values.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let doubled: Vec<_> = values.iter().map(|(n, v)| (n.clone(), v.replace('$', "$$"))).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("values.env");
    let text = render(&file(&path, EnvFormat::Systemd), &config_with(&doubled), None).unwrap();
    std::fs::write(&path, &*text).unwrap();
    let seen = readers::systemd_expanding(&path);
    for (name, value) in &values {
        assert_eq!(seen.get(name), Some(value), "{name}");
    }
}

#[test]
fn json_is_read_back() {
    assert_read_back(EnvFormat::Json, &batch(EnvFormat::Json), readers::json);
}

fn batch(format: EnvFormat) -> Vec<(String, String)> {
    let mut values: Vec<_> = ORDINARY.iter().map(|&value| value.to_owned()).collect();
    values.extend(nasty(600));
    let accepted = accepted(format, &values);
    assert!(accepted.len() > 300, "{format:?} refuses too much: {} left", accepted.len());
    accepted
}

#[test]
fn a_value_that_the_reader_would_change_is_refused_without_being_shown() {
    let refused = [
        (EnvFormat::Dotenv, "sesame${HOME}"),
        (EnvFormat::Dotenv, "'sesame\" # \\"),
        (EnvFormat::Docker, "sesame\nsecond line"),
        (EnvFormat::Docker, "sesame\r"),
        (EnvFormat::Systemd, "sesame\u{1}"),
        (EnvFormat::Shell, "sesame\0"),
        (EnvFormat::Json, "sesame\0"),
    ];
    for (format, value) in refused {
        let config = config_of(1, "primary", &[("INDEX_KEY", value)]);
        let error = render(&file(Path::new("x"), format), &config, None).unwrap_err();
        let text = format!("{error:?} {}", error.explain());
        assert!(text.contains("INDEX_KEY"), "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }
    let long = "x".repeat(64 * 1024);
    let config = config_of(1, "primary", &[("LONG", &long)]);
    assert!(render(&file(Path::new("x"), EnvFormat::Docker), &config, None).is_err());
    assert!(render(&file(Path::new("x"), EnvFormat::Dotenv), &config, None).is_ok());
}

#[test]
fn any_reader_can_prove_that_it_read_all_of_it() {
    for format in EVERY {
        let text = render(&file(Path::new("x"), format), &config(42, "primary"), None).unwrap();
        let whole = verify(&text).unwrap();
        assert_eq!((whole.revision.get(), whole.checksum_ok), (42, true), "{format:?}");
        for cut in 0..text.len() - 1 {
            let torn = verify(&text[..cut]);
            assert!(torn.is_err() || torn.is_ok_and(|torn| !torn.checksum_ok), "{format:?} {cut}");
        }
        for at in 0..text.len() - 1 {
            let mut flipped = text.to_vec();
            flipped[at] ^= 1;
            let flipped = verify(&flipped);
            assert!(
                flipped.is_err()
                    || flipped.is_ok_and(|now| !now.checksum_ok || now.revision.get() != 42),
                "{format:?} {at}"
            );
        }
        let mut padded = text.to_vec();
        padded.extend_from_slice(&[b'\n'; 100]);
        assert_eq!(verify(&padded), Ok(whole), "{format:?}");
    }
}

#[test]
fn the_same_configuration_gives_the_same_bytes() {
    let text = render(&file(Path::new("x"), EnvFormat::Dotenv), &config(3, "primary"), None);
    let text = String::from_utf8(text.unwrap().to_vec()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let wanted = [
        "# Written by mcp-failover. Edits are undone.",
        "INDEX_HOST=https://primary.example.com",
        "INDEX_KEY=key-of-primary",
        "MCP_FAILOVER_INDEX_ENDPOINT=primary",
        "MCP_FAILOVER_REVISION=3",
    ];
    assert_eq!(lines[..5], wanted);
    assert!(lines[5].starts_with("# mcp-failover revision=3 sha256="), "{text}");
    assert_eq!(lines.len(), 6);
}
