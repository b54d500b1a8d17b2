//! MCP servers over the standard streams of a private child.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, ExecCheck, McpEra, McpExpect, McpStdioCheck, Probe};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::{Prober, Report};

use super::server::{everything, python};
use super::{PATIENT, SLACK, assert_end, assert_ok, prober};
use crate::probe::exec::assert_gone;

/// How long an interpreter may take to come up on a busy machine.
const START: Duration = Duration::from_secs(60);

fn command(argv: &[&str]) -> McpStdioCheck {
    McpStdioCheck {
        exec: ExecCheck {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: BTreeMap::new(),
        },
        era: McpEra::Auto,
        expect: McpExpect::default(),
        keep: false,
    }
}

fn program(argv: &[String]) -> McpStdioCheck {
    command(&argv.iter().map(String::as_str).collect::<Vec<_>>())
}

async fn ask(prober: &Prober, check: &McpStdioCheck, timeout: Duration) -> Report {
    let probe = Probe::new(timeout, Check::McpStdio(Box::new(check.clone())));
    let attempt = Box::pin(prober.run(&probe, timeout));
    let report = tokio::time::timeout(timeout + SLACK, attempt).await;
    report.expect("an attempt ends by its deadline")
}

/// A server in a few lines of shell: notes each start and each line, and answers by `cases`.
///
/// `$id` is the id of the request, and `say` prints an answer with this result.
fn shell(notes: &Path, cases: &str) -> McpStdioCheck {
    let script = format!(
        r#"echo $$ >> {notes}
say() {{ echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,$1}}"; }}
while read -r line; do
  id=${{line#*\"id\":}}; id=${{id%%[!0-9]*}}
  method=${{line#*\"method\":\"}}; method=${{method%%\"*}}
  echo "$method" >> {notes}
  case $method in
  {cases}
  esac
done"#,
        notes = notes.display(),
    );
    command(&["sh", "-c", &script])
}

const MODERN: &str = r#"server/discover) say '"result":{"resultType":"complete","supportedVersions":["2026-07-28"]}' ;;
  initialize) say '"error":{"code":-32022}' ;;"#;
const LEGACY: &str = r#"initialize) say '"result":{"protocolVersion":"2025-06-18","capabilities":{}}' ;;
  ping) say '"result":{}' ;;"#;
const REFUSES: &str = r#"server/discover) say '"error":{"code":-32601}' ;;"#;

/// What a shell server noted; numbers of processes are written as `start`.
fn notes(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let note = |line: &str| if line.parse::<u32>().is_ok() { "start" } else { line }.to_owned();
    text.lines().map(note).collect()
}

const OPENED: [&str; 3] = ["initialize", "notifications/initialized", "ping"];

#[tokio::test]
async fn a_server_is_asked_in_its_era_which_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let prober = prober();
    let file = folder.path().join("modern");
    for _ in 0..2 {
        assert_ok(&ask(&prober, &shell(&file, MODERN), PATIENT).await);
    }
    assert_eq!(notes(&file), ["start", "server/discover", "start", "server/discover"]);
    let file = folder.path().join("legacy");
    for _ in 0..2 {
        assert_ok(&ask(&prober, &shell(&file, &format!("{REFUSES} {LEGACY}")), PATIENT).await);
    }
    let once = ["start", "server/discover"];
    assert_eq!(notes(&file), [&once[..], &OPENED, &["start"], &OPENED].concat());
}

#[tokio::test]
async fn a_server_that_is_silent_on_the_first_question_is_asked_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    assert_ok(&ask(&prober(), &shell(&file, LEGACY), PATIENT).await);
    assert_eq!(notes(&file), [&["start", "server/discover"][..], &OPENED].concat());
    // One that is slow answers the first question, and the second does not confuse.
    let slow = format!("server/discover) sleep 3; {}", MODERN.replacen("server/discover)", "", 1));
    let file = folder.path().join("slow");
    assert_ok(&ask(&prober(), &shell(&file, &slow), PATIENT).await);
}

#[tokio::test]
async fn a_server_that_holds_on_to_an_era_or_dies_of_a_question_gets_a_fresh_child() {
    let folder = tempfile::tempdir().unwrap();
    let pinned = r#"server/discover) pinned=1; say '"error":{"code":-32603}' ;;
  initialize) if [ "$pinned" ]; then say '"error":{"code":-32022}'; else say '"result":{"protocolVersion":"2025-06-18"}'; fi ;;
  ping) say '"result":{}' ;;"#;
    let file = folder.path().join("pinned");
    assert_ok(&ask(&prober(), &shell(&file, pinned), PATIENT).await);
    let twice = ["start", "server/discover", "initialize", "start"];
    assert_eq!(notes(&file), [&twice[..], &OPENED].concat());
    let file = folder.path().join("dies");
    let dies = format!("server/discover) exit 1 ;; {LEGACY}");
    assert_ok(&ask(&prober(), &shell(&file, &dies), PATIENT).await);
    assert_eq!(notes(&file), [&["start", "server/discover", "start"][..], &OPENED].concat());
}

