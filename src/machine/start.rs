//! Starting a machine and waiting until it can be entered.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{debug, info_span};

use super::console::{Verdict, Watcher, last_lines};
use super::directory::files;
use super::error::{MachineError, NotReady, io_error};
use super::launch::Qemu;
use super::ready::{Attempt, Attempts};
use super::state::State;
use super::{Locked, Machine};
use crate::event::{Event, Sink};
use crate::host::process::End;
use crate::host::{Interrupt, Program, require};
use crate::image::ImageConfig;
use crate::qemu::qmp::Status;
use crate::qemu::{Accel, AccelChoice, ProbeFile, kvm_failed};
use crate::store::Store;

/// A guest under hardware acceleration that has written nothing to its console after this time is
/// taken for one that will not. A kernel writes within a second.
const SILENCE: Duration = Duration::from_secs(15);
/// How often things are looked at that nobody reports.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// How often QEMU is asked about its guest.
pub(super) const ASK: Duration = Duration::from_secs(1);
/// How often a port that was free a moment ago may turn out to be taken.
const PORT_TRIES: u32 = 5;
/// Lines of the console that errors show.
const TAIL: usize = 20;

/// What starting needs.
pub struct Startup<'a> {
    /// The image below the machine's overlay.
    pub image: &'a ImageConfig,
    /// Where it is.
    pub store: &'a Store,
    /// Where progress goes.
    pub sink: &'a dyn Sink,
    /// Tells when the user gave up.
    pub interrupt: &'a Interrupt,
    /// What is waited for.
    pub until: Until,
    /// How long that may take.
    pub timeout: Duration,
}

/// How far a machine has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The guest wrote the first byte to its console.
    Console,
    /// A command over SSH succeeded.
    Entered,
    /// The same, and the health check of its service if it has one; or the init of vmfab's own says
    /// that its process is ready.
    Ssh,
    /// The process of its service ended with code 0.
    Completed,
}

/// A machine that has come so far as it was waited for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ready {
    /// Seconds from the start of the (last) QEMU.
    pub seconds: f64,
    /// What runs its instructions.
    pub accel: Accel,
}

/// How waiting for a QEMU ended.
enum Outcome {
    Ready,
    AccelFailed(String),
    PortTaken,
    NotReady(NotReady),
}

