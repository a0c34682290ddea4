//! Builds of this home, including those of other terminals. There is no daemon: each vmfab that
//! builds keeps a record in the home (`record`) and holds its lock, so that others see if it was
//! killed.

mod estimate;
mod history;
mod record;
mod recorder;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

pub use history::{Counts, PastBuild, history};
pub use record::{BuildState, Doing, Ended, Outcome, PlannedMachine, RunningStep};
pub use recorder::{Pace, Recorder};

use record::Record;

use super::Context;
use crate::checked::BuildId;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::host::process::pause;

/// How long a cancelled build may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many of the last lines that a build printed an error shows.
const LAST: usize = 20;

/// The builds of the home, the oldest first: those that run, and with `all` those that ended.
#[must_use]
pub fn list(context: &Context, all: bool) -> Vec<BuildState> {
    let found = Record::all(&context.home).into_iter();
    let found = found.filter_map(|record| record.state());
    let mut found: Vec<_> = found.filter(|one| all || one.ended.is_none()).collect();
    found.sort_by(|one, other| one.started.total_cmp(&other.started));
    found
}

/// The id of a build that another process will begin, and the file for what it prints.
///
/// # Errors
/// The file cannot be made.
pub fn prepare(context: &Context) -> Result<(BuildId, PathBuf, File), Failure> {
    let record = Record::of(&context.home, record::new_id());
    let (directory, path) = (context.home.builds(), record.out());
    fs::create_dir_all(&directory).map_err(Failure::io("create", &directory))?;
    let out = File::create(&path).map_err(Failure::io("create", &path))?;
    Ok((record.id, path, out))
}

/// The last lines that a build in the background printed.
#[must_use]
pub fn printed(context: &Context, id: &BuildId) -> Vec<String> {
    let record = Record::of(&context.home, id.clone());
    let text = fs::read_to_string(record.out()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST)..].iter();
    last.map(|line| (*line).to_owned()).collect()
}

/// The build whose id begins with `id`.
fn find(context: &Context, id: &str) -> Result<Record, Failure> {
    let mut found = Record::all(&context.home);
    found.retain(|record| !id.is_empty() && record.id.starts_with(id));
    if found.len() > 1 {
        return Err(
            Failure::usage(format!("several builds begin with \"{id}\""))
                .with_help("write more of the id"),
        );
    }
    found.pop().ok_or_else(|| {
        Failure::unknown("build", id).with_help("vmfab builds --all lists builds and their ids")
    })
}

/// A build with a record, and its files.
pub(super) struct Kept {
    pub(super) state: BuildState,
    pub(super) log: PathBuf,
    record: Record,
}

impl Kept {
    /// What endings are added to for the files of a graph.
    pub(super) fn of_graph(&self, number: usize) -> PathBuf {
        self.record.of_graph(number)
    }
}

/// The build whose id begins with `id`, or the one that began last.
pub(super) fn kept(context: &Context, id: Option<&str>) -> Result<Kept, Failure> {
    let record = match id {
        Some(id) => find(context, id)?,
        None => {
            let last = list(context, true).pop().ok_or_else(|| {
                let help = "build an image: vmfab keeps a record if a step runs";
                Failure::new(Kind::NotFound, "no build has a record").with_help(help)
            })?;
            Record::of(&context.home, last.id)
        }
    };
    let state = record.state();
    Ok(Kept {
        state: state.ok_or_else(|| Failure::unknown("build", &record.id))?,
        log: record.log(),
        record,
    })
}

/// Hands on the events of a build, those so far and with `follow` those to come until it ends;
/// returns how far it is.
///
/// # Errors
/// There is no such build, its log cannot be read, or the user gives up.
pub fn replay(context: &Context, id: &str, follow: bool) -> Result<BuildState, Failure> {
    let record = find(context, id)?;
    let log = record.log();
    let file = File::open(&log).map_err(Failure::io("open", &log))?;
    let mut reader = BufReader::new(file);
    let mut line = String::new();
    loop {
        // Asked before the log is read to its end, so that nothing of it is missed.
        let state = record.state();
        while reader
            .read_line(&mut line)
            .map_err(Failure::io("read", &log))?
            > 0
        {
            if !line.ends_with('\n') {
                break;
            }
            if let Ok(event) = serde_json::from_str::<Event>(&line) {
                context.emit(event);
            }
            line.clear();
        }
        match state {
            Some(state) if state.ended.is_some() || !follow => return Ok(state),
            Some(_) => {}
            None => return Err(Failure::unknown("build", id)),
        }
        if !pause(&context.interrupt) {
            return Err(Failure::interrupted_with("the build goes on"));
        }
    }
}

/// Ends a build that runs, and waits until it has cleaned up.
///
/// # Errors
/// There is no such build, it has ended, or it does not end.
pub fn cancel(context: &Context, id: &str) -> Result<BuildState, Failure> {
    let record = find(context, id)?;
    let over = || {
        let message = format!("build {} has ended", record.id);
        Failure::usage(message).with_help("vmfab builds lists those that run")
    };
    let state = record.state().ok_or_else(over)?;
    let pid = Pid::from_raw(state.pid).ok_or_else(over)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| over())?;
    // The number may be another process's by now, unless the build still holds its lock.
    if state.ended.is_some() || !record.is_alive() {
        return Err(over());
    }
    pidfd_send_signal(&process, Signal::TERM).map_err(|_| over())?;
    let asked = Instant::now();
    while record.is_alive() {
        if !pause(&context.interrupt) {
            return Err(Failure::interrupted_with("the build was told to end"));
        }
        if asked.elapsed() > PATIENCE {
            let message = format!("build {} did not end within 30 s", record.id);
            return Err(Failure::new(Kind::Failed, message)
                .with_help(format!("kill -9 {} ends it at once", state.pid)));
        }
    }
    record.state().ok_or_else(over)
}
