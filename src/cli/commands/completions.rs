//! `vmfab completions`

use clap::Args;
use clap_complete::Shell;

use super::super::Status;
use super::super::error::CliError;
use super::super::output;
use super::super::session::Session;

/// Print shell completions
#[derive(Debug, Args)]
#[command(after_help = "\
Install:
  bash        vmfab completions bash > ~/.local/share/bash-completion/completions/vmfab
  zsh         vmfab completions zsh > ~/.zfunc/_vmfab      (with ~/.zfunc in fpath)
  fish        vmfab completions fish > ~/.config/fish/completions/vmfab.fish
  elvish      vmfab completions elvish >> ~/.config/elvish/rc.elv
  powershell  vmfab completions powershell >> $PROFILE")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, session: &Session) -> Result<Status, CliError> {
        session.end_progress();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::root(), "vmfab", &mut script);
        output::write_text(String::from_utf8_lossy(&script))?;
        Ok(Status::Done)
    }
}
