//! What a policy means, from outside: every sample compiles, every code has its golden file.

use mcp_failover::policy::{Diagnostics, compile};

mod backup;
pub(crate) mod given;
mod golden;
mod meaning;
mod random;
mod redis;
mod samples;
mod templates;

use given::{Given, compiled, source};

const DESIGN: &str = r#"version = 1
[sidecar]
name = "${HOSTNAME:-local}"
state_dir = "/var/lib/mcp-failover"
[admin]
listen = "127.0.0.1:9464"
[control]
socket = "/run/mcp-failover/control.sock"
[services.pinecone]
preset = "pinecone"
critical = true
strategy = "priority"
[services.pinecone.probe]
type = "http"
path = "/describe_index_stats"
method = "POST"
body = "{}"
headers = { Api-Key = "${endpoint.env.PINECONE_API_KEY}" }
expect = { status = ["2xx"], json = { "/dimension" = 1536 } }
interval = "10s"
timeout = "5s"
rise = 2
fall = 3
[services.pinecone.breaker]
failure_threshold = 3
reset_timeout = "30s"
[services.pinecone.failover]
on_all_down = "hold"
failback = { mode = "auto", hold = "300s" }
[[services.pinecone.endpoints]]
name = "primary"
url = "${PINECONE_HOST}"
priority = 0
env = { PINECONE_HOST = "${PINECONE_HOST}", PINECONE_API_KEY = "${file:/run/secrets/pinecone}" }
[[services.pinecone.endpoints]]
name = "secondary"
url = "${PINECONE_BACKUP_HOST}"
priority = 1
env = { PINECONE_HOST = "${PINECONE_BACKUP_HOST}", PINECONE_API_KEY = "${PINECONE_BACKUP_API_KEY}" }
[[outputs]]
type = "env_file"
path = "/run/mcp/failover.env"
format = "dotenv"
mode = "0600"
on_change = { signal = "SIGHUP", pid_file = "/run/mcp/server.pid" }
"#;

#[test]
fn the_sample_of_the_readme_compiles() {
    let given = Given::default()
        .with_var("PINECONE_HOST", "one.example.com")
        .with_var("PINECONE_BACKUP_HOST", "https://two.example.com")
        .with_var("PINECONE_BACKUP_API_KEY", "key-two")
        .with_file("/run/secrets/pinecone", "key-one\n");
    let found = compiled(DESIGN, &given);
    assert_eq!(found.warnings, []);
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = DESIGN.replace("interval =", "intervall =").replace("\"5s\"", "5");
    let Diagnostics(found) = compile(&source(&text), &Given::default()).unwrap_err();
    assert!(found.len() > 4);
}
