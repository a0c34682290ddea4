//! Named volumes: disks with a file system, which machines mount and which outlive them.
//!
//! ```text
//! volumes/<name>/
//!   volume.json          its size, the id of its file system, and its layers
//!   disk.qcow2           its content, before the first snapshot; QEMU writes to it
//!   layers/<id>.qcow2    what snapshots froze of it, as with disks of machines (`snapshot`)
//!   overlay-<id>.qcow2   what was written since then; QEMU writes to it
//!   holder               the machine that was last started with it
//!   lock                 held while a machine is started with it, and while it is removed, saved or
//!                        set back
//! ```
//!
//! The volume and each snapshot have hard links of their own to the layers: neither needs the other.
//!
//! Only one machine at a time can use a volume. Two things that the kernel keeps decide which: the
//! lock `running` of the machine in `holder` ([`directory`](super::directory)), and at last QEMU's
//! own lock on the image.

mod make;
mod resize;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::config::MachineDisk;
use super::directory::held_by_qemu;
use super::error::{MachineError, io_error};
use super::name::MachineName;
use super::snapshot::{Layers, make_overlay};
use super::{Machine, MachineConfig};
use crate::checked::Name;
use crate::host::file::{Durability, Lock, Replace};
use crate::host::{Home, Interrupt, Program, require};

/// The newest version that this program reads. A volume without layers has version 1, which earlier
/// programs read, too.
const VERSION: u32 = 2;
const RECORD: &str = "volume.json";
const DISK: &str = Volume::DISK;
const HOLDER: &str = "holder";
const LOCK: &str = "lock";
/// Volumes that are being made or removed begin with this, which no name does.
const TEMPORARY: &str = ".tmp-";
/// Held while one is made.
const MAKING: &str = ".lock";

/// All volumes of a home.
#[derive(Debug, Clone)]
pub struct Volumes(PathBuf);

/// A volume that is there, or was when it was opened.
#[derive(Debug, Clone)]
pub struct Volume {
    name: Name,
    directory: PathBuf,
    record: Record,
}

/// The UUID of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileSystemId(Uuid);

impl fmt::Display for FileSystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for FileSystemId {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, uuid::Error> {
        Uuid::try_parse(&text).map(Self)
    }
}

impl From<FileSystemId> for String {
    fn from(id: FileSystemId) -> Self {
        id.to_string()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    version: u32,
    /// By which guests find it.
    filesystem: FileSystemId,
    /// Its size, and its layers over nothing.
    #[serde(flatten)]
    disk: MachineDisk,
    /// In seconds since 1970.
    created: u64,
}

/// A volume that nobody else changes.
#[derive(Debug)]
pub(super) struct HeldVolume {
    pub(super) volume: Volume,
    lock: Lock,
}

/// The machine that was last started with a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub machine: Name,
    pub directory: PathBuf,
}

impl Volumes {
    /// The size of a volume when nobody says, in bytes. Unused space costs nothing.
    pub const SIZE: u64 = 10 << 30;
    /// The least size: a file system has a journal.
    pub const LEAST: u64 = 16 << 20;

    #[must_use]
    pub fn new(home: &Home) -> Self {
        Self(home.volumes())
    }

