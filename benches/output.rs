//! What a switch costs on its way to disk.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails may panic")]

use std::path::Path;

use divan::Bencher;
use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::output::{ActiveConfig, ActiveService, publish, render, verify};
use mcp_failover::policy::model::{Content, Env, EnvFormat, File};
use mcp_failover::policy::secret::Secret;

const FORMATS: [EnvFormat; 5] =
    [EnvFormat::Dotenv, EnvFormat::Docker, EnvFormat::Systemd, EnvFormat::Shell, EnvFormat::Json];

fn main() {
    divan::main();
}

/// Four services of three variables each.
fn config(revision: u64, endpoint: &str) -> ActiveConfig {
    let service = |index: usize| {
        let variable = |what| {
            let value = format!("{what}-of-{endpoint}-0123456789abcdef0123456789abcdef");
            (format!("SERVICE_{index}_{what}"), Secret::new(value))
        };
        let active = ActiveService {
            endpoint: Some(EndpointName::new(endpoint)),
            env: ["HOST", "KEY", "NAMESPACE"].map(variable).into(),
            ..ActiveService::default()
        };
        (ServiceName::new(&format!("service-{index}")), active)
    };
    ActiveConfig { revision: Revision::new(revision), services: (0..4).map(service).collect() }
}

fn env_file(path: &Path) -> File {
    File {
        name: "bench".to_owned(),
        path: path.to_owned(),
        content: Content::Env(Env::default()),
        permissions: 0o600,
        owner: (None, None),
        services: Vec::new(),
        check: None,
        on_change: Vec::new(),
        reader: None,
        uptake: None,
    }
}

/// A directory on the disk that holds the source, or one in memory.
fn dir(on: &str) -> tempfile::TempDir {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    tempfile::tempdir_in(if on == "tmpfs" { "/dev/shm" } else { target }).unwrap()
}

/// A switch there or back: temporary file, flush, rename, flush, read back.
#[divan::bench(args = ["disk", "tmpfs"])]
fn switch(bencher: Bencher<'_, '_>, on: &str) {
    let dir = dir(on);
    let file = env_file(&dir.path().join("x.env"));
    let mut revision = 0;
    bencher
        .with_inputs(|| {
            revision += 1;
            config(revision, if revision % 2 == 0 { "backup" } else { "primary" })
        })
        .bench_local_values(|config| publish(&file, &config).unwrap());
}

/// The text alone.
#[divan::bench(args = FORMATS)]
fn text(bencher: Bencher<'_, '_>, format: EnvFormat) {
    let file = File {
        content: Content::Env(Env { format, ..Env::default() }),
        ..env_file(Path::new("x.env"))
    };
    let config = config(1, "primary");
    bencher.bench_local(|| render(&file, &config, None).unwrap());
}

/// What a careful reader pays.
#[divan::bench]
fn check(bencher: Bencher<'_, '_>) {
    let text = render(&env_file(Path::new("x.env")), &config(1, "primary"), None).unwrap();
    bencher.bench_local(|| verify(&text).unwrap());
}
