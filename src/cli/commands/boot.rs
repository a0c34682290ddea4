//! `vmfab boot`

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::Status;
use super::super::output::duration;
use super::super::session::Session;
use super::build::detach;
use super::new_machine::NewMachineArgs;
use super::{console, several, ssh};
use crate::failure::{Failure, Kind};
use crate::machine::{MachineName, NameError, Until};
use crate::ops::machine::{self, BootOptions, Booted, SshOptions};
use crate::qemu::AccelChoice;

/// Create a machine from an image and start it
///
/// The machine writes to its own overlay; the image does not change. vmfab boot ends when a command
/// over SSH has succeeded. The machine keeps running until vmfab stop, or until it shuts down.
/// Forwarded ports listen on 127.0.0.1 unless another address is given.
///
/// If the machine is not ready in time, vmfab shows the last lines of its console and keeps the
/// machine. Ctrl-C ends the waiting, not the machine (with --rm, both).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab boot @docker
  vmfab boot @docker --memory 4G --cpus 4 --disk-size 40G -p 8080:80
  vmfab boot @docker --volume data:/var/lib/postgresql
  vmfab boot @docker --ssh --rm
  vmfab boot docker --set base=debian-12 --ssh
  vmfab boot ./Dockerfile --build-arg NODE=22 --ssh
  vmfab boot ghcr.io/me/docker:1.0 --ssh
  vmfab boot nginx:1 -p 8080:80
  vmfab boot ./disk.qcow2 --console
  vmfab boot @docker --console
  vmfab boot @ci --count 10 --name runner
  name=$(vmfab boot --quiet @docker)")]
pub(crate) struct Boot {
    /// Tag, first digits of an image's id, recipe or Dockerfile (vmfab builds it first), disk file,
    /// or image in a registry (vmfab pulls it): HOST/NAME[:TAG], NAME:TAG
    ///
    /// vmfab makes a machine of a container image, and its process a service.
    #[arg(value_name = "IMAGE|RECIPE|@TAG|DISK|REF")]
    image: String,

    /// Name the machine [default: the image's name, with a number if it is taken]
    #[arg(long, value_parser = parse_name)]
    name: Option<MachineName>,

    /// Boot N machines at the same time; with --name they are NAME-1, NAME-2 and so on
    ///
    /// None of them gets a forwarded port, not even those that the image serves.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=MOST),
        conflicts_with_all = ["ssh", "console", "ports"]
    )]
    count: Option<u32>,

    /// If a recipe cannot be built, boot the base of its image
    #[arg(long)]
    fallback: bool,

    /// Pull all of an image in a registry before the machine starts
    ///
    /// Without it, the machine starts at once, and vmfab fetches first what the guest reads.
    #[arg(long)]
    eager: bool,

    #[command(flatten)]
    new: NewMachineArgs,

    /// Open a session when the machine is ready, and pass on its exit code
    #[arg(long, conflicts_with = "console")]
    ssh: bool,

    /// Attach to the console from the first line on (Ctrl-] leaves)
    #[arg(long)]
    console: bool,

    /// Run in the background, and print the id of the build at once (see vmfab builds)
    #[arg(long, conflicts_with_all = ["ssh", "console"])]
    detach: bool,

    /// Remove the machine after the session, or when it stops
    #[arg(long)]
    rm: bool,

    #[command(flatten)]
    start: StartArgs,
}

/// How a new machine is started.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// Choose the acceleration: auto, kvm, hvf or tcg
    ///
    /// auto uses hardware acceleration if it works, else tcg, which is slow. The others have no
    /// fallback.
    #[arg(
        long,
        value_name = "WHICH",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    accel: Accel,

    /// Wait at most SECONDS until the machine is ready
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
}

impl StartArgs {
    /// The acceleration, and how long to wait.
    pub(super) fn chosen(&self) -> (AccelChoice, Duration) {
        (self.accel.into(), Duration::from_secs(self.timeout))
    }
}

/// The time-out of `boot` and `start` in seconds: ten times what a guest takes under TCG.
pub(super) const TIMEOUT: u64 = 300;

/// How many machines one command boots at most. Their number is bounded by the host's room, too.
const MOST: i64 = 1000;

/// What runs a machine's instructions.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum Accel {
    #[default]
    Auto,
    Kvm,
    Hvf,
    Tcg,
}

impl From<Accel> for AccelChoice {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Auto => Self::Auto,
            Accel::Kvm => Self::Kvm,
            Accel::Hvf => Self::Hvf,
            Accel::Tcg => Self::Tcg,
        }
    }
}

impl Boot {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if self.detach && !session.is_detached() {
            return detach(session);
        }
        let (ssh, console, rm) = (self.ssh, self.console, self.rm);
        let ingredients = self.new.lazy(!self.eager).prepare(
            session,
            self.image,
            self.name.as_ref(),
            self.fallback,
        )?;
        let context = &ingredients.context;
        let (accel, timeout) = self.start.chosen();
        let options = BootOptions {
            name: self.name,
            hardware: ingredients.hardware,
            ports: ingredients.ports,
            accel,
            remove: rm,
            until: if console { Until::Console } else { Until::Ssh },
            timeout,
        };
        if let Some(count) = self.count {
            let each = machine::boot_several(context, &ingredients.image, &options, count)?;
            let lines = |all: &Vec<Booted>, line: fn(&Booted) -> String| {
                all.iter().map(line).collect::<String>()
            };
            let names = |all: &_| lines(all, |booted| format!("{}\n", booted.name));
            session.print_last(&each.done, names, |all| lines(all, summary))?;
            return several::check(each, "booted");
        }
        let booted = machine::boot(context, &ingredients.image, &options)?;
        let name = booted.name.as_str();
        if !ssh && !console {
            session.print_last(&booted, |booted| booted.name.clone(), summary)?;
            return Ok(Status::Done);
        }
        let status = if ssh {
            ssh::enter(session, context, name, &SshOptions::default(), &[])
        } else {
            console::from_the_beginning(session, context, name)
        };
        if rm {
            // The user may have removed it in the meantime.
            match machine::find_machine(context, name)
                .and_then(|machine| machine::remove(context, &machine, true))
            {
                Err(error) if !error.is(Kind::NotFound) => return Err(error),
                _ => {}
            }
        } else {
            session.note(&format!(
                "machine \"{name}\" keeps running: vmfab stop {name} stops it"
            ));
        }
        status
    }
}

/// What the user can do now.
fn summary(booted: &Booted) -> String {
    let enter = match booted.has_ssh {
        true => format!("; enter it with: vmfab ssh {}", booted.name),
        false => String::new(),
    };
    let mut text = format!(
        "{}: running under {}, ready after {}{enter}\n",
        booted.name,
        booted.accel.name().to_uppercase(),
        duration(booted.seconds),
    );
    for port in &booted.ports {
        text += &format!("{}: {port}\n", booted.name);
    }
    text
}

pub(super) fn parse_name(text: &str) -> Result<MachineName, NameError> {
    text.parse()
}
