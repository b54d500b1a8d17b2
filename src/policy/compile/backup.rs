//! Builds where backups go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::policy::code::Code;
use crate::policy::compile::{check, probe};
use crate::policy::interpolate::{Control, Scope, expand};
use crate::policy::model::{Backup, BackupPlace, Bucket};
use crate::policy::raw::{self, Ctx, Span, Text};
use crate::policy::secret::Secret;
use crate::policy::url;

const INTERVAL: Duration = Duration::from_secs(15 * 60);

const AFTER_SWITCH: Duration = Duration::from_secs(10);

const KEEP: u32 = 24;

const RECOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A sidecar that does not start is worse than one that starts without memory.
const RECOVER_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Keys that mean something for a bucket only.
const BUCKET_KEYS: [&str; 5] = ["endpoint", "region", "path_style", "credentials", "ca_file"];

const KNOWN: &str = "write \"/path/of/a/directory\" or \"s3://bucket/prefix\"";

/// Where copies of state and history go.
pub(super) fn build(
    raw: Option<&raw::Backup>,
    state_dir: &Path,
    ctx: &mut Ctx<'_>,
) -> Option<Arc<Backup>> {
    let raw = raw?;
    let recover_timeout = recover_timeout(raw, ctx);
    let to = raw.to.0.as_ref()?;
    let place = place(to, raw, state_dir, ctx)?;
    let keep = raw.keep.map_or(KEEP, |keep| keep.value);
    Some(Arc::new(Backup {
        to: place,
        interval: raw.interval.map_or(INTERVAL, |span| span.value),
        after_switch: raw.after_switch.map_or(AFTER_SWITCH, |span| span.value),
        keep: usize::try_from(keep).unwrap_or(usize::MAX),
        recover: raw.recover.is_some_and(|recover| recover.value),
        recover_timeout,
    }))
}

fn recover_timeout(raw: &raw::Backup, ctx: &mut Ctx<'_>) -> Duration {
    let Some(span) = raw.recover_timeout else { return RECOVER_TIMEOUT };
    if span.value > RECOVER_TIMEOUT_MAX {
        let message = "a start may wait 30 s for a backup at most";
        ctx.error(Code::OutOfRange, span.span, message, "a few seconds are usual");
    }
    span.value
}

fn place(to: &Text, raw: &raw::Backup, state_dir: &Path, ctx: &mut Ctx<'_>) -> Option<BackupPlace> {
    let value = check::text(to, Scope::Global, ctx)?;
    let value = value.expose();
    if let Some(rest) = value.strip_prefix("s3://") {
        return bucket(rest, to.span, raw, ctx).map(Box::new).map(BackupPlace::Bucket);
    }
    for key in BUCKET_KEYS.into_iter().filter(|key| raw.at.has(key)) {
        let message = format!("`{key}` is for buckets, and `to` is a directory");
        ctx.error(Code::NotApplicable, raw.at.of(key), message, "leave it out");
    }
    let path = value.strip_prefix("file://").unwrap_or(value);
    // A scheme with a slash too few must not become a directory of that name.
    let scheme = path.split_once('/').is_some_and(|(first, _)| first.ends_with(':'));
    if scheme {
        ctx.error(Code::BadBackupPlace, to.span, "not a place for backups", KNOWN);
        return None;
    }
    directory(path, to.span, state_dir, ctx).map(BackupPlace::Directory)
}

fn directory(path: &str, span: Span, state_dir: &Path, ctx: &mut Ctx<'_>) -> Option<PathBuf> {
    if path.trim().is_empty() {
        ctx.error(Code::BadPath, span, "an empty path", KNOWN);
        return None;
    }
    let path = PathBuf::from(path);
    if path.starts_with(state_dir) {
        let message = "backups inside `state_dir` are lost with it";
        ctx.error(Code::BadBackupPlace, span, message, "choose another disk, or a bucket");
    }
    Some(path)
}

