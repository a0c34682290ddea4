//! Snapshots of machines: what their disks held at one moment, with the settings that they had.
//!
//! ```text
//! snapshots/                 beside machines/, in the home or in a project's .vmfab
//!   <name>.json              a snapshot: settings, and the layers of each disk, the lowest first
//!   <name>.memory.zst        what the guest had in memory at that moment, if that was asked for
//!   layers/<id>.qcow2        a layer: an overlay that was frozen. Nothing writes to it again
//!   lock                     held by the vmfab that makes or removes layers
//!
//!    image's disk ◄── layer ◄── layer ◄── overlay of a machine
//!                       ▲         ▲
//!                   snapshot a  snapshot b
//! ```
//!
//! The volumes of a machine are frozen with its disks, into layers of their own directories
//! ([`volume`](super::volume)). The snapshot has names of its own for these, so that it needs no
//! volume, and no volume a snapshot.
//!
//! A snapshot copies nothing: the overlay that the machine wrote to becomes a layer, by a second
//! name for the same file, and the machine goes on in a new overlay above. So the hundredth snapshot
//! takes what changed since the one before. Layers belong to nobody: one goes when neither a machine
//! nor a snapshot names it any more.
//!
//! The order makes every moment safe to be killed in:
//!
//! 1. the layer has its name below `layers/`;
//! 2. the machine's config, or the record of the volume, names it as a layer. From now on the next
//!    start writes to an overlay above it. A QEMU that still runs may write to it: nobody counts on
//!    it yet;
//! 3. a QEMU that runs has switched to the new overlays, of all disks at one moment;
//! 4. the layers of volumes have names among the snapshots;
//! 5. the snapshot has its file, which is forced to disk.
//!
//! A vmfab that is killed after 2 leaves a machine with one layer more and no snapshot. One that is
//! killed between 2 and 3 leaves a QEMU that writes below what the config names; the next snapshot
//! sees that by the names of QEMU's nodes, and switches it first.

mod freeze;
mod layer;
mod merge;
mod name;
mod portable;
mod put_back;
mod record;
mod slots;
mod volumes;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use freeze::{Quiesce, Wanted};
pub use layer::LayerId;
pub(super) use layer::Layers;
pub use name::SnapshotName;
pub use portable::PortableSnapshot;
pub use put_back::{Derived, Parts};
pub use record::{Frozen, Snapshot, SnapshotVolume};
pub(super) use slots::make_overlay;

use super::config::MachineConfig;
use super::directory::{Root, files, lock_soon};
use super::error::{MachineError, io_error};
use super::suspend::SavedMemory;
use super::{Machine, MachineName, Machines};
use crate::host::beneath::read_unlinked;
use crate::host::file::{self, Durability, Lock, Replace};
use crate::host::{Interrupt, umask};

/// How the file of a memory ends, after the name of its snapshot.
const MEMORY: &str = ".memory.zst";

/// The snapshots of a home, or of a project.
#[derive(Debug, Clone)]
pub struct Snapshots {
    directory: PathBuf,
    machines: Root,
}

/// The right to make and remove layers.
#[derive(Debug)]
#[must_use]
pub(super) struct Held(#[expect(dead_code, reason = "it is held")] File);

impl Machines {
    /// The snapshots of these machines.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Snapshots {
            directory: self.root.0.with_file_name("snapshots"),
            machines: self.root.clone(),
        }
    }
}

