//! Changing what a machine has.

use std::path::Path;
use std::process::Stdio;

use super::Locked;
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
        let config = machine.config()?;
        let has = config.disk_size();
        if bytes < has {
            return Err(MachineError::Shrink { asked: bytes, has });
        }
        let (state, qmp) = state::observe(&machine.directory)?;
        let live = match (state, qmp) {
            (State::Stopped, _) => {
                // Over layers without an overlay, the next start makes one of the new size.
                if let Some(file) = config.disks.first().and_then(|disk| disk.overlay(0)) {
                    let path = machine.directory.join(file);
                    overlay::check(&path)?;
                    grow_file(&path, bytes)?;
                }
                false
            }
            (_, Some(mut qmp)) => {
                let node = config
                    .disks
                    .first()
                    .map_or(disk_node(0), |disk| disk.node(0));
                qmp.resize(&node, bytes)?;
                true
            }
            (State::Suspended, _) => return Err(MachineError::Suspended(machine.name.clone())),
            (_, None) => return Err(MachineError::Running(machine.name.clone())),
        };
        self.change(|config| {
            if let Some(disk) = config.disks.first_mut() {
                disk.size = bytes;
            }
        })?;
        Ok(live)
    }
}

/// Makes the disk in a qcow2 file larger.
pub(super) fn grow_file(path: &Path, bytes: u64) -> Result<(), MachineError> {
    let program = require(Program::QemuImg)?;
    // Where the layers below it are, the file does not say: vmfab tells QEMU at each start.
    let alone = serde_json::json!({
        "driver": "qcow2",
        "backing": null,
        "file": { "driver": "file", "filename": path },
    });
    let ran = bare_command(&program)
        .args(["resize", "-q"])
        .arg(format!("json:{alone}"))
        .arg(bytes.to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(io_error("start", &program))?;
    match ran.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
            Err(io_error("resize", path)(std::io::Error::other(said)))
        }
    }
}
