//! The sink that keeps the record of a build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::estimate::{Times, seconds_left};
use super::history::{self, Counts, PastBuild};
use super::record::{
    BuildState, Doing, Ended, Outcome, PlannedMachine, Record, RunningStep, new_id, now,
};
use crate::checked::BuildId;
use crate::event::{Event, PlannedStep, Sink, StepOutcome};
use crate::failure::{Failure, Kind};
use crate::host::file::Lock;
use crate::host::{Home, usable_cpus};

/// The most bytes of its steps' output in the log of a build. The logs of the steps have all of it.
const OUTPUT: usize = 16 << 20;

/// How long the state of a build stays as it was written, at least. The log has every event at
/// once.
const STATE_EVERY: Duration = Duration::from_millis(100);

/// A sink that keeps the record of a build, and hands everything on. The record begins with the
/// first step that runs: a build with nothing to do leaves none.
pub struct Recorder {
    home: Home,
    next: Arc<dyn Sink>,
    shared: Arc<Shared>,
    /// Writes states that came too soon after another.
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// A state is to be written, or no more will be.
    woken: Condvar,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is untold when its time has come, until the record is closed.
    fn write_states(&self) {
        let mut inner = self.inner();
        while !inner.closed {
            let told = inner.told.filter(|_| inner.untold);
            let left = told.map(|told| STATE_EVERY.saturating_sub(told.elapsed()));
            inner = match left {
                Some(Duration::ZERO) => {
                    inner.tell();
                    inner
                }
                Some(left) => {
                    let waited = self.woken.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.woken.wait(inner);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

struct Inner {
    state: BuildState,
    /// The record once it has begun.
    open: Option<Open>,
    /// Lines of the log until then.
    pending: Vec<u8>,
    /// Bytes that steps printed.
    output: usize,
    plan: Arc<[PlannedStep]>,
    /// What its steps took in earlier builds.
    before: Vec<Option<f64>>,
    /// Whether the log has the plan.
    told_plan: bool,
    /// Graphs so far.
    graphs: usize,
    /// What became of their steps.
    counts: Counts,
    /// Since the build was started.
    clock: Instant,
    /// Whether the record begins before the first step runs.
    at_once: bool,
    over: BTreeSet<usize>,
    running: BTreeMap<usize, RunningStep>,
    times: Times,
    pace: Option<Pace>,
    /// When the state was last written.
    told: Option<Instant>,
    /// Whether there is more to write since then.
    untold: bool,
    /// Whether nothing more is written.
    closed: bool,
}

/// How a build goes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub began: Instant,
    /// When the last event was.
    pub heard: Instant,
    /// The estimate when it began, if there was one.
    pub expected: Option<Duration>,
}

struct Open {
    record: Record,
    log: File,
    _lock: Lock,
}

impl Recorder {
    /// A recorder for a command. With `id` the record begins at once.
    ///
    /// # Errors
    /// The record cannot begin.
    pub fn new(
        home: Home,
        next: Arc<dyn Sink>,
        command: &str,
        id: Option<BuildId>,
    ) -> Result<Self, Failure> {
        let at_once = id.is_some();
        let mut inner = Inner {
            state: BuildState::new(id.unwrap_or_else(new_id), command),
            open: None,
            pending: Vec::new(),
            output: 0,
            plan: Arc::default(),
            before: Vec::new(),
            told_plan: true,
            graphs: 0,
            counts: Counts::default(),
            clock: Instant::now(),
            at_once,
            over: BTreeSet::new(),
            running: BTreeMap::new(),
            times: Times::default(),
            pace: None,
            told: None,
            untold: false,
            closed: false,
        };
        if at_once {
            inner.begin(&home)?;
        }
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            woken: Condvar::new(),
        });
        Ok(Self {
            home,
            next,
            shared,
            writer: Mutex::default(),
        })
    }

    /// An id that no build has.
    #[must_use]
    pub fn new_id() -> BuildId {
        new_id()
    }

    /// How a build goes, while there is one.
    #[must_use]
    pub fn pace(&self) -> Option<Pace> {
        self.inner().pace
    }

    /// The id of the build, once it has a record, and the image.
    #[must_use]
    pub fn names(&self) -> (Option<BuildId>, Option<String>) {
        let inner = self.inner();
        let begun = inner.open.is_some() || inner.state.ended.is_some();
        let id = begun.then(|| inner.state.id.clone());
        (id, inner.state.image.clone())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner()
    }

    /// Sees that the untold state is written in time.
    fn wake_writer(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            let shared = self.shared.clone();
            // Without a thread the state is written with the next event.
            *writer = thread::Builder::new()
                .name("record".to_owned())
                .spawn(move || shared.write_states())
                .ok();
        }
        self.shared.woken.notify_one();
    }

    /// Closes the record, and learns from it.
    pub fn end(&self, error: Option<&Failure>) {
        let mut inner = self.inner();
        inner.untold = false;
        inner.pace = None;
        let ended = Ended {
            outcome: match error {
                None => Outcome::Done,
                Some(error) if error.is(Kind::Interrupted) => Outcome::Cancelled,
                Some(_) => Outcome::Failed,
            },
            time: now(),
            error: error.map(|error| error.message().to_owned()),
        };
        let graphs = std::mem::take(&mut inner.graphs);
        if graphs > 0 {
            history::append(
                &self.home,
                &PastBuild::new(&inner.state, &ended, inner.counts),
            );
        }
        let Some(open) = inner.open.take() else {
            return;
        };
        inner.state.done = inner.over.len();
        inner.state.ended = Some(ended);
        inner.state.running.clear();
        open.record.write(&inner.state);
        inner.times.save(&self.home);
    }
}

impl Sink for Recorder {
    fn emit(&self, event: Event) {
        self.next.emit(event.clone());
        let mut inner = self.inner();
        let woken = inner.untold;
        inner.note(&self.home, &event);
        let wakes = inner.untold && !woken;
        drop(inner);
        if wakes {
            self.wake_writer();
        }
    }

