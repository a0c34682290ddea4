//! `vmfab store backup`

use std::path::PathBuf;

use clap::Args;

use super::super::super::Status;
use super::super::super::output::{count, duration, size};
use super::super::super::session::Session;
use super::{damaged_files, names};
use crate::failure::{Failure, Kind};
use crate::ops::store::{self, BackedUp, BackupOptions};

/// Copy new content of the store to a backup
///
/// Copy only the packs that the backup lacks, and verify them. A backup is a complete store of the
/// same format, without machines and logs. Builds may run at the same time. If it is interrupted,
/// run it again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store backup /mnt/backup/vmfab
  vmfab store backup /mnt/backup/vmfab --prune")]
pub(super) struct Backup {
    /// Directory of the backup; empty or new for the first one
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Remove tags and roots from the backup that the store no longer has
    #[arg(long)]
    prune: bool,
}

impl Backup {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = BackupOptions {
            directory: self.directory,
            prune: self.prune,
        };
        let done = store::backup(session.context()?, &options)?;
        session.print(&done, text)?;
        if done.transferred.damaged.is_empty() {
            Ok(Status::Done)
        } else {
            Ok(Status::Code(Kind::Verification.exit_code()))
        }
    }
}

fn text(done: &BackedUp) -> String {
    let transferred = &done.transferred;
    let mut text = damaged_files(&transferred.damaged);
    text += &names(&done.tags, &done.roots, "written");
    text += &format!(
        "{}: {} copied ({}), {} already there, in {}\n",
        done.directory.display(),
        count(transferred.packs as usize, "pack"),
        size(transferred.bytes),
        transferred.present,
        duration(done.seconds)
    );
    if !transferred.damaged.is_empty() {
        text += "Damaged content was not copied: vmfab store verify explains it\n";
    }
    text
}
