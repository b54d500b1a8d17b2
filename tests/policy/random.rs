//! Random policies: valid ones compile, broken ones are refused without a panic and without
//! quoting a secret.

use std::fmt::Write;

use mcp_failover::policy::diff::PolicyDiff;
use mcp_failover::policy::{compile, diagnostic};
use proptest::prelude::*;

use super::given::{Given, compiled, source};
use super::samples;

/// Not found anywhere in a policy by chance.
const CANARY: &str = "canary-6c1f0d";

/// Every variable and file holds the canary, in a shape that gets past the first check or not.
fn canaries(shape: u8) -> Given {
    let names = samples::example();
    let wrap = |name: &str| match shape % 4 {
        0 => format!("https://{CANARY}.example.com/{name}"),
        1 => format!("{CANARY}\u{0}{name}"),
        2 => format!("gopher://{CANARY}:x@y z"),
        _ => CANARY.to_owned(),
    };
    let given =
        names.names().fold(Given::default(), |given, name| given.with_var(name, &wrap(name)));
    given.with_var("HOSTNAME", &wrap("h")).with_file("/run/secrets/x", &format!("{}\n", wrap("f")))
}

/// One random edit of a text.
#[derive(Clone, Debug)]
enum Edit {
    Delete(prop::sample::Index, usize),
    Insert(prop::sample::Index, &'static str),
    SwapLines(prop::sample::Index, prop::sample::Index),
    DropLine(prop::sample::Index),
    DoubleLine(prop::sample::Index),
}

const SCRAPS: [&str; 24] = [
    "\"",
    "'",
    "=",
    "[",
    "]",
    "{",
    "}",
    "\n",
    "$",
    "${",
    "${PINECONE_API_KEY}",
    "${endpoint.name}",
    "${file:/run/secrets/x}",
    "\\u0000",
    "0",
    "-1",
    "é",
    "ca_file = \"${PINECONE_HOST}\"\n",
    "type = \"exec\"\n",
    "mode = \"${HOSTNAME}\"\n",
    "listen = \"${HOSTNAME}\"\n",
    "[admin]\n",
    "interval = \"${HOSTNAME}\"\n",
    "server_name = \"${TAVILY_API_KEY}\"\n",
];

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1..40_usize).prop_map(|(at, count)| Edit::Delete(at, count)),
        (at(), prop::sample::select(&SCRAPS[..])).prop_map(|(at, scrap)| Edit::Insert(at, scrap)),
        (at(), at()).prop_map(|(a, b)| Edit::SwapLines(a, b)),
        at().prop_map(Edit::DropLine),
        at().prop_map(Edit::DoubleLine),
    ]
}

fn apply(text: &str, edit: &Edit) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.is_empty() {
        return String::new();
    }
    match edit {
        Edit::Delete(at, count) => {
            let skip = at.index(text.chars().count().max(1));
            text.chars()
                .enumerate()
                .filter(|(n, _)| *n < skip || *n >= skip + count)
                .map(|(_, c)| c)
                .collect()
        }
        Edit::Insert(at, scrap) => {
            let at = at.index(text.chars().count() + 1);
            text.chars().take(at).chain(scrap.chars()).chain(text.chars().skip(at)).collect()
        }
        Edit::SwapLines(a, b) => {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
            lines.concat()
        }
        Edit::DropLine(at) => {
            lines.remove(at.index(lines.len()));
            lines.concat()
        }
        Edit::DoubleLine(at) => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at]);
            lines.concat()
        }
    }
}

/// Everything that a person or a program gets to read about a policy.
fn said(text: &str, given: &Given) -> String {
    let source = source(text);
    let found = match compile(&source, given) {
        Ok(compiled) => compiled.warnings,
        Err(found) => {
            assert!(found.errors() > 0, "refused without an error");
            let shown = format!("{found} {found:?}");
            assert!(!shown.contains(CANARY), "{shown}");
            found.0
        }
    };
    let json = diagnostic::render_json(&found, &source).to_string();
    let colour = diagnostic::render_text(&found, &source, true);
    json + &colour + &diagnostic::render_text(&found, &source, false)
}

#[derive(Clone, Debug)]
struct Shape {
    endpoints: usize,
    kind: &'static str,
    interval: u64,
    timeout: u64,
    fall: u32,
    critical: bool,
    format: &'static str,
}

fn shape() -> impl Strategy<Value = Shape> {
    let kinds = ["http", "tcp", "tls", "exec"];
    let formats = ["dotenv", "docker", "systemd", "shell", "json"];
    (
        1..6_usize,
        prop::sample::select(kinds.to_vec()),
        1..600_000_u64,
        1..120_000_u64,
        1..20_u32,
        any::<bool>(),
        prop::sample::select(formats.to_vec()),
    )
        .prop_map(|(endpoints, kind, interval, timeout, fall, critical, format)| Shape {
            endpoints,
            kind,
            interval,
            timeout,
            fall,
            critical,
            format,
        })
}

fn write(shapes: &[Shape]) -> String {
    let mut text = "version = 1\n".to_owned();
    for (n, shape) in shapes.iter().enumerate() {
        let Shape { kind, interval, timeout, fall, critical, .. } = shape;
        let command = if *kind == "exec" { "command = [\"true\"]" } else { "" };
        write!(
            text,
            "[services.s{n}]\ncritical = {critical}\n[services.s{n}.probe]\ntype = \"{kind}\"\n\
             interval = \"{interval}ms\"\ntimeout = \"{timeout}ms\"\nfall = {fall}\n{command}\n"
        )
        .unwrap();
        for e in 0..shape.endpoints {
            write!(
                text,
                "[[services.s{n}.endpoints]]\nname = \"e{e}\"\nurl = \"https://e{e}.example.com\"\n\
                 env = {{ S{n}_HOST = \"e{e}\", S{n}_KEY = \"${{KEY}}\" }}\n"
            )
            .unwrap();
        }
        write!(
            text,
            "[[outputs]]\ntype = \"env_file\"\npath = \"/run/{n}.env\"\nformat = \"{}\"\n\
             services = [\"s{n}\"]\n",
            shape.format
        )
        .unwrap();
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_broken_policy_neither_panics_nor_leaks(
        sample in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 0..8),
        shape in any::<u8>(),
    ) {
        let samples = samples::all();
        let text = edits.iter().fold(sample.get(&samples).1.clone(), |text, edit| apply(&text, edit));
        let said = said(&text, &canaries(shape));
        prop_assert!(!said.contains(CANARY), "{said}");
    }

    #[test]
    fn arbitrary_text_is_no_danger(text in "(?s).{0,300}") {
        let _said = said(&text, &canaries(0));
    }

    #[test]
    fn every_policy_of_known_parts_compiles(
        shapes in prop::collection::vec(shape(), 1..6),
        others in prop::collection::vec(shape(), 1..6),
    ) {
        let given = Given::default().with_var("KEY", "k");
        let policy = compiled(&write(&shapes), &given).policy;
        let again = compiled(&write(&shapes), &given).policy;
        prop_assert_eq!(policy.digest, again.digest);
        prop_assert!(PolicyDiff::between(&policy, &again).is_empty());
        let other = compiled(&write(&others), &given).policy;
        let same = policy.digest == other.digest;
        prop_assert_eq!(PolicyDiff::between(&policy, &other).is_empty(), same);
        let there = PolicyDiff::between(&policy, &other);
        let back = PolicyDiff::between(&other, &policy);
        prop_assert_eq!(there.endpoints_added, back.endpoints_removed);
        prop_assert_eq!(there.services_changed, back.services_changed);
    }
}
