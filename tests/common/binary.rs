//! The real binary, and patience with it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

/// Far beyond what anything here takes, on a machine that does several things at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = tokio::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5)); // poll
    }
}

/// The binary, which adds its log to a file.
pub(crate) fn command(log: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-failover"));
    let log = File::options().create(true).append(true).open(log);
    command.stderr(log.expect("a writable folder"));
    command
}

/// One request on a control socket; `None` while nobody answers.
pub(crate) fn ask(control: &Path, request: &Value) -> Option<Value> {
    let mut stream = UnixStream::connect(control).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("{request}\n").as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// A service `search` with two endpoints.
pub(crate) fn two_endpoints(primary: &str, backup: &str) -> String {
    format!(
        r#"[services.search]
critical = true
[services.search.probe]
type = "http"
path = "/"
[[services.search.endpoints]]
name = "primary"
url = "{primary}"
priority = 0
env = {{ SEARCH_URL = "{primary}" }}
[[services.search.endpoints]]
name = "backup"
url = "{backup}"
priority = 1
env = {{ SEARCH_URL = "{backup}" }}
"#
    )
}
