//! The directory of a machine: its files, its two locks, and how it comes and goes in one step.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::error::{MachineError, io_error};
use super::name::MachineName;
use crate::host::Interrupt;
use crate::host::beneath::open_unlinked;
use crate::host::file;

/// Names of files in a machine's directory. Names, not paths: QEMU and ssh run in the directory.
pub(super) mod files {
    pub(crate) const OVERLAY: &str = "overlay.qcow2";
    pub(crate) const FIRMWARE_VARS: &str = "firmware-vars.fd";
    pub(crate) const SEED: &str = "seed.img";
    pub(crate) const PASSWORD: &str = "password.smbios";
    pub(crate) const IGNITION: &str = "ignition.json";
    pub(crate) const METADATA: &str = "metadata.json";
    pub(crate) const CONSOLE_LOG: &str = "console.log";
    pub(crate) const VNC_SOCKET: &str = "vnc.sock";
    pub(crate) const CONSOLE_SOCKET: &str = "console.sock";
    pub(crate) const CONSOLE_LOCK: &str = "console.lock";
    pub(crate) const AGENT_SOCKET: &str = "agent.sock";
    pub(crate) const SCREENSHOT: &str = "screenshot.png";
    pub(crate) const QMP_SOCKET: &str = "qmp.sock";
    pub(crate) const QEMU_LOG: &str = "qemu.log";
    /// What a suspended machine has in memory, compressed.
    pub(crate) const MEMORY: &str = "memory.zst";
    /// Says that it is whole.
    pub(crate) const MEMORY_STATE: &str = "memory.json";
    /// Where passt listens.
    pub(crate) const PASST_SOCKET: &str = "passt.sock";
    /// Where the switch of a private network listens.
    pub(crate) const GROUP_SOCKET: &str = "group.sock";
    /// Where swtpm listens.
    pub(crate) const TPM_SOCKET: &str = "tpm.sock";
    /// Where the process listens that serves a disk which is not all here.
    pub(crate) const DISK_SOCKET: &str = "disk.sock";
    pub(crate) const DISK_LOG: &str = "disk.log";
    /// What the machine reads of its disk, when that is recorded.
    pub(crate) const READS: &str = "reads";
    pub(crate) const TPM_LOG: &str = "tpm.log";
    pub(crate) const TPM_STATE: &str = "tpm.state";
    pub(crate) const SSH_LOG: &str = "ssh.log";
    /// The snapshot that the machine is being set back to.
    pub(crate) const RESTORING: &str = "restoring";
    /// Locked by a vmfab that makes an image of the machine.
    pub(crate) const COMMITTING: &str = "committing";
    /// Locked by a vmfab that changes the machine's state.
    pub(crate) const LOCK: &str = "lock";
    /// Locked by each vmfab that has a session open in the machine.
    pub(crate) const SESSIONS: &str = "sessions";
    /// Locked by QEMU, from the moment of its start to that of its end.
    pub(crate) const RUNNING: &str = "running";

    /// Where the virtiofsd of a shared directory listens.
    pub(crate) fn share_socket(share: usize) -> String {
        format!("share-{share}.sock")
    }

    /// What it writes to its standard error.
    pub(crate) fn share_log(share: usize) -> String {
        format!("share-{share}.log")
    }

    /// The overlay of a machine's disk.
    pub(crate) fn overlay_of(disk: usize) -> String {
        match disk {
            0 => OVERLAY.to_owned(),
            number => format!("disk-{number}.qcow2"),
        }
    }
}

/// Directories that are being made or removed begin with this, which no machine's name does.
const TEMPORARY: &str = ".tmp-";
/// Locked for the moment in which a temporary directory has no lock of its own yet.
pub(super) const MAKING: &str = ".lock";
/// Between two tries to take a lock.
const RETRY: Duration = Duration::from_millis(20);

/// How files are opened that a machine's directory has: it may have come from elsewhere, with links
/// and pipes in it.
pub(super) const OWN: i32 = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .bits()
    .cast_signed();

/// The directory that holds all machines.
#[derive(Debug, Clone)]
pub(super) struct Root(pub(super) PathBuf);

/// A lock that is held until it is dropped or its process ends.
#[derive(Debug)]
#[must_use]
pub(super) struct Lock {
    file: File,
}

