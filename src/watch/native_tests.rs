//! Every change must be hinted at, the tenth as well as the first: what the regular looks would
//! find anyway is not good enough here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::Event;
use notify::event::{CreateKind, Flag};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::watch::hops::trace;

struct Hinted {
    native: Native,
    hint: Arc<Notify>,
    path: PathBuf,
}

impl Hinted {
    fn at(path: &Path) -> Self {
        let hint = Arc::new(Notify::new());
        Self { native: Native::new(Arc::clone(&hint)), hint, path: path.to_owned() }
    }

    /// Looks anew, lets old hints pass, makes a change, and waits for the hint.
    async fn by(&mut self, change: impl FnOnce()) {
        self.settle().await;
        change();
        let hinted = timeout(Duration::from_secs(30), self.hint.notified()).await;
        assert!(hinted.is_ok(), "no hint, watching {:?}", self.native.watched);
    }

    async fn settle(&mut self) {
        loop {
            let mut places = Places::new();
            trace(&self.path, &mut places);
            assert_eq!(self.native.sync(places), None);
            if timeout(Duration::from_millis(50), self.hint.notified()).await.is_err() {
                return;
            }
        }
    }
}

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("etc/conf");
    fs::create_dir_all(&root).expect("directories");
    let path = root.join("p.toml");
    fs::write(&path, "one").expect("written");
    (dir, path)
}

fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("written");
    fs::rename(draft, path).expect("renamed");
}

#[tokio::test]
async fn each_rename_deletion_and_return_of_the_file_is_hinted_at() {
    let (_dir, path) = folder();
    let mut hinted = Hinted::at(&path);
    for text in ["two", "three", "four"] {
        hinted.by(|| replace(&path, text)).await;
        hinted.by(|| fs::remove_file(&path).expect("deleted")).await;
        hinted.by(|| fs::write(&path, text).expect("written")).await;
    }
}

#[tokio::test]
async fn each_replacement_of_the_directory_is_hinted_at_and_followed() {
    let (dir, path) = folder();
    let conf = path.parent().expect("a parent");
    let mut hinted = Hinted::at(&path);
    for round in ["1", "2", "3"] {
        let next = dir.path().join(round);
        fs::create_dir_all(&next).expect("a directory");
        fs::write(next.join("p.toml"), round).expect("written");
        fs::rename(conf, dir.path().join(format!("old-{round}"))).expect("moved away");
        hinted.by(|| fs::rename(&next, conf).expect("moved in")).await;
        hinted.by(|| replace(&path, "edited")).await;
    }
}

#[tokio::test]
async fn a_directory_that_goes_and_comes_back_is_still_watched() {
    let (dir, path) = folder();
    let conf = path.parent().expect("a parent");
    let mut hinted = Hinted::at(&path);
    hinted.settle().await;
    fs::rename(conf, dir.path().join("away")).expect("moved away");
    fs::rename(dir.path().join("away"), conf).expect("moved back");
    hinted.by(|| replace(&path, "edited")).await;
}

#[tokio::test]
async fn each_change_at_either_end_of_a_link_is_hinted_at() {
    let (_elsewhere, target) = folder();
    let dir = tempfile::tempdir().expect("a folder");
    let link = dir.path().join("link.toml");
    symlink(&target, &link).expect("a link");
    let mut hinted = Hinted::at(&link);
    for text in ["two", "three", "four"] {
        hinted.by(|| fs::write(&target, text).expect("written")).await;
        hinted.by(|| replace(&target, text)).await;
        let draft = dir.path().join("draft");
        hinted.by(|| symlink(&target, &draft).expect("a link")).await;
        hinted.by(|| fs::rename(&draft, &link).expect("repointed")).await;
    }
}

#[tokio::test]
async fn our_own_reading_is_no_hint() {
    let (_dir, path) = folder();
    let mut hinted = Hinted::at(&path);
    hinted.settle().await;
    for _ in 0..3 {
        fs::read(&path).expect("read");
    }
    let hint = timeout(Duration::from_millis(300), hinted.hint.notified()).await;
    assert!(hint.is_err(), "reading must not lead to reading");
}

#[tokio::test]
async fn lost_events_and_errors_are_hints_to_start_afresh() {
    let lost = Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan));
    for event in [lost, Err(notify::Error::generic("broken"))] {
        let (hint, moved) = (Notify::new(), AtomicBool::new(false));
        on_event(&event, &hint, &moved);
        assert!(timeout(Duration::ZERO, hint.notified()).await.is_ok());
        assert!(moved.load(Ordering::Acquire));
    }
}

#[tokio::test]
async fn a_new_file_is_a_hint_that_loses_no_watch() {
    let (hint, moved) = (Notify::new(), AtomicBool::new(false));
    on_event(&Ok(Event::new(EventKind::Create(CreateKind::File))), &hint, &moved);
    assert!(timeout(Duration::ZERO, hint.notified()).await.is_ok());
    assert!(!moved.load(Ordering::Acquire));
}
