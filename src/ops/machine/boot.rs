//! Making a machine of an image and starting it.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

use super::super::images::FoundImage;
use super::super::{Context, lazy, volume};
use super::admission::{Forecast, admit};
use super::asked::{tell_requirements, tell_shares};
use super::list::{SshAddress, address};
use super::network::join_network;
use super::ssh_config::refresh_ssh_config;
use super::start::record_start;
use super::stop::remove_locked;
use super::targets::{Each, at_once};
use crate::digest::ObjectId;
use crate::failure::{Failure, Kind};
use crate::host::{Program, missing_programs, require};
use crate::image::{FurtherDisk, Hardware, Mount};
use crate::machine::{
    Forwarded, Locked, Machine, MachineError, MachineName, Machines, NameError, NewMachine,
    Promise, Startup, Until,
};
use crate::qemu::AccelChoice;

/// What the machine is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOptions {
    /// Its name; chosen after the image when absent.
    pub name: Option<MachineName>,
    pub hardware: Hardware,
    /// Ports to forward. One for a guest's port that the image forwards, too, stands in its place.
    pub ports: Vec<Forwarded>,
    pub accel: AccelChoice,
    /// Whether the machine goes when it is stopped, and when it does not get so far.
    pub remove: bool,
    /// What is waited for.
    pub until: Until,
    /// How long.
    pub timeout: Duration,
}

/// A machine that was made and started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Booted {
    pub name: MachineName,
    pub image: ObjectId,
    /// Where its SSH server is reached.
    pub ssh: SshAddress,
    pub ports: Vec<Forwarded>,
    /// What runs its instructions.
    pub accel: crate::qemu::Accel,
    /// Seconds from its start until it was ready.
    pub seconds: f64,
    /// Whether it can be entered.
    #[serde(skip)]
    pub has_ssh: bool,
}

/// Looks for the programs that every machine needs: to be asked before long work for a machine.
///
/// # Errors
/// Those that are missing.
pub fn require_programs() -> Result<(), Failure> {
    let needed = [Program::QemuSystem, Program::Ssh];
    let missing: Vec<_> = needed
        .into_iter()
        .filter_map(|program| require(program).err())
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing_programs(&missing))
    }
}

/// Makes a machine and waits until it is ready. When it does not come so far it is left as it is,
/// to be looked at, unless it is to be removed or QEMU could not even be started.
///
/// # Errors
/// The image cannot be booted here, something that is needed is missing, or the machine does not
/// get ready.
pub fn boot(
    context: &Context,
    image: &FoundImage,
    options: &BootOptions,
) -> Result<Booted, Failure> {
    let ports = ports(image, &options.ports)?;
    boot_in(
        context,
        &Machines::new(&context.home),
        image,
        options,
        ports,
    )
}

/// Makes `count` machines of one image at the same time, whatever becomes of each. With a name they
/// are `NAME-1`, `NAME-2` and so on. Ports that the image serves are not forwarded: each port of the
/// host leads to one machine.
///
/// # Errors
/// A name is taken, the host has no room for all of them, or they are to have what only one can have:
/// then none is made. What becomes of each of them is in the result.
pub fn boot_several(
    context: &Context,
    image: &FoundImage,
    options: &BootOptions,
    count: u32,
) -> Result<Each<Booted>, Failure> {
    let machines = Machines::new(&context.home);
    check_for_several(&options.hardware, &options.ports)?;
    let numbered = (1..=count).map(|number| numbered(options.name.as_ref(), number));
    let names = numbered.collect::<Result<Vec<_>, _>>()?;
    let requires = &image.config.template.requires;
    let promise = Promise::new(
        requires.memory_mib(options.hardware.memory_mib),
        requires.cpus(options.hardware.cpus),
    );
    let mut forecast = Forecast::new(context)?;
    for (number, name) in (1..).zip(&names) {
        if let Some(name) = name
            && machines.open(name).is_ok()
        {
            return Err(MachineError::Exists(name.clone()).into());
        }
        forecast.admit(&format!("machine {number} of {count}"), promise)?;
    }
    let booted = at_once(&names, |name| {
        let options = BootOptions {
            name: name.clone(),
            ..options.clone()
        };
        boot_in(context, &machines, image, &options, Vec::new())
    });
    Ok(booted.into_iter().collect())
}

/// The name of one of several machines.
fn numbered(name: Option<&MachineName>, number: u32) -> Result<Option<MachineName>, Failure> {
    let numbered = name.map(|name| format!("{name}-{number}").parse());
    let numbered = numbered.transpose();
    numbered.map_err(|error: NameError| Failure::usage(error.to_string()))
}

/// Refuses what several machines cannot have at the same time.
fn check_for_several(hardware: &Hardware, ports: &[Forwarded]) -> Result<(), Failure> {
    let writable = |disk: &FurtherDisk| match disk {
        FurtherDisk::File { path, writable } if *writable => Some(path.display().to_string()),
        _ => None,
    };
    let port = ports.first().map(|port| format!("port {}", port.host));
    let volume = hardware.mounts.iter().find_map(Mount::volume);
    let volume = volume.map(|name| format!("the volume \"{name}\""));
    let disk = hardware.disks.iter().find_map(writable);
    match port.or(volume).or(disk) {
        Some(what) => Err(
            Failure::usage(format!("{what} can belong to one machine only"))
                .with_help("leave it out, or boot a machine for it without --count"),
        ),
        None => Ok(()),
    }
}

