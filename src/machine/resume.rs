//! Halting a guest, and letting it go on.

use std::time::Duration;

use super::error::MachineError;
use super::state::{self, State};
use super::stop::MOMENT;
use super::{Locked, Machine};
use crate::host::is_full;
use crate::qemu::qmp::{Event, Listener, Qmp, Status};

/// How long a guest is watched that went on after there was no room: the write that failed is tried
/// again at once.
const RELAPSE: Duration = Duration::from_secs(1);
/// How often a read is tried that fails at once, and the time between two tries.
const READS: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);

impl Locked {
    /// Halts the guest; tells whether it ran.
    ///
    /// # Errors
    /// It has ended, QEMU does not answer, or there is none.
    pub fn pause(&self) -> Result<bool, MachineError> {
        let machine = &self.machine;
        let mut qmp = machine.qmp()?;
        match qmp.status()? {
            Status::Running => {
                qmp.halt()?;
                Ok(true)
            }
            Status::Paused | Status::Suspended | Status::DiskFull | Status::DiskAway => Ok(false),
            status => Err(MachineError::CannotPause {
                name: machine.name.clone(),
                status,
            }),
        }
    }

    /// Lets the guest go on when it is halted and can; tells whether it was halted.
    ///
    /// # Errors
    /// There still is no room for what it writes, it cannot go on, QEMU does not answer, or there
    /// is none.
    pub fn resume(&self) -> Result<bool, MachineError> {
        let machine = &self.machine;
        machine.serve_disk_again()?;
        let (status, mut qmp) = match state::observe(&machine.directory)? {
            (State::Stopped, _) => return Err(MachineError::Stopped(machine.name.clone())),
            (State::Suspended, _) => return Err(MachineError::Suspended(machine.name.clone())),
            (State::Starting, _) => return Ok(false),
            (
                State::Running {
                    status: Some(status),
                    ..
                },
                Some(qmp),
            ) => (status, qmp),
            (State::Running { .. }, _) => return Err(MachineError::Stuck(machine.name.clone())),
        };
        if matches!(
            status,
            Status::Paused | Status::Suspended | Status::DiskFull | Status::DiskAway
        ) {
            // A vmfab that was killed while it suspended or continued the machine left it.
            self.forget_memory()?;
        }
        match status {
            Status::Running => return Ok(false),
            Status::Paused => qmp.go_on()?,
            Status::DiskAway => read_again(qmp)?,
            Status::Suspended => qmp.wake()?,
            Status::DiskFull => machine.write_again(qmp)?,
            status => {
                return Err(MachineError::CannotGoOn {
                    name: machine.name.clone(),
                    status,
                });
            }
        }
        Ok(true)
    }
}

/// Lets a guest go on that was halted because its disk could not be read. A QEMU that lost the
/// process which serves it looks for a new one every 16 seconds.
fn read_again(mut qmp: Qmp) -> Result<(), MachineError> {
    for _ in 0..READS {
        qmp.go_on()?;
        let halted = qmp.wait_for(RELAPSE, |event| matches!(event, Event::STOP { .. }));
        if !matches!(halted, Ok(Some(_))) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

impl Machine {
    /// The error when its guest is halted, so that there is nothing to wait for.
    ///
    /// # Errors
    /// It is halted.
    pub fn check_goes_on(&self) -> Result<(), MachineError> {
        self.check_goes_on_in(self.state()?)
    }

    /// The error when no QEMU has it.
    ///
    /// # Errors
    /// It is stopped or suspended.
    pub fn check_started(&self) -> Result<(), MachineError> {
        match self.state()? {
            State::Stopped => Err(MachineError::Stopped(self.name.clone())),
            State::Suspended => Err(MachineError::Suspended(self.name.clone())),
            _ => Ok(()),
        }
    }

    pub(super) fn check_goes_on_in(&self, state: State) -> Result<(), MachineError> {
        match state {
            State::Suspended => Err(MachineError::Suspended(self.name.clone())),
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
    fn write_again(&self, mut qmp: Qmp) -> Result<(), MachineError> {
        if is_full(&self.directory) {
            return Err(self.disk_full());
        }
        qmp.go_on()?;
        // A QEMU that ends meanwhile did not run out of room.
        let halted = qmp.wait_for(RELAPSE, |event| matches!(event, Event::STOP { .. }));
        match halted.and_then(|halted| halted.map(|_| qmp.status()).transpose()) {
            Ok(Some(Status::DiskFull)) => Err(self.disk_full()),
            _ => Ok(()),
        }
    }

    /// A connection to its QEMU.
    pub(super) fn qmp(&self) -> Result<Qmp, MachineError> {
        match state::listener(&self.directory, MOMENT)? {
            Some(Listener::Process(_, pending)) => Ok(pending.greet()?),
            Some(Listener::Busy | Listener::Nobody) => Err(MachineError::Stuck(self.name.clone())),
            None => {
                self.check_started()?;
                // It ended just now.
                Err(MachineError::Stopped(self.name.clone()))
            }
        }
    }
}
