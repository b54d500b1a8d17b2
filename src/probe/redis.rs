//! Redis: AUTH, PING, and where it matters ROLE and the replication part of INFO, in one round trip.
//!
//! | Answer | Outcome |
//! |---|---|
//! | `PONG` | `ok` |
//! | `NOAUTH`, `WRONGPASS`, `NOPERM`, `DENIED` | `auth` |
//! | `LOADING`, `BUSY`, too many clients, and every other error | `server_error` |
//! | `MASTERDOWN`, `READONLY`, another role than wanted | `wrong_role` |
//! | a replica behind, or cut off from its master | `degraded` |
//! | a command that it does not know | `client_error` |
//! | anything that is not RESP | `protocol` |

use std::time::Duration;

use zeroize::Zeroizing;

use crate::core::outcome::Outcome;
use crate::policy::model::{RedisCheck, Role};
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::link::Link;
use crate::probe::trace::{Stage, Trace};
use crate::probe::{expect, tls};
use crate::resp::{self, Reply};

pub(super) async fn run(dialler: &Dialler, check: &RedisCheck, trace: &mut Trace) -> Step {
    let mut link = Link::open(dialler, &check.target, check.tls.as_ref(), trace).await?;
    trace.enter(Stage::Answer);
    link.say(&questions(check)).await?;
    if check.login.is_some() {
        link.hear(trace, |bytes| one(bytes, accepted)).await?;
    }
    link.hear(trace, |bytes| one(bytes, pong)).await?;
    let mut warning = None;
    if check.role != Role::Any {
        warning = link.hear(trace, |bytes| one(bytes, |reply| role(reply, check.role))).await?;
    }
    if let Some(most) = check.max_lag {
        let behind = link.hear(trace, |bytes| one(bytes, |reply| lag(reply, most))).await?;
        warning = warning.or(behind);
    }
    warning.map_or(Ok(()), Err)?;
    expect::speed(check.slow, trace.elapsed())?;
    check.tls.as_ref().map_or(Ok(()), |options| tls::expiry(options, trace))
}

/// Everything at once: the answers come in order, and the first that is bad ends the attempt.
fn questions(check: &RedisCheck) -> Zeroizing<Vec<u8>> {
    // Enough for any login that is plausible, so that no copy of it stays behind.
    let mut out = Zeroizing::new(Vec::with_capacity(4096));
    if let Some(login) = &check.login {
        let (user, password) = (login.username.expose(), login.password.expose());
        match user {
            "" => resp::command(&[b"AUTH", password.as_bytes()], &mut out),
            user => resp::command(&[b"AUTH", user.as_bytes(), password.as_bytes()], &mut out),
        }
    }
    resp::command(&[b"PING"], &mut out);
    if check.role != Role::Any {
        resp::command(&[b"ROLE"], &mut out);
    }
    if check.max_lag.is_some() {
        resp::command(&[b"INFO", b"replication"], &mut out);
    }
    out
}

/// Reads one reply and judges it, an error included.
fn one<T>(bytes: &[u8], judge: impl FnOnce(&Reply<'_>) -> Step<T>) -> Step<Option<(T, usize)>> {
    let read = resp::read(bytes).map_err(|_other| Finding::protocol("answer is not RESP"))?;
    let Some((reply, used)) = read else { return Ok(None) };
    if let Reply::Error(error) = reply {
        return Err(refusal(error));
    }
    judge(&reply).map(|judged| Some((judged, used)))
}

fn accepted(reply: &Reply<'_>) -> Step {
    match reply.text() {
        Some(b"OK") => Ok(()),
        Some(_) | None => Err(Finding::protocol("AUTH is not answered as by Redis")),
    }
}

fn pong(reply: &Reply<'_>) -> Step {
    match reply.text() {
        Some(b"PONG") => Ok(()),
        Some(_) | None => Err(Finding::protocol("PING is not answered as by Redis")),
    }
}

/// Holds the role against the one wanted; what it returns is a warning.
fn role(reply: &Reply<'_>, wanted: Role) -> Step<Option<Finding>> {
    let broken = || Finding::protocol("ROLE is not answered as by Redis");
    let Reply::Array(Some(parts)) = reply else { return Err(broken()) };
    let wrong = |is: &'static str| Err(Finding::new(Outcome::WrongRole, is));
    match (parts.first().and_then(Reply::text).ok_or_else(broken)?, wanted) {
        (_, Role::Any) | (b"master", Role::Writer) => Ok(None),
        (b"slave", Role::Reader) => {
            let link = parts.get(3).and_then(Reply::text).ok_or_else(broken)?;
            let cut = || Finding::new(Outcome::Degraded, "replica has no link to its master");
            Ok((link != b"connected").then(cut))
        }
        (b"master", Role::Reader) => wrong("is a master"),
        (b"slave", Role::Writer) => wrong("is a replica"),
        (b"sentinel", _) => wrong("is a sentinel"),
        _ => Err(broken()),
    }
}

/// How far a replica is behind; what it returns is a warning.
///
/// While the link stands that is the time since the master's last word, which comes every ten
/// seconds at least; without a link it is how long that has been so.
fn lag(reply: &Reply<'_>, most: Duration) -> Step<Option<Finding>> {
    let broken = || Finding::protocol("INFO is not answered as by Redis");
    let text = reply.text().and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(broken)?;
    let field = |name: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    };
    if field("role").ok_or_else(broken)? != "slave" {
        return Ok(None);
    }
    let up = field("master_link_status").ok_or_else(broken)? == "up";
    let since = if up { "master_last_io_seconds_ago" } else { "master_link_down_since_seconds" };
    // Negative when there never was a link: as far behind as can be.
    let seconds = field(since).and_then(|seconds| seconds.parse::<u64>().ok());
    let behind = seconds.map(Duration::from_secs);
    if behind.is_some_and(|behind| behind <= most) {
        return Ok(None);
    }
    let detail = match (behind, up) {
        (Some(behind), true) => format!("replica has not heard from its master for {behind:?}"),
        (Some(behind), false) => format!("replica has had no link to its master for {behind:?}"),
        (None, _) => "replica never had a link to its master".to_owned(),
    };
    Ok(Some(Finding::new(Outcome::Degraded, detail)))
}

