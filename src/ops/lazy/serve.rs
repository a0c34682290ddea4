//! The process that serves a machine's disk and pulls its image meanwhile.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::super::{Context, cache, share};
use super::{Pending, order};
use crate::config::Config;
use crate::digest::{ObjectId, ObjectRef};
use crate::event::Silent;
use crate::failure::Failure;
use crate::host::file::Lock;
use crate::host::{Home, Interrupt, this_program, umask};
use crate::http::sleep;
use crate::machine::{DISK_SOCKET, READS, has_qemu, pending_image, read_again};
use crate::nbd::{self, Disk};
use crate::registry::Location;
use crate::share::{Artifact, BootOrder, PartialDisk, Reads, Sharing, Shelf};
use crate::store::Store;
use crate::world::image_config;

/// How long a read waits for a registry that fails, before QEMU halts the guest.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked whether the machine still has a QEMU, and how the registry is.
const LOOK: Duration = Duration::from_millis(500);
/// Ranges that are fetched at once while the guest runs.
const PARALLEL: usize = 4;
/// The same of what a boot reads: the guest waits for it.
const PARALLEL_FIRST: usize = 8;
/// The part of what a boot reads that a guest need not have read to count as booted: one in so many
/// bytes. The last that was recorded is the login.
const UNREAD: u64 = 100;
/// A guest that has read nothing new for so long of what a boot reads does not read the rest. Its
/// kernel alone takes ten seconds where instructions are emulated.
const QUIET: Duration = Duration::from_secs(30);

/// The whole process: see `machine::pending`.
#[must_use]
pub fn disk_main(arguments: &[OsString]) -> ExitCode {
    umask::make_files_private();
    let done = match arguments {
        [what, rest @ ..] if what == "watch" => watch(rest),
        [what, home, image, way] if what == "serve" => serve(home.as_ref(), image, way == "halt"),
        _ => Err(Failure::usage("this is for vmfab alone")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the other process as long as the machine has a QEMU. One that fails by itself is not
/// started again.
fn watch(arguments: &[OsString]) -> Result<(), Failure> {
    let here = Path::new(".");
    loop {
        let mut command = Command::new(this_program()?);
        command
            .arg(crate::machine::DISK_ARGUMENT)
            .arg("serve")
            .args(arguments);
        let mut child = command
            .spawn()
            .map_err(Failure::io("start", "vmfab".as_ref()))?;
        let status = child
            .wait()
            .map_err(Failure::io("wait for", "vmfab".as_ref()))?;
        if status.code().is_some() || !has_qemu(here)? {
            return Ok(());
        }
    }
}

fn serve(home: &Path, image: &OsString, halts: bool) -> Result<(), Failure> {
    let image: ObjectId = image
        .to_str()
        .and_then(|image| image.parse().ok())
        .ok_or_else(|| Failure::usage("this is for vmfab alone"))?;
    let interrupt = Interrupt::new().map_err(Failure::io("watch", home))?;
    let check = |text: &str| cache::repository(text).map(drop);
    let mut config = Config::from_env(&check)?;
    // It is tried again here as long as the machine runs.
    config.retries = 0;
    let context =
        Context::new(Home::at(home), Arc::new(Silent), interrupt).with_config(config, false);
    let pending = Pending::read(&context, &image)?;
    let store = context.store()?;
    let disk = image_config(&store, &image)?.disk;
    let server = Server {
        disk,
        halts,
        opened: OnceLock::new(),
        whole: OnceLock::new(),
        failed: AtomicBool::new(false),
        reads: Reads::default(),
        record: File::options().append(true).open(READS).ok(),
    };
    let _ = fs::remove_file(DISK_SOCKET);
    let listener =
        UnixListener::bind(DISK_SOCKET).map_err(Failure::io("listen on", DISK_SOCKET.as_ref()))?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for stream in listener.incoming().flatten() {
                let server = &server;
                scope.spawn(move || nbd::serve(&stream, server));
            }
        });
        scope.spawn(|| server.end_with_qemu());
        let fetched = match pending {
            Some(pending) => server.fetch(context, &store, &image, &pending),
            // It came between the question whether it is here and this one.
            None => server.open_whole(&store),
        };
        if let Err(error) = fetched {
            let _ = writeln!(io::stderr(), "{error}");
        }
    });
    Ok(())
}

/// A disk that is served.
struct Server {
    disk: ObjectRef,
    /// Whether QEMU halts the guest when a read fails.
    halts: bool,
    /// The disk as far as it is here.
    opened: OnceLock<PartialDisk>,
    /// The same from the store.
    whole: OnceLock<File>,
    /// Whether a read was answered with an error.
    failed: AtomicBool,
    /// What was read.
    reads: Reads,
    /// Where each read is recorded.
    record: Option<File>,
}

impl Server {
    /// Ends this process when the machine has no QEMU any more; lets the guest go on that was
    /// halted when what it waits for can be had.
    fn end_with_qemu(&self) {
        let here = Path::new(".");
        while has_qemu(here).unwrap_or(true) {
            std::thread::sleep(LOOK);
            let is_back = || {
                self.whole.get().is_some() || self.opened.get().is_some_and(PartialDisk::is_back)
            };
            if self.failed.load(Ordering::Relaxed) && is_back() && read_again(here).is_ok() {
                self.failed.store(false, Ordering::Relaxed);
            }
        }
        std::process::exit(0);
    }

