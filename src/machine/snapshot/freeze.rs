//! Freezing what a machine writes to.

use std::fs::{self, File};
use std::process::Command;

use super::layer::LayerId;
use super::merge::has_many;
use super::name::SnapshotName;
use super::record::{Frozen, Snapshot, SnapshotVolume};
use super::slots::{Slots, make_overlay};
use super::{Held, Snapshots};
use crate::checked::Text;
use crate::disk::overlay::Overlay;
use crate::guest::KNOWN_HOSTS;
use crate::host::Interrupt;
use crate::host::file::Durability;
use crate::machine::config::MachineConfig;
use crate::machine::directory::files;
use crate::machine::error::MachineError;
use crate::machine::state::State;
use crate::machine::{Locked, Machine};
use crate::qemu::qmp::NewLayer;
use crate::store::Store;

/// The snapshot to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub name: SnapshotName,
    pub description: Option<Text>,
    /// Whether vmfab makes it by itself.
    pub automatic: bool,
    /// Whether it holds the machine's volumes, too.
    pub volumes: bool,
    /// Whether it holds what the guest has in memory, too.
    pub memory: bool,
}

/// How the guest's file systems are frozen.
pub struct Quiesce<'a> {
    /// Runs [`FREEZE`](crate::machine::FREEZE) in the guest.
    pub remote: Command,
    /// Takes what it complains of.
    pub log: &'a File,
}

/// The disks of a machine whose overlays are layers now.
pub(super) struct FrozenDisks {
    /// What its config says.
    pub(super) config: MachineConfig,
    volumes: Vec<SnapshotVolume>,
    /// The layers that were made.
    own: Vec<LayerId>,
    how: Frozen,
}

impl Locked {
    /// Makes a snapshot of the machine, which goes on. `quiesce` freezes the file systems of one
    /// that runs.
    ///
    /// # Errors
    /// The name is taken, the machine's disks cannot be read, QEMU does not take new overlays, or
    /// files cannot be written. The machine goes on then, too.
    pub fn snapshot(
        &self,
        wanted: &Wanted,
        quiesce: Option<Quiesce<'_>>,
        store: &Store,
        interrupt: &Interrupt,
    ) -> Result<Snapshot, MachineError> {
        let snapshots = self.machine.machines.snapshots();
        let held = snapshots.hold(interrupt)?;
        snapshots.check_free(&wanted.name)?;
        let volumes = match wanted.volumes {
            true => {
                let config = self.machine.config()?;
                self.machine.hold_volumes(config.volumes(), interrupt)?
            }
            false => Vec::new(),
        };
        let mut slots = Slots::of(&self.machine, &snapshots, volumes)?;
        if !wanted.memory {
            let disks = self.freeze_disks(&snapshots, &held, &mut slots, quiesce, interrupt)?;
            let snapshot = self.record(wanted, disks, store)?;
            snapshots.publish(&snapshot, &held)?;
            return Ok(snapshot);
        }
        self.machine.check_started()?;
        self.machine.check_saves_memory()?;
        // From here to the end the guest is halted, so that memory and disks are of one moment.
        let ran = self.pause()?;
        let mut with_memory = || {
            let disks = self.freeze_disks(&snapshots, &held, &mut slots, None, interrupt)?;
            let path = snapshots.memory_file(&wanted.name);
            let memory = self.save_memory(&mut self.machine.qmp()?, &path, interrupt)?;
            let snapshot = Snapshot {
                frozen: Frozen::WithMemory,
                memory: Some(memory),
                ..self.record(wanted, disks, store)?
            };
            snapshots.publish(&snapshot, &held)?;
            Ok(snapshot)
        };
        let result = with_memory();
        if ran {
            self.machine.qmp()?.go_on()?;
        }
        if result.is_err() {
            snapshots.sweep(&held);
        }
        result
    }

