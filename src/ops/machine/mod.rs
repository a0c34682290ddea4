//! Operations on machines.

mod admission;
mod asked;
mod boot;
mod chosen;
mod clone;
mod cloud_init;
mod copy;
mod enter;
mod exec;
mod glance;
mod list;
mod live;
mod loss;
mod network;
mod set;
mod ssh_config;
mod start;
mod stop;
mod targets;
mod top;
mod wait;

pub use admission::{Forecast, HostRoom};
pub use asked::ask_for_shares;
pub(in crate::ops) use asked::require_shares;
pub use boot::{BootOptions, Booted, boot, boot_in, boot_several, require_programs};
pub(super) use boot::{ports, reads_of_boot};
pub(in crate::ops) use chosen::is_elsewhere;
pub use chosen::{BuiltImage, ImageOptions, build_image, image};
pub use clone::{CreateOptions, Created, clone, create};
pub(super) use clone::{keep_need, remote_shell, stop_with_patience};
pub use cloud_init::cloud_init;
pub use copy::{Copied, CopyOptions, Place, copy};
pub use enter::{LogKind, Logs, SshOptions, logs, ssh, why_no_session};
pub use exec::{Exec, ExecOptions, Way, exec};
pub use glance::{Glance, glance};
pub use list::{
    Lister, MachineDetails, MachineEntry, MachineUsage, Settings, SshAddress, inspect, planned,
};
pub use live::{Port, add_port, ports_of, remove_port, screenshot};
pub use loss::Loss;
pub(super) use network::tell_network;
pub use set::{Changed, set};
pub(in crate::ops) use ssh_config::refresh_ssh_config;
pub use ssh_config::{Installed, install_ssh_config, ssh_block, uninstall_ssh_config};
pub use start::{
    Paused, Resumed, StartOptions, Started, Suspended, pause, restart, resume, start,
    start_machine, suspend, wait_for,
};
pub(super) use stop::remove_locked;
pub use stop::{Removed, Renamed, Stopped, remove, rename, stop_machine};
pub use targets::{Affected, Each, Targets};
pub use top::{HostUse, Top, top};
pub use wait::{Awaited, WaitOptions, Waited, wait};

use super::Context;
use crate::failure::Failure;
use crate::machine::{Machine, MachineError, Machines, Projects};

/// Where machines are looked for, in this order: in the project that the user is in, and in the
/// home.
///
/// A project counts when the home knows it, which `vmfab up` sees to: what lies in a directory that
/// came from elsewhere is not started for its name.
pub(super) fn places(context: &Context) -> Result<Vec<Machines>, Failure> {
    let mut places = Vec::new();
    if let Some(project) = &context.project
        && Projects::new(&context.home).find(project)?.is_some()
    {
        places.push(project.machines(&context.home));
    }
    places.push(Machines::new(&context.home));
    Ok(places)
}

/// The same with those of every project that the home knows and can reach.
fn all_places(context: &Context) -> Result<Vec<Machines>, Failure> {
    let mut places = places(context)?;
    let others = Projects::new(&context.home).list()?.into_iter();
    let others = others.map(|other| other.project());
    let others = others.filter(|other| context.project.as_ref() != Some(other));
    let at = places.len() - 1;
    places.splice(at..at, others.map(|other| other.machines(&context.home)));
    Ok(places)
}

/// The machines in these places.
fn listed(places: &[Machines]) -> Result<Vec<Machine>, Failure> {
    let mut machines = Vec::new();
    for place in places {
        machines.extend(place.list()?);
    }
    Ok(machines)
}

/// The names of the machines of the project that the user is in, and of those of the home. None of
/// them is asked for its state.
///
/// # Errors
/// A directory cannot be read.
pub fn names(context: &Context) -> Result<Vec<String>, Failure> {
    let machines = listed(&places(context)?)?;
    let names = machines.iter().map(|machine| machine.name().to_string());
    Ok(names.collect())
}

/// The machine that a user named: the project's, when the user is in a project that has one of that
/// name, else the home's.
///
/// # Errors
/// There is none.
pub fn find_machine(context: &Context, name: &str) -> Result<Machine, Failure> {
    let places = places(context)?;
    // What cannot be a name is the name of no machine.
    if let Ok(name) = name.parse() {
        for machines in &places {
            match machines.open(&name) {
                Err(MachineError::Unknown(_)) => {}
                result => return Ok(result?),
            }
        }
    }
    let known = listed(&places)?;
    let known = known.iter().map(|machine| machine.name().as_str());
    Err(Failure::not_found("machine", name, known).or_help("vmfab list shows the machines"))
}

/// The only machine of the project that the user is in.
///
/// # Errors
/// It has none or several, or the user is in no project.
pub fn only_machine(context: &Context) -> Result<String, Failure> {
    let places = places(context)?;
    let [project, _] = places.as_slice() else {
        return Err(Failure::usage("no machine named").with_help(
            "name it; without a name it is the one of a project with one machine, and there is no \
                 project with machines here",
        ));
    };
    let machines = project.list()?;
    match machines.as_slice() {
        [one] => Ok(one.name().to_string()),
        several => Err(Failure::usage("no machine named").with_help(match several {
            [] => "the project has none: vmfab up creates them".to_owned(),
            _ => {
                let names: Vec<_> = several.iter().map(|one| one.name().as_str()).collect();
                format!("the project has {}", names.join(", "))
            }
        })),
    }
}
