//! DNS servers: a real one, and some that err, lie and guess.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, DnsCheck, DnsRecord, Target};
use mcp_failover::probe::Report;

use super::peer::{self, Running, until};
use super::{PATIENT, SHORT, assert_end, attempt, outcome};
use crate::common::upstream::{Behaviour, Upstream};

fn check(address: SocketAddr, name: &str, record: DnsRecord, expect: &[&str]) -> DnsCheck {
    DnsCheck {
        target: peer::target(address),
        name: name.to_owned(),
        record,
        expect: expect.iter().map(|value| (*value).to_owned()).collect(),
        slow: None,
    }
}

async fn ask(check: DnsCheck) -> Report {
    attempt(Check::Dns(Box::new(check)), PATIENT).await
}

/// A server of a zone of its own that asks nobody else.
async fn dnsmasq() -> Option<(SocketAddr, Running)> {
    let program = peer::program("dnsmasq")?;
    let address = peer::address();
    let (ip, port) = (address.ip(), address.port());
    let long = "x".repeat(250);
    let server = Running::start(
        Command::new(program)
            .args(["-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"])
            .args(["--pid-file=", "--user=root", "--local=/example.com/"])
            .args([&format!("--port={port}"), &format!("--listen-address={ip}")])
            .arg("--host-record=www.example.com,192.0.2.1,2001:db8::1")
            .arg("--cname=alias.example.com,www.example.com")
            .arg("--txt-record=txt.example.com,v=1,more")
            .arg(format!("--txt-record=long.example.com,{long},{long},{long},end"))
            .arg("--srv-host=_sip._tcp.example.com,sip.example.com,5060,10,5"),
    );
    let answers = || async {
        outcome(&ask(check(address, "www.example.com", DnsRecord::A, &[])).await) == Outcome::Ok
    };
    until("dnsmasq answers", answers).await;
    Some((address, server))
}

#[tokio::test]
async fn records_of_a_real_server_are_held_against_expectations() {
    let Some((address, _server)) = dnsmasq().await else { return };
    let long = "x".repeat(750) + "end";
    let cases: [(&str, DnsRecord, &[&str]); 9] = [
        ("www.example.com", DnsRecord::A, &["192.0.2.9", "192.0.2.1"]),
        ("WWW.example.com.", DnsRecord::A, &[]),
        ("www.example.com", DnsRecord::Aaaa, &["2001:DB8:0::1"]),
        ("alias.example.com", DnsRecord::Cname, &["www.example.com."]),
        ("alias.example.com", DnsRecord::A, &["192.0.2.1"]),
        ("txt.example.com", DnsRecord::Txt, &["v=1more"]),
        ("_sip._tcp.example.com", DnsRecord::Srv, &["10 5 5060 sip.example.com"]),
        ("long.example.com", DnsRecord::Txt, &[&long]),
        ("long.example.com", DnsRecord::Txt, &[]),
    ];
    for (name, record, expect) in cases {
        let report = ask(check(address, name, record, expect)).await;
        assert_end(&report, Outcome::Ok, "");
        assert_eq!(report.address, Some(address));
        assert!(report.phases.first_byte.is_some());
    }
    let report = ask(check(address, "www.example.com", DnsRecord::A, &["192.0.2.2"])).await;
    assert_end(&report, Outcome::Protocol, "answer lacks the expected value");
    let report = ask(check(address, "absent.example.com", DnsRecord::A, &[])).await;
    assert_end(&report, Outcome::Protocol, "NXDOMAIN: no such name");
    let report = ask(check(address, "www.example.com", DnsRecord::Srv, &[])).await;
    assert_end(&report, Outcome::Protocol, "name has no such record");
    let report = ask(check(address, "www.example.org", DnsRecord::A, &[])).await;
    assert_end(&report, Outcome::ServerError, "REFUSED: server will not answer");
    let report = ask(check(address, "a..b", DnsRecord::A, &[])).await;
    assert_end(&report, Outcome::ClientError, "name cannot be asked for");
}

#[tokio::test]
async fn a_server_is_found_by_its_name_too() {
    let Some((address, _server)) = dnsmasq().await else { return };
    let mut check = check(address, "www.example.com", DnsRecord::A, &[]);
    check.target = Target { host: "localhost".to_owned(), port: address.port() };
    // It listens on an address of its own, which is not that of the name.
    let report = ask(check).await;
    assert_end(&report, Outcome::Refused, "connection refused");
    assert!(report.phases.resolve.is_some());
}