    /// The snapshot of a machine whose disks are frozen, without a file yet.
    pub(super) fn record(
        &self,
        wanted: &Wanted,
        disks: FrozenDisks,
        store: &Store,
    ) -> Result<Snapshot, MachineError> {
        let machine = &self.machine;
        let hosts = fs::read(machine.directory.join(KNOWN_HOSTS)).unwrap_or_default();
        let vars = match fs::read(machine.directory.join(files::FIRMWARE_VARS)) {
            Ok(bytes) => Some(store.put_bytes(&bytes)?),
            Err(_) => None,
        };
        let FrozenDisks {
            config,
            volumes,
            own,
            how,
        } = disks;
        Ok(Snapshot {
            description: wanted.description.clone(),
            automatic: wanted.automatic,
            own,
            known_hosts: String::from_utf8_lossy(&hosts).into_owned(),
            firmware_vars: vars,
            ..Snapshot::of(
                wanted.name.clone(),
                machine.name.clone(),
                config,
                volumes,
                how,
            )
        })
    }

    /// Makes layers of what the machine wrote; its config and its volumes name them then.
    pub(super) fn freeze_disks(
        &self,
        snapshots: &Snapshots,
        held: &Held,
        slots: &mut Slots,
        quiesce: Option<Quiesce<'_>>,
        interrupt: &Interrupt,
    ) -> Result<FrozenDisks, MachineError> {
        match self.machine.state()? {
            State::Stopped => self.freeze_stopped(snapshots, held, slots),
            State::Suspended => Err(MachineError::Suspended(self.machine.name.clone())),
            State::Starting => Err(MachineError::Stuck(self.machine.name.clone())),
            State::Running { .. } => self.freeze_running(snapshots, slots, quiesce, interrupt),
        }
    }

    /// An overlay that nothing was written to is left as it is.
    pub(super) fn freeze_stopped(
        &self,
        snapshots: &Snapshots,
        _held: &Held,
        slots: &mut Slots,
    ) -> Result<FrozenDisks, MachineError> {
        let mut disks = slots.disks();
        let (mut frozen, mut own) = (Vec::new(), Vec::new());
        for (slot, disk) in slots.all.iter().zip(&mut disks) {
            let Some(path) = slot.overlay(disk) else {
                continue;
            };
            if Overlay::open(&path)?.extents().is_empty() {
                continue;
            }
            let layer = disk.top.take().unwrap_or_else(LayerId::random);
            slot.layers.add(&path, &layer)?;
            disk.layers.push(layer);
            own.push(layer);
            frozen.push(path);
        }
        slots.write(&disks, Durability::None)?;
        forget(&frozen);
        Ok(FrozenDisks {
            config: slots.config().clone(),
            volumes: slots.save_volumes(snapshots)?,
            own,
            how: Frozen::Stopped,
        })
    }