impl Root {
    pub(super) fn directory(&self, name: &MachineName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// Names of all machines, sorted.
    pub(super) fn names(&self) -> Result<Vec<MachineName>, MachineError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &self.0)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("list", &self.0))?;
            if let Some(Ok(name)) = entry.file_name().to_str().map(str::parse) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A new directory, not yet a machine's, with the lock held. It is removed by a later call when
    /// this process dies before [`publish`](Self::publish).
    pub(super) fn temporary(&self) -> Result<(PathBuf, Lock), MachineError> {
        fs::create_dir_all(&self.0).map_err(io_error("create", &self.0))?;
        let making = self.0.join(MAKING);
        let making_lock = File::create(&making).map_err(io_error("create", &making))?;
        making_lock.lock().map_err(io_error("lock", &making))?;
        self.abandoned()
            .for_each(|path| drop(fs::remove_dir_all(path)));
        let path = self.unused_name();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(io_error("create", &path))?;
        let lock = try_lock(&path.join(files::LOCK))?;
        let lock = lock
            .ok_or_else(|| io_error("lock", &path)(io::Error::from(io::ErrorKind::WouldBlock)))?;
        Ok((path, lock))
    }

    /// Gives a temporary directory the name of a machine; tells whether the name was free.
    pub(super) fn publish(
        &self,
        temporary: &Path,
        name: &MachineName,
    ) -> Result<bool, MachineError> {
        let target = self.directory(name);
        match renameat_with(CWD, temporary, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(io_error("create", &target)(error.into())),
        }
    }

    /// Removes a machine's directory; the name is free at once.
    pub(super) fn remove(&self, name: &MachineName, lock: &Lock) -> Result<(), MachineError> {
        debug_assert!(lock.is_of(&self.directory(name)));
        let directory = self.directory(name);
        let doomed = self.unused_name();
        fs::rename(&directory, &doomed).map_err(io_error("remove", &directory))?;
        match fs::remove_dir_all(&doomed) {
            // Someone else sweeps.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(io_error("remove", &doomed)),
        }
    }

    /// What killed processes left: how many temporary directories without a lock that is held.
    /// `remove` removes them.
    pub(super) fn leftovers(&self, remove: bool) -> Result<usize, MachineError> {
        let making = self.0.join(MAKING);
        let lock = match File::options().write(true).open(&making) {
            Ok(lock) => lock,
            // Nobody has ever made one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(io_error("open", &making)(error)),
        };
        lock.lock().map_err(io_error("lock", &making))?;
        let mut number = 0;
        for path in self.abandoned() {
            number += 1;
            if remove {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(number)
    }

    /// Temporary directories without a lock that is held. Only while no other process makes one.
    fn abandoned(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY))
            .map(|entry| entry.path())
            .filter(|path| {
                // Opening does not make the file: a directory that is being removed may be without.
                File::options()
                    .write(true)
                    .open(path.join(files::LOCK))
                    .map_or(true, |file| file.try_lock().is_ok())
            })
    }

    fn unused_name(&self) -> PathBuf {
        let unique = uuid::Uuid::new_v4();
        self.0.join(format!("{TEMPORARY}{}", unique.simple()))
    }
}

impl Lock {
    /// Waits for the lock of a machine; `waiting` is called once when it is not free at once.
    pub(super) fn wait(
        name: &MachineName,
        directory: &Path,
        interrupt: &Interrupt,
        waiting: &dyn Fn(),
    ) -> Result<Self, MachineError> {
        let path = directory.join(files::LOCK);
        let started = Instant::now();
        let mut told = false;
        loop {
            if !directory.is_dir() {
                return Err(MachineError::Unknown(name.clone()));
            }
            if let Some(lock) = try_lock(&path)? {
                // While it was waited for, the machine may have been removed, or even made anew.
                if lock.is_of(directory) {
                    return Ok(lock);
                }
                continue;
            }
            if interrupt.requested() {
                return Err(MachineError::Interrupted { running: None });
            }
            if !told && started.elapsed() > Duration::from_millis(500) {
                told = true;
                waiting();
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Whether the lock file is the one in `directory`.
    fn is_of(&self, directory: &Path) -> bool {
        file::is_at(&self.file, &directory.join(files::LOCK))
    }
}

/// Takes the lock on a file, which is made when it is not there.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, MachineError> {
    let file = file::open_lock(path, OWN).map_err(io_error("open", path))?;
    let locked = file::try_lock(&file).map_err(io_error("lock", path))?;
    Ok(locked.then_some(Lock { file }))
}

/// The file that a QEMU is to hold locked, locked by this process, to be handed to it as its
/// standard input: the lock lives exactly as long as the last process that has the file open.
/// `None` when a QEMU has it.
pub(super) fn lock_for_qemu(directory: &Path) -> Result<Option<File>, MachineError> {
    let path = directory.join(files::RUNNING);
    let file = file::open_lock(&path, OWN).map_err(io_error("open", &path))?;
    let locked = lock_soon(&file).map_err(io_error("lock", &path))?;
    Ok(locked.then_some(file))
}

/// Takes the lock on a file unless somebody keeps it. Someone who only looks holds it for an
/// instant, and so does a process that another thread is starting: it has all open files until it
/// is the program that it is to be.
pub(super) fn lock_soon(file: &File) -> io::Result<bool> {
    for _ in 0..50 {
        if file::try_lock(file)? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(false)
}

/// Makes sure that a machine's directory has nothing but files and sockets. QEMU and ssh open them
/// by their names: a link would let the guest write to files of the host.
///
/// # Errors
/// It has something else; a phrase.
pub(super) fn check_entries(directory: &Path) -> Result<(), String> {
    let wrong = |error: io::Error| error.to_string();
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let kind = entry.file_type().map_err(wrong)?;
        if !kind.is_file() && !kind.is_socket() {
            let name = entry.file_name();
            let kind = match kind.is_symlink() {
                true => "a link",
                false => "not a regular file",
            };
            return Err(format!("{} beside it is {kind}", name.display()));
        }
    }
    Ok(())
}

/// The process that has the file of [`lock_for_qemu`] as its standard input, whether it answers or
/// not. The kernel's list of locks names the process that took the lock, which is not QEMU.
pub(super) fn holder(directory: &Path) -> Option<OwnedFd> {
    let running = inode(&directory.join(files::RUNNING))?;
    let mut found = pids().into_iter().filter_map(|pid| {
        (input_of(pid)? == running).then_some(())?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Until it was opened, another process may have got the number.
        (input_of(pid)? == running).then_some(pidfd)
    });
    found.next()
}

/// The same for several machines: the number of the process that has each.
pub(super) fn holders<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Vec<Option<Pid>> {
    let inputs: HashMap<_, _> = pids()
        .into_iter()
        .filter_map(|pid| Some((input_of(pid)?, pid)))
        .collect();
    let directories = directories.into_iter();
    let running = directories.map(|directory| inode(&directory.join(files::RUNNING)));
    running.map(|file| inputs.get(&file?).copied()).collect()
}

/// Device and inode.
fn inode(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

fn input_of(pid: Pid) -> Option<(u64, u64)> {
    inode(Path::new(&format!("/proc/{pid}/fd/0")))
}

pub(super) fn pids() -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| {
        let number = process.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    });
    pids.collect()
}

/// Whether a QEMU holds the machine.
pub(super) fn held_by_qemu(directory: &Path) -> Result<bool, MachineError> {
    let path = directory.join(files::RUNNING);
    let file = match open_unlinked(&path) {
        Ok(file) => file,
        // What is no file was not made by any vmfab.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
            ) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(io_error("open", &path)(error)),
    };
    file::try_lock_shared(&file)
        .map(|free| !free)
        .map_err(io_error("lock", &path))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn machine(root: &Root, name: &str) -> MachineName {
        let name: MachineName = name.parse().unwrap();
        let (temporary, _lock) = root.temporary().unwrap();
        assert!(root.publish(&temporary, &name).unwrap());
        name
    }

