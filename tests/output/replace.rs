//! How a file takes the place of another.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use mcp_failover::core::id::ServiceName;
use mcp_failover::output::{ActiveService, Change, OutputError, publish, render, verify};
use mcp_failover::policy::model::File;
use mcp_failover::policy::secret::Secret;

use super::{ReportKind, Running, config, config_of, env_file, is_root, leftovers};
use crate::common;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_written_is_what_was_rendered_and_nothing_is_left_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = env_file(&dir.path().join("x.env"));
    assert_eq!(publish(&file, &config(1, "primary")).unwrap().change, Change::Content);
    let text = std::fs::read(&file.path).unwrap();
    assert_eq!(text, *render(&file, &config(1, "primary"), None).unwrap());
    assert_eq!(mode(&file.path), 0o600);
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

#[test]
fn unchanged_content_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = env_file(&dir.path().join("x.env"));
    publish(&file, &config(1, "primary")).unwrap();
    let before = std::fs::metadata(&file.path).unwrap();
    assert_eq!(publish(&file, &config(1, "primary")).unwrap().change, Change::None);
    let after = std::fs::metadata(&file.path).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert_eq!(publish(&file, &config(2, "primary")).unwrap().change, Change::Text);
    assert_eq!(publish(&file, &config(3, "backup")).unwrap().change, Change::Content);
}

#[test]
fn permissions_are_those_of_the_policy_even_when_the_content_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let file = File { permissions: 0o640, ..env_file(&dir.path().join("x.env")) };
    publish(&file, &config(1, "primary")).unwrap();
    assert_eq!(mode(&file.path), 0o640);
    set_mode(&file.path, 0o644);
    assert_eq!(publish(&file, &config(1, "primary")).unwrap().change, Change::Access);
    assert_eq!(mode(&file.path), 0o640);
}