    /// All of them, sorted by name. One that cannot be read is left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>, MachineError> {
        let names = self.names()?;
        let volumes = names.iter().filter_map(|name| self.open(name).ok());
        Ok(volumes.collect())
    }

    /// The names of all of them, sorted. None of them is read.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<Name>, MachineError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &self.0)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(io_error("list", &self.0))?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse::<Name>().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The volume `name`.
    ///
    /// # Errors
    /// There is none, or its record cannot be read.
    pub fn open(&self, name: &Name) -> Result<Volume, MachineError> {
        let directory = self.0.join(&**name);
        let path = directory.join(RECORD);
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => MachineError::UnknownVolume(name.clone()),
            _ => io_error("read", &path)(error),
        })?;
        let damaged = |why: String| MachineError::DamagedVolume {
            name: name.clone(),
            path: path.clone(),
            why,
        };
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.version > VERSION {
            return Err(damaged(format!(
                "it has version {}, this vmfab supports up to {VERSION}",
                record.version
            )));
        }
        Ok(Volume {
            name: name.clone(),
            directory,
            record,
        })
    }

    /// Makes a volume with an empty file system of `size` bytes, in whole MiB.
    ///
    /// # Errors
    /// The name is taken, `mke2fs` is missing, or the host has no room.
    pub fn create(
        &self,
        name: &Name,
        size: u64,
        interrupt: &Interrupt,
    ) -> Result<Volume, MachineError> {
        let program = require(Program::Mke2fs)?;
        let fill = |directory: &Path| make::fill(directory, name, size, &program, interrupt);
        self.make(name, interrupt, &fill)
    }

    /// Makes a volume of layers, which `fill` puts into its directory.
    ///
    /// # Errors
    /// The name is taken, or files cannot be written.
    pub(super) fn create_of(
        &self,
        name: &Name,
        filesystem: FileSystemId,
        disk: &MachineDisk,
        interrupt: &Interrupt,
        fill: &dyn Fn(&Layers) -> Result<(), MachineError>,
    ) -> Result<Volume, MachineError> {
        self.make(name, interrupt, &|directory| {
            let layers = Layers::of(directory);
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            let made = builder.create(layers.directory());
            made.map_err(io_error("create", layers.directory()))?;
            fill(&layers)?;
            Record::new(filesystem, disk.frozen(), now()).write(directory)
        })
    }

    fn make(
        &self,
        name: &Name,
        interrupt: &Interrupt,
        fill: &dyn Fn(&Path) -> Result<(), MachineError>,
    ) -> Result<Volume, MachineError> {
        if self.0.join(&**name).exists() {
            return Err(MachineError::VolumeExists(name.clone()));
        }
        self.make_root()?;
        let making = self.0.join(MAKING);
        let lock = Lock::wait(&making, interrupt, || {}).map_err(io_error("lock", &making))?;
        let _lock = lock.ok_or(MachineError::Interrupted { running: None })?;
        self.sweep();
        let temporary = self
            .0
            .join(format!("{TEMPORARY}{}", Uuid::new_v4().simple()));
        let made = fill(&temporary).and_then(|()| {
            let target = self.0.join(&**name);
            match renameat_with(CWD, &temporary, CWD, &target, RenameFlags::NOREPLACE) {
                Ok(()) => self.open(name),
                Err(Errno::EXIST) => Err(MachineError::VolumeExists(name.clone())),
                Err(error) => Err(io_error("create", &target)(error.into())),
            }
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        made
    }

    /// Removes a volume that no running machine has.
    ///
    /// # Errors
    /// A machine runs with it, or its files cannot be removed.
    pub fn remove(&self, volume: &Volume, interrupt: &Interrupt) -> Result<(), MachineError> {
        let _lock = volume.lock(interrupt)?;
        volume.check_free()?;
        let doomed = self
            .0
            .join(format!("{TEMPORARY}{}", Uuid::new_v4().simple()));
        fs::rename(&volume.directory, &doomed).map_err(io_error("remove", &volume.directory))?;
        fs::remove_dir_all(&doomed).map_err(io_error("remove", &doomed))
    }

    /// Takes a volume, so that nobody else starts, saves, sets back or removes it. It may run with
    /// a machine.
    ///
    /// # Errors
    /// There is none of that name, or the user gave up.
    pub(super) fn hold(
        &self,
        name: &Name,
        interrupt: &Interrupt,
    ) -> Result<HeldVolume, MachineError> {
        let lock = self.open(name)?.lock(interrupt)?;
        // While it was waited for, it may have been changed.
        let volume = self.open(name)?;
        Ok(HeldVolume { volume, lock })
    }

    fn make_root(&self) -> Result<(), MachineError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(io_error("create", &self.0))
    }

    /// Removes what killed processes left. Only while no other process makes one.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl HeldVolume {
    /// Gives it to a machine whose lock `running` is held already, and that has no QEMU yet.
    pub(super) fn claim(
        mut self,
        machine: &Machine,
        interrupt: &Interrupt,
    ) -> Result<Volume, MachineError> {
        let volume = &mut self.volume;
        volume.check_not_held(machine)?;
        let mut disk = volume.disk().clone();
        volume.layers().merge(&mut disk, interrupt)?;
        if volume.overlay().is_none() {
            make_overlay(&volume.directory, &mut disk)?;
        }
        if disk != *volume.disk() {
            volume.change(volume.filesystem(), disk)?;
        }
        volume.tidy();
        volume.give(machine)?;
        Ok(self.volume)
    }
}