/// What the codes of errors mean.
const CODES: [(&str, Outcome, &str); 16] = [
    ("NOAUTH", Outcome::Auth, "NOAUTH: wants a password"),
    ("WRONGPASS", Outcome::Auth, "WRONGPASS: user or password is wrong, or the user is disabled"),
    ("NOPERM", Outcome::Auth, "NOPERM: the user may not run this"),
    ("DENIED", Outcome::Auth, "DENIED: in protected mode"),
    ("LOADING", Outcome::ServerError, "LOADING: still reading its data"),
    ("BUSY", Outcome::ServerError, "BUSY: a script holds it up"),
    ("UNKILLABLE", Outcome::ServerError, "UNKILLABLE: a script holds it up"),
    ("MASTERDOWN", Outcome::WrongRole, "MASTERDOWN: a replica without its master"),
    ("READONLY", Outcome::WrongRole, "READONLY: is a replica"),
    ("CLUSTERDOWN", Outcome::ServerError, "CLUSTERDOWN: the cluster is incomplete"),
    ("MISCONF", Outcome::ServerError, "MISCONF: cannot save its data"),
    ("NOREPLICAS", Outcome::ServerError, "NOREPLICAS: not enough replicas"),
    ("OOM", Outcome::ServerError, "OOM: out of memory"),
    ("TRYAGAIN", Outcome::ServerError, "TRYAGAIN: busy moving data"),
    ("MOVED", Outcome::ClientError, "MOVED: another node of the cluster has it"),
    ("ASK", Outcome::ClientError, "ASK: another node of the cluster has it"),
];

/// What errors of the general code mean, by how they begin: the words are older than the codes.
const WORDS: [(&str, Outcome, &str); 7] = [
    ("ERR max number of clients", Outcome::ServerError, "too many clients"),
    ("ERR invalid password", Outcome::Auth, "password is wrong"),
    ("ERR operation not permitted", Outcome::Auth, "wants a password"),
    ("ERR Client sent AUTH", Outcome::Auth, "has no password, but was given one"),
    ("ERR AUTH", Outcome::Auth, "has no password, but was given one"),
    ("ERR wrong number of arguments", Outcome::ClientError, "does not know users, only passwords"),
    ("ERR unknown command", Outcome::ClientError, "does not know the command"),
];

