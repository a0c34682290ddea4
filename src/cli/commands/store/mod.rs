//! `vmfab store …`

mod add;
mod backup;
mod gc;
mod get;
mod repair;
mod restore;
mod roots;
mod stat;
mod verify;

use clap::{Args, Subcommand};

use super::super::Status;
use super::super::output::count;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::store::Names;
use crate::store::{DamagedFile, StoreError, TagName};

/// Manage the store: space, garbage, damage, backups, files
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab store stat
  vmfab store gc --dry-run
  vmfab store verify
  vmfab store backup /mnt/backup/vmfab
  vmfab store add installer.iso --keep installer"
)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    Stat(stat::Stat),
    Gc(gc::Gc),
    Verify(verify::Verify),
    Repair(repair::Repair),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Add(add::Add),
    Get(get::Get),
    Roots(roots::Roots),
    Unkeep(roots::Unkeep),
}

impl Store {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            StoreCommand::Stat(command) => command.run(session),
            StoreCommand::Gc(command) => command.run(session),
            StoreCommand::Verify(command) => command.run(session),
            StoreCommand::Repair(command) => command.run(session),
            StoreCommand::Backup(command) => command.run(session),
            StoreCommand::Restore(command) => command.run(session),
            StoreCommand::Add(command) => command.run(session),
            StoreCommand::Get(command) => command.run(session),
            StoreCommand::Roots(command) => command.run(session),
            StoreCommand::Unkeep(command) => command.run(session),
        }
    }
}

/// The name of a root: it has the form of a tag's, without `@`.
fn parse_root(text: &str) -> Result<TagName, String> {
    let refused = || {
        format!(
            "\"{text}\" cannot be a name: use letters, digits, \".\", \"_\" and \"-\", at most 128"
        )
    };
    if text.starts_with('@') {
        return Err(refused());
    }
    text.parse().map_err(|_: StoreError| refused())
}

/// A line for each damaged file.
fn damaged_files(files: &[DamagedFile]) -> String {
    let line = |file: &DamagedFile| {
        let records = match file.records {
            Some(0) => String::new(),
            Some(records) => format!(" ({})", count(records as usize, "record")),
            None => " (unusable)".to_owned(),
        };
        format!("{}: {}{records}\n", file.path.display(), file.reason)
    };
    files.iter().map(line).collect()
}

/// What became of tags and roots, a line for each kind that there is.
fn names(tags: &Names, roots: &Names, written: &str) -> String {
    let mut text = String::new();
    for (noun, at, names) in [("tag", "@", tags), ("root", "", roots)] {
        let listed = |names: &[String]| {
            let names: Vec<_> = names.iter().map(|name| format!("{at}{name}")).collect();
            names.join(" ")
        };
        let mut line = |what: &str, which: &[String]| {
            if !which.is_empty() {
                let number = count(which.len(), noun);
                text += &format!("{number} {what}: {}\n", listed(which));
            }
        };
        line(written, &names.written);
        line("removed", &names.removed);
        line("kept, because they name something else here", &names.kept);
        line(
            "left out, because not all of it could be copied",
            &names.left_out,
        );
    }
    text
}
