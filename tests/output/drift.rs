//! What somebody does to the file behind our back is undone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use mcp_failover::output::verify;
use mcp_failover::policy::model::{Content, Env, EnvMode, File};

use super::{ReportKind, Running, config, env_file};

async fn repaired(running: &mut Running) {
    running.until(|kind| *kind == ReportKind::DriftRepaired).await;
}

async fn assert_quiet(running: &mut Running) {
    let report = tokio::time::timeout(Duration::from_secs(30), running.reports.recv()).await;
    assert!(report.is_err(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn an_edited_deleted_or_opened_file_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let file = env_file(&dir.path().join("x.env"));
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    let right = std::fs::read(&file.path).unwrap();
    let damages: [&dyn Fn(&Path); 5] = [
        &|path| std::fs::write(path, "INDEX_HOST=https://elsewhere.example.com\n").unwrap(),
        &|path| std::fs::write(path, "").unwrap(),
        &|path| std::fs::remove_file(path).unwrap(),
        &|path| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
        },
        &|path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("elsewhere", path).unwrap();
        },
    ];
    for damage in damages {
        damage(&file.path);
        repaired(&mut running).await;
        assert_eq!(std::fs::read(&file.path).unwrap(), right);
        let mode = std::fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_put_in_the_place_of_another_gets_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    std::fs::create_dir_all(&home).unwrap();
    let file = env_file(&home.join("x.env"));
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    std::fs::rename(&home, &old).unwrap();
    std::fs::create_dir_all(&home).unwrap();
    repaired(&mut running).await;
    assert_eq!(std::fs::read(&file.path).unwrap(), std::fs::read(old.join("x.env")).unwrap());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_touched_file_is_no_drift() {
    let dir = tempfile::tempdir().unwrap();
    let file = env_file(&dir.path().join("x.env"));
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    let text = std::fs::read(&file.path).unwrap();
    std::fs::write(&file.path, text).unwrap();
    assert_quiet(&mut running).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_a_shared_file_only_our_variables_count() {
    let dir = tempfile::tempdir().unwrap();
    let file = {
        let env = Env { mode: EnvMode::Merge, ..Env::default() };
        File { content: Content::Env(env), ..env_file(&dir.path().join("x.env")) }
    };
    std::fs::write(&file.path, "MINE=1\n").unwrap();
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    let text = || std::fs::read_to_string(&file.path).unwrap();
    std::fs::write(&file.path, text().replace("MINE=1", "MINE=2") + "YOURS=3\n").unwrap();
    assert_quiet(&mut running).await;
    assert!(text().starts_with("MINE=2\n") && text().contains("YOURS=3\n"));
    assert!(verify(text().as_bytes()).unwrap().checksum_ok, "the checksum was renewed");
    std::fs::write(&file.path, text().replace("key-of-primary", "mine")).unwrap();
    repaired(&mut running).await;
    assert!(text().contains("INDEX_KEY=key-of-primary\n"));
    running.stop().await;
}