    fn record(&self) -> Option<PathBuf> {
        let inner = self.inner();
        let open = inner.open.as_ref()?;
        Some(open.record.of_graph(inner.graphs.checked_sub(1)?))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.inner().closed = true;
        self.shared.woken.notify_one();
        let writer = self.writer.get_mut();
        if let Some(writer) = writer.unwrap_or_else(PoisonError::into_inner).take() {
            drop(writer.join());
        }
    }
}

/// A line of the log that is no event for others.
#[derive(Serialize)]
#[serde(tag = "event", rename = "plan")]
struct Planned<'a> {
    plan: &'a [PlannedStep],
}

impl Inner {
    fn begin(&mut self, home: &Home) -> Result<(), Failure> {
        let record = Record::of(home, self.state.id.clone());
        let (lock, mut log) = record.begin(home)?;
        self.times = Times::load(home);
        self.learn_from_before();
        let _ = log.write_all(&std::mem::take(&mut self.pending));
        record.write(&self.state);
        self.open = Some(Open {
            record,
            log,
            _lock: lock,
        });
        Ok(())
    }

    fn note(&mut self, home: &Home, event: &Event) {
        let mut tells = true;
        if let Some(pace) = &mut self.pace {
            pace.heard = Instant::now();
        }
        match event {
            Event::BuildStarted {
                name, steps, plan, ..
            } => {
                self.state.image = Some(name.clone());
                self.state.steps = *steps;
                self.plan = plan.clone();
                self.before = vec![None; plan.len()];
                self.learn_from_before();
                self.told_plan = false;
                self.graphs += 1;
                self.over.clear();
                self.running.clear();
                let now = Instant::now();
                self.pace = Some(Pace {
                    began: now,
                    heard: now,
                    expected: None,
                });
                tells = false;
            }
            Event::BuildFinished {
                built,
                cached,
                remote,
                failed,
                skipped,
                ..
            } => {
                self.counts += Counts {
                    built: *built,
                    cached: *cached,
                    remote: *remote,
                    failed: *failed,
                    skipped: *skipped,
                };
                self.pace = None;
                // Its name is taken as soon as it is made.
                self.state.machines.retain(|one| one.name.is_some());
            }
            Event::MachinePlanned { machine, project } => {
                let name = machine.as_ref().and_then(|name| name.parse().ok());
                let project = project.clone();
                self.state.machines.push(PlannedMachine { name, project });
                tells = false;
            }
            Event::StepStarted { step, name, .. } => self.begins(*step, name, Doing::Runs),
            Event::StepWaiting { step, name } => self.begins(*step, name, Doing::Waits),
            Event::StepQueued { step, name } => self.begins(*step, name, Doing::Queued),
            // There may be hundreds: the next step that runs writes them down, too.
            Event::StepFound { step, .. } => {
                self.over.insert(*step);
                tells = false;
            }
            Event::StepFinished {
                step,
                name,
                outcome,
                ..
            } => {
                let ran = self.running.remove(step);
                if *outcome != StepOutcome::Skipped {
                    self.over.insert(*step);
                }
                if let (Some(ran), StepOutcome::Built) = (&ran, outcome) {
                    self.times.learn(name, now() - ran.since);
                }
                tells = ran.is_some();
            }
            _ => tells = false,
        }
        self.log(event);
        if self.open.is_none() && !self.running.is_empty() {
            // A build whose record cannot be kept is built all the same.
            let _ = self.begin(home);
        }
        if !self.told_plan && (self.at_once || !self.running.is_empty()) {
            self.tell_plan();
        }
        match self.told {
            _ if !tells => {}
            // A graph of thousands of short steps would write little else.
            Some(told) if told.elapsed() < STATE_EVERY => self.untold = true,
            _ => self.tell(),
        }
    }

