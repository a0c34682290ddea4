//! `run`: the machine of an image, which is made if there is none.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::Context;
use super::super::export::{self, ExportOptions};
use super::super::machine::{self, CreateOptions, LogKind, StartOptions, Started};
use super::PbMachine;
use super::image::{InstallOptions, Installed, image_of, named};
use crate::checked::AccountName;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::image::{ContainerRef, DiskFormat, FirstBoot, Hardware};
use crate::machine::{
    Forwarded, Machine, MachineConfig, MachineError, MachineName, Machines, check_port,
};

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// Its name; chosen after the image when absent.
    pub name: Option<MachineName>,
    /// The account that is entered, when the user said it.
    pub user: Option<AccountName>,
    pub install: InstallOptions,
    pub hardware: Hardware,
    pub ports: Vec<Forwarded>,
    /// Write the installed disk in this format, too.
    pub format: Option<DiskFormat>,
    /// Whether the machine is to go afterwards: no machine that is stopped will do then.
    pub passing: bool,
}

impl RunOptions {
    /// The memory that a machine gets unless its user says otherwise, in MiB.
    const MEMORY_MIB: u32 = 2048;
}

/// How a machine was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Running,
    Stopped,
    Made,
}

/// The machine that runs, or is to be started.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub machine: Machine,
    pub container: ContainerRef,
    pub how: How,
}

/// Finds the machine of an image, or installs the image and makes one. Of several machines of the
/// image the one that runs is taken, or else the one that was made last.
///
/// # Errors
/// There is no such image, it cannot be installed, the machine that there is differs from what is
/// asked for, a name or port is taken.
pub fn choose(context: &Context, image: &str, options: &RunOptions) -> Result<Chosen, Failure> {
    machine::require_programs()?;
    let of_name = options.name.as_ref().map(|name| taken(context, name));
    let of_name = of_name.transpose()?.flatten();
    if of_name.is_none() {
        for port in &options.ports {
            check_port(port)?;
        }
    }
    let named = named(context, image)?;
    // Nothing is installed for a machine that is there.
    if let Some(container) = named.container().filter(|_| options.install.is_usual())
        && let Some(chosen) = existing(context, container, None, of_name.as_ref(), options)?
    {
        return Ok(chosen);
    }
    let installed = image_of(context, &named, &options.install)?;
    let container = &installed.container;
    if let Some(chosen) = existing(
        context,
        container,
        Some(&installed),
        of_name.as_ref(),
        options,
    )? {
        return Ok(chosen);
    }
    let machine = make(context, &installed, options)?;
    Ok(Chosen {
        machine,
        container: installed.container,
        how: How::Made,
    })
}

