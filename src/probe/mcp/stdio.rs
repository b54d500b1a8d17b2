//! One attempt over the standard streams of a private child.
//!
//! Some servers hold on to the era of the first message that they get, and some die of one that
//! they do not know. So a child that was asked in the modern way, and will not be asked in the
//! other one, is replaced by a fresh child that is asked in that way from the start.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use crate::core::outcome::Outcome;
use crate::policy::model::{McpEra, McpStdioCheck};
use crate::probe::digest::{self, Key};
use crate::probe::expect;
use crate::probe::finding::{Finding, Step};
use crate::probe::mcp::Memory;
use crate::probe::mcp::child::Server;
use crate::probe::mcp::era::Era;
use crate::probe::mcp::message::{Ask, MODERN, Reply, other_version};
use crate::probe::mcp::reading::{Otherwise, Reading, refused};
use crate::probe::mcp::result::{self, Tools};
use crate::probe::trace::{Stage, Trace};

/// How long a server that is not yet known may be silent before it is asked in the older way too.
/// It loses nothing by that: one that is only slow to start answers the first question first.
const SILENCE_MAX: Duration = Duration::from_secs(2);

pub(super) async fn run(memory: &Memory, check: &McpStdioCheck, trace: &mut Trace) -> Step {
    let key = key(check);
    let kept = if check.keep { memory.children.take(&key) } else { None };
    let mut attempt = Attempt { memory, check, key, trace };
    let server = match kept {
        Some(server) => attempt.again(server).await,
        None => attempt.anew().await,
    };
    let server = server.map_err(|otherwise| told(otherwise, check.era))?;
    if check.keep {
        memory.children.keep(key, memory.next_id(), server);
    }
    expect::speed(check.expect.slow, trace.elapsed())
}

struct Attempt<'a> {
    memory: &'a Memory,
    check: &'a McpStdioCheck,
    key: Key,
    trace: &'a mut Trace,
}

