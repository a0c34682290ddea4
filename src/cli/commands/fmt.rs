//! `vmfab fmt`

use std::path::PathBuf;

use clap::Args;

use super::super::Status;
use super::super::error::CliError;
use super::super::session::Session;

/// Format recipes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab fmt recipes/docker.kdl
  vmfab fmt --check                  in continuous integration
  vmfab fmt - < docker.kdl           from standard input to standard output")]
pub(crate) struct Fmt {
    /// Recipe files, or - for standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Fmt {
    pub(super) fn run(self, _session: &Session) -> Result<Status, CliError> {
        Err(CliError::usage(format!(
            "{} files cannot be formatted yet",
            self.files.len()
        )))
    }
}
