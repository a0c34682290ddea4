//! `vmfab fmt`

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::Status;
use super::super::output::{self, count};
use super::super::session::Session;
use crate::failure::Failure;
use crate::host::file;
use crate::limits::Limits;
use crate::ops::fmt::{self, Formatted};

/// Format recipes
///
/// Rewrite files in place and list those that changed. Without FILE, format the .kdl files in the
/// working directory and in its subdirectory recipes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab fmt
  vmfab fmt web.kdl
  vmfab fmt --check                  check in continuous integration
  vmfab fmt - < docker.kdl           format standard input to standard output")]
pub(crate) struct Fmt {
    /// Recipe files, directories of recipe files, or - for standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Change nothing; list unformatted files, and exit with 1 if there are any
    #[arg(long)]
    check: bool,

    /// Print the formatted text instead of rewriting files
    #[arg(long, conflicts_with = "check")]
    stdout: bool,
}

/// The JSON form of a file.
#[derive(Serialize)]
struct File {
    file: PathBuf,
    /// Whether it was formatted, or with `--check`, whether it should be.
    changed: bool,
}

impl Fmt {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if self.files == [Path::new("-")] {
            return self.standard_input();
        }
        let mut done = Vec::new();
        let mut errors = Vec::new();
        for path in fmt::recipes_of(&self.paths())? {
            match self.one(&path) {
                Ok(formatted) => done.push(formatted),
                Err(error) => errors.push(error),
            }
        }
        if self.stdout {
            for formatted in &done {
                output::write(&formatted.after)?;
            }
        } else {
            self.list(&done, session)?;
        }
        if !errors.is_empty() {
            let message = format!("{} cannot be formatted", count(errors.len(), "file"));
            return Err(Failure::several(errors, message));
        }
        let unformatted = self.check && done.iter().any(Formatted::differs);
        Ok(if unformatted {
            Status::Code(1)
        } else {
            Status::Done
        })
    }

    fn paths(&self) -> Vec<PathBuf> {
        if !self.files.is_empty() {
            return self.files.clone();
        }
        let directories = [".", "recipes"].map(PathBuf::from);
        directories
            .into_iter()
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Formats a file and, unless told otherwise, writes it.
    fn one(&self, path: &Path) -> Result<Formatted, Failure> {
        let formatted = fmt::format(path)?;
        if formatted.differs() && !self.check && !self.stdout {
            fmt::write(&formatted)?;
        }
        Ok(formatted)
    }

    fn list(&self, done: &[Formatted], session: &Session) -> Result<(), Failure> {
        let files: Vec<_> = done
            .iter()
            .map(|formatted| File {
                file: formatted.path.clone(),
                changed: formatted.differs(),
            })
            .collect();
        let verb = if self.check {
            "not formatted:"
        } else {
            "formatted"
        };
        session.print(&files, |files| {
            let changed = files.iter().filter(|file| file.changed);
            changed
                .map(|file| format!("{verb} {}\n", file.file.display()))
                .collect::<String>()
        })
    }

    fn standard_input(&self) -> Result<Status, Failure> {
        let most = Limits::default().recipe_size;
        let text = file::text(std::io::stdin(), most)
            .map_err(Failure::io("read", Path::new("standard input")))?;
        let formatted = fmt::text("standard input", &text)?;
        if self.check {
            let differs = u8::from(formatted != text);
            return Ok(Status::Code(differs));
        }
        output::write(&formatted)?;
        Ok(Status::Done)
    }
}