fn bucket(rest: &str, span: Span, raw: &raw::Backup, ctx: &mut Ctx<'_>) -> Option<Bucket> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let region = region(raw, ctx);
    let endpoint = endpoint(raw, region.as_deref(), ctx);
    let credentials = credentials(raw, span, ctx);
    let ca = match &raw.ca_file {
        Some(file) => Some(Arc::from(probe::tls::ca_file(file, ctx)?)),
        None => None,
    };
    if !bucket_name(name) {
        let message = "not the name of a bucket";
        let help = "3 to 63 lower-case letters, digits, `-` and `.`: `s3://bucket/prefix`";
        ctx.error(Code::BadBackupPlace, span, message, help);
        return None;
    }
    let prefix = prefix.trim_end_matches('/');
    if !prefix_fits(prefix) {
        let message = "a prefix that not every server takes as it is";
        let help = "letters, digits, `.`, `_` and `-` between single slashes; at most 512 bytes";
        ctx.error(Code::BadBackupPlace, span, message, help);
        return None;
    }
    let (access_key, secret_key, session_token) = credentials?;
    // The certificates of AWS are for one label before the host.
    let in_path = raw.endpoint.is_some() || name.contains('.');
    Some(Bucket {
        name: name.to_owned(),
        prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
        endpoint: endpoint?,
        region: region?,
        path_style: raw.path_style.map_or(in_path, |style| style.value),
        access_key,
        secret_key,
        session_token,
        ca,
    })
}

fn bucket_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (3..=63).contains(&name.len())
        && name.chars().all(|c| edge(Some(c)) || matches!(c, '-' | '.'))
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && !name.contains("..")
}

fn prefix_fits(prefix: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(fits);
    prefix.is_empty() || (prefix.len() <= 512 && prefix.split('/').all(part))
}

fn region(raw: &raw::Backup, ctx: &mut Ctx<'_>) -> Option<String> {
    let Some(text) = &raw.region else {
        let given = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter();
        let given = given.filter_map(|name| ctx.lookup.var(name)).find(|value| is_region(value));
        return Some(given.unwrap_or_else(|| "us-east-1".to_owned()));
    };
    let value = check::text(text, Scope::Global, ctx)?;
    if !is_region(value.expose()) {
        let message = "not a region";
        ctx.error(Code::BadBackupPlace, text.span, message, "such as \"eu-central-1\"");
        return None;
    }
    Some(value.expose().to_owned())
}

fn is_region(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn endpoint(raw: &raw::Backup, region: Option<&str>, ctx: &mut Ctx<'_>) -> Option<String> {
    let Some(text) = &raw.endpoint else {
        return Some(format!("https://s3.{}.amazonaws.com", region?));
    };
    let value = check::text(text, Scope::Global, ctx)?;
    match url::parse(value.expose(), None) {
        Err(error) => {
            let help = "write `https://host[:port]`";
            ctx.error(Code::BadUrl, text.span, error.to_string(), help);
            None
        }
        Ok(address)
            if !matches!(address.scheme, "http" | "https")
                || address.user.is_some()
                || value.expose().contains('?') =>
        {
            let message = "an S3 server has an http or https address without user info and query";
            ctx.error(Code::WrongScheme, text.span, message, "keys belong into `credentials`");
            None
        }
        Ok(_) => Some(value.expose().trim_end_matches('/').to_owned()),
    }
}

type Keys = (Secret, Secret, Option<Secret>);

fn credentials(raw: &raw::Backup, to: Span, ctx: &mut Ctx<'_>) -> Option<Keys> {
    let empty = raw::BackupCredentials::default();
    let given = raw.credentials.as_ref().unwrap_or(&empty);
    let at = raw.credentials.as_ref().map_or(to, |credentials| credentials.at.span);
    let access = needed(given.access_key.as_ref(), "AWS_ACCESS_KEY_ID", at, ctx);
    let secret = needed(given.secret_key.as_ref(), "AWS_SECRET_ACCESS_KEY", at, ctx);
    for text in given.secret_key.iter().chain(&given.session_token) {
        check::literal_credential("secret_key", text, ctx);
    }
    let token = match &given.session_token {
        Some(text) => Some(check::text(text, Scope::Global, ctx)?.text),
        // A token belongs to the key it came with.
        None if given.access_key.is_none() => ctx.lookup.var("AWS_SESSION_TOKEN").map(Secret::new),
        None => None,
    };
    let token = token.filter(|token| !token.expose().is_empty());
    Some((access?, secret?, token))
}

/// A key as given, else from the variable that every S3 client looks at.
fn needed(given: Option<&Text>, variable: &str, at: Span, ctx: &mut Ctx<'_>) -> Option<Secret> {
    let Some(text) = given else {
        let usual = Text { value: format!("${{{variable}}}"), span: at, inner: None };
        return expand(&usual, Scope::Global, Control::Refused, ctx).map(|value| value.text);
    };
    let value = check::text(text, Scope::Global, ctx)?;
    if value.expose().is_empty() {
        ctx.error(Code::EmptyValue, text.span, "an empty key", format!("`${{{variable}}}`"));
        return None;
    }
    Some(value.text)
}
