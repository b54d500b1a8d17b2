//! The last line: which revision this is, and the proof that nothing of it is missing.

use sha2::{Digest as _, Sha256};

use crate::core::id::Revision;
use crate::output::env_file::REVISION;
use crate::policy::model::{Digest, EnvFormat};

/// The start of the last line of a text file.
pub(super) const TRAILER: &str = "# mcp-failover revision=";
/// The last member of a JSON file.
pub(super) const CHECKSUM: &str = "MCP_FAILOVER_SHA256";

/// What a file says about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The revision that it claims to be.
    pub revision: Revision,
    /// Whether its bytes are those that were written; when not, it is torn or was edited.
    pub checksum_ok: bool,
}

/// Why nothing can be said about a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// It does not end the way every file of ours ends.
    #[error("find the revision and checksum that end every file written by mcp-failover")]
    NoTrailer,
}

/// Ends the text: nothing may be added to it afterwards.
pub(super) fn seal(text: &mut Vec<u8>, format: EnvFormat, revision: Revision) {
    let digest = sha256(text);
    let end = match format {
        EnvFormat::Json => format!("  \"{CHECKSUM}\": \"{digest}\"\n}}\n"),
        EnvFormat::Dotenv | EnvFormat::Docker | EnvFormat::Systemd | EnvFormat::Shell => {
            format!("{TRAILER}{revision} sha256={digest}\n")
        }
    };
    text.extend_from_slice(end.as_bytes());
}

/// Tells a whole file from a torn or edited one.
///
/// Line breaks after the end do not count: a file that cannot be replaced in one step is padded
/// with them for a moment.
///
/// # Errors
/// When the file does not end with a revision and a checksum.
pub fn verify(bytes: &[u8]) -> Result<Verified, VerifyError> {
    let text = bytes.trim_ascii_end();
    let last_line = text.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    let found = if last_line == b"}" { in_json(text, last_line) } else { in_text(text, last_line) };
    found.ok_or(VerifyError::NoTrailer)
}

fn in_text(text: &[u8], last_line: &[u8]) -> Option<Verified> {
    let body = text.strip_suffix(last_line)?;
    let line = std::str::from_utf8(last_line).ok()?.strip_prefix(TRAILER)?;
    let (revision, digest) = line.split_once(" sha256=")?;
    Some(Verified {
        revision: Revision::new(revision.parse().ok()?),
        checksum_ok: sha256(body).to_string() == digest,
    })
}

fn in_json(text: &[u8], last_line: &[u8]) -> Option<Verified> {
    let members = text.strip_suffix(last_line)?.strip_suffix(b"\n")?;
    let member = members.rsplit(|&byte| byte == b'\n').next()?;
    let body = members.strip_suffix(member)?;
    let line = std::str::from_utf8(member).ok()?;
    let digest = line.strip_prefix("  \"")?.strip_prefix(CHECKSUM)?;
    let digest = digest.strip_prefix("\": \"")?.strip_suffix('"')?;
    Some(Verified {
        revision: json_revision(text)?,
        checksum_ok: sha256(body).to_string() == digest,
    })
}

fn json_revision(text: &[u8]) -> Option<Revision> {
    let object: serde_json::Value = serde_json::from_slice(text).ok()?;
    Some(Revision::new(object.get(REVISION)?.as_str()?.parse().ok()?))
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
