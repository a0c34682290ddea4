//! `vmfab store roots|unkeep`

use clap::Args;

use super::super::super::Status;
use super::super::super::output::size;
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use super::parse_root;
use crate::failure::Failure;
use crate::ops::store::{self, RootEntry};
use crate::store::TagName;

/// List roots: files kept by name with `add --keep`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store roots
  vmfab store roots --json | jq -r '.[].objects[].object'")]
pub(super) struct Roots {}

impl Roots {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let roots = store::roots(session.reading_context()?)?;
        session.print(&roots, |roots| {
            if session.quiet() {
                roots
                    .iter()
                    .map(|root| format!("{}\n", root.name))
                    .collect()
            } else {
                table(roots)
            }
        })?;
        if roots.is_empty() {
            session.note("no roots: vmfab store add FILE --keep NAME creates one");
        }
        Ok(Status::Done)
    }
}

fn table(roots: &[RootEntry]) -> String {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("OBJECT", Align::Left),
        ("SIZE", Align::Right),
    ]);
    for root in roots {
        for object in &root.objects {
            table.row([
                root.name.clone(),
                object.object.short(),
                object.size.map_or("damaged".to_owned(), size),
            ]);
        }
    }
    table.to_string()
}

/// Remove roots; garbage collection then removes their files
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store unkeep installer")]
pub(super) struct Unkeep {
    /// Roots to remove
    #[arg(required = true, value_name = "NAME", value_parser = parse_root)]
    names: Vec<TagName>,
}

impl Unkeep {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let removed = store::unkeep(session.reading_context()?, &self.names)?;
        session.print(&removed, |removed| {
            let lines = removed.iter();
            lines
                .map(|root| format!("{} is no longer kept\n", root.name))
                .collect::<String>()
        })?;
        Ok(Status::Done)
    }
}
