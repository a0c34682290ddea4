//! File systems of a guest that are not written to, as long as a value lives.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::error::io_error;
use super::watch::watched;
use super::{Machine, MachineError};
use crate::host::Interrupt;

/// Flushes and freezes file systems, in a guest and as root.
pub const FREEZE: &str = include_str!("freeze.sh");
/// How long a guest may take to write back what it has in memory.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often what was not heard of is looked for elsewhere.
const TICK: Duration = Duration::from_millis(100);

/// All file systems are frozen. They are thawed when the connection ends, however it ends.
pub(super) struct Frozen {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Machine {
    /// Has the guest write all back, and freezes its file systems as far as they can be. `remote`
    /// runs [`FREEZE`] there; what it complains of goes to `log`.
    pub(super) fn freeze(
        &self,
        mut remote: Command,
        log: &File,
        interrupt: &Interrupt,
    ) -> Result<Frozen, MachineError> {
        let program = Path::new("ssh");
        let stderr = log.try_clone().map_err(io_error("run", program))?;
        let mut child = remote
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(io_error("run", program))?;
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
        let (loose, trouble) = watched(self, interrupt, |stop| frozen.until("frozen", stop))
            .map_err(io_error("watch", &self.directory))?;
        if let Some(trouble) = trouble {
            return Err(trouble.error(self, "commit".to_owned()));
        }
        for directory in loose? {
            let directory = directory.strip_prefix("loose ").unwrap_or(&directory);
            let mut log = log;
            writeln!(
                log,
                "note: {directory} is written back, but cannot be frozen"
            )
            .map_err(io_error("write to the log of", &self.directory))?;
        }
        Ok(frozen)
    }
}

impl Frozen {
    /// Waits for a line; gives those before.
    fn until(&self, wanted: &str, stop: &Interrupt) -> Result<Vec<String>, MachineError> {
        let started = Instant::now();
        let mut before = Vec::new();
        let how = loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) if line == wanted => return Ok(before),
                Ok(line) => before.push(line),
                Err(RecvTimeoutError::Disconnected) => break "lost its connection".to_owned(),
                Err(RecvTimeoutError::Timeout) if stop.requested() => {
                    return Err(MachineError::Interrupted { running: None });
                }
                Err(RecvTimeoutError::Timeout) if started.elapsed() > PATIENCE => {
                    break format!("took longer than {} s", PATIENCE.as_secs());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        Err(MachineError::Command {
            command: "write the guest's file systems back".to_owned(),
            how,
            tail: before,
        })
    }

    /// Thaws, and waits until that is done.
    pub(super) fn thaw(mut self, interrupt: &Interrupt) -> Result<(), MachineError> {
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
