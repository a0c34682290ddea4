//! Whether a machine can be entered: one `ssh` after the other, until one succeeds. Where the image
//! has a service with a health check, each runs the guest's program that tells how that is.
//!
//! There is one attempt at a time, and it is patient: QEMU's network takes connections before the
//! guest does, and many short attempts can all miss the moment.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::console::{Verdict, Watcher};
use super::error::{MachineError, NotReady, io_error};
use super::start::{ASK, Startup, TICK, Until, not_ready};
use super::{Machine, MachineConfig};
use crate::guest::{Ssh, host_key_changed};
use crate::host::{Program, bare_command};
use crate::image::{FirstBoot, HEALTH_FAILED, HEALTH_READY, HEALTH_STARTING, Mounted, Seed};

/// How long one attempt waits for the server's answer, in seconds.
const PATIENCE: u32 = 20;
/// The most that is read of what one attempt said, in bytes.
const MOST: u64 = 64 << 10;
/// Between the end of an attempt and the next one.
const PAUSE: Duration = Duration::from_millis(100);
/// The same when the last one got in: it costs the guest something.
const HEALTH_PAUSE: Duration = Duration::from_secs(1);

/// What the question exits with when the guest lacks something that it was given: neither a code of
/// `ssh` nor of a health check.
const LACKS: i32 = 66;
/// How often that may be before it counts: a guest may be entered before it has mounted everything.
const LACKS_TRIES: u32 = 5;

/// Tells, as [`HEALTH_READY`] does, whether the process of a service has ended with code 0.
const ENDED: &str = include_str!("ready/ended.sh");

impl Startup<'_> {
    /// What the guest is asked once it can be entered.
    pub(super) fn question(&self, config: &MachineConfig) -> Question {
        let service = match self.until {
            Until::Ssh if self.image.template.health => Some(HEALTH_READY),
            Until::Completed => Some(ENDED),
            Until::Console | Until::Entered | Until::Ssh => None,
        };
        let by_9p = Program::Virtiofsd.find().is_none();
        let mounts = config.mounts.iter().map(|mount| Check {
            test: format!("grep -qF \" {} \" /proc/mounts", mount.at),
            otherwise: match &mount.what {
                Mounted::Share(_) if by_9p => format!(
                    "nothing is mounted at {}: the guest lacks 9p, and this host virtiofsd",
                    mount.at
                ),
                _ => format!("nothing is mounted at {}", mount.at),
            },
        });
        let mut checks: Vec<Check> = mounts.collect();
        // With other seeds, a login alone shows that cloud-init ran: it installs the key.
        if config.seed == Seed::Credentials {
            let FirstBoot {
                password,
                cloud_init,
                ignition,
                registries: _,
            } = &config.first_boot;
            checks.extend(password.iter().map(|_| Check {
                test: "test -e /var/lib/vmfab/password".to_owned(),
                otherwise: "the password is not set".to_owned(),
            }));
            checks.extend(cloud_init.iter().map(|_| Check {
                test: "test -e /usr/bin/cloud-init || test -e /usr/sbin/tiny-cloud".to_owned(),
                otherwise: "cloud-init is not installed".to_owned(),
            }));
            // Ignition 2.14 and later leave it behind.
            let ignition = ignition
                .as_ref()
                .or(self.image.template.boot.ignition.as_ref());
            checks.extend(ignition.map(|_| Check {
                test: "test -e /etc/.ignition-result.json".to_owned(),
                otherwise: "Ignition did not run".to_owned(),
            }));
        }
        Question { checks, service }
    }

    /// What is waited for while the answer is not known.
    pub(super) fn awaited(&self) -> &'static str {
        match self.until {
            Until::Completed => "end of its process",
            _ => "health check",
        }
    }

    /// What the answer no means.
    pub(super) fn refusal(&self) -> NotReady {
        match self.until {
            Until::Completed => NotReady::ProcessFailed,
            _ => NotReady::Unhealthy,
        }
    }

    /// Waits for a machine that somebody else started.
    ///
    /// # Errors
    /// It does not come so far, or the user gave up. It is left as it is.
    pub fn wait_for(&self, machine: &Machine) -> Result<(), MachineError> {
        if self.until == Until::Console {
            return Ok(());
        }
        let log = machine.console_log();
        let mut console = Watcher::new(&log).map_err(io_error("open", &log))?;
        let mut attempts = self.attempts(machine)?;
        let started = Instant::now();
        let mut asked = started;
        self.waiting(machine, "ssh");
        loop {
            console.look().map_err(io_error("read", &log))?;
            match console.verdict() {
                Some(Verdict::Ready) => return Ok(()),
                Some(Verdict::Unhealthy) => {
                    return Err(not_ready(machine, NotReady::Unhealthy)?);
                }
                None => {}
            }
            match attempts.look()? {
                Attempt::Entered => return Ok(()),
                Attempt::Refused => return Err(machine.host_key_changed()),
                Attempt::Unhealthy => return Err(not_ready(machine, self.refusal())?),
                Attempt::Lacks => {
                    return Err(not_ready(machine, NotReady::Lacks)?);
                }
                Attempt::Inside => self.waiting(machine, self.awaited()),
                Attempt::NotYet => {}
            }
            if self.interrupt.requested() {
                return Err(MachineError::Interrupted {
                    running: Some(machine.name().clone()),
                });
            }
            if asked.elapsed() > ASK {
                asked = Instant::now();
                machine.check_goes_on()?;
                if machine.state()?.is_off() {
                    return Err(not_ready(machine, NotReady::PoweredOff)?);
                }
            }
            if started.elapsed() > self.timeout {
                let why = NotReady::TimedOut(self.timeout.as_secs());
                return Err(not_ready(machine, why)?);
            }
            std::thread::sleep(TICK);
        }
    }
}