#[test]
fn the_owner_is_the_policys_or_else_that_of_the_file_before() {
    if !is_root() {
        return common::skip("giving files away needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = env_file(&dir.path().join("x.env"));
    std::fs::write(&file.path, "OLD=1\n").unwrap();
    std::os::unix::fs::chown(&file.path, Some(1234), Some(1235)).unwrap();
    let owner = || {
        let now = std::fs::metadata(&file.path).unwrap();
        (now.uid(), now.gid())
    };
    assert!(publish(&file, &config(1, "primary")).unwrap().owner_kept);
    assert_eq!(owner(), (1234, 1235));
    let given = File { owner: (Some(7), None), ..file.clone() };
    publish(&given, &config(1, "primary")).unwrap();
    assert_eq!(owner(), (7, 1235));
    publish(&given, &config(2, "backup")).unwrap();
    assert_eq!(owner(), (7, 1235));
}

#[test]
fn a_stranger_does_not_inherit_secrets_through_a_directory_open_to_all() {
    if !is_root() {
        return common::skip("giving files away needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o1777);
    let file = env_file(&dir.path().join("x.env"));
    std::fs::write(&file.path, "").unwrap();
    std::os::unix::fs::chown(&file.path, Some(1234), Some(1235)).unwrap();
    assert!(!publish(&file, &config(1, "primary")).unwrap().owner_kept);
    assert_eq!(std::fs::metadata(&file.path).unwrap().uid(), 0);
}

#[test]
fn a_symbolic_link_is_followed_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("real")).unwrap();
    std::fs::create_dir_all(dir.path().join("links")).unwrap();
    let real = dir.path().join("real/x.env");
    let link = dir.path().join("links/x.env");
    symlink("../links/second", &link).unwrap();
    symlink("../real/x.env", dir.path().join("links/second")).unwrap();
    let file = env_file(&link);
    for revision in 1..3 {
        publish(&file, &config(revision, "primary")).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(verify(&std::fs::read(&real).unwrap()).unwrap().revision.get(), revision);
    }
    symlink("loop", dir.path().join("loop")).unwrap();
    let looped = publish(&env_file(&dir.path().join("loop")), &config(1, "primary"));
    assert!(matches!(looped, Err(OutputError::Io { .. })), "{looped:?}");
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("sub");
    std::fs::create_dir_all(&sub).unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [sub.as_path(), socket.as_path(), Path::new("/dev/null"), Path::new("/")] {
        let error = publish(&env_file(path), &config(1, "primary")).unwrap_err();
        assert!(matches!(error, OutputError::NotRegular { .. }), "{error:?}");
    }
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

#[test]
fn only_the_chosen_services_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(1, "primary");
    let secret = Secret::from("x");
    let env = [("GRAPH_KEY".to_owned(), secret)].into();
    let graph = ActiveService { env, ..ActiveService::default() };
    config.services.insert(ServiceName::new("graph-db"), graph);
    let all = env_file(&dir.path().join("all.env"));
    let text = String::from_utf8(render(&all, &config, None).unwrap().to_vec()).unwrap();
    assert!(text.contains("INDEX_KEY=") && text.contains("GRAPH_KEY="));
    assert!(text.contains("MCP_FAILOVER_GRAPH_DB_ENDPOINT=''\n"), "{text}");
    let one = File { services: vec![ServiceName::new("graph-db")], ..all };
    let text = String::from_utf8(render(&one, &config, None).unwrap().to_vec()).unwrap();
    assert!(!text.contains("INDEX_KEY=") && text.contains("GRAPH_KEY="));
}

#[test]
fn two_services_may_not_fight_over_a_variable() {
    let mut config = config(1, "primary");
    let env = [("INDEX_KEY".to_owned(), Secret::from("another"))].into();
    config
        .services
        .insert(ServiceName::new("zz"), ActiveService { env, ..ActiveService::default() });
    let file = env_file(Path::new("x"));
    let error = render(&file, &config, None).unwrap_err();
    assert!(matches!(error, OutputError::Clash { .. }), "{error:?}");
    for name in ["MCP_FAILOVER_REVISION", "MCP_FAILOVER_INDEX_ENDPOINT"] {
        let error = render(&file, &config_of(1, "primary", &[(name, "x")]), None).unwrap_err();
        assert!(matches!(error, OutputError::Clash { .. }), "{error:?}");
    }
    for name in ["", "1A", "A-B", "A B", "A=B", "Ä"] {
        let error = render(&file, &config_of(1, "primary", &[(name, "x")]), None).unwrap_err();
        assert!(matches!(error, OutputError::Name { .. }), "{error:?}");
    }
}

/// The promise of all promises: a host is never read together with another endpoint's key.
#[test]
fn no_reader_ever_sees_a_torn_or_mixed_file() {
    const SWITCHES: u64 = 2_500;
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let file = env_file(&dir.path().join("x.env"));
    publish(&file, &config(1, "primary")).unwrap();
    let done = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| read_until(&done, &file.path))).collect();
        for revision in 2..SWITCHES + 2 {
            let endpoint = if revision % 2 == 0 { "backup-with-a-longer-name" } else { "primary" };
            publish(&file, &config(revision, endpoint)).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(reads > SWITCHES / 10, "only {reads} reads");
}

fn read_until(done: &AtomicBool, path: &Path) -> u64 {
    let (mut reads, mut last) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        let bytes = std::fs::read(path).unwrap();
        let seen = verify(&bytes).unwrap();
        assert!(seen.checksum_ok, "torn");
        assert!(seen.revision.get() >= last, "went back");
        last = seen.revision.get();
        let text = String::from_utf8(bytes).unwrap();
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap()
        };
        let endpoint = value("MCP_FAILOVER_INDEX_ENDPOINT");
        assert_eq!(value("INDEX_HOST"), format!("https://{endpoint}.example.com"));
        assert_eq!(value("INDEX_KEY"), format!("key-of-{endpoint}"));
        reads += 1;
    }
    reads
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_writer_left_is_swept_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        ".x.env.mcp-failover.0badcafe",
        ".x.env.mcp-failover.notours!",
        ".x.env.mcp-failover.0badcafe2",
        ".y.env.mcp-failover.0badcafe",
    ];
    for name in names {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let mut running = Running::start(&env_file(&dir.path().join("x.env")));
    running.switch(config(1, "primary")).await;
    running.stop().await;
    let mut left = leftovers(dir.path());
    left.sort();
    assert_eq!(left, [names[2], names[1], names[3]]);
}

#[tokio::test(start_paused = true)]
async fn the_latest_configuration_wins() {
    let dir = tempfile::tempdir().unwrap();
    let file = env_file(&dir.path().join("x.env"));
    let mut running = Running::start(&file);
    for revision in 1..=20 {
        running.publish(config(revision, "primary"));
    }
    running.publish(config(21, "backup"));
    running.written(21).await;
    let seen = verify(&std::fs::read(&file.path).unwrap()).unwrap();
    assert_eq!(seen.revision.get(), 21);
    let rest = running.stop().await;
    assert!(!rest.iter().any(|report| matches!(report.kind, ReportKind::Wrote { .. })), "{rest:?}");
}
