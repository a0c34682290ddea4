//! Machines of the home of the run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::{Build, Lab, Ran};

/// One machine at a time: each takes all processors while it boots.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a boot may take in seconds: many times what it takes on two busy processors without KVM.
const PATIENCE: &str = "900";

/// A machine that was booted. It is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    /// What `boot` gave.
    pub(crate) boot: Build,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// Nobody else boots a machine as long as it is held.
    pub(crate) fn turn() -> MutexGuard<'static, ()> {
        ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `vmfab boot ARGUMENTS --name NAME`, in `directory`.
    #[track_caller]
    pub(crate) fn boot<const N: usize>(name: &str, directory: &Path, arguments: [&str; N]) -> Self {
        Self::boot_with(name, directory, arguments, Stdio::null())
    }

    /// The same with a standard input.
    #[track_caller]
    pub(crate) fn boot_with<const N: usize>(
        name: &str,
        directory: &Path,
        arguments: [&str; N],
        input: impl Into<Stdio>,
    ) -> Self {
        let turn = Self::turn();
        let mut command = Lab::get().command();
        command
            .args(["boot", "--json", "--timeout", PATIENCE, "--name", name])
            .args(arguments)
            .stdin(input)
            .current_dir(directory);
        let boot = Build::of(&mut command);
        let machine = Self {
            name: name.to_owned(),
            boot,
            _turn: turn,
        };
        if machine.boot.code != Some(0) {
            let console = Lab::get().run(["logs", name]).stdout;
            panic!("{}\nconsole:\n{console}", machine.boot.stderr);
        }
        machine
    }

    /// A command in the machine.
    pub(crate) fn ssh(&self, command: &str) -> Ran {
        Lab::get().run(["ssh", &self.name, "--", command])
    }

    /// The output of a command in the machine that must succeed, without the end of its last line.
    #[track_caller]
    pub(crate) fn output(&self, command: &str) -> String {
        self.ssh(command).ends_with(0).stdout.trim_end().to_owned()
    }

    /// Stops it.
    #[track_caller]
    pub(crate) fn stop(&self) -> Value {
        Lab::get()
            .run(["stop", "--json", "--timeout", PATIENCE, &self.name])
            .ends_with(0)
            .json()
    }

    /// Starts it again.
    #[track_caller]
    pub(crate) fn start(&self) {
        let mut command: Command = Lab::get().command();
        command.args(["start", "--json", "--timeout", PATIENCE, &self.name]);
        Build::of(&mut command).succeeds();
    }

    /// Removes it.
    pub(crate) fn remove(&self, force: bool) -> Ran {
        let options: &[&str] = if force { &["--force"] } else { &[] };
        let mut command = Lab::get().command();
        Ran::of(command.arg("rm").args(options).arg(&self.name))
    }

    /// Its entry in the list of machines.
    pub(crate) fn entry(&self) -> Option<Value> {
        let list = Lab::get().run(["list", "--json"]).ends_with(0).json();
        let mut entries = list.as_array().unwrap().iter();
        entries.find(|entry| entry["name"] == *self.name).cloned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.remove(true);
    }
}
