//! Who has a session open in a machine: for those who would not stop it then.
//!
//! Each vmfab with a session holds a shared lock on the file `sessions`. The kernel releases it when
//! the process ends, however it ends.

use std::fs::File;

use super::Machine;
use super::directory::{OWN, files};
use super::error::{MachineError, io_error};
use crate::host::file::{open_lock, try_lock, try_lock_shared};

/// A session in a machine, or the certainty that it has none. It lasts until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Occupancy {
    _lock: File,
}

impl Machine {
    /// Begins a session.
    ///
    /// # Errors
    /// Somebody stops or removes the machine at this moment; the machine is gone.
    pub fn occupy(&self) -> Result<Occupancy, MachineError> {
        self.sessions(try_lock_shared)
    }

    /// Makes sure that nobody has a session in the machine, and that nobody begins one.
    ///
    /// # Errors
    /// Somebody has one; the machine is gone.
    pub fn vacant(&self) -> Result<Occupancy, MachineError> {
        self.sessions(try_lock)
    }

    fn sessions(
        &self,
        lock: fn(&File) -> std::io::Result<bool>,
    ) -> Result<Occupancy, MachineError> {
        let path = self.directory.join(files::SESSIONS);
        let file = open_lock(&path, OWN).map_err(io_error("open", &path))?;
        match lock(&file).map_err(io_error("lock", &path))? {
            true => Ok(Occupancy { _lock: file }),
            false => Err(MachineError::InUse(self.name.clone())),
        }
    }
}
