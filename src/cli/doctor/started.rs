//! What a command starts, behind the programs that start others.
//!
//! Only words and package files are looked at; nothing is run.

use std::path::{Path, PathBuf};

use crate::cli::doctor::servers::Server;

/// Wrappers looked behind, one within another, at most.
const DEPTH_MAX: usize = 8;
/// Folders above a script in which its package is looked for, at most.
const ABOVE_MAX: usize = 6;
/// Bytes of a package file at most.
const PACKAGE_MAX: u64 = 256 * 1024;

/// What a command starts.
#[derive(Debug, Default)]
pub(super) struct Started {
    /// The name of the package or program; empty when a shell line hides it.
    pub(super) name: String,
    /// What is known of it.
    pub(super) server: Option<&'static Server>,
    /// Whether it is started by us.
    pub(super) ours: bool,
    /// The Node that runs it, if the command says that one does.
    pub(super) node: Option<PathBuf>,
    /// Variables that the command itself sets.
    pub(super) env: Vec<(String, String)>,
}

/// Looks behind the wrappers.
pub(super) fn resolve(command: &[String]) -> Started {
    let mut started = Started::default();
    let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
    for _ in 0..DEPTH_MAX {
        let Some((program, rest)) = words.split_first() else { break };
        let base = Path::new(program).file_name().and_then(|name| name.to_str());
        let (base, rest) = (base.unwrap_or(program), rest.to_vec());
        match base {
            "mcp-failover" => {
                started.ours = rest.first().is_some_and(|word| matches!(*word, "run" | "exec"));
                words = rest.into_iter().skip_while(|word| *word != "--").skip(1).collect();
            }
            "env" => words = behind_env(&rest, &mut started.env),
            "exec" | "nice" | "nohup" | "setsid" | "tini" | "dumb-init" => {
                words = rest.into_iter().skip_while(|word| word.starts_with('-')).collect();
            }
            "npx" | "bunx" | "pnpx" | "npm" | "pnpm" | "yarn" => {
                started.node = Some(beside(program, "node"));
                started.name = package(&rest, &["-p", "--package"], &["exec", "x", "dlx"]);
                break;
            }
            "uvx" | "uv" | "pipx" => {
                started.name = package(&rest, &["--from", "--spec", "--with"], &["tool", "run"]);
                break;
            }
            "node" | "nodejs" | "bun" | "deno" => {
                started.node = (base != "bun" && base != "deno").then(|| PathBuf::from(program));
                started.name = script(&rest);
                break;
            }
            "docker" | "podman" | "nerdctl" => {
                let known =
                    rest.iter().map(|word| bare(word)).find(|name| Server::find(name).is_some());
                known.unwrap_or_default().clone_into(&mut started.name);
                break;
            }
            "sh" | "bash" | "dash" | "zsh" if rest.iter().any(|word| word.starts_with("-c")) => {
                break;
            }
            python if python.starts_with("python") => {
                started.name = python_target(&rest);
                break;
            }
            other => {
                started.name = program_name(program, other);
                if is_node_script(program) {
                    started.node = Some(PathBuf::from("node"));
                }
                break;
            }
        }
    }
    started.server = Server::find(&started.name);
    started
}

/// The words after `env` and its assignments.
fn behind_env<'a>(rest: &[&'a str], env: &mut Vec<(String, String)>) -> Vec<&'a str> {
    let mut words = rest.iter().copied().peekable();
    while let Some(word) = words.peek() {
        if matches!(*word, "-u" | "--unset" | "-C" | "--chdir") {
            words.next();
        } else if let Some((name, value)) = word.split_once('=').filter(|_| !word.starts_with('-'))
        {
            env.push((name.to_owned(), value.to_owned()));
        } else if !word.starts_with('-') {
            break;
        }
        words.next();
    }
    words.collect()
}

/// The package that a package runner is to run.
fn package(rest: &[&str], named: &[&str], commands: &[&str]) -> String {
    let mut words = rest.iter();
    let mut from = None;
    while let Some(word) = words.next() {
        if let Some((flag, value)) = word.split_once('=').filter(|(flag, _)| named.contains(flag)) {
            from = from.or((flag != "--with").then_some(value));
        } else if named.contains(word) {
            let value = words.next().copied();
            from = from.or(value.filter(|_| *word != "--with"));
        } else if !word.starts_with('-') && !commands.contains(word) {
            // A package that is named beside what it is to run tells more, if it is known.
            let known = from.map(bare).filter(|name| Server::find(name).is_some());
            return known.unwrap_or_else(|| bare(word)).to_owned();
        }
    }
    from.map(bare).unwrap_or_default().to_owned()
}

/// The module or script that Python is to run.
fn python_target(rest: &[&str]) -> String {
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        if *word == "-m" {
            return words.next().copied().unwrap_or_default().to_owned();
        }
        if !word.starts_with('-') {
            let base = Path::new(word).file_name().and_then(|name| name.to_str());
            return base.unwrap_or(word).to_owned();
        }
    }
    String::new()
}

