//! `vmfab image diff`

use std::path::PathBuf;

use clap::{Args, ValueHint};
use console::Style;

use super::super::super::Status;
use super::super::super::output::size;
use super::super::super::pages::{self, change};
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::contents::{self, ImageDiff};
use crate::ops::page_file;
use crate::ops::snapshot::Change;

/// Show what differs between two images: packages and files
///
/// A: added, C: content, type, mode or owner changed, D: deleted. Times do not count. Both disks
/// must have ext2, ext3 or ext4. vmfab compares the root file systems and the packages that the
/// databases of dpkg, apk and rpm (rpmdb.sqlite) list.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image diff @docker-stable @docker
  vmfab image diff @docker-stable @docker --html review.html
  vmfab image diff @v1 @v2 --json | jq -r '.packages[].name'

vmfab snapshot diff compares snapshots of machines.")]
pub(super) struct Diff {
    /// Tag, or first digits of an id, of the image before
    before: String,

    /// Tag, or first digits of an id, of the image after
    after: String,

    /// Write a page for browsers to FILE instead
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    html: Option<PathBuf>,
}

impl Diff {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if let Some(path) = &self.html {
            page_file::check(path)?;
        }
        let diff = contents::diff(session.reading_context()?, &self.before, &self.after)?;
        if let Some(path) = &self.html {
            pages::write(session, path, &pages::diff_page(&diff))?;
        }
        if self.html.is_none() || session.json() {
            session.print(&diff, |diff| text(session, diff))?;
        }
        let files = |change| diff.files.iter().filter(|one| one.change == change).count();
        session.note(&format!(
            "packages: {} changed; files: {} added, {} changed, {} deleted",
            diff.packages.len(),
            files(Change::Added),
            files(Change::Changed),
            files(Change::Deleted)
        ));
        Ok(Status::Done)
    }
}

fn text(session: &Session, diff: &ImageDiff) -> String {
    let heading = session.style(Style::new().bold());
    let (before, after) = (&diff.before, &diff.after);
    let mut text = format!(
        "{} ({}) to {} ({})\n",
        before.name,
        size(before.stored_size),
        after.name,
        size(after.stored_size)
    );
    for note in &diff.notes {
        text += &format!("{note}\n");
    }
    if !diff.packages.is_empty() {
        let mut table = Table::new([
            ("SIZE", Align::Right),
            ("PACKAGE", Align::Left),
            ("BEFORE", Align::Left),
            ("AFTER", Align::Left),
        ]);
        for one in &diff.packages {
            let versions = |versions: &[String]| match versions {
                [] => "-".to_owned(),
                versions => versions.join(", "),
            };
            table.row([
                change(one.size_before, one.size),
                one.name.clone(),
                versions(&one.before),
                versions(&one.after),
            ]);
        }
        text += &format!("\n{}\n{table}", heading.apply_to("Packages"));
    }
    if !diff.files.is_empty() {
        text += &format!("\n{}\n", heading.apply_to("Files"));
        for one in &diff.files {
            let difference = change(one.size_before.unwrap_or(0), one.size.unwrap_or(0));
            // A path is one line.
            let path = one.path.replace('\n', "\\n");
            text += &format!("{} {difference:>9}  {path}\n", one.change.letter());
        }
    }
    text
}