impl Volume {
    /// Its file before it was ever frozen.
    pub(super) const DISK: &'static str = "disk.qcow2";

    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its uppermost qcow2 file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let layer = self.disk().layers.last();
        match (self.overlay(), layer) {
            (None, Some(layer)) => self.layers().file(layer),
            (overlay, _) => overlay.unwrap_or_else(|| self.directory.join(DISK)),
        }
    }

    /// Its size and its layers.
    pub(super) const fn disk(&self) -> &MachineDisk {
        &self.record.disk
    }

    /// The file that a guest writes to; none when the next start makes it.
    pub(super) fn overlay(&self) -> Option<PathBuf> {
        let file = self.disk().overlay_after(DISK)?;
        Some(self.directory.join(file))
    }

    /// The name of its node in a QEMU before it was ever frozen. It follows from the volume alone:
    /// QEMU's disks are found by it, whatever place they have.
    pub(super) fn first_node(&self) -> String {
        format!(
            "vol-{}",
            &self.record.filesystem.0.simple().to_string()[..12]
        )
    }

    pub(super) fn layers(&self) -> Layers {
        Layers::of(&self.directory)
    }

    /// In bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.record.disk.size
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub const fn created(&self) -> u64 {
        self.record.created
    }

    /// The UUID of its file system.
    #[must_use]
    pub const fn filesystem(&self) -> FileSystemId {
        self.record.filesystem
    }

    /// Bytes that it takes on this host; snapshots may share some.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        let overlay = self.overlay().and_then(|path| fs::metadata(path).ok());
        overlay.map_or(0, |meta| meta.blocks() * 512)
            + self.layers().stored_size(&self.disk().layers)
    }

    /// The running or suspended machine that has it.
    ///
    /// # Errors
    /// Files cannot be read.
    pub fn holder(&self) -> Result<Option<Holder>, MachineError> {
        let path = self.directory.join(HOLDER);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        // What a crash of the host tore says nothing, and no machine runs since then.
        let Ok(holder) = serde_json::from_slice::<Holder>(&bytes) else {
            return Ok(None);
        };
        let Ok(name) = holder.machine.parse::<MachineName>() else {
            return Ok(None);
        };
        let has = MachineConfig::read(&name, &holder.directory)
            .is_ok_and(|config| config.volumes().any(|volume| *volume == self.name));
        // The memory of a suspended machine knows what is on it.
        let is_used = held_by_qemu(&holder.directory)? || Machine::has_memory(&holder.directory);
        Ok((has && is_used).then_some(holder))
    }

    /// Fails if another machine runs with it.
    pub(super) fn check_not_held(&self, machine: &Machine) -> Result<(), MachineError> {
        self.check_holder(|holder| holder.directory == machine.directory)
    }

    /// Fails if a machine runs with it.
    pub(super) fn check_free(&self) -> Result<(), MachineError> {
        self.check_holder(|_| false)
    }

    fn check_holder(&self, may: impl Fn(&Holder) -> bool) -> Result<(), MachineError> {
        match self.holder()? {
            Some(holder) if !may(&holder) => Err(self.in_use(&holder)),
            _ => Ok(()),
        }
    }

    fn in_use(&self, holder: &Holder) -> MachineError {
        MachineError::VolumeInUse {
            volume: self.name.clone(),
            holder: holder.machine.to_string(),
        }
    }

    /// Notes the machine that runs with it from now on. Only by who [holds](Volumes::hold) it.
    fn give(&self, machine: &Machine) -> Result<(), MachineError> {
        let holder = Holder {
            machine: Name::try_from(machine.name.to_string())
                .map_err(|_| MachineError::Unknown(machine.name.clone()))?,
            directory: machine.directory.clone(),
        };
        let path = self.directory.join(HOLDER);
        let bytes =
            serde_json::to_vec(&holder).map_err(|error| io_error("write", &path)(error.into()))?;
        Replace::new(&path, Durability::None)
            .with(&bytes)
            .map_err(io_error("write", &path))
    }

    /// Records other layers, durably. Only by who
    /// [holds](Volumes::hold) it.
    pub(super) fn change(
        &mut self,
        filesystem: FileSystemId,
        disk: MachineDisk,
    ) -> Result<(), MachineError> {
        let record = Record::new(filesystem, disk, self.record.created);
        record.write(&self.directory)?;
        self.record = record;
        Ok(())
    }

    /// Removes the files that it no longer needs: what was written before it was set back, and what
    /// killed processes left. Only by who [holds](Volumes::hold) it, while no machine runs with it.
    pub(super) fn tidy(&self) {
        let disk = self.disk();
        if disk.layers.is_empty() {
            return;
        }
        self.layers().retain(&disk.layers.iter().copied().collect());
        let overlay = self.overlay();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_overlay =
                name == DISK || name.starts_with("overlay-") && name.ends_with(".qcow2");
            if is_overlay && overlay.as_ref() != Some(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn lock(&self, interrupt: &Interrupt) -> Result<Lock, MachineError> {
        let path = self.directory.join(LOCK);
        let lock = Lock::wait(&path, interrupt, || {}).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => MachineError::UnknownVolume(self.name.clone()),
            _ => io_error("lock", &path)(error),
        })?;
        lock.ok_or(MachineError::Interrupted { running: None })
    }
}

