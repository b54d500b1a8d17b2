//! Probes against servers of every kind.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::upstream::{Behaviour, Upstream};

#[test]
fn a_test_server_changes_its_behaviour_while_it_runs() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let get = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(upstream.address())?;
        stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    assert!(get().unwrap().starts_with("HTTP/1.1 200 "));
    upstream.set(Behaviour::Refuse);
    assert_eq!(get().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    upstream.set(Behaviour::Status(503));
    assert!(get().unwrap().starts_with("HTTP/1.1 503 "));
    upstream.set(Behaviour::Reset);
    assert_eq!(get().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(upstream.requests(), 3);
}
