//! `vmfab store repair`

use clap::Args;

use super::super::super::Status;
use super::super::super::output::{count, duration};
use super::super::super::session::Session;
use super::damaged_files;
use super::verify::damage;
use crate::failure::{Failure, Kind};
use crate::ops::store::{self, Repair as Outcome};

/// Remove damaged content, so that it can be built again
///
/// Read everything, like verify, and keep what is intact. Restore disks from the cache of disks if
/// possible. Exit with 6 if something with a name is lost; the message says how to restore it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store repair --dry-run
  vmfab store repair")]
pub(super) struct Repair {
    /// Show what would be removed, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Repair {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let done = store::repair(session.context()?, self.dry_run)?;
        session.print(&done, |done| match session.quiet() && done.ok {
            true => String::new(),
            false => text(done),
        })?;
        if done.ok {
            Ok(Status::Done)
        } else {
            Ok(Status::Code(Kind::Verification.exit_code()))
        }
    }
}

fn text(done: &Outcome) -> String {
    let mut text = damaged_files(&done.damaged_files);
    text.extend(done.lost.iter().map(damage));
    if done.damaged_files.is_empty() && done.lost.is_empty() && done.dropped.is_empty() {
        return text + &format!("no damage found ({})\n", duration(done.seconds));
    }
    for name in &done.names {
        text += &format!("{name}: removed\n");
    }
    let number = |number: u64, noun: &str| count(number as usize, noun);
    if done.in_use > 0 {
        let files = number(done.in_use, "damaged file");
        text += &format!("{files} in use by running processes: repair again after they end\n");
    }
    let parts = [
        (done.rewritten, "file", "rewritten"),
        (done.salvaged, "record", "saved from them"),
        (done.restored.len() as u64, "object", "restored"),
        (done.dropped.len() as u64, "object", "dropped"),
        (done.lost.len() as u64, "object", "lost"),
        (done.results, "result", "to be built again"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(many, _, _)| *many > 0)
        .map(|(many, noun, what)| format!("{} {what}", number(*many, noun)))
        .collect();
    let begin = if done.dry_run {
        "a repair would leave: "
    } else {
        ""
    };
    text + &format!("{begin}{} ({})\n", parts.join(", "), duration(done.seconds))
}
