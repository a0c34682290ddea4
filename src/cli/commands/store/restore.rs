//! `vmfab store restore`

use std::path::PathBuf;

use clap::Args;

use super::super::super::Status;
use super::super::super::output::{count, duration, size};
use super::super::super::session::Session;
use super::super::build::parse_tag;
use super::{damaged_files, names};
use crate::failure::{Failure, Kind};
use crate::ops::store::{self, RestoreOptions, Restored};
use crate::store::TagName;

/// Restore what a backup has and the store lacks
///
/// Leave tags and roots that now name something else, and exit with 1 if there are any. If it is
/// interrupted, run it again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store restore /mnt/backup/vmfab
  vmfab store restore /mnt/backup/vmfab --tag @docker --force
  vmfab store restore /mnt/backup/vmfab --dry-run")]
pub(super) struct Restore {
    /// Directory of the backup
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Restore only the image of this tag (repeatable)
    #[arg(short, long = "tag", value_name = "@TAG", value_parser = parse_tag)]
    tags: Vec<TagName>,

    /// Show what would be restored, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Replace tags and roots that name something else
    #[arg(short, long)]
    force: bool,
}

impl Restore {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = RestoreOptions {
            directory: self.directory,
            tags: self.tags,
            dry_run: self.dry_run,
            force: self.force,
        };
        let done = store::restore(session.context()?, &options)?;
        session.print(&done, text)?;
        let kept = !done.tags.kept.is_empty() || !done.roots.kept.is_empty();
        if kept {
            session.note("add --force to replace what names something else here");
        }
        Ok(match () {
            () if !done.transferred.damaged.is_empty() => {
                Status::Code(Kind::Verification.exit_code())
            }
            () if kept => Status::Code(Kind::Failed.exit_code()),
            () => Status::Done,
        })
    }
}

fn text(done: &Restored) -> String {
    let transferred = &done.transferred;
    let (written, copied) = if done.dry_run {
        ("to be written", "to be copied")
    } else {
        ("written", "copied")
    };
    let mut text = damaged_files(&transferred.damaged);
    text += &names(&done.tags, &done.roots, written);
    if !done.snapshots.is_empty() {
        text += &format!("snapshots restored: {}\n", done.snapshots.join(", "));
    }
    text + &format!(
        "{}: {} {copied} ({}), {} already there, in {}\n",
        done.directory.display(),
        count(transferred.packs as usize, "pack"),
        size(transferred.bytes),
        transferred.present,
        duration(done.seconds)
    )
}
