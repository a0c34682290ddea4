//! The end of a build in a machine: what is the build's goes, and the guest switches itself off.

use std::time::Duration;

use super::error::failed;
use super::session::{Report, Session};
use super::shell::CLEAN;
use crate::derivation::BuildError;
use crate::digest::ObjectRef;
use crate::event::Silent;
use crate::machine::{StoppedBy, last_lines};

/// How long the guest may take to switch itself off, many times what it takes without KVM.
const POWER_OFF: Duration = Duration::from_secs(90);

impl Session {
    /// Takes from the disk what is of this machine (its keys, ids, leases, logs and caches),
    /// switches it off and stores what is left. Later machines of the disk find it as before a
    /// first boot.
    ///
    /// # Errors
    /// The guest does not switch itself off in time, or the store fails.
    pub fn shutdown(mut self, report: &Report<'_>) -> Result<ObjectRef, BuildError> {
        self.touched = true;
        let cleaned = self.quiet(&self.root.script(CLEAN, &[]), None, report)?;
        if !cleaned.end.success() {
            return Err(BuildError::Command {
                command: "take what is of the build from the disk".to_owned(),
                how: cleaned.end.describe(),
                tail: cleaned.tail,
            });
        }
        let stopped = self.power_off(report);
        self.log_console(report)?;
        stopped?;
        self.splice(self.overlay)
    }

    fn power_off(&self, report: &Report<'_>) -> Result<(), BuildError> {
        // The connection may end before the answer, or the command be missing: then the power
        // button does it.
        let line = self.root.script("poweroff", &[]);
        if let Err(BuildError::Interrupted) = self.quiet(&line, None, report) {
            return Err(BuildError::Interrupted);
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
            StoppedBy::Force => Err(BuildError::Command {
                command: "poweroff".to_owned(),
                how: format!(
                    "did not shut the machine down within {} s",
                    POWER_OFF.as_secs()
                ),
                tail: last_lines(&self.machine.console_log(), 20),
            }),
        }
    }
}
