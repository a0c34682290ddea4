//! Asking what a machine does.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::Machine;
use super::directory::{files, held_by_qemu};
use super::error::{MachineError, io_error};
use crate::host::is_full;
use crate::qemu::qmp::{self, Listener, Qmp, Status};

/// What a machine does at the moment of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No QEMU has it.
    Stopped,
    /// No QEMU has it, and its memory is in a file.
    Suspended,
    /// A QEMU has it and does not listen: it starts, or is about to end.
    Starting,
    /// A QEMU runs it.
    Running {
        /// QEMU's process; unknown while others talk to it.
        pid: Option<Pid>,
        /// What QEMU says about the guest; nothing when it does not answer in time.
        status: Option<Status>,
    },
}

impl State {
    /// Whether its guest is halted, and may go on.
    #[must_use]
    pub const fn is_halted(self) -> bool {
        matches!(
            self,
            Self::Suspended
                | Self::Running {
                    status: Some(
                        Status::Paused | Status::Suspended | Status::DiskFull | Status::DiskAway,
                    ),
                    ..
                }
        )
    }

    /// Whether no QEMU has it.
    #[must_use]
    pub const fn is_off(self) -> bool {
        matches!(self, Self::Stopped | Self::Suspended)
    }

    /// For people and for `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Starting => "starting",
            Self::Running {
                status: Some(status),
                ..
            } => status.name(),
            Self::Running { status: None, .. } => "unresponsive",
        }
    }

    /// Why it is paused, when nobody asked for it: `disk-full`.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Running {
                status: Some(status),
                ..
            } => status.reason(),
            _ => None,
        }
    }
}

/// What a machine does, and the connection to a QEMU that said so.
pub(super) fn observe(directory: &Path) -> Result<(State, Option<Qmp>), MachineError> {
    // A QEMU that ends between two questions is asked about once more.
    for _ in 0..3 {
        let listener = qmp::connect(directory, files::QMP_SOCKET)
            .map_err(io_error("connect to", &directory.join(files::QMP_SOCKET)))?;
        let (pid, answer) = match listener {
            Listener::Process(pid, pending) => {
                let answer = pending.greet().and_then(|mut qmp| Ok((qmp.status()?, qmp)));
                if answer.is_err() && !held_by_qemu(directory)? {
                    continue;
                }
                (Some(pid), answer.ok())
            }
            Listener::Busy => (None, None),
            Listener::Nobody if held_by_qemu(directory)? => return Ok((State::Starting, None)),
            Listener::Nobody => break,
        };
        let (status, qmp) = answer.unzip();
        let status = status.map(|status| why_halted(directory, status));
        return Ok((State::Running { pid, status }, qmp));
    }
    let state = match Machine::has_memory(directory) {
        true => State::Suspended,
        false => State::Stopped,
    };
    Ok((state, None))
}

/// QEMU has one status for all failures of disks.
fn why_halted(directory: &Path, status: Status) -> Status {
    let is_served = directory.join(files::DISK_SOCKET).exists();
    match status {
        Status::DiskFull if is_served && !is_full(directory) => Status::DiskAway,
        status => status,
    }
}

/// The QMP listener of a machine that is not stopped, when there is one within `patience`; `None`
/// when QEMU ended meanwhile.
pub(super) fn listener(
    directory: &Path,
    patience: Duration,
) -> Result<Option<Listener>, MachineError> {
    let started = Instant::now();
    loop {
        let listener = qmp::connect(directory, files::QMP_SOCKET)
            .map_err(io_error("connect to", &directory.join(files::QMP_SOCKET)))?;
        match listener {
            Listener::Process(..) => return Ok(Some(listener)),
            Listener::Nobody if !held_by_qemu(directory)? => return Ok(None),
            _ if started.elapsed() > patience => return Ok(Some(listener)),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
