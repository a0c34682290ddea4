//! Pages for browsers: what commands print, for people who look.

mod diff;
mod tree;

use std::path::Path;

use super::output::{count, size};
use super::session::Session;
use crate::failure::Failure;
use crate::html::{Html, Page};
use crate::ops::page_file;

pub(super) use diff::diff_page;
pub(super) use tree::tree_page;

/// Writes a page; see [`page_file::write`].
pub(super) fn write(session: &Session, path: &Path, page: &Page) -> Result<(), Failure> {
    page_file::write(path, &page.render())?;
    session.note(&format!("wrote {}", path.display()));
    Ok(())
}

/// What the page does not say, and why.
fn notes(html: &mut Html, notes: &[String]) {
    for note in notes {
        html.markup("<p class=\"warn\">")
            .text(note)
            .markup("</p>\n");
    }
}

/// A table whose first columns are numbers.
fn table<'a>(
    html: &mut Html,
    numbers: usize,
    heads: &[&'static str],
    rows: impl IntoIterator<Item = Vec<String>> + 'a,
) {
    let class = |column: usize| if column < numbers { "number" } else { "" };
    html.markup("<div class=\"scroll\"><table><thead><tr>");
    for (column, head) in heads.iter().enumerate() {
        html.open("th", &[("class", &class(column))])
            .text(head)
            .close("th");
    }
    html.markup("</tr></thead><tbody>\n");
    for row in rows {
        html.markup("<tr>");
        for (column, cell) in row.iter().enumerate() {
            html.open("td", &[("class", &class(column))])
                .text(cell)
                .close("td");
        }
        html.markup("</tr>\n");
    }
    html.markup("</tbody></table></div>\n");
}

/// `12 MiB`, with a sign.
pub(super) fn change(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        std::cmp::Ordering::Equal => "0 B".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", size(after - before)),
        std::cmp::Ordering::Less => format!("-{}", size(before - after)),
    }
}
