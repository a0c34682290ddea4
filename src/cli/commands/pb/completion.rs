//! `vmfab pb completion`

use clap::{Args, ValueEnum};

use super::super::super::Status;
use super::super::super::complete;
use super::super::super::output;
use super::super::super::session::Session;
use crate::failure::Failure;

/// Print shell completions for the name podman-bootc
#[derive(Debug, Args)]
#[command(after_help = "\
Install:
  bash        vmfab pb completion bash > ~/.local/share/bash-completion/completions/podman-bootc
  fish        vmfab pb completion fish > ~/.config/fish/completions/podman-bootc.fish")]
pub(crate) struct Completion {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,

    /// Complete without descriptions
    #[arg(long)]
    no_descriptions: bool,
}

/// The shells that podman-bootc knows.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Powershell,
    Zsh,
}

impl Completion {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        session.end_progress();
        let shell = match self.shell {
            Shell::Bash => "bash",
            Shell::Fish => "fish",
            Shell::Powershell => "powershell",
            Shell::Zsh => "zsh",
        };
        let script = complete::script_of_podman_bootc(shell, !self.no_descriptions);
        let script = script.map_err(|error| {
            Failure::failed(format!("cannot write the script for {shell}: {error}"))
        })?;
        output::write_text(script.unwrap_or_default())?;
        Ok(Status::Done)
    }
}
