//! The sink that keeps the record of a build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::estimate::{Times, seconds_left};
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

/// A sink that keeps the record of a build, and hands everything on. The record begins with the
/// first step that runs: a build with nothing to do leaves none.
pub struct Recorder {
    home: Home,
    next: Arc<dyn Sink>,
    inner: Mutex<Inner>,
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
    over: BTreeSet<usize>,
    running: BTreeMap<usize, RunningStep>,
    times: Times,
    pace: Option<Pace>,
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
            over: BTreeSet::new(),
            running: BTreeMap::new(),
            times: Times::default(),
            pace: None,
        };
        if at_once {
            inner.begin(&home)?;
        }
        Ok(Self {
            home,
            next,
            inner: Mutex::new(inner),
        })
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
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the record, and learns from it.
    pub fn end(&self, error: Option<&Failure>) {
        let mut inner = self.inner();
        inner.pace = None;
        let Some(open) = inner.open.take() else {
            return;
        };
        inner.state.ended = Some(Ended {
            outcome: match error {
                None => Outcome::Done,
                Some(error) if error.is(Kind::Interrupted) => Outcome::Cancelled,
                Some(_) => Outcome::Failed,
            },
            time: now(),
            error: error.map(|error| error.message().to_owned()),
        });
        inner.state.running.clear();
        open.record.write(&inner.state);
        inner.times.save(&self.home);
    }
}

impl Sink for Recorder {
    fn emit(&self, event: Event) {
        self.next.emit(event.clone());
        let mut inner = self.inner();
        inner.note(&self.home, &event);
    }
}

impl Inner {
    fn begin(&mut self, home: &Home) -> Result<(), Failure> {
        let record = Record::of(home, self.state.id.clone());
        let (lock, mut log) = record.begin(home)?;
        self.times = Times::load(home);
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
            Event::BuildStarted { name, steps, plan } => {
                self.state.image = Some(name.clone());
                self.state.steps = *steps;
                self.plan = plan.clone();
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
            Event::BuildFinished { .. } => {
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
        if tells {
            self.tell();
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
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        line.push(b'\n');
        match &mut self.open {
            // A full disk must not stop a build whose result fits.
            Some(open) => drop(open.log.write_all(&line)),
            None => self.pending.extend(line),
        }
    }

    /// Writes how far it is.
    fn tell(&mut self) {
        let Some(open) = &self.open else { return };
        let state = &mut self.state;
        state.updated = now();
        state.done = self.over.len();
        let left = |index: usize| {
            if self.over.contains(&index) {
                return Some(0.0);
            }
            let before = self.times.of(&self.plan[index].name)?;
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
    use std::path::PathBuf;

    use super::super::record::KEPT;
    use super::*;
    use crate::event::Silent;

    fn planned(names: &[&str]) -> Event {
        let step = |name: &&str| PlannedStep {
            name: (*name).to_owned(),
            inputs: Vec::new(),
        };
        Event::BuildStarted {
            name: "docker".to_owned(),
            steps: names.len(),
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
