//! From a snapshot, or what a machine has just now, to a machine.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::freeze::Wanted;
use super::name::SnapshotName;
use super::record::{Snapshot, SnapshotVolume};
use super::slots::{Slots, make_overlay};
use super::volumes::begin_restore;
use super::{Held, Snapshots};
use crate::checked::Name;
use crate::digest::ObjectId;
use crate::disk::overlay;
use crate::guest::{KNOWN_HOSTS, KeyPair, PRIVATE_KEY};
use crate::host::Interrupt;
use crate::host::file::{Durability, Replace};
use crate::image::ImageConfig;
use crate::machine::config::{MachineConfig, MachineDisk};
use crate::machine::directory::files;
use crate::machine::error::{MachineError, io_error};
use crate::machine::launch::free_port;
use crate::machine::state::State;
use crate::machine::{Locked, MachineName, Machines};
use crate::store::Store;

/// What a machine that is made of another one, or of a snapshot, is to have besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Derived {
    pub memory_mib: Option<u32>,
    pub cpus: Option<u32>,
    /// Whether its disk has the identity of a machine that goes on: the first start renews it.
    pub renew_identity: bool,
}

/// What is set back besides the machine's own disks and settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Its volumes.
    pub volumes: bool,
    /// What its guest had in memory: it is suspended then.
    pub memory: bool,
}

impl Locked {
    /// Sets the stopped machine back to a snapshot, with its volumes and memory if it is the machine
    /// that the snapshot is of. Memory needs all that was beside it at its moment. `keep` names the snapshot of its present state that is made first. Its name,
    /// its ports for SSH and its identity stay as they are.
    ///
    /// # Errors
    /// It runs, a name is taken, the snapshot is gone or its layers are, another machine runs with a
    /// volume, or files cannot be written. The machine is as it was then, but for the last case.
    pub fn put_back(
        &self,
        snapshot: &Snapshot,
        parts: Parts,
        keep: Option<&Wanted>,
        store: &Store,
        interrupt: &Interrupt,
    ) -> Result<Option<Snapshot>, MachineError> {
        let Parts { volumes, memory } = parts;
        let snapshots = self.machine.machines.snapshots();
        let held = snapshots.hold(interrupt)?;
        // It may have been removed or replaced meanwhile, and its layers with it.
        let snapshot = snapshots.open(&snapshot.name)?;
        snapshots.layers().checked(&snapshot.layers())?;
        let vars = snapshot.firmware_vars;
        let vars = vars.map(|vars| store.read_object(&vars.id)).transpose()?;
        let memory = match memory {
            true => snapshots.memory(&snapshot)?,
            false => None,
        };
        let present = self.machine.config()?;
        let saved = match volumes {
            true => self.saved_volumes(&snapshot, &present),
            false => Vec::new(),
        };
        // What stays as it is need not be kept.
        let names = present.volumes().filter(|_| volumes);
        let names = names.chain(saved.iter().map(|volume| &volume.name));
        let mut slots = self.slots(names, &snapshots, interrupt)?;
        snapshot.check_volumes(&saved, slots.volumes())?;
        let kept = self.keep(keep, &snapshots, &held, &mut slots, store)?;
        let present = self.machine.config()?;
        let mut config = MachineConfig {
            instance: present.instance,
            created: present.created,
            ssh_port: present.ssh_port,
            remove_when_stopped: present.remove_when_stopped,
            renew_identity: snapshot.settings.renew_identity,
            ..snapshot.settings.clone()
        };
        if self.machine.project().is_some() {
            // The snapshots of a project may have come with it from elsewhere.
            config.take_grants(&present);
        } else if volumes && !self.is_of(&snapshot, &present) {
            let others = present
                .mounts
                .iter()
                .filter(|mount| mount.volume().is_some());
            config.mounts.retain(|mount| mount.volume().is_none());
            config.mounts.extend(others.cloned());
        }
        if !saved.is_empty() {
            begin_restore(&self.machine.directory, &snapshot.name)?;
        }
        let all_volumes = saved.len() == snapshot.volumes.len();
        let memory = memory.filter(|_| all_volumes && fits(&snapshot.settings, &config));
        let mut present_volumes = slots.into_volumes();
        for saved in saved {
            let volumes = &self.machine.machines.volumes;
            snapshots.put_volume(saved, volumes, &mut present_volumes, interrupt)?;
        }
        self.replace_disks(&mut config)?;
        let directory = &self.machine.directory;
        let path = directory.join(KNOWN_HOSTS);
        let hosts = snapshot.known_hosts.as_bytes();
        Replace::new(&path, Durability::None)
            .with(hosts)
            .map_err(io_error("write", &path))?;
        let path = directory.join(files::FIRMWARE_VARS);
        let written = match vars {
            Some(vars) => Replace::new(&path, Durability::Whole).with(&vars),
            None => remove(&path),
        };
        written.map_err(io_error("write", &path))?;
        self.settle(&config, &present)?;
        // Before this moment its disks were others, which the memory does not belong to.
        if let Some((saved, path)) = memory {
            self.take_memory(&saved, &path)?;
        }
        self.machine.end_restore()?;
        snapshots.sweep(&held);
        Ok(kept)
    }

