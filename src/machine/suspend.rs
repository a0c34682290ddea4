//! A machine that does not run and keeps its memory in a file.
//!
//! `memory.json` says that it is suspended. It is written after `memory.zst` is whole, and removed
//! before the guest runs its next instruction: from then on its disk goes further than its memory.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::config::MachineConfig;
use super::directory::files;
use super::error::{MachineError, io_error};
use super::launch::Qemu;
use super::start::TICK;
use super::{Locked, Machine, share};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::host::Interrupt;
use crate::host::file::{Durability, NEW, Replace, read_text};
use crate::qemu::qmp::{Qmp, Status};
use crate::qemu::socket::{self, Peer};
use crate::qemu::{Accel, MEMORY_SOCKET, Sending};

/// How long QEMU may take until the stream begins or ends, and to take what came before.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is moved at once, in bytes.
const PIECE: usize = 1 << 20;
/// The most that `memory.json` takes, in bytes.
const MOST: u64 = 4096;

/// A memory in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMemory {
    /// Bytes of the stream.
    pub size: u64,
    /// BLAKE3 of the compressed stream.
    digest: Digest,
    /// What ran the guest: no other acceleration can go on with it.
    pub accel: Accel,
}

impl SavedMemory {
    /// Whether a file is what was saved.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn is_in(&self, path: &Path) -> io::Result<bool> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(digest_of(&hasher) == self.digest)
    }
}

/// What suspending did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspended {
    /// Bytes of the file that has the memory.
    pub stored: u64,
    /// Whether it ran or was paused; else it was suspended already.
    pub had_qemu: bool,
}

impl Machine {
    /// Whether no QEMU is needed to say that it is suspended: its memory is in a file.
    pub(super) fn has_memory(directory: &Path) -> bool {
        directory.join(files::MEMORY_STATE).exists()
    }

    /// Its memory, after every byte was verified; `None` when it has none in a file.
    pub(super) fn saved_memory(&self) -> Result<Option<SavedMemory>, MachineError> {
        let path = self.directory.join(files::MEMORY_STATE);
        let text = match read_text(&path, MOST) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let damaged = || MachineError::DamagedMemory(self.name.clone());
        let saved: SavedMemory = serde_json::from_str(&text).map_err(|_| damaged())?;
        let path = self.directory.join(files::MEMORY);
        match saved.is_in(&path) {
            Ok(true) => Ok(Some(saved)),
            Ok(false) => Err(damaged()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged()),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }
}

impl Machine {
    /// The error when something of it cannot wait for it.
    pub(super) fn check_saves_memory(&self) -> Result<(), MachineError> {
        match obstacle(&self.config()?) {
            None => Ok(()),
            Some(what) => Err(MachineError::CannotSuspend {
                name: self.name.clone(),
                what,
            }),
        }
    }
}

impl Locked {
    /// Writes the memory of a running or paused machine to a file, and ends QEMU. A failure leaves
    /// the guest as it was.
    ///
    /// # Errors
    /// It does not run, a device of it cannot be saved, there is no room, or the user gave up.
    pub fn suspend(
        &self,
        sink: &dyn Sink,
        interrupt: &Interrupt,
    ) -> Result<Suspended, MachineError> {
        let machine = &self.machine;
        let path = machine.directory.join(files::MEMORY);
        let stored = || fs::metadata(&path).map_or(0, |meta| meta.len());
        if !machine.has_qemu()? && Machine::has_memory(&machine.directory) {
            return Ok(Suspended {
                stored: stored(),
                had_qemu: false,
            });
        }
        machine.check_saves_memory()?;
        self.remove_unfinished();
        let ran = self.pause()?;
        sink.emit(Event::MachineWaiting {
            machine: machine.name.to_string(),
            what: "memory to be saved".to_owned(),
        });
        let mut qmp = machine.qmp()?;
        if let Err(error) = self.save(&mut qmp, interrupt) {
            if ran {
                // What failed is the reason to show.
                let _ = qmp.go_on();
            }
            return Err(error);
        }
        drop(qmp);
        self.end_qemu()?;
        Ok(Suspended {
            stored: stored(),
            had_qemu: true,
        })
    }

    /// Writes the memory of a halted guest to its file, and says that it is whole.
    fn save(&self, qmp: &mut Qmp, interrupt: &Interrupt) -> Result<(), MachineError> {
        let directory = &self.machine.directory;
        let saved = self.save_memory(qmp, &directory.join(files::MEMORY), interrupt)?;
        let said = self.say_suspended(&saved);
        if said.is_err() {
            let _ = self.forget_memory();
        }
        said
    }

