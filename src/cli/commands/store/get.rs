//! `vmfab store get`

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

use clap::Args;

use super::super::super::Status;
use super::super::super::error::standard_output;
use super::super::super::output::size;
use super::super::super::session::Session;
use crate::failure::Failure;
use crate::ops::store::{self, GetOptions};
use crate::store::damage;

/// How much is written at once.
const PIECE: usize = 1 << 20;

/// Write an object to a file or to standard output
///
/// OBJECT is an id, its first digits (six or more), or @TAG for the disk of an image. vmfab
/// verifies everything before it writes it. In a file, zeros become holes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store get 3f2a9c01 --output installer.iso
  vmfab store get @docker | zstd > docker.raw.zst")]
pub(super) struct Get {
    /// Object to write
    object: String,

    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the file if it exists
    #[arg(short, long, requires = "output")]
    force: bool,
}

impl Get {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let Some(target) = self.output else {
            return to_standard_output(&self.object, session);
        };
        let options = GetOptions {
            object: self.object,
            target,
            force: self.force,
        };
        let got = store::get(session.context()?, &options)?;
        session.print(&got, |got| match session.quiet() {
            true => String::new(),
            false => format!("{}  {:>8}  {}", got.object, size(got.size), got.path),
        })?;
        Ok(Status::Done)
    }
}

fn to_standard_output(object: &str, session: &Session) -> Result<Status, Failure> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(
            Failure::usage("cannot write an object to a terminal").with_help("add --output FILE")
        );
    }
    let mut reader = store::open(session.reading_context()?, object)?;
    let mut buffer = vec![0; PIECE];
    let mut stdout = stdout.lock();
    loop {
        let length = reader
            .read(&mut buffer)
            .map_err(|error| damage(error.to_string()))?;
        if length == 0 {
            break;
        }
        stdout
            .write_all(&buffer[..length])
            .map_err(|error| standard_output(&error))?;
    }
    stdout.flush().map_err(|error| standard_output(&error))?;
    Ok(Status::Done)
}
