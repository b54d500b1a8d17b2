//! A Neo4j server by Bolt: version, login, a query, its role.
//!
//! | depth | says | a pass means |
//! |---|---|---|
//! | `handshake` | the versions we speak | something speaks Bolt |
//! | `login` | HELLO, and LOGON from 5.1 on | it knows us |
//! | `query` | RUN `RETURN 1`, PULL | the database answers |
//!
//! A role or a server's name to check needs a login, so it is made then, whatever the depth. What
//! Neo4j's failures mean stands in `neo4j_code`.
//!
//! **What a role check can know.** The routing table lists members by the addresses that they
//! advertise. Where the endpoint is not listed under its host and port, nor under the address
//! connected to, the server is asked about itself: a 4.x server for its role, a later one for the
//! address that it advertises, which needs the privilege to show settings. If that says nothing
//! either, the check is misconfigured: the endpoint must be named as the member advertises itself.
//! A standalone server lists itself for both reads and writes, so it passes as either.
//!
//! Behind a load balancer, as with Aura, the address is nobody's own: no role can be checked.

mod handshake;
mod message;
mod routing;
mod talk;

use crate::policy::model::{BoltCheck, BoltDepth, Role};
use crate::probe::bolt::handshake::Version;
use crate::probe::bolt::message::Reply;
use crate::probe::bolt::routing::{Address, Table};
use crate::probe::bolt::talk::Talk;
use crate::probe::codec::packstream::Value;
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::link::Link;
use crate::probe::trace::Trace;
use crate::probe::{expect, neo4j, tls};

pub(super) async fn run(dialler: &Dialler, check: &BoltCheck, trace: &mut Trace) -> Step {
    let link = Link::open(dialler, &check.target, check.tls.as_ref(), trace).await?;
    converse(check, Talk::new(link, trace)).await?;
    expect::speed(check.slow, trace.elapsed())?;
    check.tls.as_ref().map_or(Ok(()), |options| tls::expiry(options, trace))
}

async fn converse(check: &BoltCheck, mut talk: Talk<'_>) -> Step {
    let version = handshake::negotiate(&mut talk).await?;
    if depth(check) == BoltDepth::Handshake {
        return Ok(());
    }
    let mut session = Session { check, version, talk };
    let end = session.hold().await;
    session.talk.leave().await;
    end
}

/// How far the check goes, given what it asks for.
fn depth(check: &BoltCheck) -> BoltDepth {
    let asks = check.role != Role::Any || check.server.is_some();
    if asks { check.depth.max(BoltDepth::Login) } else { check.depth }
}

/// A conversation after the handshake.
struct Session<'a> {
    check: &'a BoltCheck,
    version: Version,
    talk: Talk<'a>,
}

impl Session<'_> {
    async fn hold(&mut self) -> Step {
        if self.check.database.is_some() && !self.version.has_databases() {
            return Err(Finding::misconfigured("server has no databases by name"));
        }
        let server = self.log_in().await?;
        self.identify(server.as_deref())?;
        if self.check.depth == BoltDepth::Query {
            self.query().await?;
            self.recognize().await?;
        }
        if self.check.role == Role::Any {
            return Ok(());
        }
        self.role(server.as_deref().unwrap_or_default()).await
    }

    /// Logs in, and returns how the server calls itself.
    async fn log_in(&mut self) -> Step<Option<String>> {
        let login = self.check.login.as_ref();
        let hello = message::hello(self.version, login);
        let known = if self.version.has_logon() {
            self.talk.say(&[&hello, &message::logon(login)]).await?;
            let known = self.success().await?;
            self.success().await?;
            known
        } else {
            self.talk.say(&[&hello]).await?;
            self.success().await?
        };
        Ok(known.get("server").and_then(Value::text).map(str::to_owned))
    }

    fn identify(&self, server: Option<&str>) -> Step {
        match &self.check.server {
            Some(wanted) if !server.is_some_and(|name| name.contains(wanted.as_str())) => {
                Err(Finding::protocol("server calls itself something else"))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn query(&mut self) -> Step {
        match self.ask("RETURN 1", &[], self.check.database.as_deref()).await?.as_slice() {
            [Value::Int(1)] => Ok(()),
            _ => Err(Finding::protocol("RETURN 1 did not return 1")),
        }
    }

    /// Whether it is the database wanted: a restored or renamed one may have the name and the role.
    async fn recognize(&mut self) -> Step {
        let Some(wanted) = &self.check.database_id else { return Ok(()) };
        let told = self.ask(neo4j::WHICH, &[], self.check.database.as_deref()).await?;
        if told.first().and_then(Value::text) == Some(wanted) {
            Ok(())
        } else {
            Err(neo4j::another())
        }
    }

    /// Runs a query of which one record is wanted.
    async fn ask(
        &mut self,
        query: &str,
        parameters: &[(&str, &str)],
        database: Option<&str>,
    ) -> Step<Vec<Value>> {
        let run = message::run(query, parameters, database);
        self.talk.say(&[&run, &message::pull(self.version)]).await?;
        self.success().await?;
        let Reply::Record(record) = self.reply().await? else {
            return Err(Finding::protocol("query returned nothing"));
        };
        while let Reply::Record(_) = self.reply().await? {}
        Ok(record)
    }

    async fn role(&mut self, server: &str) -> Step {
        if !self.version.has_route() {
            return Err(Finding::misconfigured("roles are told from Bolt 4.3 on only"));
        }
        let (target, role) = (&self.check.target, self.check.role);
        let database = self.check.database.as_deref();
        let route = message::route(self.version, &target.to_string(), database);
        self.talk.say(&[&route]).await?;
        let known = self.success().await?;
        let table = Table::read(&known)
            .ok_or_else(|| Finding::protocol("answer is not a routing table"))?;
        let names = Address::of(target, self.talk.trace.address);
        match table.judge(role, &names) {
            Some(end) => end,
            None => match self.ask_itself(server, &table).await {
                Some(end) => end,
                None if table.is_of_one() => Ok(()),
                None => Err(stranger()),
            },
        }
    }

    /// Asks the server about itself, as the table does not know it by our names for it. A server
    /// that refuses has told nothing.
    async fn ask_itself(&mut self, server: &str, table: &Table) -> Option<Step> {
        let role = self.check.role;
        let database = self.check.database.as_deref();
        if server.starts_with("Neo4j/4.") {
            let about = database.or_else(|| table.database()).unwrap_or("neo4j");
            let query = "CALL dbms.cluster.role($database)";
            let told = self.ask(query, &[("database", about)], database).await.ok()?;
            return routing::judge_word(role, told.first()?.text()?);
        }
        let query = "SHOW SETTINGS YIELD name, value \
                     WHERE name = 'server.bolt.advertised_address' RETURN value";
        let told = self.ask(query, &[], database).await.ok()?;
        Some(table.judge_self(role, Address::parse(told.first()?.text()?)))
    }

    async fn success(&mut self) -> Step<Value> {
        match self.reply().await? {
            Reply::Success(known) => Ok(known),
            Reply::Record(_) | Reply::Ignored | Reply::Failure(_) => {
                Err(Finding::protocol("answer is out of order"))
            }
        }
    }

    /// What the server says next, unless that is a failure.
    async fn reply(&mut self) -> Step<Reply> {
        match self.talk.hear().await? {
            Reply::Failure(finding) => Err(finding),
            Reply::Ignored => Err(Finding::protocol("answer is out of order")),
            reply @ (Reply::Success(_) | Reply::Record(_)) => Ok(reply),
        }
    }
}

fn stranger() -> Finding {
    Finding::misconfigured("the routing table does not know the endpoint by this address")
}
