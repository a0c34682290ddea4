//! The life of a machine. This module is the one owner of its state machine:
//!
//! ```text
//!           create              start              QMP answers
//!  (nothing) ─────► Stopped ───────────► Starting ────────────► Running
//!      ▲              │ ▲ ▲   exec QEMU     │                    │   │
//!      └──────────────┘ │ └─────────────────┘                    │   │
//!           remove      │     QEMU ends at once                  │   │
//!                       ├────────────────────────────────────────┘   │
//!                       │     QEMU ends: the guest switched itself   │
//!                       │     off, or QEMU or the host died          │
//!                       └────────────────────────────────────────────┘
//!                             stop: power button, QMP quit, SIGKILL
//! ```
//!
//! A running guest may be halted: by [`Locked::pause`], by itself (asleep), or by QEMU when the host
//! has no room for what it writes, or when what it reads is in a registry that fails ([`read_again`]
//! lets it go on without the lock, when nobody else has halted it). [`Locked::resume`] lets it go on. [`Locked::suspend`] halts it, writes
//! its memory to a file and ends QEMU: then it is suspended, and the next start goes on from there.
//!
//! But for `memory.json` of a suspended one, no file says which state a machine is in. It is asked for when it is needed: whoever answers on
//! the QMP socket runs the machine (the kernel names the process, `SO_PEERCRED`), a socket that
//! nobody listens on is stale. The moments between QEMU's start and its listening, and between its
//! closing the socket and its end, are covered by a lock on the file `running`, which is QEMU's
//! standard input: the lock is set before QEMU runs its first instruction, and the kernel releases
//! it when QEMU ends, however it ends.
//!
//! All transitions but "QEMU ends" are methods of [`Locked`], which holds the machine's lock, so
//! that there is one at a time. A vmfab that is killed between two of them leaves a machine in one
//! of these states, or a directory `.tmp-…` that the next one removes.
//!
//! ```text
//! machines/<name>/
//!   machine.json       what was asked for
//!   overlay.qcow2      its disk, over the image's; overlay-<id>.qcow2 after a snapshot, over
//!                      layers that are beside the snapshots
//!   disk-1.qcow2 …     its further disks, with nothing below
//!   firmware-vars.fd   its UEFI variables, when it has UEFI
//!   seed.img           what it is told by a NoCloud disk, when its image asks for one
//!   metadata.json      what it is told by Amazon's metadata service, when its image asks that
//!   ignition.json      what it is told by Ignition, when its user asks that
//!   id_ed25519         its private key
//!   known_hosts        the host keys that it has shown
//!   memory.zst         what it had in memory when it was suspended; memory.json says that it is whole
//!   qmp.sock           QEMU's control socket
//!   vnc.sock           for a viewer of its screen, when it is shown by VNC
//!   console.sock       its serial console
//!   agent.sock         the port of the guest's agent
//!   console.log        what it wrote there since it was started
//!   qemu.log           what QEMU wrote to its standard error since it was started
//!   ssh.log            what each `ssh` said that tried whether it can be entered, since the start
//!   share-0.sock …     the sockets of virtiofsd, one for each shared directory
//!   share-0.log …      what virtiofsd wrote since the start
//!   disk.sock, disk.log  the process that serves a disk which is not all here
//!   group.sock, passt.sock, and .log: the processes at the other ends of its network cards
//!   lock, running, console.lock
//!   sessions           locked by each vmfab that has a session open in it
//! ```
//!
//! A machine of a build ([`Machines::attached`]) is in a directory of its own and ends with the
//! process that made it. Its disk is taken while it runs ([`Machine::set_apart`]): then it has
//! `overlay-1.qcow2` and so on, too.

mod commit;
mod config;
mod console;
mod create;
mod directory;
mod disk_file;
mod error;
mod freeze;
mod launch;
mod live;
mod name;
mod network;
mod pending;
mod process;
mod project;
mod promise;
mod ready;
mod remedy;
mod resume;
mod seed;
mod server;
mod session;
mod set;
mod share;
mod snapshot;
mod stack;
mod start;
mod state;
mod stop;
mod suspend;
mod tpm;
mod volume;
mod watch;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use commit::LayeredDisk;
pub use config::{Forwarded, MachineConfig, MachineDisk};
pub use console::{Console, Watcher, last_lines, text_of};
pub use create::{NewMachine, check_disk_size};
pub use error::{MachineError, NotReady};
pub use freeze::FREEZE;
pub use launch::{check_memory, check_port};
pub use name::{MachineName, NameError};
pub use network::{NETWORK_ARGUMENT, NewHost, network_main};
pub use pending::{DISK_ARGUMENT, DISK_SOCKET, READS, has_qemu, pending_image, read_again};
pub use process::QemuProcess;
pub use project::{Absent, Need, PATIENCE, Project, Projects, Registered, Turn};
pub use promise::Promise;
pub use session::Occupancy;
pub use snapshot::{
    Derived, Frozen, LayerId, Parts, PortableSnapshot, Quiesce, Snapshot, SnapshotName,
    SnapshotVolume, Snapshots, Wanted,
};
pub use start::{Ready, Startup, Until};
pub use state::State;
pub use stop::StoppedBy;
pub use suspend::{SavedMemory, Suspended};
pub use volume::{FileSystemId, Holder, Volume, Volumes};
pub use watch::{Trouble, after_loss, watched};

