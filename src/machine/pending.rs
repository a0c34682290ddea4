//! A machine whose image's disk is not all here: a process serves it, vmfab itself, started with
//! [`DISK_ARGUMENT`] in the machine's directory. It ends with the machine's QEMU.
//!
//! | arguments | what it does |
//! |---|---|
//! | `watch HOME IMAGE WAY` | starts the other one, and starts it again when it is killed |
//! | `serve HOME IMAGE WAY` | listens on `disk.sock`, serves the disk of the image and fetches it |
//!
//! `WAY` is `halt`, or `wait` for a machine that QEMU cannot halt when a read fails.
//!
//! No failure of the registry gets to the guest. A read waits; after a while the process answers it
//! with an error, and QEMU halts the guest and keeps the read (`rerror=stop`). The process lets the
//! guest go on when the registry is back, and QEMU reads again. When the process itself is gone,
//! QEMU waits for a while until there is another, and halts the guest then.

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;

use super::directory::{files, held_by_qemu};
use super::error::{MachineError, io_error};
use super::server::Server;
use super::state::{self, State};
use super::{Machine, Machines};
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::host::{Home, this_program};
use crate::image::{DiskBus, Firmware, ImageConfig};
use crate::nbd;
use crate::qemu::Backing;
use crate::qemu::qmp::Status;
use crate::store::Store;

/// The first argument of the process.
pub const DISK_ARGUMENT: &str = "__disk";
/// Where it listens, in the machine's directory.
pub const DISK_SOCKET: &str = files::DISK_SOCKET;

/// A file in the machine's directory: while it is there, the process serves the disk even if all of
/// it is here, and adds a line for each read, its offset and length in bytes.
pub const READS: &str = files::READS;

/// The file that says where the rest of an image is.
#[must_use]
pub fn pending_image(home: &Home, image: &ObjectId) -> PathBuf {
    home.pending().join(format!("{image}.json"))
}

impl Machines {
    /// What is below the first disk of a machine of an image.
    pub(super) fn backing(
        &self,
        image: &ObjectId,
        config: &ImageConfig,
        store: &Store,
    ) -> Result<Backing, MachineError> {
        if !store.has_object(&config.disk) && pending_image(&self.home, image).exists() {
            return Ok(served());
        }
        Ok(Backing::File(super::launch::utf8(
            store.materialise(&config.disk.id)?,
        )?))
    }
}

/// A disk that the process serves.
fn served() -> Backing {
    Backing::Nbd {
        socket: files::DISK_SOCKET.to_owned(),
        export: nbd::EXPORT.to_owned(),
    }
}

impl Machine {
    /// What is below its first disk.
    pub(super) fn backing(
        &self,
        image: &ObjectId,
        config: &ImageConfig,
        store: &Store,
    ) -> Result<Backing, MachineError> {
        match self.directory.join(files::READS).exists() {
            true => Ok(served()),
            false => self.machines.backing(image, config, store),
        }
    }

    /// Records what it reads of its disk from its next start on.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn record_reads(&self) -> Result<(), MachineError> {
        let path = self.directory.join(files::READS);
        fs::write(&path, "").map_err(io_error("create", &path))
    }

    /// What it has read of its disk: ranges of bytes in the order of the reads.
    ///
    /// # Errors
    /// That was not recorded.
    pub fn reads(&self) -> Result<Vec<Range<u64>>, MachineError> {
        let path = self.directory.join(files::READS);
        let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
        let read = |line: &str| {
            let (offset, length) = line.split_once(' ')?;
            let (offset, length): (u64, u64) = (offset.parse().ok()?, length.parse().ok()?);
            Some(offset..offset.checked_add(length)?)
        };
        Ok(text.lines().filter_map(read).collect())
    }

    /// Starts the process that serves its disk, and waits until it listens.
    pub(super) fn serve_disk(&self, bus: DiskBus) -> Result<Child, MachineError> {
        let config = self.config()?;
        let program = this_program()?;
        let server = Server {
            program: &program,
            socket: files::DISK_SOCKET,
            log: files::DISK_LOG,
            inherits: true,
        };
        let way = match bus {
            DiskBus::Nvme => "wait",
            _ => "halt",
        };
        let home = self.machines.home.root().as_os_str().to_owned();
        let words: [OsString; 5] = [
            DISK_ARGUMENT.into(),
            "watch".into(),
            home,
            config.image.to_string().into(),
            way.into(),
        ];
        server.start(self, words, |tail| {
            Failure::failed("the process that serves the disk does not start")
                .with_output(tail)
                .into()
        })
    }

    /// Starts the process that serves its disk when it had one, and that is gone.
    pub(super) fn serve_disk_again(&self) -> Result<(), MachineError> {
        let socket = self.directory.join(files::DISK_SOCKET);
        let is_gone = socket.exists() && UnixStream::connect(&socket).is_err();
        if is_gone && held_by_qemu(&self.directory)? {
            let bus = self.config()?.devices.platform.disk_bus;
            self.serve_disk(bus.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Whether what starts its system is on a disk that is served.
    pub(super) fn reads_to_start(&self) -> Result<bool, MachineError> {
        let is_served = self.directory.join(files::DISK_SOCKET).exists();
        Ok(is_served && self.config()?.firmware != Firmware::Direct)
    }

    /// Forgets the process that served its disk.
    pub(super) fn forget_disk_server(&self) {
        let _ = fs::remove_file(self.directory.join(files::DISK_SOCKET));
    }
}

/// Lets the guest of the machine in a directory go on, which QEMU halted when a read failed.
///
/// # Errors
/// QEMU does not answer.
pub fn read_again(directory: &Path) -> Result<(), MachineError> {
    if let (
        State::Running {
            status: Some(Status::DiskAway),
            ..
        },
        Some(mut qmp),
    ) = state::observe(directory)?
    {
        qmp.go_on()?;
    }
    Ok(())
}

/// Whether a QEMU has the machine in a directory.
///
/// # Errors
/// The directory cannot be read.
pub fn has_qemu(directory: &Path) -> Result<bool, MachineError> {
    held_by_qemu(directory)
}