    #[test]
    fn a_name_is_given_once() {
        let home = tempfile::tempdir().unwrap();
        let root = Root(home.path().join("machines"));
        assert_eq!(root.names().unwrap(), []);
        let name = machine(&root, "docker");
        let (temporary, _lock) = root.temporary().unwrap();
        assert!(!root.publish(&temporary, &name).unwrap());
        assert_eq!(root.names().unwrap(), [name]);
    }

    #[test]
    fn what_a_killed_process_left_goes() {
        let home = tempfile::tempdir().unwrap();
        let root = Root(home.path().join("machines"));
        let (abandoned, lock) = root.temporary().unwrap();
        let (bare, _) = root.temporary().unwrap();
        fs::remove_file(bare.join(files::LOCK)).unwrap();
        let (alive, _held) = root.temporary().unwrap();
        assert!(abandoned.exists());
        drop(lock);
        let (_, _lock) = root.temporary().unwrap();
        assert!(!abandoned.exists());
        assert!(!bare.exists());
        assert!(alive.exists());
    }

    #[test]
    fn a_lock_of_a_removed_machine_is_none() {
        let home = tempfile::tempdir().unwrap();
        let root = Root(home.path().join("machines"));
        let name = machine(&root, "docker");
        let directory = root.directory(&name);
        let interrupt = Interrupt::new().unwrap();
        let lock = Lock::wait(&name, &directory, &interrupt, &|| {}).unwrap();
        let waiter = {
            let (name, directory, interrupt) = (name.clone(), directory.clone(), interrupt.clone());
            std::thread::spawn(move || Lock::wait(&name, &directory, &interrupt, &|| {}))
        };
        std::thread::sleep(RETRY);
        root.remove(&name, &lock).unwrap();
        drop(lock);
        let error = waiter.join().unwrap().unwrap_err();
        assert!(matches!(error, MachineError::Unknown(_)), "{error}");
        let left: Vec<_> = fs::read_dir(&root.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, [MAKING]);
    }

    #[test]
    fn waiting_for_a_lock_can_be_given_up() {
        let home = tempfile::tempdir().unwrap();
        let root = Root(home.path().join("machines"));
        let name = machine(&root, "docker");
        let interrupt = Interrupt::new().unwrap();
        let _held = Lock::wait(&name, &root.directory(&name), &interrupt, &|| {}).unwrap();
        interrupt.request();
        let error = Lock::wait(&name, &root.directory(&name), &interrupt, &|| {}).unwrap_err();
        assert!(matches!(error, MachineError::Interrupted { .. }), "{error}");
    }

    #[test]
    fn a_child_holds_the_running_lock_until_it_ends() {
        let home = tempfile::tempdir().unwrap();
        assert!(!held_by_qemu(home.path()).unwrap());
        let file = lock_for_qemu(home.path()).unwrap().unwrap();
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::from(file))
            .spawn()
            .unwrap();
        assert!(held_by_qemu(home.path()).unwrap());
        assert!(lock_for_qemu(home.path()).unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!held_by_qemu(home.path()).unwrap());
    }
}
