//! Snapshots: base ones, which are images under tags, and project ones, which are of machines.

mod backup;
mod base;
mod commit;
mod create;
mod diff;
mod list;
mod restore;
mod transfer;

pub(super) use backup::{adopt_all, store_all};
pub use base::{check_base, is_image, save_base};
pub use commit::{CommitOptions, Committed, commit};
pub use create::{CreateOptions, create};
pub(super) use diff::diff_images;
pub use diff::{Change, FileChange, diff};
pub use list::{Entry, Kind, SnapshotDetails, inspect, list, names};
pub use restore::{Deleted, RestoreOptions, Restored, delete, restore};

pub use transfer::{ExportOptions, Exported, ImportOptions, Imported, export, import};

use std::path::PathBuf;

use super::Context;
use super::machine::places;
use crate::checked::Text;
use crate::failure::Failure;
use crate::machine::{Machines, Snapshot, SnapshotName};
use crate::store::TagName;

/// A snapshot that a user named, with the machines that it is among.
struct Found {
    machines: Machines,
    snapshot: Snapshot,
}

/// The project snapshot of that name: the project's, when the user is in a project that has one,
/// else the home's.
fn find(context: &Context, name: &str) -> Result<Found, Failure> {
    let name = parse(name)?;
    let mut known = Vec::new();
    for machines in places(context)? {
        let snapshots = machines.snapshots();
        let names = snapshots.names()?;
        if names.contains(&name) {
            let snapshot = snapshots.open(&name)?;
            return Ok(Found { machines, snapshot });
        }
        known.extend(names);
    }
    let is_tag = tag(context, &format!("@{name}"))?.is_some();
    let failure = Failure::not_found(
        "snapshot",
        name.as_str(),
        known.iter().map(SnapshotName::as_str),
    );
    Err(match is_tag {
        true => failure.with_help(format!("the image is named with an @: @{name}")),
        false => failure.or_help("vmfab snapshot list shows the snapshots"),
    })
}

fn parse(name: &str) -> Result<SnapshotName, Failure> {
    name.parse().map_err(|why: String| Failure::usage(why))
}

fn text(text: &str) -> Result<Text, Failure> {
    text.parse()
        .map_err(|_| Failure::usage("a description cannot hold control characters"))
}

/// The image that `@name` names; nothing when it names none.
fn tag(context: &Context, name: &str) -> Result<Option<crate::digest::ObjectId>, Failure> {
    match name.strip_prefix('@').map(str::parse::<TagName>) {
        Some(Ok(tag)) => Ok(context.store()?.tag(&tag)?),
        _ => Ok(None),
    }
}

/// The directory of the project that machines are of; nothing for those of the home.
fn project(machines: &Machines) -> Option<PathBuf> {
    machines.project().map(|project| project.root().to_owned())
}
