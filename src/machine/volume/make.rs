//! The files of a new volume.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use uuid::Uuid;

use super::{DISK, FileSystemId, Record, now};
use crate::checked::Name;
use crate::disk::{DiskIds, Ext4, Qcow2};
use crate::host::{Interrupt, bare_command};
use crate::machine::config::MachineDisk;
use crate::machine::error::{MachineError, io_error};

/// Makes the files of a volume: `mke2fs` writes to a sparse file, which becomes a qcow2.
pub(super) fn fill(
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
    let now = now();
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
    let disk = MachineDisk::new(size);
    Record::new(FileSystemId(ids.filesystem), disk, now).write(directory)
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
