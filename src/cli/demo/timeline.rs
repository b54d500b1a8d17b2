//! The timeline: lines that stay, and below them one that lives.

use std::fmt::Display;

use tokio::time::Instant;

use crate::cli::failure::Failure;
use crate::cli::table::cut;
use crate::cli::terminal::{Terminal, Tone};

/// Width of the column that says what a line is about.
const WHAT: usize = 9;
/// Where the text of a line begins.
const INDENT: usize = 8 + 2 + WHAT + 1;

/// What has happened, in the order in which it was seen.
#[derive(Debug)]
pub(super) struct Timeline {
    terminal: Terminal,
    start: Instant,
    live: String,
}

impl Timeline {
    /// An empty one that begins now.
    pub(super) fn new(terminal: Terminal) -> Self {
        Self { terminal, start: Instant::now(), live: String::new() }
    }

    /// How it is dressed.
    pub(super) const fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// Adds a line of its own form.
    pub(super) fn plain(&mut self, text: &str) -> Result<(), Failure> {
        let erase = if self.terminal.interactive() { "\r\x1b[2K" } else { "" };
        let live = if self.terminal.interactive() { &*self.live } else { "" };
        self.terminal.print(&format!("{erase}{text}\n{live}"))
    }

    /// Adds a line: what it is about, and what happened.
    pub(super) fn line(
        &mut self,
        tone: Tone,
        what: &str,
        text: impl Display,
    ) -> Result<(), Failure> {
        let at = format!("{:>7.2}s", self.start.elapsed().as_secs_f64());
        let at = self.terminal.paint(Tone::Quiet, at);
        let what = self.terminal.paint(tone, format!("{what:<WHAT$}"));
        self.plain(&format!("{at}  {what} {text}"))
    }

    /// Adds a line that goes on where the one before ended.
    pub(super) fn more(&mut self, text: impl Display) -> Result<(), Failure> {
        self.plain(&format!("{:INDENT$}{text}", ""))
    }

    /// Adds text that goes on where the line before ended, over as many lines as it takes.
    pub(super) fn aside(&mut self, tone: Tone, text: &str) -> Result<(), Failure> {
        let columns = self.terminal.columns().unwrap_or(usize::MAX);
        let room = columns.saturating_sub(INDENT + 1).max(20);
        for line in wrap(text, room) {
            let line = self.terminal.paint(tone, line);
            self.more(line)?;
        }
        Ok(())
    }

    /// Replaces the line that lives, cut at the terminal's width; nothing where nobody watches.
    pub(super) fn live(&mut self, parts: &[(Tone, String)]) -> Result<(), Failure> {
        // One column stays free, since some terminals wrap when the last one is filled.
        let Some(mut room) = self.terminal.columns().map(|columns| columns.saturating_sub(1))
        else {
            return Ok(());
        };
        let mut text = String::new();
        for (tone, part) in parts {
            let part = cut(part, room);
            room -= part.chars().count();
            text.push_str(&self.terminal.paint(*tone, part));
        }
        if text == self.live {
            return Ok(());
        }
        self.live = text;
        self.terminal.print(&format!("\r\x1b[2K{}", self.live))
    }

    /// Takes the living line away for good.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        self.live(&[])
    }
}

/// Breaks a text between words so that no line is longer than `room`, if its words allow.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one incomprehensible", 7), ["one", "incomprehensible"]);
        assert!(wrap("", 7).is_empty());
    }
}
