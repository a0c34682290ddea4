//! Named volumes.

use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use crate::audit::Deed;
use crate::checked::Name;
use crate::event::Event;
use crate::failure::Failure;
use crate::image::{Mount, Mounted};
use crate::machine::{Machines, Projects, Volume, Volumes};
use crate::text::shown_size;

/// A volume, for a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeEntry {
    pub name: Name,
    /// In bytes.
    pub size: u64,
    /// Bytes that it takes on this host.
    pub stored_size: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The running machine that has it.
    pub in_use_by: Option<String>,
    /// All machines that mount it when they run.
    pub machines: Vec<String>,
    pub path: PathBuf,
}

/// Makes an empty volume; of the usual size unless told otherwise.
///
/// # Errors
/// The name is taken, a program is missing, or the host has no room.
pub fn create(context: &Context, name: &str, size: Option<u64>) -> Result<VolumeEntry, Failure> {
    let name = parse(name)?;
    let size = size.unwrap_or(Volumes::SIZE);
    if size < Volumes::LEAST {
        let message = format!("a volume of {} is too small", shown_size(size));
        let least = shown_size(Volumes::LEAST);
        return Err(Failure::usage(message).with_help(format!("give it at least {least}")));
    }
    let size = crate::disk::disk_size(size);
    let volume = volumes(context).create(&name, size, &context.interrupt)?;
    entry(context, &volume)
}

/// Makes those volumes that are missing.
///
/// # Errors
/// See [`create`].
pub fn make_missing(context: &Context, mounts: &[Mount]) -> Result<(), Failure> {
    let volumes = volumes(context);
    for mount in mounts {
        let Mounted::Volume(name) = &mount.what else {
            continue;
        };
        if volumes
            .open(name)
            .is_err_and(|error| matches!(error, crate::machine::MachineError::UnknownVolume(_)))
        {
            match volumes.create(name, Volumes::SIZE, &context.interrupt) {
                // Another machine that is made now has it, too.
                Err(crate::machine::MachineError::VolumeExists(_)) => continue,
                made => made?,
            };
            let size = shown_size(Volumes::SIZE);
            context.emit(Event::Note {
                message: format!("created the volume \"{name}\" of {size}"),
            });
        }
    }
    Ok(())
}

/// All volumes, sorted by name. One that cannot be read is left out, with a warning.
///
/// # Errors
/// They cannot be read.
pub fn list(context: &Context) -> Result<Vec<VolumeEntry>, Failure> {
    let users = users(context)?;
    let volumes = volumes(context);
    let mut entries = Vec::new();
    for name in volumes.names()? {
        match volumes.open(&name) {
            Ok(volume) => entries.push(of(&volume, &users)?),
            Err(crate::machine::MachineError::UnknownVolume(_)) => {}
            Err(error) => context.emit(Event::Warning {
                message: error.to_string(),
            }),
        }
    }
    Ok(entries)
}

/// All about one.
///
/// # Errors
/// There is none.
pub fn inspect(context: &Context, name: &str) -> Result<VolumeEntry, Failure> {
    entry(context, &find(context, name)?)
}

/// A volume that was made larger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resized {
    #[serde(flatten)]
    pub volume: VolumeEntry,
    /// Whether a running guest sees the larger disk already.
    pub live: bool,
}

/// Makes a volume larger.
///
/// # Errors
/// There is none, it would shrink, or its machine is just starting.
pub fn resize(context: &Context, name: &str, size: u64) -> Result<Resized, Failure> {
    let name = find(context, name)?.name().clone();
    let size = crate::disk::disk_size(size);
    let (volume, live) = volumes(context).grow(&name, size, &context.interrupt)?;
    let volume = entry(context, &volume)?;
    Ok(Resized { volume, live })
}

/// Removes a volume with its data.
///
/// # Errors
/// There is none, or a machine mounts it; with `force` only one that runs counts.
pub fn remove(context: &Context, name: &str, force: bool) -> Result<Name, Failure> {
    let volume = find(context, name)?;
    let machines = of(&volume, &users(context)?)?.machines;
    if let (Some(first), false) = (machines.first(), force) {
        let message = format!("volume \"{name}\" belongs to machine \"{first}\"");
        return Err(Failure::failed(message).with_help(format!(
            "remove the machine first, with vmfab rm {first}; or remove its data all the same, with \
             vmfab volume rm --force {name}"
        )));
    }
    volumes(context).remove(&volume, &context.interrupt)?;
    context.record(&Deed::VolumeRemoved {
        volume: name.to_owned(),
    });
    Ok(volume.name().clone())
}

/// The names of all volumes.
///
/// # Errors
/// They cannot be read.
pub fn names(context: &Context) -> Result<Vec<String>, Failure> {
    let names = volumes(context).names()?;
    Ok(names.iter().map(ToString::to_string).collect())
}

fn volumes(context: &Context) -> Volumes {
    Volumes::new(&context.home)
}

fn parse(name: &str) -> Result<Name, Failure> {
    name.parse().map_err(|wrong: crate::checked::Unfit| {
        Failure::usage(wrong.to_string()).with_help(wrong.help())
    })
}

fn find(context: &Context, name: &str) -> Result<Volume, Failure> {
    let known = names(context)?;
    let unknown = || {
        Failure::not_found("volume", name, known.iter().map(String::as_str))
            .or_help("vmfab volume list shows the volumes")
    };
    // What cannot be a name is the name of no volume.
    let parsed = name.parse().map_err(|_| unknown())?;
    match volumes(context).open(&parsed) {
        Err(crate::machine::MachineError::UnknownVolume(_)) => Err(unknown()),
        volume => Ok(volume?),
    }
}

fn entry(context: &Context, volume: &Volume) -> Result<VolumeEntry, Failure> {
    of(volume, &users(context)?)
}

fn of(volume: &Volume, users: &[(Name, String)]) -> Result<VolumeEntry, Failure> {
    let own = users.iter().filter(|(name, _)| name == volume.name());
    Ok(VolumeEntry {
        name: volume.name().clone(),
        size: volume.size(),
        stored_size: volume.stored_size(),
        created: volume.created(),
        in_use_by: volume.holder()?.map(|holder| holder.machine.to_string()),
        machines: own.map(|(_, machine)| machine.clone()).collect(),
        path: volume.path(),
    })
}

/// Volumes, and machines that mount them: of the home, and of all projects that it knows.
fn users(context: &Context) -> Result<Vec<(Name, String)>, Failure> {
    let projects = Projects::new(&context.home).list()?;
    let projects = projects
        .iter()
        .map(|one| one.project().machines(&context.home));
    let mut users = Vec::new();
    for machines in std::iter::once(Machines::new(&context.home)).chain(projects) {
        // A project may be out of reach.
        for machine in machines.list().unwrap_or_default() {
            let Ok(config) = machine.config() else {
                continue;
            };
            let volumes = config.volumes();
            users.extend(volumes.map(|name| (name.clone(), machine.name().to_string())));
        }
    }
    users.sort();
    Ok(users)
}
