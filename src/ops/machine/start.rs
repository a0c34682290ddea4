//! Starting a machine that was stopped.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::{Context, images, lazy};
use super::admission::admit;
use super::clone::{remote_shell, renew_identity};
use super::find_machine;
use super::list::{SshAddress, address};
use super::network::join_network;
use super::ssh_config::refresh_ssh_config;
use crate::audit::Deed;
use crate::builder::guest::as_root;
use crate::digest::ObjectId;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::machine::{Locked, Machine, MachineName, Promise, Startup, State, Until};

/// How long a suspended machine may take to continue.
const RESUME: Duration = Duration::from_secs(300);

/// How to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOptions {
    /// What is waited for.
    pub until: Until,
    /// How long.
    pub timeout: Duration,
}

/// A machine that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Started {
    pub name: MachineName,
    /// Where its SSH server is reached.
    pub ssh: SshAddress,
    /// Whether it was running already.
    pub was_running: bool,
    /// Whether it was halted, and goes on.
    pub resumed: bool,
    /// Seconds from its start until it was ready; nothing when it was running already.
    pub seconds: Option<f64>,
    /// Whether it can be entered.
    #[serde(skip)]
    pub has_ssh: bool,
}

/// Starts a machine and waits until it is ready. One that runs already is left alone; one that is
/// halted goes on, when it can.
///
/// # Errors
/// There is no such machine, its image is gone, or it does not get ready.
pub fn start(context: &Context, name: &str, options: StartOptions) -> Result<Started, Failure> {
    start_machine(context, &find_machine(context, name)?, options, |_| Ok(()))
}

/// Waits until a machine that runs is ready.
///
/// # Errors
/// It does not get ready.
pub fn wait_for(
    context: &Context,
    machine: &Machine,
    options: StartOptions,
) -> Result<(), Failure> {
    let store = context.store()?;
    let image = images::find(context, &machine.config()?.image.to_string())?;
    let startup = Startup {
        image: &image.config,
        store: &store,
        sink: context.sink.as_ref(),
        interrupt: &context.interrupt,
        until: options.until,
        timeout: options.timeout,
    };
    Ok(startup.wait_for(machine)?)
}

/// Starts a machine after `prepare` has had it: the machine is stopped then, and nobody else
/// changes it.
///
/// # Errors
/// See [`start`]; or `prepare` failed.
pub fn start_machine(
    context: &Context,
    machine: &Machine,
    options: StartOptions,
    prepare: impl FnOnce(&Locked) -> Result<(), Failure>,
) -> Result<Started, Failure> {
    start_again(context, machine, options, None, prepare)
}

/// The same for a machine that `had` this until now.
fn start_again(
    context: &Context,
    machine: &Machine,
    options: StartOptions,
    had: Option<Promise>,
    prepare: impl FnOnce(&Locked) -> Result<(), Failure>,
) -> Result<Started, Failure> {
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    if !machine.state()?.is_off() {
        let resumed = locked.resume()?;
        drop(locked);
        let how = if resumed {
            "resumed"
        } else {
            "is already running"
        };
        context.emit(Event::Note {
            message: format!("machine \"{}\" {how}", machine.name()),
        });
        if resumed {
            wait_for(context, machine, options)?;
        }
        return Ok(Started {
            name: machine.name().clone(),
            ssh: address(&machine.config()?),
            was_running: true,
            resumed,
            seconds: None,
            has_ssh: !machine.claims_own_init()?,
        });
    }
    prepare(&locked)?;
    let suspended = machine.state()? == State::Suspended;
    join_network(context, machine)?;
    let _admission = admit(context, machine, had)?;
    let store = context.store()?;
    let config = machine.config()?;
    let image = images::find(context, &config.image.to_string());
    let image = image.map_err(|error| match error.is(Kind::NotFound) {
        true => {
            let message = format!("machine \"{}\" has lost its image: {error}", machine.name());
            Failure::new(Kind::NotFound, message).with_help("vmfab doctor says what brings it back")
        }
        false => error,
    })?;
    lazy::check_offline(context, &image)?;
    record_start(context, machine, &image.image);
    let locked = match config.renew_identity {
        true => renew_identity(context, machine, locked, &store, &image.config, options)?,
        false => locked,
    };
    let ready = Startup {
        image: &image.config,
        store: &store,
        sink: context.sink.as_ref(),
        interrupt: &context.interrupt,
        until: options.until,
        timeout: options.timeout,
    }
    .run(locked);
    // The port may be another one.
    refresh_ssh_config(context);
    let ready = ready?;
    if suspended {
        set_clock(context, machine)?;
    }
    Ok(Started {
        name: machine.name().clone(),
        // The port may have been chosen anew.
        ssh: address(&machine.config()?),
        was_running: false,
        resumed: suspended,
        seconds: Some(ready.seconds),
        has_ssh: !machine.claims_own_init()?,
    })
}