    /// Sets the stopped machine to an image, as [`put_back`](Self::put_back) does. Its further disks
    /// stay.
    ///
    /// # Errors
    /// See [`put_back`](Self::put_back).
    pub fn put_image(
        &self,
        id: ObjectId,
        image: &ImageConfig,
        keep: Option<&Wanted>,
        store: &Store,
        interrupt: &Interrupt,
    ) -> Result<Option<Snapshot>, MachineError> {
        let snapshots = self.machine.machines.snapshots();
        let held = snapshots.hold(interrupt)?;
        store.materialise(&image.disk.id)?;
        let present = self.machine.config()?;
        let mut slots = self.slots(present.volumes(), &snapshots, interrupt)?;
        let kept = self.keep(keep, &snapshots, &held, &mut slots, store)?;
        drop(slots);
        let present = self.machine.config()?;
        let mut config = present.clone();
        config.image = id;
        config.image_name = image.template.name.clone();
        config.ssh_user = image.template.ssh_user.clone();
        config.seed = image.template.boot.seed;
        config.firmware = image.template.boot.firmware;
        // The guest of another disk is a new one.
        config.instance = Some(Uuid::new_v4());
        config.renew_identity = false;
        if let Some(first) = config.disks.first_mut() {
            *first = MachineDisk::new(first.size.max(image.disk.size));
        }
        let further = config.disks.split_off(1);
        self.replace_disks(&mut config)?;
        config.disks.extend(further);
        self.settle(&config, &present)?;
        self.machine.end_restore()?;
        self.machine.forget_host_keys()?;
        for file in [files::FIRMWARE_VARS, files::TPM_STATE] {
            let path = self.machine.directory.join(file);
            remove(&path).map_err(io_error("remove", &path))?;
        }
        snapshots.sweep(&held);
        Ok(kept)
    }

    /// Makes a machine with what this one's disks hold now, and a key and address of its own. This
    /// one goes on.
    ///
    /// # Errors
    /// The name is taken, this machine's disks cannot be frozen, or files cannot be written.
    pub fn derive(
        &self,
        name: &MachineName,
        derived: &Derived,
        interrupt: &Interrupt,
    ) -> Result<Locked, MachineError> {
        let machines = &self.machine.machines;
        machines.check_free(name)?;
        let snapshots = machines.snapshots();
        let held = snapshots.hold(interrupt)?;
        let mut slots = Slots::of(&self.machine, &snapshots, Vec::new())?;
        let mut settings = self
            .freeze_disks(&snapshots, &held, &mut slots, None, interrupt)?
            .config;
        // One machine at a time has a volume.
        settings.mounts.retain(|mount| mount.volume().is_none());
        machines.of_settings(&settings, name, derived, None, &held)
    }