fn refusal(error: &[u8]) -> Finding {
    let code = error.split(|byte| *byte == b' ').next().unwrap_or_default();
    let coded = CODES.iter().find(|(known, ..)| known.as_bytes() == code);
    let worded = || WORDS.iter().find(|(known, ..)| error.starts_with(known.as_bytes()));
    match coded.or_else(worded) {
        Some((_, outcome, detail)) => Finding::new(*outcome, *detail),
        None => Finding::new(Outcome::ServerError, "answered with an error"),
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::model::{Login, Target};
    use crate::policy::secret::Secret;

    use super::*;

    fn check() -> RedisCheck {
        let target = Target { host: "localhost".to_owned(), port: 6379 };
        RedisCheck { target, tls: None, login: None, role: Role::Any, max_lag: None, slow: None }
    }

    fn said(error: &str) -> Outcome {
        refusal(error.as_bytes()).outcome
    }

    #[test]
    fn only_what_is_wanted_is_asked() {
        assert_eq!(questions(&check()).as_slice(), b"*1\r\n$4\r\nPING\r\n");
        let login = |user, password| {
            Some(Login { username: Secret::from(user), password: Secret::from(password) })
        };
        let all = RedisCheck {
            login: login("u", "p"),
            role: Role::Writer,
            max_lag: Some(Duration::ZERO),
            ..check()
        };
        let sent = String::from_utf8(questions(&all).to_vec()).unwrap();
        let words: Vec<&str> =
            sent.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect();
        assert_eq!(words, ["AUTH", "u", "p", "PING", "ROLE", "INFO", "replication", ""]);
        let old = RedisCheck { login: login("", "p"), ..check() };
        assert!(questions(&old).starts_with(b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n"));
    }

    #[test]
    fn every_code_has_its_meaning() {
        for (code, outcome, detail) in CODES {
            assert_eq!(refusal(format!("{code} more words").as_bytes()).detail, detail);
            assert_eq!(said(code), outcome, "a code alone");
        }
        assert_eq!(said("BUSYKEY Target key name already exists."), Outcome::ServerError);
        assert_eq!(said("no upstream host"), Outcome::ServerError);
        assert_eq!(said(""), Outcome::ServerError);
    }

    #[test]
    fn words_of_the_time_before_codes_are_understood() {
        assert_eq!(said("ERR max number of clients reached"), Outcome::ServerError);
        assert_eq!(said("ERR max number of clients + cluster"), Outcome::ServerError);
        assert_eq!(said("ERR invalid password"), Outcome::Auth);
        assert_eq!(said("ERR operation not permitted"), Outcome::Auth);
        assert_eq!(said("ERR Client sent AUTH, but no password is set"), Outcome::Auth);
        assert_eq!(said("ERR AUTH <password> called without any password"), Outcome::Auth);
        let arguments = "ERR wrong number of arguments for 'auth' command";
        assert_eq!(said(arguments), Outcome::ClientError);
        assert_eq!(said("ERR unknown command 'PING'"), Outcome::ClientError);
    }

    fn judged_role(answer: &[u8], wanted: Role) -> Option<Outcome> {
        match one(answer, |reply| role(reply, wanted)) {
            Ok(Some((warning, _))) => warning.map(|warning| warning.outcome),
            Ok(None) => panic!("not a whole answer"),
            Err(finding) => Some(finding.outcome),
        }
    }

    #[test]
    fn a_role_is_held_against_the_one_wanted() {
        let master = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
        let connected = b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:1\r\n";
        let connecting = b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$10\r\nconnecting\r\n:-1\r\n";
        let sentinel = b"*2\r\n$8\r\nsentinel\r\n*0\r\n";
        assert_eq!(judged_role(master, Role::Writer), None);
        assert_eq!(judged_role(master, Role::Reader), Some(Outcome::WrongRole));
        assert_eq!(judged_role(connected, Role::Reader), None);
        assert_eq!(judged_role(connected, Role::Writer), Some(Outcome::WrongRole));
        assert_eq!(judged_role(connecting, Role::Reader), Some(Outcome::Degraded));
        assert_eq!(judged_role(connecting, Role::Writer), Some(Outcome::WrongRole));
        assert_eq!(judged_role(sentinel, Role::Writer), Some(Outcome::WrongRole));
        for other in ["*0\r\n", ":1\r\n", "*1\r\n$5\r\nslave\r\n", "*1\r\n+x\r\n"] {
            assert_eq!(judged_role(other.as_bytes(), Role::Reader), Some(Outcome::Protocol));
        }
    }

    fn judged_lag(lines: &str) -> Option<String> {
        let answer = format!("${}\r\n{lines}\r\n", lines.len());
        match one(answer.as_bytes(), |reply| lag(reply, Duration::from_secs(10))) {
            Ok(Some((warning, _))) => warning.map(|finding| finding.detail.into_owned()),
            Ok(None) => panic!("not a whole answer"),
            Err(finding) => Some(finding.detail.into_owned()),
        }
    }

    #[test]
    fn a_replica_is_as_far_behind_as_its_link_is_silent() {
        let up = |ago| {
            format!(
                "# Replication\r\nrole:slave\r\nmaster_link_status:up\r\n\
                 master_last_io_seconds_ago:{ago}\r\n"
            )
        };
        let down = |since| {
            format!(
                "role:slave\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\n\
                 master_link_down_since_seconds:{since}\r\n"
            )
        };
        let never = Some("replica never had a link to its master".to_owned());
        assert_eq!(judged_lag("role:master\r\nconnected_slaves:0\r\n"), None);
        assert_eq!(judged_lag(&up(10)), None);
        let late = "replica has not heard from its master for 11s";
        assert_eq!(judged_lag(&up(11)).as_deref(), Some(late));
        assert_eq!(judged_lag(&down(3)), None);
        let cut = "replica has had no link to its master for 60s";
        assert_eq!(judged_lag(&down(60)).as_deref(), Some(cut));
        assert_eq!(judged_lag(&down(-1)), never);
        assert_eq!(judged_lag("nothing"), Some("INFO is not answered as by Redis".to_owned()));
    }
}
