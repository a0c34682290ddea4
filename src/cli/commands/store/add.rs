//! `vmfab store add`

use std::path::PathBuf;

use clap::Args;

use super::super::super::Status;
use super::super::super::output::size;
use super::super::super::session::Session;
use super::parse_root;
use crate::failure::Failure;
use crate::ops::store::{self, AddOptions};
use crate::store::TagName;

/// Add files to the store
///
/// Print id, size and path of each file. Do not read a file again that has not changed. Without
/// --keep, a file stays until the next garbage collection.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store add installer.iso --keep installer
  vmfab store add *.qcow2 --json | jq -r '.[].object'")]
pub(super) struct Add {
    /// Files to add; regular files only
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Keep the files under NAME, instead of what NAME kept before
    #[arg(long, value_name = "NAME", value_parser = parse_root)]
    keep: Option<TagName>,
}

impl Add {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = AddOptions {
            files: self.files,
            keep: self.keep,
        };
        let added = store::add(session.context()?, &options)?;
        session.print(&added, |added| {
            let lines = added.iter().map(|one| match session.quiet() {
                true => format!("{}\n", one.object),
                false => format!("{}  {:>8}  {}\n", one.object, size(one.size), one.path),
            });
            lines.collect::<String>()
        })?;
        Ok(Status::Done)
    }
}