impl Snapshots {
    /// All of them, the oldest first.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn list(&self) -> Result<Vec<Snapshot>, MachineError> {
        let mut all = Vec::new();
        for name in self.names()? {
            match self.open(&name) {
                Err(MachineError::NoSnapshot(_)) => {}
                result => all.push(result?),
            }
        }
        all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(all)
    }

    /// Their names, sorted. None of them is read.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<SnapshotName>, MachineError> {
        let mut names = Vec::new();
        for path in entries(&self.directory)? {
            let stem = path.file_name().and_then(|name| name.to_str());
            let stem = stem.and_then(|name| name.strip_suffix(".json"));
            names.extend(stem.and_then(|stem| stem.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The snapshot `name`.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(&self, name: &SnapshotName) -> Result<Snapshot, MachineError> {
        let path = self.file(name);
        let bytes = match read_unlinked(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MachineError::NoSnapshot(name.clone()));
            }
            result => result.map_err(io_error("read", &path))?,
        };
        Snapshot::from_bytes(&bytes).map_err(|why| MachineError::DamagedSnapshot {
            name: name.clone(),
            path,
            why,
        })
    }

    /// Removes snapshots, and the layers that nothing needs any more.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn remove(
        &self,
        names: &[SnapshotName],
        interrupt: &Interrupt,
    ) -> Result<(), MachineError> {
        let held = self.hold(interrupt)?;
        for name in names {
            let path = self.file(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(MachineError::NoSnapshot(name.clone()));
                }
                result => result.map_err(io_error("remove", &path))?,
            }
        }
        self.sweep(&held);
        Ok(())
    }

    /// Removes the snapshots that killed commits of a machine left. `_turn` is that of the machine:
    /// no commit of it needs one now. What cannot be removed stays for a later call.
    fn forget_commits(&self, machine: &MachineName, _turn: &Lock) {
        let left = self
            .list()
            .unwrap_or_default()
            .into_iter()
            .filter(|one| one.automatic && one.machine == *machine && one.name.is_for_commit());
        for one in left {
            let _ = fs::remove_file(self.file(&one.name));
        }
        self.tidy();
    }

    /// Removes layers that nothing needs any more, unless another vmfab makes some just now: a
    /// later call does it then.
    pub fn tidy(&self) {
        if !self.directory.is_dir() {
            return;
        }
        let file = file::open_lock(&self.directory.join("lock"), 0);
        if let Ok(file) = file
            && lock_soon(&file).unwrap_or(false)
        {
            self.sweep(&Held(file));
        }
    }

    /// Bytes of layers that nothing needs, as far as that is known.
    #[must_use]
    pub fn unneeded(&self) -> u64 {
        let Ok(needed) = self.needed() else { return 0 };
        let layers = self.layers();
        let others = layers.others(&needed);
        let sizes = others.filter_map(|layer| layer.metadata().ok());
        sizes.map(|meta| meta.blocks() * 512).sum()
    }

    /// Bytes that layers take on this host.
    #[must_use]
    pub fn stored_size(&self, layers: &[LayerId]) -> u64 {
        self.layers().stored_size(layers)
    }

    pub(super) fn layers(&self) -> Layers {
        Layers::of(&self.directory)
    }

    /// Waits until no other vmfab makes or removes layers.
    pub(super) fn hold(&self, interrupt: &Interrupt) -> Result<Held, MachineError> {
        let layers = self.layers().directory().to_owned();
        // A link would let a project that came from elsewhere choose what is written to.
        for directory in [&self.directory, &layers] {
            if fs::symlink_metadata(directory).is_ok_and(|meta| meta.is_symlink()) {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "it is a link");
                return Err(io_error("use", directory)(error));
            }
        }
        if !layers.is_dir() {
            fs::create_dir_all(&layers).map_err(io_error("create", &layers))?;
            umask::close(&self.directory);
        }
        let path = self.directory.join("lock");
        let file = file::open_lock(&path, 0).map_err(io_error("open", &path))?;
        while !lock_soon(&file).map_err(io_error("lock", &path))? {
            if interrupt.requested() {
                return Err(MachineError::Interrupted { running: None });
            }
        }
        Ok(Held(file))
    }

    /// Gives a snapshot its file, which is on disk then.
    pub(super) fn publish(&self, snapshot: &Snapshot, _held: &Held) -> Result<(), MachineError> {
        let path = self.file(&snapshot.name);
        Replace::new(&path, Durability::Lasting)
            .with(&snapshot.to_bytes())
            .map_err(io_error("write", &path))
    }

    /// The error when the name is taken.
    pub(super) fn check_free(&self, name: &SnapshotName) -> Result<(), MachineError> {
        match fs::symlink_metadata(self.file(name)) {
            Ok(_) => Err(MachineError::SnapshotExists(name.clone())),
            Err(_) => Ok(()),
        }
    }

    fn file(&self, name: &SnapshotName) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    fn memory_file(&self, name: &SnapshotName) -> PathBuf {
        self.directory.join(format!("{name}{MEMORY}"))
    }

    /// The memory of a snapshot and the file that has it, after every byte was verified; nothing when
    /// it has none, or has lost it.
    fn memory(&self, snapshot: &Snapshot) -> Result<Option<(SavedMemory, PathBuf)>, MachineError> {
        let Some(saved) = &snapshot.memory else {
            return Ok(None);
        };
        let path = self.memory_file(&snapshot.name);
        match saved.is_in(&path) {
            Ok(true) => Ok(Some((saved.clone(), path))),
            Ok(false) => Err(MachineError::DamagedSnapshotMemory(snapshot.name.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Bytes that the memory of a snapshot takes on this host.
    #[must_use]
    pub fn memory_size(&self, name: &SnapshotName) -> u64 {
        fs::metadata(self.memory_file(name)).map_or(0, |meta| meta.len())
    }

    /// Removes the memory of every snapshot: QEMU trusts what it reads as memory, and these came from
    /// elsewhere.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn forget_memory(&self) -> Result<(), MachineError> {
        for path in entries(&self.directory)? {
            if name_of_memory(&path).is_some() {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes layers that neither a machine nor a snapshot names. When one of them cannot be read,
    /// it may need any layer, and all stay.
    fn sweep(&self, _held: &Held) {
        let Ok(needed) = self.needed() else { return };
        self.layers().retain(&needed);
        for path in entries(&self.directory).unwrap_or_default() {
            let is_left = |name| self.directory.join(format!("{name}.json")).exists();
            if name_of_memory(&path).is_some_and(|name| !is_left(name)) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn needed(&self) -> Result<HashSet<LayerId>, MachineError> {
        // A machine that is renamed meanwhile has its layers under either name: the names before
        // and after must be the same.
        let names = self.machines.names()?;
        let configs = names.iter().map(|name| {
            let directory = self.machines.directory(name);
            MachineConfig::read(name, &directory)
        });
        let configs: Vec<MachineConfig> = configs.collect::<Result<_, _>>()?;
        if self.machines.names()? != names {
            return Err(MachineError::Interrupted { running: None });
        }
        let disks = configs.into_iter().flat_map(|config| config.disks);
        let mut needed: HashSet<LayerId> = disks.flat_map(|disk| disk.layers).collect();
        for snapshot in self.list()? {
            needed.extend(snapshot.layers());
        }
        Ok(needed)
    }
}

impl Machine {
    /// Waits until no other vmfab makes an image of the machine, and removes what killed ones left.
    /// Nothing when the user gave up.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub fn turn_to_commit(&self, interrupt: &Interrupt) -> Result<Option<Lock>, MachineError> {
        let path = self.directory.join(files::COMMITTING);
        let turn = Lock::wait(&path, interrupt, || {}).map_err(io_error("lock", &path))?;
        if let Some(turn) = &turn {
            self.machines.snapshots().forget_commits(&self.name, turn);
        }
        Ok(turn)
    }

    /// The same unless an image is being made: whoever makes it removes what it needs.
    pub(super) fn forget_commits(&self) {
        let turn = Lock::try_take(&self.directory.join(files::COMMITTING));
        if let Ok(Some(turn)) = turn {
            self.machines.snapshots().forget_commits(&self.name, &turn);
        }
    }
}

/// The snapshot that a file has the memory of.
fn name_of_memory(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_suffix(MEMORY)
}

/// What is in a directory; nothing when there is none.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, MachineError> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => {
            let entries = result.map_err(io_error("list", directory))?;
            let paths = entries.map(|entry| Ok(entry?.path()));
            paths
                .collect::<io::Result<_>>()
                .map_err(io_error("list", directory))
        }
    }
}
