//! Errors of machines as failures of build steps.

use crate::failure::Failure;
use crate::machine::{MachineError, NotReady};

/// What a failure of a machine means for the step that needed it.
pub(in crate::builder) fn failed(error: MachineError) -> Failure {
    match error {
        MachineError::Interrupted { .. } => Failure::interrupted(),
        MachineError::DiskFull { path, .. } => Failure::no_space(&path),
        MachineError::NotReady {
            why, console, ssh, ..
        } => {
            let mut how = format!("the machine {why}");
            if let (NotReady::TimedOut(_), Some(said)) = (why, ssh) {
                how = format!("{how}; ssh said: {}", said.trim());
            }
            Failure::command("boot", format!("failed: {how}"), console)
        }
        MachineError::Qemu { how, tail } => Failure::command("QEMU", how, tail),
        MachineError::Command { command, how, tail } => Failure::command(command, how, tail),
        // A full store is said as that.
        MachineError::Store(error) => Failure::of_step(error),
        other => Failure::of_step(other),
    }
}
