//! A DNS server: one question by UDP, and by TCP when the answer does not fit.
//!
//! | Answer | Outcome |
//! |---|---|
//! | the record, with the value expected if there is one | `ok` |
//! | no such name, no such record, another value | `protocol`: the server lacks what it should have |
//! | SERVFAIL, REFUSED, NOTIMP and rarer codes | `server_error` |
//! | FORMERR | `client_error` |
//! | a closed port, as the host says so | `refused` |
//!
//! Answers to other questions are passed over: they may be late ones, or of somebody who guesses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use crate::core::outcome::Outcome;
use crate::policy::model::{DnsCheck, DnsRecord};
use crate::probe::codec::dns::{Answer, NotDns, Question, Record, kind};
use crate::probe::dial::{self, Dialler};
use crate::probe::finding::{Finding, Step};
use crate::probe::link::Link;
use crate::probe::trace::{Stage, Trace};
use crate::probe::{expect, random};

/// Longest answer by UDP; a longer one is one that we did not ask for.
const DATAGRAM_MAX: usize = 4096;
/// Datagrams that are no answer to our question.
const STRAYS_MAX: usize = 64;

pub(super) async fn run(dialler: &Dialler, check: &DnsCheck, trace: &mut Trace) -> Step {
    let id = u16::from_be_bytes(random::bytes()?);
    let question = Question::new(id, &check.name, number(check.record))
        .ok_or_else(|| Finding::misconfigured("name cannot be asked for"))?;
    let place = dialler.locate(&check.target, trace).await?;
    let mut answer = by_udp(place.address, &question, trace).await?;
    dialler.worked(&check.target, &place);
    if answer.truncated {
        answer = by_tcp(place.address, &question, trace).await?;
    }
    judge(check, &answer)?;
    expect::speed(check.slow, trace.elapsed())
}

async fn by_udp(address: SocketAddr, question: &Question, trace: &mut Trace) -> Step<Answer> {
    let broken = |error| dial::sort(address, &error);
    trace.enter(Stage::Answer);
    trace.address = Some(address);
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for every question, which who guesses has to guess too.
    let socket = UdpSocket::bind((any, 0)).await.map_err(broken)?;
    socket.connect(address).await.map_err(broken)?;
    socket.send(&question.message()).await.map_err(broken)?;
    let mut datagram = vec![0; DATAGRAM_MAX];
    for _ in 0..STRAYS_MAX {
        let length = socket.recv(&mut datagram).await.map_err(broken)?;
        let came = datagram.get(..length).unwrap_or_default();
        if let Some(answer) = question.read(came) {
            trace.enter(Stage::Body);
            return answer.map_err(foreign);
        }
    }
    Err(Finding::protocol("answers are not to our question"))
}

async fn by_tcp(address: SocketAddr, question: &Question, trace: &mut Trace) -> Step<Answer> {
    let mut link = Link::plain(dial::connect(address, trace).await?);
    trace.enter(Stage::Body);
    let message = question.message();
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    link.say(&[&length, message.as_slice()].concat()).await?;
    let read = |bytes: &[u8]| {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some(message) = rest.get(..length) else { return Ok(None) };
        Ok(Some((question.read(message), length + 2)))
    };
    let answer = link.hear(trace, read).await?;
    let answer = answer.ok_or_else(|| Finding::protocol("answers are not to our question"))?;
    answer.map_err(foreign)
}

const fn number(record: DnsRecord) -> u16 {
    match record {
        DnsRecord::A => kind::A,
        DnsRecord::Aaaa => kind::AAAA,
        DnsRecord::Cname => kind::CNAME,
        DnsRecord::Txt => kind::TXT,
        DnsRecord::Srv => kind::SRV,
    }
}

fn foreign(_: NotDns) -> Finding {
    Finding::protocol("answer is not DNS")
}

fn judge(check: &DnsCheck, answer: &Answer) -> Step {
    match answer.code {
        0 if answer.truncated => Err(Finding::protocol("answer does not fit, even by TCP")),
        0 if answer.records.is_empty() => Err(Finding::protocol("name has no such record")),
        0 => values(check, &answer.records),
        1 => Err(Finding::misconfigured("FORMERR: question is not understood")),
        2 => Err(Finding::new(Outcome::ServerError, "SERVFAIL: server cannot answer")),
        3 => Err(Finding::protocol("NXDOMAIN: no such name")),
        4 => Err(Finding::new(Outcome::ServerError, "NOTIMP: server cannot do that")),
        5 => Err(Finding::new(Outcome::ServerError, "REFUSED: server will not answer")),
        code => Err(Finding::new(Outcome::ServerError, format!("response code {code}"))),
    }
}

fn values(check: &DnsCheck, records: &[Record]) -> Step {
    let wanted = |value: &String| records.iter().any(|record| is(record, value));
    if check.expect.is_empty() || check.expect.iter().any(wanted) {
        return Ok(());
    }
    Err(Finding::protocol("answer lacks the expected value"))
}

/// Whether a record has this value, as zone files write it.
fn is(record: &Record, value: &str) -> bool {
    let named = |name: &str, value: &str| {
        name.eq_ignore_ascii_case(value.strip_suffix('.').unwrap_or(value))
    };
    match record {
        Record::A(address) => value.parse() == Ok(*address),
        Record::Aaaa(address) => value.parse() == Ok(*address),
        Record::Name(name) => named(name, value),
        Record::Text(text) => text == value.as_bytes(),
        Record::Service(priority, weight, port, target) => {
            let parts: Vec<&str> = value.split_ascii_whitespace().collect();
            let numbers = [priority, weight, port].map(ToString::to_string);
            parts.split_last().is_some_and(|(last, first)| first == numbers && named(target, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        let service = Record::Service(10, 5, 5060, "sip.example.com".to_owned());
        assert!(is(&service, "10 5 5060 sip.example.com"));
        assert!(is(&service, "10  5 5060 SIP.example.com."));
        for other in ["", "10 5 5060", "10 5 5061 sip.example.com", "sip.example.com"] {
            assert!(!is(&service, other), "{other}");
        }
        let alias = Record::Name("a.example.com".to_owned());
        assert!(is(&alias, "A.example.com.") && !is(&alias, "b.example.com"));
        assert!(is(&Record::Aaaa(Ipv6Addr::LOCALHOST), "0:0::1"));
        assert!(is(&Record::A(Ipv4Addr::LOCALHOST), "127.0.0.1"));
        assert!(!is(&Record::A(Ipv4Addr::LOCALHOST), "localhost"));
        let text = Record::Text(b"v=1; a".to_vec());
        assert!(is(&text, "v=1; a") && !is(&text, "V=1; a"));
    }
}
