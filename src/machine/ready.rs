//! Whether a machine can be entered: one `ssh` after the other, until one succeeds.
//!
//! There is one attempt at a time, and it is patient: QEMU's network takes connections before the
//! guest does, and many short attempts can all miss the moment.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::guest::Ssh;

/// How long one attempt waits for the server's answer, in seconds.
const PATIENCE: u32 = 20;
/// Between the end of an attempt and the next one.
const PAUSE: Duration = Duration::from_millis(150);

/// Attempts to enter a machine.
pub(super) struct Attempts {
    program: PathBuf,
    directory: PathBuf,
    ssh: Ssh,
    log: PathBuf,
    current: Option<Child>,
    next: Instant,
}

impl Attempts {
    pub(super) fn new(program: PathBuf, directory: PathBuf, ssh: Ssh, log: PathBuf) -> Self {
        Self {
            program,
            directory,
            ssh,
            log,
            current: None,
            next: Instant::now(),
        }
    }

    /// Looks after the current attempt, or begins one; tells whether one has succeeded.
    pub(super) fn succeeded(&mut self) -> io::Result<bool> {
        match &mut self.current {
            Some(child) => {
                if let Some(status) = child.try_wait()? {
                    self.current = None;
                    self.next = Instant::now() + PAUSE;
                    return Ok(status.success());
                }
            }
            None if Instant::now() >= self.next => {
                self.current = Some(
                    Command::new(&self.program)
                        .args(self.ssh.check_arguments(PATIENCE))
                        .current_dir(&self.directory)
                        .process_group(0)
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(File::create(&self.log)?)
                        .spawn()?,
                );
            }
            None => {}
        }
        Ok(false)
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        if let Some(mut child) = self.current.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