    /// Says that the memory in the machine's directory is whole: it is suspended then.
    fn say_suspended(&self, saved: &SavedMemory) -> Result<(), MachineError> {
        let path = self.machine.directory.join(files::MEMORY_STATE);
        let json = serde_json::to_vec(saved).map_err(io::Error::from);
        json.and_then(|json| Replace::new(&path, Durability::Lasting).with(&json))
            .map_err(io_error("write", &path))
    }

    /// Gives the stopped machine the memory in a file, which belongs to what its disks hold: it is
    /// suspended then.
    pub(super) fn take_memory(&self, saved: &SavedMemory, from: &Path) -> Result<(), MachineError> {
        self.forget_memory()?;
        let path = self.machine.directory.join(files::MEMORY);
        fs::hard_link(from, &path).map_err(io_error("create", &path))?;
        self.say_suspended(saved)
    }

    /// Writes the memory of a halted guest to a file. QEMU stays, and can go on.
    pub(super) fn save_memory(
        &self,
        qmp: &mut Qmp,
        path: &Path,
        interrupt: &Interrupt,
    ) -> Result<SavedMemory, MachineError> {
        let directory = &self.machine.directory;
        let accel = match qmp.has_kvm()? {
            true => Accel::Kvm,
            false => self.machine.config()?.accel.first(true)?,
        };
        let socket = directory.join(MEMORY_SOCKET);
        let listener = listen(directory).map_err(io_error("listen on", &socket))?;
        let mut failure = None;
        let mut saved = None;
        let written = Replace::new(path, Durability::Lasting).fill(|file| {
            qmp.send_memory()
                .map_err(MachineError::from)
                .and_then(|()| {
                    let stream = accept(&listener, qmp, interrupt)?;
                    let (size, digest) = receive(stream, file, interrupt, path)?;
                    wait_until_sent(qmp)?;
                    saved = Some(SavedMemory {
                        size,
                        digest,
                        accel,
                    });
                    Ok(())
                })
                .map_err(|error| {
                    failure = Some(error);
                    io::ErrorKind::Other.into()
                })
        });
        drop(listener);
        let _ = fs::remove_file(&socket);
        match (failure, written, saved) {
            (Some(failure), ..) => Err(failure),
            (None, Ok(()), Some(saved)) => Ok(saved),
            (None, written, _) => {
                let error = written.err().unwrap_or_else(|| io::ErrorKind::Other.into());
                Err(io_error("write", path)(error))
            }
        }
    }

