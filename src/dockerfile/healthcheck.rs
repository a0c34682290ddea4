//! `HEALTHCHECK`.

use std::time::Duration;

use super::instruction::{Reading, Takes};
use super::model::{Command, Word};
use super::words::first_word;
use crate::image::Healthcheck;

impl Reading<'_> {
    pub(super) fn healthcheck(&mut self) -> Option<Healthcheck> {
        let (kind, rest) = first_word(&self.line.text, self.args.clone());
        let kind = self.line.word(kind);
        match kind.value.to_ascii_uppercase().as_str() {
            "" => return self.needs("CMD or NONE", "HEALTHCHECK CMD curl -f http://localhost/"),
            "NONE" => {
                self.flags(&[])?;
                if !rest.is_empty() {
                    let span = self.line.span(rest);
                    let help = "leave it out, or write HEALTHCHECK CMD and a command";
                    return self.wrong(&span, "HEALTHCHECK NONE stands alone", "too much", help);
                }
                return Some(Healthcheck {
                    test: vec!["NONE".to_owned()],
                    ..Healthcheck::default()
                });
            }
            "CMD" => {}
            _ => {
                let message = format!("unknown check {}", kind.value);
                let help = "write HEALTHCHECK CMD and a command, or HEALTHCHECK NONE";
                return self.wrong(&kind.span, message, "neither CMD nor NONE", help);
            }
        }
        let flags = self.flags(&[
            ("interval", Takes::Value),
            ("timeout", Takes::Value),
            ("start-period", Takes::Value),
            ("start-interval", Takes::Value),
            ("retries", Takes::Value),
        ]);
        let flags = flags?;
        let before = self.problems.len();
        let mut time = |name: &str| {
            flags
                .value(name)
                .and_then(|word| self.duration(name, &word))
        };
        let times = ["interval", "timeout", "start-period", "start-interval"].map(&mut time);
        let [interval, timeout, start_period, start_interval] = times;
        let retries = flags.value("retries").and_then(|word| {
            let retries = word
                .value
                .parse::<u32>()
                .ok()
                .filter(|count| *count <= i32::MAX as u32);
            if retries.is_none() {
                let message = format!("{:?} is not a number of retries", word.value);
                self.wrong::<()>(&word.span, message, "not a number", "write --retries=3");
            }
            // 0 means the default.
            retries.filter(|count| *count > 0)
        });
        self.args = rest;
        if self.args.is_empty() {
            return self.needs("a command", "HEALTHCHECK CMD curl -f http://localhost/");
        }
        let test = match self.command()? {
            Command::Exec(words) if words.is_empty() => {
                return self.needs("a command", "HEALTHCHECK CMD curl -f http://localhost/");
            }
            Command::Shell(script) => vec!["CMD-SHELL".to_owned(), script.value],
            Command::Exec(words) => {
                let words = words.into_iter().map(|word| word.value);
                ["CMD".to_owned()].into_iter().chain(words).collect()
            }
        };
        (self.problems.len() == before).then_some(Healthcheck {
            test,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        })
    }

    /// A duration as Go has it; 0 means the default.
    fn duration(&mut self, name: &str, word: &Word) -> Option<Duration> {
        let help = || format!("write --{name}=30s; units are ms, s, m and h");
        let Some(time) = go_duration(&word.value) else {
            let message = format!("{:?} is not a duration", word.value);
            return self.wrong(&word.span, message, "not a duration", help());
        };
        if !time.is_zero() && time < Duration::from_millis(1) {
            let message = format!("--{name} is less than 1ms");
            return self.wrong(&word.span, message, "too short", help());
        }
        Some(time).filter(|time| !time.is_zero())
    }
}

/// `1h30m`, `1.5s`, `500ms`, `0`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(unit.unwrap_or(after.len()));
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}
