//! Tables for people: aligned columns of plain text, dressed last.
//!
//! Widths are counted in characters before any colour is added, so colour never breaks a column.

use crate::cli::terminal::{Terminal, Tone};

/// A number with what is counted, in the singular where it is one.
pub(crate) fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// One field of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field in a tone.
    pub(crate) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }

    /// A field that says nothing.
    pub(crate) fn none() -> Self {
        Self::new(Tone::Quiet, "-")
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// Space between columns.
const GAP: &str = "  ";

impl Table {
    /// An empty table.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Appends a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The text, cut at the terminal's width where there is a terminal.
    pub(crate) fn render(&self, terminal: Terminal) -> String {
        let header: Vec<Cell> =
            self.header.iter().map(|title| Cell::new(Tone::Quiet, *title)).collect();
        let widths = self.widths();
        let limit = terminal.columns().unwrap_or(usize::MAX);
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            text.push_str(&line(row, &widths, limit, terminal));
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|title| title.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }
}

fn line(row: &[Cell], widths: &[usize], limit: usize, terminal: Terminal) -> String {
    let mut text = String::new();
    let mut used = 0;
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        let gap = if index == 0 { "" } else { GAP };
        let room = limit.saturating_sub(used + gap.len());
        if room == 0 {
            break;
        }
        let last = index + 1 == row.len();
        let pad = if last { 0 } else { width.saturating_sub(cell.width()).min(room) };
        let shown = cut(&cell.text, room);
        used += gap.len() + shown.chars().count() + pad;
        text.push_str(gap);
        text.push_str(&terminal.paint(cell.tone, shown));
        text.push_str(&" ".repeat(pad));
    }
    format!("{}\n", text.trim_end())
}

/// The text if it fits, else its beginning and an ellipsis.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('\u{2026}');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_field() {
        let mut table = Table::new(&["NAME", "STATE", "WHY"]);
        table.row(vec!["a".into(), "healthy".into(), Cell::none()]);
        table.row(vec!["longer".into(), "up".into(), "because".into()]);
        let text = table.render(Terminal::plain());
        assert_eq!(text, "NAME    STATE    WHY\na       healthy  -\nlonger  up       because\n");
    }

    #[test]
    fn a_line_never_exceeds_the_limit() {
        let row: Vec<Cell> = vec!["abcdef".into(), "ghijkl".into()];
        let text = line(&row, &[6, 6], 11, Terminal::plain());
        assert_eq!(text, "abcdef  gh\u{2026}\n");
        let text = line(&row, &[6, 6], 4, Terminal::plain());
        assert_eq!(text, "abc\u{2026}\n");
    }
}
