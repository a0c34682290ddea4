//! The record of a build: `ID.json` says how far it is, `ID.lock` is locked as long as its process
//! lives, `ID.log` has its events, and `ID.out` what a detached one printed.
//!
//! A line of the log is an event with the seconds since the start (`at`, which older logs lack); the
//! event `plan` lists the steps of a graph. What went into and came out of graph `N` is in
//! `ID.N.inputs`, and what went into the build before that one in `ID.N.before` (see
//! `build_record`).

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::checked::BuildId;
use crate::digest::Hasher;
use crate::failure::Failure;
use crate::host::Home;
use crate::host::file::{self, Lock};
use crate::machine::MachineName;

/// How many builds that ended are kept.
pub(super) const KEPT: usize = 20;

/// How far a build is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildState {
    pub id: BuildId,
    pub pid: i32,
    /// The command: `build`, `boot`, …
    pub command: String,
    /// The image that is built now, once it is known.
    pub image: Option<String>,
    /// The machines that are made of its images.
    #[serde(default)]
    pub machines: Vec<PlannedMachine>,
    /// When it was started, in seconds since 1970.
    pub started: f64,
    /// When this was written.
    pub updated: f64,
    /// How and when it ended; nothing while it runs.
    pub ended: Option<Ended>,
    pub steps: usize,
    /// Steps that are over.
    pub done: usize,
    /// Steps that run or wait.
    pub running: Vec<RunningStep>,
    /// Seconds until it is done, learnt from earlier builds; nothing when nothing is known.
    pub seconds_left: Option<f64>,
}

/// A machine that a build is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMachine {
    /// Nothing when it is named after its image.
    pub name: Option<MachineName>,
    /// The directory of its project; nothing when it is of the home.
    pub project: Option<PathBuf>,
}

/// A step that runs or waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunningStep {
    pub name: String,
    /// In seconds since 1970.
    pub since: f64,
    pub doing: Doing,
    /// Seconds until it is over, as far as known.
    pub seconds_left: Option<f64>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    Runs,
    /// Another vmfab runs the same step, and this one waits for its result.
    Waits,
    /// It waits until fewer steps run in this home.
    Queued,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub outcome: Outcome,
    pub time: f64,
    /// Why it failed.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    Failed,
    Cancelled,
    /// Its process ended without saying how.
    Killed,
}

impl BuildState {
    pub(super) fn new(id: BuildId, command: &str) -> Self {
        Self {
            id,
            pid: std::process::id().cast_signed(),
            command: command.to_owned(),
            image: None,
            machines: Vec::new(),
            started: now(),
            updated: now(),
            ended: None,
            steps: 0,
            done: 0,
            running: Vec::new(),
            seconds_left: None,
        }
    }

    /// Counts down the seconds that passed since it was written. A step that takes longer than before
    /// takes no time from those after it.
    fn pass(&mut self, seconds: f64) {
        let mut passed: f64 = 0.0;
        for left in self
            .running
            .iter_mut()
            .filter_map(|step| step.seconds_left.as_mut())
        {
            passed = passed.max(left.min(seconds));
            *left = (*left - seconds).max(0.0);
        }
        let left = self.seconds_left.filter(|_| self.ended.is_none());
        self.seconds_left = left.map(|left| (left - passed).max(0.0));
    }

    /// `running`, `waiting`, `queued`, or how it ended.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let doing = self.running.iter().map(|step| step.doing);
        match self.ended.as_ref().map(|ended| ended.outcome) {
            // The busiest one counts.
            None => match doing.min() {
                Some(Doing::Waits) => "waiting",
                Some(Doing::Queued) => "queued",
                Some(Doing::Runs) | None => "running",
            },
            Some(Outcome::Done) => "done",
            Some(Outcome::Failed) => "failed",
            Some(Outcome::Cancelled) => "cancelled",
            Some(Outcome::Killed) => "killed",
        }
    }
}

pub(super) fn now() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}

