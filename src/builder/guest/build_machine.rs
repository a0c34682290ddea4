//! A machine that is booted from a disk for steps of a build.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::build_machines::Shared;
use super::error::failed;
use super::shell::Root;
use super::spec::BuildMachineSpec;
use crate::derivation::BuildRequest;
use crate::digest::ObjectRef;
use crate::event::{Event, Sink};
use crate::failure::Failure;
use crate::guest::{CONTROL_SOCKET, Ssh};
use crate::host::process::{self, End, Finished};
use crate::host::{Interrupt, Program, bare_command, require};
use crate::machine::{FREEZE, Machine, Machines, Startup, Until, text_of, watched};
use crate::sandbox::Scratch;

/// How long the connection may take that all commands share, once one was possible.
const CONNECT: Duration = Duration::from_secs(120);
/// The most that is taken from the console's log at once, in bytes.
const CONSOLE: u64 = 1 << 20;
/// How long commands of the build machine's own may take that do next to nothing.
pub(super) const MOMENT: Duration = Duration::from_secs(300);

/// Where a step's output goes, and who ends it.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// The file that all of it is appended to.
    pub log: &'a Path,
    /// How many bytes a command may write.
    pub log_limit: u64,
    /// Takes each line, to be shown.
    pub output: &'a (dyn Fn(&str) + Sync),
    /// Tells when the user gave up.
    pub interrupt: &'a Interrupt,
}

impl Report<'_> {
    /// What a command may take.
    pub(super) fn bounds(&self, time: Duration) -> process::Bounds {
        process::Bounds {
            time: Some(time),
            output: Some(self.log_limit),
        }
    }
}

impl<'a> From<&BuildRequest<'a>> for Report<'a> {
    fn from(request: &BuildRequest<'a>) -> Self {
        Self {
            log: request.log,
            log_limit: request.log_limit,
            output: request.output,
            interrupt: request.interrupt,
        }
    }
}

/// A machine of this process, one step at a time. When it is dropped, QEMU is killed and everything
/// of the machine removed.
pub struct BuildMachine {
    pub(super) shared: Arc<Shared>,
    pub(super) spec: BuildMachineSpec,
    pub(super) machine: Machine,
    pub(super) ssh: Ssh,
    ssh_program: PathBuf,
    /// The connection that commands share.
    connection: Option<Child>,
    pub(super) root: Root,
    /// The disk at the last commit.
    pub(super) disk: ObjectRef,
    /// The overlay that the guest writes to.
    pub(super) overlay: u32,
    /// Whether something was done since the last commit.
    pub(super) touched: bool,
    /// How much of the console's log is in logs of steps.
    console_logged: u64,
    /// Removed when it is dropped, last.
    _scratch: Scratch,
}

impl BuildMachine {
    /// Boots a machine and waits until it can be entered.
    pub(super) fn start(
        shared: Arc<Shared>,
        spec: BuildMachineSpec,
        report: &Report<'_>,
    ) -> Result<Self, Failure> {
        let ssh_program = require(Program::Ssh).map_err(Failure::of_step)?;
        let scratch = shared.sandbox.scratch()?;
        let machines = Machines::attached(
            scratch.path().join("machines"),
            &shared.home,
            shared.vmfab.clone(),
        );
        let image = spec.image();
        let locked = machines
            .create(&spec.machine(&image), &shared.store)
            .map_err(failed)?;
        let machine = locked.machine().clone();
        let mut booted = Self {
            ssh: machine.ssh(None).map_err(failed)?,
            shared,
            disk: spec.disk,
            spec,
            machine,
            ssh_program,
            connection: None,
            root: Root::Is,
            overlay: 0,
            touched: false,
            console_logged: 0,
            _scratch: scratch,
        };
        let startup = Startup {
            image: &image,
            store: &booted.shared.store,
            sink: &Told(report),
            interrupt: report.interrupt,
            until: Until::Ssh,
            timeout: booted.spec.boot_timeout,
        };
        let started = startup.run(locked).map_err(failed);
        let entered = started.and_then(|_| booted.enter(report));
        booted.log_console(report)?;
        entered.map(|()| booted)
    }

    /// Opens the connection that commands share, and finds out how to be root.
    fn enter(&mut self, report: &Report<'_>) -> Result<(), Failure> {
        // The port may have been chosen anew at the start.
        self.ssh = self.machine.ssh(None).map_err(failed)?;
        self.connect(report)?;
        for root in Root::WAYS {
            let line = root.script("test \"$(id -u)\" = 0", &[]);
            if self.quiet(&line, None, report)?.end.success() {
                self.root = root;
                return Ok(());
            }
        }
        Err(Failure::failed(format!(
            "the account \"{}\" of the disk is not root, and neither sudo nor doas makes it root \
                 without a password",
            self.ssh.user
        ))
        .with_help("log in as root, or allow the account to use sudo without a password"))
    }

    fn connect(&mut self, report: &Report<'_>) -> Result<(), Failure> {
        let directory = self.machine.directory().to_owned();
        let socket = directory.join(CONTROL_SOCKET);
        let log = directory.join("connection.log");
        let stderr = File::create(&log).map_err(Failure::step_io("create", &log))?;
        let mut connection = bare_command(&self.ssh_program)
            .args(self.ssh.master_arguments())
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(Failure::step_io("start", &self.ssh_program))?;
        let started = Instant::now();
        let how = loop {
            // It is there when the server has let us in.
            if socket.exists() {
                self.connection = Some(connection);
                return Ok(());
            }
            if let Ok(Some(status)) = connection.try_wait() {
                break End::Exited(status).describe();
            }
            if started.elapsed() > CONNECT {
                break format!("could not connect within {} s", CONNECT.as_secs());
            }
            if !process::pause(report.interrupt) {
                break String::new();
            }
        };
        let _ = connection.kill();
        let _ = connection.wait();
        if report.interrupt.requested() {
            return Err(Failure::interrupted());
        }
        Err(Failure::command(
            "ssh into the machine",
            how,
            crate::machine::last_lines(&log, 20),
        ))
    }