impl Startup<'_> {
    /// Starts a stopped machine and waits for it. While it waits the machine is not locked, so that
    /// others can stop it.
    ///
    /// # Errors
    /// It runs already, QEMU cannot be started, or the machine does not come so far. In the last
    /// case, and when the user gives up, the machine is left as it is.
    pub fn run(&self, locked: Locked) -> Result<Ready, MachineError> {
        let machine = locked.machine.clone();
        let _span = info_span!("machine", name = %machine.name).entered();
        let program = require(Program::QemuSystem)?;
        require(Program::Ssh)?;
        let config = machine.config()?;
        let probe = ProbeFile::new(&machine.machines.probes, &program)
            .map_err(io_error("read", &program))?;
        let mut saved = machine.saved_memory()?;
        let mut accel = match &saved {
            Some(saved) => saved.accel,
            None => config.accel.first(probe.failed())?,
        };
        let mut port_tries = 0;
        let mut failure: Option<String> = None;
        let mut locked = Some(locked);
        loop {
            let held = match locked.take() {
                Some(held) => held,
                None => machine.lock(self.sink, self.interrupt)?,
            };
            self.waiting(&machine, "qemu");
            let started = Instant::now();
            let mut qemu = held.launch(&program, accel, saved.take().is_some(), self)?;
            if let Some(ready) = self.resumed(&held, &mut qemu, started)? {
                return Ok(ready);
            }
            drop(held);
            // A guest that speaks under TCG shows that it was not its fault. Without the memory the
            // next machine is only started later.
            let spoke = || {
                if let Some(why) = &failure {
                    let _ = probe.remember(why);
                }
            };
            match self.wait(&machine, &mut qemu, started, &spoke)? {
                Outcome::Ready => return Ok(self.ready(&machine, started, accel)),
                Outcome::PortTaken if port_tries < PORT_TRIES => port_tries += 1,
                Outcome::AccelFailed(why) if config.accel == AccelChoice::Auto => {
                    self.sink.emit(Event::Warning {
                        message: format!(
                            "{} does not work on this host ({why}); starting \"{}\" again without \
                             it, which is slower",
                            accel.name().to_uppercase(),
                            machine.name
                        ),
                    });
                    end(&mut qemu);
                    failure = Some(why);
                    accel = Accel::Tcg;
                }
                Outcome::AccelFailed(why) => {
                    end(&mut qemu);
                    return Err(MachineError::AccelFailed { accel, why });
                }
                Outcome::PortTaken => return Err(ended(&machine, &mut qemu)),
                Outcome::NotReady(why) => return Err(not_ready(&machine, why)?),
            }
        }
    }

    /// Gives a QEMU that waits for it the memory of a suspended machine; tells when that is all.
    fn resumed(
        &self,
        held: &Locked,
        qemu: &mut Qemu,
        started: Instant,
    ) -> Result<Option<Ready>, MachineError> {
        if !qemu.has_saved {
            return Ok(None);
        }
        self.waiting(&held.machine, "memory");
        if let Err(error) = held.go_on_from(qemu, self.interrupt) {
            // Once the file is gone, only QEMU has the memory: it stays, halted.
            if Machine::has_memory(&held.machine.directory) {
                end(qemu);
            }
            return Err(error);
        }
        // The console of a guest that went on need not write anything.
        let entered = self.until != Until::Console && !held.machine.claims_own_init()?;
        Ok((!entered).then(|| self.ready(&held.machine, started, qemu.accel)))
    }

    fn ready(&self, machine: &Machine, started: Instant, accel: Accel) -> Ready {
        let seconds = started.elapsed().as_secs_f64();
        self.sink.emit(Event::MachineReady {
            machine: machine.name.to_string(),
            seconds,
        });
        Ready { seconds, accel }
    }

    pub(super) fn waiting(&self, machine: &Machine, what: &str) {
        debug!(what, "waiting");
        self.sink.emit(Event::MachineWaiting {
            machine: machine.name.to_string(),
            what: what.to_owned(),
        });
    }

    fn wait(
        &self,
        machine: &Machine,
        qemu: &mut Qemu,
        started: Instant,
        at_first_byte: &dyn Fn(),
    ) -> Result<Outcome, MachineError> {
        let log = machine.console_log();
        let mut console = Watcher::new(&log).map_err(io_error("open", &log))?;
        let mut attempts = self.attempts(machine)?;
        let mut asked = Instant::now();
        let mut spoke = qemu.has_saved;
        // A boot loader says nothing before it was read.
        let may_be_silent = machine.reads_to_start()?;
        self.waiting(machine, "console");
        loop {
            let ended = self.pause(qemu)?;
            if self.interrupt.requested() {
                return Err(MachineError::Interrupted {
                    running: Some(machine.name.clone()),
                });
            }
            console.look().map_err(io_error("read", &log))?;
            if ended {
                return after_the_end(machine, qemu, console.spoke());
            }
            if console.panicked() {
                return Ok(Outcome::NotReady(NotReady::Panic));
            }
            if let (Some(verdict), Until::Ssh) = (console.verdict(), self.until) {
                at_first_byte();
                let given = !machine.config()?.first_boot.is_empty();
                return Ok(match verdict {
                    Verdict::Ready if given => Outcome::NotReady(NotReady::OwnInit),
                    Verdict::Ready => Outcome::Ready,
                    Verdict::Unhealthy => Outcome::NotReady(NotReady::Unhealthy),
                });
            }
            if console.spoke() && !spoke {
                at_first_byte();
                if self.until == Until::Console {
                    return Ok(Outcome::Ready);
                }
                spoke = true;
                self.waiting(machine, "ssh");
            }
            let silent = !spoke && !may_be_silent && started.elapsed() > SILENCE;
            if qemu.accel != Accel::Tcg && silent {
                return Ok(Outcome::AccelFailed(format!(
                    "the guest printed nothing for {} s",
                    SILENCE.as_secs()
                )));
            }
            if asked.elapsed() > ASK {
                asked = Instant::now();
                let state = machine.state()?;
                machine.check_goes_on_in(state)?;
                if qemu.accel != Accel::Tcg
                    && let Some(why) = accel_failure(machine, state)
                {
                    return Ok(Outcome::AccelFailed(why));
                }
            }
            // From the beginning: QEMU's network asks a guest that does not answer yet after ever
            // longer pauses, and who comes later hears of it later.
            if self.until != Until::Console {
                match attempts.look()? {
                    Attempt::Entered => return Ok(Outcome::Ready),
                    Attempt::Refused => return Ok(Outcome::NotReady(NotReady::HostKeyChanged)),
                    Attempt::Unhealthy => return Ok(Outcome::NotReady(self.refusal())),
                    Attempt::Lacks => return Ok(Outcome::NotReady(NotReady::Lacks)),
                    Attempt::Inside => self.waiting(machine, self.awaited()),
                    Attempt::NotYet => {}
                }
            }
            if started.elapsed() > self.timeout {
                let seconds = self.timeout.as_secs();
                return Ok(Outcome::NotReady(NotReady::TimedOut(seconds)));
            }
        }
    }

    pub(super) fn attempts(&self, machine: &Machine) -> Result<Attempts, MachineError> {
        Attempts::new(
            require(Program::Ssh)?,
            machine.directory.clone(),
            machine.ssh(None)?,
            self.question(&machine.config()?),
            machine.directory.join(files::SSH_LOG),
        )
    }

    /// Waits for the next tick, or the end of QEMU, or the user; tells whether QEMU has ended.
    fn pause(&self, qemu: &mut Qemu) -> Result<bool, MachineError> {
        let timeout = Timespec::try_from(TICK).ok();
        let mut fds = [
            PollFd::new(&qemu.pidfd, PollFlags::IN),
            PollFd::new(self.interrupt, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!fds[0].revents().is_empty()),
            Err(error) => Err(io_error("wait for", &PathBuf::from("QEMU"))(error.into())),
        }
    }
}

