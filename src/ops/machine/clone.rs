//! Machines that are made and not started: of images, and of other machines.

use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::super::images::FoundImage;
use super::super::own_init::runs_own_init;
use super::super::{Context, volume};
use super::asked::{tell_requirements, tell_shares};
use super::boot::ports;
use super::find_machine;
use super::list::{SshAddress, address};
use super::ssh_config::refresh_ssh_config;
use super::start::StartOptions;
use crate::builder::guest::{CLEAN, as_root};
use crate::checked::AccountName;
use crate::digest::ObjectId;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::{Program, bare_command, require};
use crate::image::{ContainerRef, Hardware, ImageConfig};
use crate::machine::{
    Derived, Forwarded, Locked, Machine, MachineName, Machines, Need, NewMachine, Projects,
    Startup, StoppedBy, Until,
};
use crate::qemu::AccelChoice;
use crate::store::Store;
use crate::world::image_config;

/// How long a guest may take to switch itself off, many times what it takes without KVM.
const POWER_OFF: Duration = Duration::from_secs(90);

/// A machine to be made of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Nothing for a name that is free, after the image.
    pub name: Option<MachineName>,
    pub hardware: Hardware,
    pub ports: Vec<Forwarded>,
    /// The account that is entered; the image's when absent.
    pub ssh_user: Option<AccountName>,
    /// The container image that it is made of, if its user asks for it as one.
    pub container: Option<ContainerRef>,
}

/// A machine that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Created {
    pub name: MachineName,
    pub image: ObjectId,
    /// Where its SSH server is reached when it runs.
    pub ssh: SshAddress,
    pub ports: Vec<Forwarded>,
}

/// Makes a machine of an image, stopped.
///
/// # Errors
/// The name is taken, or the image cannot be booted on this host.
pub fn create(
    context: &Context,
    image: &FoundImage,
    options: &CreateOptions,
) -> Result<Created, Failure> {
    let new = NewMachine {
        name: options.name.clone(),
        image: image.image,
        config: &image.config,
        hardware: options.hardware.clone(),
        ports: ports(image, &options.ports)?,
        accel: AccelChoice::Auto,
        remove_when_stopped: false,
        ssh_user: options.ssh_user.clone(),
        container: options.container.clone(),
    };
    tell_shares(context, image, &options.hardware.mounts);
    tell_requirements(context, image, &options.hardware);
    volume::make_missing(context, &options.hardware.mounts)?;
    let locked = Machines::new(&context.home).create(&new, &context.store()?)?;
    created(context, locked.machine())
}

/// Makes a machine of another one, with what its disks hold now and an identity of its own: a key,
/// an address, and at its first start host keys, ids and a host name. The other one goes on.
///
/// # Errors
/// There is no such machine, the name is taken, or the disks cannot be frozen.
pub fn clone(
    context: &Context,
    source: &str,
    name: &MachineName,
    memory_mib: Option<u32>,
    cpus: Option<u32>,
) -> Result<Created, Failure> {
    let machine = find_machine(context, source)?;
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    keep_need(context, machine.machines(), machine.config()?.image)?;
    let derived = Derived {
        memory_mib,
        cpus,
        renew_identity: true,
    };
    let made = locked.derive(name, &derived, &context.interrupt)?;
    created(context, made.machine())
}

fn created(context: &Context, machine: &Machine) -> Result<Created, Failure> {
    refresh_ssh_config(context);
    let config = machine.config()?;
    Ok(Created {
        name: machine.name().clone(),
        image: config.image,
        ssh: address(&config),
        ports: config.ports,
    })
}

/// Notes that machines of a project need an image.
pub(in crate::ops) fn keep_need(
    context: &Context,
    machines: &Machines,
    image: ObjectId,
) -> Result<(), Failure> {
    let Some(project) = machines.project() else {
        return Ok(());
    };
    let disk = image_config(&context.store()?, &image)?.disk.id;
    let projects = Projects::new(&context.home);
    let turn = projects.turn(project, context.sink.as_ref(), &context.interrupt)?;
    Ok(turn.need(&[Need { image, disk }])?)
}

/// Stops a machine that runs: asks the guest, waits up to `timeout`, and then ends QEMU.
pub(in crate::ops) fn stop_with_patience(
    context: &Context,
    locked: &Locked,
    timeout: Duration,
) -> Result<StoppedBy, Failure> {
    Ok(locked.stop(timeout, context.sink.as_ref(), &context.interrupt)?)
}

/// The `ssh` that runs a command line in a machine.
pub(in crate::ops) fn remote_shell(machine: &Machine, line: &str) -> Result<Command, Failure> {
    let mut ssh = bare_command(require(Program::Ssh)?);
    ssh.arg("-T")
        .args(machine.ssh(None)?.arguments(&[line.to_owned()]))
        .current_dir(machine.directory());
    Ok(ssh)
}

/// Takes the identity of another machine from the disk of one that has never run: it is started
/// without a network, cleaned, and switched off. The start after that is a first boot.
pub(super) fn renew_identity(
    context: &Context,
    machine: &Machine,
    locked: Locked,
    store: &Store,
    image: &ImageConfig,
    options: StartOptions,
) -> Result<Locked, Failure> {
    if !runs_own_init(store, image)? {
        context.emit(Event::Note {
            message: format!(
                "machine \"{}\" gets an identity of its own: this first start takes two boots",
                machine.name()
            ),
        });
        let startup = Startup {
            image,
            store,
            sink: context.sink.as_ref(),
            interrupt: &context.interrupt,
            until: Until::Entered,
            timeout: options.timeout,
        };
        startup.run(locked)?;
        let mut ssh = remote_shell(machine, &as_root(CLEAN))?;
        let cleaned = ssh.output();
        let cleaned = cleaned.map_err(Failure::io("run", std::path::Path::new("ssh")))?;
        let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
        if !cleaned.status.success() {
            let _ = locked.kill();
            let said = String::from_utf8_lossy(&cleaned.stderr);
            let lines = said.lines().map(str::to_owned).collect();
            return Err(Failure::failed(format!(
                "cannot take the identity of the other machine from \"{}\"",
                machine.name()
            ))
            .with_output(lines));
        }
        stop_with_patience(context, &locked, POWER_OFF)?;
        return renewed(machine, locked);
    }
    renewed(machine, locked)
}

fn renewed(machine: &Machine, locked: Locked) -> Result<Locked, Failure> {
    machine.forget_host_keys()?;
    locked.change(|config| config.renew_identity = false)?;
    Ok(locked)
}
