//! Tables for people: columns aligned by display width, no borders, headers in capitals.

use std::fmt;

/// Between two columns.
const GAP: &str = "   ";

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table that is complete before it is printed.
#[derive(Debug, Clone)]
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns, and no rows yet.
    pub(super) fn new(columns: impl IntoIterator<Item = (&'static str, Align)>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells stay empty.
    pub(super) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether it has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.columns.iter().map(|(name, _)| (*name).to_owned());
        let header: Vec<String> = names.collect();
        let lines = || std::iter::once(&header).chain(&self.rows);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                lines()
                    .map(|row| width(cell(row, column)))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in lines() {
            let mut line = String::new();
            for (column, (_, align)) in self.columns.iter().enumerate() {
                let text = cell(row, column);
                let fill = " ".repeat(widths[column] - width(text));
                if column > 0 {
                    line.push_str(GAP);
                }
                match align {
                    Align::Left => line.extend([text, &fill]),
                    Align::Right => line.extend([&fill, text]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn cell(row: &[String], column: usize) -> &str {
    row.get(column).map_or("", String::as_str)
}

fn width(text: &str) -> usize {
    // Long tables consist of such text.
    match text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => text.len(),
        false => console::measure_text_width(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new([
            ("TAG", Align::Left),
            ("SIZE", Align::Right),
            ("NAME", Align::Left),
        ]);
        table.row(["@docker", "1.2 GiB", "\u{1b}[1mdocker\u{1b}[0m"]);
        table.row(["@日本", "9 B"]);
        assert_eq!(
            console::strip_ansi_codes(&table.to_string()),
            "TAG          SIZE   NAME\n\
             @docker   1.2 GiB   docker\n\
             @日本         9 B\n"
        );
    }
}
