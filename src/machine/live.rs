//! What is asked of a QEMU while it runs: its screen, its ports, the guest's agent.

use std::fs;

use super::config::Forwarded;
use super::directory::files;
use super::error::{MachineError, io_error};
use super::launch::{check_port, forward};
use super::{Locked, Machine};
use crate::failure::Failure;
use crate::host::beneath::read_unlinked;
use crate::image::Uplink;
use crate::qemu::AGENT;
use crate::qemu::agent::Agent;

impl Locked {
    /// What the guest's screen shows, as PNG.
    ///
    /// # Errors
    /// It does not run, or has no screen.
    pub fn screenshot(&self) -> Result<Vec<u8>, MachineError> {
        let machine = &self.machine;
        let file = machine.directory.join(files::SCREENSHOT);
        // The machine's directory may have come from elsewhere, and QEMU would follow a link.
        let removed = || match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        removed().map_err(io_error("remove", &file))?;
        machine.qmp()?.screenshot(files::SCREENSHOT)?;
        let bytes = read_unlinked(&file).map_err(io_error("read", &file));
        removed().map_err(io_error("remove", &file))?;
        bytes
    }

    /// Forwards one more port, now and from each later start on.
    ///
    /// # Errors
    /// The port of the host is taken, or QEMU does not answer.
    pub fn add_port(&self, port: Forwarded) -> Result<(), MachineError> {
        check_port(&port)?;
        let uplink = self.machine.config()?.network.uplink;
        if !self.machine.state()?.is_off() {
            if uplink == Uplink::Passt {
                let name = self.machine.name();
                return Err(Failure::failed(format!(
                    "machine \"{name}\" runs with passt, which forwards ports from its start on"
                ))
                .with_help(format!(
                    "stop it first: vmfab stop {name}; or use QEMU's network, vmfab set {name} network=user"
                ))
                .into());
            }
            self.machine.qmp()?.add_forward(&forward(&port))?;
        }
        self.change(|config| config.ports.push(port))
    }

    /// Forwards a port no longer, from now on.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn remove_port(&self, port: &Forwarded) -> Result<(), MachineError> {
        if !self.machine.state()?.is_off() {
            self.machine.qmp()?.remove_forward(&forward(port))?;
        }
        self.change(|config| config.ports.retain(|other| other != port))
    }
}

impl Machine {
    /// A connection to the agent in its guest; nothing when none runs there.
    ///
    /// # Errors
    /// The machine does not run, or the agent does not answer.
    pub fn agent(&self) -> Result<Option<Agent>, MachineError> {
        if !self.qmp()?.is_open(AGENT)? {
            return Ok(None);
        }
        let path = self.directory.join(files::AGENT_SOCKET);
        let agent = Agent::connect(&self.directory, files::AGENT_SOCKET);
        agent.map(Some).map_err(io_error("connect to", &path))
    }
}
