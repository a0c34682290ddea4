//! Changing what a machine has.

use std::process::Stdio;

use super::Locked;
use super::directory::files;
use super::error::{MachineError, io_error};
use super::state::{self, State};
use crate::disk::{self, overlay};
use crate::host::{Program, bare_command, require};
use crate::qemu::disk_node;

impl Locked {
    /// Gives the machine's disk at least `bytes`; tells whether a running guest sees it already.
    ///
    /// # Errors
    /// It would shrink, the machine is just starting, or the file cannot be changed.
    pub fn grow(&self, bytes: u64) -> Result<bool, MachineError> {
        let machine = &self.machine;
        let bytes = disk::disk_size(bytes);
        let has = machine.config()?.disk_size();
        if bytes < has {
            return Err(MachineError::Shrink { asked: bytes, has });
        }
        let (state, qmp) = state::observe(&machine.directory)?;
        let live = match (state, qmp) {
            (State::Stopped, _) => {
                self.grow_file(bytes)?;
                false
            }
            (_, Some(mut qmp)) => {
                qmp.resize(&disk_node(0), bytes)?;
                true
            }
            (_, None) => return Err(MachineError::Running(machine.name.clone())),
        };
        self.change(|config| {
            if let Some(disk) = config.disks.first_mut() {
                disk.size = bytes;
            }
        })?;
        Ok(live)
    }

    fn grow_file(&self, bytes: u64) -> Result<(), MachineError> {
        let directory = &self.machine.directory;
        overlay::check(&directory.join(files::OVERLAY))?;
        let program = require(Program::QemuImg)?;
        let ran = bare_command(&program)
            .args(["resize", "-q", "-f", "qcow2", files::OVERLAY])
            .arg(bytes.to_string())
            .current_dir(directory)
            .stdin(Stdio::null())
            .output()
            .map_err(io_error("start", &program))?;
        match ran.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
                let path = directory.join(files::OVERLAY);
                Err(io_error("resize", &path)(std::io::Error::other(said)))
            }
        }
    }
}
