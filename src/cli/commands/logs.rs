//! `vmfab logs`

use std::io::{self, Write};

use clap::Args;

use super::super::Status;
use super::super::error::standard_output;
use super::super::session::Session;
use crate::failure::Failure;
use crate::machine::text_of;
use crate::ops::machine::{self, LogKind};

/// Show the console output of a machine
///
/// Show the output since the last start, as text, without escape sequences and overwritten lines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab logs docker | tail -20
  vmfab logs --follow docker
  vmfab logs --qemu docker")]
pub(crate) struct Logs {
    /// Name of the machine
    name: String,

    /// Follow the output as long as the machine runs
    #[arg(short, long)]
    follow: bool,

    /// Show the raw bytes
    #[arg(long)]
    raw: bool,

    /// Show the output of QEMU instead
    #[arg(long)]
    qemu: bool,
}

impl Logs {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let kind = if self.qemu {
            LogKind::Qemu
        } else {
            LogKind::Console
        };
        let mut logs = machine::logs(context, &self.name, kind)?;
        let mut printer = Printer {
            raw: self.raw,
            partial: Vec::new(),
        };
        session.end_progress();
        let mut running = true;
        loop {
            let bytes = logs.read()?;
            if !bytes.is_empty() {
                printer.print(&bytes)?;
            } else if self.follow && running {
                // What was written before the end is read after it.
                running = logs.wait(context)?;
            } else {
                return printer.finish().map(|()| Status::Done);
            }
        }
    }
}

struct Printer {
    raw: bool,
    /// The beginning of a line whose end is not yet known.
    partial: Vec<u8>,
}

impl Printer {
    fn print(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.raw {
            return write(bytes);
        }
        self.partial.extend_from_slice(bytes);
        match self.partial.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                let lines: Vec<u8> = self.partial.drain(..=end).collect();
                write(text_of(&lines).as_bytes())
            }
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        let rest = text_of(&self.partial);
        if rest.is_empty() {
            Ok(())
        } else {
            write(format!("{rest}\n").as_bytes())
        }
    }
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| standard_output(&error))
}