    /// Removes what a killed vmfab left of a memory.
    fn remove_unfinished(&self) {
        let directory = &self.machine.directory;
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(NEW) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes the memory of a suspended machine: it boots anew then.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_memory(&self) -> Result<(), MachineError> {
        let directory = &self.machine.directory;
        for name in [files::MEMORY_STATE, files::MEMORY] {
            let path = directory.join(name);
            match fs::remove_file(&path) {
                Ok(()) => {
                    let synced = File::open(directory).and_then(|opened| opened.sync_all());
                    synced.map_err(io_error("write back", directory))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("remove", &path)(error)),
            }
        }
        Ok(())
    }

    /// Gives a QEMU that waits for it the verified memory, and lets the guest go on.
    pub(super) fn go_on_from(
        &self,
        qemu: &mut Qemu,
        interrupt: &Interrupt,
    ) -> Result<(), MachineError> {
        let machine = &self.machine;
        let refused = |machine: &Machine| MachineError::MemoryRefused {
            name: machine.name.clone(),
            tail: super::console::last_lines(&machine.qemu_log(), 5),
        };
        let path = machine.directory.join(files::MEMORY);
        let started = Instant::now();
        let mut stream = loop {
            let peer = socket::connect(&machine.directory, MEMORY_SOCKET, PATIENCE)
                .map_err(io_error("connect to", &machine.directory))?;
            if let Peer::Listening(stream) = peer {
                break stream;
            }
            if qemu.has_ended() || started.elapsed() > PATIENCE {
                return Err(refused(machine));
            }
            check(interrupt, machine)?;
            std::thread::sleep(TICK);
        };
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let mut reader =
            zstd::Decoder::new(BufReader::new(file)).map_err(io_error("read", &path))?;
        let mut piece = vec![0; PIECE];
        loop {
            check(interrupt, machine)?;
            match reader.read(&mut piece).map_err(io_error("read", &path))? {
                0 => break,
                // QEMU closes the stream when it takes no more; its status tells why.
                read if stream.write_all(&piece[..read]).is_err() => break,
                _ => {}
            }
        }
        drop(stream);
        let _ = fs::remove_file(machine.directory.join(MEMORY_SOCKET));
        let started = Instant::now();
        while !qemu.has_ended() && started.elapsed() < PATIENCE {
            check(interrupt, machine)?;
            if let Ok(mut qmp) = machine.qmp()
                && qmp.status()? == Status::Paused
            {
                self.forget_memory()?;
                qmp.go_on()?;
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
        Err(refused(machine))
    }
}

/// What of a machine cannot wait for it.
fn obstacle(config: &MachineConfig) -> Option<&'static str> {
    if !share::of(config).is_empty() {
        return Some("shared directories, whose state vmfab does not save");
    }
    if config.devices.tpm {
        return Some("a TPM, whose state vmfab does not save");
    }
    (!config.disk_files.is_empty())
        .then_some("disks in files of this host, which others may change meanwhile")
}

fn check(interrupt: &Interrupt, machine: &Machine) -> Result<(), MachineError> {
    match interrupt.requested() {
        true => Err(MachineError::Interrupted {
            running: Some(machine.name.clone()),
        }),
        false => Ok(()),
    }
}

/// Listens where QEMU connects to, however long the path is.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(directory.join(MEMORY_SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let opened = File::open(directory)?;
    UnixListener::bind(format!(
        "/proc/self/fd/{}/{MEMORY_SOCKET}",
        opened.as_raw_fd()
    ))
}

fn accept(
    listener: &UnixListener,
    qmp: &mut Qmp,
    interrupt: &Interrupt,
) -> Result<UnixStream, MachineError> {
    let started = Instant::now();
    let failed = io_error("listen on", Path::new(MEMORY_SOCKET));
    loop {
        let mut fds = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(interrupt, PollFlags::IN),
        ];
        let second = Timespec::try_from(Duration::from_secs(1)).ok();
        match poll(&mut fds, second.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) if !fds[0].revents().is_empty() => {
                return Ok(listener.accept().map_err(failed)?.0);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if interrupt.requested() {
            return Err(MachineError::Interrupted { running: None });
        }
        if let Sending::Failed(why) = qmp.memory_sent()? {
            return Err(failed(io::Error::other(why)));
        }
        if started.elapsed() > PATIENCE {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
    }
}

/// Compresses the stream into a file; gives its size and the digest of the file.
fn receive(
    mut stream: UnixStream,
    file: &File,
    interrupt: &Interrupt,
    path: &Path,
) -> Result<(u64, Digest), MachineError> {
    let patience = stream.set_read_timeout(Some(PATIENCE));
    patience.map_err(io_error("read memory for", path))?;
    let hashing = Hashing {
        file,
        hasher: blake3::Hasher::new(),
    };
    let writer = BufWriter::with_capacity(PIECE, hashing);
    let mut encoder = zstd::Encoder::new(writer, 1).map_err(io_error("write", path))?;
    let mut size = 0;
    let mut piece = vec![0; PIECE];
    loop {
        if interrupt.requested() {
            return Err(MachineError::Interrupted { running: None });
        }
        let read = stream
            .read(&mut piece)
            .map_err(io_error("read memory for", path))?;
        if read == 0 {
            break;
        }
        encoder
            .write_all(&piece[..read])
            .map_err(io_error("write", path))?;
        size += read as u64;
    }
    let written = encoder.finish().and_then(|writer| {
        let hashing = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(digest_of(&hashing.hasher))
    });
    Ok((size, written.map_err(io_error("write", path))?))
}

fn digest_of(hasher: &blake3::Hasher) -> Digest {
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// Hashes what it writes.
struct Hashing<'a> {
    file: &'a File,
    hasher: blake3::Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn wait_until_sent(qmp: &mut Qmp) -> Result<(), MachineError> {
    let started = Instant::now();
    let failed = io_error("save", Path::new("memory"));
    loop {
        match qmp.memory_sent()? {
            Sending::Done => return Ok(()),
            Sending::Failed(why) => return Err(failed(io::Error::other(why))),
            Sending::Going if started.elapsed() > PATIENCE => {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
            Sending::Going => std::thread::sleep(TICK),
        }
    }
}
