//! Reading one file once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use mcp_failover::watch::{POLICY_LIMIT, ReadError, read_once};
use sha2::{Digest, Sha256};

use super::{folder, put};

#[test]
fn a_file_is_read_with_its_digest() {
    let (_dir, path) = folder();
    let loaded = read_once(&path).expect("read");
    assert_eq!(&*loaded.text, "one");
    assert_eq!(loaded.digest, <[u8; 32]>::from(Sha256::digest("one")));
}

#[test]
fn an_empty_file_is_a_text() {
    let (_dir, path) = folder();
    put(&path, "");
    assert_eq!(&*read_once(&path).expect("read").text, "");
}

#[test]
fn what_is_not_a_regular_file_is_refused_without_waiting() {
    let (dir, _) = folder();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    for (path, kind) in [
        (dir.path(), "directory"),
        (pipe.as_path(), "pipe"),
        (socket.as_path(), "socket"),
        (Path::new("/dev/zero"), "device"),
    ] {
        let error = read_once(path).expect_err(kind);
        assert!(matches!(error, ReadError::NotAFile { .. }), "{error:?}");
        assert!(error.explain().contains(kind), "{}", error.explain());
    }
}

#[test]
fn the_limit_is_exact() {
    let (_dir, path) = folder();
    let limit = usize::try_from(POLICY_LIMIT).expect("small");
    put(&path, &"#".repeat(limit));
    assert_eq!(read_once(&path).expect("at the limit").text.len(), limit);
    put(&path, &"#".repeat(limit + 1));
    assert!(matches!(read_once(&path), Err(ReadError::TooLarge { .. })));
}

#[test]
fn bytes_that_are_no_text_are_located() {
    let (_dir, path) = folder();
    fs::write(&path, b"name = \"\xff\"").expect("written");
    assert!(matches!(read_once(&path), Err(ReadError::NotUtf8 { offset: 8, .. })));
}

#[test]
fn an_absent_file_and_a_loop_of_links_are_errors_with_help() {
    let (dir, _) = folder();
    let absent = dir.path().join("absent");
    assert!(matches!(read_once(&absent), Err(ReadError::Missing { .. })));
    let circle = dir.path().join("circle");
    std::os::unix::fs::symlink("circle", &circle).expect("link");
    let error = read_once(&circle).expect_err("a loop");
    assert!(matches!(error, ReadError::Io { .. }), "{error:?}");
    assert!(!error.help().is_empty());
}

#[test]
fn a_file_that_may_not_be_read_is_an_error_with_help() {
    let (_dir, path) = folder();
    fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("chmod");
    let all_powerful = fs::read(&path).is_ok();
    let test = "watch::read::a_file_that_may_not_be_read_is_an_error_with_help";
    let wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    if all_powerful && !crate::common::again::in_wrapper(test, &wrapper, "needs setpriv") {
        return;
    }
    let error = read_once(&path).expect_err("refused");
    assert!(error.explain().contains("let the user"), "{}", error.explain());
}

#[test]
fn files_made_up_by_the_kernel_can_be_read() {
    assert!(!read_once(Path::new("/proc/self/limits")).expect("read").text.is_empty());
}
