//! Named volumes: disks with a file system, which machines mount and which outlive them.
//!
//! ```text
//! volumes/<name>/
//!   volume.json    its size, and the id of its file system
//!   disk.qcow2     its content; QEMU writes to it
//!   holder         the machine that was last started with it
//!   lock           held while a machine is started with it, or while it is removed
//! ```
//!
//! One machine at a time has a volume. Which one is decided by two things that the kernel keeps: the
//! lock `running` of the machine in `holder` ([`directory`](super::directory)), and at last QEMU's
//! own lock on the image.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, RenameFlags, SeekFrom, renameat_with, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::directory::held_by_qemu;
use super::error::{MachineError, io_error};
use super::name::MachineName;
use super::{Machine, MachineConfig};
use crate::checked::{Line, Name};
use crate::disk::{DiskIds, Ext4, Qcow2, overlay};
use crate::host::file::{Durability, Lock, Replace};
use crate::host::{Home, Interrupt, Program, bare_command, require};
use crate::image::Mounted;

/// The version that this program writes, and the newest that it reads.
const VERSION: u32 = 1;
const RECORD: &str = "volume.json";
const DISK: &str = "disk.qcow2";
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

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    version: u32,
    /// The UUID of the file system, by which guests find it.
    filesystem: Line,
    /// In bytes.
    size: u64,
    /// In seconds since 1970.
    created: u64,
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
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &self.0)(error)),
        };
        let mut volumes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("list", &self.0))?;
            if let Some(Ok(name)) = entry.file_name().to_str().map(str::parse::<Name>)
                && let Ok(volume) = self.open(&name)
            {
                volumes.push(volume);
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
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
        // It is a word of a table.
        Uuid::try_parse(&record.filesystem).map_err(|error| damaged(error.to_string()))?;
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
        if self.0.join(&**name).exists() {
            return Err(MachineError::VolumeExists(name.clone()));
        }
        let program = require(Program::Mke2fs)?;
        self.make_root()?;
        let making = self.0.join(MAKING);
        let lock = Lock::wait(&making, interrupt, || {}).map_err(io_error("lock", &making))?;
        let _lock = lock.ok_or(MachineError::Interrupted { running: None })?;
        self.sweep();
        let temporary = self
            .0
            .join(format!("{TEMPORARY}{}", Uuid::new_v4().simple()));
        let made = fill(&temporary, name, size, &program, interrupt).and_then(|()| {
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
        if let Some(holder) = volume.holder()? {
            return Err(MachineError::VolumeInUse {
                volume: volume.name.clone(),
                holder: holder.machine.to_string(),
            });
        }
        let doomed = self
            .0
            .join(format!("{TEMPORARY}{}", Uuid::new_v4().simple()));
        fs::rename(&volume.directory, &doomed).map_err(io_error("remove", &volume.directory))?;
        fs::remove_dir_all(&doomed).map_err(io_error("remove", &doomed))
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

impl Volume {
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its qcow2 file.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.directory.join(DISK)
    }

    /// In bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.record.size
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub const fn created(&self) -> u64 {
        self.record.created
    }

    /// The UUID of its file system.
    #[must_use]
    pub fn filesystem(&self) -> &str {
        &self.record.filesystem
    }

    /// Bytes that it takes on this host.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        fs::metadata(self.disk()).map_or(0, |meta| meta.blocks() * 512)
    }

    /// The running machine that has it.
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
        Ok((has && held_by_qemu(&holder.directory)?).then_some(holder))
    }

    /// Gives it to a machine whose lock `running` is held already.
    pub(super) fn claim(
        &self,
        machine: &Machine,
        interrupt: &Interrupt,
    ) -> Result<(), MachineError> {
        let _lock = self.lock(interrupt)?;
        if let Some(holder) = self.holder()?
            && holder.directory != machine.directory
        {
            return Err(MachineError::VolumeInUse {
                volume: self.name.clone(),
                holder: holder.machine.to_string(),
            });
        }
        overlay::check(&self.disk())?;
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
        self.mounts.iter().filter_map(|mount| match &mount.what {
            Mounted::Volume(name) => Some(name),
            Mounted::Share(_) => None,
        })
    }
}

/// Makes the files of a volume: `mke2fs` writes to a sparse file, which becomes a qcow2.
fn fill(
    directory: &Path,
    name: &Name,
    size: u64,
    mke2fs: &Path,
    interrupt: &Interrupt,
) -> Result<(), MachineError> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .map_err(io_error("create", directory))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs());
    let random = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()];
    let mut seed = [0; 32];
    seed.copy_from_slice(random.as_flattened());
    let ids = DiskIds::new(&seed, &seed);
    let label: String = name.chars().take(16).collect();

    let raw = directory.join("raw");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&raw)
        .map_err(io_error("create", &raw))?;
    file.set_len(size).map_err(io_error("size", &raw))?;
    let time = u32::try_from(now).unwrap_or(u32::MAX);
    let of_disk = |error| io_error("format", &raw)(io::Error::other(error));
    let file_system = Ext4::new(&ids, &label, 0, size, time).map_err(of_disk)?;
    let ran = bare_command(mke2fs)
        .args(file_system.arguments(&raw))
        .env_clear()
        .envs(file_system.environment())
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(io_error("start", mke2fs))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        return Err(io_error("format", &raw)(io::Error::other(said)));
    }

    let pause = || match interrupt.requested() {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => Ok(()),
    };
    let path = directory.join(DISK);
    let write = || {
        let parts = parts_with_data(&file)?;
        let qcow2 = Qcow2::scan(&file, &parts, &pause)?;
        let mut out = BufWriter::new(File::create_new(&path)?);
        qcow2.write(&mut out, &pause)?;
        out.into_inner()?.sync_all()
    };
    write().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::Interrupted => MachineError::Interrupted { running: None },
        _ => io_error("write", &path)(error),
    })?;
    fs::remove_file(&raw).map_err(io_error("remove", &raw))?;
    let record = Record {
        version: VERSION,
        filesystem: Line::like(&ids.filesystem.to_string()),
        size,
        created: now,
    };
    let path = directory.join(RECORD);
    let mut json = serde_json::to_vec_pretty(&record)
        .map_err(|error| io_error("write", &path)(error.into()))?;
    json.push(b'\n');
    Replace::new(&path, Durability::Whole)
        .with(&json)
        .map_err(io_error("write", &path))
}

/// The parts of a sparse file that are no holes.
fn parts_with_data(file: &File) -> io::Result<Vec<Range<u64>>> {
    let mut parts = Vec::new();
    let mut position = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(parts),
            Err(error) => return Err(error.into()),
        };
        position = seek(file, SeekFrom::Hole(start))?;
        parts.push(start..position);
    }
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
        let disk = volume.disk();
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
        assert!(shown.contains(volume.filesystem()), "{shown}");

        assert_eq!(volumes.list().unwrap().len(), 1);
        volumes.remove(&volume, &interrupt).unwrap();
        assert_eq!(volumes.list().unwrap().len(), 0);
        let error = volumes.open(&name).unwrap_err();
        assert!(matches!(error, MachineError::UnknownVolume(_)), "{error}");
    }
}
