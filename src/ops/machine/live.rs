//! The screen and the ports of a machine.

use serde::Serialize;

use super::super::Context;
use super::find_machine;
use crate::failure::Failure;
use crate::image::Protocol;
use crate::machine::{Forwarded, MachineError};

/// What the screen of a running machine shows, as PNG.
///
/// # Errors
/// There is no such machine, or it is stopped.
pub fn screenshot(context: &Context, name: &str) -> Result<Vec<u8>, Failure> {
    let machine = find_machine(context, name)?;
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    Ok(locked.screenshot()?)
}

/// A forwarded port of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    #[serde(flatten)]
    pub forwarded: Forwarded,
    /// Whether it is the one for SSH, which vmfab chose.
    pub ssh: bool,
    /// Whether it is forwarded now.
    pub active: bool,
}

/// The forwarded ports of a machine, that for SSH first.
///
/// # Errors
/// There is no such machine.
pub fn ports_of(context: &Context, name: &str) -> Result<Vec<Port>, Failure> {
    const SSH: u16 = 22;
    let machine = find_machine(context, name)?;
    let config = machine.config()?;
    let active = !machine.state()?.is_off();
    let port = |forwarded, ssh| Port {
        forwarded,
        ssh,
        active,
    };
    let ssh = port(Forwarded::tcp(config.ssh_port, SSH), true);
    let others = config.ports.into_iter().map(|other| port(other, false));
    Ok(std::iter::once(ssh).chain(others).collect())
}

/// Forwards one more port of a machine, running or not, from now on.
///
/// # Errors
/// There is no such machine, or the port of the host is taken.
pub fn add_port(context: &Context, name: &str, port: Forwarded) -> Result<(), Failure> {
    let machine = find_machine(context, name)?;
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let ports = machine.config()?.ports;
    let mut there = ports.iter();
    if there.any(|other| (other.host, other.protocol) == (port.host, port.protocol)) {
        return Err(Failure::failed(format!(
            "machine \"{name}\" already forwards port {}{} of this host",
            port.host,
            port.protocol.suffix()
        ))
        .with_help(format!(
            "vmfab port {name} --remove {}{} removes it",
            port.host,
            port.protocol.suffix()
        )));
    }
    Ok(locked.add_port(port)?)
}

/// Forwards a port of the host no longer.
///
/// # Errors
/// There is no such machine, or it does not forward the port.
pub fn remove_port(
    context: &Context,
    name: &str,
    host: u16,
    protocol: Protocol,
) -> Result<Forwarded, Failure> {
    let machine = find_machine(context, name)?;
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let config = machine.config()?;
    let mut ports = config.ports.iter();
    let Some(port) = ports.find(|port| (port.host, port.protocol) == (host, protocol)) else {
        let what = format!("port {host}{} of this host", protocol.suffix());
        return Err(match host == config.ssh_port && protocol.is_tcp() {
            true => Failure::usage(format!("{what} is for SSH, which vmfab needs")),
            false => Failure::new(
                crate::failure::Kind::NotFound,
                format!("machine \"{name}\" does not forward {what}"),
            )
            .with_help(format!("vmfab port {name} lists what it forwards")),
        });
    };
    match locked.remove_port(port) {
        // A QEMU that was started with another config does not know it.
        Err(MachineError::Qmp(_)) => {
            locked.change(|config| config.ports.retain(|one| one != port))?;
        }
        result => result?,
    }
    Ok(*port)
}
