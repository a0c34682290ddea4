//! Stopping a machine: ask the guest, then QEMU, then nobody.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;

use super::directory::{held_by_qemu, holder};
use super::error::{MachineError, io_error};
use super::start::TICK;
use super::{Locked, Machine};
use crate::event::{Event, Sink};
use crate::host::Interrupt;
use crate::qemu::qmp::Status;

/// How often the power button is pressed: a guest that is still booting does not see it.
const PRESS: Duration = Duration::from_secs(3);
/// What QEMU gets to write its caches back after QMP `quit`.
const QUIT: Duration = Duration::from_secs(5);
/// What QEMU gets to take a connection, and after SIGKILL to be gone.
pub(super) const MOMENT: Duration = Duration::from_secs(5);

/// What it took to stop a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoppedBy {
    /// It was stopped already.
    Nothing,
    /// The guest switched itself off when it was asked to.
    Guest,
    /// QEMU was ended, the guest was not ready to.
    Force,
}

/// The QEMU of a machine.
struct Target {
    pidfd: OwnedFd,
}

impl Locked {
    /// Presses the guest's power button and waits up to `timeout`; then ends QEMU. A guest that is
    /// halted goes on before, when it can: it would not see the button.
    ///
    /// # Errors
    /// QEMU cannot be found or ended, or the user gave up waiting for the guest.
    pub fn stop(
        &self,
        timeout: Duration,
        sink: &dyn Sink,
        interrupt: &Interrupt,
    ) -> Result<StoppedBy, MachineError> {
        let machine = &self.machine;
        let Some(target) = Target::of(machine)? else {
            return Ok(StoppedBy::Nothing);
        };
        if !timeout.is_zero() {
            sink.emit(Event::MachineWaiting {
                machine: machine.name.to_string(),
                what: "shutdown".to_owned(),
            });
            if target.shut_down(self, timeout, interrupt)? {
                return Ok(StoppedBy::Guest);
            }
        }
        target.end(machine)?;
        Ok(StoppedBy::Force)
    }

    /// Ends QEMU at once: what it had not written is lost.
    ///
    /// # Errors
    /// It cannot be found or does not end.
    pub fn kill(&self) -> Result<(), MachineError> {
        let machine = &self.machine;
        Target::of(machine)?.map_or(Ok(()), |target| target.kill(machine))
    }

    /// Ends QEMU, without asking the guest.
    pub(super) fn end_qemu(&self) -> Result<(), MachineError> {
        let machine = &self.machine;
        Target::of(machine)?.map_or(Ok(()), |target| target.end(machine))
    }
}

impl Target {
    /// The process that runs a machine; `None` when there is none.
    fn of(machine: &Machine) -> Result<Option<Self>, MachineError> {
        let started = Instant::now();
        while held_by_qemu(&machine.directory)? {
            if let Some(pidfd) = holder(&machine.directory) {
                return Ok(Some(Self { pidfd }));
            }
            // It has ended meanwhile, or somebody else only looked at the lock.
            if started.elapsed() > MOMENT {
                return Err(MachineError::Stuck(machine.name.clone()));
            }
            std::thread::sleep(TICK);
        }
        Ok(None)
    }

    /// Presses the power button until QEMU ends; tells whether it did within `timeout`.
    fn shut_down(
        &self,
        locked: &Locked,
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<bool, MachineError> {
        let machine = &locked.machine;
        let started = Instant::now();
        if let Err(
            MachineError::DiskFull { .. }
            | MachineError::CannotGoOn {
                status: Status::Panicked | Status::InternalError,
                ..
            },
        ) = locked.resume()
        {
            // It will never see the button.
            return Ok(false);
        }
        while let Some(left) = timeout.checked_sub(started.elapsed())
            && !left.is_zero()
        {
            // An answer would tell no more than the end of the process does.
            if let Ok(mut qmp) = machine.qmp() {
                let _ = qmp.powerdown();
            }
            let left = timeout.saturating_sub(started.elapsed());
            if self.wait(PRESS.min(left), Some(interrupt))? {
                return Ok(true);
            }
            if interrupt.requested() {
                return Err(MachineError::Interrupted {
                    running: Some(machine.name.clone()),
                });
            }
        }
        Ok(false)
    }

    /// Ends QEMU, which writes back its caches when it answers.
    fn end(&self, machine: &Machine) -> Result<(), MachineError> {
        if let Ok(mut qmp) = machine.qmp()
            && qmp.quit().is_ok()
            && self.wait(QUIT, None)?
        {
            return Ok(());
        }
        self.kill(machine)
    }

    fn kill(&self, machine: &Machine) -> Result<(), MachineError> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(io_error("kill QEMU of", &machine.directory)(error.into())),
        }
        if self.wait(MOMENT, None)? {
            Ok(())
        } else {
            Err(MachineError::Stuck(machine.name.clone()))
        }
    }

    /// Waits for its end; tells whether it has ended. Returns early when the user gives up.
    fn wait(
        &self,
        patience: Duration,
        interrupt: Option<&Interrupt>,
    ) -> Result<bool, MachineError> {
        let started = Instant::now();
        loop {
            let left = patience.saturating_sub(started.elapsed());
            let timeout = Timespec::try_from(left).ok();
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            fds.extend(interrupt.map(|interrupt| PollFd::new(interrupt, PollFlags::IN)));
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) => return Ok(!fds[0].revents().is_empty()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(io_error("wait for", std::path::Path::new("QEMU"))(
                        error.into(),
                    ));
                }
            }
        }
    }
}
