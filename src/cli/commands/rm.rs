//! `vmfab rm`

use std::io::IsTerminal;

use clap::Args;

use super::super::Status;
use super::super::output::size;
use super::super::session::Session;
use super::several::{Named, finish};
use crate::failure::Failure;
use crate::machine::MachineName;
use crate::ops::machine::{self, Affected, Loss};

/// Remove machines
///
/// Remove their disks and keys, too; keep their images. On a terminal, vmfab asks before.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab rm docker
  vmfab rm --force docker docker-2
  vmfab rm --all")]
pub(crate) struct Rm {
    #[command(flatten)]
    machines: Named,

    /// Do not ask, and also remove running machines, without a shutdown
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let found = self.machines.targets(Affected::Any).find(context)?;
        if !self.force && !found.done.is_empty() && std::io::stdin().is_terminal() {
            let lost: Vec<String> = found
                .done
                .iter()
                .map(|machine| loss(machine.name(), &Loss::of(context, machine)))
                .collect();
            session.confirm(&lost.join("\n"), "--force")?;
        }
        let removed = found.and_then(|machine| machine::remove(context, machine, self.force));
        finish(session, removed, "removed", |removed| {
            format!("{}: removed\n", removed.name)
        })
    }
}

/// What the user is asked before a machine is removed.
pub(super) fn loss(name: &MachineName, lost: &Loss) -> String {
    let own = size(lost.stored_size);
    let mut text =
        format!("this removes machine \"{name}\" and all data on its disk ({own} of its own)");
    let directories: Vec<&str> = lost.directories.iter().map(|path| &**path).collect();
    if !directories.is_empty() {
        text += &format!(", with {}", directories.join(", "));
    }
    text
}
