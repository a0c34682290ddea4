//! Doing something with several machines at once.

use std::collections::BTreeSet;

use super::super::Context;
use super::super::project::group;
use super::{all_places, find_machine, listed, places};
use crate::failure::{Failure, Kind};
use crate::machine::{Machine, State};

/// Which machines a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Machines, and nodes of the project's file that stand for several.
    Named(Vec<String>),
    /// All of the project that the user is in, or else of the home, that are in one of these
    /// states.
    All(Affected),
    /// All of the home and of every project that it knows and can reach.
    Everywhere,
}

/// Which machines of all a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affected {
    Any,
    /// Those that a QEMU runs.
    Started,
    /// Those that are halted and can go on.
    Halted,
}

/// What became of several machines.
#[derive(Debug)]
pub struct Each<T> {
    /// In the order in which the machines were named.
    pub done: Vec<T>,
    /// Why it was not done with others.
    pub failures: Vec<Failure>,
}

impl Targets {
    /// The machines, each once. Names that stand for none are failures.
    ///
    /// # Errors
    /// Machines cannot be listed.
    pub fn find(&self, context: &Context) -> Result<Each<Machine>, Failure> {
        match self {
            Self::Named(names) => named(context, names),
            Self::All(affected) => Ok(Each {
                done: all(context, *affected)?,
                failures: Vec::new(),
            }),
            Self::Everywhere => Ok(Each {
                done: listed(&all_places(context)?)?,
                failures: Vec::new(),
            }),
        }
    }

    /// Does something with each machine at the same time, whatever becomes of the others.
    ///
    /// # Errors
    /// Machines cannot be listed. What becomes of each of them is in the result.
    pub fn each<T: Send>(
        &self,
        context: &Context,
        act: impl Fn(&Machine) -> Result<T, Failure> + Sync,
    ) -> Result<Each<T>, Failure> {
        Ok(self.find(context)?.and_then(act))
    }
}

impl Each<Machine> {
    /// Does something with each machine at the same time, whatever becomes of the others.
    pub fn and_then<T: Send>(
        mut self,
        act: impl Fn(&Machine) -> Result<T, Failure> + Sync,
    ) -> Each<T> {
        let machines = std::mem::take(&mut self.done);
        let mut each: Each<T> = at_once(&machines, act).into_iter().collect();
        self.failures.append(&mut each.failures);
        each.failures = self.failures;
        each
    }
}

impl<T> FromIterator<Result<T, Failure>> for Each<T> {
    fn from_iter<I: IntoIterator<Item = Result<T, Failure>>>(results: I) -> Self {
        let mut each = Self {
            done: Vec::new(),
            failures: Vec::new(),
        };
        for result in results {
            match result {
                Ok(done) => each.done.push(done),
                Err(failure) => each.failures.push(failure),
            }
        }
        each
    }
}

impl<T> Each<T> {
    /// Whether the user gave up on one of them.
    #[must_use]
    pub fn interrupted(&self) -> Option<&Failure> {
        let mut failures = self.failures.iter();
        failures.find(|failure| failure.is(Kind::Interrupted))
    }
}

/// Calls `act` for each of several, each in a thread of its own: it waits for guests and not for
/// processors. Results are in the order of `items`.
pub(super) fn at_once<I: Sync, T: Send>(items: &[I], act: impl Fn(&I) -> T + Sync) -> Vec<T> {
    if let [only] = items {
        return vec![act(only)];
    }
    let act = &act;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .iter()
            .map(|item| scope.spawn(move || act(item)))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect()
    })
}

fn named(context: &Context, names: &[String]) -> Result<Each<Machine>, Failure> {
    let mut each = Each {
        done: Vec::new(),
        failures: Vec::new(),
    };
    let mut seen = BTreeSet::new();
    for name in names {
        let found = match find_machine(context, name) {
            Ok(machine) => vec![machine],
            Err(failure) if failure.is(Kind::NotFound) => {
                let machines = group(context, name)?;
                if machines.is_empty() {
                    each.failures.push(failure);
                }
                machines
            }
            Err(failure) => return Err(failure),
        };
        let new = found
            .into_iter()
            .filter(|machine| seen.insert(machine.directory().to_owned()));
        each.done.extend(new);
    }
    Ok(each)
}

/// The machines of the project, when it has any, or else those of the home.
fn all(context: &Context, affected: Affected) -> Result<Vec<Machine>, Failure> {
    let mut machines = Vec::new();
    for place in places(context)? {
        machines = place.list()?;
        if !machines.is_empty() {
            break;
        }
    }
    let concerned = at_once(&machines, |machine| match affected {
        Affected::Any => Ok(true),
        Affected::Started => machine.state().map(|state| !state.is_off()),
        Affected::Halted => machine.state().map(State::is_halted),
    });
    let mut kept = Vec::new();
    for (machine, concerned) in machines.into_iter().zip(concerned) {
        if concerned? {
            kept.push(machine);
        }
    }
    Ok(kept)
}
