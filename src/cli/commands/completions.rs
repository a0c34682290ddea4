//! `vmfab completions`

use clap::Args;
use clap_complete::Shell;

use super::super::Status;
use super::super::complete;
use super::super::output;
use super::super::session::Session;
use crate::failure::Failure;

/// Print shell completions
///
/// The script asks vmfab for names, so it completes current tags, machines and recipes.
#[derive(Debug, Args)]
#[command(after_help = "\
Install:
  bash        vmfab completions bash > ~/.local/share/bash-completion/completions/vmfab
  zsh         vmfab completions zsh > ~/.zfunc/_vmfab      (with ~/.zfunc in fpath)
  fish        vmfab completions fish > ~/.config/fish/completions/vmfab.fish
  elvish      vmfab completions elvish >> ~/.config/elvish/rc.elv
  powershell  vmfab completions powershell >> $PROFILE")]
pub(crate) struct Completions {
    /// Shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        session.end_progress();
        let script = complete::script(&self.shell.to_string()).map_err(|error| {
            Failure::failed(format!(
                "cannot write the script for {}: {error}",
                self.shell
            ))
        })?;
        output::write_text(script.unwrap_or_default())?;
        Ok(Status::Done)
    }
}
