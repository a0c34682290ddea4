//! A build as a page: what ran and why, what it waited for, what it made. One file that needs
//! nothing else, with the page's program and style in it (`page`).
//!
//! All of it comes from the record of the build (`builds`), the records of what went into its graphs
//! (`build_record`) and, as far as they are still there, the objects that it made.

mod log;
mod model;
mod page;
mod sizes;
mod texts;
mod timeline;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use model::{
    GraphReport, LogReport, PackagesReport, PartReport, Report, StepReport, StepState, WhatIf,
};

use super::Context;
use super::build_record::{BEFORE, INPUTS, Record, RecordedStep, of_graph};
use super::builds::{Counts, Kept, kept};
use super::page_file;
use super::picture::layout;
use super::reason::{Last, Reason, reasons};
use crate::checked::BuildId;
use crate::derivation::{Listing, step};
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::store::Store;
use log::{Logged, LoggedStep};
use texts::Room;

/// The most bytes of the log of a step that failed, of a check, and of another step.
const FAILED_LOG: usize = 64 << 10;
const CHECK_LOG: usize = 16 << 10;
const OTHER_LOG: usize = 2 << 10;
/// The most reasons of a step.
const REASONS: usize = 8;
/// A report that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    pub build: BuildId,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Writes the report of a build to `path`; to `IMAGE-BUILD.html` when there is none.
///
/// # Errors
/// See [`page_file::write`].
pub fn write(report: &Report, path: Option<&Path>) -> Result<Written, Failure> {
    let image = report.graphs.last().map_or("build", |graph| &graph.image);
    let letters = image
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let name = format!("{}-{}.html", letters.collect::<String>(), report.build);
    let path = path.map_or_else(|| name.into(), Path::to_path_buf);
    let page = page::page(report);
    page_file::write(&path, &page)?;
    Ok(Written {
        build: report.build.clone(),
        bytes: page.len() as u64,
        path,
    })
}

/// The build whose id begins with `id`, or the one that began last.
///
/// # Errors
/// There is no such build, or its log cannot be read.
pub fn report(context: &Context, id: Option<&str>) -> Result<Report, Failure> {
    let kept = kept(context, id)?;
    let store = context.store().ok();
    let state = &kept.state;
    let ended = state.ended.as_ref();
    let until = ended.map_or(state.updated, |ended| ended.time);
    let mut report = Report {
        version: 1,
        build: state.id.clone(),
        command: state.command.clone(),
        started: state.started,
        seconds: (until - state.started).max(0.0),
        outcome: state.word(),
        error: ended.and_then(|ended| ended.error.clone()),
        graphs: Vec::new(),
        notes: Vec::new(),
    };
    let mut room = Room::new();
    for (number, logged) in log::read(&kept.log)?.into_iter().enumerate() {
        let nothing_ran =
            logged.plan.is_none() && logged.steps.iter().all(|step| step.time.is_none());
        if nothing_ran && !report.graphs.is_empty() {
            continue;
        }
        let graph = Gathered::new(&kept, number, logged, store.as_ref(), context.home.log());
        report
            .graphs
            .push(graph.graph(&mut report.notes, &mut room));
    }
    if ended.is_some() {
        report.graphs.iter_mut().for_each(stop);
    }
    report.notes.sort();
    report.notes.dedup();
    Ok(report)
}

/// Nothing runs after the end.
fn stop(graph: &mut GraphReport) {
    for step in &mut graph.steps {
        match step.state {
            StepState::Running => step.state = StepState::Stopped,
            StepState::Pending => step.state = StepState::Skipped,
            _ => {}
        }
    }
}

/// All that is known of a graph.
struct Gathered<'g> {
    logged: Logged,
    /// What went into it and came out of it.
    inputs: Record,
    before: Option<Record>,
    store: Option<&'g Store>,
    /// Where the logs of steps are.
    log_directory: PathBuf,
    /// Milliseconds that the build has taken.
    until: u64,
}

