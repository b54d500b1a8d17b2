//! Changes to where a path leads.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Watched, folder, put, replace};

/// As the kubelet does: a new directory, then one rename of the link to it.
fn swap_config_map(volume: &Path, version: &str, text: &str) {
    let data = volume.join(format!("..2026_{version}"));
    fs::create_dir_all(&data).expect("a version");
    put(&data.join("failover.toml"), text);
    symlink(data.file_name().expect("name"), volume.join("..data_tmp")).expect("link");
    let before = fs::read_link(volume.join("..data"));
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("swapped");
    if let Ok(before) = before {
        fs::remove_dir_all(volume.join(before)).expect("the old version removed");
    }
}

#[tokio::test]
async fn a_config_map_swap_is_told_every_time() {
    let volume = tempfile::tempdir().expect("a folder");
    swap_config_map(volume.path(), "1", "one");
    let path = volume.path().join("failover.toml");
    symlink("..data/failover.toml", &path).expect("link");
    let mut watched = Watched::holding(&path, "one").await;
    for (version, text) in [("2", "two"), ("3", "three"), ("4", "four")] {
        swap_config_map(volume.path(), version, text);
        watched.expect_text(text).await;
    }
}

#[tokio::test]
async fn the_target_of_a_link_may_be_edited_and_replaced() {
    let (_elsewhere, target) = folder();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("failover.toml");
    symlink(&target, &path).expect("link");
    let mut watched = Watched::holding(&path, "one").await;
    put(&target, "two");
    watched.expect_text("two").await;
    for text in ["three", "four", "five"] {
        replace(&target, text);
        watched.expect_text(text).await;
    }
}

#[tokio::test]
async fn a_link_may_be_repointed_every_time() {
    let (dir, path) = folder();
    let link = dir.path().join("current.toml");
    symlink(&path, &link).expect("link");
    let mut watched = Watched::holding(&link, "one").await;
    for text in ["two", "three", "four"] {
        let other = dir.path().join(text);
        put(&other, text);
        symlink(&other, dir.path().join("draft")).expect("link");
        fs::rename(dir.path().join("draft"), &link).expect("repointed");
        watched.expect_text(text).await;
    }
}

#[tokio::test]
async fn a_link_to_a_directory_on_the_way_may_be_repointed() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    for (release, text) in [("v1", "one"), ("v2", "two"), ("v3", "three")] {
        fs::create_dir_all(at(release)).expect("a release");
        put(&at(release).join("failover.toml"), text);
    }
    symlink("v1", at("current")).expect("link");
    let mut watched = Watched::holding(&at("current/failover.toml"), "one").await;
    for (release, text) in [("v2", "two"), ("v3", "three")] {
        symlink(release, at("draft")).expect("link");
        fs::rename(at("draft"), at("current")).expect("repointed");
        watched.expect_text(text).await;
    }
}

#[tokio::test]
async fn the_parent_directory_may_be_replaced_every_time() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("conf")).expect("a directory");
    put(&at("conf/failover.toml"), "one");
    let mut watched = Watched::holding(&at("conf/failover.toml"), "one").await;
    for text in ["two", "three", "four"] {
        fs::create_dir_all(at("new")).expect("a directory");
        put(&at("new/failover.toml"), text);
        fs::rename(at("conf"), at(&format!("before-{text}"))).expect("moved away");
        fs::rename(at("new"), at("conf")).expect("moved in");
        watched.expect_text(text).await;
    }
    put(&at("conf/failover.toml"), "five");
    watched.expect_text("five").await;
}