/// Something that a guest was given and must have.
struct Check {
    /// A command of the shell, without single quotes.
    test: String,
    /// The message when it fails.
    otherwise: String,
}

/// What a guest is asked.
pub(super) struct Question {
    checks: Vec<Check>,
    /// The command that tells how its service is.
    service: Option<&'static str>,
}

impl Question {
    /// A command for whatever shell the account has.
    fn command(&self) -> String {
        let service = self.service.unwrap_or("true");
        if self.checks.is_empty() {
            return service.to_owned();
        }
        let checks = self.checks.iter().map(|Check { test, otherwise }| {
            format!("{test} || {{ echo {otherwise} >&2; exit {LACKS}; }}; ")
        });
        let checks: String = checks.collect();
        format!("sh -c '{checks}' && {service}")
    }
}

/// Attempts to enter a machine.
pub(super) struct Attempts {
    program: PathBuf,
    directory: PathBuf,
    ssh: Ssh,
    question: Question,
    /// How often it lacked something.
    lacks: u32,
    /// Whether one got in.
    inside: bool,
    log: PathBuf,
    /// What all attempts said.
    said: File,
    /// How much of it earlier attempts said.
    before: u64,
    current: Option<Child>,
    next: Instant,
}

/// What has become of the attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// None has succeeded, and the next one may.
    NotYet,
    /// One got in for the first time, and the service is not healthy yet.
    Inside,
    /// One has succeeded.
    Entered,
    /// None will succeed soon: the service is not healthy.
    Unhealthy,
    /// None will succeed: the guest lacks something that it was given.
    Lacks,
    /// None will succeed: it has another host key than the one that is known.
    Refused,
}

impl Attempts {
    pub(super) fn new(
        program: PathBuf,
        directory: PathBuf,
        ssh: Ssh,
        question: Question,
        log: PathBuf,
    ) -> Result<Self, MachineError> {
        let said = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&log)
            .and_then(|said| said.set_len(0).map(|()| said))
            .map_err(io_error("create", &log))?;
        Ok(Self {
            program,
            directory,
            ssh,
            question,
            lacks: 0,
            inside: false,
            log,
            said,
            before: 0,
            current: None,
            next: Instant::now(),
        })
    }

    /// Looks after the current attempt, or begins one.
    pub(super) fn look(&mut self) -> Result<Attempt, MachineError> {
        match &mut self.current {
            Some(child) => {
                let ended = child
                    .try_wait()
                    .map_err(io_error("wait for", &self.program))?;
                if let Some(status) = ended {
                    self.current = None;
                    self.next = Instant::now() + PAUSE;
                    return self.ended(status);
                }
            }
            None if Instant::now() >= self.next => {
                let command = self.question.command();
                let said = self.said.try_clone().map_err(io_error("open", &self.log))?;
                let child = bare_command(&self.program)
                    .args(self.ssh.check_arguments(PATIENCE, &command))
                    .current_dir(&self.directory)
                    .process_group(0)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(said)
                    .spawn();
                self.current = Some(child.map_err(io_error("start", &self.program))?);
            }
            None => {}
        }
        Ok(Attempt::NotYet)
    }

    fn ended(&mut self, status: ExitStatus) -> Result<Attempt, MachineError> {
        if status.success() {
            return Ok(Attempt::Entered);
        }
        match status.code() {
            Some(LACKS) if !self.question.checks.is_empty() => {
                self.lacks += 1;
                self.next = Instant::now() + HEALTH_PAUSE;
                return Ok(match self.lacks < LACKS_TRIES {
                    true => Attempt::NotYet,
                    false => Attempt::Lacks,
                });
            }
            Some(HEALTH_FAILED) if self.question.service.is_some() => {
                return Ok(Attempt::Unhealthy);
            }
            Some(HEALTH_STARTING) if self.question.service.is_some() => {
                let first = !std::mem::replace(&mut self.inside, true);
                self.next = Instant::now() + HEALTH_PAUSE;
                return Ok(if first {
                    Attempt::Inside
                } else {
                    Attempt::NotYet
                });
            }
            _ => {}
        }
        let mut bytes = Vec::new();
        self.said
            .seek(SeekFrom::Start(self.before))
            .and_then(|_| (&self.said).take(MOST).read_to_end(&mut bytes))
            .map_err(io_error("read", &self.log))?;
        self.before += bytes.len() as u64;
        Ok(match host_key_changed(&String::from_utf8_lossy(&bytes)) {
            true => Attempt::Refused,
            false => Attempt::NotYet,
        })
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        if let Some(mut child) = self.current.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
