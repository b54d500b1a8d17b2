//! The readers that the formats are made for: the real ones, and the rules of those that are not
//! at hand everywhere.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::found;
use crate::common;

pub(super) type Seen = BTreeMap<String, String>;

/// Reads a file as the format's consumers do.
pub(super) type Reader = fn(&Path) -> Seen;

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools")
}

fn stdout(command: &mut Command) -> Vec<u8> {
    let finished = command.output().unwrap();
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    finished.stdout
}

pub(super) fn python_path() -> PathBuf {
    let own = tools().join("venv/bin/python");
    if own.is_file() { own } else { PathBuf::from("python3") }
}

pub(super) fn has_python() -> bool {
    let probe = Command::new(python_path()).args(["-c", "import dotenv"]).output();
    let has = probe.is_ok_and(|probe| probe.status.success());
    if !has {
        common::skip("python-dotenv is not installed");
    }
    has
}

/// python-dotenv, as `load_dotenv` reads.
pub(super) fn python(path: &Path) -> Seen {
    let code = "import sys, json, dotenv; print(json.dumps(dotenv.dotenv_values(sys.argv[1])))";
    let json = stdout(Command::new(python_path()).args(["-c", code]).arg(path));
    serde_json::from_slice(&json).unwrap()
}

fn node_modules() -> PathBuf {
    let given = std::env::var_os("MCPF_NODE_MODULES").map(PathBuf::from);
    given.unwrap_or_else(|| tools().join("node_modules"))
}

pub(super) fn has_node() -> bool {
    let has = node_modules().join("dotenv").is_dir() && found("node");
    if !has {
        common::skip("node's dotenv is not installed");
    }
    has
}

/// node's dotenv.
pub(super) fn node(path: &Path) -> Seen {
    let code = "const { parse } = require('dotenv');\
                console.log(JSON.stringify(parse(require('fs').readFileSync(process.argv[1]))))";
    let mut node = Command::new("node");
    let json = stdout(node.args(["-e", code]).arg(path).env("NODE_PATH", node_modules()));
    serde_json::from_slice(&json).unwrap()
}

/// A POSIX shell that sources the file, and what a program started by it then sees.
pub(super) fn sh(path: &Path) -> Seen {
    let mut command = Command::new("sh");
    command.args(["-euc", ". \"$1\"; exec env -0", "sh"]).arg(path);
    let programs = std::env::var_os("PATH").unwrap();
    let text = String::from_utf8(stdout(command.env_clear().env("PATH", programs))).unwrap();
    let lines = text.split_terminator('\0').map(|line| line.split_once('=').unwrap());
    lines.map(owned).collect()
}

pub(super) fn json(path: &Path) -> Seen {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Without it the documented rules are checked alone, which is no reason to fail.
pub(super) fn has_docker() -> bool {
    let has = found("docker");
    if !has {
        eprintln!("docker's client is not installed: its documented rules are checked alone");
    }
    has
}

/// docker's own client: it reads the file and sends the result to a daemon, which is us.
pub(super) fn docker(path: &Path) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    let daemon = std::thread::spawn(move || docker_daemon(&listener));
    let mut client = Command::new("docker");
    client.args(["create", "--env-file"]).arg(path).arg("image").env("DOCKER_HOST", host);
    client.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_TLS_VERIFY");
    stdout(&mut client);
    let lines = daemon.join().unwrap();
    lines.iter().filter_map(|line| line.split_once('=')).map(owned).collect()
}

/// Answers until a container is asked for, and tells with which environment.
fn docker_daemon(listener: &TcpListener) -> Vec<String> {
    loop {
        let (stream, _) = listener.accept().unwrap();
        if let Some(env) = docker_connection(stream) {
            return env;
        }
    }
}

fn docker_connection(mut stream: TcpStream) -> Option<Vec<String>> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let created = request.contains("/containers/create");
    let answer = if created { r#"{"Id":"1","Warnings":[]}"# } else { "" };
    let status = if created { "201 Created" } else { "200 OK" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nOSType: linux\r\nContent-Type: application/json\
         \r\nConnection: close\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
    .unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
    created.then(|| serde_json::from_value(body["Env"].clone()).unwrap())
}

/// What docker documents: a line is blank, a comment, or a name and the raw rest of the line.
pub(super) fn docker_rules(path: &Path) -> Seen {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).trim_start());
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap()).map(owned).collect()
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

