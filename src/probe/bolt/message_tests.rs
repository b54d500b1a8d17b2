//! The bytes of every message, and what the answers are taken for.

use super::*;
use crate::core::outcome::Outcome;
use crate::policy::secret::Secret;

const V3: Version = Version::new(3, 0);
const V43: Version = Version::new(4, 3);
const V44: Version = Version::new(4, 4);
const V51: Version = Version::new(5, 1);
const V58: Version = Version::new(5, 8);

fn login() -> Login {
    Login { username: Secret::from("neo4j"), password: Secret::from("canary") }
}

fn said(message: &Message) -> Value {
    packstream::decode(message).unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn map(entries: &[(&str, Value)]) -> Value {
    let entry = |(key, value): &(&str, Value)| ((*key).to_owned(), value.clone());
    Value::Map(entries.iter().map(entry).collect())
}

fn one(tag: u8, field: Value) -> Value {
    Value::Structure { tag, fields: vec![field] }
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut packer = Packer::new();
    packer.value(value);
    packer.into_bytes().to_vec()
}

fn outcome(reply: &Value) -> Outcome {
    match Reply::read(&bytes(reply)) {
        Ok(Reply::Failure(finding)) | Err(finding) => finding.outcome,
        Ok(reply) => panic!("{reply:?}"),
    }
}

#[test]
fn hello_holds_the_credential_only_where_there_is_no_logon() {
    let agent = ("user_agent", text(AGENT));
    assert_eq!(said(&hello(V51, Some(&login()))), one(1, map(std::slice::from_ref(&agent))));
    let product = ("bolt_agent", map(&[("product", text(AGENT))]));
    assert_eq!(said(&hello(V58, Some(&login()))), one(1, map(&[agent.clone(), product])));
    let basic =
        [("scheme", text("basic")), ("principal", text("neo4j")), ("credentials", text("canary"))];
    let whole = map(&[std::slice::from_ref(&agent), &basic].concat());
    assert_eq!(said(&hello(V44, Some(&login()))), one(1, whole));
    assert_eq!(said(&hello(V44, None)), one(1, map(&[agent, ("scheme", text("none"))])));
    assert_eq!(said(&logon(Some(&login()))), one(0x6A, map(&basic)));
    assert_eq!(*logon(None), *b"\xB1\x6A\xA1\x86scheme\x84none");
}

#[test]
fn a_query_reads_and_ends_by_itself() {
    let wanted =
        b"\xB3\x10\x88RETURN 1\xA0\xA3\x84mode\x81r\x82db\x85neo4j\x8Atx_timeout\xC9\x27\x10";
    assert_eq!(*run("RETURN 1", &[], Some("neo4j")), *wanted);
    let wanted = b"\xB3\x10\x88RETURN 1\xA1\x81a\x81b\xA2\x84mode\x81r\x8Atx_timeout\xC9\x27\x10";
    assert_eq!(*run("RETURN 1", &[("a", "b")], None), *wanted);
    assert_eq!(*pull(V44), *b"\xB1\x3F\xA1\x81n\x01");
    assert_eq!(*pull(V3), *b"\xB0\x3F");
    assert_eq!(*goodbye(), *b"\xB0\x02");
}

#[test]
fn route_names_the_database_as_the_version_does() {
    let begin = b"\xB3\x66\xA1\x87address\x84here\x90";
    let with = |end: &[u8]| [begin.as_slice(), end].concat();
    assert_eq!(*route(V58, "here", Some("neo4j")), with(b"\xA1\x82db\x85neo4j"));
    assert_eq!(*route(V58, "here", None), with(b"\xA0"));
    assert_eq!(*route(V43, "here", Some("neo4j")), with(b"\x85neo4j"));
    assert_eq!(*route(V43, "here", None), with(b"\xC0"));
}

#[test]
fn failures_are_sorted_by_either_name_of_their_code() {
    let code = text("Neo.ClientError.Security.Unauthorized");
    let old = map(&[("code", code.clone()), ("message", text("canary"))]);
    assert_eq!(outcome(&one(0x7F, old)), Outcome::Auth);
    let new = map(&[
        ("gql_status", text("42NFF")),
        ("neo4j_code", code),
        ("message", text("canary")),
        ("description", text("error: syntax error or access rule violation")),
        ("diagnostic_record", map(&[("OPERATION", text(""))])),
    ]);
    assert_eq!(outcome(&one(0x7F, new)), Outcome::Auth);
    assert_eq!(outcome(&one(0x7F, map(&[("gql_status", text("42NFF"))]))), Outcome::Protocol);
    assert_eq!(outcome(&one(0x7F, map(&[("code", Value::Int(1))]))), Outcome::Protocol);
}

#[test]
fn replies_are_told_apart() {
    let read = |value: &Value| Reply::read(&bytes(value)).unwrap();
    assert!(matches!(read(&one(0x70, map(&[]))), Reply::Success(_)));
    assert!(matches!(read(&one(0x71, Value::List(vec![Value::Int(1)]))), Reply::Record(_)));
    assert!(matches!(read(&Value::Structure { tag: 0x7E, fields: vec![] }), Reply::Ignored));
    assert!(matches!(read(&one(0x7E, map(&[]))), Reply::Ignored));
}

#[test]
fn what_is_no_reply_is_another_protocol() {
    let two = Value::Structure { tag: 0x70, fields: vec![map(&[]), map(&[])] };
    for wrong in [
        Value::Int(1),
        one(0x70, Value::Int(1)),
        one(0x71, map(&[])),
        one(0x01, map(&[])),
        one(0x7F, Value::Null),
        Value::Structure { tag: 0x70, fields: vec![] },
        two,
    ] {
        assert_eq!(outcome(&wrong), Outcome::Protocol, "{wrong:?}");
    }
    assert_eq!(Reply::read(b"").unwrap_err().outcome, Outcome::Protocol);
    assert_eq!(Reply::read(b"\xC4").unwrap_err().outcome, Outcome::Protocol);
}