use directory::{Lock, Root, files};

use crate::checked::AccountName;
use crate::event::{Event, Sink};
use crate::guest::{KNOWN_HOSTS, PRIVATE_KEY, Ssh};
use crate::host::beneath::read_unlinked;
use crate::host::file::{Durability, Replace};
use crate::host::{Home, Interrupt};
use crate::image::Display;
use crate::qemu::Accel;

/// All machines of a home, or of a project.
#[derive(Debug, Clone)]
pub struct Machines {
    root: Root,
    home: Home,
    probes: PathBuf,
    volumes: Volumes,
    project: Option<Project>,
    /// This program, when the machines are to end with this process.
    attached: Option<PathBuf>,
}

/// A machine that is there, or was when it was opened.
#[derive(Debug, Clone)]
pub struct Machine {
    machines: Machines,
    name: MachineName,
    directory: PathBuf,
}

/// A machine whose state nobody else changes.
#[derive(Debug)]
#[must_use]
pub struct Locked {
    machine: Machine,
    lock: Lock,
}

impl Machines {
    /// The machines of `home`.
    #[must_use]
    pub fn new(home: &Home) -> Self {
        Self {
            root: Root(home.machines()),
            home: home.clone(),
            probes: home.probes(),
            volumes: Volumes::new(home),
            project: None,
            attached: None,
        }
    }

    /// Machines of this process alone, in `directory`: their QEMUs end with it, however it ends.
    /// `vmfab` is this program.
    #[must_use]
    pub fn attached(directory: PathBuf, home: &Home, vmfab: PathBuf) -> Self {
        Self {
            root: Root(directory),
            home: home.clone(),
            probes: home.probes(),
            volumes: Volumes::new(home),
            project: None,
            attached: Some(vmfab),
        }
    }

    /// All of them, sorted by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Machine>, MachineError> {
        let names = self.root.names()?;
        Ok(names.into_iter().map(|name| self.at(name)).collect())
    }

    /// How many directories killed processes left, which the next machine that is made removes;
    /// `remove` removes them now.
    ///
    /// # Errors
    /// The directory cannot be locked, or one of them cannot be removed.
    pub fn leftovers(&self, remove: bool) -> Result<usize, MachineError> {
        self.root.leftovers(remove)
    }

    /// The machine `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn open(&self, name: &MachineName) -> Result<Machine, MachineError> {
        let machine = self.at(name.clone());
        // A link to a directory elsewhere is no machine.
        if std::fs::symlink_metadata(&machine.directory).is_ok_and(|meta| meta.is_dir()) {
            Ok(machine)
        } else {
            Err(MachineError::Unknown(name.clone()))
        }
    }

    /// The project that they are of; nothing when they are of the home.
    #[must_use]
    pub const fn project(&self) -> Option<&Project> {
        self.project.as_ref()
    }

    fn at(&self, name: MachineName) -> Machine {
        Machine {
            machines: self.clone(),
            directory: self.root.directory(&name),
            name,
        }
    }
}

impl Machine {
    #[must_use]
    pub const fn name(&self) -> &MachineName {
        &self.name
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The project that it is of; nothing when it is of the home.
    #[must_use]
    pub const fn project(&self) -> Option<&Project> {
        self.machines.project.as_ref()
    }

    /// Those that it is among.
    #[must_use]
    pub const fn machines(&self) -> &Machines {
        &self.machines
    }

    /// What was asked for when it was made.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn config(&self) -> Result<MachineConfig, MachineError> {
        MachineConfig::read(&self.name, &self.directory)
    }

    /// What it does now.
    ///
    /// # Errors
    /// The machine's files may not be used.
    pub fn state(&self) -> Result<State, MachineError> {
        state::observe(&self.directory).map(|(state, _)| state)
    }

    /// How to open a session in it as `user`, or else as the image's account. `ssh` must run in
    /// the machine's directory.
    ///
    /// # Errors
    /// The machine's config cannot be read.
    pub fn ssh(&self, user: Option<AccountName>) -> Result<Ssh, MachineError> {
        let config = self.config()?;
        Ok(Ssh {
            machine: self.name.to_string(),
            port: config.ssh_port,
            user: user.unwrap_or(config.ssh_user),
        })
    }

    /// The error that it has another host key than the one that is known.
    #[must_use]
    pub fn host_key_changed(&self) -> MachineError {
        MachineError::NotReady {
            name: self.name.clone(),
            why: NotReady::HostKeyChanged,
            console: Vec::new(),
            ssh: None,
            running: true,
        }
    }

    /// Whether somebody was in it over SSH before.
    #[must_use]
    pub fn was_entered(&self) -> bool {
        self.directory.join(KNOWN_HOSTS).exists()
    }

