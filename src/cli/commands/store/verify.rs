//! `vmfab store verify`

use clap::Args;

use super::super::super::Status;
use super::super::super::output::{count, duration, size};
use super::super::super::session::Session;
use super::damaged_files;
use crate::failure::{Failure, Kind};
use crate::ops::store::{self, Damage, NeededBy, Verification};

/// Verify everything in the store against its digest
///
/// Name damaged files and objects, what needs them, and how to restore them. Exit with 6 if
/// something is damaged. Builds may run at the same time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store verify
  vmfab store verify --quick
  vmfab store verify --json | jq '.damaged_objects[].needed_by'")]
pub(super) struct Verify {
    /// Check only that everything exists; do not read the content of chunks
    #[arg(long)]
    quick: bool,
}

impl Verify {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let found = store::verify(session.context()?, self.quick)?;
        session.print(&found, |found| {
            if session.quiet() && found.ok {
                String::new()
            } else {
                text(found)
            }
        })?;
        if found.ok {
            Ok(Status::Done)
        } else {
            Ok(Status::Code(Kind::Verification.exit_code()))
        }
    }
}

fn text(found: &Verification) -> String {
    let mut text = damaged_files(&found.damaged_files);
    text.extend(found.damaged_objects.iter().map(damage));
    let number = |number: u64, noun: &str| count(number as usize, noun);
    let what = format!(
        "{}, {}, {} ({}{})",
        number(found.packs, "pack"),
        number(found.journals, "journal"),
        number(found.objects, "object"),
        size(found.bytes),
        if found.quick { ", structure only" } else { "" },
    );
    let (files, objects) = (found.damaged_files.len(), found.damaged_objects.len());
    let end = match (files, objects) {
        (0, 0) => "no damage found".to_owned(),
        (files, 0) => format!("damaged: {}; all objects can be read", count(files, "file")),
        (0, objects) => format!("damaged: {}", count(objects, "object")),
        _ => format!(
            "damaged: {}, {}",
            count(files, "file"),
            count(objects, "object")
        ),
    };
    text + &format!("{what} in {}: {end}\n", duration(found.seconds))
}

/// What is known of a damaged object.
pub(super) fn damage(damage: &Damage) -> String {
    let mut text = format!("object {}: {}\n", damage.object, damage.reason);
    let needed: Vec<String> = damage.needed_by.iter().map(needed_by).collect();
    let needed = match needed.as_slice() {
        [] => "nothing with a name".to_owned(),
        some => some.join(", "),
    };
    text += &format!("  needed by: {needed}\n");
    for (number, remedy) in damage.remedies.iter().enumerate() {
        let label = if number == 0 { "to fix it:" } else { "or:" };
        text += &format!("  {label:<11} {remedy}\n");
    }
    text
}

fn needed_by(by: &NeededBy) -> String {
    match by {
        NeededBy::Tag { tag, part } => format!("@{tag} ({})", part.name()),
        NeededBy::Root { name } => format!("root {name}"),
        NeededBy::Machine {
            name,
            project: None,
            part,
        } => format!("machine {name} ({})", part.name()),
        NeededBy::Machine {
            name,
            project: Some(project),
            part,
        } => format!("machine {name} of {} ({})", project.display(), part.name()),
        NeededBy::Snapshot {
            name,
            project: None,
            part,
        } => format!("snapshot {name} ({})", part.name()),
        NeededBy::Snapshot {
            name,
            project: Some(project),
            part,
        } => format!("snapshot {name} of {} ({})", project.display(), part.name()),
        NeededBy::Project { path, part } => {
            format!("project {} ({})", path.display(), part.name())
        }
        NeededBy::Result { output, action } => {
            format!("result {} ({output})", action.short())
        }
    }
}
