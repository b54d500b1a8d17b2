//! Every code has a bad policy in `tests/golden/`, and beside it what the author gets to read.
//!
//! `MCPF_BLESS=1` writes the texts anew. A policy may begin with instructions to the test:
//! `#= var NAME=value`, `#= file PATH=content`, `#= pad` (grow beyond the limit), `#= services N`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use mcp_failover::policy::{Source, code, compile, diagnostic};

use super::given::Given;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn policies() -> Vec<(String, String)> {
    let mut all: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Carries out the instructions at the head of a policy.
fn prepare(text: &str) -> (String, Given) {
    let mut given = Given::default().with_var("TOKEN_A", "token-a");
    let mut text = text.to_owned();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in lines.iter().filter_map(|line| line.strip_prefix("#= ")) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("var", rest) => {
                let (name, value) = rest.split_once('=').unwrap();
                given = given.with_var(name, &value.replace("\\n", "\n"));
            }
            ("file", rest) => {
                let (path, content) = rest.split_once('=').unwrap();
                given = given.with_file(path, &content.replace("\\n", "\n"));
            }
            ("pad", _) => text.push_str(&"# padding\n".repeat(110_000)),
            ("services", count) => {
                for n in 0..count.parse().unwrap() {
                    for name in ["a", "b"] {
                        write!(
                            text,
                            "[[services.s{n}.endpoints]]\nname = \"{name}\"\nurl = \"https://{name}.example.com\"\n"
                        )
                        .unwrap();
                    }
                }
            }
            (other, _) => panic!("unknown instruction {other}"),
        }
    }
    (text, given)
}

fn rendered(name: &str, text: &str) -> String {
    let (text, given) = prepare(text);
    let file = format!("{name}.toml");
    let source = Source { name: &file, text: &text };
    let found = match compile(&source, &given) {
        Ok(compiled) => compiled.warnings,
        Err(found) => {
            assert!(found.errors() > 0, "{name}: refused without an error");
            found.0
        }
    };
    diagnostic::render_text(&found, &source, false)
}

#[test]
fn every_text_is_as_it_was_approved() {
    let bless = std::env::var_os("MCPF_BLESS").is_some();
    let mut wrong = Vec::new();
    for (name, text) in policies() {
        let now = rendered(&name, &text);
        let path = directory().join(format!("{name}.txt"));
        if bless {
            fs::write(&path, &now).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != now {
            wrong.push(format!("{name}.toml now gives:\n{now}"));
        }
        let code = name.split('-').next().unwrap();
        if !now.contains(&format!("[{code}]")) {
            wrong.push(format!("{name}.toml does not give {code}:\n{now}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nMCPF_BLESS=1 approves the texts", wrong.join("\n"));
}

#[test]
fn every_code_has_a_golden_file() {
    let names: Vec<_> = policies().into_iter().map(|(name, _)| name).collect();
    let missing: Vec<_> = code::all()
        .map(|known| known.code)
        .filter(|code| !names.iter().any(|name| name.starts_with(&format!("{code}-"))))
        .collect();
    assert!(missing.is_empty(), "codes without a golden file: {missing:?}");
}
