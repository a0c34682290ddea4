//! `vmfab pb run`

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueHint};

use super::super::super::Status;
use super::super::super::session::Session;
use super::super::boot::{TIMEOUT, parse_name};
use super::super::hardware::{
    HardwareArgs, PublicKeys, parse_memory, parse_mount, parse_network, parse_public_keys,
};
use super::super::new_machine::{Ports, parse_ports};
use super::enter;
use crate::checked::AccountName;
use crate::failure::{Failure, Kind};
use crate::image::{DiskFormat, Mount, Network};
use crate::instruction::BootcInstall;
use crate::machine::{MachineName, Until};
use crate::ops::machine::StartOptions;
use crate::ops::pb::{self, How, InstallOptions, RunOptions, parse_human_size};

/// Run a bootable container as a virtual machine, and open a session in it
///
/// vmfab installs the image to a disk, once for each version of the image and each set of options,
/// makes a machine and starts it. The machine keeps running after the session. If a machine of the
/// image runs, vmfab enters it; if one is stopped, vmfab starts it. After a command, and with --rm,
/// vmfab removes the machine that it made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pb run quay.io/centos-bootc/centos-bootc:stream9
  vmfab pb run quay.io/fedora/fedora-bootc:42 --filesystem btrfs -B
  vmfab pb run quay.io/fedora/fedora-bootc:42 -- bootc status
  vmfab pb run quay.io/fedora/fedora-bootc:42 --name second --memory 4096 --port 8080:80
  vmfab pb run ./Containerfile --rm
  vmfab pb run d0300f628e13")]
pub(crate) struct Run {
    /// Container image, or first digits of the id of one that was installed: a reference,
    /// containers-storage:IMAGE, oci:DIR, oci-archive:FILE, docker-archive:FILE, a Containerfile, @TAG
    #[arg(value_name = "IMAGE|ID")]
    image: String,

    /// Command to run instead of a shell; vmfab removes the machine afterwards
    #[arg(value_name = "CMD", conflicts_with = "background")]
    command: Vec<String>,

    /// Log in as USER, whom vmfab lets in with the machine's key [default: root]
    #[arg(short, long)]
    user: Option<AccountName>,

    /// Give cloud-init the files of DIR: user-data, meta-data, network-config, vendor-data
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    cloudinit: Option<PathBuf>,

    /// Make this file system: ext4, xfs or btrfs [default: the image's own]
    #[arg(long, value_name = "FS", value_parser = PossibleValuesParser::new(["ext4", "xfs", "btrfs"]), hide_possible_values = true)]
    filesystem: Option<String>,

    /// Open no session, and do not wait for the machine
    #[arg(short = 'B', long)]
    background: bool,

    /// Remove the machine when the session ends
    #[arg(long, conflicts_with = "background")]
    rm: bool,

    /// Give the root file system at most SIZE
    #[arg(long, value_name = "SIZE", value_parser = parse_human_size)]
    root_size_max: Option<u64>,

    /// Make a disk of at least SIZE: bytes, or with M, G or T (powers of 1000)
    ///
    /// It has at least 10 GiB in any case, and twice the size of the image.
    #[arg(long, value_name = "SIZE", value_parser = parse_human_size)]
    disk_size: Option<u64>,

    /// Name the machine [default: the image's name, with a number if it is taken]
    #[arg(long, value_parser = parse_name)]
    name: Option<MachineName>,

    /// Set the memory: MiB, or with M or G [default: 2048]
    #[arg(long, value_name = "SIZE", value_parser = parse_mib)]
    memory: Option<u32>,

    /// Set the number of virtual processors [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: Option<u32>,

    /// Forward port HOST of this host to port GUEST of the machine (repeatable)
    #[arg(long = "port", value_name = "[ADDRESS:]HOST:GUEST[/udp]", value_parser = parse_ports)]
    ports: Vec<Ports>,

    /// Mount a volume, or share a directory of this host, at PATH of the machine (repeatable)
    #[arg(long = "volume", value_name = "NAME|DIRECTORY:PATH[:ro]", value_parser = parse_mount)]
    mounts: Vec<Mount>,