impl<'g> Gathered<'g> {
    fn new(
        kept: &Kept,
        number: usize,
        logged: Logged,
        store: Option<&'g Store>,
        log_directory: PathBuf,
    ) -> Self {
        let files = kept.of_graph(number);
        let until = (kept.state.updated - kept.state.started).max(0.0) * 1000.0;
        Self {
            logged,
            inputs: of_graph(&files, INPUTS).unwrap_or_default(),
            before: of_graph(&files, BEFORE),
            store,
            log_directory,
            until: until as u64,
        }
    }

    fn graph(mut self, notes: &mut Vec<String>, room: &mut Room) -> GraphReport {
        let plan = self.logged.plan.take().unwrap_or_default();
        let count = plan.len().max(self.logged.steps.len());
        self.logged.steps.resize_with(count, LoggedStep::default);
        if plan.is_empty() {
            let note =
                "The record has no graph: the build ran no step, or an earlier vmfab built it.";
            notes.push(note.to_owned());
        } else if self.inputs.steps.is_empty() {
            let note = "The record has no parameters, reasons and sizes: the build ended early, or \
                        it was not for an image.";
            notes.push(note.to_owned());
        }
        let none: &[usize] = &[];
        let reads: Vec<&[usize]> = (0..count)
            .map(|step| plan.get(step).map_or(none, |step| &step.inputs))
            .collect();
        let drawn = layout(&reads);
        let steps = std::mem::take(&mut self.logged.steps);
        let mut graph = GraphReport {
            image: texts::name(&self.logged.image),
            start: self.logged.start.unwrap_or(0),
            end: self.logged.end.unwrap_or(self.until),
            jobs: self.logged.jobs,
            width: drawn.width,
            height: drawn.height,
            sideways: drawn.sideways,
            ..GraphReport::default()
        };
        for (index, logged) in steps.iter().enumerate() {
            let planned = plan.get(index);
            let name = planned.map_or(&logged.name, |planned| &planned.name);
            graph.steps.push(StepReport {
                name: texts::name(name),
                builder: planned.map_or_else(String::new, |planned| planned.builder.clone()),
                state: logged.state,
                reads: runs(reads[index]),
                edges: drawn.edges[index].clone(),
                at: drawn.places[index],
                from: logged.from.as_deref().map(texts::name),
                queued: logged.queued,
                start: logged.start,
                time: logged.time.or_else(|| {
                    let runs = logged.state == StepState::Running;
                    Some(self.until.saturating_sub(logged.start.filter(|_| runs)?))
                }),
                ..StepReport::default()
            });
        }
        let waits: Vec<bool> = plan.iter().map(|step| step.waits).collect();
        timeline::fill(&mut graph, &waits);
        self.describe(&mut graph, room);
        graph.counts = self.logged.counts.unwrap_or_else(|| counted(&graph));
        for (step, logged) in graph.steps.iter_mut().zip(&steps) {
            step.key = step.key.take().or_else(|| key_of_log(logged));
        }
        self.logs(&mut graph, &steps, room);
        if let Some(store) = self.store {
            let parts = sizes::parts(store, &self.inputs, self.before.as_ref());
            (graph.parts, graph.packages) = (parts, sizes::packages(store, &self.inputs));
        }
        graph
    }

    /// Keys, parameters, outputs and reasons.
    fn describe(&self, graph: &mut GraphReport, room: &mut Room) {
        let last = Last::new(self.before.as_ref());
        let mut makers: HashMap<ObjectId, &str> = HashMap::new();
        for step in &self.inputs.steps {
            let made = step.outputs.values().map(|object| object.id);
            makers.extend(made.map(|id| (id, step.name.as_str())));
            let Some(shown) = step.node.and_then(|node| graph.steps.get_mut(node)) else {
                continue;
            };
            shown.key = Some(step.key().short());
            shown.params = room.params(&step.params);
            let outputs = step.outputs.iter();
            shown.outputs = outputs
                .map(|(name, object)| (name.clone(), object.size))
                .collect();
            let action = &step.params["action"]["action"];
            shown.check = step.builder == "check" || (step.builder == "guest" && action == "check");
            if matches!(shown.state, StepState::Built | StepState::Failed) {
                let found = match self.inputs.rebuild {
                    true => vec![Reason::Asked],
                    false => {
                        let inputs = step.inputs.iter();
                        let makers = inputs.map(|(_, id)| makers.get(id).copied().unwrap_or("?"));
                        reasons(&last, step, &makers.collect::<Vec<_>>())
                    }
                };
                let shorter = found.into_iter().take(REASONS);
                let named = shorter.map(|reason| self.files(step, reason).to_string());
                shown.reasons = named.map(|reason| texts::name(&reason)).collect();
            }
        }
    }

