//! `PostgreSQL`: a start-up message, and with a password a whole login and one query.
//!
//! A server that grants TLS is not thereby ready: it does so while it shuts down. Only an answer to
//! the start-up message counts. Without a password a wish for one is enough, as it is uttered only
//! by a server that takes connections; whether it has a place for one more it tells after a login.
//!
//! | Answer | Outcome |
//! |---|---|
//! | a wish for a password, or a login that works | `ok` |
//! | class 28, 42501, a wish for a password where a login is needed | `auth` |
//! | 53300 and class 53, 57P03 and class 57, and what is not named here | `server_error` |
//! | 3D000, classes 0A, 22, 26, 34, 3F, 42; a login that is not spoken here | `client_error` |
//! | a primary where a standby is wanted, or the reverse | `wrong_role` |
//! | a standby further behind than it may be | `degraded` |
//! | TLS wanted and not offered | `tls` |
//! | what is not of the protocol, or cannot prove that it knows the password | `protocol` |

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use md5::{Digest, Md5};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::core::outcome::Outcome;
use crate::policy::model::{PostgresCheck, Role};
use crate::policy::secret::Secret;
use crate::probe::codec::postgres::{self as wire, Authentication, Message};
use crate::probe::codec::scram::{self, Answer, Challenge, Wrong};
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::link::Link;
use crate::probe::trace::{Stage, Trace};
use crate::probe::{expect, random, tls};

/// Whether it is a standby, and by how many milliseconds it is behind.
///
/// A standby that has replayed all it received is up to date as long as it is connected; else the
/// age of the last transaction replayed is the most that it can be behind.
const STATE: &str = "SELECT r, CASE WHEN NOT r THEN 0 \
    WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() \
    AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0 \
    ELSE ceil(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint \
    END FROM (SELECT pg_is_in_recovery() AS r) AS s";

pub(super) async fn run(dialler: &Dialler, check: &PostgresCheck, trace: &mut Trace) -> Step {
    let hello = hello(check)?;
    let link = open(dialler, check, trace).await?;
    trace.enter(Stage::Answer);
    let mut talk = Talk { link, check };
    talk.link.say(&hello).await?;
    let verdict = if talk.admitted(trace).await? {
        let verdict = talk.ask(trace).await;
        talk.link.leave(wire::TERMINATE).await;
        verdict
    } else {
        Ok(())
    };
    verdict?;
    expect::speed(check.slow, trace.elapsed())?;
    check.tls.as_ref().map_or(Ok(()), |options| tls::expiry(options, trace))
}

/// The start-up message. A zero byte would end a value early, and begin another.
fn hello(check: &PostgresCheck) -> Step<Zeroizing<Vec<u8>>> {
    let login = [check.login.username.expose(), check.login.password.expose()];
    let database = check.database.as_deref();
    if login.into_iter().chain(database).any(|value| value.contains('\0')) {
        return Err(Finding::misconfigured("user, password or database holds a zero byte"));
    }
    let mut parameters =
        vec![("user", check.login.username.expose()), ("application_name", "mcp-failover")];
    parameters.extend(database.map(|database| ("database", database)));
    let mut out = Zeroizing::new(Vec::with_capacity(1024));
    wire::startup(&parameters, &mut out);
    Ok(out)
}

async fn open(dialler: &Dialler, check: &PostgresCheck, trace: &mut Trace) -> Step<Link> {
    let Some(options) = &check.tls else {
        return Ok(Link::plain(dialler.connect(&check.target, trace).await?));
    };
    let handshake = dialler.prepare(&check.target, options, None)?;
    let mut stream = dialler.connect(&check.target, trace).await?;
    trace.enter(Stage::Tls);
    stream.write_all(wire::SSL_REQUEST).await.map_err(|error| Finding::from_io(&error))?;
    // One byte only: what came after it unasked would be taken for part of the handshake.
    match stream.read_u8().await.map_err(|error| Finding::from_io(&error))? {
        b'S' => {}
        b'N' => return Err(Finding::new(Outcome::Tls, "server does not offer TLS")),
        b'E' => return Err(Finding::new(Outcome::ServerError, "answered with an error")),
        _ => return Err(foreign()),
    }
    let stream = handshake.run(stream, trace).await?;
    trace.enter(Stage::Between);
    Ok(Link::secure(stream))
}

