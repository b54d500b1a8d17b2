//! Where one assignment of a foreign file ends and the next begins.
//!
//! Knows just enough of each reader's rules never to take the inside of a quoted value for an
//! assignment. Joining the statements gives the file back, byte for byte.

use crate::output::OutputError;
use crate::policy::model::EnvFormat;

/// One assignment, comment or anything else up to its line break.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    /// Its bytes, with the line break.
    pub(super) text: &'a [u8],
    /// The variable, when it assigns one and does nothing else.
    pub(super) name: Option<&'a str>,
    /// Whether `export` stands before the name.
    pub(super) exported: bool,
}

/// Cuts a file into statements.
pub(super) fn statements(
    format: EnvFormat,
    mut text: &[u8],
) -> Result<Vec<Statement<'_>>, OutputError> {
    let mut found = Vec::new();
    while !text.is_empty() {
        let end = match format {
            EnvFormat::Docker | EnvFormat::Json => line_end(text),
            EnvFormat::Dotenv => dotenv_end(text),
            EnvFormat::Systemd => systemd_end(text)?,
            EnvFormat::Shell => shell_end(text)?,
        };
        let (statement, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
        found.push(named(format, statement));
        text = rest;
    }
    Ok(found)
}

fn line_end(text: &[u8]) -> usize {
    text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| at + 1)
}

/// A quoted value may span lines; a quote that is never closed is none.
fn dotenv_end(text: &[u8]) -> usize {
    let Some(value) = value_offset(text).filter(|&value| has_dotenv_key(text, value)) else {
        return line_end(text);
    };
    let rest = text.get(value..).unwrap_or_default();
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let Some((&quote, inside)) = rest.get(blanks..).and_then(<[u8]>::split_first) else {
        return line_end(text);
    };
    if !matches!(quote, b'\'' | b'"' | b'`') {
        return line_end(text);
    }
    let mut escaped = false;
    let closing = inside.iter().position(|&byte| {
        let closes = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    closing.map_or_else(
        || line_end(text),
        |at| {
            let after = value + blanks + 1 + at + 1;
            after + line_end(text.get(after..).unwrap_or_default())
        },
    )
}

/// A comment may hold anything that looks like a value.
fn has_dotenv_key(text: &[u8], value: usize) -> bool {
    let key = text.get(..value - 1).unwrap_or_default();
    let word = |&byte: &u8| byte.is_ascii_alphanumeric() || b"_.- \t\xef\xbb\xbf".contains(&byte);
    key.iter().all(word)
}

fn systemd_end(text: &[u8]) -> Result<usize, OutputError> {
    let comment = matches!(text.trim_ascii_start().first(), Some(b'#' | b';'));
    match value_offset(text) {
        Some(value) if !comment => quoted_end(text, value, false),
        _ => continued_end(text),
    }
}

fn shell_end(text: &[u8]) -> Result<usize, OutputError> {
    quoted_end(text, 0, true)
}

/// The end of a line that a backslash at its end continues.
fn continued_end(text: &[u8]) -> Result<usize, OutputError> {
    let mut end = 0;
    loop {
        let rest = text.get(end..).unwrap_or_default();
        end += line_end(rest);
        let line = text.get(..end).unwrap_or_default();
        if !line.ends_with(b"\\\n") {
            return if line.ends_with(b"\\") { Err(unfinished()) } else { Ok(end) };
        }
        if end == text.len() {
            return Err(unfinished());
        }
    }
}

/// Where the reader of quotes and backslashes stands.
#[derive(Clone, Copy, Eq, PartialEq)]
enum At {
    WordStart,
    Word,
    Single,
    Double,
    Comment,
}

/// The first line break outside quotes. A shell opens quotes anywhere and knows comments;
/// systemd opens them only where a word may start.
fn quoted_end(text: &[u8], from: usize, shell: bool) -> Result<usize, OutputError> {
    let mut at = At::WordStart;
    let mut escaped = false;
    for (offset, &byte) in text.iter().enumerate().skip(from) {
        if std::mem::take(&mut escaped) {
            continue;
        }
        escaped = byte == b'\\' && !matches!(at, At::Single | At::Comment);
        at = match (at, byte) {
            (At::WordStart | At::Word | At::Comment, b'\n') => return Ok(offset + 1),
            (At::WordStart, b'#') if shell => At::Comment,
            (At::WordStart, b'\'') => At::Single,
            (At::WordStart, b'"') => At::Double,
            (At::Word, b'\'') if shell => At::Single,
            (At::Word, b'"') if shell => At::Double,
            (At::Word, b' ' | b'\t') if shell => At::WordStart,
            (At::Single, b'\'') | (At::Double, b'"') if shell => At::Word,
            (At::WordStart, b' ' | b'\t') | (At::Single, b'\'') | (At::Double, b'"') => {
                At::WordStart
            }
            (At::WordStart | At::Word, _) => At::Word,
            (At::Single | At::Double | At::Comment, _) => at,
        };
    }
    let open = escaped || matches!(at, At::Single | At::Double);
    if open { Err(unfinished()) } else { Ok(text.len()) }
}

const fn unfinished() -> OutputError {
    OutputError::Foreign { why: "it ends within a quoted or continued line" }
}

/// Where the value begins, when the first line has the shape of an assignment.
fn value_offset(text: &[u8]) -> Option<usize> {
    let line = text.get(..line_end(text))?;
    line.iter().position(|&byte| byte == b'=').map(|at| at + 1)
}

fn named(format: EnvFormat, text: &[u8]) -> Statement<'_> {
    let foreign = Statement { text, name: None, exported: false };
    let Ok(line) = std::str::from_utf8(text) else { return foreign };
    let line = line.trim_start_matches('\u{feff}').trim_start();
    let may_export = matches!(format, EnvFormat::Dotenv | EnvFormat::Shell);
    let bare = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let (line, exported) = match bare {
        Some(rest) if may_export => (rest.trim_start_matches([' ', '\t']), true),
        _ => (line, false),
    };
    let Some((name, value)) = line.split_once('=') else { return foreign };
    let spaced = matches!(format, EnvFormat::Dotenv | EnvFormat::Systemd);
    let name = if spaced { name.trim_end_matches([' ', '\t']) } else { name };
    let word = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !word || (format == EnvFormat::Shell && does_more(value)) {
        return foreign;
    }
    Statement { text, name: Some(name), exported }
}

/// Whether a shell line goes on after its first word: another assignment, or a command.
fn does_more(value: &str) -> bool {
    let mut quote = None;
    let mut escaped = false;
    for (offset, c) in value.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        escaped = c == '\\' && quote != Some('\'');
        match quote {
            Some(open) => quote = (open != c).then_some(open),
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() || ";&|".contains(c) => {
                let rest = value.get(offset..).unwrap_or_default().trim_start();
                return !rest.is_empty() && !rest.starts_with('#');
            }
            None => {}
        }
    }
    false
}
