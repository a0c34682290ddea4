//! QEMUs as processes of this host: what is known of a machine whose record is lost.
//!
//! Each runs in its machine's directory and has the file `running` there as its standard input. The
//! kernel knows both, also when the directory is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::directory::{files, pids};
use super::error::{MachineError, io_error};
use super::name::MachineName;
use super::stop::MOMENT;
use super::{Machine, Machines};
use crate::host::Usage;
use crate::qemu::Told;

/// What the kernel adds to the path of what was removed.
const REMOVED: &str = " (deleted)";

/// A QEMU that runs one of some machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuProcess {
    pid: Pid,
    /// Its machine's directory.
    directory: PathBuf,
    /// The name of its machine.
    pub name: MachineName,
    /// Whether the machine's directory is gone.
    pub is_gone: bool,
    /// What it was told of its machine.
    pub told: Told,
}

impl Machines {
    /// The QEMUs that run these machines.
    #[must_use]
    pub fn processes(&self) -> Vec<QemuProcess> {
        let Ok(root) = fs::canonicalize(&self.root.0) else {
            return Vec::new();
        };
        let mut found: Vec<QemuProcess> = pids()
            .into_iter()
            .filter_map(|pid| QemuProcess::of(pid, &root))
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }
}

impl Machine {
    /// The one of several QEMUs that runs it.
    #[must_use]
    pub fn process<'a>(&self, processes: &'a [QemuProcess]) -> Option<&'a QemuProcess> {
        let is_of = |process: &&QemuProcess| !process.is_gone && process.name == self.name;
        processes.iter().find(is_of)
    }
}

impl QemuProcess {
    fn of(pid: Pid, root: &Path) -> Option<Self> {
        let (directory, is_gone) = place(pid, root)?;
        let name = directory.file_name()?.to_str()?.parse().ok()?;
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let told = Told::of(arguments.split(|byte| *byte == 0));
        // Other programs may run there.
        told.name.as_ref()?;
        Some(Self {
            pid,
            directory,
            name,
            is_gone,
            told,
        })
    }

    /// Its number.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// When it was started, in seconds since 1970.
    #[must_use]
    pub fn started(&self) -> Option<u64> {
        let age = Usage::of(self.pid)?.age;
        let started = SystemTime::now().checked_sub(age)?;
        let since = started.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(since.as_secs())
    }

    /// Ends it: at first it may write back what it has.
    ///
    /// # Errors
    /// It does not end.
    pub fn end(&self) -> Result<(), MachineError> {
        let wrong =
            |error: rustix::io::Errno| io_error("end QEMU of", &self.directory)(error.into());
        let Ok(process) = pidfd_open(self.pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        // Until it was opened, another process may have got the number.
        let root = self.directory.parent().unwrap_or(&self.directory);
        if Self::of(self.pid, root).as_ref() != Some(self) {
            return Ok(());
        }
        for signal in [Signal::TERM, Signal::KILL] {
            match pidfd_send_signal(&process, signal) {
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                result => result.map_err(wrong)?,
            }
            let mut fds = [PollFd::new(&process, PollFlags::IN)];
            let patience = Timespec::try_from(MOMENT).ok();
            if poll(&mut fds, patience.as_ref()).map_err(wrong)? > 0 {
                return Ok(());
            }
        }
        Err(MachineError::Stuck(self.name.clone()))
    }
}

/// The directory below `root` whose file `running` is the standard input of a process that runs
/// there, and whether it is gone.
fn place(pid: Pid, root: &Path) -> Option<(PathBuf, bool)> {
    let link = |what: &str| {
        let path = fs::read_link(format!("/proc/{pid}/{what}")).ok()?;
        path.into_os_string().into_string().ok()
    };
    let directory = link("cwd")?;
    let input = link("fd/0")?;
    let (directory, is_gone) = match directory.strip_suffix(REMOVED) {
        Some(directory) => (directory, true),
        None => (directory.as_str(), false),
    };
    let directory = PathBuf::from(directory);
    let input = PathBuf::from(input.strip_suffix(REMOVED).unwrap_or(&input));
    let is_its_own = directory.parent() == Some(root) && input == directory.join(files::RUNNING);
    is_its_own.then_some((directory, is_gone))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::super::directory::lock_for_qemu;
    use super::*;
    use crate::host::Home;

    #[test]
    fn a_process_is_found_after_its_directory_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let machines = Machines::new(&Home::at(home.path()));
        let directory = machines.root.directory(&"web".parse().unwrap());
        fs::create_dir_all(&directory).unwrap();
        let container = format!("{} quay.io/a/web:1", "a".repeat(64));
        let mut child = Command::new("sh")
            .arg0("qemu-system-x86_64")
            // It starts no process, which would have its arguments for a moment.
            .args(["-c", "kill -STOP $$; true"])
            .args(["-name", "web", "-smbios"])
            .arg(format!("type=11,value=vmfab.container={container}"))
            .current_dir(&directory)
            .stdin(Stdio::from(lock_for_qemu(&directory).unwrap().unwrap()))
            .process_group(0)
            .spawn()
            .unwrap();
        let known = |machines: &Machines| {
            let mut processes = machines.processes();
            assert_eq!(processes.len(), 1, "{processes:?}");
            processes.remove(0)
        };
        let before = known(&machines);
        assert_eq!((before.name.as_str(), before.is_gone), ("web", false));
        fs::remove_dir_all(&directory).unwrap();
        let after = known(&machines);
        assert!(after.is_gone);
        let told = after.told.container.as_ref().unwrap();
        assert_eq!(told.to_string(), container);
        after.end().unwrap();
        assert!(!child.wait().unwrap().success());
        let group = Pid::from_child(&child);
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        after.end().unwrap();
    }
}