/// A server that answers each question with these datagrams.
fn server(answers: fn(&[u8]) -> Vec<Vec<u8>>) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_read_timeout(Some(PATIENT)).unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut packet) {
            for answer in answers(&packet[..length]) {
                socket.send_to(&answer, peer).ok();
            }
        }
    });
    address
}

/// The answer of this code, with one address if that is success.
fn answer(question: &[u8], code: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] = 0x81;
    answer[3] = 0x80 | code;
    if code == 0 {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    }
    answer
}

async fn answered(answers: fn(&[u8]) -> Vec<Vec<u8>>) -> Report {
    ask(check(server(answers), "www.example.com", DnsRecord::A, &["192.0.2.1"])).await
}

#[tokio::test]
async fn codes_become_outcomes() {
    assert_end(&answered(|question| vec![answer(question, 0)]).await, Outcome::Ok, "");
    let report = answered(|question| vec![answer(question, 1)]).await;
    assert_end(&report, Outcome::ClientError, "FORMERR: question is not understood");
    let report = answered(|question| vec![answer(question, 2)]).await;
    assert_end(&report, Outcome::ServerError, "SERVFAIL: server cannot answer");
    let report = answered(|question| vec![answer(question, 4)]).await;
    assert_end(&report, Outcome::ServerError, "NOTIMP: server cannot do that");
    let report = answered(|question| vec![answer(question, 9)]).await;
    assert_end(&report, Outcome::ServerError, "response code 9");
}

#[tokio::test]
async fn answers_to_other_questions_are_passed_over() {
    let report = answered(|question| {
        let mut guess = answer(question, 3);
        guess[0] = !guess[0];
        let mut other = answer(question, 3);
        other[13] = b'x';
        vec![guess, other, Vec::new(), b"garbage".to_vec(), answer(question, 0)]
    });
    assert_end(&report.await, Outcome::Ok, "");
    let report = answered(|_question| vec![b"garbage".to_vec(); 200]).await;
    assert_end(&report, Outcome::Protocol, "answers are not to our question");
}

#[tokio::test]
async fn an_answer_that_is_broken_or_leads_round_in_circles_is_told() {
    let report = answered(|question| {
        let mut broken = answer(question, 0);
        let end = broken.len();
        broken.truncate(end - 1);
        vec![broken]
    });
    assert_end(&report.await, Outcome::Protocol, "answer is not DNS");
    let report = answered(|question| {
        let mut circle = answer(question, 0);
        let start = u8::try_from(question.len()).unwrap();
        circle[usize::from(start) + 1] = start;
        vec![circle]
    });
    assert_end(&report.await, Outcome::Protocol, "answer is not DNS");
}

#[tokio::test]
async fn silence_and_a_closed_port_are_told_apart() {
    let silent = check(server(|_question| Vec::new()), "www.example.com", DnsRecord::A, &[]);
    let report = attempt(Check::Dns(Box::new(silent)), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no answer within 250ms");
    let closed = check(peer::address(), "www.example.com", DnsRecord::A, &[]);
    assert_end(&ask(closed).await, Outcome::Refused, "connection refused");
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_by_tcp() {
    let address = server(|question| {
        let mut cut = answer(question, 0);
        cut[2] |= 2;
        vec![cut]
    });
    let report = ask(check(address, "www.example.com", DnsRecord::A, &[])).await;
    assert_end(&report, Outcome::Refused, "connection refused");
    for (said, detail) in [
        (b"\0\x03abc".to_vec(), "answers are not to our question"),
        (vec![0xff; 1 << 20], "answers are not to our question"),
    ] {
        let upstream = Upstream::start(Behaviour::Banner(said));
        let socket = UdpSocket::bind(upstream.address()).unwrap();
        let asked =
            tokio::spawn(ask(check(upstream.address(), "www.example.com", DnsRecord::A, &[])));
        let cut = tokio::task::spawn_blocking(move || {
            let mut packet = [0; 512];
            let (length, peer) = socket.recv_from(&mut packet).unwrap();
            let mut cut = answer(&packet[..length], 0);
            cut[2] |= 2;
            socket.send_to(&cut, peer).unwrap();
        });
        cut.await.unwrap();
        assert_end(&asked.await.unwrap(), Outcome::Protocol, detail);
    }
}
