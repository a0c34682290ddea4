//! `vmfab screenshot`

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde::Serialize;

use super::super::Status;
use super::super::error::standard_output;
use super::super::session::Session;
use crate::failure::Failure;
use crate::host::file::{Durability, Replace};
use crate::ops::machine;

/// Save what the screen of a machine shows
///
/// The file is a PNG. Most images write to the serial console instead of the screen: see vmfab logs.
/// The screen is useful when firmware, a boot loader or an installer hangs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab screenshot docker screen.png
  vmfab screenshot docker - | display")]
pub(crate) struct Screenshot {
    /// Name of the machine
    name: String,

    /// PNG file to write; - for standard output
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

/// A file that was written.
#[derive(Serialize)]
struct Written {
    name: String,
    file: PathBuf,
    bytes: usize,
}

impl Screenshot {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let to_stdout = self.file.as_os_str() == "-";
        if to_stdout && io::stdout().is_terminal() {
            return Err(Failure::usage("an image would be written to the terminal")
                .with_help("name a file, or redirect standard output"));
        }
        let image = machine::screenshot(session.context()?, &self.name)?;
        if to_stdout {
            session.end_progress();
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(&image).and_then(|()| stdout.flush());
            written.map_err(|error| standard_output(&error))?;
            return Ok(Status::Done);
        }
        Replace::new(&self.file, Durability::None)
            .with(&image)
            .map_err(Failure::io("write", &self.file))?;
        let written = Written {
            name: self.name,
            file: self.file,
            bytes: image.len(),
        };
        session.print(&written, |written| match session.quiet() {
            true => String::new(),
            false => format!(
                "{}: saved the screen to {}",
                written.name,
                written.file.display()
            ),
        })?;
        Ok(Status::Done)
    }
}
