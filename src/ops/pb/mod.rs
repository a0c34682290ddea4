//! Machines of bootable container images, as podman-bootc's users know them. They are the machines
//! of the home: there is no list of them beside that. What makes one of them is that its record
//! names a container image, or the arguments of its QEMU do.

mod ignition;
mod image;
mod images;
mod podman;
mod run;
mod size;

use std::process::Command;
use std::time::Duration;

use serde::Serialize;

pub use ignition::ignition;
pub use image::{InstallOptions, Installed, install, tree};
pub use images::{ContainerImage, images};
pub use run::{Chosen, How, RunOptions, choose, start};
pub use size::{human_size, parse_human_size};

use super::Context;
use super::machine::{self, StartOptions, Started, Stopped};
use crate::checked::AccountName;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::guest::Ssh;
use crate::host::{Program, bare_command, require};
use crate::image::ContainerRef;
use crate::machine::{
    Machine, MachineError, MachineName, Machines, Occupancy, QemuProcess, State, StoppedBy,
};

/// A machine of a container image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PbMachine {
    pub name: MachineName,
    #[serde(flatten)]
    pub container: ContainerRef,
    /// Bytes of its disk; nothing when its record is lost.
    pub disk_size: Option<u64>,
    /// When it was made, or else when its QEMU was started, in seconds since 1970.
    pub created: Option<u64>,
    /// Whether a QEMU has it now.
    pub running: bool,
    /// The port of 127.0.0.1 that leads to its SSH server.
    pub ssh_port: Option<u16>,
    /// Whether its record can be read.
    pub recorded: bool,
    #[serde(skip)]
    place: Place,
}

