//! Faults of our own machine, made for real: each test starts itself again inside the fault.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Addresses, Check, Probe, TcpCheck};
use mcp_failover::probe::Prober;

use super::{PATIENT, assert_end, attempt, get, http, outcome, target};
use crate::common;
use crate::common::upstream::{Behaviour, Upstream};

/// Tells a test that it runs inside the fault.
const INSIDE: &str = "MCPF_TEST_INSIDE";

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test `name` of this file once more, by way of a shell script that ends in `"$@"`.
fn again(name: &str, prefix: &[&str], script: &str) {
    let this = std::env::current_exe().expect("the test's own path");
    let mut words = prefix.iter().copied().chain(["sh", "-c", script, "sh"]);
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words).arg(this).args([&format!("probe::system::{name}"), "--exact"]);
    command.env(INSIDE, "1").stdin(Stdio::null());
    let run = command.output().expect("the test starts again");
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    // A name that fits no test would pass too.
    assert!(run.status.success() && said.contains("1 passed"), "inside the fault:\n{said}");
}

/// The same without a network, where the machine lets us.
fn again_without_network(name: &str, script: &str) {
    let isolated = ["-n", "-m", "true"];
    let isolated = Command::new("unshare").args(isolated).stderr(Stdio::null()).status();
    if isolated.is_ok_and(|status| status.success()) {
        again(name, &["unshare", "-n", "-m"], script);
    } else {
        common::skip("network namespaces need root and unshare");
    }
}

fn named(host: &str) -> Check {
    let mut target = target(9);
    target.host = host.to_owned();
    Check::Tcp(TcpCheck { target, send: None, expect: None })
}

#[tokio::test]
async fn without_descriptors_left_it_is_our_own_fault() {
    if !is_inside() {
        let name = "without_descriptors_left_it_is_our_own_fault";
        return again(name, &[], "ulimit -n 48; exec \"$@\"");
    }
    let upstream = Upstream::start(Behaviour::Healthy);
    assert_end(&get(&http(&upstream), PATIENT).await, Outcome::Ok, "");
    let mut held = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        held.push(file);
    }
    let report = get(&http(&upstream), PATIENT).await;
    assert_end(&report, Outcome::Local, "too many open files in this process");
    drop(held);
    assert_end(&get(&http(&upstream), PATIENT).await, Outcome::Ok, "");
}

#[tokio::test]
async fn without_a_network_it_is_our_own_fault() {
    if !is_inside() {
        let name = "without_a_network_it_is_our_own_fault";
        return again_without_network(name, "exec \"$@\"");
    }
    let report = attempt(named("127.0.0.1"), PATIENT).await;
    assert_end(&report, Outcome::Local, "no route to the network");
    let report = attempt(named("::1"), PATIENT).await;
    assert_eq!(outcome(&report), Outcome::Local, "{report:?}");
    let report = attempt(named("example.com"), PATIENT).await;
    assert_end(&report, Outcome::Local, "resolver failed");
}

/// Sets up a loopback where port 53 of this host is the only name server.
const OWN_RESOLVER: &str = r#"
set -e
ip link set lo up
hosts=$(mktemp); conf=$(mktemp); switch=$(mktemp)
echo "127.0.0.1 localhost" > "$hosts"
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' > "$conf"
echo "hosts: files dns" > "$switch"
mount --bind "$hosts" /etc/hosts
mount --bind "$conf" /etc/resolv.conf
[ ! -e /etc/nsswitch.conf ] || mount --bind "$switch" /etc/nsswitch.conf
"$@" && code=0 || code=$?
umount /etc/hosts /etc/resolv.conf; umount /etc/nsswitch.conf || true
rm -f "$hosts" "$conf" "$switch"
exit $code
"#;

#[tokio::test]
async fn what_name_servers_say_becomes_an_outcome() {
    if !is_inside() {
        let name = "what_name_servers_say_becomes_an_outcome";
        return again_without_network(name, OWN_RESOLVER);
    }
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("the port is free here");
    std::thread::spawn(move || serve_names(&server));
    let report = attempt(named("absent.example.com"), PATIENT).await;
    assert_end(&report, Outcome::Dns, "name does not resolve");
    let report = attempt(named("empty.example.com"), PATIENT).await;
    assert_end(&report, Outcome::Dns, "name has no address");
    let report = attempt(named("failing.example.com"), PATIENT).await;
    assert_end(&report, Outcome::Local, "resolver failed");
    let report = attempt(named("present.example.com"), PATIENT).await;
    assert_end(&report, Outcome::Refused, "connection refused");
    assert_eq!(report.address, Some((Ipv4Addr::LOCALHOST, 9).into()));
    let report = attempt(named("silent.example.com"), Duration::from_millis(300)).await;
    assert_end(&report, Outcome::Local, "no answer from the resolver within 300ms");
}

