//! Starting bubblewrap.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

use super::bwrap::Invocation;
use super::confinement::Processes;
use super::setuser::Identity;
use super::worker::WorkerError;
use super::{keeper, setuser};
use crate::host::{Program, require};

/// Starts bubblewrap, below a keeper where it shares process ids.
pub(super) fn start(invocation: &Invocation, processes: Processes) -> Result<Child, WorkerError> {
    match processes {
        Processes::Shared => keeper::start(invocation),
        Processes::Own => {
            let (mut bwrap, _files) = command(invocation)?;
            bwrap.spawn().map_err(WorkerError::io("start bwrap"))
        }
    }
}

/// Bubblewrap, and files in memory that must stay open until it is started: its options, and the
/// program that becomes a user. Other users of the host see the arguments of every process, and
/// options have the values of `env` in them. Its own environment is empty, as the sandbox shows it
/// (`/proc/1/environ`).
pub(super) fn command(invocation: &Invocation) -> Result<(Command, Vec<File>), WorkerError> {
    let missing = |_| WorkerError::Helped {
        message: "bwrap is not installed".to_owned(),
        help: "install the package bubblewrap".to_owned(),
    };
    let program = require(Program::Bwrap).map_err(missing)?;
    let mut options = Vec::new();
    for option in &invocation.options {
        if option.contains('\0') {
            return Err(WorkerError::Plain(format!(
                "{option:?} cannot be given to a program: it contains a zero byte"
            )));
        }
        options.extend_from_slice(option.as_bytes());
        options.push(0);
    }
    let io_error = || WorkerError::io("pass options to bwrap");
    // Without the flag that closes it: the child has it under the same number.
    let memory =
        memfd_create("options", MemfdFlags::empty()).map_err(|error| io_error()(error.into()))?;
    let mut memory = File::from(memory);
    memory.write_all(&options).map_err(io_error())?;
    memory.rewind().map_err(io_error())?;
    let mut bwrap = Command::new(program);
    bwrap
        .env_clear()
        .args(["--args", &memory.as_raw_fd().to_string(), "--"])
        .stdin(Stdio::null());
    let mut files = vec![memory];
    if let Some(identity) = &invocation.identity {
        let file = setuser(identity).map_err(WorkerError::io("make a program in memory"))?;
        bwrap.arg(format!("/proc/self/fd/{}", file.as_raw_fd()));
        files.push(file);
    }
    bwrap.args(&invocation.argv);
    Ok((bwrap, files))
}

/// The program that becomes a user, as a file in memory.
fn setuser(identity: &Identity) -> std::io::Result<File> {
    // Kernels before 6.3 do not know the flag, and need none.
    let memory = memfd_create("setuser", MemfdFlags::EXEC)
        .or_else(|_| memfd_create("setuser", MemfdFlags::empty()))?;
    let mut memory = File::from(memory);
    let program = setuser::program(identity, memory.as_raw_fd());
    memory.write_all(&program)?;
    Ok(memory)
}
