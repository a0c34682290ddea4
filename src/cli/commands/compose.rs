//! `vmfab compose convert`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::super::Status;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::compose::{self, Warning};

/// Use Compose files
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab up                           in a directory with a compose.yaml and no vmfab.kdl
  vmfab compose convert > vmfab.kdl"
)]
pub(crate) struct Compose {
    #[command(subcommand)]
    command: ComposeCommand,
}

#[derive(Debug, Subcommand)]
enum ComposeCommand {
    Convert(Convert),
}

impl Compose {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            ComposeCommand::Convert(command) => command.run(session),
        }
    }
}

/// Print the vmfab.kdl that says the same as a Compose file
///
/// Variables have their values of now, from the environment and from .env: secrets among them are
/// printed. What has no effect is reported on standard error, with its line.
///
/// Without FILE, read compose.yaml, compose.yml, docker-compose.yml or docker-compose.yaml.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab compose convert
  vmfab compose convert compose.dev.yaml > vmfab.kdl
  vmfab compose convert --json | jq .warnings")]
struct Convert {
    /// The Compose file [default: that of the working directory]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Convert {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let conversion = compose::convert(context, self.file.as_deref())?;
        if !session.json() {
            for Warning { place, message } in &conversion.warnings {
                match place {
                    Some(place) => session.note(&format!("{place}: {message}")),
                    None => session.note(message),
                }
            }
        }
        session.print(&conversion, |conversion| conversion.kdl.clone())?;
        Ok(Status::Done)
    }
}