const SYSTEMD: &str =
    "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator";

/// Without it the rules are checked alone, which is no reason to fail.
pub(super) fn has_systemd() -> bool {
    let has = Path::new(SYSTEMD).is_file();
    if !has {
        eprintln!("systemd is not installed: its rules are checked alone");
    }
    has
}

/// systemd's own parser of `EnvironmentFile=`, in a program that needs no running systemd. Unlike
/// that it expands `$` afterwards.
pub(super) fn systemd_expanding(path: &Path) -> Seen {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("environment.d");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(path, dir.join("a.conf")).unwrap();
    let mut command = Command::new(SYSTEMD);
    let printed = stdout(command.env_clear().env("XDG_CONFIG_HOME", home.path()));
    let printed = String::from_utf8(printed).unwrap();
    printed.lines().map(|line| line.split_once('=').unwrap()).map(unquoted).collect()
}

/// Undoes the quoting that systemd prints with.
fn unquoted((name, value): (&str, &str)) -> (String, String) {
    let Some(quoted) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return owned((name, value));
    };
    let mut text = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        let next = if c == '\\' { chars.next() } else { None };
        text.push(match next {
            None => c,
            Some('n') => '\n',
            Some('t') => '\t',
            Some(other) => other,
        });
    }
    (name.to_owned(), text)
}

/// Where systemd's reader stands.
#[derive(Clone, Copy)]
enum At {
    PreKey,
    Key,
    PreValue,
    Value,
    ValueEscape,
    Single,
    Double,
    DoubleEscape,
    Comment,
    CommentEscape,
}

/// systemd's rules, state by state, as its source has them.
pub(super) fn systemd_rules(path: &Path) -> Seen {
    let text = std::fs::read_to_string(path).unwrap();
    let (mut seen, mut at) = (Seen::new(), At::PreKey);
    let (mut key, mut value, mut blanks) = (String::new(), String::new(), 0);
    for c in text.chars().chain(['\n']) {
        at = match (at, c) {
            (At::PreKey, '#' | ';') => At::Comment,
            (At::PreKey, c) if c.is_ascii_whitespace() => At::PreKey,
            (At::PreKey, c) => {
                key = c.to_string();
                value.clear();
                blanks = 0;
                At::Key
            }
            (At::Key | At::Comment, '\n') => At::PreKey,
            (At::Key, '=') | (At::Single, '\'') | (At::Double, '"') => At::PreValue,
            (At::Key, c) => {
                key.push(c);
                At::Key
            }
            (At::PreValue | At::Value, '\n') => {
                value.truncate(value.len() - blanks);
                seen.insert(key.trim_end().to_owned(), std::mem::take(&mut value));
                blanks = 0;
                At::PreKey
            }
            (At::PreValue, '\'') => At::Single,
            (At::PreValue, '"') => At::Double,
            (At::PreValue | At::Value, '\\') => At::ValueEscape,
            (At::PreValue, c) if c.is_ascii_whitespace() => At::PreValue,
            (At::PreValue | At::Value, c) => {
                blanks = if c.is_ascii_whitespace() { blanks + 1 } else { 0 };
                value.push(c);
                At::Value
            }
            (At::ValueEscape, c) => {
                blanks = 0;
                value.extend(Some(c).filter(|&c| c != '\n'));
                At::Value
            }
            (At::Double, '\\') => At::DoubleEscape,
            (At::Single | At::Double, c) => {
                value.push(c);
                at
            }
            (At::DoubleEscape, c) => {
                match c {
                    '"' | '\\' | '`' | '$' => value.push(c),
                    '\n' => {}
                    other => value.extend(['\\', other]),
                }
                At::Double
            }
            (At::Comment, '\\') => At::CommentEscape,
            (At::Comment | At::CommentEscape, _) => At::Comment,
        };
    }
    seen
}