/// A conversation after the start-up message.
struct Talk<'a> {
    link: Link,
    check: &'a PostgresCheck,
}

/// What a server says before it is ready, without what does not matter.
enum Said {
    Ready,
    Done,
    Wish(Wish),
    Step(Vec<u8>),
    Last(Vec<u8>),
    Row(State),
}

/// How a server wants the password.
enum Wish {
    Cleartext,
    Md5([u8; 4]),
    Scram,
    Other,
}

/// What [`STATE`] tells.
struct State {
    standby: bool,
    behind: Option<Duration>,
}

impl Talk<'_> {
    /// Whether we are in, rather than only asked for a password.
    async fn admitted(&mut self, trace: &mut Trace) -> Step<bool> {
        match self.hear(trace).await? {
            Said::Done => {}
            Said::Wish(_) if !self.check.authenticate => {
                let enough = self.check.role == Role::Any && self.check.max_lag.is_none();
                let lacking = || Finding::new(Outcome::Auth, "wants a password");
                return if enough { Ok(false) } else { Err(lacking()) };
            }
            Said::Wish(wish) => {
                self.log_in(wish, trace).await?;
                let Said::Done = self.hear(trace).await? else { return Err(foreign()) };
            }
            Said::Ready | Said::Step(_) | Said::Last(_) | Said::Row(_) => return Err(foreign()),
        }
        self.ready(trace).await.map(|()| true)
    }

    async fn log_in(&mut self, wish: Wish, trace: &mut Trace) -> Step {
        match wish {
            Wish::Cleartext => self.tell(wire::password).await,
            Wish::Md5(salt) => self.tell_digest(salt).await,
            Wish::Scram => self.prove(trace).await,
            Wish::Other => Err(Finding::misconfigured("wants a login that is not spoken here")),
        }
    }

    async fn tell(&mut self, say: impl FnOnce(&str, &mut Vec<u8>)) -> Step {
        let mut out = Zeroizing::new(Vec::with_capacity(1024));
        say(self.check.login.password.expose(), &mut out);
        self.link.say(&out).await
    }

    async fn tell_digest(&mut self, salt: [u8; 4]) -> Step {
        let user = self.check.login.username.expose().as_bytes();
        self.tell(|password, out| {
            let inner = Zeroizing::new(hex(&[password.as_bytes(), user]));
            wire::password(&format!("md5{}", hex(&[inner.as_bytes(), &salt])), out);
        })
        .await
    }

    async fn prove(&mut self, trace: &mut Trace) -> Step {
        let nonce = STANDARD_NO_PAD.encode(random::bytes::<18>()?);
        let mut out = Vec::new();
        wire::sasl_initial(scram::MECHANISM, &scram::first(&nonce), &mut out);
        self.link.say(&out).await?;
        let Said::Step(step) = self.hear(trace).await? else { return Err(foreign()) };
        let challenge = Challenge::read(&nonce, &step).map_err(unproven)?;
        let answer = work(challenge, self.check.login.password.clone()).await?;
        let mut out = Vec::new();
        wire::sasl_response(answer.message(), &mut out);
        self.link.say(&out).await?;
        let Said::Last(last) = self.hear(trace).await? else { return Err(foreign()) };
        answer.verify(&last).map_err(unproven)
    }

    /// Asks for what the check wants to know.
    async fn ask(&mut self, trace: &mut Trace) -> Step {
        let check = self.check;
        let matters = check.role != Role::Any || check.max_lag.is_some();
        let mut out = Vec::new();
        wire::query(if matters { STATE } else { "SELECT false, 0" }, &mut out);
        self.link.say(&out).await?;
        let Said::Row(state) = self.hear(trace).await? else { return Err(foreign()) };
        self.ready(trace).await?;
        match (check.role, state.standby) {
            (Role::Writer, true) => return Err(Finding::new(Outcome::WrongRole, "is a standby")),
            (Role::Reader, false) => return Err(Finding::new(Outcome::WrongRole, "is a primary")),
            (Role::Any | Role::Writer | Role::Reader, _) => {}
        }
        let detail = match (check.max_lag, state.behind) {
            (Some(most), Some(behind)) if behind > most => {
                format!("standby is behind by {behind:?}")
            }
            (Some(_), None) => "standby has replayed nothing yet".to_owned(),
            (Some(_) | None, _) => return Ok(()),
        };
        Err(Finding::new(Outcome::Degraded, detail))
    }

    async fn ready(&mut self, trace: &mut Trace) -> Step {
        let Said::Ready = self.hear(trace).await? else { return Err(foreign()) };
        Ok(())
    }

    /// The next message that matters; an error ends the attempt.
    async fn hear(&mut self, trace: &mut Trace) -> Step<Said> {
        loop {
            let next = |bytes: &[u8]| {
                let read = wire::read(bytes).map_err(|_other| foreign())?;
                read.map(|(message, used)| Ok((sort(&message)?, used))).transpose()
            };
            if let Some(said) = self.link.hear(trace, next).await? {
                return Ok(said);
            }
        }
    }
}

