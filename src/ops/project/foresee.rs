//! `up --dry-run`: what `up` would do, and what of it would fail as far as that can be known
//! without doing it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::super::Context;
use super::super::images::{self, FoundImage};
use super::super::machine::Forecast;
use super::compare::{Action, Compared, compare};
use super::up::forwarded;
use super::{Source, UpOptions, lent, project, tell};
use crate::failure::Failure;
use crate::image::{Protocol, Requires};
use crate::machine::{Forwarded, MachineName, Promise, check_disk_size, check_memory, check_port};
use crate::world;

/// What `up` would do.
#[derive(Debug, Serialize)]
pub struct Foreseen {
    /// The project's directory.
    pub project: PathBuf,
    /// Its machines, in the order of the file.
    pub machines: Vec<ForeseenMachine>,
    /// Why machines would not be up.
    #[serde(skip)]
    pub failures: Vec<Failure>,
}

/// What `up` would do with a machine.
#[derive(Debug, Serialize)]
pub struct ForeseenMachine {
    /// What it would try.
    #[serde(flatten)]
    pub compared: Compared,
    /// Why that would fail.
    pub error: Option<String>,
}

/// What `up` would do. Nothing is changed.
///
/// # Errors
/// The project's file is wrong, or it does not describe a machine that is named.
pub fn foresee(context: &Context, options: &UpOptions) -> Result<Foreseen, Failure> {
    let project = project(context)?;
    let context = &lent(context, project)?;
    let mut foreseen = Foreseen {
        project: project.root().to_owned(),
        machines: Vec::new(),
        failures: Vec::new(),
    };
    let mut taken = Taken {
        ports: BTreeMap::new(),
        room: Forecast::new(context)?,
    };
    let all = compare(context, options)?;
    tell(context, project)?;
    for compared in all {
        let failure = check(context, &compared, &mut taken).err();
        foreseen.machines.push(ForeseenMachine {
            compared,
            error: failure.as_ref().map(ToString::to_string),
        });
        foreseen.failures.extend(failure);
    }
    Ok(foreseen)
}

/// What the machines before this one take.
struct Taken {
    ports: BTreeMap<(u16, Protocol), MachineName>,
    room: Forecast,
}

/// Looks for what would keep a machine from starting.
fn check(context: &Context, compared: &Compared, taken: &mut Taken) -> Result<(), Failure> {
    let image = image(context, compared)?;
    let requires = image.as_ref().map(|image| image.config.template.requires);
    let requires = requires.unwrap_or_default();
    let settings = compared.wanted.settings.as_ref();
    let ports = match &image {
        Some(image) => forwarded(compared, image)?,
        None => settings.map_or_else(Vec::new, |settings| settings.ports.clone()),
    };
    // Those of the image move when they are taken.
    for port in ports.into_iter().filter(|port| !port.from_image) {
        let Forwarded { host, protocol, .. } = port;
        if let Some(other) = taken.ports.insert((host, protocol), compared.name.clone()) {
            return Err(Failure::usage(format!(
                "machine \"{}\" cannot listen on port {host} of the host: \"{other}\" does",
                compared.name
            ))
            .with_help("give each machine ports of its own"));
        }
        if !matches!(
            compared.action,
            Action::Leave | Action::Resume | Action::Recreate
        ) {
            check_port(&port)?;
        }
    }
    if let Some(settings) = settings.filter(|_| compared.action != Action::Leave) {
        check_memory(requires.memory_mib(settings.hardware.memory_mib))?;
        if let (Some(size), Some(image), Action::Make | Action::Recreate) =
            (settings.hardware.disk_size, &image, compared.action)
        {
            check_disk_size(size, image.config.disk.size)?;
        }
    }
    admit(context, compared, &requires, &mut taken.room)
}

/// Whether the host has room for a machine that would be started.
fn admit(
    context: &Context,
    compared: &Compared,
    requires: &Requires,
    room: &mut Forecast,
) -> Result<(), Failure> {
    let machines = project(context)?.machines(&context.home);
    let made = machines.open(&compared.name);
    let hardware = compared.wanted.settings.as_ref().map(|one| &one.hardware);
    let promise = match (compared.action, hardware, &made) {
        (Action::Leave | Action::Resume, ..) => return Ok(()),
        (Action::Start, None, Ok(machine)) => Promise::of(&machine.config()?),
        (_, hardware, _) => {
            let memory = hardware.and_then(|hardware| hardware.memory_mib);
            let cpus = hardware.and_then(|hardware| hardware.cpus);
            Promise::new(requires.memory_mib(memory), requires.cpus(cpus))
        }
    };
    if let (Action::Recreate, Ok(machine)) = (compared.action, &made) {
        room.without(machine);
    }
    room.admit(compared.name.as_str(), promise)
}

/// The image that a machine has or would be made of; nothing when it would be built first.
fn image(context: &Context, compared: &Compared) -> Result<Option<FoundImage>, Failure> {
    if let Some(image) = compared.has {
        return images::find(context, &image.to_string()).map(Some);
    }
    match &compared.wanted.source {
        Source::Named(name) => images::find(context, name).map(Some),
        Source::Recipe(choice) | Source::Any(choice) => {
            let known = world::known_image(context, choice)?;
            known
                .map(|image| images::find(context, &image.to_string()))
                .transpose()
        }
    }
}