    /// Connect the machine: none, user, bridge[:NAME] [default: user]
    #[arg(long, value_name = "NETWORK", value_parser = parse_network)]
    network: Option<Network>,

    /// Let the SSH key of FILE in, too: a public key (repeatable)
    #[arg(long = "ssh-key", value_name = "FILE", value_parser = parse_public_keys, value_hint = ValueHint::FilePath)]
    ssh_keys: Vec<PublicKeys>,

    /// Add a kernel argument at the installation (repeatable)
    #[arg(long = "karg", value_name = "ARGUMENT")]
    kargs: Vec<String>,

    /// Give Ignition the configuration of FILE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ignition: Option<PathBuf>,

    /// Let bootc in the machine reach the registry at PORT of this host, as localhost:PORT (repeatable)
    #[arg(long = "registry-access", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    registries: Vec<u16>,

    /// Also write the installed disk beside the machine, as qcow2, raw or vmdk
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["qcow2", "raw", "vmdk"]), hide_possible_values = true)]
    format: Option<String>,

    /// Wait at most SECONDS until the machine is ready
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
}

/// MiB of a number, or of a size with a unit.
fn parse_mib(text: &str) -> Result<u32, String> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => parse_memory(&format!("{text}M")),
        false => parse_memory(text),
    }
}

impl Run {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let hardware = HardwareArgs {
            memory: self.memory,
            cpus: self.cpus,
            mounts: self.mounts,
            network: self.network,
            ssh_keys: self.ssh_keys,
            cloud_init: self.cloudinit,
            registries: self.registries,
            ..HardwareArgs::default()
        };
        let mut hardware = hardware.hardware(&context.interrupt)?;
        hardware.first_boot.ignition = self.ignition.as_deref().map(pb::ignition).transpose()?;
        let options = RunOptions {
            name: self.name,
            user: self.user,
            install: InstallOptions {
                filesystem: self.filesystem,
                root_size_max: self.root_size_max,
                disk_size: self
                    .disk_size
                    .map(|size| size.max(BootcInstall::LEAST_DISK)),
                kargs: self.kargs,
                target: None,
            },
            hardware,
            ports: self.ports.into_iter().flat_map(|ports| ports.0).collect(),
            format: self.format.as_deref().and_then(DiskFormat::named),
            passing: self.rm || !self.command.is_empty(),
        };
        let chosen = pb::choose(context, &self.image, &options)?;
        let name = chosen.machine.name().to_string();
        // Nobody stops it while it is being started.
        let held = chosen.machine.occupy()?;
        if chosen.how == How::Running {
            session.note(&format!("machine \"{name}\" is already running"));
        } else {
            session.note("Booting the VM...");
            let start = StartOptions {
                until: match self.background {
                    true => Until::Console,
                    false => Until::Ssh,
                },
                timeout: Duration::from_secs(self.timeout),
            };
            pb::start(context, &chosen, &options, start, !self.background)?;
        }
        if self.background {
            session.note(&format!(
                "machine \"{name}\" runs; enter it with vmfab pb ssh {name}"
            ));
            return Ok(Status::Done);
        }
        let user = options.user.clone().unwrap_or_else(pb::root);
        let machine = pb::find(context, &name)?;
        let status = enter(session, &machine, &user, &self.command);
        drop(held);
        match chosen.how {
            How::Made if options.passing => {
                // The user may have removed it in the meantime.
                match pb::remove(context, &machine, true) {
                    Err(error) if !error.is(Kind::NotFound) => return Err(error),
                    _ => {}
                }
            }
            _ if options.passing => session.note(&format!(
                "machine \"{name}\" stays: it was there before; vmfab pb rm -f {name} removes it"
            )),
            _ => {}
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_numbers_are_mib() {
        assert_eq!(parse_mib("2048"), Ok(2048));
        assert_eq!(parse_mib("4G"), Ok(4096));
        for bad in ["", "16", "x", "-1"] {
            assert!(parse_mib(bad).is_err(), "{bad}");
        }
    }
}
