//! How the guest of a machine learns its name and whose key to let in.
//!
//! What it is told is made anew at each start, from the machine's config and its image: the same as
//! long as the machine is the same.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::Machine;
use super::config::MachineConfig;
use super::create::check_first_boot;
use super::directory::files;
use super::error::{MachineError, io_error};
use super::launch::utf8;
use crate::checked::AccountName;
use crate::disk::write_volume;
use crate::guest::ec2::{self, METADATA_ARGUMENT, Metadata};
use crate::guest::{
    Account, GuestMount, GuestNetwork, Identity, KeyPair, PRIVATE_KEY, nocloud, oem_strings,
    password_string,
};
use crate::host::file::{Durability, Replace};
use crate::host::this_program;
use crate::image::{ImageTemplate, Seed};
use crate::qemu::MetadataService;

/// What QEMU gets for the guest to read.
#[derive(Debug, Default)]
pub(super) struct Seeded {
    pub(super) disk: Option<String>,
    pub(super) metadata: Option<MetadataService>,
    pub(super) oem_strings: Vec<String>,
    /// A file for Ignition.
    pub(super) ignition: Option<String>,
    /// Files with one such string each.
    pub(super) oem_files: Vec<String>,
}

/// Makes the seed that the image of a machine asks for. It gets in this way and no other: so a
/// machine that can be entered shows that its seed works.
pub(super) fn prepare(
    machine: &Machine,
    config: &MachineConfig,
    template: &ImageTemplate,
    mounts: Vec<GuestMount>,
    network: Option<GuestNetwork>,
) -> Result<Seeded, MachineError> {
    // A project's file may have changed since the machine was made.
    check_first_boot(&config.image_name, config.seed, &config.first_boot)?;
    let key_path = machine.directory.join(PRIVATE_KEY);
    let own = KeyPair::read(&key_path)?
        .public_line()
        .map_err(|error| io_error("encode", &key_path)(std::io::Error::other(error)))?;
    let more = config.ssh_keys.iter().map(ToString::to_string);
    let public_keys = std::iter::once(own).chain(more).collect();
    let accounts = accounts(template, &config.ssh_user);
    let identity = Identity {
        instance: config.instance,
        hostname: match &template.hostname {
            Some(name) => name.to_string(),
            None => machine.name.hostname(),
        },
        public_keys,
        ssh_user: config.ssh_user.clone(),
        accounts,
        mounts,
        network,
        first_boot: config.first_boot.clone(),
    };
    let mut seeded = Seeded::default();
    match config.seed {
        Seed::Credentials => {
            seeded.oem_strings = oem_strings(&identity);
            if let Some(password) = password_string(&identity) {
                let path = machine.directory.join(files::PASSWORD);
                write(&path, |mut file| file.write_all(password.as_bytes()))?;
                seeded.oem_files.push(files::PASSWORD.to_owned());
            }
            if config.first_boot.cloud_init.is_some() {
                seeded.disk = Some(nocloud_disk(machine, &identity)?);
            }
        }
        Seed::Nocloud => {
            seeded.disk = Some(nocloud_disk(machine, &identity)?);
        }
        Seed::Ec2 => {
            let path = machine.directory.join(files::METADATA);
            write(&path, |mut file| {
                file.write_all(&serde_json::to_vec_pretty(&Metadata::new(&identity))?)
            })?;
            let program = this_program()?;
            seeded.metadata = Some(MetadataService {
                network: ec2::NETWORK.to_owned(),
                address: ec2::ADDRESS.to_owned(),
                guest: ec2::GUEST_ADDRESS.to_owned(),
                mac: ec2::MAC.to_owned(),
                // QEMU starts it in the machine's directory.
                command: vec![
                    utf8(program)?,
                    METADATA_ARGUMENT.to_owned(),
                    files::METADATA.to_owned(),
                ],
                system_uuid: ec2::system_uuid(&identity),
            });
        }
        Seed::None => {}
    }
    let ignition = config.first_boot.ignition.as_ref();
    if let Some(text) = ignition.or(template.boot.ignition.as_ref()) {
        let path = machine.directory.join(files::IGNITION);
        write(&path, |mut file| file.write_all(text.as_bytes()))?;
        seeded.ignition = Some(files::IGNITION.to_owned());
    }
    Ok(seeded)
}

/// The accounts of the image, and the one that is entered: an image that was made elsewhere need not
/// name it. Its home is where `useradd` puts it.
fn accounts(template: &ImageTemplate, entered: &AccountName) -> Vec<Account> {
    let known = template.users.iter().map(|(name, home)| Account {
        name: name.clone(),
        home: home.clone(),
    });
    let mut accounts: Vec<Account> = known.collect();
    if !template.users.contains_key(entered) {
        let home = match &**entered {
            "root" => "/root".to_owned(),
            name => format!("/home/{name}"),
        };
        accounts.extend(home.parse().map(|home| Account {
            name: entered.clone(),
            home,
        }));
    }
    accounts
}

/// Makes the small disk of NoCloud.
fn nocloud_disk(machine: &Machine, identity: &Identity) -> Result<String, MachineError> {
    let path = machine.directory.join(files::SEED);
    write(&path, |file| {
        let seed = nocloud::files(identity);
        let seed = seed.iter().map(|(name, text)| (*name, text.as_bytes()));
        let id = identity
            .instance
            .map_or(0, |instance| instance.as_fields().0);
        let seed: Vec<_> = seed.collect();
        write_volume(file, nocloud::LABEL, id, &seed).map_err(std::io::Error::other)
    })?;
    Ok(files::SEED.to_owned())
}

/// Writes a file that only the owner can read, in one piece.
fn write(path: &Path, fill: impl FnOnce(&File) -> std::io::Result<()>) -> Result<(), MachineError> {
    Replace::new(path, Durability::None)
        .fill(fill)
        .map_err(io_error("write", path))
}
