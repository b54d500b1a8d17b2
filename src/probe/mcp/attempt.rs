//! One attempt over HTTP: finds the era, asks, and takes leave.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::core::outcome::Outcome;
use crate::policy::model::{HttpCheck, McpCheck, McpEra};
use crate::policy::secret::Secret;
use crate::probe::dial::Dialler;
use crate::probe::digest::{self, Key};
use crate::probe::finding::{Finding, Step};
use crate::probe::mcp::Memory;
use crate::probe::mcp::era::Era;
use crate::probe::mcp::farewell::{Farewell, Left};
use crate::probe::mcp::line::{Dialect, Line, Session};
use crate::probe::mcp::message::{Ask, other_version};
use crate::probe::mcp::reading::{Otherwise, Reading, read};
use crate::probe::mcp::result::{self, Tools};
use crate::probe::trace::Trace;
use crate::probe::{expect, tls};

/// How long the attempt itself waits for the end of its session; then the background does.
const LEAVE_WAIT: Duration = Duration::from_secs(1);
/// What is left of the deadline by then, so that a verdict never falls to it.
const RESERVE: Duration = Duration::from_millis(20);

/// What an attempt has to do with the others.
pub(super) struct Shared<'a> {
    pub(super) dialler: &'a Arc<Dialler>,
    pub(super) memory: &'a Memory,
}

pub(super) async fn run(
    shared: Shared<'_>,
    check: &McpCheck,
    token: Option<&Secret>,
    trace: &mut Trace,
) -> Step {
    let line = Line::new(shared.dialler, &check.http, token)?;
    let mut attempt = Attempt { shared, check, line, trace, left: None };
    let end = attempt.verdict().await;
    attempt.trace.settle();
    attempt.leave().await;
    end
}

struct Attempt<'a> {
    shared: Shared<'a>,
    check: &'a McpCheck,
    line: Line<'a>,
    trace: &'a mut Trace,
    /// What is to be ended when this is over.
    left: Option<Left>,
}

