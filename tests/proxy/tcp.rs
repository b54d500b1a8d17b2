//! What callers of other protocols get.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::caller::Scripted;
use super::rig::{PATIENCE, Plan, Rig, eventually, free_address};
use crate::common::skip;

/// A server that says its name when asked who it is, answers probes, and otherwise echoes; that
/// takes everything and says nothing while told to hang.
fn echo(name: &'static str, hang: &Arc<AtomicBool>) -> Scripted {
    let hang = Arc::clone(hang);
    Scripted::start(move |mut stream| {
        let mut bytes = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            let heard = &bytes[..read];
            let said = match heard {
                _ if hang.load(Ordering::SeqCst) => continue,
                b"who" => name.as_bytes(),
                _ if heard.starts_with(b"GET") => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                _ => heard,
            };
            stream.write_all(said).ok();
        }
        stream.write_all(b"bye").ok();
    })
}

fn plan(primary: SocketAddr, backup: SocketAddr, output: &str) -> Plan {
    let (primary, backup) = (format!("http://{primary}"), format!("http://{backup}"));
    Plan::new(&primary, &backup, &format!("mode = \"tcp\"\n{output}"))
}

fn who(stream: &mut TcpStream) -> String {
    stream.write_all(b"who").expect("sent");
    read(stream, 2)
}

fn read(stream: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("an answer");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_hung_upstream_is_left_and_its_connections_are_reset() {
    let (hang, never) = (Arc::default(), Arc::default());
    let (primary, backup) = (echo("A1", &hang), echo("A2", &never));
    let rig = Rig::start(&plan(primary.address, backup.address, ""));
    let mut old = rig.connect();
    assert_eq!(who(&mut old), "A1");
    hang.store(true, Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    old.write_all(b"query").expect("sent");
    // What a driver does: it notices, connects again, and asks again.
    let error = old.read(&mut [0; 16]).expect_err("a reset, not an end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut new = rig.connect();
    assert_eq!(who(&mut new), "A2");
    new.write_all(b"query").expect("sent");
    assert_eq!(read(&mut new, 5), "query");
    // Without the reset it would be the caller's own deadline: a minute with the Bolt drivers.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_planned_switch_resets_nobody_before_its_time() {
    let calm = Arc::default();
    let (primary, backup) = (echo("A1", &calm), echo("A2", &calm));
    let rig = Rig::start(&plan(primary.address, backup.address, "drain = \"2s\""));
    let mut old = rig.connect();
    assert_eq!(who(&mut old), "A1");
    rig.switch("backup");
    eventually("new calls go elsewhere", || (who(&mut rig.connect()) == "A2").then_some(()));
    old.write_all(b"query").expect("sent");
    assert_eq!(read(&mut old, 5), "query", "an old connection works on");
    // And is cut once its time is up.
    old.read_exact(&mut [0]).expect_err("the end of the drain");
}

#[test]
fn one_side_may_end_before_the_other() {
    let calm = Arc::default();
    let (primary, backup) = (echo("A1", &calm), echo("A2", &calm));
    let rig = Rig::start(&plan(primary.address, backup.address, ""));
    let mut stream = rig.connect();
    assert_eq!(who(&mut stream), "A1");
    stream.write_all(b"last").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("a clean end");
    assert_eq!(rest, "lastbye");
}

/// A process that ends with its guard.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn redis() -> Option<(Served, SocketAddr)> {
    let address = free_address();
    let child = Command::new("redis-server")
        .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
        .stdout(Stdio::null())
        .spawn();
    let child = Served(child.ok()?);
    eventually("redis", || TcpStream::connect(address).ok());
    Some((child, address))
}

fn command(stream: &mut TcpStream, line: &str) -> Option<String> {
    stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
    let mut bytes = [0; 256];
    let read = stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
    Some(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

#[test]
fn redis_is_served_and_failed_over() {
    let (Some((first, primary)), Some((_second, backup))) = (redis(), redis()) else {
        return skip("redis-server is not installed");
    };
    let mut plan = plan(primary, backup, "");
    plan.probe = "type = \"tcp\"".to_owned();
    plan.endpoints =
        vec![("primary", format!("tcp://{primary}")), ("backup", format!("tcp://{backup}"))];
    let rig = Rig::start(&plan);
    let mut stream = rig.connect();
    assert_eq!(command(&mut stream, "SET who primary").as_deref(), Some("+OK\r\n"));
    assert_eq!(command(&mut stream, "GET who").as_deref(), Some("$7\r\nprimary\r\n"));
    drop(first);
    eventually("the old connection ends", || command(&mut stream, "PING").is_none().then_some(()));
    let mut stream = rig.connect();
    assert_eq!(command(&mut stream, "GET who").as_deref(), Some("$-1\r\n"), "it is the backup");
}

#[test]
fn nobody_who_serves_means_a_reset_at_once() {
    let calm = Arc::default();
    let (primary, backup) = (echo("A1", &calm), echo("B2", &calm));
    let rig = Rig::start(&plan(primary.address, backup.address, "connect_timeout = \"500ms\""));
    let dead = free_address();
    rig.write(&plan(dead, dead, "connect_timeout = \"500ms\""));
    eventually("a reset", || {
        let mut stream = rig.connect();
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.read(&mut [0]).err().map(drop)
    });
}