fn sort(message: &Message<'_>) -> Step<Option<Said>> {
    Ok(Some(match message {
        Message::Other => return Ok(None),
        Message::Error(code) => return Err(refusal(*code)),
        Message::Ready => Said::Ready,
        Message::Row(columns) => Said::Row(state(columns).ok_or_else(foreign)?),
        Message::Authentication(wanted) => match *wanted {
            Authentication::Done => Said::Done,
            Authentication::Cleartext => Said::Wish(Wish::Cleartext),
            Authentication::Md5(salt) => Said::Wish(Wish::Md5(salt)),
            Authentication::SaslContinue(step) => Said::Step(step.to_vec()),
            Authentication::SaslFinal(last) => Said::Last(last.to_vec()),
            Authentication::Sasl(offered) if offers(offered, scram::MECHANISM) => {
                Said::Wish(Wish::Scram)
            }
            Authentication::Sasl(_) | Authentication::Other => Said::Wish(Wish::Other),
        },
    }))
}

fn offers(offered: &[u8], mechanism: &str) -> bool {
    offered.split(|byte| *byte == 0).any(|name| name == mechanism.as_bytes())
}

fn state(columns: &[Option<&[u8]>]) -> Option<State> {
    let [Some(standby), behind] = columns else { return None };
    let standby = match *standby {
        b"t" => true,
        b"f" => false,
        _ => return None,
    };
    let milliseconds = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    // Clocks that differ make a standby seem ahead.
    let span = |count: i64| Duration::from_millis(u64::try_from(count).unwrap_or(0));
    let behind = match behind {
        Some(text) => Some(span(milliseconds(text)?)),
        None => None,
    };
    Some(State { standby, behind })
}

/// Derives keys apart from the loop that runs all the other probes.
async fn work(challenge: Challenge, password: Secret) -> Step<Answer> {
    let work = tokio::task::spawn_blocking(move || challenge.answer(password.expose()));
    work.await.map_err(|_ended| Finding::local("login could not be computed"))
}

fn hex(parts: &[&[u8]]) -> String {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    let number = u128::from_be_bytes(digest.finalize().into());
    format!("{number:032x}")
}

fn unproven(wrong: Wrong) -> Finding {
    match wrong {
        Wrong::Malformed => foreign(),
        Wrong::TooMuchWork => Finding::protocol("asks for too much work for a login"),
        Wrong::Refused => Finding::new(Outcome::Auth, "password is wrong"),
        Wrong::Impostor => Finding::protocol("what answered does not know the password"),
    }
}

fn foreign() -> Finding {
    Finding::protocol("answer is not of PostgreSQL's protocol")
}

/// What some codes mean, and then what whole classes mean.
const CODES: [(&[u8], Outcome, &str); 24] = [
    (b"28P01", Outcome::Auth, "28P01: password is wrong"),
    (b"28000", Outcome::Auth, "28000: this user may not log in from here"),
    (b"42501", Outcome::Auth, "42501: this user lacks a privilege"),
    (b"3D000", Outcome::ClientError, "3D000: no such database"),
    (b"53300", Outcome::ServerError, "53300: too many connections"),
    (b"57P01", Outcome::ServerError, "57P01: shutting down"),
    (b"57P02", Outcome::ServerError, "57P02: recovering from a crash"),
    (b"57P03", Outcome::ServerError, "57P03: starting up, shutting down or recovering"),
    (b"57014", Outcome::ServerError, "57014: the query took too long for the server"),
    (b"08P01", Outcome::ServerError, "08P01: the server or a pooler before it gave up"),
    (b"28", Outcome::Auth, "class 28: login refused"),
    (b"53", Outcome::ServerError, "class 53: out of resources"),
    (b"57", Outcome::ServerError, "class 57: interrupted by an operator"),
    (b"58", Outcome::ServerError, "class 58: the server's system fails"),
    (b"XX", Outcome::ServerError, "class XX: the server found itself broken"),
    (b"55", Outcome::ServerError, "class 55: not in the right state"),
    (b"25", Outcome::ServerError, "class 25: not in the right state"),
    (b"0A", Outcome::ClientError, "class 0A: does not support what is asked"),
    (b"22", Outcome::ClientError, "class 22: does not understand what is asked"),
    (b"26", Outcome::ClientError, "class 26: does not understand what is asked"),
    (b"34", Outcome::ClientError, "class 34: does not understand what is asked"),
    (b"3F", Outcome::ClientError, "class 3F: no such schema"),
    (b"42", Outcome::ClientError, "class 42: does not understand what is asked"),
    (b"08", Outcome::ServerError, "class 08: connection given up"),
];

