//! The secret files that a policy names.

use std::fs;
use std::path::Path;

use mcp_failover::policy::Lookup;
use mcp_failover::watch::{SourceEvent, SystemLookup};

use super::{Watched, folder, put, replace};

const CANARY: &str = "canary-7f3a";

fn is_extra(path: &Path) -> impl Fn(&SourceEvent) -> bool {
    move |event| matches!(event, SourceEvent::ExtraChanged(paths) if *paths == [path.to_owned()])
}

#[tokio::test]
async fn a_secret_that_changes_is_told_every_time() {
    let (dir, path) = folder();
    let secret = dir.path().join("secret");
    put(&secret, "first");
    let mut watched = Watched::holding(&path, "one").await;
    watched.watcher.also(vec![secret.clone()]);
    assert_eq!(watched.rest().await, [], "what a new file holds counts as known");
    for text in ["second", "third"] {
        replace(&secret, text);
        watched.expect("secret", is_extra(&secret)).await;
    }
    fs::remove_file(&secret).expect("deleted");
    watched.expect("secret gone", is_extra(&secret)).await;
    assert_eq!(watched.rest().await, [], "its absence is told once");
    put(&secret, "fourth");
    watched.expect("secret back", is_extra(&secret)).await;
}

#[tokio::test]
async fn a_secret_that_is_no_longer_named_is_not_watched() {
    let (dir, path) = folder();
    let secret = dir.path().join("secret");
    put(&secret, "first");
    let mut watched = Watched::holding(&path, "one").await;
    watched.watcher.also(vec![secret.clone()]);
    replace(&secret, "second");
    watched.watcher.also(Vec::new());
    watched.rest().await;
    replace(&secret, "third");
    assert_eq!(watched.rest().await, []);
}

#[tokio::test]
async fn a_secret_that_changed_before_it_was_watched_is_told() {
    let (dir, path) = folder();
    let (secret, late) = (dir.path().join("secret"), dir.path().join("late"));
    put(&secret, "first");
    let lookup = SystemLookup::new();
    assert_eq!(lookup.file(&secret).as_deref(), Ok("first"));
    assert!(lookup.file(&late).is_err());
    replace(&secret, "second");
    put(&late, "here now");
    let mut watched = Watched::holding(&path, "one").await;
    watched.watcher.also_seen(lookup.seen());
    let both =
        |event: &SourceEvent| matches!(event, SourceEvent::ExtraChanged(paths) if paths.len() == 2);
    watched.expect("both", both).await;
    assert_eq!(watched.rest().await, []);
}

#[test]
fn a_lookup_reads_variables_and_files_as_they_are() {
    let (dir, _) = folder();
    let secret = dir.path().join("secret");
    put(&secret, "line\n");
    let lookup = SystemLookup::new();
    assert_eq!(lookup.file(&secret).as_deref(), Ok("line\n"));
    assert_eq!(lookup.var("PATH"), std::env::var("PATH").ok());
    assert_eq!(lookup.var("MCPF_SURELY_UNSET"), None);
}

#[test]
fn no_refusal_holds_anything_of_the_content() {
    let (dir, _) = folder();
    let secret = dir.path().join("secret");
    let lookup = SystemLookup::new();
    put(&secret, &CANARY.repeat(10_000));
    let large = lookup.file(&secret).expect_err("too large");
    fs::write(&secret, [CANARY.as_bytes(), b"\xff"].concat()).expect("written");
    let binary = lookup.file(&secret).expect_err("no text");
    let missing = lookup.file(&dir.path().join("absent")).expect_err("absent");
    for why in [large, binary, missing, format!("{lookup:?}")] {
        assert!(!why.contains(CANARY), "{why}");
    }
}