    /// Stores the disk as it is now; see [`Machine::set_apart`]. The same disk as before when
    /// nothing was done since.
    ///
    /// # Errors
    /// The guest does not write its file systems back, QEMU takes no new overlay, or the store
    /// fails.
    pub fn commit(&mut self, report: &Report<'_>) -> Result<ObjectRef, Failure> {
        let remote = self.remote(&self.root.script(FREEZE, &[]));
        let log = open_log(report)?;
        self.machine
            .set_apart(self.overlay, remote, &log, report.interrupt)
            .map_err(failed)?;
        self.overlay += 1;
        let disk = self.splice(self.overlay - 1)?;
        self.touched = false;
        self.log_console(report)?;
        Ok(disk)
    }

    /// Stores the last disk with what the overlay holds, which nobody writes to any more.
    pub(super) fn splice(&mut self, overlay: u32) -> Result<ObjectRef, Failure> {
        let store = &self.shared.store;
        let disk = self.machine.spliced(overlay, &self.disk, store);
        self.disk = disk.map_err(failed)?;
        Ok(self.disk)
    }

    /// Takes what was done since the last commit for part of the next: for checks, which are to
    /// change nothing.
    pub(super) fn looked(&mut self) {
        self.touched = false;
    }

    /// The disk that the machine was booted from, or that was committed last.
    #[must_use]
    pub const fn disk(&self) -> &ObjectRef {
        &self.disk
    }

    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The `ssh` that runs a command line in the guest.
    pub(super) fn remote(&self, line: &str) -> Process {
        let mut process = bare_command(&self.ssh_program);
        process
            .args(self.ssh.shared_arguments(line))
            .current_dir(self.machine.directory());
        process
    }

    /// Runs a command line of the build machine itself: its output goes to the log alone.
    pub(super) fn quiet(
        &self,
        line: &str,
        input: Option<&mut (dyn Read + Send)>,
        report: &Report<'_>,
    ) -> Result<Finished, Failure> {
        let mut log = open_log(report)?;
        let mut process = self.remote(line);
        let (finished, trouble) = watched(&self.machine, report.interrupt, |stop| {
            process::run_fed(
                &mut process,
                input,
                &mut log,
                &|_| {},
                report.bounds(MOMENT),
                stop,
            )
        })
        .map_err(Failure::of_step)?;
        match trouble {
            Some(trouble) => Err(failed(
                trouble.error(&self.machine, "ssh into the machine".to_owned()),
            )),
            None => finished.map_err(Failure::step_io("run", &self.ssh_program)),
        }
    }

    /// Appends to the step's log what the guest wrote to its console since the last time.
    pub(super) fn log_console(&mut self, report: &Report<'_>) -> Result<(), Failure> {
        let path = self.machine.console_log();
        let mut bytes = Vec::new();
        // A machine that never started has none. Of a flood the end is what counts.
        if let Ok(mut console) = File::open(&path) {
            let end = console
                .metadata()
                .map_err(Failure::step_io("look at", &path))?
                .len();
            let start = self.console_logged.max(end.saturating_sub(CONSOLE));
            console
                .seek(SeekFrom::Start(start))
                .and_then(|_| console.take(CONSOLE).read_to_end(&mut bytes))
                .map_err(Failure::step_io("read", &path))?;
            self.console_logged = start + bytes.len() as u64;
        }
        let text = text_of(&bytes);
        if text.trim().is_empty() {
            return Ok(());
        }
        open_log(report)?
            .write_all(format!("--- console of the machine\n{}\n---\n", text.trim()).as_bytes())
            .map_err(Failure::step_io("write", report.log))
    }
}

impl Drop for BuildMachine {
    fn drop(&mut self) {
        end(&self.machine);
        if let Some(mut connection) = self.connection.take() {
            let _ = connection.kill();
            let _ = connection.wait();
        }
    }
}

/// Kills the QEMU of a machine of this process.
pub(in crate::builder) fn end(machine: &Machine) {
    // Not the user's: what follows is not to be given up.
    if let Ok(interrupt) = Interrupt::new()
        && let Ok(locked) = machine.lock(&crate::event::Silent, &interrupt)
    {
        let _ = locked.kill();
    }
}

/// The step's log, to append to.
pub(in crate::builder) fn open_log(report: &Report<'_>) -> Result<File, Failure> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(report.log)
        .map_err(Failure::step_io("open", report.log))
}

/// Progress of a machine as lines of the step.
struct Told<'a, 'b>(&'a Report<'b>);

impl Sink for Told<'_, '_> {
    fn emit(&self, event: Event) {
        let line = match event {
            Event::MachineWaiting { what, .. } => format!("boot: waiting for {what}"),
            Event::MachineReady { seconds, .. } => format!("boot: ready after {seconds:.1} s"),
            Event::Warning { message } | Event::Note { message } => message,
            _ => return,
        };
        (self.0.output)(&line);
        if let Ok(mut log) = open_log(self.0) {
            let _ = writeln!(log, "{line}");
        }
    }
}