impl MachineConfig {
    /// The volumes that its guest mounts.
    pub fn volumes(&self) -> impl Iterator<Item = &Name> {
        self.mounts.iter().filter_map(|mount| mount.volume())
    }
}

impl Record {
    const fn new(filesystem: FileSystemId, disk: MachineDisk, created: u64) -> Self {
        Self {
            version: if disk.layers.is_empty() { 1 } else { VERSION },
            filesystem,
            disk,
            created,
        }
    }

    fn write(&self, directory: &Path) -> Result<(), MachineError> {
        let path = directory.join(RECORD);
        let write = || {
            let mut json = serde_json::to_vec_pretty(self)?;
            json.push(b'\n');
            Replace::new(&path, Durability::Lasting).with(&json)
        };
        write().map_err(io_error("write", &path))
    }
}

/// In seconds since 1970.
fn now() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    age.map_or(0, |age| age.as_secs())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_volume_is_a_sound_file_system_in_a_small_file() {
        let directory = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(&Home::at(directory.path()));
        let interrupt = Interrupt::new().unwrap();
        let name: Name = "data".parse().unwrap();
        let volume = volumes.create(&name, 1 << 30, &interrupt).unwrap();
        assert!(volume.stored_size() < 4 << 20, "{}", volume.stored_size());
        let error = volumes.create(&name, 1 << 30, &interrupt).unwrap_err();
        assert!(matches!(error, MachineError::VolumeExists(_)), "{error}");

        let raw = directory.path().join("raw");
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let ran = Command::new(program).args(arguments).output().unwrap();
            assert!(ran.status.success(), "{ran:?}");
            String::from_utf8_lossy(&ran.stdout).into_owned()
        };
        let disk = volume.path();
        run("qemu-img", &["check".as_ref(), disk.as_ref()]);
        run(
            "qemu-img",
            &[
                "convert".as_ref(),
                "-O".as_ref(),
                "raw".as_ref(),
                disk.as_ref(),
                raw.as_ref(),
            ],
        );
        let e2fsck = require(Program::Mke2fs).unwrap().with_file_name("e2fsck");
        run(e2fsck.to_str().unwrap(), &["-fn".as_ref(), raw.as_ref()]);
        let dumpe2fs = require(Program::Mke2fs).unwrap().with_file_name("dumpe2fs");
        let shown = run(dumpe2fs.to_str().unwrap(), &["-h".as_ref(), raw.as_ref()]);
        assert!(shown.contains(&volume.filesystem().to_string()), "{shown}");

        assert_eq!(volumes.list().unwrap().len(), 1);
        volumes.remove(&volume, &interrupt).unwrap();
        assert_eq!(volumes.list().unwrap().len(), 0);
        let error = volumes.open(&name).unwrap_err();
        assert!(matches!(error, MachineError::UnknownVolume(_)), "{error}");
    }
}