    /// Serves what is here and fetches the rest.
    fn fetch(
        &self,
        context: Context,
        store: &Store,
        image: &ObjectId,
        pending: &Pending,
    ) -> Result<(), Failure> {
        let note = pending_image(&context.home, image);
        let damaged = || Failure::failed(format!("{} is damaged", note.display()));
        let artifact = pending.artifact().ok_or_else(damaged)?;
        let from: Location = pending.reference.parse().map_err(|_| damaged())?;
        let context = context.with_access(pending.access());
        let repository = context.registries().open(&from)?;
        let directory = context.home.shelf();
        let shelf = Shelf::new(repository, &artifact, &directory, context.interrupt.clone())
            .map_err(Failure::io("write to", &directory))?;
        let sharing = share::sharing(&context, store);
        let patience = if self.halts { PATIENCE } else { Duration::MAX };
        let disk = loop {
            match sharing.partial_disk(&shelf, &artifact, &self.disk, patience) {
                Ok(disk) => break self.opened.get_or_init(|| disk),
                Err(error) => {
                    shelf.check_tables();
                    shelf.wait_after(&error)?;
                }
            }
        };
        // Of the machines of one image, one fetches what none waits for.
        let path = note.with_extension("lock");
        let wrong = Failure::io("lock", &path);
        let Some(lock) = Lock::wait(&path, &context.interrupt, || {}).map_err(wrong)? else {
            return Ok(());
        };
        if !store.has_object(&self.disk) {
            if let Some(order) = self.order(&context, &sharing, &shelf, &artifact) {
                disk.fetch_first(&order, PARALLEL_FIRST)?;
                self.wait_for_boot(&order, &context.interrupt);
            }
            disk.fetch_rest(PARALLEL)?;
            while let Err(error) = share::pull_rest(&context, &from, &shelf, pending.digest) {
                disk.doubt();
                shelf.wait_after(&error)?;
            }
        }
        self.open_whole(store)?;
        let _ = fs::remove_file(&note);
        shelf.remove();
        lock.remove();
        Ok(())
    }

    /// What a boot reads: from here, or from the artifact. Without it the rest comes at once.
    fn order(
        &self,
        context: &Context,
        sharing: &Sharing<'_>,
        shelf: &Shelf,
        artifact: &Artifact,
    ) -> Option<BootOrder> {
        order::find(context, &self.disk).or_else(|| {
            let found = sharing.boot_order(shelf, artifact, self.disk.size);
            found.unwrap_or_else(|error| {
                let _ = writeln!(io::stderr(), "{error}");
                None
            })
        })
    }

    /// Waits until the guest has booted, so that it has the connection and the processors for
    /// itself: until it has read nearly all that a boot reads, or reads nothing more of it.
    fn wait_for_boot(&self, order: &BootOrder, interrupt: &Interrupt) {
        let (mut before, mut since) = (0, Instant::now());
        while since.elapsed() < QUIET && sleep(LOOK, interrupt) {
            let read = self.reads.of_order(order);
            if read >= order.bytes() - order.bytes() / UNREAD {
                return;
            }
            if read > before {
                (before, since) = (read, Instant::now());
            }
        }
    }

    /// Notes a read.
    fn note(&self, offset: u64, length: usize) {
        self.reads.add(offset..offset + length as u64);
        if let Some(mut record) = self.record.as_ref() {
            let _ = record.write_all(format!("{offset} {length}\n").as_bytes());
        }
    }

    /// Reads from the store's own file from now on.
    fn open_whole(&self, store: &Store) -> Result<(), Failure> {
        let path = store.materialise(&self.disk.id)?;
        let file = File::open(&path).map_err(Failure::io("open", &path))?;
        let _ = self.whole.set(file);
        Ok(())
    }

    /// The disk; waits until its chunks are known.
    fn opened(&self) -> Option<&PartialDisk> {
        let began = Instant::now();
        loop {
            match self.opened.get() {
                None if self.halts && began.elapsed() > PATIENCE => return None,
                None if self.whole.get().is_some() => return None,
                None => std::thread::sleep(Duration::from_millis(5)),
                opened => return opened,
            }
        }
    }
}

impl Disk for Server {
    fn size(&self) -> u64 {
        self.disk.size
    }

    fn read_now(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
        // Every read is tried so first.
        self.note(offset, buffer.len());
        match (self.whole.get(), self.opened.get()) {
            (Some(whole), _) => whole.read_exact_at(buffer, offset).map(|()| true),
            (None, Some(disk)) => disk.read_now(buffer, offset),
            (None, None) => Ok(false),
        }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let read = match self.opened() {
            Some(disk) => disk.read(buffer, offset),
            None => match self.whole.get() {
                Some(whole) => whole.read_exact_at(buffer, offset),
                None => Err(io::ErrorKind::TimedOut.into()),
            },
        };
        read.inspect_err(|error| {
            let _ = writeln!(io::stderr(), "{error}");
            self.failed.store(true, Ordering::Relaxed);
        })
    }
}
