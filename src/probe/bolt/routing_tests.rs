//! Which roles a routing table gives to whom.

use proptest::prelude::*;

use super::*;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn map(entries: Vec<(&str, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn answer(servers: &[(&str, &[&str])]) -> Value {
    let server = |&(role, addresses): &(&str, &[&str])| {
        let addresses = addresses.iter().map(|address| text(address)).collect();
        map(vec![("addresses", Value::List(addresses)), ("role", text(role))])
    };
    let servers = Value::List(servers.iter().map(server).collect());
    map(vec![("rt", map(vec![("ttl", Value::Int(300)), ("servers", servers)]))])
}

fn cluster() -> Table {
    let all = ["a.example.com:7687", "b.example.com:7687", "10.0.0.3:7687"];
    let known = answer(&[("WRITE", &all[..1]), ("READ", &all[1..]), ("ROUTE", &all)]);
    Table::read(&known).unwrap()
}

fn target(host: &str, port: u16) -> Target {
    Target { host: host.to_owned(), port }
}

fn judge(table: &Table, role: Role, host: &str) -> Option<Result<(), Outcome>> {
    let end = table.judge(role, &Address::of(&target(host, PORT), None));
    end.map(|end| end.map_err(|finding| finding.outcome))
}

#[test]
fn a_member_has_the_roles_that_it_is_listed_for() {
    let table = cluster();
    for (role, host, wanted) in [
        (Role::Writer, "a.example.com", Some(Ok(()))),
        (Role::Writer, "A.Example.COM.", Some(Ok(()))),
        (Role::Writer, "b.example.com", Some(Err(Outcome::WrongRole))),
        (Role::Writer, "10.0.0.3", Some(Err(Outcome::WrongRole))),
        (Role::Reader, "a.example.com", Some(Err(Outcome::WrongRole))),
        (Role::Reader, "b.example.com", Some(Ok(()))),
        (Role::Reader, "10.0.0.3", Some(Ok(()))),
        (Role::Writer, "c.example.com", None),
        (Role::Reader, "c.example.com", None),
    ] {
        assert_eq!(judge(&table, role, host), wanted, "{role:?} {host}");
    }
}

#[test]
fn the_address_connected_to_counts_as_a_name() {
    let at = Some(SocketAddr::from(([10, 0, 0, 3], PORT)));
    let names = Address::of(&target("c.example.com", PORT), at);
    assert_eq!(cluster().judge(Role::Reader, &names), Some(Ok(())));
}

#[test]
fn another_port_is_another_server() {
    let names = Address::of(&target("a.example.com", 7688), None);
    assert_eq!(cluster().judge(Role::Writer, &names), None);
}

#[test]
fn a_standalone_server_has_both_roles() {
    let one: &[&str] = &["localhost:7687"];
    let table = Table::read(&answer(&[("WRITE", one), ("READ", one), ("ROUTE", one)])).unwrap();
    assert!(table.is_of_one() && !cluster().is_of_one() && !Table::default().is_of_one());
    assert_eq!(judge(&table, Role::Writer, "localhost"), Some(Ok(())));
    assert_eq!(judge(&table, Role::Reader, "localhost"), Some(Ok(())));
    assert_eq!(judge(&table, Role::Writer, "db.example.com"), None);
}

#[test]
fn a_role_that_nobody_has_is_nobodys() {
    let all: &[&str] = &["a.example.com:7687", "b.example.com:7687"];
    let table = Table::read(&answer(&[("WRITE", &[]), ("READ", all), ("ROUTE", all)])).unwrap();
    assert_eq!(judge(&table, Role::Writer, "a.example.com"), Some(Err(Outcome::WrongRole)));
    assert_eq!(judge(&table, Role::Writer, "c.example.com"), Some(Err(Outcome::WrongRole)));
    assert_eq!(judge(&table, Role::Reader, "a.example.com"), Some(Ok(())));
}

#[test]
fn a_server_that_says_who_it_is_and_is_not_listed_has_no_part_in_the_database() {
    let judge = |name| cluster().judge_self(Role::Writer, Address::parse(name));
    assert_eq!(judge("a.example.com"), Ok(()));
    assert_eq!(judge("b.example.com").unwrap_err().detail, "server takes no writes");
    assert_eq!(judge("d.example.com").unwrap_err().detail, "server has no part in the database");
}

#[test]
fn the_word_of_a_4x_member_is_taken() {
    let judge =
        |role, word| judge_word(role, word).map(|end| end.map_err(|finding| finding.outcome));
    let wrong = Some(Err(Outcome::WrongRole));
    for (word, writer, reader) in [
        ("LEADER", Some(Ok(())), wrong),
        ("FOLLOWER", wrong, Some(Ok(()))),
        ("READ_REPLICA", wrong, Some(Ok(()))),
        ("STANDALONE", Some(Ok(())), Some(Ok(()))),
        ("UNKNOWN", None, None),
    ] {
        assert_eq!(judge(Role::Writer, word), writer, "{word}");
        assert_eq!(judge(Role::Reader, word), reader, "{word}");
    }
}

#[test]
fn addresses_are_spelled_in_one_way() {
    let parsed = |text| Address::parse(text);
    assert_eq!(parsed("example.com"), parsed("Example.com.:7687"));
    assert_eq!(parsed("[::1]:7687"), Address::new("::1", 7687));
    assert_eq!(parsed("[0:0::1]"), Address::new("::1", 7687));
    assert_eq!(parsed("::1"), Address::new("::1", 7687));
    assert_eq!(parsed("::ffff:10.0.0.1"), parsed("10.0.0.1:7687"));
    assert_ne!(parsed("example.com:1"), parsed("example.com:2"));
}

#[test]
fn what_is_no_table_is_none() {
    for known in [
        map(vec![]),
        map(vec![("rt", Value::Null)]),
        map(vec![("rt", map(vec![("servers", Value::Int(1))]))]),
        map(vec![("rt", map(vec![("servers", Value::List(vec![Value::Null]))]))]),
    ] {
        assert_eq!(Table::read(&known), None, "{known:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_an_address(text in "\\PC{0,30}") {
        Address::parse(&text);
    }
}