/// The package of the script that Node is to run.
fn script(rest: &[&str]) -> String {
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        if matches!(*word, "-r" | "--require" | "--import" | "--env-file") {
            words.next();
        } else if !word.starts_with('-') {
            return package_of(Path::new(word)).unwrap_or_else(|| (*word).to_owned());
        }
    }
    String::new()
}

/// A program that is linked from a package is known by it.
fn program_name(program: &str, base: &str) -> String {
    if Server::find(base).is_some() {
        return base.to_owned();
    }
    let linked = program.contains('/').then(|| package_of(Path::new(program))).flatten();
    linked.filter(|name| Server::find(name).is_some()).unwrap_or_else(|| base.to_owned())
}

fn is_node_script(program: &str) -> bool {
    std::fs::canonicalize(program).is_ok_and(|path| {
        path.extension().is_some_and(|kind| matches!(kind.to_str(), Some("js" | "mjs" | "cjs")))
    })
}

/// The name in the nearest package file above a script.
fn package_of(path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let named = path.ancestors().skip(1).take(ABOVE_MAX).find_map(|folder| {
        let file = folder.join("package.json");
        let size = std::fs::metadata(&file).ok()?.len();
        let text = (size <= PACKAGE_MAX).then(|| std::fs::read_to_string(&file).ok()).flatten()?;
        let package: serde_json::Value = serde_json::from_str(&text).ok()?;
        package.get("name")?.as_str().map(str::to_owned)
    });
    named.or_else(|| in_modules(&path))
}

/// The package by the folder that it is installed in.
fn in_modules(path: &Path) -> Option<String> {
    let path = path.to_str()?;
    let (_, inside) = path.rsplit_once("node_modules/")?;
    let mut parts = inside.split('/');
    let first = parts.next()?;
    match parts.next() {
        Some(second) if first.starts_with('@') => Some(format!("{first}/{second}")),
        _ => Some(first.to_owned()),
    }
}

/// A program beside another one.
fn beside(program: &str, name: &str) -> PathBuf {
    let sibling = Path::new(program).with_file_name(name);
    if sibling.is_file() { sibling } else { PathBuf::from(name) }
}

/// A package or image without version, tag, registry and extras.
fn bare(word: &str) -> &str {
    let word = word.rsplit_once("==").map_or(word, |(name, _)| name);
    let word = word.split_once('[').map_or(word, |(name, _)| name);
    let word = word.strip_prefix("docker.io/").unwrap_or(word);
    let word = match word.rsplit_once('@') {
        Some((name, _)) if !name.is_empty() => name,
        _ => word,
    };
    word.rsplit_once(':').map_or(word, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        resolve(&words).name
    }

    #[test]
    fn each_wrapper_is_looked_behind() {
        for (line, wanted) in [
            ("npx -y tavily-mcp@0.2.22", "tavily-mcp"),
            ("npx --yes --package=@pinecone-database/mcp mcp", "@pinecone-database/mcp"),
            ("npx -p @pinecone-database/mcp@latest mcp", "@pinecone-database/mcp"),
            ("npm exec -- graphlit-mcp-server", "graphlit-mcp-server"),
            ("uvx mcp-neo4j-cypher@0.6.0 --transport stdio", "mcp-neo4j-cypher"),
            ("uvx --from mcp-neo4j-cypher==0.6.0 mcp-neo4j-cypher", "mcp-neo4j-cypher"),
            ("uv tool run --with neo4j mcp-neo4j-cypher", "mcp-neo4j-cypher"),
            ("python3 -m mcp_neo4j_cypher", "mcp_neo4j_cypher"),
            ("/opt/venv/bin/mcp-neo4j-cypher", "mcp-neo4j-cypher"),
            ("docker run -i --rm -e NEO4J_URI mcp/neo4j-cypher:latest", "mcp/neo4j-cypher"),
            ("env -u X A=1 neo4j-mcp", "neo4j-mcp"),
            ("mcp-failover run --policy a.toml -- env A=1 npx tavily-mcp", "tavily-mcp"),
            (
                "node /nowhere/node_modules/@pinecone-database/mcp/dist/index.js",
                "@pinecone-database/mcp",
            ),
            ("node /nowhere/node_modules/tavily-mcp/build/index.js", "tavily-mcp"),
            ("sh -c something", ""),
            ("my-server --flag", "my-server"),
        ] {
            assert_eq!(name(line), wanted, "{line}");
        }
    }

    #[test]
    fn a_script_is_known_by_its_package_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("build")).unwrap();
        std::fs::write(folder.path().join("package.json"), r#"{"name": "tavily-mcp"}"#).unwrap();
        let script = folder.path().join("build/index.js");
        std::fs::write(&script, "").unwrap();
        assert_eq!(name(&format!("node {}", script.display())), "tavily-mcp");
        let link = folder.path().join("another-name");
        std::os::unix::fs::symlink(&script, &link).unwrap();
        let started = resolve(&[link.display().to_string()]);
        assert_eq!(started.name, "tavily-mcp");
        assert!(started.node.is_some());
    }
}