impl Attempt<'_> {
    async fn verdict(&mut self) -> Step {
        self.find_era().await?;
        let check = self.check;
        expect::speed(check.expect.slow, self.trace.elapsed())?;
        check.http.tls.as_ref().map_or(Ok(()), |options| tls::expiry(options, self.trace))
    }

    /// Speaks the era that the policy names, or the one remembered, or finds it.
    async fn find_era(&mut self) -> Step {
        match self.check.era {
            McpEra::Modern => return self.only(Era::modern()).await,
            McpEra::Legacy => return self.only(Era::Legacy).await,
            McpEra::Auto => {}
        }
        let server = server(&self.check.http);
        let eras = &self.shared.memory.eras;
        let first = eras.of(&server).unwrap_or_else(Era::modern);
        let second = if first == Era::Legacy { Era::modern() } else { Era::Legacy };
        for era in [first, second] {
            let end = match self.speak(era).await {
                Ok(era) => {
                    eras.remember(server, era);
                    return Ok(());
                }
                Err(Otherwise::OtherEra | Otherwise::Versions(_)) => continue,
                Err(otherwise) => self.end(otherwise),
            };
            // What was remembered may be what is wrong.
            let wrong = |finding: &Finding| {
                matches!(finding.outcome, Outcome::ClientError | Outcome::Protocol)
            };
            if end.as_ref().is_err_and(wrong) {
                eras.forget(&server);
            }
            return end;
        }
        eras.forget(&server);
        Err(Finding::protocol("server speaks no version of MCP that this build knows"))
    }

    async fn only(&mut self, era: Era) -> Step {
        self.speak(era).await.map(drop).or_else(|otherwise| self.end(otherwise))
    }

    /// What it means that an era went otherwise than hoped for.
    fn end(&self, otherwise: Otherwise) -> Step {
        Err(match otherwise {
            Otherwise::Guarded if self.check.expect.unauthorized => return Ok(()),
            Otherwise::Guarded => Finding::new(Outcome::Auth, "HTTP 401"),
            Otherwise::Bad(finding) => finding,
            Otherwise::SessionLost => Finding::protocol("server forgets its sessions"),
            Otherwise::OtherEra | Otherwise::Versions(_) => {
                Finding::protocol("server does not speak the era of MCP that is configured")
            }
        })
    }

    /// Speaks an era; a modern server that knows other versions is asked once more in one of them.
    async fn speak(&mut self, era: Era) -> Result<Era, Otherwise> {
        let Era::Modern(version) = &era else {
            self.legacy().await?;
            return Ok(era);
        };
        let versions = match self.modern(version).await {
            Ok(()) => return Ok(era),
            Err(Otherwise::Versions(versions)) => versions,
            Err(otherwise) => return Err(otherwise),
        };
        let other = other_version(versions, version).ok_or(Otherwise::OtherEra)?;
        self.modern(&other).await?;
        Ok(Era::Modern(other))
    }

    async fn modern(&mut self, version: &str) -> Result<(), Otherwise> {
        let (expect, dialect) = (&self.check.expect, Dialect::Modern(version));
        let found = self.result(&Ask::Discover, dialect).await?;
        result::discovered(&found, expect)?;
        match Tools::expected(expect) {
            Some(tools) => self.turn_pages(tools, dialect).await,
            None => Ok(()),
        }
    }

    /// A session that is lost at once is begun anew, once.
    async fn legacy(&mut self) -> Result<(), Otherwise> {
        let end = self.session().await;
        if !matches!(end, Err(Otherwise::SessionLost)) {
            return end;
        }
        // Another server behind the same address may still have it.
        self.leave().await;
        self.session().await
    }

    /// What a session is begun for: its tools, or else a sign of life.
    async fn session(&mut self) -> Result<(), Otherwise> {
        let session = self.begin().await?;
        let (expect, dialect) = (&self.check.expect, Dialect::Session(&session));
        self.ask(&Ask::Initialized, dialect).await?;
        match Tools::expected(expect) {
            Some(tools) => self.turn_pages(tools, dialect).await,
            None => self.ask(&Ask::Ping, dialect).await.map(drop),
        }
    }

    /// Begins a session; from here on it is to be ended, whatever comes.
    async fn begin(&mut self) -> Result<Session, Otherwise> {
        self.left = Some(Left::Asked);
        let found = self.result(&Ask::Initialize, Dialect::Opening).await;
        let id = self.line.granted.take();
        let version = found.as_ref().ok().and_then(|found| result::version(found));
        let session = Session { id, version };
        self.left = session.id.is_some().then(|| Left::Session(session.clone()));
        result::initialized(&found?, &self.check.expect)?;
        Ok(session)
    }

    async fn turn_pages(
        &mut self,
        mut tools: Tools<'_>,
        dialect: Dialect<'_>,
    ) -> Result<(), Otherwise> {
        let mut cursor = None;
        loop {
            let page = self.result(&Ask::Tools { cursor }, dialect).await?;
            cursor = tools.turn(&page)?;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn result(
        &mut self,
        ask: &Ask,
        dialect: Dialect<'_>,
    ) -> Result<Box<RawValue>, Otherwise> {
        let result = self.ask(ask, dialect).await?;
        result.ok_or_else(|| Finding::protocol("answer is empty").into())
    }

    async fn ask(&mut self, ask: &Ask, dialect: Dialect<'_>) -> Reading {
        let id = self.shared.memory.next_id();
        let answer = self.line.ask(ask, id, dialect, self.trace).await?;
        let in_session = matches!(dialect, Dialect::Session(session) if session.id.is_some());
        read(ask, in_session, answer)
    }

    /// Ends the session, if there is one. The verdict stands: how this goes is nobody's business.
    async fn leave(&mut self) {
        let Some(Left::Session(session)) = &self.left else { return };
        let (session, patience) = (session.clone(), self.patience());
        // A trace of its own: none of this is part of the attempt.
        let mut trace = Trace::begin();
        let leaving = self.line.leave(&session, &mut trace);
        if matches!(timeout_at(patience, leaving).await, Ok(Ok(()))) {
            self.left = None;
        }
    }

    /// Until when to wait for a farewell.
    fn patience(&self) -> Instant {
        let soon = Instant::now() + LEAVE_WAIT;
        let end = self.trace.ends().and_then(|end| end.checked_sub(RESERVE));
        end.map_or(soon, |end| end.min(soon))
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            let dialler = Arc::clone(self.shared.dialler);
            let (http, kept) = (self.check.http.clone(), self.line.keep());
            self.shared.memory.farewells.begin(Farewell { dialler, http, kept, left });
        }
    }
}

fn server(http: &HttpCheck) -> Key {
    let target = http.target.to_string();
    let secure: &[u8] = if http.tls.is_some() { b"s" } else { b"" };
    let path = http.path.expose();
    digest::key(&[b"http", secure, target.as_bytes(), path.as_bytes()])
}
