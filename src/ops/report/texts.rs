//! Texts of steps in a report: parameters and logs, as much of them as there is room for.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::model::LogReport;
use crate::text::{harmless, without_logins};

/// Bytes of all logs together, and of all parameters.
const LOGS: usize = 576 << 10;
const PARAMS: usize = 448 << 10;
/// The most bytes of one parameter, and of one when there is little room left.
const PARAM: usize = 4 << 10;
const SHORT_PARAM: usize = 60;
/// The most parameters of a step when there is little room left.
const FEW_PARAMS: usize = 2;
/// The most letters of a name, and of a line of a log.
const NAME: usize = 160;
const LINE: usize = 400;
/// Parameters that say most about a step come first.
const FIRST: [&str; 8] = [
    "command",
    "script",
    "words",
    "packages",
    "path",
    "destination",
    "content",
    "name",
];

/// How much room is left.
pub(super) struct Room {
    logs: usize,
    params: usize,
}

impl Room {
    pub(super) const fn new() -> Self {
        Self {
            logs: LOGS,
            params: PARAMS,
        }
    }

    /// The parameters of a step, as names and texts.
    pub(super) fn params(&mut self, params: &Value) -> Vec<(String, String)> {
        let mut found = Vec::new();
        flatten("", params, &mut found);
        let place = |name: &str| FIRST.iter().position(|first| *first == name);
        found.sort_by_key(|(name, _)| place(name).unwrap_or(FIRST.len()));
        if self.params == 0 {
            found.truncate(FEW_PARAMS);
        }
        for (name, text) in &mut found {
            let most = if self.params > 0 { PARAM } else { SHORT_PARAM };
            *text = lines(&without_logins(&cut(text, most)));
            self.params = self.params.saturating_sub(text.len() + name.len());
        }
        found
    }

    /// The end of a log: its last lines, at most `most` bytes, and how many lines there were before.
    pub(super) fn log<'l>(
        &mut self,
        printed: impl DoubleEndedIterator<Item = &'l str>,
        before: usize,
        most: usize,
    ) -> LogReport {
        let most = most.min(self.logs);
        let mut kept = VecDeque::new();
        let (mut bytes, mut omitted) = (0, before);
        for line in printed.rev() {
            let line = cut(&harmless(line), LINE);
            bytes += line.len() + 1;
            if bytes > most || omitted > before {
                omitted += 1;
                continue;
            }
            kept.push_front(line);
        }
        let text = Vec::from(kept).join("\n");
        self.logs -= text.len().min(self.logs);
        LogReport {
            text: without_logins(&text),
            omitted,
            ..LogReport::default()
        }
    }
}

/// A name without what could mislead.
pub(super) fn name(text: &str) -> String {
    cut(&harmless(text), NAME)
}

/// The end of a file of at most `most` bytes, and whether there is more before it.
pub(super) fn tail(path: &Path, most: u64) -> Option<(String, bool)> {
    let mut file = File::open(path).ok()?;
    let start = file.metadata().ok()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some((String::from_utf8_lossy(&bytes).into_owned(), start > 0))
}

/// Values by the names on the way to them.
fn flatten(around: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let name = |inner: &str| match around {
        "" => inner.to_owned(),
        around => format!("{around} {inner}"),
    };
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (inner, value) in map {
                flatten(&name(inner), value, found);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            found.push((around.to_owned(), texts.join(" ")));
        }
        Value::String(text) => found.push((around.to_owned(), text.clone())),
        other => found.push((around.to_owned(), other.to_string())),
    }
}

/// The beginning of a text that is too long.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|&end| text.is_char_boundary(end));
    format!("{}…", &text[..end.unwrap_or(0)])
}

/// Several lines, each made harmless.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(harmless).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_as_people_read_them() {
        let params = json!({
            "user": null, "network": true, "command": "echo \u{1b}[2Ja\nb",
            "limits": {"memory": 5}, "from": "https://me:secret@example.org/x", "empty": [],
            "packages": ["a", "b"],
        });
        let found = Room::new().params(&params);
        let found: Vec<String> = found
            .iter()
            .map(|(n, text)| format!("{n}: {text}"))
            .collect();
        let expected = [
            "command: echo a\nb",
            "packages: a b",
            "from: https://example.org/x",
            "limits memory: 5",
            "network: true",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_end_of_a_log_is_kept() {
        let lines = ["one", "two", "\u{1b}[31mthree\u{1b}[0m"];
        let log = Room::new().log(lines.into_iter(), 7, 10);
        assert_eq!((log.text.as_str(), log.omitted), ("two\nthree", 8));
        let mut none = Room { logs: 0, params: 0 };
        assert_eq!(none.log(lines.into_iter(), 0, 100).omitted, 3);
    }
}
