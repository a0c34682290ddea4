//! Operations on machines.

mod boot;
mod error;
mod list;
mod session;
mod start;
mod stop;

pub use boot::{BootOptions, Booted, boot, require_programs};
pub use list::{MachineDetails, MachineEntry, Settings, SshAddress, inspect, list};
pub use session::{LogKind, Logs, console, logs, ssh};
pub use start::{StartOptions, Started, start};
pub use stop::{Removed, Stopped, remove, stop};

use super::{Context, Error};
use crate::machine::{Machine, MachineError, Machines};

/// The machine that a user named.
fn open(context: &Context, name: &str) -> Result<Machine, Error> {
    let machines = Machines::new(&context.home);
    let unknown = || -> Result<Machine, Error> {
        let known = machines.list()?;
        let known = known.iter().map(|machine| machine.name().as_str());
        Err(match Error::not_found("machine", name, known) {
            Error::NotFound {
                noun,
                name,
                help: None,
            } => Error::NotFound {
                noun,
                name,
                help: Some("vmfab list shows what there is".to_owned()),
            },
            error => error,
        })
    };
    // What cannot be a name is the name of no machine.
    let Ok(name) = name.parse() else {
        return unknown();
    };
    match machines.open(&name) {
        Err(MachineError::Unknown(_)) => unknown(),
        result => Ok(result?),
    }
}
