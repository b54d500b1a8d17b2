//! HTTP over local sockets.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{HttpCheck, Target};

use super::{PATIENT, SHORT, assert_end, get};

fn check(socket: &Path) -> HttpCheck {
    let target = Target { host: "backend.example.com".to_owned(), port: 80 };
    HttpCheck { socket: Some(socket.to_owned()), ..HttpCheck::new(target) }
}

#[tokio::test]
async fn the_socket_is_asked_and_the_target_only_names_the_host() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("http.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let count = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8_lossy(&request[..count]).to_ascii_lowercase()
    });
    let report = get(&check(&path), PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert_eq!((report.address, report.phases.resolve), (None, None), "no name is resolved");
    assert!(report.phases.connect.is_some() && report.phases.first_byte.is_some());
    let request = server.join().unwrap();
    assert!(request.contains("\r\nhost: backend.example.com\r\n"), "{request}");
}

#[tokio::test]
async fn a_socket_of_nobody_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("http.sock");
    assert_end(&get(&check(&path), PATIENT).await, Outcome::Refused, "socket does not exist");
    drop(UnixListener::bind(&path).unwrap());
    let detail = "nobody listens on the socket";
    assert_end(&get(&check(&path), PATIENT).await, Outcome::Refused, detail);
}

#[tokio::test]
async fn a_socket_that_may_not_be_opened_is_our_own_fault() {
    if rustix::process::geteuid().is_root() {
        // Nothing is forbidden to root; the sorting itself is held by a unit test.
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("http.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let detail = "no permission for the socket";
    assert_end(&get(&check(&path), PATIENT).await, Outcome::Local, detail);
}

#[tokio::test]
async fn a_path_that_cannot_be_a_socket_is_the_probes_fault() {
    let files = tempfile::tempdir().unwrap();
    let long = files.path().join("x".repeat(200));
    let detail = "path of the socket is not valid";
    assert_end(&get(&check(&long), PATIENT).await, Outcome::ClientError, detail);
    let file = files.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("http.sock");
    assert_end(&get(&check(&below), PATIENT).await, Outcome::ClientError, detail);
    let detail = "nobody listens on the socket";
    assert_end(&get(&check(&file), PATIENT).await, Outcome::Refused, detail);
    let datagram = files.path().join("datagram.sock");
    let _bound = UnixDatagram::bind(&datagram).unwrap();
    let detail = "socket is not of the stream kind";
    assert_end(&get(&check(&datagram), PATIENT).await, Outcome::ClientError, detail);
}

#[tokio::test]
async fn a_socket_nobody_accepts_from_is_silent_until_its_queue_is_full() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("http.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let detail = "no answer within 250ms";
    assert_end(&get(&check(&path), SHORT).await, Outcome::Timeout, detail);
    // The first one still waits in the queue.
    assert_end(&get(&check(&path), PATIENT).await, Outcome::Timeout, "socket's queue is full");
}
