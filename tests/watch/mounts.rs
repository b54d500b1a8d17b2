//! Mounts as containers have them, and kernels that refuse to tell anything.
//!
//! Each test runs in a namespace of its own, as root; "outside" is the path that a host would use,
//! "inside" the one that the container sees.

use std::fs;
use std::path::Path;
use std::process::Command;

use mcp_failover::watch::{SourceEvent, WatchMode};
use tempfile::TempDir;

use super::{Watched, folder, is_mode, put, replace};
use crate::common::again::{in_mount_namespace, in_wrapper};

fn run(what: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(what);
}

fn mount(args: &[&str], from: &Path, to: &Path) {
    let status = Command::new("mount").args(args).arg(from).arg(to).status().expect("mount");
    assert!(status.success(), "mount {args:?}");
}

/// A folder outside with a policy file that holds `one`, and an empty folder inside.
fn both_sides() -> (TempDir, std::path::PathBuf, TempDir) {
    let (outside, path) = folder();
    (outside, path, tempfile::tempdir().expect("a folder"))
}

#[test]
fn a_file_mount_shows_edits_in_place_and_is_called_fragile() {
    if !in_mount_namespace("watch::mounts::a_file_mount_shows_edits_in_place_and_is_called_fragile")
    {
        return;
    }
    let (_outside, path, inside) = both_sides();
    let mounted = inside.path().join("failover.toml");
    put(&mounted, "");
    mount(&["--bind"], &path, &mounted);
    run(async {
        let mut watched = Watched::holding(&mounted, "one").await;
        let fragile = |event: &&SourceEvent| matches!(event, SourceEvent::FragileBindMount(_));
        assert_eq!(watched.told.iter().filter(fragile).count(), 1, "{:?}", watched.told);
        for text in ["two", "three"] {
            put(&path, text);
            watched.expect_text(text).await;
        }
        assert_eq!(watched.rest().await, [], "a warning is given once");
    });
}

#[test]
fn a_file_mount_whose_source_was_replaced_is_called_stale_once_with_a_remedy() {
    if !in_mount_namespace(
        "watch::mounts::a_file_mount_whose_source_was_replaced_is_called_stale_once_with_a_remedy",
    ) {
        return;
    }
    let (_outside, path, inside) = both_sides();
    let mounted = inside.path().join("failover.toml");
    put(&mounted, "");
    mount(&["--bind"], &path, &mounted);
    run(async {
        let mut watched = Watched::holding(&mounted, "one").await;
        replace(&path, "two");
        let stale = |event: &SourceEvent| matches!(event, SourceEvent::StaleBindMount(_));
        let event = watched.expect("stale", stale).await;
        assert!(format!("{event:?}").contains("mount its directory instead"), "{event:?}");
        assert_eq!(watched.rest().await, []);
    });
}

#[test]
fn a_directory_mount_shows_renames_outside_every_time() {
    if !in_mount_namespace("watch::mounts::a_directory_mount_shows_renames_outside_every_time") {
        return;
    }
    let (outside, path, inside) = both_sides();
    mount(&["--bind"], outside.path(), inside.path());
    run(async {
        let mut watched = Watched::holding(&inside.path().join("failover.toml"), "one").await;
        for text in ["two", "three", "four"] {
            replace(&path, text);
            watched.expect_text(text).await;
        }
        let warned = |event: &SourceEvent| {
            matches!(event, SourceEvent::FragileBindMount(_) | SourceEvent::StaleBindMount(_))
        };
        assert!(!watched.told.iter().any(warned), "{:?}", watched.told);
    });
}

#[test]
fn a_directory_may_be_mounted_over_the_file_later() {
    if !in_mount_namespace("watch::mounts::a_directory_may_be_mounted_over_the_file_later") {
        return;
    }
    let (outside, path, inside) = both_sides();
    run(async {
        let mut watched = Watched::start(&inside.path().join("failover.toml"));
        watched.expect("missing", |event| *event == SourceEvent::Missing).await;
        mount(&["--bind"], outside.path(), inside.path());
        watched.expect_text("one").await;
        replace(&path, "two");
        watched.expect_text("two").await;
    });
}

/// An overlay whose lower directory holds the policy file; returns its upper directory too.
fn overlay(root: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    mount(&["-t", "tmpfs"], Path::new("tmpfs"), root);
    let dirs = ["lower", "upper", "work", "merged"].map(|name| root.join(name));
    for dir in &dirs {
        fs::create_dir_all(dir).expect("a directory");
    }
    let [lower, upper, work, merged] = dirs;
    put(&lower.join("failover.toml"), "one");
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    mount(&["-t", "overlay", "-o", &options], Path::new("overlay"), &merged);
    (upper, merged.join("failover.toml"))
}

#[test]
fn an_overlay_edited_through_the_mount_is_told_every_time() {
    if !in_mount_namespace("watch::mounts::an_overlay_edited_through_the_mount_is_told_every_time")
    {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let (_, path) = overlay(root.path());
    run(async {
        let mut watched = Watched::holding(&path, "one").await;
        put(&path, "two");
        watched.expect_text("two").await;
        for text in ["three", "four"] {
            replace(&path, text);
            watched.expect_text(text).await;
        }
    });
}

#[test]
fn an_overlay_edited_behind_the_mount_is_found_by_looking() {
    if !in_mount_namespace("watch::mounts::an_overlay_edited_behind_the_mount_is_found_by_looking")
    {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let (upper, path) = overlay(root.path());
    put(&path, "one, copied up");
    run(async {
        let mut watched = Watched::holding(&path, "one, copied up").await;
        for text in ["two", "three"] {
            put(&upper.join("failover.toml"), text);
            watched.expect_text(text).await;
        }
    });
}

/// In a user namespace of its own, with a limit on inotify.
fn limited(test: &str, limit: &str) -> bool {
    let script = format!("{limit} && exec \"$@\"");
    let wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c", &script, "sh"];
    in_wrapper(test, &wrapper, "needs user namespaces")
}

#[test]
fn without_inotify_instances_looking_is_enough() {
    let limit = "echo 0 > /proc/sys/user/max_inotify_instances";
    if !limited("watch::mounts::without_inotify_instances_looking_is_enough", limit) {
        return;
    }
    run(every_change_is_found_without_events("max_user_instances"));
}

#[test]
fn without_inotify_watches_looking_is_enough() {
    let limit = "echo 0 > /proc/sys/user/max_inotify_watches";
    if !limited("watch::mounts::without_inotify_watches_looking_is_enough", limit) {
        return;
    }
    run(every_change_is_found_without_events("max_user_watches"));
}

async fn every_change_is_found_without_events(remedy: &str) {
    let (_dir, path) = folder();
    let mut watched = Watched::start(&path);
    let event = watched.expect("mode", is_mode(WatchMode::Poll)).await;
    assert!(format!("{event:?}").contains(remedy), "{event:?}");
    watched.expect_text("one").await;
    put(&path, "two");
    watched.expect_text("two").await;
    for text in ["three", "four"] {
        replace(&path, text);
        watched.expect_text(text).await;
    }
    fs::remove_file(&path).expect("deleted");
    watched.expect("missing", |event| *event == SourceEvent::Missing).await;
    put(&path, "five");
    watched.expect_text("five").await;
}
