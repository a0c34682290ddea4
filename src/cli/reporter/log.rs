//! The log file of `--log`: every event as one JSON line, with the time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use super::super::Status;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::host::umask;

/// Opens a file of the user's to add lines to it.
pub(in crate::cli) fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        made => {
            let file = made?;
            file.set_permissions(umask::users(0o666))?;
            Ok(file)
        }
    }
}

/// An open log file. Lines are appended whole, so that several processes can share it.
pub(super) struct Log(File);

#[derive(Serialize)]
struct Record<T> {
    /// RFC 3339, in UTC.
    time: String,
    #[serde(flatten)]
    what: T,
}

/// What is logged beyond events.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Border<'a> {
    CommandStarted {
        version: &'static str,
        process: u32,
    },
    CommandFinished {
        process: u32,
        exit_code: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<Kind>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    },
}

impl Log {
    /// Opens `path` for appending and logs the start of the command.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let log = append_to(path).map(Self).map_err(|error| {
            Failure::failed(format!(
                "cannot open the log file {}: {error}",
                path.display()
            ))
        })?;
        log.write(Border::CommandStarted {
            version: env!("CARGO_PKG_VERSION"),
            process: std::process::id(),
        });
        Ok(log)
    }

    pub(super) fn event(&self, event: &Event) {
        self.write(event);
    }

    /// Logs how the command ended.
    pub(super) fn end(&self, result: &Result<Status, Failure>) {
        let process = std::process::id();
        self.write(match result {
            Ok(status) => Border::CommandFinished {
                process,
                exit_code: status.code(),
                kind: None,
                message: None,
            },
            Err(error) => Border::CommandFinished {
                process,
                exit_code: error.kind().exit_code(),
                kind: Some(error.kind()),
                message: Some(error.message()),
            },
        });
    }

    fn write<T: Serialize>(&self, what: T) {
        let record = Record {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            what,
        };
        if let Ok(line) = serde_json::to_string(&record) {
            // A full disk must not stop a build whose result fits.
            let _ = (&self.0).write_all((line + "\n").as_bytes());
        }
    }
}
