//! Letting a halted guest go on.

use std::time::{Duration, Instant};

use super::error::MachineError;
use super::start::TICK;
use super::state::{self, State};
use super::stop::MOMENT;
use super::{Locked, Machine};
use crate::host::is_full;
use crate::qemu::qmp::{Listener, Qmp, Status};

/// How long a guest is watched that went on after there was no room: the write that failed is tried
/// again at once.
const RELAPSE: Duration = Duration::from_secs(1);

impl Locked {
    /// Lets the guest go on when it is halted and can; tells whether it was halted.
    ///
    /// # Errors
    /// There still is no room for what it writes, it cannot go on, QEMU does not answer, or there
    /// is none.
    pub fn resume(&self) -> Result<bool, MachineError> {
        let machine = &self.machine;
        let status = match machine.state()? {
            State::Stopped => return Err(MachineError::Stopped(machine.name.clone())),
            State::Starting => return Ok(false),
            State::Running { status: None, .. } => {
                return Err(MachineError::Stuck(machine.name.clone()));
            }
            State::Running {
                status: Some(status),
                ..
            } => status,
        };
        match status {
            Status::Running => Ok(false),
            Status::Paused => machine.qmp()?.go_on().map(|()| true).map_err(Into::into),
            Status::Suspended => machine.qmp()?.wake().map(|()| true).map_err(Into::into),
            Status::DiskFull => machine.write_again().map(|()| true),
            status => Err(MachineError::CannotGoOn {
                name: machine.name.clone(),
                status,
            }),
        }
    }
}

impl Machine {
    /// The error when its guest is halted, so that there is nothing to wait for.
    ///
    /// # Errors
    /// It is halted.
    pub fn check_goes_on(&self) -> Result<(), MachineError> {
        match self.state()? {
            State::Running {
                status: Some(Status::DiskFull),
                ..
            } => Err(self.disk_full()),
            State::Running {
                status: Some(status @ (Status::Paused | Status::Suspended)),
                ..
            } => Err(MachineError::Halted {
                name: self.name.clone(),
                status,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn disk_full(&self) -> MachineError {
        MachineError::DiskFull {
            name: self.name.clone(),
            path: self.directory.clone(),
        }
    }

    /// Lets a guest go on that was halted because there was no room.
    fn write_again(&self) -> Result<(), MachineError> {
        if is_full(&self.directory) {
            return Err(self.disk_full());
        }
        self.qmp()?.go_on()?;
        let started = Instant::now();
        while started.elapsed() < RELAPSE {
            if let State::Running {
                status: Some(Status::DiskFull),
                ..
            } = self.state()?
            {
                return Err(self.disk_full());
            }
            std::thread::sleep(5 * TICK);
        }
        Ok(())
    }

    /// A connection to its QEMU.
    pub(super) fn qmp(&self) -> Result<Qmp, MachineError> {
        match state::listener(&self.directory, MOMENT)? {
            Some(Listener::Process(_, pending)) => Ok(pending.greet()?),
            Some(Listener::Busy | Listener::Nobody) => Err(MachineError::Stuck(self.name.clone())),
            None => Err(MachineError::Stopped(self.name.clone())),
        }
    }
}
