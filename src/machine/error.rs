//! What can go wrong with a machine.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::name::{MachineName, NameError};
use super::snapshot::SnapshotName;
use crate::checked::Name;
use crate::failure::Failure;
use crate::host::MissingProgram;
use crate::image::{Firmware, Seed};
use crate::qemu::qmp::{QmpError, Status};
use crate::qemu::{Accel, FirmwareMissing};
use crate::store::StoreError;
use crate::text::shown_size;

/// An operation on a machine failed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The text cannot be a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such machine.
    #[error("no machine \"{0}\" found")]
    Unknown(MachineName),
    /// The name is taken.
    #[error("machine \"{0}\" already exists")]
    Exists(MachineName),
    /// Another machine has the name that one was to get.
    #[error("machine \"{0}\" already exists")]
    Taken(MachineName),
    /// The machine's config cannot be read.
    #[error("machine \"{name}\" is damaged: {}: {why}", path.display())]
    Damaged {
        name: MachineName,
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It runs and must not.
    #[error("machine \"{0}\" is running")]
    Running(MachineName),
    /// Its guest is halted because the host has no room for what it writes.
    #[error("machine \"{name}\" is paused: no space left on {}", path.display())]
    DiskFull {
        name: MachineName,
        /// Where there is no room.
        path: PathBuf,
    },
    /// Its guest is halted.
    #[error("machine \"{name}\" is {}", status.name())]
    Halted { name: MachineName, status: Status },
    /// Its guest has ended, and QEMU has not.
    #[error("cannot resume machine \"{name}\": its state is {}", status.name())]
    CannotGoOn {
        name: MachineName,
        /// What it does instead.
        status: Status,
    },
    /// Its guest has ended, and QEMU has not.
    #[error("cannot pause machine \"{name}\": its state is {}", status.name())]
    CannotPause {
        name: MachineName,
        /// What it does instead.
        status: Status,
    },
    /// Somebody has a session open in it.
    #[error("machine \"{0}\" is in use: a session is open")]
    InUse(MachineName),
    /// It does not run and must.
    #[error("machine \"{0}\" is stopped")]
    Stopped(MachineName),
    /// Its memory is in a file, and goes with its disk as it is.
    #[error("machine \"{0}\" is suspended")]
    Suspended(MachineName),
    /// Something of it would not be there, or would be another one, when it goes on.
    #[error("cannot save the memory of machine \"{name}\": it has {what}")]
    CannotSuspend {
        name: MachineName,
        /// What it has, and what is wrong with that.
        what: &'static str,
    },
    /// The memory of a snapshot is not what was saved.
    #[error("the saved memory of snapshot \"{0}\" is damaged")]
    DamagedSnapshotMemory(SnapshotName),
    /// The memory of a suspended machine is not what was saved.
    #[error("the saved memory of machine \"{0}\" is damaged")]
    DamagedMemory(MachineName),
    /// QEMU does not take the memory of a suspended machine.
    #[error("QEMU cannot go on with the saved memory of machine \"{name}\"")]
    MemoryRefused {
        name: MachineName,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// A program is missing on this host.
    #[error(transparent)]
    MissingProgram(#[from] MissingProgram),
    /// UEFI firmware is missing on this host.
    #[error(transparent)]
    MissingFirmware(#[from] FirmwareMissing),
    /// The acceleration that was asked for does not work.
    #[error("{} does not work on this host: {why}", accel.name().to_uppercase())]
    AccelFailed {
        accel: Accel,
        /// What showed it.
        why: String,
    },
    /// The image cannot be booted in this way.
    #[error("image \"{image}\" has no {missing}")]
    CannotBoot {
        /// The image's name.
        image: String,
        /// What is missing for it: `kernel of its own`, `boot loader for UEFI`.
        missing: &'static str,
        /// In which ways it can be booted.
        ways: Vec<Firmware>,
    },
    /// Its seed cannot pass on what the user gave.
    #[error("image \"{image}\" takes no {what}: its seed is \"{}\"", seed.name())]
    Seed {
        /// The image's name.
        image: String,
        what: &'static str,
        seed: Seed,
    },
    /// The image is for other processors.
    #[error(
        "image \"{image}\" is for {wanted}, but this host has {}",
        std::env::consts::ARCH
    )]
    Architecture {
        /// The image's name.
        image: String,
        wanted: String,
    },
    /// A port of the host cannot be listened on.
    #[error("cannot forward port {port} of {address}: {}", source.kind())]
    Port {
        address: Ipv4Addr,
        port: u16,
        source: io::Error,
    },
    /// Another machine has the port.
    #[error("cannot forward port {port} of 127.0.0.1: machine \"{holder}\" has it")]
    PortOf { port: u16, holder: MachineName },
    /// It is to have more memory than this host.
    #[error("a machine with {asked} MiB of memory cannot run on this host, which has {has} MiB")]
    Memory {
        /// MiB that were asked for.
        asked: u32,
        /// MiB that there are, with swap.
        has: u64,
    },
    /// QEMU ended before the guest did anything.
    #[error("QEMU {how}")]
    Qemu {
        /// `exited with code 1`.
        how: String,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// The machine did not come so far that it could be entered.
    #[error("machine \"{name}\" {why}")]
    NotReady {
        name: MachineName,
        why: NotReady,
        /// The last lines of its console.
        console: Vec<String>,
        /// What `ssh` said last.
        ssh: Option<String>,
        /// Whether it still runs.
        running: bool,
    },
    /// What is done in the guest came to no good end.
    #[error("{command} {how}")]
    Command {
        command: String,
        how: String,
        /// The last lines that tell why.
        tail: Vec<String>,
    },
    /// The user gave up waiting.
    #[error("interrupted")]
    Interrupted {
        /// The machine, when it is still there and runs.
        running: Option<MachineName>,
    },
    /// QEMU holds the machine and does not listen.
    #[error("QEMU of machine \"{0}\" neither answers nor ends")]
    Stuck(MachineName),
    /// Its image has no SSH server.
    #[error("machine \"{0}\" cannot be entered: its image has no SSH server")]
    NoSsh(MachineName),
    /// The console has one user at a time.
    #[error("the console of machine \"{0}\" is in use")]
    ConsoleBusy(MachineName),
    /// There is no such snapshot.
    #[error("no snapshot \"{0}\" found")]
    NoSnapshot(SnapshotName),
    /// The name is taken.
    #[error("snapshot \"{0}\" already exists")]
    SnapshotExists(SnapshotName),
    /// The file of a snapshot cannot be read.
    #[error("snapshot \"{name}\" is damaged: {}: {why}", path.display())]
    DamagedSnapshot {
        name: SnapshotName,
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A path must be text for QEMU.
    #[error("{} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// Machines cannot be made in a project's directory.
    #[error("cannot store machines in {}: {source}", path.display())]
    ProjectDirectory { path: PathBuf, source: io::Error },
    /// What the home knows of a project cannot be read.
    #[error("{} is damaged: {why}", path.display())]
    Registration {
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such volume.
    #[error("no volume \"{0}\" found")]
    UnknownVolume(Name),
    /// The name is taken.
    #[error("volume \"{0}\" already exists")]
    VolumeExists(Name),
    /// QEMU has no disk of the name that this vmfab gives it.
    #[error("QEMU of machine \"{name}\" has no disk {node}: an earlier vmfab started it")]
    OtherDisks { name: MachineName, node: String },
    /// Another machine runs with it.
    #[error("volume \"{volume}\" is in use: machine \"{holder}\" has it")]
    VolumeInUse { volume: Name, holder: String },
    /// The volume of that name is another one than that of the snapshot.
    #[error("volume \"{volume}\" is not the one that snapshot \"{snapshot}\" holds")]
    OtherVolume {
        volume: Name,
        snapshot: SnapshotName,
    },
    /// A vmfab that set it back was killed.
    #[error("machine \"{name}\" is only partly restored: vmfab was interrupted")]
    HalfRestored {
        name: MachineName,
        /// What it was set back to.
        snapshot: Option<SnapshotName>,
    },
    /// What the home knows of a volume cannot be read.
    #[error("volume \"{name}\" is damaged: {}: {why}", path.display())]
    DamagedVolume {
        name: Name,
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Its disk would lose its end.
    #[error(
        "cannot shrink the disk from {} to {}",
        shown_size(*has),
        shown_size(*asked)
    )]
    Shrink {
        /// In bytes.
        asked: u64,
        /// In bytes.
        has: u64,
    },
    /// A directory that it shares is not there any more.
    #[error("cannot share {}: it is not a directory", .0.display())]
    ShareGone(PathBuf),
    /// virtiofsd does not serve a directory.
    #[error("cannot share {}: virtiofsd ended", path.display())]
    Share {
        path: PathBuf,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// Something below machines failed: a disk, a key pair, the acceleration that was asked for.
    #[error(transparent)]
    Below(#[from] Failure),
    /// QEMU refused what was asked of it, or did not answer.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The store failed, or the image is gone from it.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        source: io::Error,
    },
}

/// Why a machine cannot be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It was not ready in time.
    #[error("was not ready within {0} s")]
    TimedOut(u64),
    /// Its kernel panicked.
    #[error("stopped with a kernel panic")]
    Panic,
    /// It switched itself off, or was stopped by another command.
    #[error("shut down before it was ready")]
    PoweredOff,
    /// QEMU died under it.
    #[error("lost its QEMU before it was ready")]
    QemuDied,
    /// Its service has a health check, which fails.
    #[error("is up, but its service is not healthy")]
    Unhealthy,
    /// Its process was to end with code 0.
    #[error("is up, but its process failed")]
    ProcessFailed,
    /// It lacks a mount, the password or cloud-init.
    #[error("is up, but not set up as requested")]
    Lacks,
    /// vmfab's own init runs it, and takes no password and no cloud-init.
    #[error("is up, but its init sets no password and runs no cloud-init")]
    OwnInit,
    /// It has another host key than the one that is known.
    #[error("has a new host key")]
    HostKeyChanged,
}

/// For `map_err`: an input or output error with what was tried, and on what.
pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> MachineError {
    let path = path.to_owned();
    move |source| MachineError::Io {
        action,
        path,
        source,
    }
}
