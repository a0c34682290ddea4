//! `down`: machines are stopped in the reverse order of their dependencies, and removed when asked.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::super::Context;
use super::super::machine::{Loss, places, remove_locked, stop_machine};
use super::order::{in_order, reversed, to_the_end};
use super::{UpOptions, Wanted, project, select, wanted};
use crate::event::Event;
use crate::failure::Failure;
use crate::machine::{Machine, MachineName, Project, Projects, StoppedBy, Until};

/// What is to be down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownOptions {
    /// Machines, or nodes of the file that stand for several; all that there are when empty.
    pub names: Vec<String>,
    /// How long guests may take to shut down; with zero they are not asked.
    pub timeout: Duration,
    /// Remove them, too.
    pub remove: bool,
}

/// A machine that `down` is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DownMachine {
    pub name: MachineName,
    /// Its state: `stopped`, `running`, …
    pub state: &'static str,
    /// What is lost when it is removed.
    #[serde(flatten)]
    pub loss: Loss,
}

/// A project whose machines are down, or some of them.
#[derive(Debug, Serialize)]
pub struct Down {
    pub project: PathBuf,
    /// What became of each machine.
    pub machines: Vec<Outcome>,
    /// Why machines are not down.
    #[serde(skip)]
    pub failures: Vec<Failure>,
}

/// What became of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub name: MachineName,
    /// What it took to stop it; nothing when it could not be.
    pub by: Option<StoppedBy>,
    /// Whether it was removed.
    pub removed: bool,
    /// Why it is not down.
    pub error: Option<String>,
}

/// The machines that `down` would be about, in the order of the file.
///
/// # Errors
/// There is no machine of a name.
pub fn targets(context: &Context, options: &DownOptions) -> Result<Vec<DownMachine>, Failure> {
    let (found, _) = find(context, project(context)?, &options.names, false)?;
    let described = found.iter().map(|machine| {
        Ok(DownMachine {
            name: machine.name().clone(),
            state: machine.state()?.name(),
            loss: Loss::of(context, machine),
        })
    });
    described.collect()
}

