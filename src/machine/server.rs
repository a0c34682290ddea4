//! Programs that serve a machine: each runs in its directory, listens on a unix socket there for the
//! machine's QEMU, and ends when that does.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Machine;
use super::console::last_lines;
use super::error::{MachineError, io_error};
use crate::host::bare_command;

/// How long a program may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program, with names of files in the machine's directory.
pub(super) struct Server<'a> {
    pub(super) program: &'a Path,
    /// Where it listens.
    pub(super) socket: &'a str,
    /// What it writes to its standard error.
    pub(super) log: &'a str,
    /// Whether it gets the environment of this process.
    pub(super) inherits: bool,
}

impl Server<'_> {
    /// Starts it and waits until it listens. It outlives this process. `failed` makes the error of
    /// one that does not listen, of its last lines.
    pub(super) fn start(
        &self,
        machine: &Machine,
        arguments: impl IntoIterator<Item = OsString>,
        failed: impl FnOnce(Vec<String>) -> MachineError,
    ) -> Result<Child, MachineError> {
        let at = machine.directory.join(self.socket);
        match fs::remove_file(&at) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io_error("remove", &at)(error));
            }
            _ => {}
        }
        let log_path = machine.directory.join(self.log);
        let log = File::create(&log_path).map_err(io_error("create", &log_path))?;
        let mut command = match self.inherits {
            true => Command::new(self.program),
            false => bare_command(self.program),
        };
        let mut child = command
            .args(arguments)
            .current_dir(&machine.directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io_error("start", self.program))?;
        let began = Instant::now();
        loop {
            if at.exists() {
                return Ok(child);
            }
            let ended = child
                .try_wait()
                .map_err(io_error("wait for", self.program))?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(last_lines(&log_path, 10)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
