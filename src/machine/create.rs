//! Making a machine: its directory with overlay, key and config appears in one step.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::config::{Forwarded, MachineConfig, MachineDisk};
use super::directory::files;
use super::disk_file;
use super::error::MachineError;
use super::launch::free_port;
use super::name::MachineName;
use super::{Locked, Machines};
use crate::checked::AccountName;
use crate::digest::ObjectId;
use crate::disk::overlay;
use crate::failure::Failure;
use crate::guest::{KeyPair, PRIVATE_KEY};
use crate::image::{
    ContainerRef, DiskBus, DiskFile, Firmware, FirstBoot, FurtherDisk, Hardware, ImageConfig,
    Platform, Seed,
};
use crate::qemu::{AccelChoice, Backing};
use crate::store::Store;

/// There is room for so many beside the other devices.
const MOST_DISKS: usize = 12;

/// What a machine is to be.
#[derive(Debug, Clone)]
pub struct NewMachine<'a> {
    /// Its name; chosen after the image when absent.
    pub name: Option<MachineName>,
    pub image: ObjectId,
    pub config: &'a ImageConfig,
    pub hardware: Hardware,
    /// Forwarded ports, besides the one for SSH.
    pub ports: Vec<Forwarded>,
    pub accel: AccelChoice,
    /// Whether the machine goes when it is stopped.
    pub remove_when_stopped: bool,
    /// The account that is entered; the image's when absent.
    pub ssh_user: Option<AccountName>,
    /// The container image that it is made of, if its user asks for it as one.
    pub container: Option<ContainerRef>,
}

impl Machines {
    /// Makes a machine, stopped.
    ///
    /// # Errors
    /// The name is taken, the image cannot be booted on this host or in this way, its disk is not
    /// in the store, or files cannot be made.
    pub fn create(&self, new: &NewMachine<'_>, store: &Store) -> Result<Locked, MachineError> {
        let firmware = bootable(new)?;
        let template = &new.config.template;
        check_first_boot(&template.name, template.boot.seed, &new.hardware.first_boot)?;
        if let Some(name) = &new.name
            && self.root.directory(name).exists()
        {
            return Err(MachineError::Exists(name.clone()));
        }
        let disk = match self.backing(&new.image, new.config, store)? {
            Backing::File(path) => path,
            // QEMU is told what is below when it starts.
            Backing::Nbd { .. } => "image".to_owned(),
        };
        let disk_size = template
            .requires
            .disk(new.hardware.disk_size, new.config.disk.size);
        let (disks, disk_files) = disks(disk_size, &new.hardware, &template.boot.platform)?;
        let ports: Vec<u16> = new.ports.iter().map(|port| port.host).collect();
        let config = MachineConfig {
            version: MachineConfig::VERSION,
            image: new.image,
            image_name: new.config.template.name.clone(),
            instance: Some(uuid::Uuid::new_v4()),
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |age| age.as_secs()),
            memory_mib: template.requires.memory_mib(new.hardware.memory_mib),
            cpus: template.requires.cpus(new.hardware.cpus),
            disks,
            ssh_port: free_port(&ports)?,
            ssh_user: match &new.ssh_user {
                Some(user) => user.clone(),
                None => new.config.template.ssh_user.clone(),
            },
            ports: new.ports.clone(),
            accel: new.accel,
            firmware,
            seed: new.config.template.boot.seed,
            network: new.hardware.network.clone().unwrap_or_default(),
            mounts: new.hardware.mounts.clone(),
            devices: new.hardware.devices.clone(),
            ssh_keys: new.hardware.ssh_keys.clone(),
            first_boot: new.hardware.first_boot.clone(),
            disk_files,
            remove_when_stopped: new.remove_when_stopped,
            container: new.container.clone(),
            renew_identity: false,
        };

        let (temporary, lock) = self.root.temporary()?;
        let filled = fill(&temporary, &config, &disk, new.config.disk.size)
            .and_then(|()| self.publish(&temporary, new));
        match filled {
            Ok(name) => Ok(Locked {
                machine: self.at(name),
                lock,
            }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&temporary);
                Err(error)
            }
        }
    }

    fn publish(&self, temporary: &Path, new: &NewMachine<'_>) -> Result<MachineName, MachineError> {
        if let Some(name) = &new.name {
            return if self.root.publish(temporary, name)? {
                Ok(name.clone())
            } else {
                Err(MachineError::Exists(name.clone()))
            };
        }
        for name in MachineName::candidates(&new.config.template.name) {
            if self.root.publish(temporary, &name)? {
                return Ok(name);
            }
        }
        unreachable!("candidates do not end")
    }
}