/// An id that no build has.
pub(super) fn new_id() -> BuildId {
    let mut hasher = Hasher::new("vmfab build id");
    hasher.update_field(&std::process::id().to_le_bytes());
    hasher.update_field(&now().to_bits().to_le_bytes());
    let id = hasher.finish().short();
    id.try_into().expect("12 hexadecimal digits")
}

/// The files of a build.
#[derive(Debug, Clone)]
pub(super) struct Record {
    directory: PathBuf,
    pub(super) id: BuildId,
}

impl Record {
    pub(super) fn of(home: &Home, id: BuildId) -> Self {
        Self {
            directory: home.builds(),
            id,
        }
    }

    /// Those of all builds of a home.
    pub(super) fn all(home: &Home) -> Vec<Self> {
        let entries = fs::read_dir(home.builds()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let ids = names.filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        ids.map(|id| Self::of(home, id)).collect()
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", self.id))
    }

    pub(super) fn log(&self) -> PathBuf {
        self.file("log")
    }

    pub(super) fn out(&self) -> PathBuf {
        self.file("out")
    }

    /// What endings are added to for the files of a graph.
    pub(super) fn of_graph(&self, number: usize) -> PathBuf {
        self.file(&number.to_string())
    }

    /// Removes its files.
    fn remove(&self) {
        let prefix = format!("{}.", self.id);
        let entries = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Begins it: the lock and the log.
    pub(super) fn begin(&self, home: &Home) -> Result<(Lock, File), Failure> {
        let directory = &self.directory;
        fs::create_dir_all(directory).map_err(Failure::io("create", directory))?;
        sweep(home);
        let path = self.file("lock");
        let lock = Lock::try_take(&path).map_err(Failure::io("lock", &path))?;
        let lock =
            lock.ok_or_else(|| Failure::failed(format!("build {} runs already", self.id)))?;
        let log = File::create(self.log()).map_err(Failure::io("create", &self.log()))?;
        Ok((lock, log))
    }

    /// Whether its process lives.
    pub(super) fn is_alive(&self) -> bool {
        let lock = file::open_regular(&self.file("lock"));
        lock.is_ok_and(|lock| file::try_lock_shared(&lock).is_ok_and(|free| !free))
    }

    pub(super) fn state(&self) -> Option<BuildState> {
        // If it ends after this, its record says how.
        let alive = self.is_alive();
        let bytes = fs::read(self.file("json")).ok()?;
        let mut state: BuildState = serde_json::from_slice(&bytes).ok()?;
        if state.ended.is_none() && !alive {
            state.running.clear();
            state.ended = Some(Ended {
                outcome: Outcome::Killed,
                time: state.updated,
                error: None,
            });
        }
        state.pass(now() - state.updated);
        Some(state)
    }

    pub(super) fn write(&self, state: &BuildState) {
        // A build whose record cannot be written is built all the same.
        let bytes = serde_json::to_vec(state).unwrap_or_default();
        let _ = file::cache(&self.file("json"), &bytes);
    }
}

/// Removes the records of builds that ended, but for the last ones.
fn sweep(home: &Home) {
    let all = Record::all(home).into_iter();
    let ended = all.filter_map(|record| Some((record.state()?.ended?.time, record)));
    let mut ended: Vec<_> = ended.collect();
    ended.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    for (_, record) in ended.into_iter().skip(KEPT - 1) {
        record.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_makes_time_pass() {
        let after = |running: &[Option<f64>], seconds| {
            let mut state = BuildState::new(new_id(), "build");
            state.seconds_left = Some(10.0);
            let steps = running.iter().map(|seconds_left| RunningStep {
                name: String::new(),
                since: 0.0,
                doing: Doing::Runs,
                seconds_left: *seconds_left,
            });
            state.running = steps.collect();
            state.pass(seconds);
            state.seconds_left.unwrap()
        };
        assert_eq!(after(&[Some(2.0), Some(4.0)], 3.0), 7.0);
        // It is late, and what follows takes as long as before.
        assert_eq!(after(&[Some(2.0), Some(4.0)], 9.0), 6.0);
        assert_eq!(after(&[None], 9.0), 10.0);
    }
}