/// Stops the machines of the project that the user is in, and removes them when asked.
///
/// # Errors
/// There is no machine of a name, or the user gave up. What becomes of each machine is in the
/// result.
pub fn down(context: &Context, options: &DownOptions) -> Result<Down, Failure> {
    let project = project(context)?;
    let mut down = Down {
        project: project.root().to_owned(),
        machines: Vec::new(),
        failures: Vec::new(),
    };
    // Nothing is made where there is nothing.
    if find(context, project, &options.names, false)?.0.is_empty() {
        return Ok(down);
    }
    let turn =
        Projects::new(&context.home).turn(project, context.sink.as_ref(), &context.interrupt)?;
    let (found, after) = find(context, project, &options.names, true)?;
    let results: Mutex<Vec<Option<Result<Outcome, Failure>>>> =
        Mutex::new(found.iter().map(|_| None).collect());
    in_order(&to_the_end(&reversed(&after)), |position, _, _| {
        let result = bring_down(context, &found[position], options);
        let succeeded = result.is_ok();
        results.lock().unwrap_or_else(PoisonError::into_inner)[position] = Some(result);
        succeeded
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (machine, result) in found.iter().zip(results) {
        match result {
            Some(Ok(outcome)) => down.machines.push(outcome),
            Some(Err(error)) => {
                down.machines.push(Outcome {
                    name: machine.name().clone(),
                    by: None,
                    removed: false,
                    error: Some(error.to_string()),
                });
                down.failures.push(error);
            }
            None => {}
        }
    }
    turn.tidy()?;
    if options.remove {
        project.clear(&turn);
    }
    if context.interrupt.requested() {
        return Err(Failure::interrupted_with(
            "the others keep running: vmfab list shows them",
        ));
    }
    Ok(down)
}

fn bring_down(
    context: &Context,
    machine: &Machine,
    options: &DownOptions,
) -> Result<Outcome, Failure> {
    let outcome = |by, removed| Outcome {
        name: machine.name().clone(),
        by: Some(by),
        removed,
        error: None,
    };
    if !options.remove {
        let stopped = stop_machine(context, machine, options.timeout)?;
        return Ok(outcome(stopped.by, stopped.removed));
    }
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let by = locked.stop(options.timeout, context.sink.as_ref(), &context.interrupt)?;
    remove_locked(context, locked, true)?;
    Ok(outcome(by, true))
}

/// The machines that are there and named, and for each the positions of those that it depends on.
fn find(
    context: &Context,
    project: &Project,
    names: &[String],
    tell: bool,
) -> Result<(Vec<Machine>, Vec<Vec<usize>>), Failure> {
    let machines = project.machines(&context.home);
    let there = machines.list()?;
    let wanted = described(context, project, tell);
    let mut found: Vec<Machine> = Vec::new();
    let chosen: Vec<MachineName> = if names.is_empty() {
        let described = wanted.iter().map(|wanted| &wanted.name);
        let others = there.iter().map(Machine::name);
        let others = others.filter(|name| wanted.iter().all(|wanted| wanted.name != **name));
        described.chain(others).cloned().collect()
    } else {
        let mut chosen = Vec::new();
        for name in names {
            match there.iter().find(|machine| machine.name().as_str() == name) {
                Some(machine) => chosen.push(machine.name().clone()),
                None => {
                    let positions = select(&wanted, std::slice::from_ref(name))?;
                    chosen.extend(positions.iter().map(|&at| wanted[at].name.clone()));
                }
            }
        }
        chosen
    };
    for name in chosen {
        let machine = there.iter().find(|machine| *machine.name() == name);
        let new = found.iter().all(|other| *other.name() != name);
        found.extend(machine.filter(|_| new).cloned());
    }
    let position = |at: usize| {
        let name = &wanted[at].name;
        found.iter().position(|machine| machine.name() == name)
    };
    let after = found.iter().map(|machine| {
        let own = wanted.iter().find(|wanted| wanted.name == *machine.name());
        let others = own.into_iter().flat_map(|own| &own.after);
        let others = others.map(|(other, _)| other);
        others.filter_map(|&at| position(at)).collect()
    });
    let after = after.collect();
    Ok((found, after))
}

/// The machines that a node of the project's file stands for, of those that there are. A project
/// that the home does not know has none, as for [`places`].
///
/// # Errors
/// Machines cannot be listed.
pub(in crate::ops) fn group(context: &Context, name: &str) -> Result<Vec<Machine>, Failure> {
    let Some(project) = &context.project else {
        return Ok(Vec::new());
    };
    let places = places(context)?;
    let [machines, _] = places.as_slice() else {
        return Ok(Vec::new());
    };
    let there = machines.list()?;
    if there.is_empty() {
        return Ok(there);
    }
    let wanted = described(context, project, false);
    let positions = select(&wanted, &[name.to_owned()]).unwrap_or_default();
    let names: Vec<&MachineName> = positions.iter().map(|&at| &wanted[at].name).collect();
    let chosen = there.into_iter();
    Ok(chosen
        .filter(|machine| names.contains(&machine.name()))
        .collect())
}

/// What the file describes. One that cannot be read must not keep machines running: without it they
/// are stopped in no order.
fn described(context: &Context, project: &Project, tell: bool) -> Vec<Wanted> {
    let options = UpOptions {
        cache: super::CacheOptions::default(),
        names: Vec::new(),
        image: None,
        settings: std::collections::BTreeMap::new(),
        dockerfile: super::RecipeChoice::default(),
        accel: None,
        recreate: false,
        adopt: false,
        until: Until::Ssh,
        timeout: Duration::ZERO,
    };
    // Nor must a repository that cannot be reached: the commit that it named last is enough.
    let offline = context.clone().with_config(context.config.clone(), true);
    wanted(&offline, project, &options).unwrap_or_else(|error| {
        if tell {
            context.emit(Event::Warning {
                message: format!("cannot order the machines: {error}"),
            });
        }
        Vec::new()
    })
}
