//! `vmfab image check-updates`

use clap::Args;

use super::super::super::Status;
use super::super::super::output::count;
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::contents::{self, Updates};

/// The exit code when there are newer packages; that of `dnf check-update`.
const NEWER: u8 = 100;

/// List packages of an image for which the archives have newer versions
///
/// vmfab runs apt or apk of the image in a sandbox over its layers, with the network, and with the
/// sources, keys and preferences that the recipe put into the image. Nothing is kept of that: build
/// the image again to get the newer packages. Exits with 100 if there are some.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image check-updates @docker
  vmfab image check-updates @docker --json | jq -r '.packages[].name'
  vmfab image check-updates @docker || vmfab build docker.kdl --rebuild")]
pub(super) struct CheckUpdates {
    /// Tag, or first digits of an id
    image: String,
}

impl CheckUpdates {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let updates = contents::updates(session.context()?, &self.image)?;
        session.print(&updates, shown)?;
        Ok(match updates.packages.is_empty() {
            true => Status::Done,
            false => Status::Code(NEWER),
        })
    }
}

fn shown(updates: &Updates) -> String {
    if updates.packages.is_empty() {
        return "no newer packages\n".to_owned();
    }
    let mut table = Table::new(vec![
        ("PACKAGE", Align::Left),
        ("INSTALLED", Align::Left),
        ("AVAILABLE", Align::Left),
        ("ARCHIVE", Align::Left),
    ]);
    for one in &updates.packages {
        table.row(vec![
            one.name.clone(),
            one.installed.clone(),
            one.available.clone(),
            one.archive.clone().unwrap_or_default(),
        ]);
    }
    format!(
        "{table}\n{}\n",
        count(updates.packages.len(), "newer package")
    )
}
