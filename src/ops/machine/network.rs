//! The private network of machines: who is in it is told to those that run.

use super::super::Context;
use super::clone::remote_shell;
use super::enter::shell_words;
use super::targets::at_once;
use crate::builder::guest::as_root;
use crate::event::Event;
use crate::failure::Failure;
use crate::machine::{Machine, Machines};

/// Puts a machine that is about to start into its private network, if it is to be in one. Those that
/// run there hear of it.
pub(super) fn join_network(context: &Context, machine: &Machine) -> Result<(), Failure> {
    if machine.join_network()? {
        tell_network(context, machine.machines())?;
    }
    Ok(())
}

/// Tells the machines that run who is in their private network. One that cannot be told hears of it
/// at its next start, and a warning says so.
///
/// # Errors
/// The machines cannot be listed.
pub(in crate::ops) fn tell_network(context: &Context, machines: &Machines) -> Result<(), Failure> {
    let listed = machines.list()?;
    for (machine, why) in listed.iter().zip(at_once(&listed, tell)) {
        if let Err(why) = why {
            context.emit(Event::Warning {
                message: format!(
                    "machine \"{}\" does not know new machines by name until its next start: {why}",
                    machine.name()
                ),
            });
        }
    }
    Ok(())
}

fn tell(machine: &Machine) -> Result<(), Failure> {
    // One whose config is damaged is nobody's concern here.
    let is_in = machine.config().is_ok_and(|config| config.network.group);
    if !is_in || !machine.has_qemu()? || machine.claims_own_init()? {
        return Ok(());
    }
    let Some(network) = machine.network()? else {
        return Ok(());
    };
    let mut ssh = remote_shell(machine, &as_root(&shell_words(&network.command())))?;
    let ended = ssh.output().map_err(Failure::io("run", "ssh".as_ref()))?;
    match ended.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&ended.stderr);
            let last = said.lines().last().unwrap_or("ssh failed").to_owned();
            Err(Failure::failed(last))
        }
    }
}
