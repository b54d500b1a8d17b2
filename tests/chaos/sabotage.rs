//! A verdict that cannot fail says nothing: sidecars and labs that are broken on purpose.

use std::process::Command;

use mcp_failover::chaos::drill::{Options, Phase, Run, play};
use mcp_failover::chaos::lab::{Book, CONTROL, ENV, Lab, Part};
use mcp_failover::chaos::scenario::{Step, find};
use mcp_failover::chaos::verdict::Verdict;
use tokio_util::sync::CancellationToken;

use super::{ALLOWED, processes_of};

fn options() -> Options {
    Options {
        program: env!("CARGO_BIN_EXE_mcp-failover").into(),
        allowance: ALLOWED,
        keep: false,
        stop: CancellationToken::new(),
    }
}

fn part(book: &Book) -> Part {
    book.services[0].part.clone().expect("a service that can be played")
}

/// Plays a scenario on a policy while somebody meddles.
async fn meddled(policy: &Book, scenario: &str, meddle: impl Fn(Phase<'_>, &Lab)) -> Run {
    let scenario = find(scenario).expect("a scenario");
    Box::pin(play(&part(policy), scenario, 1, &options(), &meddle)).await
}

/// Gives the sidecar of a lab an order.
fn order(lab: &Lab, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-failover"));
    let given = command.args(args).arg("--control").arg(lab.path(CONTROL)).output();
    let given = given.expect("the binary starts");
    assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
}

fn measured(run: &Run, id: &str) -> bool {
    let check = run.judgement.checks.iter().find(|check| check.id == id);
    check.expect("a check of this name").measured.is_some()
}

fn holds(run: &Run, id: &str) -> bool {
    let check = run.judgement.checks.iter().find(|check| check.id == id);
    check.expect("a check of this name").holds()
}

#[tokio::test]
async fn a_paused_sidecar_fails_the_drill_and_leaves_nothing() {
    let book = Book::built_in().expect("our own policy");
    let dir = std::cell::RefCell::new(None);
    let run = meddled(&book, "kill-service", |phase, lab| {
        if matches!(phase, Phase::Ready(_)) {
            *dir.borrow_mut() = lab.path(ENV).parent().map(ToOwned::to_owned);
            order(lab, &["pause", "search"]);
        }
    })
    .await;
    assert_eq!(run.judgement.verdict, Verdict::Fail, "{:?}", run.judgement.reasons);
    assert!(!measured(&run, "fault_to_file"), "{:?}", run.judgement.checks);
    assert!(!holds(&run, "moves"));
    assert!(holds(&run, "leftovers"), "{:?}", run.judgement.reasons);
    let dir = dir.into_inner().expect("the lab was seen");
    assert!(!dir.exists(), "{} is left", dir.display());
    assert_eq!(processes_of(&dir), Vec::<String>::new());
}

#[tokio::test]
async fn a_pinned_service_fails_the_drill() {
    let book = Book::built_in().expect("our own policy");
    let run = meddled(&book, "lying-200", |phase, lab| {
        if matches!(phase, Phase::Ready(_)) {
            order(lab, &["pin", "search", "primary"]);
        }
    })
    .await;
    assert_eq!(run.judgement.verdict, Verdict::Fail, "{:?}", run.judgement.reasons);
    assert!(measured(&run, "detection"), "it is seen, but nothing moves");
    assert!(!measured(&run, "switch"));
}

#[tokio::test]
async fn a_move_that_nobody_asked_for_fails_the_drill() {
    let book = Book::built_in().expect("our own policy");
    let run = meddled(&book, "latency-jitter", |phase, lab| {
        if matches!(phase, Phase::Ready(_)) {
            order(lab, &["switch", "search", "secondary"]);
        }
    })
    .await;
    assert_eq!(run.judgement.verdict, Verdict::Fail, "{:?}", run.judgement.reasons);
    assert!(!holds(&run, "moves"));
}

#[tokio::test]
async fn a_fault_that_the_probe_cannot_see_is_an_error_and_no_pass() {
    let text = r#"
version = 1
[services.search]
[services.search.probe]
type = "tcp"
interval = "300ms"
fast_interval = "60ms"
standby_interval = "300ms"
timeout = "1s"
[services.search.failover]
failback = { mode = "auto", hold = "500ms", rise = 1 }
[[services.search.endpoints]]
name = "primary"
url = "tcp://one.example.com:80"
[[services.search.endpoints]]
name = "secondary"
url = "tcp://two.example.com:80"
"#;
    let book = Book::read(text).expect("a policy");
    let run = meddled(&book, "lying-200", |_, _| {}).await;
    assert_eq!(run.judgement.verdict, Verdict::Error, "{:?}", run.judgement.reasons);
    let reasons = run.judgement.reasons.join("\n");
    assert!(reasons.contains("did not show to the service's own probe"), "{reasons}");
}

#[tokio::test]
async fn a_torn_env_file_fails_the_drill() {
    let book = Book::built_in().expect("our own policy");
    let run = meddled(&book, "latency-jitter", |phase, lab| {
        if matches!(phase, Phase::Playing(Step::Arm(..))) {
            let text = std::fs::read_to_string(lab.path(ENV)).expect("the env file");
            let half: String = text.chars().take(text.len() / 2).collect();
            std::fs::write(lab.path(ENV), half).expect("a writable file");
        }
    })
    .await;
    assert_eq!(run.judgement.verdict, Verdict::Fail, "{:?}", run.judgement.reasons);
    assert!(!holds(&run, "bad_reads"), "{:?}", run.judgement.checks);
}

#[tokio::test]
async fn a_sidecar_that_ends_by_itself_fails_the_drill() {
    let book = Book::built_in().expect("our own policy");
    let run = meddled(&book, "kill-service", |phase, lab| {
        if matches!(phase, Phase::Ready(_)) {
            let pid = lab.pid().and_then(rustix::process::Pid::from_raw).expect("a sidecar");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a signal");
        }
    })
    .await;
    assert_eq!(run.judgement.verdict, Verdict::Fail, "{:?}", run.judgement.reasons);
    let reasons = run.judgement.reasons.join("\n");
    assert!(reasons.contains("the sidecar ended by itself"), "{reasons}");
}

#[tokio::test]
async fn something_left_behind_fails_the_drill() {
    let book = Book::built_in().expect("our own policy");
    let run = meddled(&book, "latency-jitter", |phase, lab| {
        if matches!(phase, Phase::RollingBack) {
            std::fs::write(lab.path(".failover.env.tmp"), "half").expect("a writable folder");
        }
    })
    .await;
    assert_eq!(run.judgement.verdict, Verdict::Fail, "{:?}", run.judgement.reasons);
    assert!(!holds(&run, "leftovers"));
}
