//! When news is told, held back, or told no more.

use std::fs;

use tempfile::TempDir;

use super::*;

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("p.toml");
    fs::write(&path, "one").expect("written");
    (dir, path)
}

fn news<T>(glance: Glance<T>) -> T {
    match glance {
        Glance::News(news) => news,
        Glance::Same | Glance::Again => panic!("no news"),
    }
}

#[test]
fn a_new_print_is_believed_only_after_a_second_reading() {
    let (_dir, path) = folder();
    let print = Print::take(&path).expect("a print");
    let mut fresh = Freshness::default();
    fresh.note(print);
    assert!(!fresh.is_known(&print), "a second write in the same tick leaves the same print");
    fresh.note(print);
    assert!(fresh.is_known(&print));
    fs::write(&path, "longer").expect("written");
    let later = Print::take(&path).expect("a print");
    assert!(!fresh.is_known(&later));
    fresh.note(later);
    assert!(!fresh.is_known(&later), "each new print starts anew");
}

#[test]
fn bad_news_is_held_back_until_it_lasts_and_then_told_once() {
    let (_dir, path) = folder();
    let mut sight = PolicySight::new(path.clone());
    assert_eq!(news(sight.look(Look::Patient)).len(), 1);
    fs::remove_file(&path).expect("deleted");
    assert!(matches!(sight.look(Look::Patient), Glance::Again));
    assert_eq!(news(sight.look(Look::Firm)), [SourceEvent::Missing]);
    assert!(matches!(sight.look(Look::Patient), Glance::Same));
    assert!(matches!(sight.look(Look::Firm), Glance::Same));
    assert_eq!(news(sight.look(Look::Forced)), [SourceEvent::Missing]);
}

#[test]
fn bad_news_that_passes_is_never_told() {
    let (_dir, path) = folder();
    let mut sight = PolicySight::new(path.clone());
    news(sight.look(Look::Patient));
    fs::write(&path, b"half of a charact\xc3").expect("written");
    assert!(matches!(sight.look(Look::Patient), Glance::Again));
    fs::write(&path, "one").expect("written");
    assert!(matches!(sight.look(Look::Firm), Glance::Same));
}

#[test]
fn other_bad_news_is_told_too() {
    let (_dir, path) = folder();
    let mut sight = PolicySight::new(path.clone());
    fs::remove_file(&path).expect("deleted");
    assert_eq!(news(sight.look(Look::Firm)), [SourceEvent::Missing]);
    fs::create_dir_all(&path).expect("a directory");
    assert!(matches!(news(sight.look(Look::Firm)).as_slice(), [SourceEvent::Unreadable(_)]));
    fs::remove_dir(&path).expect("removed");
    fs::write(&path, "two").expect("written");
    let told = news(sight.look(Look::Patient));
    assert!(matches!(told.as_slice(), [SourceEvent::Restored, SourceEvent::Changed { .. }]));
}

#[test]
fn a_secret_tells_its_loss_once_it_lasts() {
    let (_dir, path) = folder();
    let mut sight = SecretSight::new();
    assert!(matches!(sight.look(&path, Look::Patient), Glance::Same));
    fs::remove_file(&path).expect("deleted");
    assert!(matches!(sight.look(&path, Look::Patient), Glance::Again));
    fs::write(&path, "one").expect("written");
    assert!(matches!(sight.look(&path, Look::Patient), Glance::Same));
    fs::remove_file(&path).expect("deleted");
    news(sight.look(&path, Look::Firm));
    assert!(matches!(sight.look(&path, Look::Firm), Glance::Same));
}