fn refusal(code: Option<[u8; 5]>) -> Finding {
    let known = code.and_then(|code| CODES.iter().find(|(known, ..)| code.starts_with(known)));
    match known {
        Some((_, outcome, detail)) => Finding::new(*outcome, *detail),
        None => Finding::new(Outcome::ServerError, "answered with an error"),
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::model::{Login, Target};

    use super::*;

    fn said(code: &str) -> Outcome {
        refusal(code.as_bytes().try_into().ok()).outcome
    }

    #[test]
    fn codes_and_classes_have_their_meaning() {
        for (codes, outcome) in [
            ("28P01 28000 28XYZ 42501", Outcome::Auth),
            ("3D000 42883 0A000 22023 26000 34000 3F000", Outcome::ClientError),
            ("53300 53200 53400 57P01 57P02 57P03 57014 57P05", Outcome::ServerError),
            ("08P01 08006 55000 25006 58030 XX000 P0001 99999", Outcome::ServerError),
        ] {
            for code in codes.split(' ') {
                assert_eq!(said(code), outcome, "{code}");
            }
        }
        assert_eq!(refusal(None).detail, "answered with an error");
        assert_eq!(refusal(Some(*b"99999")).detail, "answered with an error");
    }

    #[test]
    fn a_zero_byte_cannot_smuggle_a_parameter_in() {
        let check = |user: &str, password: &str, database: &str| PostgresCheck {
            target: Target { host: "localhost".to_owned(), port: 5432 },
            tls: None,
            login: Login { username: Secret::from(user), password: Secret::from(password) },
            authenticate: true,
            database: Some(database.to_owned()),
            role: Role::Any,
            max_lag: None,
            slow: None,
        };
        let sent = hello(&check("me", "secret", "mine")).unwrap();
        let wanted = b"\0\x03\0\0user\0me\0application_name\0mcp-failover\0database\0mine\0\0";
        assert_eq!(sent.get(4..), Some(wanted.as_slice()));
        for check in [check("a\0b", "", ""), check("", "a\0b", ""), check("", "", "a\0b")] {
            assert_eq!(hello(&check).unwrap_err().outcome, Outcome::ClientError);
        }
    }

    #[test]
    fn a_digest_is_what_servers_store() {
        // As of `CREATE USER u PASSWORD 'secret'` with `password_encryption = md5`.
        assert_eq!(hex(&[b"secret", b"u"]).len(), 32);
        assert_eq!(hex(&[b"a", b"bc"]), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn a_state_is_read_or_refused() {
        let read = |columns: &[Option<&[u8]>]| {
            state(columns)
                .map(|state| (state.standby, state.behind.map(|behind| behind.as_millis())))
        };
        assert_eq!(read(&[Some(b"f"), Some(b"0")]), Some((false, Some(0))));
        assert_eq!(read(&[Some(b"t"), Some(b"1500")]), Some((true, Some(1500))));
        assert_eq!(read(&[Some(b"t"), Some(b"-3")]), Some((true, Some(0))));
        assert_eq!(read(&[Some(b"t"), None]), Some((true, None)));
        for columns in [&[][..], &[Some(b"t".as_slice())], &[None, None], &[Some(b"x"), None]] {
            assert_eq!(read(columns), None);
        }
        assert_eq!(read(&[Some(b"t"), Some(b"soon")]), None);
    }
}
