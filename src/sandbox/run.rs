//! The outer side of a worker: scratch directories, layers, and what became of the request.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{debug, debug_span};

use super::cache::{InUse, LayerCache};
use super::confinement::Confinement;
use super::job::{Beside, Job, Lent, Packing, Runner};
use super::pipe;
use super::probe::probe;
use super::request::{BesideSource, LayerSource, Outcome, Pack, Request, Task};
use super::worker::{REMOVE_ARGUMENT, STAMP_ARGUMENT, WORKER_ARGUMENT};
use crate::derivation::{BuildRequest, SOURCE_DATE_EPOCH};
use crate::digest::ObjectRef;
use crate::event::{Event, Sink};
use crate::failure::{Failure, Kind};
use crate::host::process::{self, Bounds, End, Finished};
use crate::host::{Home, Secret, bare_command, is_full};
use crate::limits::StepBounds;
use crate::store::Store;

/// Variables of the host that a command with network gets.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

/// Runs steps over layers of a store.
#[derive(Clone)]
pub struct Sandbox {
    store: Store,
    layer_cache: LayerCache,
    work: PathBuf,
    sink: Option<Arc<dyn Sink>>,
    /// What each step may take, whatever its recipe says.
    most: Option<StepBounds>,
    /// What this host allows, once it was tried.
    confinement: Arc<Mutex<Option<Confinement>>>,
}

/// A directory for one step, removed when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Held as long as the directory is in use: a later run removes directories whose lock is free.
    _lock: File,
}

impl Scratch {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new file of the job, which the store can adopt.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn file(&self, name: &str) -> Result<tempfile::NamedTempFile, Failure> {
        tempfile::Builder::new()
            .prefix(name)
            .rand_bytes(0)
            .tempfile_in(&self.path)
            .map_err(Failure::step_io("create a file in", &self.path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_scratch(&self.path);
    }
}

impl Sandbox {
    /// A sandbox that unpacks layers of `store` into the cache of `home`.
    #[must_use]
    pub fn new(home: &Home, store: Store) -> Self {
        Self {
            store,
            layer_cache: LayerCache::new(home),
            work: home.work(),
            sink: None,
            most: None,
            confinement: Arc::default(),
        }
    }

    /// One that says there what this host does not give to steps.
    #[must_use]
    pub fn telling(self, sink: Arc<dyn Sink>) -> Self {
        Self {
            sink: Some(sink),
            ..self
        }
    }

    /// One whose steps take no more than this.
    #[must_use]
    pub fn bounded(self, most: Option<StepBounds>) -> Self {
        Self { most, ..self }
    }

    /// What this host allows. The first step of a build tries it, and says what is missing.
    fn confinement(&self) -> Result<Confinement, Failure> {
        let mut known = self
            .confinement
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(confinement) = *known {
            return Ok(confinement);
        }
        let confinement = probe(&self.work)
            .map_err(|refusal| Failure::missing(refusal.message).and_help(refusal.help))?;
        debug!(?confinement, "this host was tried");
        for weakness in confinement.weaknesses() {
            if let Some(sink) = &self.sink {
                sink.emit(Event::Warning {
                    message: format!("{}; `vmfab doctor` shows how to change that", weakness.cost),
                });
            }
        }
        Ok(*known.insert(confinement))
    }

