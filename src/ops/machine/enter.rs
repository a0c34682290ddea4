//! Being in a machine: SSH sessions, its console, its logs.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::super::Context;
use super::find_machine;
use crate::checked::AccountName;
use crate::failure::Failure;
use crate::guest::host_key_changed;
use crate::host::beneath::open_unlinked;
use crate::host::{Program, bare_command, require};
use crate::machine::{Machine, MachineError};

/// How to enter a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshOptions {
    /// The account; the image's when absent.
    pub user: Option<AccountName>,
    /// Whether a command gets a terminal.
    pub terminal: bool,
    /// Whether the host key that it shows takes the place of the one that is known.
    pub accept_new_host_key: bool,
}

/// The program that opens a session in a running machine, with `command` or a shell, ready to be
/// started on this terminal.
///
/// # Errors
/// The machine is stopped or halted, or `ssh` is not installed.
pub fn ssh(
    machine: &Machine,
    options: &SshOptions,
    command: &[String],
) -> Result<Command, Failure> {
    let program = require(Program::Ssh)?;
    let session = machine.ssh(options.user.clone())?;
    machine.check_started()?;
    machine.check_goes_on()?;
    if machine.claims_own_init()? {
        return Err(MachineError::NoSsh(machine.name().clone()).into());
    }
    if options.accept_new_host_key {
        machine.forget_host_keys()?;
    }
    let mut ssh = bare_command(program);
    // What the guest's programs write for. Names of files of this user are in no option, and no
    // agent is asked.
    if let Some(terminal) = std::env::var_os("TERM") {
        ssh.env("TERM", terminal);
    }
    if options.terminal {
        ssh.arg("-t");
    }
    ssh.args(session.arguments(command))
        .current_dir(machine.directory());
    Ok(ssh)
}

/// Why no session could be opened in a machine, when `ssh` cannot say it so that a user knows what
/// to do.
///
/// # Errors
/// The machine is gone, or `ssh` cannot be started.
pub fn why_no_session(machine: &Machine) -> Result<Option<Failure>, Failure> {
    /// A guest that answered just now does so at once.
    const PATIENCE: u32 = 5;
    let program = require(Program::Ssh)?;
    let tried = bare_command(&program)
        .args(machine.ssh(None)?.check_arguments(PATIENCE, "true"))
        .current_dir(machine.directory())
        .output()
        .map_err(Failure::io("start", &program))?;
    let changed = host_key_changed(&String::from_utf8_lossy(&tried.stderr));
    Ok(changed.then(|| machine.host_key_changed().into()))
}

/// Words as a shell takes them, each as it is.
pub(super) fn shell_words(words: &[String]) -> String {
    let quoted = words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    quoted.collect::<Vec<_>>().join(" ")
}

/// Which log of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// What the guest wrote to its console.
    Console,
    /// What QEMU wrote.
    Qemu,
}

/// A log that is being read.
#[derive(Debug)]
pub struct Logs {
    machine: Machine,
    path: PathBuf,
    file: Option<File>,
    position: u64,
}

/// A log of a machine since its last start, from its beginning. One that was never started has an
/// empty one.
///
/// # Errors
/// There is no such machine.
pub fn logs(context: &Context, name: &str, kind: LogKind) -> Result<Logs, Failure> {
    let machine = find_machine(context, name)?;
    let path = match kind {
        LogKind::Console => machine.console_log(),
        LogKind::Qemu => machine.qemu_log(),
    };
    Ok(Logs {
        machine,
        path,
        file: None,
        position: 0,
    })
}

impl Logs {
    /// What is new in the log; nothing when there is nothing new. After a restart of the machine it
    /// goes on at the beginning.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn read(&mut self) -> Result<Vec<u8>, Failure> {
        match self.read_more() {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(Failure::io("read", &self.path)(error)),
        }
    }

    fn read_more(&mut self) -> io::Result<Vec<u8>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => match open_unlinked(&self.path) {
                Ok(file) => none.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        if file.metadata()?.size() < self.position {
            self.position = 0;
        }
        let mut bytes = vec![0; 64 << 10];
        let count = file.read_at(&mut bytes, self.position)?;
        bytes.truncate(count);
        self.position += count as u64;
        Ok(bytes)
    }

    /// Waits a moment for more; tells whether there can be more: whether the machine runs and the
    /// user has not given up.
    ///
    /// # Errors
    /// The machine cannot be asked.
    pub fn wait(&self, context: &Context) -> Result<bool, Failure> {
        std::thread::sleep(Duration::from_millis(100));
        Ok(!context.interrupt.requested() && !self.machine.state()?.is_off())
    }
}