    /// Names the files, where a reason is that the digest of local files is another.
    fn files(&self, now: &RecordedStep, reason: Reason) -> Reason {
        let Reason::Parameter { name, was, .. } = &reason else {
            return reason;
        };
        if now.builder != "local" || name != "tree" {
            return reason;
        }
        let listing = |step: &RecordedStep| {
            let object = step.outputs.get(step::LISTING)?;
            Listing::from_bytes(self.store?.read_object(&object.id).ok()?)
        };
        let mut earlier = self.before.iter().flat_map(|record| &record.steps);
        let earlier = earlier.find(|step| step.params[name.as_str()] == *was);
        let changed = earlier.and_then(|earlier| {
            let (was, is) = (listing(earlier)?, listing(now)?);
            Some(was.differences(&is))
        });
        Reason::Files {
            path: PathBuf::from(&now.name),
            changed: changed.unwrap_or_default(),
        }
    }

    /// What steps printed, those first that matter most.
    fn logs(&self, graph: &mut GraphReport, logged: &[LoggedStep], room: &mut Room) {
        let rank = |step: &StepReport| match (step.state, step.check) {
            (StepState::Failed | StepState::Stopped, _) => (0, FAILED_LOG),
            (_, true) => (1, CHECK_LOG),
            _ => (2, OTHER_LOG),
        };
        let mut order: Vec<usize> = (0..graph.steps.len()).collect();
        order.sort_by_key(|&index| rank(&graph.steps[index]).0);
        for index in order {
            let (step, logged) = (&graph.steps[index], &logged[index]);
            let most = rank(step).1;
            let file = logged.file.as_ref().map(|path| path.display().to_string());
            let log = if logged.lines.is_empty() {
                // What a check said counts, even if it said so in an earlier build.
                self.earlier_log(step, most).map(|(text, more)| LogReport {
                    earlier: logged.start.is_none(),
                    ..room.log(text.lines(), usize::from(more), most)
                })
            } else {
                let lines = logged.lines.iter().map(String::as_str);
                Some(room.log(lines, logged.dropped, most))
            };
            let log = log.map(|log| LogReport {
                file: file.filter(|_| log.omitted > 0),
                ..log
            });
            graph.steps[index].log = log.filter(|log| !log.text.is_empty() || log.omitted > 0);
        }
    }

    fn earlier_log(&self, step: &StepReport, most: usize) -> Option<(String, bool)> {
        let wanted = step.check || step.state == StepState::Failed;
        let key = step.key.as_ref().filter(|_| wanted)?;
        texts::tail(&self.log_directory.join(format!("{key}.log")), most as u64)
    }
}

/// The key in the name of a log file.
fn key_of_log(logged: &LoggedStep) -> Option<String> {
    let stem = logged.file.as_ref()?.file_stem()?;
    Some(stem.to_string_lossy().into_owned())
}

/// What became of steps, of a build that did not say so in the end.
fn counted(graph: &GraphReport) -> Counts {
    let mut counts = Counts::default();
    for step in &graph.steps {
        match step.state {
            StepState::Built => counts.built += 1,
            StepState::Cached => counts.cached += 1,
            StepState::Remote => counts.remote += 1,
            StepState::Failed => counts.failed += 1,
            _ => counts.skipped += 1,
        }
    }
    counts
}

/// First and last of each run of numbers.
fn runs(numbers: &[usize]) -> Vec<[usize; 2]> {
    let mut runs: Vec<[usize; 2]> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some([_, last]) if *last + 1 == number => *last = number,
            _ => runs.push([number, number]),
        }
    }
    runs
}
