//! `vmfab images`

use clap::Args;

use super::super::Status;
use super::super::error::CliError;
use super::super::output::size;
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::ops::images::{self, AvailableRecipe, ImageEntry};

/// List the images that tags name
///
/// DISK is the size that a guest sees, SIZE what disk, kernel and initrd take on this host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab images
  vmfab images --available
  vmfab images --json | jq -r '.[].tag'")]
pub(crate) struct Images {
    /// List the recipes that can be built by name instead
    #[arg(long)]
    available: bool,
}

impl Images {
    pub(super) fn run(self, session: &Session) -> Result<Status, CliError> {
        if self.available {
            let available = images::available(session.reading_context()?)?;
            session.print(&available, |recipes| catalogue(recipes, session))?;
            return Ok(Status::Done);
        }
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
            session
                .note("there are no images yet: vmfab images --available lists what can be built");
        }
        Ok(Status::Done)
    }
}

fn catalogue(recipes: &[AvailableRecipe], session: &Session) -> String {
    if session.quiet() {
        return recipes
            .iter()
            .map(|recipe| format!("{}\n", recipe.name))
            .collect();
    }
    let mut table = Table::new([("RECIPE", Align::Left), ("DESCRIPTION", Align::Left)]);
    for recipe in recipes {
        table.row([&recipe.name, &recipe.description]);
    }
    table.to_string()
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
