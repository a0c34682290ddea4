//! `vmfab man`

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::super::Status;
use super::super::output;
use super::super::session::Session;
use crate::failure::Failure;
use crate::host::umask;

/// Print the manual page, or write all of them to a directory
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab man | man -l -
  vmfab man --output ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Write a page for each command to DIRECTORY
    #[arg(short, long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        session.end_progress();
        // The template of the help text has groups; a manual page has its own form.
        let root = <super::Root as clap::CommandFactory>::command().after_help(super::EXAMPLES);
        match self.output {
            None => output::write_text(String::from_utf8_lossy(&page(root)?))?,
            Some(directory) => {
                umask::follow_users_umask();
                fs::create_dir_all(&directory).map_err(Failure::io("create", &directory))?;
                clap_mangen::generate_to(root, &directory)
                    .map_err(Failure::io("write to", &directory))?;
            }
        }
        Ok(Status::Done)
    }
}

fn page(command: clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::failed(format!("cannot write the page: {error}")))?;
    Ok(page)
}