#[tokio::test]
async fn a_child_that_ends_before_it_answers_has_failed() {
    let cases = [
        ("exit 0", Outcome::ServerError, "command ended before it answered"),
        ("exit 3", Outcome::ServerError, "exit code 3"),
        ("no-such-command-here", Outcome::ClientError, "command could not be run: exit code 127"),
        ("kill -KILL $$", Outcome::Local, "command was killed"),
        ("read x; exit 0", Outcome::ServerError, "command ended before it answered"),
        ("exec >&-; exec sleep 600", Outcome::Protocol, "command closed its input or output"),
    ];
    for (script, outcome, detail) in cases {
        let report = ask(&prober(), &command(&["sh", "-c", script]), PATIENT).await;
        assert_end(&report, outcome, detail);
    }
    let report = ask(&prober(), &command(&["no-such-command-here"]), PATIENT).await;
    assert_end(&report, Outcome::ClientError, "command not found");
}

#[tokio::test]
async fn a_child_that_babbles_is_bounded_and_one_that_is_silent_ends_with_its_attempt() {
    let prober = prober();
    let greeting = "echo Welcome; echo '{}'; echo '[1]'";
    let folder = tempfile::tempdir().unwrap();
    let mut polite = shell(&folder.path().join("notes"), MODERN);
    let script = format!("{greeting}\n{}", polite.exec.argv[2]);
    polite.exec.argv[2] = script;
    assert_ok(&ask(&prober, &polite, PATIENT).await);
    for flood in
        ["yes", "head -c 100000000 /dev/zero", "yes '{\"jsonrpc\":\"2.0\",\"method\":\"x\"}'"]
    {
        let report = ask(&prober, &command(&["sh", "-c", flood]), PATIENT).await;
        assert_end(&report, Outcome::Protocol, "answer has no end");
    }
    let file = folder.path().join("child");
    let script = format!("echo $$ > {}; sleep 600; :", file.display());
    let report = ask(&prober, &command(&["sh", "-c", &script]), Duration::from_secs(3)).await;
    assert_end(&report, Outcome::Timeout, "no answer to initialize within 3s");
    assert_gone(&file).await;
}

#[tokio::test]
async fn a_kept_child_is_asked_again_and_replaced_when_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    for (name, cases, again) in [
        ("modern", MODERN.to_owned(), &["server/discover"][..]),
        ("legacy", format!("{REFUSES} {LEGACY}"), &["ping"]),
    ] {
        let file = folder.path().join(name);
        let prober = prober();
        let mut check = shell(&file, &cases);
        check.keep = true;
        assert_ok(&ask(&prober, &check, PATIENT).await);
        let first = notes(&file);
        assert_ok(&ask(&prober, &check, PATIENT).await);
        let second = [&first[..], &again.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()];
        assert_eq!(notes(&file), second.concat());
        // Without that wish a child of its own is started.
        check.keep = false;
        assert_ok(&ask(&prober, &check, PATIENT).await);
        assert_eq!(notes(&file).iter().filter(|note| *note == "start").count(), 2, "{name}");
        drop(prober);
        let pid = folder.path().join("pid");
        let first = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&pid, format!("{}\n", first.lines().next().unwrap())).unwrap();
        assert_gone(&pid).await;
    }
    let file = folder.path().join("once");
    let once = MODERN.replace("}' ;;\n", "}'; exit 0 ;;\n");
    let prober = prober();
    let mut check = shell(&file, &once);
    check.keep = true;
    for _ in 0..3 {
        assert_ok(&ask(&prober, &check, PATIENT).await);
    }
    assert_eq!(notes(&file), ["start", "server/discover"].repeat(3));
}

#[tokio::test]
async fn the_environment_is_given_and_nothing_of_it_is_repeated() {
    const CANARY: &str = "canary-5f3a";
    let mut check = command(&["sh", "-c", "echo \"$KEY\"; test \"$KEY\" = canary-5f3a && exit 9"]);
    check.exec.env.insert("KEY".to_owned(), Secret::from(CANARY));
    let report = ask(&prober(), &check, PATIENT).await;
    assert_end(&report, Outcome::ServerError, "exit code 9");
}

/// What holds for every real server.
async fn serves(check: McpStdioCheck, tool: &str, name: &str) {
    let prober = prober();
    let mut check = McpStdioCheck { keep: true, ..check };
    assert_ok(&ask(&prober, &check, START).await);
    check.expect.tools = vec![tool.to_owned()];
    check.expect.server = Some(name.to_owned());
    assert_ok(&ask(&prober, &check, START).await);
    check.keep = false;
    assert_ok(&ask(&prober, &check, START).await);
    check.expect.tools = vec!["absent".to_owned()];
    let report = ask(&prober, &check, START).await;
    assert_end(&report, Outcome::Protocol, "tool \"absent\" is missing");
    check.expect = McpExpect { server: Some("somebody else".to_owned()), ..McpExpect::default() };
    let report = ask(&prober, &check, START).await;
    assert_end(&report, Outcome::Protocol, "server has another name");
}

#[tokio::test]
async fn the_reference_server_serves_over_standard_streams() {
    let Some(argv) = everything("stdio") else { return };
    serves(program(&argv), "echo", "mcp-servers/everything").await;
}

#[tokio::test]
async fn the_python_servers_serve_over_standard_streams_in_either_era() {
    for (kind, name) in [("fastmcp-stdio", "probed-fastmcp"), ("sdk-stdio", "probed-sdk")] {
        let Some(argv) = python(kind) else { return };
        serves(program(&argv), "greet", name).await;
        let mut legacy = program(&argv);
        legacy.era = McpEra::Legacy;
        assert_ok(&ask(&prober(), &legacy, START).await);
    }
}