    /// Makes a scratch directory, and removes those that killed processes have left, and layers
    /// that were unpacked before the host was started.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn scratch(&self) -> Result<Scratch, Failure> {
        for directory in [self.work.as_path(), self.layer_cache.directory()] {
            fs::create_dir_all(directory).map_err(Failure::step_io("create", directory))?;
        }
        self.sweep();
        self.store.sweep();
        loop {
            // The lock comes first: there is no directory without one.
            let (lock, lock_path) = tempfile::Builder::new()
                .prefix("step-")
                .suffix(".lock")
                .tempfile_in(&self.work)
                .map_err(Failure::step_io("create a file in", &self.work))?
                .keep()
                .map_err(|error| Failure::step_io("keep", &self.work)(error.error))?;
            lock.lock().map_err(Failure::step_io("lock", &lock_path))?;
            // A sweep may have come between.
            let meta = lock
                .metadata()
                .map_err(Failure::step_io("look at", &lock_path))?;
            if meta.nlink() == 0 {
                continue;
            }
            let path = lock_path.with_extension("");
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(Failure::step_io("create", &path))?;
            return Ok(Scratch { path, _lock: lock });
        }
    }

    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.work) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "lock") {
                continue;
            }
            // Held until both are gone: who makes a directory at this moment sees that it was
            // swept.
            if let Ok(lock) = File::open(&path)
                && lock.try_lock().is_ok()
            {
                remove_scratch(&path.with_extension(""));
            }
        }
        let current = self.layer_cache.directory();
        let older = current.parent().unwrap_or(current);
        for entry in fs::read_dir(older).into_iter().flatten().flatten() {
            if entry.path() != current {
                remove_scratch(&entry.path());
            }
        }
    }

    /// Writes an object of the store to a new file.
    ///
    /// # Errors
    /// It is not there or damaged, or cannot be written.
    pub fn write_object(&self, object: &ObjectRef, path: &Path) -> Result<(), Failure> {
        let file = File::create_new(path).map_err(Failure::step_io("create", path))?;
        self.store
            .write_to(&object.id, &file, path)
            .map_err(Failure::of_step)
    }

    /// Inputs become directories and files.
    fn prepare(
        &self,
        job: Job,
        lent: &Lent,
        scratch: &Scratch,
        step: &BuildRequest<'_>,
    ) -> Result<Prepared, Failure> {
        let mut held = Vec::new();
        let mut missing = Vec::new();
        let mut sources = |layers: &[ObjectRef]| {
            let sources = layers.iter().map(|layer| {
                let directory = self.layer_cache.path(&layer.id);
                let hold = self.layer_cache.hold(&layer.id);
                held.push(hold.map_err(Failure::step_io("hold", &directory))?);
                if !self.layer_cache.is_whole(&layer.id) && !missing.contains(layer) {
                    missing.push(*layer);
                }
                Ok(LayerSource {
                    directory,
                    archive: None,
                })
            });
            sources.collect::<Result<Vec<_>, Failure>>()
        };
        let own = sources(&job.layers)?;
        let mut beside = Vec::new();
        for source in &job.beside {
            beside.push(match source {
                Beside::Layers(layers) => BesideSource::Layers(sources(layers)?),
                Beside::Archive(name) => BesideSource::Archive(scratch.path().join(name)),
                Beside::Local(name) => BesideSource::Local {
                    listing: scratch.path().join(name),
                    root: lent.local.get(name).cloned().unwrap_or_default(),
                },
            });
        }
        if !missing.is_empty() {
            self.unpack(&missing, step)?;
        }
        for (name, object) in &job.files {
            self.write_object(object, &scratch.path().join(name))?;
        }
        let request = Request {
            scratch: scratch.path().to_owned(),
            confinement: self.confinement()?,
            layers: own,
            beside,
            tasks: job.tasks,
            caches: lent.caches.clone(),
            proxies: proxies(),
            pack: None,
            most: self.most,
        };
        Ok(Prepared {
            request,
            _held: held,
        })
    }

    /// Runs a job and stores the layer that it makes.
    fn pack(
        &self,
        mut prepared: Prepared,
        Packing { clean }: Packing,
        lent: &Lent,
        scratch: &Scratch,
        step: &BuildRequest<'_>,
    ) -> Result<ObjectRef, Failure> {
        let (pipe, mut reader, writer) = pipe::beside(scratch.path())?;
        prepared.request.pack = Some(Pack {
            archive: pipe,
            clean,
            epoch: SOURCE_DATE_EPOCH,
        });
        // The store takes the layer while the worker packs it.
        let (done, taken) = std::thread::scope(|scope| {
            let taken = scope.spawn(move || self.store.take(&mut reader));
            let done = self.request(&prepared.request, &lent.secrets, step);
            // The worker ended: now the stream does.
            drop(writer);
            let taken = taken.join();
            (done, taken.unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let layer = match (done, taken) {
            (Err(error), _) if matches!(error.kind(), Kind::Interrupted | Kind::Unwritable) => {
                Err(error)
            }
            // The worker can only say that nobody reads its layer any more.
            (_, Err(error)) => Err(Failure::of_step(error)),
            (Err(error), Ok(_)) => Err(error),
            (Ok(()), Ok(layer)) => layer.finish().map_err(Failure::of_step),
        }?;
        // What was just made is the unpacked layer; the next step need not unpack it.
        // Changes that were in memory are gone.
        let upper = scratch.path().join("upper");
        if upper.exists()
            && let Ok(_held) = self.layer_cache.hold(&layer.id)
        {
            let _ = self.layer_cache.put(&layer.id, &upper);
        }
        Ok(layer)
    }

    /// Unpacks layers, which are held, into the cache.
    fn unpack(&self, layers: &[ObjectRef], step: &BuildRequest<'_>) -> Result<(), Failure> {
        let scratch = self.scratch()?;
        let mut sources = Vec::new();
        for layer in layers {
            let archive = scratch.path().join(format!("{}.tar", layer.id));
            self.write_object(layer, &archive)?;
            sources.push(LayerSource {
                directory: scratch.path().join(layer.id.to_string()),
                archive: Some(archive),
            });
        }
        let request = Request {
            scratch: scratch.path().to_owned(),
            confinement: self.confinement()?,
            layers: sources,
            beside: Vec::new(),
            tasks: Vec::new(),
            caches: BTreeMap::new(),
            proxies: BTreeMap::new(),
            pack: None,
            most: None,
        };
        self.request(&request, &[], step)?;
        for layer in layers {
            let unpacked = scratch.path().join(layer.id.to_string());
            let put = self.layer_cache.put(&layer.id, &unpacked);
            put.map_err(Failure::step_io("keep", &unpacked))?;
        }
        Ok(())
    }

    /// Has a worker do something, and shows no secret of its output.
    fn request(
        &self,
        request: &Request,
        secrets: &[Secret],
        step: &BuildRequest<'_>,
    ) -> Result<(), Failure> {
        let (layers, tasks) = (request.layers.len(), request.tasks.len());
        let _span = debug_span!("worker", layers, tasks).entered();
        let input = serde_json::to_vec(request).map_err(Failure::of_step)?;
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(step.log)
            .map_err(Failure::step_io("open", step.log))?;
        let mut command = worker_command();
        let finished = process::run_hiding(
            &mut command,
            Some(&mut input.as_slice()),
            secrets,
            &mut log,
            step.output,
            Bounds {
                output: Some(step.log_limit),
                ..Bounds::default()
            },
            step.interrupt,
        )
        .map_err(Failure::step_io("start a worker, logging to", step.log))?;
        if finished.end == End::Interrupted {
            return Err(Failure::interrupted());
        }
        if let End::TooMuchOutput(_) = finished.end {
            return Err(Failure::command(
                "the step",
                finished.end.describe(),
                finished.tail,
            ));
        }
        let done = outcome(request, finished);
        // While what the step wrote is still there.
        match done {
            Err(error) if is_full(&self.work) || host_program_says_full(request, &error) => {
                Err(Failure::no_space(&self.work))
            }
            done => done,
        }
    }
}

/// On this host, in a worker.
impl Runner for Sandbox {
    fn run(
        &self,
        job: Job,
        lent: &Lent,
        scratch: &Scratch,
        step: &BuildRequest<'_>,
    ) -> Result<Option<ObjectRef>, Failure> {
        let packing = job.layer;
        let prepared = self.prepare(job, lent, scratch, step)?;
        match packing {
            Some(packing) => (self.pack(prepared, packing, lent, scratch, step)).map(Some),
            None => {
                self.request(&prepared.request, &lent.secrets, step)?;
                Ok(None)
            }
        }
    }
}

/// A job that can run.
struct Prepared {
    request: Request,
    /// Layers that stay in the cache until the job is done.
    _held: Vec<InUse>,
}

/// This program as a worker. Of the environment it has what finds programs, and the name that
/// subordinate ids are looked up by.
pub(super) fn worker_command() -> Command {
    let mut command = bare_command("/proc/self/exe");
    command.arg(WORKER_ARGUMENT);
    if let Some(user) = std::env::var_os("USER") {
        command.env("USER", user);
    }
    command
}

/// The host's proxies.
fn proxies() -> BTreeMap<String, String> {
    PROXIES
        .iter()
        .filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// What a worker that ended says of its work.
fn outcome(request: &Request, finished: Finished) -> Result<(), Failure> {
    let outcome = request.scratch.join("outcome.json");
    let outcome = fs::read(&outcome)
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
    match outcome {
        Ok(Outcome::Done) => Ok(()),
        Ok(Outcome::Failed { command, how }) => Err(Failure::command(command, how, finished.tail)),
        Ok(Outcome::Unsatisfiable { message, help }) => {
            Err(Failure::failed(message).with_help(help))
        }
        Ok(Outcome::Error {
            message,
            help: Some(help),
        }) => Err(Failure::failed(message).with_help(help)),
        Ok(Outcome::Error {
            message,
            help: None,
        }) => Err(Failure::of_step(io::Error::other(message))),
        Err(_) => Err(Failure::command(
            "the worker of the step",
            finished.end.describe(),
            finished.tail,
        )),
    }
}

/// Whether a program of the host found no room. It may have removed what it wrote since. A command
/// of the tree may mean a file system of its own by the same words.
fn host_program_says_full(request: &Request, error: &Failure) -> bool {
    let of_host = |task: &Task| matches!(task, Task::Host(_));
    error.is_command()
        && request.tasks.iter().any(of_host)
        && (error.details().output.iter()).any(|line| line.contains("No space left on device"))
}

/// Removes a scratch directory and then its lock. Files of subordinate ids can only be removed from
/// inside a namespace that maps them.
fn remove_scratch(path: &Path) {
    if remove_tree(path).is_ok() {
        let _ = fs::remove_file(path.with_extension(pipe::EXTENSION));
        let _ = fs::remove_file(path.with_extension("lock"));
    }
}

/// Removes a directory of a sandbox, if it is there.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => remove_in_namespace(path),
        Ok(()) => Ok(()),
    }
}

/// The stamp of a directory (see `cache`) that this process may not read all of.
pub(super) fn stamp_in_namespace(path: &Path) -> io::Result<String> {
    let output = worker_command()
        .arg(STAMP_ARGUMENT)
        .arg(path)
        .stdin(std::process::Stdio::null())
        .output()?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(io::Error::other)
    } else {
        Err(io::Error::other("not read"))
    }
}

fn remove_in_namespace(path: &Path) -> io::Result<()> {
    let mut child = worker_command()
        .arg(REMOVE_ARGUMENT)
        .arg(path)
        .stdin(std::process::Stdio::null())
        .spawn()?;
    if child.wait()?.success() {
        Ok(())
    } else {
        Err(io::Error::other("not removed"))
    }
}
