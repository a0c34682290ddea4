//! Errors of machines as errors of build steps.

use crate::derivation::BuildError;
use crate::machine::{MachineError, NotReady};

/// What a failure of a machine means for the step that needed it.
pub(super) fn failed(error: MachineError) -> BuildError {
    match error {
        MachineError::Interrupted { .. } => BuildError::Interrupted,
        MachineError::DiskFull { path, .. } => BuildError::NoSpace(path),
        MachineError::NotReady {
            why, console, ssh, ..
        } => {
            let mut how = format!("the machine {why}");
            if let (NotReady::TimedOut(_), Some(said)) = (why, ssh) {
                how = format!("{how}; ssh said: {}", said.trim());
            }
            BuildError::Command {
                command: "boot".to_owned(),
                how: format!("failed: {how}"),
                tail: console,
            }
        }
        MachineError::Qemu { how, tail } => BuildError::Command {
            command: "QEMU".to_owned(),
            how,
            tail,
        },
        MachineError::Command { command, how, tail } => BuildError::Command { command, how, tail },
        MachineError::Store(error) => BuildError::other(error),
        other => BuildError::other(other),
    }
}