/// Makes a machine among `machines`, with exactly these ports.
///
/// # Errors
/// See [`boot`].
pub fn boot_in(
    context: &Context,
    machines: &Machines,
    image: &FoundImage,
    options: &BootOptions,
    ports: Vec<Forwarded>,
) -> Result<Booted, Failure> {
    let locked = create_in(context, machines, image, options, ports)?;
    start_created(context, image, options, locked)
}

/// Boots a machine of an image, gives what it reads of its disk until it is ready, in order, and
/// removes it. What one has read that did not get ready comes with the reason.
///
/// # Errors
/// It cannot be started, reads nothing, or the user gives up.
pub(in crate::ops) fn reads_of_boot(
    context: &Context,
    image: &FoundImage,
    options: &BootOptions,
) -> Result<(Vec<Range<u64>>, Option<Failure>), Failure> {
    let machines = Machines::new(&context.home);
    let locked = create_in(context, &machines, image, options, Vec::new())?;
    let machine = locked.machine().clone();
    let recording = machine.record_reads().map_err(Failure::from);
    let started = recording.and_then(|()| start_created(context, image, options, locked));
    let reads = machine.reads().unwrap_or_default();
    clean_up(context, &machine)?;
    match started {
        Err(error) if reads.is_empty() || error.is(Kind::Interrupted) => Err(error),
        started => Ok((reads, started.err())),
    }
}

/// Makes a machine.
fn create_in(
    context: &Context,
    machines: &Machines,
    image: &FoundImage,
    options: &BootOptions,
    ports: Vec<Forwarded>,
) -> Result<Locked, Failure> {
    lazy::check_offline(context, image)?;
    let store = context.store()?;
    let new = NewMachine {
        name: options.name.clone(),
        image: image.image,
        config: &image.config,
        hardware: options.hardware.clone(),
        ports,
        accel: options.accel,
        remove_when_stopped: options.remove,
        ssh_user: None,
        container: None,
    };
    tell_shares(context, image, &options.hardware.mounts);
    tell_requirements(context, image, &options.hardware);
    volume::make_missing(context, &options.hardware.mounts)?;
    let locked = machines.create(&new, &store)?;
    join_network(context, locked.machine())?;
    Ok(locked)
}

/// Starts a machine that was made, and waits until it is ready.
fn start_created(
    context: &Context,
    image: &FoundImage,
    options: &BootOptions,
    locked: Locked,
) -> Result<Booted, Failure> {
    let store = context.store()?;
    let machine = locked.machine().clone();
    let startup = Startup {
        image: &image.config,
        store: &store,
        sink: context.sink.as_ref(),
        interrupt: &context.interrupt,
        until: options.until,
        timeout: options.timeout,
    };
    let admission = match admit(context, &machine, None) {
        Ok(admission) => admission,
        Err(refusal) => {
            remove_locked(context, locked, true)?;
            return Err(refusal);
        }
    };
    record_start(context, &machine, &image.image);
    let run = startup.run(locked);
    drop(admission);
    refresh_ssh_config(context);
    match run {
        Ok(ready) => {
            let config = machine.config()?;
            Ok(Booted {
                name: machine.name().clone(),
                image: image.image,
                ssh: address(&config),
                ports: config.ports,
                accel: ready.accel,
                seconds: ready.seconds,
                has_ssh: !machine.claims_own_init()?,
            })
        }
        Err(error) => {
            let began = matches!(
                error,
                MachineError::NotReady { .. }
                    | MachineError::Interrupted { .. }
                    | MachineError::DiskFull { .. }
                    | MachineError::Halted { .. }
            );
            if began && !options.remove {
                return Err(error.into());
            }
            clean_up(context, &machine)?;
            Err(without_machine(error))
        }
    }
}

/// Removes a machine that did not get ready.
fn clean_up(context: &Context, machine: &Machine) -> Result<(), Failure> {
    // The user may have given up already: this is not to be given up.
    let patient =
        crate::host::Interrupt::new().map_err(Failure::io("watch", machine.directory()))?;
    match machine
        .lock(context.sink.as_ref(), &patient)
        .and_then(|locked: Locked| remove_locked(context, locked, true))
    {
        Ok(()) | Err(MachineError::Unknown(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The error of a machine that is gone: without advice on what to do with it.
fn without_machine(error: MachineError) -> Failure {
    let gone = "removed the machine, because of --rm";
    match error {
        MachineError::Interrupted { .. } => Failure::interrupted_with(gone),
        MachineError::NotReady { .. }
        | MachineError::DiskFull { .. }
        | MachineError::Halted { .. } => Failure::from(error).instead_help(gone),
        error => error.into(),
    }
}

/// The image's forwarded ports and those that were asked for.
pub(in crate::ops) fn ports(
    image: &FoundImage,
    asked: &[Forwarded],
) -> Result<Vec<Forwarded>, Failure> {
    let mut ports: Vec<Forwarded> = image
        .config
        .template
        .ports
        .iter()
        .filter(|port| {
            let same =
                |asked: &Forwarded| (asked.guest, asked.protocol) == (port.guest, port.protocol);
            !asked.iter().any(same)
        })
        .filter_map(|port| {
            port.host.map(|host| Forwarded {
                host,
                guest: port.guest,
                protocol: port.protocol,
                address: port.address.unwrap_or(Ipv4Addr::LOCALHOST),
                from_image: true,
            })
        })
        .collect();
    ports.extend(asked);
    for (index, port) in ports.iter().enumerate() {
        if ports[..index].iter().any(|other| other.clashes(port)) {
            return Err(
                Failure::usage(format!("two forwards use port {} of the host", port.host))
                    .with_help("forward each port of the host once"),
            );
        }
    }
    Ok(ports)
}
