//! Mistakes that the KDL parser finds, passed on with what the writer of the text needs to know.

use std::sync::Arc;

use kdl::{KdlDiagnostic, KdlError};

use super::problem::Problem;
use super::source::{Source, Span};

/// The mistakes of a text that is not KDL 2; `what` says what such texts are: "recipes are".
pub(crate) fn problems(source: &Source, error: KdlError, what: &str) -> Vec<Problem> {
    let mut diagnostics = error.diagnostics;
    // An open brace is reported twice: at the brace, and with all that follows it.
    if diagnostics.len() > 1 && message(&diagnostics[0]).starts_with("No closing '}'") {
        diagnostics.retain(|other| !message(other).starts_with("Closing '}'"));
    }
    diagnostics
        .into_iter()
        .map(|diagnostic| problem(source, diagnostic, what))
        .collect()
}

fn message(diagnostic: &KdlDiagnostic) -> &str {
    diagnostic.message.as_deref().unwrap_or("this is not KDL")
}

fn problem(source: &Source, diagnostic: KdlDiagnostic, what: &str) -> Problem {
    let text = source.inner();
    let end = (diagnostic.span.offset() + diagnostic.span.len()).min(text.len());
    let start = diagnostic.span.offset().min(end);
    // A number with letters behind it is spanned up to the letters.
    let end = end + rest_of_word(text, end);
    let spanned = text.get(start..end).unwrap_or_default();
    // The parser spans all that it read before a wrong word: the last word is what matters.
    let start = if spanned.trim_end().contains('\n') {
        end - last_word(spanned).len()
    } else {
        start
    };
    let span = Span {
        source: Arc::clone(source),
        range: (start, end - start).into(),
    };
    let label = diagnostic.label.clone();
    let label = label.unwrap_or_else(|| "here".to_owned());
    let problem = Problem::new(&span, message(&diagnostic), label);
    match hint(last_word(spanned)) {
        Some(hint) => problem.with_help(hint),
        None => match diagnostic.help {
            Some(help) => problem.with_help(help),
            None => problem.with_help(format!("{what} written in KDL 2: https://kdl.dev")),
        },
    }
}

/// How many bytes of a word follow `end`, when a word goes on there.
fn rest_of_word(text: &str, end: usize) -> usize {
    let (before, after) = text.split_at_checked(end).unwrap_or((text, ""));
    if before.ends_with(char::is_alphanumeric) {
        let word = after.find(|c: char| !c.is_alphanumeric());
        word.unwrap_or(after.len())
    } else {
        0
    }
}

/// The text after the last space or `=`.
fn last_word(text: &str) -> &str {
    let text = text.trim_end();
    let start = text.rfind(|c: char| c.is_whitespace() || c == '=');
    start.map_or(text, |at| {
        let width = text[at..].chars().next().map_or(1, char::len_utf8);
        &text[at + width..]
    })
}

/// What to write instead of words that people often write.
fn hint(word: &str) -> Option<String> {
    match word {
        "true" | "false" | "null" => Some(format!("write #{word}, with the \"#\" of KDL 2")),
        _ => {
            let digit = word.starts_with(|c: char| c.is_ascii_digit());
            let letter = word.contains(|c: char| c.is_ascii_alphabetic());
            (digit && letter && !word.contains('"'))
                .then(|| format!("write it in quotes: \"{word}\""))
        }
    }
}