    fn freeze_running(
        &self,
        snapshots: &Snapshots,
        slots: &mut Slots,
        quiesce: Option<Quiesce<'_>>,
        interrupt: &Interrupt,
    ) -> Result<FrozenDisks, MachineError> {
        let machine = &self.machine;
        let how = match &quiesce {
            Some(_) => Frozen::Quiesced,
            None => Frozen::Running,
        };
        let before = slots.disks();
        let mut disks = before.clone();
        let nodes = machine.qmp()?.written_nodes()?;
        let (mut layers, mut frozen) = (Vec::new(), Vec::new());
        for (slot, disk) in slots.all.iter().zip(&mut disks) {
            let unknown = || MachineError::OtherDisks {
                name: machine.name.clone(),
                node: slot.first_node.clone(),
            };
            let below = written(&nodes, &slot.first_node).ok_or_else(unknown)?;
            if below == disk.node_of(&slot.first_node) {
                let path = slot.overlay(disk).ok_or_else(unknown)?;
                let layer = disk.top.unwrap_or_else(LayerId::random);
                slot.layers.add(&path, &layer)?;
                disk.layers.push(layer);
                slot.make_overlay(disk)?;
                frozen.push(path);
            }
            // Otherwise a vmfab was killed before QEMU switched: the config is ahead of it.
            layers.push(NewLayer {
                below: below.to_owned(),
                node: disk.node_of(&slot.first_node),
                file: slot.shown(disk)?,
            });
        }
        // What the guest writes from now on is in files that the disk must know.
        slots.write(&disks, Durability::Lasting)?;
        let switch = || -> Result<(), MachineError> {
            let mut qmp = machine.qmp()?;
            for layer in &layers {
                qmp.open_overlay(layer)?;
            }
            match quiesce {
                None => Ok(qmp.put_overlays(&layers)?),
                Some(Quiesce { remote, log }) => {
                    // QEMU talks to one at a time, and freezing may take a while.
                    drop(qmp);
                    let stand_still = machine.freeze(remote, log, interrupt)?;
                    machine.qmp()?.put_overlays(&layers)?;
                    stand_still.thaw(interrupt)
                }
            }
        };
        let switched = switch();
        if let Err(error) = switched {
            // As it was, when it is certain that QEMU did not switch. If not, the config is right
            // in both cases.
            let nodes = machine
                .qmp()
                .ok()
                .and_then(|mut qmp| qmp.written_nodes().ok());
            let still = |layer: &NewLayer| nodes.iter().flatten().any(|node| *node == layer.below);
            if layers.iter().all(still) && slots.write(&before, Durability::None).is_ok() {
                let made = slots.all.iter().zip(disks.iter().zip(&before));
                let made = made.filter(|(_, (disk, before))| disk != before);
                let tops = made.filter_map(|(slot, (disk, _))| slot.overlay(disk));
                forget(&tops.collect::<Vec<_>>());
            }
            return Err(error);
        }
        forget(&frozen);
        let own = disks.iter().filter_map(|disk| disk.layers.last());
        Ok(FrozenDisks {
            own: own.copied().collect(),
            volumes: slots.save_volumes(snapshots)?,
            config: slots.config().clone(),
            how,
        })
    }
}

impl Machine {
    /// Makes the overlays that the config does not name yet, and removes those that a killed vmfab
    /// left. Only before a start.
    pub(in crate::machine) fn make_overlays(
        &self,
        config: &mut MachineConfig,
        interrupt: &Interrupt,
    ) -> Result<(), MachineError> {
        if config.disks.iter().all(|disk| disk.layers.is_empty()) {
            return Ok(());
        }
        let mut made = false;
        // Nobody removes the new layers before the config names them.
        let held = match config.disks.iter().any(has_many) {
            true => Some(self.machines.snapshots().hold(interrupt)?),
            false => None,
        };
        for disk in &mut config.disks {
            if has_many(disk) {
                self.machines.snapshots().layers().merge(disk, interrupt)?;
                made = true;
            }
        }
        for (number, disk) in config.disks.iter_mut().enumerate() {
            if disk.overlay(number).is_none() {
                make_overlay(&self.directory, disk)?;
                made = true;
            }
        }
        if made {
            config.write_with(&self.directory, Durability::Lasting)?;
        }
        if let Some(held) = held {
            self.machines.snapshots().sweep(&held);
        }
        let disks = config.disks.iter().enumerate();
        let named: Vec<String> = disks.filter_map(|(n, disk)| disk.overlay(n)).collect();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_overlay = name.starts_with("overlay-") && name.ends_with(".qcow2");
            if is_overlay && !named.iter().any(|one| one == name) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// The node that QEMU writes to, of the disk whose first node is `first`.
fn written<'a>(nodes: &'a [String], first: &str) -> Option<&'a str> {
    let is_of = |node: &&String| {
        let rest = node.strip_prefix(first);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    nodes.iter().find(is_of).map(String::as_str)
}

/// Removes names of files that have another one, or that nobody needs. One that stays does no harm.
fn forget(paths: &[std::path::PathBuf]) {
    for path in paths {
        let _ = fs::remove_file(path);
    }
}
