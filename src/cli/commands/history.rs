//! `vmfab history`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use console::Style;

use super::super::Status;
use super::super::options::parse_time;
use super::super::output::{age, count, duration, unicode};
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::builds::{self, Outcome, PastBuild};

/// The most builds in a spark line.
const SPARKS: usize = 40;

/// Show the builds of the last weeks: durations, outcomes, cache rates
///
/// List builds that ended, the last one at the bottom, and for each image how its builds went: a bar
/// for each build, tall if it took long, and one for the part of its steps that did not have to
/// run. Builds that found everything in the store count, too. The layers of an image are shown by
/// vmfab image history.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab history
  vmfab history docker --since 1d
  vmfab history --json | jq '[.[] | select(.outcome == \"failed\")] | length'")]
pub(crate) struct History {
    /// List the builds of this image [default: of all]
    #[arg(value_name = "IMAGE")]
    image: Option<String>,

    /// List builds that began at most TIME ago
    #[arg(long, value_name = "TIME", default_value = "4w", value_parser = parse_time)]
    since: Duration,

    /// List at most N builds; the bars show all of them
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    last: usize,
}

impl History {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let found = builds::history(context, self.since, self.image.as_deref())?;
        session.print(&found, |found| match (session.quiet(), found.is_empty()) {
            (_, true) => String::new(),
            (true, false) => found.iter().map(|one| format!("{}\n", one.id)).collect(),
            (false, false) => {
                let listed = &found[found.len().saturating_sub(self.last)..];
                format!("{}\n{}", table(session, listed), images(found, unicode()))
            }
        })?;
        if found.is_empty() {
            session.note("no build is that recent; --since 1y looks further back");
        }
        Ok(Status::Done)
    }
}

fn table(session: &Session, builds: &[PastBuild]) -> String {
    let mut table = Table::new([
        ("BUILD", Align::Left),
        ("COMMAND", Align::Left),
        ("IMAGE", Align::Left),
        ("OUTCOME", Align::Left),
        ("TIME", Align::Right),
        ("BUILT", Align::Right),
        ("CACHED", Align::Right),
        ("RATE", Align::Right),
        ("STARTED", Align::Left),
    ]);
    for one in builds {
        let (word, style) = match one.outcome {
            Outcome::Done => ("done", Style::new().green()),
            Outcome::Failed => ("failed", Style::new().red()),
            Outcome::Cancelled => ("cancelled", Style::new().yellow()),
            Outcome::Killed => ("killed", Style::new().red()),
        };
        let steps = one.steps.as_ref();
        table.row([
            one.id.to_string(),
            one.command.clone(),
            one.image.clone().unwrap_or_default(),
            session.style(style).apply_to(word).to_string(),
            duration(one.seconds),
            steps.map_or_else(String::new, |steps| steps.built.to_string()),
            steps.map_or_else(String::new, |steps| {
                (steps.cached + steps.remote).to_string()
            }),
            percent(one),
            age(one.started as u64),
        ]);
    }
    table.to_string()
}

fn percent(build: &PastBuild) -> String {
    let rate = build.steps.and_then(|steps| steps.cache_rate());
    rate.map_or_else(String::new, |rate| format!("{:.0} %", rate * 100.0))
}

/// A line for each image: how its builds went.
fn images(builds: &[PastBuild], unicode: bool) -> String {
    let mut images: BTreeMap<&str, Vec<&PastBuild>> = BTreeMap::new();
    for one in builds {
        images
            .entry(one.image.as_deref().unwrap_or(""))
            .or_default()
            .push(one);
    }
    let mut table = Table::new([
        ("IMAGE", Align::Left),
        ("BUILDS", Align::Right),
        ("DONE", Align::Right),
        ("MEDIAN", Align::Right),
        ("TIMES", Align::Left),
        ("RATE", Align::Right),
        ("RATES", Align::Left),
    ]);
    for (image, builds) in images {
        let last = &builds[builds.len().saturating_sub(SPARKS)..];
        let times: Vec<f64> = last.iter().map(|one| one.seconds).collect();
        let rates = last.iter().filter_map(|one| one.steps?.cache_rate());
        let rates: Vec<f64> = rates.collect();
        let done = builds.iter().filter(|one| one.outcome == Outcome::Done);
        let mut sorted: Vec<f64> = builds.iter().map(|one| one.seconds).collect();
        sorted.sort_by(f64::total_cmp);
        let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
        let slowest = times.iter().copied().fold(0.0, f64::max);
        table.row([
            image.to_owned(),
            builds.len().to_string(),
            done.count().to_string(),
            duration(sorted[sorted.len() / 2]),
            spark(&times, slowest, unicode),
            match rates.is_empty() {
                true => String::new(),
                false => format!("{:.0} %", mean * 100.0),
            },
            spark(&rates, 1.0, unicode),
        ]);
    }
    format!("{table}{}\n", count(builds.len(), "build"))
}

/// A bar for each value, from 0 to `most`.
fn spark(values: &[f64], most: f64, unicode: bool) -> String {
    let bars: &[char] = match unicode {
        true => &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
        false => &['_', '.', '-', '=', '+', '*', '%', '#'],
    };
    let bar = |value: &f64| {
        let part = if most > 0.0 { value / most } else { 0.0 };
        bars[((part * bars.len() as f64) as usize).min(bars.len() - 1)]
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::builds::Counts;

    #[test]
    fn a_line_for_each_image() {
        let build = |number: u32, image: &str, seconds: f64, outcome, built: usize| PastBuild {
            id: format!("{number:012x}").parse().unwrap(),
            command: "build".to_owned(),
            image: Some(image.to_owned()),
            started: 0.0,
            seconds,
            outcome,
            steps: (outcome != Outcome::Killed).then_some(Counts {
                built,
                cached: 10 - built,
                ..Counts::default()
            }),
            error: None,
        };
        let builds = [
            build(1, "docker", 41.0, Outcome::Done, 10),
            build(2, "docker", 20.0, Outcome::Failed, 5),
            build(3, "web", 3.0, Outcome::Killed, 0),
            build(4, "docker", 0.01, Outcome::Done, 0),
        ];
        insta::assert_snapshot!(images(&builds, true), @r"
        IMAGE    BUILDS   DONE   MEDIAN   TIMES   RATE   RATES
        docker        3      2   20.0 s   █▄▁     50 %   ▁▅█
        web           1      0    3.0 s   █
        4 builds
        ");
        assert_eq!(spark(&[0.0, 0.5, 1.0], 1.0, false), "_+#");
        assert_eq!(spark(&[0.0], 0.0, true), "▁");
    }
}
