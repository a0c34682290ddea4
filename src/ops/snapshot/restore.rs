//! Setting machines back, and removing snapshots.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::super::machine::{
    CreateOptions, create, find_machine, keep_need, refresh_ssh_config, stop_with_patience,
};
use super::super::{Context, images};
use super::{find, parse, tag};
use crate::audit::Deed;
use crate::event::Event;
use crate::failure::Failure;
use crate::machine::{
    Machine, MachineError, MachineName, Parts, Snapshot, SnapshotName, State, Wanted,
};

/// What to set back, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// A project snapshot, or `@name` for a base one.
    pub name: String,
    /// The machine. When absent, that of the project snapshot, or a new one of the base snapshot.
    pub machine: Option<String>,
    /// Whether a snapshot of the present state is made first.
    pub keep: bool,
    /// Whether volumes are set back, too, and the memory.
    pub parts: Parts,
    /// How long the guest may take to shut down; zero ends it at once.
    pub timeout: Duration,
}

/// A machine that is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    pub machine: MachineName,
    /// What it was set back to.
    pub name: String,
    /// The snapshot of the state before; nothing when there was none, or none was wanted.
    pub kept: Option<SnapshotName>,
    /// Whether it was made, because there was no machine of that name.
    pub created: bool,
    /// Whether it ran, and was stopped.
    pub was_running: bool,
    /// Whether it goes on from its memory when it is started.
    pub suspended: bool,
}

/// Sets a machine back to a snapshot or an image. One that runs is stopped.
///
/// # Errors
/// There is no such snapshot or machine, or the machine cannot be stopped. It is as it was then.
pub fn restore(context: &Context, options: &RestoreOptions) -> Result<Restored, Failure> {
    if options.name.starts_with('@') {
        return restore_base(context, options);
    }
    let found = find(context, &options.name)?;
    let name = match &options.machine {
        Some(name) => name.clone(),
        None => found.snapshot.machine.to_string(),
    };
    let name = machine_name(&name)?;
    let machine = match found.machines.open(&name) {
        Err(MachineError::Unknown(_)) => {
            keep_need(context, &found.machines, found.snapshot.settings.image)?;
            let keep = options.keep.then(|| automatic(&name, &options.name));
            let (created, kept) = found.machines.create_from(
                &found.snapshot,
                &name,
                options.parts.volumes,
                keep.transpose()?.as_ref(),
                &context.store()?,
                &context.interrupt,
            )?;
            refresh_ssh_config(context);
            tell_memory(context, options, &found.snapshot, created.machine())?;
            return Ok(Restored {
                machine: created.machine().name().clone(),
                name: options.name.clone(),
                kept: kept.map(|kept| kept.name),
                created: true,
                was_running: false,
                suspended: false,
            });
        }
        result => result?,
    };
    let store = context.store()?;
    keep_need(context, &found.machines, found.snapshot.settings.image)?;
    back(context, &machine, options, |locked, keep| {
        let (snapshot, parts) = (&found.snapshot, options.parts);
        let kept = locked.put_back(snapshot, parts, keep, &store, &context.interrupt)?;
        tell_memory(context, options, snapshot, &machine)?;
        Ok(kept.map(|kept| kept.name))
    })
}

/// Says that a machine boots although its snapshot has a memory.
fn tell_memory(
    context: &Context,
    options: &RestoreOptions,
    snapshot: &Snapshot,
    machine: &Machine,
) -> Result<(), Failure> {
    let is_wanted = options.parts.memory && snapshot.memory.is_some();
    if is_wanted && machine.state()? != State::Suspended {
        context.emit(Event::Warning {
            message:
                "the memory of the snapshot is not used: it is gone, or the machine is another \
                      one or has other hardware or volumes"
                    .to_owned(),
        });
    }
    Ok(())
}

fn restore_base(context: &Context, options: &RestoreOptions) -> Result<Restored, Failure> {
    if tag(context, &options.name)?.is_none() {
        let bare = options.name.trim_start_matches('@');
        if super::names(context)?.iter().any(|name| name == bare) {
            return Err(Failure::unknown("image", &options.name).with_help(format!(
                "\"{bare}\" is a snapshot of a machine: vmfab snapshot restore {bare}"
            )));
        }
    }
    let image = images::find(context, &options.name)?;
    let Some(name) = &options.machine else {
        let created = create(context, &image, &CreateOptions::default())?;
        return Ok(Restored {
            machine: created.name,
            name: options.name.clone(),
            kept: None,
            created: true,
            was_running: false,
            suspended: false,
        });
    };
    let machine = find_machine(context, name)?;
    let store = context.store()?;
    keep_need(context, machine.machines(), image.image)?;
    back(context, &machine, options, |locked, keep| {
        let interrupt = &context.interrupt;
        let kept = locked.put_image(image.image, &image.config, keep, &store, interrupt)?;
        Ok(kept.map(|kept| kept.name))
    })
}

/// Stops a machine and does something with it, unless it is removed when it stops.
fn back(
    context: &Context,
    machine: &Machine,
    options: &RestoreOptions,
    put: impl FnOnce(&crate::machine::Locked, Option<&Wanted>) -> Result<Option<SnapshotName>, Failure>,
) -> Result<Restored, Failure> {
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let was_running = machine.has_qemu()?;
    stop_with_patience(context, &locked, options.timeout)?;
    let keep = options
        .keep
        .then(|| automatic(machine.name(), &options.name));
    let kept = put(&locked, keep.transpose()?.as_ref())?;
    Ok(Restored {
        machine: machine.name().clone(),
        name: options.name.clone(),
        kept,
        created: false,
        was_running,
        suspended: machine.state()? == State::Suspended,
    })
}

/// The snapshot of the state before: `auto-web-20261130-011502-417`.
fn automatic(machine: &MachineName, target: &str) -> Result<Wanted, Failure> {
    let now = SystemTime::now();
    let time = humantime::format_rfc3339_millis(now).to_string();
    let digits: String = time.chars().filter(char::is_ascii_digit).collect();
    let (day, rest) = digits.split_at_checked(8).unwrap_or((&digits, ""));
    let (second, millis) = rest.split_at_checked(6).unwrap_or((rest, ""));
    Ok(Wanted {
        memory: false,
        name: parse(&format!("auto-{machine}-{day}-{second}-{millis}"))?,
        description: Some(super::text(&format!(
            "{machine} before it was restored to {target}"
        ))?),
        automatic: true,
        volumes: true,
    })
}

fn machine_name(name: &str) -> Result<MachineName, Failure> {
    name.parse()
        .map_err(|error: crate::machine::NameError| Failure::usage(error.to_string()))
}

/// A snapshot that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    pub name: String,
}

/// Removes a project snapshot, and what only it needed.
///
/// # Errors
/// There is none of that name.
pub fn delete(context: &Context, name: &str) -> Result<Deleted, Failure> {
    if name.starts_with('@') {
        return Err(Failure::usage(format!("{name} names an image"))
            .with_help(format!("vmfab image rm {name} removes the tag")));
    }
    let found = find(context, name)?;
    let snapshots = found.machines.snapshots();
    snapshots.remove(&[found.snapshot.name], &context.interrupt)?;
    if let Some(project) = found.machines.project() {
        crate::machine::Projects::new(&context.home).tidy(project)?;
    }
    context.record(&Deed::SnapshotDeleted {
        snapshot: name.to_owned(),
    });
    Ok(Deleted {
        name: name.to_owned(),
    })
}
