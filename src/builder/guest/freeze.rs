//! File systems of a guest that are not written to, as long as a value lives.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::session::{MOMENT, Report, Session, open_log};
use super::shell::FREEZE;
use super::watch::watched;
use crate::derivation::BuildError;
use crate::host::Interrupt;

/// How often what was not heard of is looked for elsewhere.
const TICK: Duration = Duration::from_millis(100);

/// All file systems are frozen. They are thawed when the connection ends, however it ends.
pub(super) struct Frozen {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Session {
    /// Has the guest write all back, and freezes its file systems as far as they can be.
    pub(super) fn freeze(&self, report: &Report<'_>) -> Result<Frozen, BuildError> {
        let mut process = self.remote(&self.root.script(FREEZE, &[]));
        let log = open_log(report)?;
        let mut child = process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(BuildError::io("run ssh, logging to", report.log))?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let frozen = Frozen {
            stdin: child.stdin.take(),
            child,
            lines,
        };
        let (loose, trouble) = watched(&self.machine, report.interrupt, |stop| {
            frozen.until("frozen", stop)
        })
        .map_err(BuildError::other)?;
        if let Some(trouble) = trouble {
            return Err(trouble.error(&self.machine, "commit".to_owned()));
        }
        for directory in loose? {
            let directory = directory.strip_prefix("loose ").unwrap_or(&directory);
            let note = format!("note: {directory} is written back, but cannot be frozen");
            writeln!(open_log(report)?, "{note}").map_err(BuildError::io("write", report.log))?;
        }
        Ok(frozen)
    }
}

impl Frozen {
    /// Waits for a line; gives those before.
    fn until(&self, wanted: &str, stop: &Interrupt) -> Result<Vec<String>, BuildError> {
        let started = Instant::now();
        let mut before = Vec::new();
        let how = loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) if line == wanted => return Ok(before),
                Ok(line) => before.push(line),
                Err(RecvTimeoutError::Disconnected) => break "lost its connection".to_owned(),
                Err(RecvTimeoutError::Timeout) if stop.requested() => {
                    return Err(BuildError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) if started.elapsed() > MOMENT => {
                    break format!("took longer than {} s", MOMENT.as_secs());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        Err(BuildError::Command {
            command: "write the guest's file systems back".to_owned(),
            how,
            tail: before,
        })
    }

    /// Thaws, and waits until that is done.
    pub(super) fn thaw(mut self, interrupt: &Interrupt) -> Result<(), BuildError> {
        self.stdin = None;
        self.until("thawed", interrupt)?;
        let _ = self.child.wait();
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.stdin = None;
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
