//! Freezing what a machine writes to.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::layer::LayerId;
use super::name::SnapshotName;
use super::record::{Frozen, Snapshot};
use super::{Held, Snapshots};
use crate::checked::Text;
use crate::disk::overlay::{self, Overlay};
use crate::guest::KNOWN_HOSTS;
use crate::host::Interrupt;
use crate::host::file::{Durability, is_at};
use crate::machine::config::{MachineConfig, MachineDisk};
use crate::machine::directory::files;
use crate::machine::error::{MachineError, io_error};
use crate::machine::state::State;
use crate::machine::{Locked, Machine};
use crate::qemu::disk_node;
use crate::qemu::qmp::{NewLayer, QmpError};
use crate::store::Store;

/// The snapshot to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub name: SnapshotName,
    pub description: Option<Text>,
    /// Whether vmfab makes it by itself.
    pub automatic: bool,
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
        let disks = self.freeze_disks(&snapshots, &held, quiesce, interrupt)?;
        let snapshot = self.record(wanted, disks, store)?;
        snapshots.publish(&snapshot, &held)?;
        Ok(snapshot)
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
        let FrozenDisks { config, own, how } = disks;
        Ok(Snapshot {
            description: wanted.description.clone(),
            automatic: wanted.automatic,
            own,
            known_hosts: String::from_utf8_lossy(&hosts).into_owned(),
            firmware_vars: vars,
            ..Snapshot::of(wanted.name.clone(), machine.name.clone(), config, how)
        })
    }

    /// Makes layers of what the machine wrote; its config names them then.
    pub(super) fn freeze_disks(
        &self,
        snapshots: &Snapshots,
        held: &Held,
        quiesce: Option<Quiesce<'_>>,
        interrupt: &Interrupt,
    ) -> Result<FrozenDisks, MachineError> {
        match self.machine.state()? {
            State::Stopped => self.freeze_stopped(snapshots, held),
            State::Starting => Err(MachineError::Stuck(self.machine.name.clone())),
            State::Running { .. } => self.freeze_running(snapshots, quiesce, interrupt),
        }
    }

    /// An overlay that nothing was written to is left as it is.
    pub(super) fn freeze_stopped(
        &self,
        snapshots: &Snapshots,
        _held: &Held,
    ) -> Result<FrozenDisks, MachineError> {
        let machine = &self.machine;
        let mut config = machine.config()?;
        let (mut frozen, mut own) = (Vec::new(), Vec::new());
        for (number, disk) in config.disks.iter_mut().enumerate() {
            let Some(file) = disk.overlay(number) else {
                continue;
            };
            let path = machine.directory.join(file);
            if Overlay::open(&path)?.extents().is_empty() {
                continue;
            }
            let layer = disk.top.take().unwrap_or_else(LayerId::random);
            link(&path, &snapshots.layer(&layer))?;
            disk.layers.push(layer);
            own.push(layer);
            frozen.push(path);
        }
        if !frozen.is_empty() {
            config.write(&machine.directory)?;
            forget(&frozen);
        }
        Ok(FrozenDisks {
            config,
            own,
            how: Frozen::Stopped,
        })
    }

    fn freeze_running(
        &self,
        snapshots: &Snapshots,
        quiesce: Option<Quiesce<'_>>,
        interrupt: &Interrupt,
    ) -> Result<FrozenDisks, MachineError> {
        let machine = &self.machine;
        let how = match &quiesce {
            Some(_) => Frozen::Quiesced,
            None => Frozen::Running,
        };
        let before = machine.config()?;
        let mut config = before.clone();
        let nodes = machine.qmp()?.written_nodes()?;
        let (mut layers, mut frozen) = (Vec::new(), Vec::new());
        for (number, disk) in config.disks.iter_mut().enumerate() {
            let below = written(&nodes, number).ok_or_else(|| unknown_node(number))?;
            if below == disk.node(number) {
                let file = disk.overlay(number).ok_or_else(|| unknown_node(number))?;
                let path = machine.directory.join(file);
                let layer = disk.top.unwrap_or_else(LayerId::random);
                link(&path, &snapshots.layer(&layer))?;
                disk.layers.push(layer);
                machine.make_overlay(disk)?;
                frozen.push(path);
            }
            // Otherwise a vmfab was killed before QEMU switched: the config is ahead of it.
            layers.push(NewLayer {
                below: below.to_owned(),
                node: disk.node(number),
                file: disk.overlay(number).unwrap_or_default(),
            });
        }
        if config != before {
            // What the guest writes from now on is in files that the disk must know.
            config.write_with(&machine.directory, Durability::Lasting)?;
        }
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
            if layers.iter().all(still) && before.write(&machine.directory).is_ok() {
                let tops = config.disks.iter().enumerate();
                let tops = tops.filter(|(number, disk)| before.disks[*number] != **disk);
                let tops = tops.filter_map(|(number, disk)| disk.overlay(number));
                forget(
                    &tops
                        .map(|top| machine.directory.join(top))
                        .collect::<Vec<_>>(),
                );
            }
            return Err(error);
        }
        forget(&frozen);
        let own = config.disks.iter().filter_map(|disk| disk.layers.last());
        Ok(FrozenDisks {
            own: own.copied().collect(),
            config,
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
    ) -> Result<(), MachineError> {
        if config.disks.iter().all(|disk| disk.layers.is_empty()) {
            return Ok(());
        }
        let mut made = false;
        for (number, disk) in config.disks.iter_mut().enumerate() {
            if disk.overlay(number).is_none() {
                self.make_overlay(disk)?;
                made = true;
            }
        }
        if made {
            config.write_with(&self.directory, Durability::Lasting)?;
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

    /// A new overlay over the layers of a disk. Its file is on disk.
    pub(super) fn make_overlay(&self, disk: &mut MachineDisk) -> Result<(), MachineError> {
        let id = LayerId::random();
        let path = self.directory.join(id.overlay());
        // QEMU is told where the layers are; the name is for people.
        match disk.layers.last() {
            Some(layer) => overlay::create_over(&path, &format!("{layer}.qcow2"), disk.size)?,
            None => overlay::create(&path, "image", 0, disk.size)?,
        }
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(io_error("write", &path))?;
        disk.top = Some(id);
        Ok(())
    }
}

/// The node of disk `number` that QEMU writes to.
fn written(nodes: &[String], number: usize) -> Option<&str> {
    let first = disk_node(number);
    let is_of = |node: &&String| {
        let rest = node.strip_prefix(&first);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    nodes.iter().find(is_of).map(String::as_str)
}

fn unknown_node(number: usize) -> MachineError {
    QmpError::Refused {
        command: "query-block",
        answer: format!("no disk {number}"),
    }
    .into()
}

/// A second name for a file.
fn link(path: &Path, layer: &Path) -> Result<(), MachineError> {
    match fs::hard_link(path, layer) {
        // A vmfab was killed after that.
        Err(_) if File::open(path).is_ok_and(|file| is_at(&file, layer)) => Ok(()),
        result => result.map_err(io_error("link", path)),
    }
}

/// Removes names of files that have another one, or that nobody needs. One that stays does no harm.
fn forget(paths: &[std::path::PathBuf]) {
    for path in paths {
        let _ = fs::remove_file(path);
    }
}