    /// The disks of the stopped machine, and these volumes.
    fn slots<'a>(
        &self,
        volumes: impl Iterator<Item = &'a Name>,
        snapshots: &Snapshots,
        interrupt: &Interrupt,
    ) -> Result<Slots, MachineError> {
        match self.machine.state()? {
            State::Stopped => {}
            State::Suspended => return Err(MachineError::Suspended(self.machine.name.clone())),
            _ => return Err(MachineError::Running(self.machine.name.clone())),
        }
        let volumes = self.machine.hold_volumes(volumes, interrupt)?;
        Slots::of(&self.machine, snapshots, volumes)
    }

    /// Whether a snapshot is of this machine, which may have another name now.
    fn is_of(&self, snapshot: &Snapshot, present: &MachineConfig) -> bool {
        let is_one = present.instance.is_some() && present.instance == snapshot.settings.instance;
        is_one || snapshot.machine == self.machine.name
    }

    /// The volumes of a snapshot that are set back with the machine.
    fn saved_volumes<'a>(
        &self,
        snapshot: &'a Snapshot,
        present: &MachineConfig,
    ) -> Vec<&'a SnapshotVolume> {
        if !self.is_of(snapshot, present) {
            return Vec::new();
        }
        // The snapshots of a project may have come with it from elsewhere.
        let may = |saved: &&SnapshotVolume| {
            self.machine.project().is_none() || present.volumes().any(|name| *name == saved.name)
        };
        snapshot.volumes.iter().filter(may).collect()
    }

    fn keep(
        &self,
        keep: Option<&Wanted>,
        snapshots: &Snapshots,
        held: &Held,
        slots: &mut Slots,
        store: &Store,
    ) -> Result<Option<Snapshot>, MachineError> {
        let Some(wanted) = keep else { return Ok(None) };
        snapshots.check_free(&wanted.name)?;
        let disks = self.freeze_stopped(snapshots, held, slots)?;
        let snapshot = self.record(wanted, disks, store)?;
        snapshots.publish(&snapshot, held)?;
        Ok(Some(snapshot))
    }

    /// Gives disks overlays of their own, beside those that the machine has. Over layers the next
    /// start makes them.
    fn replace_disks(&self, config: &mut MachineConfig) -> Result<(), MachineError> {
        for disk in &mut config.disks {
            disk.top = None;
            if disk.layers.is_empty() {
                make_overlay(&self.machine.directory, disk)?;
            }
        }
        Ok(())
    }

    /// Writes the config, and removes the overlays that it no longer names.
    fn settle(&self, config: &MachineConfig, present: &MachineConfig) -> Result<(), MachineError> {
        let directory = &self.machine.directory;
        config.write_with(directory, Durability::Lasting)?;
        let overlays = |config: &MachineConfig| -> Vec<String> {
            let disks = config.disks.iter().enumerate();
            disks.filter_map(|(n, disk)| disk.overlay(n)).collect()
        };
        let named = overlays(config);
        for overlay in overlays(present) {
            if !named.contains(&overlay) {
                let _ = fs::remove_file(directory.join(overlay));
            }
        }
        Ok(())
    }
}

/// A machine that is made anew is another one than that which the memory is of.
const ALL_BUT_MEMORY: Parts = Parts {
    volumes: true,
    memory: false,
};

/// Whether a guest that was saved with these settings finds the same machine in others.
fn fits(saved: &MachineConfig, now: &MachineConfig) -> bool {
    let hardware = |config: &MachineConfig| {
        let MachineConfig {
            mounts,
            devices,
            network,
            disk_files,
            ..
        } = config.clone();
        (mounts, devices, network, disk_files)
    };
    saved.instance.is_some() && saved.instance == now.instance && hardware(saved) == hardware(now)
}