    /// What the steps took before, once both are known.
    fn learn_from_before(&mut self) {
        for (before, step) in self.before.iter_mut().zip(&*self.plan) {
            *before = self.times.of(&step.name);
        }
    }

    fn begins(&mut self, step: usize, name: &str, doing: Doing) {
        // A step that was found in a cache runs all the same if its content is needed and gone.
        self.over.remove(&step);
        let running = RunningStep {
            name: name.to_owned(),
            since: now(),
            doing,
            seconds_left: None,
        };
        self.running.insert(step, running);
    }

    fn log(&mut self, event: &Event) {
        match event {
            Event::TaskProgress { .. } | Event::DownloadProgress { .. } => return,
            Event::StepOutput { line, .. } => {
                self.output += line.len();
                if self.output > OUTPUT {
                    return;
                }
            }
            _ => {}
        }
        if let Ok(line) = serde_json::to_string(event) {
            self.log_line(&line);
        }
    }

    /// What the steps are and read, once for each graph of which a step runs.
    fn tell_plan(&mut self) {
        self.told_plan = true;
        let plan = &*self.plan;
        if let Ok(line) = serde_json::to_string(&Planned { plan }) {
            self.log_line(&line);
        }
    }

    /// Writes a line of the log: a JSON object, with the seconds since the start of the build.
    fn log_line(&mut self, object: &str) {
        let at = self.clock.elapsed().as_secs_f64();
        let rest = object.strip_prefix('{').unwrap_or(object);
        let line = format!("{{\"at\":{at:.4},{rest}\n").into_bytes();
        match &mut self.open {
            // A full disk must not stop a build whose result fits.
            Some(open) => drop(open.log.write_all(&line)),
            None => self.pending.extend(line),
        }
    }

