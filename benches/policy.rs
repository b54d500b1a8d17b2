//! How long a policy takes to compile: the part of a reload that grows with its size.

#![expect(clippy::expect_used, reason = "a benchmark of a policy that does not compile is void")]

use std::fmt::Write;
use std::path::Path;

use mcp_failover::policy::{Lookup, Source, compile};

/// Every variable is set, no file exists.
struct Set;

impl Lookup for Set {
    fn var(&self, name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    fn file(&self, _path: &Path) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

/// A policy with this many endpoints, four a service.
fn policy(endpoints: usize) -> String {
    let mut text = "version = 1\n".to_owned();
    for n in 0..endpoints {
        let s = n / 4;
        if n % 4 == 0 {
            write!(
                text,
                "[services.s{s}]\n[services.s{s}.probe]\npath = \"/health\"\n\
                 headers = {{ Api-Key = \"${{endpoint.env.S{s}_KEY}}\" }}\n"
            )
            .expect("text grows");
        }
        write!(
            text,
            "[[services.s{s}.endpoints]]\nname = \"e{n}\"\nurl = \"https://e{n}.example.com\"\n\
             env = {{ S{s}_HOST = \"e{n}\", S{s}_KEY = \"${{KEY_{n}}}\" }}\n"
        )
        .expect("text grows");
    }
    text + "[[outputs]]\ntype = \"env_file\"\npath = \"/run/mcp/failover.env\"\n"
}

#[divan::bench(args = [8, 1_000, 4_000])]
fn compiles(bencher: divan::Bencher<'_, '_>, endpoints: usize) {
    let text = policy(endpoints);
    let source = Source { name: "failover.toml", text: &text };
    bencher.bench(|| compile(&source, &Set).expect("the policy is valid"));
}

fn main() {
    divan::main();
}