impl Attempt<'_> {
    /// Asks a kept child. One that has ended meanwhile is replaced: its end was not this attempt's.
    async fn again(&mut self, mut server: Server) -> Result<Server, Otherwise> {
        let end = match server.era.clone() {
            Some(Era::Modern(version)) => self.modern(&mut server, version).await,
            Some(Era::Legacy) => self.look_closer(&mut server, None).await,
            None => return self.anew().await,
        };
        if server.gone {
            return self.anew().await;
        }
        end.map(|()| server)
    }

    /// Asks a fresh child: in the era configured or remembered, or in the one that it finds.
    async fn anew(&mut self) -> Result<Server, Otherwise> {
        let known = match self.check.era {
            McpEra::Modern => return self.fresh(Era::modern()).await,
            McpEra::Legacy => return self.fresh(Era::Legacy).await,
            McpEra::Auto => self.memory.eras.of(&self.key),
        };
        let end = match known {
            Some(era) => self.fresh(era).await,
            None => Err(Otherwise::OtherEra),
        };
        let end = match end {
            Err(Otherwise::OtherEra | Otherwise::Versions(_)) => self.find_era().await,
            end => end,
        };
        match end.as_ref().ok().and_then(|server| server.era.clone()) {
            Some(era) => self.memory.eras.remember(self.key, era),
            None => self.memory.eras.forget(&self.key),
        }
        end
    }

    async fn find_era(&mut self) -> Result<Server, Otherwise> {
        let mut server = Server::start(&self.check.exec)?;
        match self.ask_both_ways(&mut server).await {
            Ok(()) => Ok(server),
            Err(otherwise) if !server.gone && !matches!(otherwise, Otherwise::OtherEra) => {
                Err(otherwise)
            }
            Err(_) => {
                drop(server);
                self.fresh(Era::Legacy).await
            }
        }
    }

    async fn fresh(&mut self, era: Era) -> Result<Server, Otherwise> {
        let mut server = Server::start(&self.check.exec)?;
        match era {
            Era::Modern(version) => self.modern(&mut server, version).await?,
            Era::Legacy => {
                let asked = self.send(&mut server, &Ask::Initialize, None).await?;
                let reply = self.hear(&mut server, asked).await?;
                self.opened(&mut server, reply).await?;
            }
        }
        Ok(server)
    }

    /// The modern question, and after a refusal or a silence the other one.
    async fn ask_both_ways(&mut self, server: &mut Server) -> Result<(), Otherwise> {
        let first = self.send(server, &Ask::Discover, Some(MODERN)).await?;
        let early = timeout(self.silence(), server.hear(&[first])).await;
        let second = match early {
            Ok(answer) => {
                match sort(&Ask::Discover, answer?.1) {
                    Err(Otherwise::OtherEra) => {}
                    Err(Otherwise::Versions(versions)) => {
                        let version = other_version(versions, MODERN);
                        return self.modern(server, version.ok_or(Otherwise::OtherEra)?).await;
                    }
                    found => return self.discovered(server, MODERN.to_owned(), found).await,
                }
                self.send(server, &Ask::Initialize, None).await?
            }
            Err(_silent) => {
                let second = self.send(server, &Ask::Initialize, None).await?;
                let (answered, reply) = server.hear(&[first, second]).await?;
                if answered == second {
                    return self.opened(server, reply).await;
                }
                match sort(&Ask::Discover, reply) {
                    Err(Otherwise::OtherEra) => second,
                    found => return self.discovered(server, MODERN.to_owned(), found).await,
                }
            }
        };
        let reply = self.hear(server, second).await?;
        self.opened(server, reply).await
    }

    async fn modern(&mut self, server: &mut Server, version: String) -> Result<(), Otherwise> {
        let found = self.ask(server, &Ask::Discover, Some(&version)).await;
        let Err(Otherwise::Versions(versions)) = found else {
            return self.discovered(server, version, found).await;
        };
        let other = other_version(versions, &version).ok_or(Otherwise::OtherEra)?;
        let found = self.ask(server, &Ask::Discover, Some(&other)).await;
        self.discovered(server, other, found).await
    }

    async fn discovered(
        &mut self,
        server: &mut Server,
        version: String,
        found: Reading,
    ) -> Result<(), Otherwise> {
        result::discovered(&whole(found)?, &self.check.expect)?;
        self.look_closer(server, Some(&version)).await?;
        server.era = Some(Era::Modern(version));
        Ok(())
    }

    async fn opened(&mut self, server: &mut Server, reply: Reply) -> Result<(), Otherwise> {
        let found = whole(sort(&Ask::Initialize, reply))?;
        result::initialized(&found, &self.check.expect)?;
        self.send(server, &Ask::Initialized, None).await?;
        self.look_closer(server, None).await?;
        server.era = Some(Era::Legacy);
        Ok(())
    }

    /// The tools expected; in the legacy era, without any, a sign of life.
    async fn look_closer(
        &mut self,
        server: &mut Server,
        modern: Option<&str>,
    ) -> Result<(), Otherwise> {
        let check = self.check;
        let Some(mut tools) = Tools::expected(&check.expect) else {
            if modern.is_none() {
                self.ask(server, &Ask::Ping, None).await?;
            }
            return Ok(());
        };
        let mut cursor = None;
        loop {
            let page = whole(self.ask(server, &Ask::Tools { cursor }, modern).await)?;
            cursor = tools.turn(&page)?;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn ask(&mut self, server: &mut Server, ask: &Ask, modern: Option<&str>) -> Reading {
        let id = self.send(server, ask, modern).await?;
        sort(ask, self.hear(server, id).await?)
    }

    async fn send(&mut self, server: &mut Server, ask: &Ask, modern: Option<&str>) -> Step<u64> {
        let id = self.memory.next_id();
        self.trace.enter(Stage::Reply(ask.method()));
        server.say(&ask.text(id, modern)).await?;
        Ok(id)
    }

    async fn hear(&self, server: &mut Server, id: u64) -> Step<Reply> {
        Ok(server.hear(&[id]).await?.1)
    }

    /// A third of what is left, so that the other question has time for its answer too.
    fn silence(&self) -> Duration {
        let left = self.trace.ends().map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(SILENCE_MAX, |left| SILENCE_MAX.min(left / 3))
    }
}

fn sort(ask: &Ask, reply: Reply) -> Reading {
    match reply {
        Reply::Result(result) => Ok(Some(result)),
        Reply::Error(refusal) => refused(ask, &refusal, None),
    }
}

fn whole(reading: Reading) -> Result<Box<RawValue>, Otherwise> {
    reading?.ok_or_else(|| Finding::protocol("answer is empty").into())
}

fn told(otherwise: Otherwise, era: McpEra) -> Finding {
    match otherwise {
        Otherwise::Bad(finding) => finding,
        Otherwise::OtherEra | Otherwise::Versions(_) if era == McpEra::Auto => {
            Finding::protocol("server speaks no version of MCP that this build knows")
        }
        Otherwise::OtherEra | Otherwise::Versions(_) => {
            Finding::protocol("server does not speak the era of MCP that is configured")
        }
        // Over HTTP only.
        Otherwise::SessionLost | Otherwise::Guarded => {
            Finding::new(Outcome::Protocol, "answer is not of MCP over standard streams")
        }
    }
}

fn key(check: &McpStdioCheck) -> Key {
    let variables = check.exec.env.iter().flat_map(|(name, value)| [name, value.expose()]);
    let count = check.exec.argv.len().to_le_bytes();
    let words = check.exec.argv.iter().map(String::as_str).chain(variables);
    let words = words.map(str::as_bytes);
    digest::key(&[b"stdio".as_slice(), &count].into_iter().chain(words).collect::<Vec<_>>())
}
