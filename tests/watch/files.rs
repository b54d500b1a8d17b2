//! Changes to one file in one directory.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use mcp_failover::watch::{SourceEvent, WatchMode};

use super::{Watched, folder, is_mode, put, replace, text_of};

#[tokio::test]
async fn the_first_look_tells_the_mode_and_the_content() {
    let (_dir, path) = folder();
    let mut watched = Watched::start(&path);
    watched.expect("mode", is_mode(WatchMode::Inotify)).await;
    let event = watched.expect_text("one").await;
    assert!(matches!(event, SourceEvent::Changed { forced: false, .. }));
    assert_eq!(watched.rest().await, []);
}

#[tokio::test]
async fn an_edit_in_place_is_told_every_time() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    for text in ["two", "three", "four"] {
        put(&path, text);
        watched.expect_text(text).await;
    }
}

#[tokio::test]
async fn a_rename_over_the_file_is_told_every_time() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    for text in ["two", "three", "four"] {
        replace(&path, text);
        watched.expect_text(text).await;
    }
}

#[tokio::test]
async fn an_editor_that_moves_the_file_away_first_is_told_every_time() {
    let (dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    for text in ["two", "three", "four"] {
        fs::rename(&path, dir.path().join("failover.toml~")).expect("moved away");
        put(&path, text);
        watched.expect_text(text).await;
    }
    assert!(!watched.told.contains(&SourceEvent::Missing), "{:?}", watched.told);
}

#[tokio::test]
async fn a_deleted_file_is_missed_once_and_its_return_is_told() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    for text in ["two", "three"] {
        fs::remove_file(&path).expect("deleted");
        watched.expect("missing", |event| *event == SourceEvent::Missing).await;
        assert_eq!(watched.rest().await, [], "an absent file is told once");
        put(&path, text);
        watched.expect_text(text).await;
    }
}

#[tokio::test]
async fn a_file_that_returns_unchanged_is_no_change() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    fs::remove_file(&path).expect("deleted");
    watched.expect("missing", |event| *event == SourceEvent::Missing).await;
    put(&path, "one");
    watched.expect("restored", |event| *event == SourceEvent::Restored).await;
    assert_eq!(watched.rest().await, []);
}

#[tokio::test]
async fn a_file_that_is_absent_at_first_is_found_later() {
    let (dir, _) = folder();
    let path = dir.path().join("not/yet/failover.toml");
    let mut watched = Watched::start(&path);
    watched.expect("missing", |event| *event == SourceEvent::Missing).await;
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    put(&path, "one");
    watched.expect_text("one").await;
}

#[tokio::test]
async fn chmod_touch_and_neighbours_are_no_change() {
    let (dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("chmod");
    File::options()
        .append(true)
        .open(&path)
        .expect("open")
        .set_modified(SystemTime::UNIX_EPOCH)
        .expect("touch");
    for name in ["failover.env", "state.0", "history"] {
        put(&dir.path().join(name), "of no interest");
    }
    assert_eq!(watched.rest().await, []);
    replace(&path, "one");
    assert_eq!(watched.rest().await, [], "the same text in a new file is the same text");
}

#[tokio::test]
async fn a_rollback_to_an_older_time_stamp_of_the_same_size_is_told() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    let draft = path.with_extension("draft");
    put(&draft, "two");
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().append(true).open(&draft).expect("open").set_modified(past).expect("old");
    fs::rename(&draft, &path).expect("renamed");
    watched.expect_text("two").await;
}

#[tokio::test]
async fn what_is_no_file_is_told_once_with_a_remedy_and_survived() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    fs::remove_file(&path).expect("deleted");
    fs::create_dir_all(&path).expect("a directory in its place");
    let unreadable = |event: &SourceEvent| matches!(event, SourceEvent::Unreadable(_));
    let event = watched.expect("unreadable", unreadable).await;
    assert!(format!("{event:?}").contains("directory"), "{event:?}");
    assert_eq!(watched.rest().await, []);
    fs::remove_dir(&path).expect("removed");
    put(&path, "two");
    watched.expect_text("two").await;
}

#[tokio::test]
async fn a_request_is_answered_even_if_nothing_differs() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    for _ in 0..2 {
        watched.watcher.poke();
        let forced =
            |event: &SourceEvent| matches!(event, SourceEvent::Changed { forced: true, .. });
        let event = watched.expect("answer", forced).await;
        assert_eq!(text_of(&event), Some("one"));
    }
    fs::remove_file(&path).expect("deleted");
    watched.watcher.poke();
    watched.expect("missing", |event| *event == SourceEvent::Missing).await;
    watched.watcher.poke();
    watched.expect("missing again", |event| *event == SourceEvent::Missing).await;
}

#[tokio::test]
async fn the_task_ends_with_its_token() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    watched.cancel.cancel();
    while watched.events.recv().await.is_some() {}
    put(&path, "two");
    assert_eq!(watched.events.recv().await, None);
}