/// Makes sure that a machine's disk is not smaller than its image's.
///
/// # Errors
/// It is.
pub fn check_disk_size(asked: u64, image: u64) -> Result<(), MachineError> {
    Ok(overlay::check_size(asked, image)?)
}

/// The disks of a machine: its own, and files of the host.
fn disks(
    first: u64,
    hardware: &Hardware,
    image: &Platform,
) -> Result<(Vec<MachineDisk>, Vec<DiskFile>), MachineError> {
    if hardware.disks.len() > MOST_DISKS {
        return Err(Failure::usage(format!(
            "a machine can have {MOST_DISKS} further disks, not {}",
            hardware.disks.len()
        ))
        .into());
    }
    let platform = hardware.devices.platform.over(image);
    let mut own = vec![MachineDisk::new(first)];
    let mut files: Vec<DiskFile> = Vec::new();
    for disk in &hardware.disks {
        match disk {
            FurtherDisk::Empty(size) => own.push(MachineDisk::new(*size)),
            FurtherDisk::File { path, writable } => {
                let file = disk_file::examine(path, *writable)?;
                if files.iter().any(|other| other.path == *path) {
                    let message = format!("{} is to be two disks", path.display());
                    return Err(Failure::usage(message).with_help("attach it once").into());
                }
                // QEMU's are always writable there.
                if platform.disk_bus == Some(DiskBus::Sata) && !writable {
                    let message = format!("{} cannot be read-only on SATA", path.display());
                    let help = "let the guest write to it, or use another bus";
                    return Err(Failure::usage(message).with_help(help).into());
                }
                files.push(file);
            }
        }
    }
    Ok((own, files))
}

fn fill(
    directory: &Path,
    config: &MachineConfig,
    disk: &str,
    image_size: u64,
) -> Result<(), MachineError> {
    let overlay = directory.join(files::OVERLAY);
    overlay::create(&overlay, disk, image_size, config.disk_size())?;
    for (number, disk) in config.disks.iter().enumerate().skip(1) {
        let overlay = directory.join(files::overlay_of(number));
        overlay::create(&overlay, "image", 0, disk.size)?;
    }
    let comment = format!("vmfab machine of {}", config.image_name);
    KeyPair::create(&directory.join(PRIVATE_KEY), &comment)?;
    config.write(directory)
}

/// Makes sure that a guest gets to know what it is to take over.
pub(super) fn check_first_boot(
    image: &str,
    seed: Seed,
    given: &FirstBoot,
) -> Result<(), MachineError> {
    let refused = given.beyond(seed).map(|what| MachineError::Seed {
        image: image.to_owned(),
        what,
        seed,
    });
    refused.map_or(Ok(()), Err)
}

/// How the image is booted; an error when it cannot be, here or in this way.
fn bootable(new: &NewMachine<'_>) -> Result<Firmware, MachineError> {
    let template = &new.config.template;
    if template.architecture != std::env::consts::ARCH {
        return Err(MachineError::Architecture {
            image: template.name.to_string(),
            wanted: template.architecture.to_string(),
        });
    }
    let firmware = new.hardware.firmware.unwrap_or(template.boot.firmware);
    let ways = ways(new.config);
    if ways.contains(&firmware) {
        return Ok(firmware);
    }
    Err(MachineError::CannotBoot {
        image: template.name.to_string(),
        missing: match firmware {
            Firmware::Direct => "kernel of its own",
            Firmware::Uefi => "boot loader for UEFI",
            Firmware::Bios => "boot loader for a BIOS",
        },
        ways,
    })
}

/// In which ways an image can be booted on this host.
pub(super) fn ways(config: &ImageConfig) -> Vec<Firmware> {
    let boot = &config.template.boot;
    let ways = [
        (Firmware::Direct, config.kernel.is_some()),
        (Firmware::Uefi, boot.uefi),
        (Firmware::Bios, boot.bios && cfg!(target_arch = "x86_64")),
    ];
    let possible = ways.into_iter().filter(|(_, possible)| *possible);
    possible.map(|(way, _)| way).collect()
}
