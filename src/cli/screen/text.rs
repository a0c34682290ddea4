//! Texts in cells.

use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::super::output::clean;

/// How far tabulators go.
const TABULATOR: usize = 8;

/// How many cells a text takes.
pub(in crate::cli) fn width(text: &str) -> usize {
    text.width()
}

/// See [`Look::plain`](super::Look::plain).
pub(super) fn plain(line: &str, unicode: bool) -> String {
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return line.to_owned();
    }
    let mut cells = String::with_capacity(line.len());
    let mut column = 0;
    for part in line.split_inclusive('\t') {
        for c in clean(part.trim_end_matches('\t')).chars() {
            // What has no width changes its neighbours, and terminals differ in how.
            let width = c.width().unwrap_or_default();
            if width > 0 {
                cells.push(if unicode || c.is_ascii() { c } else { '?' });
                column += if unicode { width } else { 1 };
            }
        }
        if part.ends_with('\t') {
            let blanks = TABULATOR - column % TABULATOR;
            cells.extend(std::iter::repeat_n(' ', blanks));
            column += blanks;
        }
    }
    cells
}

/// A text in lines of so many cells.
pub(in crate::cli) fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let (line, more) = split(rest, width)
        && !more.is_empty()
    {
        lines.push(line);
        rest = more;
    }
    lines.push(rest);
    lines
}

/// As much of a text as fits.
pub(in crate::cli) fn fitting(text: &str, width: usize) -> &str {
    split(text, width).0
}

/// Splits a text behind as much as fits, and behind a character at least.
fn split(text: &str, width: usize) -> (&str, &str) {
    let mut taken = 0;
    let end = text.char_indices().find(|(at, c)| {
        taken += c.width().unwrap_or_default();
        taken > width && *at > 0
    });
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

/// Keys and what they do, as many as fit; the first ones are the most important.
pub(in crate::cli) fn bottom_line<'a>(
    hints: &[(&'a str, &'a str)],
    right: &'a str,
    cells: usize,
) -> Line<'a> {
    let mut left = cells.saturating_sub(width(right));
    let mut spans = Vec::new();
    for (key, action) in hints {
        let needed = width(key) + width(action) + 3;
        if needed > left {
            break;
        }
        left -= needed;
        spans.push(Span::styled(*key, Modifier::BOLD));
        spans.push(Span::raw(format!(" {action}  ")));
    }
    spans.push(Span::raw(" ".repeat(left)));
    spans.push(Span::raw(right));
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fills_cells_remains() {
        let plain = |line| plain(line, true);
        assert_eq!(plain("a line"), "a line");
        assert_eq!(plain("a\tb\t\tc"), "a       b               c");
        assert_eq!(plain("日本\tc"), "日本    c");
        assert_eq!(plain("\u{1b}]0;title\u{7}\u{1b}[2Jx\u{9b}3m"), "x");
        assert_eq!(plain("x\u{202e}y\u{200d}z\u{feff}e\u{301}"), "x yze");
        assert_eq!(super::plain("é日x", false), "??x");
    }

    #[test]
    fn lines_are_wrapped_by_cells() {
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("abcdefg", 3), ["abc", "def", "g"]);
        assert_eq!(wrap("日本語", 5), ["日本", "語"]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
        assert_eq!(fitting("日本", 3), "日");
    }

    #[test]
    fn the_first_hints_stay() {
        let hints = [("q", "quit"), ("?", "help"), ("x", "stop")];
        let line = |cells| bottom_line(&hints, "1/2", cells).to_string();
        assert_eq!(line(30), "q quit  ? help  x stop     1/2");
        assert_eq!(line(20), "q quit  ? help   1/2");
    }
}
