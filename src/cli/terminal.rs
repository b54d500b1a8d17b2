//! The one door to the terminal.
//!
//! Owns standard output and standard error, and whether each of them takes colour. Knows nothing
//! of what is printed.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::cli::failure::Failure;

/// Where the output goes, and in which dress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Whether standard output takes colour.
    colour: bool,
    /// Whether standard error takes colour.
    error_colour: bool,
    /// Whether a person reads standard output.
    interactive: bool,
    /// Whether a person reads standard error, so that progress makes sense there.
    progress: bool,
}

/// What a piece of text means, from which follows how it looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Tone {
    /// As it comes.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Look at it some time.
    Warn,
    /// Look at it now.
    Bad,
    /// Context, not message.
    Quiet,
    /// A heading.
    Strong,
    /// A name or address to pick out.
    Accent,
}

impl Tone {
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Quiet => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
            Self::Accent => AnsiColor::Cyan.on_default(),
        }
    }
}

impl Terminal {
    /// Looks at the standard streams and at `NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR` and `TERM`.
    pub(crate) fn detect() -> Self {
        Self {
            colour: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            error_colour: AutoStream::choice(&io::stderr()) != ColorChoice::Never,
            interactive: io::stdout().is_terminal(),
            progress: io::stderr().is_terminal(),
        }
    }

    /// A terminal for tests: no colour, nobody watching.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { colour: false, error_colour: false, interactive: false, progress: false }
    }

    /// Whether a person reads standard output.
    pub(crate) const fn interactive(self) -> bool {
        self.interactive
    }

    /// Whether standard error takes colour.
    pub(crate) const fn error_colour(self) -> bool {
        self.error_colour
    }

    /// Columns of the terminal behind standard output; `None` when it is not one.
    pub(crate) fn columns(self) -> Option<usize> {
        if !self.interactive {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        (size.ws_col > 0).then(|| usize::from(size.ws_col))
    }

    /// The text in its tone, for standard output.
    pub(crate) fn paint(self, tone: Tone, text: impl fmt::Display) -> String {
        dress(self.colour, tone, text)
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// When standard output does not take it.
    #[expect(clippy::unused_self, reason = "who writes has been given the terminal")]
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::Output)
    }

    /// Writes one JSON document, indented.
    ///
    /// # Errors
    /// When standard output does not take it.
    pub(crate) fn print_json(self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document).map_err(Failure::Encode)?;
        self.print(&format!("{text}\n"))
    }

    /// Writes one JSON document on a line of its own.
    ///
    /// # Errors
    /// When standard output does not take it.
    pub(crate) fn print_json_line(self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document).map_err(Failure::Encode)?;
        self.print(&format!("{text}\n"))
    }

    /// Says something beside the answer. Whether anybody hears it changes nothing.
    #[expect(clippy::unused_self, reason = "who writes has been given the terminal")]
    pub(crate) fn say(self, text: &str) {
        drop(io::stderr().lock().write_all(text.as_bytes()));
    }

    /// Says a warning beside the answer.
    pub(crate) fn warn(self, text: &str) {
        self.say(&format!("{}: {text}\n", dress(self.error_colour, Tone::Warn, "warning")));
    }

    /// The text in its tone, for standard error.
    pub(crate) fn paint_beside(self, tone: Tone, text: impl fmt::Display) -> String {
        dress(self.error_colour, tone, text)
    }

    /// The text, cut so that it stays on one line of the terminal behind standard error.
    pub(crate) fn fitting(self, text: &str) -> String {
        if !self.progress {
            return text.to_owned();
        }
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
        let columns = size.map_or(80, |size| usize::from(size.ws_col.max(20)));
        crate::cli::table::cut(text, columns.saturating_sub(1))
    }

    /// Replaces the progress line; silent when nobody watches.
    pub(crate) fn progress(self, text: &str) {
        if self.progress {
            self.say(&format!("\r\x1b[2K{}", dress(self.error_colour, Tone::Quiet, text)));
        }
    }

    /// Says why the command failed, and what a person can do.
    pub(crate) fn report(self, failure: &Failure) {
        let error = dress(self.error_colour, Tone::Bad, "error");
        let mut text = format!("{error}: failed to {}\n", failure.chain());
        if let Some(help) = failure.help() {
            let label = dress(self.error_colour, Tone::Accent, "help");
            text = format!("{text} {label}: {help}\n");
        }
        self.say(&text);
    }
}

fn dress(colour: bool, tone: Tone, text: impl fmt::Display) -> String {
    let style = tone.style();
    if colour && tone != Tone::Plain { format!("{style}{text}{style:#}") } else { text.to_string() }
}
