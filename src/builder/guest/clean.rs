//! The end of a build in a machine: what is the build's goes, and the guest switches itself off.

use std::time::Duration;

use super::build_machine::{BuildMachine, Report};
use super::error::failed;
use super::shell::CLEAN;
use crate::digest::ObjectRef;
use crate::event::Silent;
use crate::failure::{Failure, Kind};
use crate::machine::{StoppedBy, last_lines};

/// How long the guest may take to switch itself off, many times what it takes without KVM.
const POWER_OFF: Duration = Duration::from_secs(90);

impl BuildMachine {
    /// Takes from the disk what is of this machine (its keys, ids, leases, logs and caches),
    /// switches it off and stores what is left. Later machines of the disk find it as before a
    /// first boot.
    ///
    /// # Errors
    /// The guest does not switch itself off in time, or the store fails.
    pub fn shutdown(mut self, report: &Report<'_>) -> Result<ObjectRef, Failure> {
        self.touched = true;
        let cleaned = self.quiet(&self.root.script(CLEAN, &[]), None, report)?;
        if !cleaned.end.success() {
            return Err(Failure::command(
                "take what is of the build from the disk",
                cleaned.end.describe(),
                cleaned.tail,
            ));
        }
        let stopped = self.power_off(report);
        self.log_console(report)?;
        stopped?;
        self.splice(self.overlay)
    }

    fn power_off(&self, report: &Report<'_>) -> Result<(), Failure> {
        // The connection may end before the answer, or the command be missing: then the power
        // button does it.
        let line = self.root.script("poweroff", &[]);
        if let Err(failure) = self.quiet(&line, None, report)
            && failure.is(Kind::Interrupted)
        {
            return Err(failure);
        }
        let locked = self
            .machine
            .lock(&Silent, report.interrupt)
            .map_err(failed)?;
        match locked
            .stop(POWER_OFF, &Silent, report.interrupt)
            .map_err(failed)?
        {
            StoppedBy::Nothing | StoppedBy::Guest => Ok(()),
            StoppedBy::Force => Err(Failure::command(
                "poweroff",
                format!(
                    "did not shut the machine down within {} s",
                    POWER_OFF.as_secs()
                ),
                last_lines(&self.machine.console_log(), 20),
            )),
        }
    }
}
