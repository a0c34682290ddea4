//! Recipe errors: the source line with what is wrong underlined, or the same as JSON.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, ThemeCharacters, ThemeStyles};
use serde::Serialize;

/// The JSON form of a diagnostic. Lines and columns count from 1, columns in characters.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Json {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    spans: Vec<Span>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Related>,
}

/// A place in the source.
#[derive(Debug, PartialEq, Serialize)]
struct Span {
    label: Option<String>,
    /// In bytes from the beginning of the file.
    offset: usize,
    /// In bytes.
    length: usize,
    line: Option<usize>,
    column: Option<usize>,
}

/// Another error of the same file.
#[derive(Debug, PartialEq, Serialize)]
struct Related {
    message: String,
    #[serde(flatten)]
    inner: Json,
}

/// The JSON form of `diagnostic`.
pub(super) fn to_json(diagnostic: &dyn Diagnostic) -> Json {
    in_source(diagnostic, diagnostic.source_code())
}

fn in_source(diagnostic: &dyn Diagnostic, source: Option<&dyn miette::SourceCode>) -> Json {
    let source = diagnostic.source_code().or(source);
    let mut file = None;
    let spans: Vec<Span> = diagnostic
        .labels()
        .into_iter()
        .flatten()
        .map(|label| {
            let place = source.and_then(|source| source.read_span(label.inner(), 0, 0).ok());
            if file.is_none() {
                file = place
                    .as_ref()
                    .and_then(|place| place.name().map(str::to_owned));
            }
            Span {
                label: label.label().map(str::to_owned),
                offset: label.offset(),
                length: label.len(),
                line: place.as_ref().map(|place| place.line() + 1),
                column: place.as_ref().map(|place| place.column() + 1),
            }
        })
        .collect();
    let related = diagnostic.related().into_iter().flatten();
    Json {
        code: diagnostic.code().map(|code| code.to_string()),
        file,
        line: spans.first().and_then(|span| span.line),
        column: spans.first().and_then(|span| span.column),
        spans,
        related: related
            .map(|other| Related {
                message: other.to_string(),
                inner: in_source(other, source),
            })
            .collect(),
    }
}

/// The text form: message, source, labels, help.
pub(super) fn to_text(diagnostic: &dyn Diagnostic, color: bool, width: usize) -> String {
    let theme = GraphicalTheme {
        characters: ThemeCharacters {
            error: "error:".into(),
            warning: "warning:".into(),
            ..if unicode() {
                ThemeCharacters::unicode()
            } else {
                ThemeCharacters::ascii()
            }
        },
        styles: if color {
            ThemeStyles::ansi()
        } else {
            ThemeStyles::none()
        },
    };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_links(false);
    match handler.render_report(&mut text, diagnostic) {
        Ok(()) => text,
        Err(_) => format!("error: {diagnostic}\n"),
    }
}

/// Whether the locale's character set is UTF-8.
pub(super) fn unicode() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .is_some_and(|value| {
            let value = value.to_ascii_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        })
}