#[tokio::test]
async fn an_outage_of_the_resolver_does_not_blind_us() {
    if !is_inside() {
        let name = "an_outage_of_the_resolver_does_not_blind_us";
        return again_without_network(name, OWN_RESOLVER);
    }
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("the port is free here");
    std::thread::spawn(move || serve_names(&server));
    let upstream = Upstream::start(Behaviour::Healthy);
    let mut target = target(upstream.port());
    // Found once and never again.
    "once.example.com".clone_into(&mut target.host);
    let prober = Prober::new().expect("TLS works");
    let check = Check::Tcp(TcpCheck { target, send: None, expect: None });
    let probe = Probe::new(PATIENT, check);
    for _ in 0..3 {
        let report = Box::pin(prober.run(&probe, PATIENT)).await;
        assert_end(&report, Outcome::Ok, "");
    }
    upstream.set(Behaviour::Refuse);
    let report = Box::pin(prober.run(&probe, PATIENT)).await;
    assert_end(&report, Outcome::Refused, "connection refused");
    let report = attempt(probe.check, PATIENT).await;
    assert_end(&report, Outcome::Local, "resolver failed");
}

#[tokio::test]
async fn every_address_of_a_name_is_tried_when_asked() {
    if !is_inside() {
        let name = "every_address_of_a_name_is_tried_when_asked";
        return again_without_network(name, OWN_RESOLVER);
    }
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("the port is free here");
    std::thread::spawn(move || serve_names(&server));
    // On the first of the two addresses only.
    let upstream = Upstream::start(Behaviour::Healthy);
    let mut check = http(&upstream);
    "many.example.com".clone_into(&mut check.target.host);
    let prober = Prober::new().expect("TLS works");
    let run = async |check: &Check, min_permille| {
        let mut probe = Probe::new(PATIENT, check.clone());
        probe.addresses = Addresses::All { min_permille };
        Box::pin(prober.run(&probe, PATIENT)).await
    };
    let check = Check::Http(Box::new(check));
    let half = "1 of 2 passed; 127.0.0.2: connection refused";
    let report = run(&check, 500).await;
    assert_end(&report, Outcome::Ok, half);
    assert_eq!(report.address, Some((Ipv4Addr::LOCALHOST, upstream.port()).into()));
    assert_eq!(report.status, Some(200));
    assert_end(&run(&check, 501).await, Outcome::Refused, half);
    assert_end(&run(&check, 1000).await, Outcome::Refused, half);
    upstream.set(Behaviour::Status(401));
    let both = "0 of 2 passed; 127.0.0.2: connection refused; 127.0.0.1: HTTP 401";
    assert_end(&run(&check, 500).await, Outcome::Auth, both);
    assert_end(&run(&check, 1000).await, Outcome::Refused, both);
    let report = run(&named("absent.example.com"), 1000).await;
    assert_end(&report, Outcome::Dns, "name does not resolve");
    let report = run(&named("127.0.0.2"), 1000).await;
    assert_end(&report, Outcome::Refused, "connection refused");
}

/// A name server that answers by the first letter of the name.
fn serve_names(server: &UdpSocket) {
    let mut packet = [0; 512];
    let mut found = false;
    while let Ok((length, peer)) = server.recv_from(&mut packet) {
        let query = &packet[..length];
        let question_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let wants_ipv4 = query[question_end - 3] == 1;
        let (code, addresses): (u8, &[[u8; 4]]) = match query[13] {
            b'a' => (3, &[]),
            b'f' => (2, &[]),
            b'o' if found => (2, &[]),
            b'o' | b'p' if wants_ipv4 => (0, &[[127, 0, 0, 1]]),
            b'm' if wants_ipv4 => (0, &[[127, 0, 0, 1], [127, 0, 0, 2]]),
            b's' => continue,
            _ => (0, &[]),
        };
        // The address of the other family is asked for last.
        found |= query[13] == b'o' && !wants_ipv4;
        let answers = u8::try_from(addresses.len()).unwrap();
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
        answer.extend(&query[12..question_end]);
        for address in addresses {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address);
        }
        server.send_to(&answer, peer).ok();
    }
}

#[tokio::test]
async fn proxy_variables_are_not_read() {
    if !is_inside() {
        let proxy = Upstream::start(Behaviour::Healthy);
        let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"];
        let set = names.map(|name| format!("{name}={}", proxy.url())).join(" ");
        let script = format!("{set} exec \"$@\"");
        again("proxy_variables_are_not_read", &[], &script);
        assert_eq!(proxy.connections(), 0);
        return;
    }
    assert!(std::env::var_os("ALL_PROXY").is_some());
    let upstream = Upstream::start(Behaviour::Healthy);
    assert_end(&get(&http(&upstream), PATIENT).await, Outcome::Ok, "");
    assert_eq!(upstream.connections(), 1);
}