    /// Writes how far it is.
    fn tell(&mut self) {
        self.untold = false;
        let Some(open) = &self.open else { return };
        self.told = Some(Instant::now());
        let state = &mut self.state;
        state.updated = now();
        state.done = self.over.len();
        let left = |index: usize| {
            if self.over.contains(&index) {
                return Some(0.0);
            }
            let before = self.before.get(index).copied().flatten()?;
            let running = self.running.get(&index);
            let passed = running.map_or(0.0, |step| match step.doing {
                Doing::Runs => state.updated - step.since,
                Doing::Waits | Doing::Queued => 0.0,
            });
            Some((before - passed).max(0.0))
        };
        state.seconds_left = seconds_left(&self.plan, left, usable_cpus() as usize);
        let running = self.running.iter().map(|(index, step)| RunningStep {
            seconds_left: left(*index).filter(|_| step.doing == Doing::Runs),
            ..step.clone()
        });
        state.running = running.collect();
        if let (Some(pace), Some(left)) = (&mut self.pace, state.seconds_left) {
            pace.expected.get_or_insert(Duration::from_secs_f64(left));
        }
        open.record.write(state);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::KEPT;
    use super::*;
    use crate::event::Silent;

    fn planned(names: &[&str]) -> Event {
        let step = |name: &&str| PlannedStep {
            name: (*name).to_owned(),
            ..PlannedStep::default()
        };
        Event::BuildStarted {
            name: "docker".to_owned(),
            steps: names.len(),
            jobs: 2,
            plan: names.iter().map(step).collect(),
        }
    }

    fn started(step: usize, name: &str) -> Event {
        Event::StepStarted {
            step,
            name: name.to_owned(),
            log: PathBuf::new(),
        }
    }

    fn finished(step: usize, name: &str, outcome: StepOutcome) -> Event {
        Event::StepFinished {
            step,
            name: name.to_owned(),
            outcome,
            seconds: 0.0,
        }
    }

    #[test]
    fn a_record_from_its_first_step_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let recorder = || Recorder::new(home.clone(), Arc::new(Silent), "build", None).unwrap();
        let all = || {
            let all = Record::all(&home);
            let mut all: Vec<_> = all.iter().filter_map(Record::state).collect();
            all.sort_by(|one, other| one.started.total_cmp(&other.started));
            all
        };
        let cached = recorder();
        cached.emit(planned(&["a"]));
        cached.emit(finished(0, "a", StepOutcome::Cached));
        cached.end(None);
        assert_eq!(all(), []);

        let first = recorder();
        first.emit(planned(&["a", "b"]));
        first.emit(finished(0, "a", StepOutcome::Cached));
        first.emit(started(1, "b"));
        let [state] = &all()[..] else { panic!() };
        assert_eq!((state.steps, state.done), (2, 1));
        assert_eq!(state.running[0].name, "b");
        assert_eq!((state.word(), state.seconds_left), ("running", None));
        first.emit(finished(1, "b", StepOutcome::Built));
        first.emit(started(0, "a"));
        while all()[0].running.first().map(|step| step.name.as_str()) != Some("a") {
            thread::sleep(Duration::from_millis(5));
        }
        first.emit(finished(0, "a", StepOutcome::Built));
        first.end(None);
        let [state] = &all()[..] else { panic!() };
        assert_eq!((state.word(), state.done), ("done", 2));

        let second = recorder();
        second.emit(planned(&["b"]));
        second.emit(started(0, "b"));
        assert!(all()[1].seconds_left.is_some());
        // Its process is gone without a word.
        drop(second);
        assert_eq!(all()[1].word(), "killed");
    }

    #[test]
    fn the_last_ones_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let build = |number: usize| {
            let id = format!("{number:012x}").try_into().unwrap();
            Recorder::new(home.clone(), Arc::new(Silent), "build", Some(id)).unwrap()
        };
        let running = build(0);
        for number in 1..KEPT + 3 {
            build(number).end(Some(&Failure::interrupted()));
        }
        let all: Vec<_> = Record::all(&home)
            .iter()
            .filter_map(Record::state)
            .collect();
        let with = |word| all.iter().filter(|state| state.word() == word).count();
        assert_eq!((with("cancelled"), with("running")), (KEPT, 1));
        drop(running);
    }
}
