//! Watching a machine while something waits for it: commands over SSH do not tell that their guest
//! is no more.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::console::{Watcher, last_lines};
use super::{Machine, MachineError};
use crate::host::Interrupt;

/// How often the machine is looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often QEMU is asked about its guest.
const ASK: Duration = Duration::from_secs(1);
/// How long a QEMU may take to end after its connections have.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// Lines of the console that errors show.
const TAIL: usize = 20;

/// Why waiting for a machine is in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The user gave up.
    Interrupted,
    /// The guest's kernel panicked.
    Panic,
    /// QEMU ended.
    Ended,
    /// QEMU halted the guest, because the host has no room for what it writes.
    DiskFull,
}

/// Does `work` with an interrupt that is requested when there is trouble, which is told.
///
/// # Errors
/// There are too many open files.
pub fn watched<T>(
    machine: &Machine,
    user: &Interrupt,
    work: impl FnOnce(&Interrupt) -> T,
) -> std::io::Result<(T, Option<Trouble>)> {
    let (stop, done) = (Interrupt::new()?, Interrupt::new()?);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let trouble = watch(machine, user, &done);
            if trouble.is_some() {
                stop.request();
            }
            trouble
        });
        let result = work(&stop);
        done.request();
        let trouble = watcher.join().unwrap_or_default();
        // A command may have failed because of what the watcher had no time to see.
        let trouble = trouble.or_else(|| look(machine));
        Ok((result, trouble))
    })
}

/// What was wrong when a session ended with the code that `ssh` has for a lost connection; nothing
/// when the machine is well.
#[must_use]
pub fn after_loss(machine: &Machine, user: &Interrupt) -> Option<Trouble> {
    let started = Instant::now();
    // The connection is closed before QEMU has ended.
    while started.elapsed() < LAST_MOMENT {
        let trouble = match user.requested() {
            true => Some(Trouble::Interrupted),
            false => look(machine),
        };
        if trouble.is_some() {
            return trouble;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Looks until there is trouble, or all is done.
fn watch(machine: &Machine, user: &Interrupt, done: &Interrupt) -> Option<Trouble> {
    let mut console = Watcher::new(&machine.console_log()).ok();
    let mut asked = Instant::now();
    let interval = Timespec::try_from(INTERVAL).ok();
    loop {
        let mut fds = [
            PollFd::new(user, PollFlags::IN),
            PollFd::new(done, PollFlags::IN),
        ];
        // A signal only makes the pause shorter.
        let _ = poll(&mut fds, interval.as_ref());
        if user.requested() {
            return Some(Trouble::Interrupted);
        }
        if done.requested() {
            return None;
        }
        let mut trouble = look_with(machine, console.as_mut());
        if trouble.is_none() && asked.elapsed() > ASK {
            trouble = halted(machine);
            asked = Instant::now();
        }
        if trouble.is_some() {
            return trouble;
        }
    }
}

/// Looks once.
fn look(machine: &Machine) -> Option<Trouble> {
    let console = Watcher::new(&machine.console_log());
    look_with(machine, console.ok().as_mut()).or_else(|| halted(machine))
}

/// Asks QEMU whether there was no room for what the guest writes.
fn halted(machine: &Machine) -> Option<Trouble> {
    let full = matches!(machine.check_goes_on(), Err(MachineError::DiskFull { .. }));
    full.then_some(Trouble::DiskFull)
}

/// Looks once, at what is new on the console. A guest that panicked may have ended its QEMU by
/// that.
fn look_with(machine: &Machine, console: Option<&mut Watcher>) -> Option<Trouble> {
    let ended = matches!(machine.has_qemu(), Ok(false));
    let panicked = console.is_some_and(|console| console.look().is_ok() && console.panicked());
    match (panicked, ended) {
        (true, _) => Some(Trouble::Panic),
        (false, true) => Some(Trouble::Ended),
        (false, false) => None,
    }
}

impl Trouble {
    /// The error for `command`, which waited.
    #[must_use]
    pub fn error(self, machine: &Machine, command: String) -> MachineError {
        let how = match self {
            Self::Interrupted => {
                return MachineError::Interrupted {
                    running: Some(machine.name.clone()),
                };
            }
            Self::DiskFull => return machine.disk_full(),
            Self::Panic => "did not end: the machine's kernel panicked",
            Self::Ended => "did not end: the machine shut down, or lost its QEMU",
        };
        let mut tail = last_lines(&machine.console_log(), TAIL);
        tail.extend(last_lines(&machine.qemu_log(), TAIL));
        MachineError::Command {
            command,
            how: how.to_owned(),
            tail,
        }
    }
}