/// Where a machine is.
#[derive(Debug, Clone)]
enum Place {
    Directory(Machine),
    /// Its directory is gone, and its QEMU runs on.
    Process(QemuProcess),
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(one), Self::Directory(other)) => one.directory() == other.directory(),
            (Self::Process(one), Self::Process(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Place {}

impl PbMachine {
    /// What is known of a machine of the home, if it is one of these.
    fn of(machine: &Machine, processes: &[QemuProcess]) -> Result<Option<Self>, Failure> {
        let config = machine.config().ok();
        let process = machine.process(processes);
        let recorded = config.as_ref().and_then(|config| config.container.clone());
        let told = process.and_then(|process| process.told.container.clone());
        let Some(container) = recorded.or(told) else {
            return Ok(None);
        };
        Ok(Some(Self {
            name: machine.name().clone(),
            container,
            disk_size: config.as_ref().map(|config| config.disk_size()),
            created: match &config {
                Some(config) => Some(config.created),
                None => process.and_then(QemuProcess::started),
            },
            running: !machine.state()?.is_off(),
            ssh_port: process
                .and_then(|process| process.told.ssh_port)
                .or(config.as_ref().map(|config| config.ssh_port)),
            recorded: config.is_some(),
            place: Place::Directory(machine.clone()),
        }))
    }

    /// The same of a QEMU without a directory.
    fn lost(process: &QemuProcess) -> Option<Self> {
        Some(Self {
            name: process.name.clone(),
            container: process.told.container.clone()?,
            disk_size: None,
            created: process.started(),
            running: true,
            ssh_port: process.told.ssh_port,
            recorded: false,
            place: Place::Process(process.clone()),
        })
    }

    /// Its directory.
    ///
    /// # Errors
    /// It is gone.
    pub fn machine(&self) -> Result<&Machine, Failure> {
        match &self.place {
            Place::Directory(machine) => Ok(machine),
            Place::Process(process) => Err(Failure::failed(format!(
                "the directory of machine \"{}\" is gone, and with it its disk and key",
                self.name
            ))
            .with_help(format!(
                "its QEMU runs on as process {}; vmfab pb rm --force {} ends it",
                process.pid(),
                self.name
            ))),
        }
    }
}

/// The machines of container images, by the ids of these; each is asked for its state now.
///
/// # Errors
/// A directory cannot be read.
pub fn list(context: &Context) -> Result<Vec<PbMachine>, Failure> {
    let machines = Machines::new(&context.home);
    let processes = machines.processes();
    let mut found = Vec::new();
    for machine in machines.list()? {
        found.extend(PbMachine::of(&machine, &processes)?);
    }
    let gone = processes.iter().filter(|process| process.is_gone);
    found.extend(gone.filter_map(PbMachine::lost));
    found.sort_by(|one, other| {
        let key = |machine: &PbMachine| (*machine.container.id.as_bytes(), machine.name.clone());
        key(one).cmp(&key(other))
    });
    Ok(found)
}

/// The machine that a user named: by its name, or by the first digits of its image's id.
///
/// # Errors
/// There is none, or there are several.
pub fn find(context: &Context, text: &str) -> Result<PbMachine, Failure> {
    let mut machines = list(context)?;
    if let Some(at) = machines.iter().position(|one| one.name.as_str() == text) {
        return Ok(machines.swap_remove(at));
    }
    let known: Vec<MachineName> = machines.iter().map(|one| one.name.clone()).collect();
    machines.retain(|one| begins(&one.container, text));
    match machines.len() {
        0 => {
            let known = known.iter().map(MachineName::as_str);
            Err(Failure::not_found("machine", text, known)
                .or_help("vmfab pb list shows the machines and their ids"))
        }
        1 => Ok(machines.remove(0)),
        _ => Err(several(text, &machines)),
    }
}

fn several(text: &str, machines: &[PbMachine]) -> Failure {
    let one = |machine: &PbMachine| format!("{} ({})", machine.name, machine.container.id.short());
    let names: Vec<String> = machines.iter().map(one).collect();
    Failure::usage(format!(
        "several machines have an id that begins with \"{text}\""
    ))
    .with_help(format!("name one of them: {}", names.join(", ")))
}

/// Whether the id of an image begins with these digits.
fn begins(container: &ContainerRef, digits: &str) -> bool {
    !digits.is_empty()
        && container
            .id
            .to_hex()
            .starts_with(&digits.to_ascii_lowercase())
}

/// The account that is entered unless the user says otherwise.
#[must_use]
pub fn root() -> AccountName {
    "root".parse().expect("a name")
}

/// The machine that was made last, of those that run if there are any.
///
/// # Errors
/// There is none.
pub fn latest(context: &Context) -> Result<PbMachine, Failure> {
    let machines = list(context)?.into_iter();
    let latest = machines.max_by_key(|one| (one.running, one.created));
    latest.ok_or_else(|| {
        Failure::new(Kind::NotFound, "no machine of a container image found")
            .with_help("vmfab pb run IMAGE makes one")
    })
}

/// A session in a machine that runs: the `ssh` that is to be started, and what says that the machine
/// is in use as long as it is held.
///
/// # Errors
/// It is stopped, or being stopped; `ssh` is missing.
pub fn session(
    machine: &PbMachine,
    user: &AccountName,
    command: &[String],
) -> Result<(Command, Occupancy), Failure> {
    let program = require(Program::Ssh)?;
    let directory = machine.machine()?;
    let held = directory.occupy()?;
    if directory.state()? == State::Stopped {
        let stopped = MachineError::Stopped(machine.name.clone());
        return Err(Failure::from(stopped)
            .instead_help(format!("vmfab pb start {} starts it", machine.name))
            .with_kind(Kind::NoSession));
    }
    directory.check_goes_on()?;
    let port = machine.ssh_port.ok_or_else(|| {
        Failure::failed(format!(
            "nobody knows the SSH port of machine \"{}\" any more",
            machine.name
        ))
    })?;
    let session = Ssh {
        machine: machine.name.to_string(),
        port,
        user: user.clone(),
    };
    let mut ssh = bare_command(program);
    if let Some(terminal) = std::env::var_os("TERM") {
        ssh.env("TERM", terminal);
    }
    ssh.args(session.trusting_arguments(command))
        .current_dir(directory.directory());
    Ok((ssh, held))
}

/// Stops a machine in which nobody has a session.
///
/// # Errors
/// Somebody has one; QEMU cannot be ended.
pub fn stop(context: &Context, machine: &PbMachine, timeout: Duration) -> Result<Stopped, Failure> {
    match &machine.place {
        Place::Directory(directory) => {
            let _vacant = directory.vacant()?;
            machine::stop_machine(context, directory, timeout)
        }
        Place::Process(process) => {
            process.end()?;
            Ok(Stopped {
                name: machine.name.clone(),
                by: StoppedBy::Force,
                removed: true,
            })
        }
    }
}

/// Removes a machine in which nobody has a session; one that runs only by `force`.
///
/// # Errors
/// It runs, or somebody has a session.
pub fn remove(context: &Context, machine: &PbMachine, force: bool) -> Result<(), Failure> {
    if machine.running && !force {
        let running = Failure::from(MachineError::Running(machine.name.clone()));
        let help = format!(
            "stop it first with vmfab pb stop {}, or use -f",
            machine.name
        );
        return Err(running.instead_help(help));
    }
    match &machine.place {
        Place::Directory(directory) => {
            let _vacant = directory.vacant()?;
            machine::remove(context, directory, force).map(drop)
        }
        Place::Process(process) => Ok(process.end()?),
    }
}

/// Removes all machines, but passes over those that cannot be removed; returns the names of the
/// others.
///
/// # Errors
/// They cannot be listed.
pub fn remove_all(context: &Context, force: bool) -> Result<Vec<MachineName>, Failure> {
    let mut removed = Vec::new();
    for machine in list(context)? {
        match remove(context, &machine, force) {
            Ok(()) => removed.push(machine.name),
            Err(error) if error.is(Kind::Interrupted) => return Err(error),
            Err(error) => context.emit(Event::Warning {
                message: format!("cannot remove {}: {error}", machine.name),
            }),
        }
    }
    Ok(removed)
}

/// Starts a machine that is stopped.
///
/// # Errors
/// Its record is lost, or it does not get ready.
pub fn start_again(
    context: &Context,
    machine: &PbMachine,
    options: StartOptions,
) -> Result<Started, Failure> {
    machine::start_machine(context, machine.machine()?, options, |_| Ok(()))
}