    /// Forgets the host keys that it has shown: the next session takes what it shows then.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget_host_keys(&self) -> Result<(), MachineError> {
        let path = self.directory.join(KNOWN_HOSTS);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error::io_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Lets the host keys that it has shown be known under another name, too.
    fn know_host_keys_as(&self, name: &MachineName) -> Result<(), MachineError> {
        let path = self.directory.join(KNOWN_HOSTS);
        let text = match read_unlinked(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error::io_error("read", &path)(error)),
        };
        let of_name = |line: &str| {
            let (alias, key) = line.split_once(' ')?;
            (alias == self.name.as_str()).then(|| format!("{name} {key}\n"))
        };
        let more: String = text.lines().filter_map(of_name).collect();
        Replace::new(&path, Durability::None)
            .with((text + &more).as_bytes())
            .map_err(error::io_error("write", &path))
    }

    /// The file with what the guest wrote to its console since its start.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.directory.join(files::CONSOLE_LOG)
    }

    /// The socket for a viewer of its screen, if it is shown.
    #[must_use]
    pub fn vnc_socket(&self) -> Option<PathBuf> {
        let shown = self
            .config()
            .is_ok_and(|config| config.devices.display == Display::Vnc);
        shown.then(|| self.directory.join(files::VNC_SOCKET))
    }

    /// The file with what QEMU wrote to its standard error since its start.
    #[must_use]
    pub fn qemu_log(&self) -> PathBuf {
        self.directory.join(files::QEMU_LOG)
    }

    /// The file of its private key.
    #[must_use]
    pub fn private_key(&self) -> PathBuf {
        self.directory.join(PRIVATE_KEY)
    }

    /// What runs its instructions now; nothing when it does not run, or does not answer.
    #[must_use]
    pub fn runs_under(&self) -> Option<Accel> {
        let (_, qmp) = state::observe(&self.directory).ok()?;
        match qmp?.has_kvm().ok()? {
            true => Some(Accel::Kvm),
            false if cfg!(target_os = "macos") => None,
            false => Some(Accel::Tcg),
        }
    }

    /// Whether a QEMU has it. Cheaper than to ask for its state.
    ///
    /// # Errors
    /// The machine's files may not be used.
    pub fn has_qemu(&self) -> Result<bool, MachineError> {
        directory::held_by_qemu(&self.directory)
    }

    /// Bytes that its overlays, and its memory if it is suspended, take on this host.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        let Ok(config) = self.config() else { return 0 };
        let disks = config.disks.iter().enumerate();
        let overlays = disks.filter_map(|(number, disk)| disk.overlay(number));
        let size = |overlay| std::fs::metadata(self.directory.join(overlay));
        overlays
            .chain([files::MEMORY.to_owned()])
            .filter_map(|file| size(file).ok())
            .map(|meta| meta.blocks() * 512)
            .sum()
    }

    /// Waits until no other vmfab changes its state.
    ///
    /// # Errors
    /// The machine is gone, or the user gave up.
    pub fn lock(&self, sink: &dyn Sink, interrupt: &Interrupt) -> Result<Locked, MachineError> {
        let waiting = || {
            sink.emit(Event::MachineWaiting {
                machine: self.name.to_string(),
                what: "another vmfab".to_owned(),
            });
        };
        Ok(Locked {
            lock: Lock::wait(&self.name, &self.directory, interrupt, &waiting)?,
            machine: self.clone(),
        })
    }
}

impl Locked {
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Changes what is asked for; it holds from the next start on.
    ///
    /// # Errors
    /// The config cannot be read or written.
    pub fn change(&self, change: impl FnOnce(&mut MachineConfig)) -> Result<(), MachineError> {
        let before = self.machine.config()?;
        let mut config = before.clone();
        change(&mut config);
        if config == before {
            return Ok(());
        }
        config.write(&self.machine.directory)
    }

    /// Gives the machine another name, which its guest hears of at the next start.
    ///
    /// # Errors
    /// It runs, or the name is taken.
    pub fn rename(self, name: &MachineName) -> Result<Machine, MachineError> {
        let machine = self.machine;
        if !machine.state()?.is_off() {
            return Err(MachineError::Running(machine.name));
        }
        machine.forget_commits();
        // Before it has the name: a guest whose host keys are unknown is believed at once.
        machine.know_host_keys_as(name)?;
        match machine.machines.root.publish(&machine.directory, name)? {
            true => Ok(machine.machines.at(name.clone())),
            false => Err(MachineError::Taken(name.clone())),
        }
    }

    /// Removes the machine with its disk and key. A running one is only removed by `force`, which
    /// ends QEMU without asking the guest.
    ///
    /// # Errors
    /// It runs, or its files cannot be removed.
    pub fn remove(self, force: bool) -> Result<(), MachineError> {
        if !self.machine.state()?.is_off() {
            if !force {
                return Err(MachineError::Running(self.machine.name));
            }
            self.end_qemu()?;
        }
        self.machine.forget_commits();
        let machines = &self.machine.machines;
        machines.root.remove(&self.machine.name, &self.lock)?;
        machines.snapshots().tidy();
        Ok(())
    }
}