/// Ends a QEMU whose guest never ran.
fn end(qemu: &mut Qemu) {
    let _ = qemu.child.kill();
    let _ = qemu.child.wait();
    qemu.end_servers();
}

/// What a running QEMU shows of a failure of its acceleration.
fn accel_failure(machine: &Machine, state: State) -> Option<String> {
    if let State::Running {
        status: Some(Status::InternalError),
        ..
    } = state
    {
        return Some("the guest died with an internal error".to_owned());
    }
    let printed = qemu_lines(machine);
    printed
        .into_iter()
        .find(|line| line.contains("KVM internal error"))
}

fn qemu_lines(machine: &Machine) -> Vec<String> {
    last_lines(&machine.qemu_log(), TAIL)
}

/// Why QEMU ended.
fn after_the_end(machine: &Machine, qemu: &mut Qemu, spoke: bool) -> Result<Outcome, MachineError> {
    let status = reap(machine, qemu)?;
    let printed = qemu_lines(machine);
    let ports = machine.config()?.ports;
    let movable = ports.iter().filter(|port| port.from_image);
    let movable = movable.map(|port| (port.protocol.name(), port.host));
    let mut movable = movable.chain([("tcp", qemu.ssh_port)]);
    let taken = movable.any(|(protocol, port)| {
        let rule = format!("Could not set up host forwarding rule '{protocol}:127.0.0.1:{port}-");
        printed.iter().any(|line| line.contains(&rule))
    });
    if taken {
        return Ok(Outcome::PortTaken);
    }
    if qemu.accel != Accel::Tcg {
        let line = printed.iter().find(|line| kvm_failed(line));
        if let Some(line) = line {
            return Ok(Outcome::AccelFailed(line.clone()));
        }
        if let (Some(signal), false) = (status.signal(), spoke) {
            return Ok(Outcome::AccelFailed(format!(
                "QEMU was killed by signal {signal}"
            )));
        }
    }
    match (status.success(), spoke) {
        (true, _) => Ok(Outcome::NotReady(NotReady::PoweredOff)),
        (false, true) => Ok(Outcome::NotReady(NotReady::QemuDied)),
        (false, false) => Err(ended(machine, qemu)),
    }
}

fn reap(machine: &Machine, qemu: &mut Qemu) -> Result<ExitStatus, MachineError> {
    qemu.end_servers();
    qemu.child
        .wait()
        .map_err(io_error("wait for QEMU of", &machine.directory))
}

/// The error for a QEMU that ended before its guest did anything.
fn ended(machine: &Machine, qemu: &mut Qemu) -> MachineError {
    match reap(machine, qemu) {
        Ok(status) => MachineError::Qemu {
            how: End::Exited(status).describe(),
            tail: qemu_lines(machine),
        },
        Err(error) => error,
    }
}

pub(super) fn not_ready(machine: &Machine, why: NotReady) -> Result<MachineError, MachineError> {
    let mut console = last_lines(&machine.console_log(), TAIL);
    if why == NotReady::QemuDied {
        console.extend(qemu_lines(machine));
    }
    let ssh = last_lines(&machine.directory.join(files::SSH_LOG), 1).pop();
    Ok(MachineError::NotReady {
        name: machine.name.clone(),
        why,
        console,
        ssh,
        running: !machine.state()?.is_off(),
    })
}
