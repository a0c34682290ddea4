//! Standard output: text for people or JSON for programs, and the end of a reader who has enough.

use super::error::standard_output;
use crate::failure::Failure;
pub(super) use crate::text::harmless as clean;
use crate::text::is_harmful;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

/// Writes `text` to standard output. A reader who is gone (`| head`) ends the command quietly.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| standard_output(&error))
}

/// Writes `value` as indented JSON.
pub(super) fn write_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    write_text(ascii_controls(
        serde_json::to_string_pretty(value).map_err(not_json)?,
    ))
}

/// Writes `value` as one line of JSON, one of several.
pub(super) fn write_json_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    write_text(ascii_controls(
        serde_json::to_string(value).map_err(not_json)?,
    ))
}

/// Writes `value` as one line of JSON, the last one of a stream of events.
pub(super) fn write_result_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    #[derive(Serialize)]
    #[serde(tag = "event", rename_all = "kebab-case")]
    enum Last<'a, T> {
        Result(&'a T),
    }
    /// A list has no fields among which the event could be.
    #[derive(Serialize)]
    #[serde(tag = "event", rename_all = "kebab-case")]
    enum LastOfSeveral<'a, T> {
        Result { results: &'a T },
    }
    let line = serde_json::to_string(&Last::Result(value));
    let line = line.or_else(|_| serde_json::to_string(&LastOfSeveral::Result { results: value }));
    write_text(ascii_controls(line.map_err(not_json)?))
}

fn not_json(error: serde_json::Error) -> Failure {
    Failure::failed(format!("the result cannot be written as JSON: {error}"))
}

/// Writes `text`, with a line end when it has none.
pub(super) fn write_text(text: impl Display) -> Result<(), Failure> {
    let mut text = text.to_string();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    write(&text)
}

/// A size in bytes for people: `512 B`, `1.2 GiB`, `10 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A time in seconds for people: `12 ms`, `7.1 s`, `2 min 5 s`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
        match hours {
            0 => format!("{minutes} min {seconds} s"),
            _ => format!("{hours} h {minutes} min"),
        }
    }
}

/// How long ago a time was, in its largest unit: `2 hours ago`. The time is in seconds since 1970.
pub(super) fn age(time: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    elapsed(now.map_or(0, |now| now.as_secs().saturating_sub(time)))
}

fn elapsed(seconds: u64) -> String {
    const DAY: u64 = 24 * 60 * 60;
    const UNITS: [(u64, &str); 5] = [
        (365 * DAY, "year"),
        (30 * DAY, "month"),
        (DAY, "day"),
        (60 * 60, "hour"),
        (60, "minute"),
    ];
    match UNITS.iter().find(|(length, _)| seconds >= *length) {
        None => "just now".to_owned(),
        Some((length, noun)) => format!("{} ago", count((seconds / length) as usize, noun)),
    }
}

/// `1 step`, `2 steps`.
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// What a command prints for people: names in it may be those of others, so nothing but the styles
/// of this program reaches a terminal.
pub(super) fn printable(text: &str, styled: bool) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_harmful) {
        done.push_str(&rest[..at]);
        rest = &rest[at..];
        let style = STYLES
            .iter()
            .find(|style| styled && rest.starts_with(**style));
        let first = rest.chars().next().unwrap_or_default();
        match (style, first) {
            (Some(style), _) => done.push_str(style),
            (None, '\n' | '\t') => done.push(first),
            (None, _) => done.push('\u{fffd}'),
        }
        rest = &rest[style.map_or(first.len_utf8(), |style| style.len())..];
    }
    done + rest
}

/// The styles of what commands print: bold, dim, red, green, yellow and cyan, and their end.
const STYLES: [&str; 7] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[2m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[36m",
];

/// JSON in which the control characters that it takes as they are (from U+007F on) are escaped too.
pub(super) fn ascii_controls(json: String) -> String {
    if !json.contains(|c| is_harmful(c) && c > '\u{7e}') {
        return json;
    }
    let mut done = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            _ if is_harmful(c) && c > '\u{7e}' => done += &format!("\\u{:04x}", u32::from(c)),
            _ => done.push(c),
        }
    }
    done
}

/// Text that others may have written, of several lines, without what could move the cursor or
/// change colours.
pub(super) fn clean_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(clean).collect();
    lines.join("\n")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_people() {
        let times = [0.0, 0.0124, 0.9996, 7.12, 99.9, 125.0, 3600.0 * 2.5];
        let texts = times.map(duration).join(", ");
        assert_eq!(
            texts,
            "0 ms, 12 ms, 1.0 s, 7.1 s, 99.9 s, 2 min 5 s, 2 h 30 min"
        );
    }

    #[test]
    fn only_own_styles_reach_a_terminal() {
        let text =
            "\u{1b}[32mok\u{1b}[0m\ta\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}2Jb\u{202e}c\n\r\u{1b}[8md";
        let shown = "\u{1b}[32mok\u{1b}[0m\ta\u{fffd}[2J\u{fffd}]0;x\u{fffd}\u{fffd}2Jb\u{fffd}c\n\u{fffd}\u{fffd}[8md";
        assert_eq!(printable(text, true), shown);
        assert!(!printable(text, false).contains('\u{1b}'));
        let json = serde_json::to_string("a\u{9b}2J\u{7f}\u{202e}\u{e9}").unwrap();
        let escaped = ascii_controls(json);
        assert_eq!(escaped, "\"a\\u009b2J\\u007f\\u202e\u{e9}\"");
        assert_eq!(
            serde_json::from_str::<String>(&escaped).unwrap(),
            "a\u{9b}2J\u{7f}\u{202e}\u{e9}"
        );
    }

    #[test]
    fn sizes_for_people() {
        let sizes = [
            0,
            1023,
            1024,
            1288,
            1 << 20,
            (1 << 30) - 1,
            10 << 30,
            u64::MAX,
        ]
        .map(size)
        .join(", ");
        assert_eq!(
            sizes,
            "0 B, 1023 B, 1.0 KiB, 1.3 KiB, 1.0 MiB, 1.0 GiB, 10 GiB, 16 EiB"
        );
    }
}
