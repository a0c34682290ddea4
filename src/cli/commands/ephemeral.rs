//! `vmfab ephemeral …`: a bootable container as a machine, without an installation.

use clap::{Args, Subcommand};

use super::super::Status;
use super::super::output::duration;
use super::super::session::Session;
use super::boot::{StartArgs, parse_name};
use super::hardware::HardwareArgs;
use super::new_machine::{Ports, parse_ports};
use super::ssh;
use crate::checked::AccountName;
use crate::failure::{Failure, Kind};
use crate::machine::{MachineName, Until};
use crate::ops::machine::{self, BootOptions, Booted, SshOptions};
use crate::ops::pb;

/// Boot a bootable container without installing it, to try it
///
/// The machine boots the files of the image, writes to a throw-away overlay, and goes when it stops.
/// It has no boot loader and no bootc deployment: for bootc upgrade, use vmfab pb run.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab ephemeral ssh ./Containerfile
  vmfab ephemeral ssh quay.io/centos-bootc/centos-bootc:stream10 -- systemctl --failed
  vmfab ephemeral run localhost/os --name trial --port 8080:80"
)]
pub(crate) struct Ephemeral {
    #[command(subcommand)]
    command: EphemeralCommand,
}

#[derive(Debug, Subcommand)]
enum EphemeralCommand {
    Run(Run),
    Ssh(Ssh),
}

/// Boot a bootable container, and leave it running
///
/// vmfab removes the machine when it stops: vmfab stop NAME.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab ephemeral run ./Containerfile
  name=$(vmfab ephemeral run --quiet quay.io/fedora/fedora-bootc:42)")]
struct Run {
    #[command(flatten)]
    machine: MachineArgs,
}

/// Boot a bootable container, open a session in it, and remove it afterwards
///
/// vmfab passes on the exit code of the session.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab ephemeral ssh ./Containerfile
  vmfab ephemeral ssh localhost/os -- bootc container lint")]
struct Ssh {
    #[command(flatten)]
    machine: MachineArgs,

    /// Command to run instead of a shell
    #[arg(value_name = "CMD", last = true)]
    command: Vec<String>,

    /// Log in as USER [default: root]
    #[arg(short, long)]
    user: Option<AccountName>,
}

/// The machine.
#[derive(Debug, Args)]
struct MachineArgs {
    /// Container image: a reference, containers-storage:IMAGE, oci:DIR, oci-archive:FILE,
    /// docker-archive:FILE, a name in podman's storage, or a Containerfile
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Name the machine [default: the image's name, with a number if it is taken]
    #[arg(long, value_parser = parse_name)]
    name: Option<MachineName>,

    #[command(flatten)]
    hardware: HardwareArgs,

    /// Forward port HOST of this host to port GUEST of the machine (repeatable)
    #[arg(short, long = "port", value_name = "[ADDRESS:]HOST:GUEST[/udp]", value_parser = parse_ports)]
    ports: Vec<Ports>,

    #[command(flatten)]
    start: StartArgs,
}

impl MachineArgs {
    fn boot(self, session: &Session) -> Result<Booted, Failure> {
        let context = session.context()?;
        let hardware = self.hardware.hardware(&context.interrupt)?;
        let (accel, timeout) = self.start.chosen();
        let options = BootOptions {
            name: self.name,
            hardware,
            ports: self.ports.into_iter().flat_map(|ports| ports.0).collect(),
            accel,
            remove: true,
            until: Until::Ssh,
            timeout,
        };
        let image = pb::tree(context, &self.image)?;
        machine::boot(context, &image, &options)
    }
}

impl Ephemeral {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            EphemeralCommand::Run(run) => {
                let booted = run.machine.boot(session)?;
                session.print_last(&booted, |booted| booted.name.clone(), summary)?;
                Ok(Status::Done)
            }
            EphemeralCommand::Ssh(ssh) => ssh.run(session),
        }
    }
}

impl Ssh {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let booted = self.machine.boot(session)?;
        let options = SshOptions {
            user: self.user,
            ..SshOptions::default()
        };
        let status = ssh::enter(
            session,
            context,
            booted.name.as_str(),
            &options,
            &self.command,
        );
        // The user may have stopped it in the meantime.
        let removed = machine::find_machine(context, booted.name.as_str())
            .and_then(|machine| machine::remove(context, &machine, true));
        match removed {
            Err(error) if !error.is(Kind::NotFound) => Err(error),
            _ => status,
        }
    }
}

/// What the user can do now.
fn summary(booted: &Booted) -> String {
    let name = &booted.name;
    let mut text = format!(
        "{name}: ready after {}; enter it with: vmfab ssh {name}; vmfab stop {name} removes it\n",
        duration(booted.seconds),
    );
    for port in &booted.ports {
        text += &format!("{name}: {port}\n");
    }
    text
}