/// The machine that has a name.
fn taken(context: &Context, name: &MachineName) -> Result<Option<Machine>, Failure> {
    match Machines::new(&context.home).open(name) {
        Ok(machine) => Ok(Some(machine)),
        Err(MachineError::Unknown(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A machine of this image that will do; with a name only that one.
fn existing(
    context: &Context,
    container: &ContainerRef,
    installed: Option<&Installed>,
    of_name: Option<&Machine>,
    options: &RunOptions,
) -> Result<Option<Chosen>, Failure> {
    let mut machines = super::list(context)?;
    machines.retain(|one| one.recorded && one.container.id == container.id);
    if let Some(asked) = of_name {
        machines.retain(|one| one.name == *asked.name());
        if machines.is_empty() {
            return Err(MachineError::Exists(asked.name().clone()).into());
        }
    } else if options.name.is_some() {
        return Ok(None);
    }
    machines.retain(|one| one.running || !options.passing || of_name.is_some());
    let best = machines
        .into_iter()
        .max_by_key(|one| (one.running, one.created));
    let Some(best) = best else { return Ok(None) };
    let machine = best.machine()?;
    let differs = difference(&machine.config()?, installed, options);
    if let Some(option) = differs {
        return Err(other(&best, option));
    }
    Ok(Some(Chosen {
        machine: machine.clone(),
        container: best.container.clone(),
        how: if best.running {
            How::Running
        } else {
            How::Stopped
        },
    }))
}

/// The option by which a machine is not what is asked for.
fn difference(
    config: &MachineConfig,
    installed: Option<&Installed>,
    options: &RunOptions,
) -> Option<&'static str> {
    let hardware = &options.hardware;
    let other_image = installed.is_some_and(|one| one.image.image != config.image);
    let smaller = options
        .install
        .disk_size
        .is_some_and(|size| size > config.disk_size());
    let has_port = |port: &Forwarded| config.ports.contains(port);
    let checks = [
        (other_image, "the options of the installation"),
        (smaller, "--disk-size"),
        (
            hardware
                .memory_mib
                .is_some_and(|mib| mib != config.memory_mib),
            "--memory",
        ),
        (
            hardware.cpus.is_some_and(|cpus| cpus != config.cpus),
            "--cpus",
        ),
        (
            hardware
                .network
                .as_ref()
                .is_some_and(|network| *network != config.network),
            "--network",
        ),
        (
            !(hardware
                .mounts
                .iter()
                .all(|mount| config.mounts.contains(mount))),
            "--volume",
        ),
        (
            !(hardware
                .ssh_keys
                .iter()
                .all(|key| config.ssh_keys.contains(key))),
            "--ssh-key",
        ),
        (!options.ports.iter().all(has_port), "--port"),
        (
            hardware.first_boot != FirstBoot::default() && hardware.first_boot != config.first_boot,
            "--cloudinit, --ignition or --registry-access",
        ),
        (options.format.is_some(), "--format"),
    ];
    let mut differing = checks.into_iter().filter(|(differs, _)| *differs);
    differing.next().map(|(_, option)| option)
}

fn other(machine: &PbMachine, option: &str) -> Failure {
    let name = &machine.name;
    Failure::usage(format!(
        "machine \"{name}\" of this image exists, and differs in {option}"
    ))
    .with_help(format!(
        "make another one with --name NAME, remove it with vmfab pb rm {name}, or change it with \
             vmfab set {name}"
    ))
}

/// Makes a machine, stopped.
fn make(
    context: &Context,
    installed: &Installed,
    options: &RunOptions,
) -> Result<Machine, Failure> {
    let requires = &installed.image.config.template.requires;
    let hardware = Hardware {
        memory_mib: Some(
            options
                .hardware
                .memory_mib
                .unwrap_or_else(|| requires.memory_mib(None).max(RunOptions::MEMORY_MIB)),
        ),
        ..options.hardware.clone()
    };
    let create = CreateOptions {
        name: options.name.clone(),
        hardware,
        ports: options.ports.clone(),
        ssh_user: Some(options.user.clone().unwrap_or_else(super::root)),
        container: Some(installed.container.clone()),
    };
    let created = machine::create(context, &installed.image, &create)?;
    let machine = Machines::new(&context.home).open(&created.name)?;
    if let Some(format) = options.format {
        let written = export::export(
            context,
            &ExportOptions {
                disk: installed.image.config.disk.id,
                target: machine.directory().join(format!("disk.{format}")),
                format,
                hypervisor: None,
                compress: false,
                force: false,
            },
        );
        match written {
            Ok(written) => context.emit(Event::Note {
                message: format!("the installed disk is in {}", written.path.display()),
            }),
            Err(error) => {
                machine::remove(context, &machine, true)?;
                return Err(error);
            }
        }
    }
    Ok(machine)
}

/// Starts a machine that was chosen and waits for it. One that was made goes when it cannot even be
/// started, and in any case when it is to go afterwards. `console` tells whether its console is to be
/// seen meanwhile.
///
/// # Errors
/// It does not get ready.
pub fn start(
    context: &Context,
    chosen: &Chosen,
    options: &RunOptions,
    start: StartOptions,
    console: bool,
) -> Result<Started, Failure> {
    let name = chosen.machine.name();
    let over = AtomicBool::new(false);
    let user = options.user.clone();
    let result = std::thread::scope(|scope| {
        if console {
            scope.spawn(|| follow(context, name, &over));
        }
        let result = machine::start_machine(context, &chosen.machine, start, |locked| match user {
            Some(user) => Ok(locked.change(|config| config.ssh_user = user)?),
            None => Ok(()),
        });
        over.store(true, Ordering::Relaxed);
        result
    });
    if let Err(error) = &result
        && chosen.how == How::Made
        && (options.passing || !chosen.machine.has_qemu()?)
    {
        let began = chosen
            .machine
            .console_log()
            .metadata()
            .is_ok_and(|meta| meta.len() > 0);
        if options.passing || !began || error.is(Kind::Interrupted) {
            machine::remove(context, &chosen.machine, true)?;
        }
    }
    result
}

/// Shows what a machine writes to its console until it is `over`.
fn follow(context: &Context, name: &MachineName, over: &AtomicBool) {
    let Ok(mut logs) = machine::logs(context, name.as_str(), LogKind::Console) else {
        return;
    };
    let mut partial: Vec<u8> = Vec::new();
    let emit = |bytes: &[u8]| {
        for line in crate::machine::text_of(bytes).lines() {
            context.emit(Event::MachineConsole {
                machine: name.to_string(),
                line: line.to_owned(),
            });
        }
    };
    loop {
        let last = over.load(Ordering::Relaxed);
        while let Ok(bytes) = logs.read()
            && !bytes.is_empty()
        {
            partial.extend(bytes);
        }
        if let Some(end) = partial.iter().rposition(|byte| *byte == b'\n') {
            let lines: Vec<u8> = partial.drain(..=end).collect();
            emit(&lines);
        }
        if last {
            return emit(&partial);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
