//! Stopping a machine: ask the guest, then QEMU, then nobody.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use super::error::{MachineError, io_error};
use super::state::{self, State};
use super::{Locked, Machine};
use crate::event::{Event, Sink};
use crate::host::Interrupt;
use crate::qemu::qmp::{Listener, Pending};

/// How often the power button is pressed: a guest that is still booting does not see it.
const PRESS: Duration = Duration::from_secs(3);
/// What QEMU gets to write its caches back after QMP `quit`.
const QUIT: Duration = Duration::from_secs(5);
/// What QEMU gets to begin to listen, and after SIGKILL to be gone.
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
    /// Presses the guest's power button and waits up to `timeout`; then ends QEMU.
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
        if machine.state()? == State::Stopped {
            return Ok(StoppedBy::Nothing);
        }
        if !timeout.is_zero() {
            sink.emit(Event::MachineWaiting {
                machine: machine.name.to_string(),
                what: "shutdown".to_owned(),
            });
        }
        let started = Instant::now();
        while let Some(left) = timeout.checked_sub(started.elapsed())
            && !left.is_zero()
        {
            let Some((target, pending)) = find(machine)? else {
                return Ok(StoppedBy::Guest);
            };
            // An answer would tell no more than the end of the process does.
            if let Ok(mut qmp) = pending.greet() {
                let _ = qmp.powerdown();
            }
            if target.wait(PRESS.min(left), Some(interrupt))? {
                return Ok(StoppedBy::Guest);
            }
            if interrupt.requested() {
                return Err(MachineError::Interrupted {
                    running: Some(machine.name.clone()),
                });
            }
        }
        self.end_qemu()?;
        Ok(StoppedBy::Force)
    }

    /// Ends QEMU at once: what it had not written is lost.
    ///
    /// # Errors
    /// It cannot be found or does not end.
    pub fn kill(&self) -> Result<(), MachineError> {
        let machine = &self.machine;
        find(machine)?.map_or(Ok(()), |(target, _)| target.kill(machine))
    }

    /// Ends QEMU, without asking the guest.
    pub(super) fn end_qemu(&self) -> Result<(), MachineError> {
        let machine = &self.machine;
        let Some((target, pending)) = find(machine)? else {
            return Ok(());
        };
        if let Ok(mut qmp) = pending.greet()
            && qmp.quit().is_ok()
            && target.wait(QUIT, None)?
        {
            return Ok(());
        }
        target.kill(machine)
    }
}

/// The process that runs a machine; `None` when it has ended.
fn find(machine: &Machine) -> Result<Option<(Target, Pending)>, MachineError> {
    match state::listener(&machine.directory, MOMENT)? {
        None => Ok(None),
        Some(Listener::Process(pid, pending)) => match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Some((Target { pidfd }, pending))),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(io_error("watch QEMU of", &machine.directory)(error.into())),
        },
        Some(Listener::Busy | Listener::Nobody) => Err(MachineError::Stuck(machine.name.clone())),
    }
}

impl Target {
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
