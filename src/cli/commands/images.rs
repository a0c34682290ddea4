//! `vmfab images`

use clap::Args;

use super::super::Status;
use super::super::error::CliError;
use super::super::output::size;
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::ops::images::{self, ImageEntry};

/// List the images that tags name
///
/// DISK is the size that a guest sees, SIZE what disk, kernel and initrd take on this host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab images
  vmfab images --quiet
  vmfab images --json | jq -r '.[].tag'")]
pub(crate) struct Images {}

impl Images {
    pub(super) fn run(self, session: &Session) -> Result<Status, CliError> {
        let entries = images::list(session.reading_context()?)?;
        session.print(&entries, |entries| {
            if session.quiet() {
                entries
                    .iter()
                    .map(|entry| format!("@{}\n", entry.tag))
                    .collect()
            } else {
                table(entries)
            }
        })?;
        if entries.is_empty() {
            session.note("there are no images yet: vmfab build RECIPE makes one");
        }
        Ok(Status::Done)
    }
}

fn table(entries: &[ImageEntry]) -> String {
    let mut table = Table::new([
        ("TAG", Align::Left),
        ("IMAGE", Align::Left),
        ("NAME", Align::Left),
        ("ARCHITECTURE", Align::Left),
        ("DISK", Align::Right),
        ("SIZE", Align::Right),
    ]);
    for entry in entries {
        table.row([
            format!("@{}", entry.tag),
            entry.image.short(),
            entry.name.clone(),
            entry.architecture.clone(),
            size(entry.disk_size),
            size(entry.stored_size),
        ]);
    }
    table.to_string()
}
