//! Making a snapshot of a machine.

use std::fs::File;

use super::super::Context;
use super::super::machine::{find_machine, remote_shell};
use super::list::{SnapshotDetails, details};
use super::{parse, text};
use crate::builder::guest::as_root;
use crate::failure::Failure;
use crate::machine::{FREEZE, Quiesce, State, Wanted};

/// The snapshot to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    pub name: String,
    /// The machine's name.
    pub machine: String,
    pub description: Option<String>,
    /// Whether the guest writes its file systems back and freezes them for the moment.
    pub quiesce: bool,
    /// Whether it holds what the guest has in memory.
    pub memory: bool,
}

/// Makes a snapshot of a machine, which goes on.
///
/// # Errors
/// There is no such machine, the name is taken or no name, or the machine cannot be frozen.
pub fn create(context: &Context, options: &CreateOptions) -> Result<SnapshotDetails, Failure> {
    if options.name.starts_with('@') {
        let name = options.name.trim_start_matches('@');
        return Err(Failure::usage(format!(
            "{} names an image, not a snapshot of a machine",
            options.name
        ))
        .with_help(format!(
            "vmfab snapshot create {name} makes a snapshot; vmfab commit {} {} makes an \
                     image of the machine",
            options.machine, options.name
        )));
    }
    let wanted = Wanted {
        name: parse(&options.name)?,
        description: options.description.as_deref().map(text).transpose()?,
        automatic: false,
        volumes: true,
        memory: options.memory,
    };
    let machine = find_machine(context, &options.machine)?;
    let machines = machine.machines().clone();
    let store = context.store()?;
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let log_path = machine.directory().join("quiesce.log");
    let log;
    let quiesce = match options.quiesce && machine.state()? != State::Stopped {
        false => None,
        true => {
            machine.check_goes_on()?;
            log = File::create(&log_path).map_err(Failure::io("create", &log_path))?;
            Some(Quiesce {
                remote: remote_shell(&machine, &as_root(FREEZE))?,
                log: &log,
            })
        }
    };
    let snapshot = locked.snapshot(&wanted, quiesce, &store, &context.interrupt)?;
    Ok(details(&machines, snapshot))
}
