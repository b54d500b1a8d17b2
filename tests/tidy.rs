//! The architecture, as tests: what no lint can see.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines of code: comments, blank lines and tests are not code.
const FILE_LINES_MAX: usize = 500;
/// Longest function, in lines from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// The rooms from the bottom up; a room may import what stands on a line before its own.
const LAYERS: [&[&str]; 8] = [
    &["core"],
    &["policy"],
    &["telemetry"],
    &["resp", "tls", "unix"],
    &["admin", "alert", "output", "probe", "store", "watch"],
    &["chaos", "daemon"],
    &["cli"],
    &["main"],
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a readable source file")
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    path.starts_with(root().join("tests"))
        || name.is_some_and(|name| name == "tests.rs" || name.ends_with("_tests.rs"))
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// The file without its closing test module.
fn production_part(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

fn room_of(path: &Path) -> Option<String> {
    let below = path.strip_prefix(root().join("src")).ok()?;
    let first = below.components().next()?.as_os_str().to_string_lossy().into_owned();
    Some(first.trim_end_matches(".rs").to_owned())
}

fn layer_of(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

#[test]
fn no_room_imports_upward_or_sideways() {
    let mut broken = Vec::new();
    for path in files_below("src", ".rs") {
        let Some(room) = room_of(&path).filter(|room| room != "lib") else { continue };
        let layer = layer_of(&room).unwrap_or_else(|| panic!("{room} stands in no layer"));
        for (number, line) in read(&path).lines().enumerate() {
            if !is_code(line) {
                continue;
            }
            for piece in line.split("crate::").skip(1) {
                let target: String =
                    piece.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(below) = layer_of(&target) else { continue };
                if target != room && below >= layer {
                    broken.push(format!("{}:{}: {room} -> {target}", shown(&path), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "imports point downward only:\n{}", broken.join("\n"));
}

#[test]
fn the_pure_rooms_touch_neither_clock_nor_runtime_nor_world() {
    let banned = [
        "tokio",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "std::env",
        "std::process",
        "std::thread",
        "Instant::now",
        "SystemTime",
        "rand::",
    ];
    let mut broken = Vec::new();
    for room in ["src/core", "src/policy", "src/probe/codec", "src/resp"] {
        for path in files_below(room, ".rs") {
            if is_test_file(&path) {
                continue;
            }
            for (number, line) in production_part(&read(&path)).lines().enumerate() {
                if is_code(line) && banned.iter().any(|word| line.contains(word)) {
                    broken.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "core, policy and codecs are pure:\n{}", broken.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let mut broken = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in files_below(folder, ".rs") {
            let text = read(&path);
            let text = if is_test_file(&path) { text.as_str() } else { production_part(&text) };
            let lines = text.lines().filter(|line| is_code(line)).count();
            if lines > FILE_LINES_MAX {
                broken.push(format!("{}: {lines}", shown(&path)));
            }
        }
    }
    assert!(broken.is_empty(), "over {FILE_LINES_MAX} lines of code:\n{}", broken.join("\n"));
}

#[test]
fn no_function_is_too_long() {
    let mut broken = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in files_below(folder, ".rs") {
            let text = read(&path);
            for (start, name, lines) in functions(&text) {
                if lines > FUNCTION_LINES_MAX {
                    broken.push(format!("{}:{start}: {name} has {lines}", shown(&path)));
                }
            }
        }
    }
    assert!(broken.is_empty(), "over {FUNCTION_LINES_MAX} lines:\n{}", broken.join("\n"));
}

/// Start line, name and length of each function; formatted code closes a body at the indent of
/// its signature.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(name) = function_name(trimmed) else { continue };
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines.iter().skip(start).position(|line| *line == closing);
        let declared = lines.iter().skip(start).position(|line| line.ends_with(';'));
        match (end, declared) {
            (Some(end), Some(declared))
                if declared < end && !opens_body(&lines, start, declared) => {}
            (Some(end), _) => found.push((start + 1, name, end + 1)),
            (None, _) => {}
        }
    }
    found
}

fn opens_body(lines: &[&str], start: usize, until: usize) -> bool {
    lines.iter().skip(start).take(until).any(|line| line.ends_with('{'))
}

fn function_name(line: &str) -> Option<String> {
    let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "extern \"C\" "];
    let mut rest = line;
    while let Some(shorter) = words.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = shorter;
    }
    let rest = rest.strip_prefix("fn ")?;
    Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<String> = files_below("src", ".rs")
        .into_iter()
        .filter(|path| !read(path).starts_with("//!") && !read(path).starts_with("#![doc"))
        .map(|path| shown(&path))
        .collect();
    assert!(silent.is_empty(), "no module docs: {silent:?}");
}

#[test]
fn nothing_is_left_open_in_the_code() {
    let words = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];
    let mut broken = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "policies"] {
        for path in files_below(folder, "") {
            if path.ends_with("tests/tidy.rs") {
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for (number, line) in text.lines().enumerate() {
                if words.iter().any(|word| line.contains(word)) {
                    broken.push(format!("{}:{}", shown(&path), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "left open: {broken:?}");
}

#[test]
fn no_test_waits_a_fixed_time_and_hopes() {
    let mut broken = Vec::new();
    for path in files_below("tests", ".rs") {
        if path.starts_with(root().join("tests/common")) || path.ends_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            if line.contains("thread::sleep") && !line.contains("// poll") {
                broken.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "wait for a condition with a deadline instead: {broken:?}");
}

#[test]
fn the_changelog_has_a_place_for_what_is_not_released() {
    assert!(read(&root().join("CHANGELOG.md")).contains("## [Unreleased]"));
}

#[test]
fn every_test_file_is_part_of_the_one_test_binary() {
    let main = read(&root().join("tests/main.rs"));
    let declared: BTreeSet<&str> =
        main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    for entry in fs::read_dir(root().join("tests")).expect("the tests folder") {
        let path = entry.expect("a readable folder").path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_module =
            path.extension().is_some_and(|ending| ending == "rs") || path.join("mod.rs").exists();
        if is_module && stem != "main" {
            assert!(declared.contains(stem.as_str()), "tests/main.rs does not declare {stem}");
        }
    }
}

#[test]
fn the_metrics_page_is_what_the_catalogue_says() {
    let page = root().join("METRICS.md");
    let wanted = format!(
        "# Metrics\n\nEverything that `/metrics` can show. Written from the catalogue in \
         `src/telemetry/metric`; a test keeps it so.\n\n{}",
        mcp_failover::telemetry::metric::markdown()
    );
    if std::env::var_os("MCPF_BLESS").is_some() {
        fs::write(&page, &wanted).expect("a writable folder");
    }
    assert_eq!(read(&page), wanted, "run this test with MCPF_BLESS=1");
}
