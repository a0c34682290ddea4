//! Recipe errors: the source line with what is wrong underlined, or the same as JSON.

use std::error::Error;
use std::fmt;

use console::Style;
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode,
    ThemeCharacters, ThemeStyles,
};
use serde::Serialize;

use super::super::output::{clean_lines, unicode};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
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
    let related: Vec<Related> = diagnostic
        .related()
        .into_iter()
        .flatten()
        .map(|other| Related {
            message: other.to_string(),
            help: other.help().map(|help| help.to_string()),
            inner: in_source(other, source),
        })
        .collect();
    // Several mistakes are shown at the place of the first.
    let first = related.first().map(|first| &first.inner);
    let place = spans
        .first()
        .or(first.and_then(|first| first.spans.first()));
    Json {
        code: diagnostic.code().map(|code| code.to_string()),
        file: file.or_else(|| first.and_then(|first| first.file.clone())),
        line: place.and_then(|span| span.line),
        column: place.and_then(|span| span.column),
        spans,
        related,
    }
}

/// The text form: message, source, labels, help. Several mistakes come one after the other, with
/// their common message last.
pub(in crate::cli) fn to_text(diagnostic: &dyn Diagnostic, color: bool, width: usize) -> String {
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
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_links(false);
    let render = |one: &dyn Diagnostic| {
        let mut text = String::new();
        let one = Clean(one);
        match handler.render_report(&mut text, &one) {
            // Other errors begin at the first column, too.
            Ok(()) => text.strip_prefix("  ").unwrap_or(&text).to_owned(),
            Err(_) => format!("error: {one}\n"),
        }
    };
    let mut texts: Vec<String> = diagnostic
        .related()
        .into_iter()
        .flatten()
        .map(render)
        .collect();
    if texts.is_empty() {
        return render(diagnostic);
    }
    let error = Style::new().red().force_styling(color).apply_to("error:");
    texts.push(format!("{error} {}\n", Clean(diagnostic)));
    texts.join("\n")
}

/// A diagnostic without what could move the cursor: messages, help and labels may have words of
/// others in them.
#[derive(Debug)]
struct Clean<'a>(&'a dyn Diagnostic);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clean_lines(&self.0.to_string()))
    }
}

impl Error for Clean<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl Diagnostic for Clean<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.code()
    }

    fn severity(&self) -> Option<Severity> {
        self.0.severity()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = clean_lines(&self.0.help()?.to_string());
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.0.labels()?.map(|mut label| {
            label.set_label(label.label().map(clean_lines));
            label
        });
        Some(Box::new(labels))
    }
}
