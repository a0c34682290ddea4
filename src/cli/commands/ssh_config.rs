//! `vmfab ssh-config`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::several::check;
use crate::failure::Failure;
use crate::ops::machine::{self, Affected, Targets};

/// Show or install a configuration for ssh
///
/// Print a Host block for each machine, for ssh, rsync and editors. --install writes the blocks of
/// all machines to a file and adds one Include line to ~/.ssh/config. Run it again after a machine
/// was created, renamed, or started with another SSH port.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab ssh-config docker > docker.conf && rsync -e 'ssh -F docker.conf' -a site docker:
  vmfab ssh-config --install && ssh docker
  vmfab ssh-config --uninstall")]
pub(crate) struct SshConfig {
    /// Machines [default: all of the project, or of the home]
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Make ssh NAME work: add an Include line to ~/.ssh/config
    #[arg(long, conflicts_with = "names")]
    install: bool,

    /// Remove that line
    #[arg(long, conflicts_with_all = ["names", "install"])]
    uninstall: bool,
}

impl SshConfig {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        if self.install || self.uninstall {
            let done = match self.install {
                true => machine::install_ssh_config(context)?,
                false => machine::uninstall_ssh_config(context)?,
            };
            session.print(&done, |done| {
                let (config, included) = (done.config.display(), done.included.display());
                match (self.install, done.changed) {
                    (true, true) => format!("{config}: includes {included} now"),
                    (true, false) => format!("wrote {included}; {config} already includes it"),
                    (false, true) => format!("{config}: no longer includes {included}"),
                    (false, false) => format!("{config} does not include {included}"),
                }
            })?;
            return Ok(Status::Done);
        }
        let targets = match self.names.is_empty() {
            true => Targets::All(Affected::Any),
            false => Targets::Named(self.names),
        };
        let blocks = targets.each(context, machine::ssh_block)?;
        session.print(&blocks.done, |blocks| blocks.join("\n"))?;
        check(blocks, "shown")
    }
}
