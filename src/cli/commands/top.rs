//! `vmfab top`

use std::time::Duration;

use clap::Args;
use console::Term;

use super::super::Status;
use super::super::output::{count, size};
use super::super::session::Session;
use super::super::table::{Align, Table};
use super::list::{percent, shown, state};
use super::repeat::watch;
use crate::failure::Failure;
use crate::ops::machine::{self, HostUse, Lister, MachineEntry, Top as Found};

/// How often it is shown again on a terminal.
const EVERY: Duration = Duration::from_secs(2);

/// Show what machines use of this host
///
/// List the running machines of the home and of all projects, the busiest first: the share of its
/// processors that a machine uses, the memory that it takes of what it was promised, and the disk
/// space that it takes of the size of its disk. The last lines compare this host with what all
/// machines were promised.
///
/// On a terminal, refresh every two seconds until Ctrl-C; elsewhere and with --once, print once.
#[derive(Debug, Args)]
#[command(
    visible_alias = "stats",
    after_help = "\
Examples:
  vmfab top
  vmfab top --once
  vmfab top --json | jq .host.memory_promised"
)]
pub(crate) struct Top {
    /// Print once, also on a terminal
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let mut lister = Lister::default();
        if Term::stdout().is_term() && !session.json() && !self.once {
            return watch(session, EVERY, || machine::top(context, &mut lister), text);
        }
        session.print(&machine::top(context, &mut lister)?, text)?;
        Ok(Status::Done)
    }
}

fn text(top: &Found) -> String {
    let mut text = match top.machines.as_slice() {
        [] => "no machine runs\n".to_owned(),
        machines => table(machines),
    };
    text.push_str(&host(&top.host));
    text
}

fn table(machines: &[MachineEntry]) -> String {
    let projects = machines.iter().any(|entry| entry.project.is_some());
    let mut columns = vec![("NAME", Align::Left)];
    if projects {
        columns.push(("PROJECT", Align::Left));
    }
    columns.extend([
        ("STATE", Align::Left),
        ("CPU", Align::Right),
        ("MEMORY", Align::Right),
        ("DISK", Align::Right),
    ]);
    let mut table = Table::new(columns);
    for machine in machines {
        let mut row = vec![machine.name.to_string()];
        if projects {
            row.push(machine.project.as_deref().map(shown).unwrap_or_default());
        }
        row.push(state(machine));
        if let (Some(usage), Some(settings)) = (machine.usage, &machine.settings) {
            let cpus = settings.cpus;
            row.extend([
                format!("{}{cpus}", percent(usage.cpu / f64::from(cpus.max(1)))),
                format!("{} of {}", size(usage.memory), size(settings.memory)),
                format!(
                    "{} of {}",
                    size(machine.stored_size),
                    size(settings.disk_size)
                ),
            ]);
        }
        table.row(row);
    }
    table.to_string()
}

/// What this host has, and what of it is promised.
fn host(host: &HostUse) -> String {
    let room = &host.room;
    let available = host
        .memory_available
        .map_or_else(String::new, |bytes| format!(", {} available", size(bytes)));
    let load = host
        .load
        .map_or_else(String::new, |load| format!(", load {load}"));
    format!(
        "host: {} of {} memory promised{available}\n\
         host: {} promised, {} real{load}\n\
         host: disks take {} of {} promised, {} free\n",
        size(room.memory_promised),
        size(room.memory),
        count(room.cpus_promised as usize, "virtual processor"),
        room.cpus,
        size(host.disk_used),
        size(host.disk_promised),
        size(room.disk_free),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::machine::HostRoom;

    #[test]
    fn a_host_without_machines() {
        let top = Found {
            host: HostUse {
                room: HostRoom {
                    machines: 1,
                    memory: 8 << 30,
                    memory_promised: 1 << 30,
                    cpus: 2,
                    cpus_promised: 2,
                    disk_free: 50 << 30,
                },
                memory_available: Some(5 << 30),
                load: Some(0.5),
                disk_promised: 40 << 30,
                disk_used: 1 << 30,
            },
            machines: Vec::new(),
        };
        insta::assert_snapshot!(text(&top), @r"
        no machine runs
        host: 1.0 GiB of 8.0 GiB memory promised, 5.0 GiB available
        host: 2 virtual processors promised, 2 real, load 0.5
        host: disks take 1.0 GiB of 40 GiB promised, 50 GiB free
        ");
    }
}