impl Machines {
    /// Makes a machine of a snapshot, stopped. With its own name and `volumes`, its volumes are set
    /// back, too; `keep` names the snapshot of their present state that is made first.
    ///
    /// # Errors
    /// The name is taken, the snapshot or its layers are gone, a machine runs with a volume, or files
    /// cannot be written.
    pub fn create_from(
        &self,
        snapshot: &Snapshot,
        name: &MachineName,
        volumes: bool,
        keep: Option<&Wanted>,
        store: &Store,
        interrupt: &Interrupt,
    ) -> Result<(Locked, Option<Snapshot>), MachineError> {
        self.check_free(name)?;
        let snapshots = self.snapshots();
        let held = snapshots.hold(interrupt)?;
        let mut snapshot = snapshots.open(&snapshot.name)?;
        let machine = self.at(name.clone());
        let with_volumes = volumes && *name == snapshot.machine && !snapshot.volumes.is_empty();
        let mut present = Vec::new();
        if with_volumes {
            let names = snapshot.volumes.iter().map(|volume| &volume.name);
            present = machine.hold_volumes(names, interrupt)?;
            let saved: Vec<_> = snapshot.volumes.iter().collect();
            snapshot.check_volumes(&saved, &present)?;
        }
        let mut mounts = snapshot.settings.mounts.clone();
        mounts.retain(|mount| with_volumes && snapshot.holds(mount));
        if self.project.is_some() {
            snapshot.settings.forget_grants();
        }
        let settings = &mut snapshot.settings;
        settings.mounts.retain(|mount| mount.volume().is_none());
        settings.mounts.extend(mounts);
        let vars = snapshot.firmware_vars;
        let vars = vars.map(|vars| store.read_object(&vars.id)).transpose()?;
        let restoring = with_volumes.then_some(&snapshot.name);
        let derived = Derived::default();
        let locked = self.of_settings(&snapshot.settings, name, &derived, restoring, &held)?;
        if let Some(vars) = vars {
            let path = locked.machine.directory.join(files::FIRMWARE_VARS);
            let written = Replace::new(&path, Durability::Whole).with(&vars);
            written.map_err(io_error("write", &path))?;
        }
        let keep = keep.filter(|_| !present.is_empty());
        drop((held, present));
        let kept = match with_volumes {
            true => locked.put_back(&snapshot, ALL_BUT_MEMORY, keep, store, interrupt)?,
            false => None,
        };
        Ok((locked, kept))
    }

    fn check_free(&self, name: &MachineName) -> Result<(), MachineError> {
        match self.root.directory(name).exists() {
            true => Err(MachineError::Exists(name.clone())),
            false => Ok(()),
        }
    }

    fn of_settings(
        &self,
        settings: &MachineConfig,
        name: &MachineName,
        derived: &Derived,
        restoring: Option<&SnapshotName>,
        _held: &Held,
    ) -> Result<Locked, MachineError> {
        for disk in &settings.disks {
            self.snapshots().layers().checked(&disk.layers)?;
        }
        let taken: Vec<u16> = settings.ports.iter().map(|port| port.host).collect();
        let age = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut config = MachineConfig {
            instance: Some(Uuid::new_v4()),
            created: age.map_or(0, |age| age.as_secs()),
            ssh_port: free_port(&taken)?,
            memory_mib: derived.memory_mib.unwrap_or(settings.memory_mib),
            cpus: derived.cpus.unwrap_or(settings.cpus),
            remove_when_stopped: false,
            renew_identity: derived.renew_identity,
            ..settings.clone()
        };
        // One machine at a time has a file that it writes to.
        config.disk_files.retain(|file| !file.writable);
        for port in &mut config.ports {
            // The other one may have them: any port of the host does then.
            port.from_image = true;
        }
        let (temporary, lock) = self.root.temporary()?;
        let mut fill = || -> Result<(), MachineError> {
            for (number, disk) in config.disks.iter_mut().enumerate() {
                disk.top = None;
                if let Some(overlay) = disk.overlay(number) {
                    overlay::create(&temporary.join(overlay), "image", 0, disk.size)?;
                }
            }
            let comment = format!("vmfab machine of {}", config.image_name);
            KeyPair::create(&temporary.join(PRIVATE_KEY), &comment)?;
            config.write(&temporary)?;
            if let Some(snapshot) = restoring {
                begin_restore(&temporary, snapshot)?;
            }
            match self.root.publish(&temporary, name)? {
                true => Ok(()),
                false => Err(MachineError::Exists(name.clone())),
            }
        };
        match fill() {
            Ok(()) => Ok(Locked {
                machine: self.at(name.clone()),
                lock,
            }),
            Err(error) => {
                let _ = fs::remove_dir_all(&temporary);
                Err(error)
            }
        }
    }
}

/// Removes a file that may not be there.
fn remove(path: &std::path::Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
