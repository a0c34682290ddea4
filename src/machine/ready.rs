//! Whether a machine can be entered: one `ssh` after the other, until one succeeds.
//!
//! There is one attempt at a time, and it is patient: QEMU's network takes connections before the
//! guest does, and many short attempts can all miss the moment.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::Machine;
use super::error::{MachineError, NotReady, io_error};
use super::start::{ASK, Startup, TICK, Until, not_ready};
use super::state::State;
use crate::guest::Ssh;
use crate::host::bare_command;

/// How long one attempt waits for the server's answer, in seconds.
const PATIENCE: u32 = 20;
/// Between the end of an attempt and the next one.
const PAUSE: Duration = Duration::from_millis(100);

impl Startup<'_> {
    /// Waits for a machine that somebody else started.
    ///
    /// # Errors
    /// It does not come so far, or the user gave up. It is left as it is.
    pub fn wait_for(&self, machine: &Machine) -> Result<(), MachineError> {
        if self.until == Until::Console {
            return Ok(());
        }
        let mut attempts = self.attempts(machine)?;
        let started = Instant::now();
        let mut asked = started;
        self.waiting(machine, "ssh");
        loop {
            let ready = attempts.succeeded();
            if ready.map_err(io_error("start", &PathBuf::from("ssh")))? {
                return Ok(());
            }
            if self.interrupt.requested() {
                return Err(MachineError::Interrupted {
                    running: Some(machine.name().clone()),
                });
            }
            if asked.elapsed() > ASK {
                asked = Instant::now();
                if machine.state()? == State::Stopped {
                    return Err(not_ready(machine, NotReady::PoweredOff)?);
                }
            }
            if started.elapsed() > self.timeout {
                let why = NotReady::TimedOut(self.timeout.as_secs());
                return Err(not_ready(machine, why)?);
            }
            std::thread::sleep(TICK);
        }
    }
}

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
                    bare_command(&self.program)
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
