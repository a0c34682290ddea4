//! `vmfab boot`

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::Status;
use super::super::output::duration;
use super::super::session::Session;
use super::build::parse_tag;
use super::cache::CacheArgs;
use super::hardware::HardwareArgs;
use super::recipe::{DockerfileArgs, LockArgs, SecretArgs, parse_setting};
use super::{console, ssh};
use crate::failure::{Failure, Kind};
use crate::image::Protocol;
use crate::machine::{Forwarded, MachineName, NameError, Until};
use crate::ops::RecipeChoice;
use crate::ops::machine::{self, BootOptions, Booted, ImageOptions, SshOptions};
use crate::ops::snapshot;
use crate::qemu::AccelChoice;
use crate::store::TagName;

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
  name=$(vmfab boot --quiet @docker)")]
pub(crate) struct Boot {
    /// Tag, first digits of an image's id, recipe or Dockerfile (vmfab builds it first), disk file,
    /// or image in a registry (vmfab pulls it): HOST/NAME[:TAG], NAME:TAG
    ///
    /// vmfab makes a machine of a container image, and its process a service.
    #[arg(value_name = "IMAGE|RECIPE|@TAG|DISK|REF")]
    image: String,

    /// Set a parameter of the recipe (repeatable)
    #[arg(short, long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,

    #[command(flatten)]
    dockerfile: DockerfileArgs,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    lock: LockArgs,

    /// Name the machine [default: the image's name, with a number if it is taken]
    #[arg(long, value_parser = parse_name)]
    name: Option<MachineName>,

    /// If a recipe cannot be built, boot the base of its image
    #[arg(long)]
    fallback: bool,

    #[command(flatten)]
    hardware: HardwareArgs,

    /// Forward port HOST of this host to port GUEST of the machine (repeatable)
    ///
    /// It listens on 127.0.0.1, or on ADDRESS; 0.0.0.0 stands for all addresses of this host. HOST and
    /// GUEST can be ranges of the same length, such as 8000-8010:8000-8010.
    #[arg(short, long = "port", value_name = "[ADDRESS:]HOST:GUEST[/udp]", value_parser = parse_ports)]
    ports: Vec<Ports>,

    /// Tag the image as well, with the disk as it was before the boot
    #[arg(long, value_name = "@TAG", value_parser = parse_tag)]
    save_base: Option<TagName>,

    /// Let --save-base replace a tag of another image
    #[arg(long, requires = "save_base")]
    force: bool,

    /// Open a session when the machine is ready, and pass on its exit code
    #[arg(long, conflicts_with = "console")]
    ssh: bool,

    /// Attach to the console from the first line on (Ctrl-] leaves)
    #[arg(long)]
    console: bool,

    /// Remove the machine after the session, or when it stops
    #[arg(long)]
    rm: bool,

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

    #[command(flatten)]
    cache: CacheArgs,
}

/// The time-out of `boot` and `start` in seconds: ten times what a guest takes under TCG.
pub(super) const TIMEOUT: u64 = 300;

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
        let context = &session.registry_context(self.cache.registries)?;
        let choice = RecipeChoice {
            recipe: super::recipe::local(session, self.image.clone())?,
            settings: self.settings.iter().cloned().collect(),
            ..RecipeChoice::default()
        };
        let choice = self.dockerfile.clone().apply(choice)?;
        let options = ImageOptions {
            choice: self.lock.apply(choice),
            secrets: self.secrets.clone().read()?,
            cache: self.cache.clone().options(context)?,
            fallback: self.fallback,
        };
        let (ssh, console, rm) = (self.ssh, self.console, self.rm);
        let (base, force) = (self.save_base.clone(), self.force);
        if let Some(tag) = &base {
            snapshot::check_base(context, tag, force)?;
        }
        let asked = self.options()?;
        let image = machine::image(context, options)?;
        if let Some(tag) = &base {
            snapshot::save_base(context, &image.image, tag, force)?;
        }
        let booted = machine::boot(context, &image, &asked)?;
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

    fn options(self) -> Result<BootOptions, Failure> {
        Ok(BootOptions {
            name: self.name,
            hardware: self.hardware.hardware()?,
            ports: self.ports.into_iter().flat_map(|ports| ports.0).collect(),
            accel: self.accel.into(),
            remove: self.rm,
            until: if self.console {
                Until::Console
            } else {
                Until::Ssh
            },
            timeout: Duration::from_secs(self.timeout),
        })
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

/// The ports that one option forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports(pub(super) Vec<Forwarded>);

pub(super) fn parse_ports(text: &str) -> Result<Ports, String> {
    ports(text).map(Ports).ok_or_else(|| {
        "write [ADDRESS:]HOST:GUEST, with numbers from 1 to 65535 or two ranges of one length, such as \
         8080:80, 5353:53/udp or 0.0.0.0:8000-8010:8000-8010"
            .to_owned()
    })
}

fn ports(text: &str) -> Option<Vec<Forwarded>> {
    let (ports, protocol) = match text.strip_suffix("/udp") {
        Some(ports) => (ports, Protocol::Udp),
        None => (text.strip_suffix("/tcp").unwrap_or(text), Protocol::Tcp),
    };
    let (front, guest) = ports.rsplit_once(':')?;
    let (address, host) = match front.rsplit_once(':') {
        Some((address, host)) => (address.parse().ok()?, host),
        None => (Ipv4Addr::LOCALHOST, front),
    };
    let (host, guest) = (range(host)?, range(guest)?);
    (host.len() == guest.len()).then(|| {
        let pairs = host.zip(guest);
        let forwarded = pairs.map(|(host, guest)| Forwarded {
            protocol,
            address,
            ..Forwarded::tcp(host, guest)
        });
        forwarded.collect()
    })
}

/// `80`, `8000-8010`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let shown = |text: &str| {
            let ports = parse_ports(text).unwrap().0;
            let shown: Vec<_> = ports.iter().map(ToString::to_string).collect();
            shown.join(", ")
        };
        assert_eq!(shown("8080:80"), "forwards 127.0.0.1:8080 to port 80");
        assert_eq!(
            shown("5353:53/udp"),
            "forwards 127.0.0.1:5353 to port 53/udp"
        );
        assert_eq!(
            shown("0.0.0.0:80-81:8080-8081/tcp"),
            "forwards 0.0.0.0:80 to port 8080, forwards 0.0.0.0:81 to port 8081"
        );
        for bad in [
            "", "80", "80:", ":80", "0:80", "80:65536", "a:b", "1:2:3", "1:2/sctp", "x:1:2",
            "1-2:3", "2-1:2-1", "1-:1-",
        ] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }
}