/// Records a start before the guest runs: it stays recorded if this process is killed meanwhile.
pub(super) fn record_start(context: &Context, machine: &Machine, image: &ObjectId) {
    context.record(&Deed::MachineStarted {
        machine: machine.name().to_string(),
        image: image.to_string(),
    });
}

/// A machine that was to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resumed {
    pub name: MachineName,
    /// Whether it was halted; else it was running.
    pub was_halted: bool,
}

/// Lets a machine go on that is halted.
///
/// # Errors
/// It is stopped, or it cannot go on.
pub fn resume(context: &Context, machine: &Machine) -> Result<Resumed, Failure> {
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let was_halted = match machine.state()? {
        State::Suspended => {
            drop(locked);
            let options = StartOptions {
                until: Until::Console,
                timeout: RESUME,
            };
            start_machine(context, machine, options, |_| Ok(()))?;
            true
        }
        _ => locked.resume()?,
    };
    Ok(Resumed {
        name: machine.name().clone(),
        was_halted,
    })
}

/// A machine whose memory is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suspended {
    pub name: MachineName,
    /// Bytes that the memory takes.
    pub stored_size: u64,
    /// Whether QEMU ran it before; else it was suspended already.
    pub was_started: bool,
}

/// Writes the memory of a machine to a file and ends its QEMU.
///
/// # Errors
/// It is stopped, or has what cannot be saved.
pub fn suspend(context: &Context, machine: &Machine) -> Result<Suspended, Failure> {
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let suspended = locked.suspend(context.sink.as_ref(), &context.interrupt)?;
    Ok(Suspended {
        name: machine.name().clone(),
        stored_size: suspended.stored,
        was_started: suspended.had_qemu,
    })
}

/// Sets the clock of a guest that was suspended. What cannot be set is said.
fn set_clock(context: &Context, machine: &Machine) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let script = format!("date -s @{}", now.unwrap_or_default().as_secs());
    let done = match machine.agent()? {
        Some(mut agent) => {
            let command = ["/bin/sh", "-c", &script].map(str::to_owned);
            agent
                .run(&command, None, |pause| {
                    std::thread::sleep(pause);
                    !context.interrupt.requested()
                })
                .is_ok_and(|ended| ended.code == 0)
        }
        None if machine.claims_own_init()? || !machine.was_entered() => false,
        None => remote_shell(machine, &as_root(&script))?
            .output()
            .is_ok_and(|ran| ran.status.success()),
    };
    if !done {
        context.emit(Event::Warning {
            message: format!(
                "the clock of machine \"{}\" is late by the time that it was suspended: nothing \
                 in it lets vmfab set it",
                machine.name()
            ),
        });
    }
    Ok(())
}

/// A machine that is halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    pub name: MachineName,
    /// Whether it ran before; else it was halted already.
    pub was_running: bool,
}

/// Halts a machine.
///
/// # Errors
/// It is stopped, or its guest has ended.
pub fn pause(context: &Context, machine: &Machine) -> Result<Paused, Failure> {
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    Ok(Paused {
        name: machine.name().clone(),
        was_running: locked.pause()?,
    })
}

/// Stops a machine as [`stop_machine`](super::stop_machine) does, except that it stays, and starts
/// it again. One that is stopped is only started.
///
/// # Errors
/// See [`start`] and [`stop_machine`](super::stop_machine).
pub fn restart(
    context: &Context,
    machine: &Machine,
    timeout: Duration,
    options: StartOptions,
) -> Result<Started, Failure> {
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let had = Promise::running(std::slice::from_ref(machine));
    let had = had.into_iter().flatten().next();
    locked.stop(timeout, context.sink.as_ref(), &context.interrupt)?;
    drop(locked);
    start_again(context, machine, options, had, |_| Ok(()))
}
