//! Waiting until a machine has come as far as the user wants.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::Context;
use super::enter::{SshOptions, shell_words, ssh};
use super::start::{StartOptions, wait_for};
use crate::event::Event;
use crate::failure::Failure;
use crate::host::process;
use crate::machine::{Machine, MachineName, Until, watched};

/// In the guest: what is waited for, once a second.
const ASK: &str = include_str!("wait.sh");

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// A command over SSH succeeds.
    Ssh,
    /// A program in the guest listens on a TCP port.
    Port(u16),
    /// A service of its init system runs.
    Service(String),
    /// Its init system has started all that it starts at boot.
    Boot,
}

/// How a machine is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitOptions {
    pub awaited: Vec<Awaited>,
    /// How long, for all of it.
    pub timeout: Duration,
}

/// A machine that has come so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waited {
    pub name: MachineName,
    /// Seconds that were waited.
    pub seconds: f64,
}

impl Awaited {
    /// For messages: `SSH`, `port 80`.
    fn describe(&self) -> String {
        match self {
            Self::Ssh => "ssh".to_owned(),
            Self::Port(port) => format!("port {port}"),
            Self::Service(name) => format!("service {name}"),
            Self::Boot => "the end of its boot".to_owned(),
        }
    }

    /// The words for [`ASK`].
    fn words(&self) -> Option<[String; 2]> {
        let (kind, what) = match self {
            Self::Ssh => return None,
            // As the kernel writes it in /proc/net/tcp.
            Self::Port(port) => ("port", format!("{port:04X}")),
            Self::Service(name) => ("service", name.clone()),
            Self::Boot => ("boot", String::new()),
        };
        Some([kind.to_owned(), what])
    }
}

/// Waits until a machine that runs has come so far.
///
/// # Errors
/// It is stopped or paused, it shuts down, or it takes longer.
pub fn wait(
    context: &Context,
    machine: &Machine,
    options: &WaitOptions,
) -> Result<Waited, Failure> {
    let name = machine.name();
    machine.check_started()?;
    machine.check_goes_on()?;
    let started = Instant::now();
    let inside = StartOptions {
        until: Until::Entered,
        timeout: options.timeout,
    };
    wait_for(context, machine, inside)?;
    for awaited in &options.awaited {
        let Some(words) = awaited.words() else {
            continue;
        };
        context.emit(Event::MachineWaiting {
            machine: machine.name().to_string(),
            what: awaited.describe(),
        });
        let left = options.timeout.saturating_sub(started.elapsed());
        let seconds = left.as_secs().max(1).to_string();
        let script = [
            "sh".to_owned(),
            "-c".to_owned(),
            ASK.to_owned(),
            "sh".to_owned(),
            seconds,
        ];
        let command = shell_words(&[&script[..], &words[..]].concat());
        let mut ssh = ssh(machine, &SshOptions::default(), &[command])?;
        ssh.stdin(Stdio::null()).stdout(Stdio::null());
        let failed = |error| Failure::io("start", "ssh".as_ref())(error);
        let (status, trouble) = watched(machine, &context.interrupt, |stop| {
            ssh.spawn()
                .and_then(|mut child| process::wait(&mut child, stop))
        })
        .map_err(failed)?;
        if let Some(trouble) = trouble {
            return Err(trouble
                .error(machine, format!("waiting for {}", awaited.describe()))
                .into());
        }
        match status.map_err(failed)?.code() {
            Some(0) => {}
            Some(NEVER) => {
                return Err(Failure::failed(format!(
                    "machine \"{}\" has no {}",
                    machine.name(),
                    awaited.describe()
                )));
            }
            _ => {
                return Err(Failure::failed(format!(
                    "machine \"{}\" did not reach {} within {} s",
                    machine.name(),
                    awaited.describe(),
                    options.timeout.as_secs()
                ))
                .with_help(format!(
                    "it still runs: look at it with vmfab ssh {name}, or allow more with --timeout"
                )));
            }
        }
    }
    Ok(Waited {
        name: machine.name().clone(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// What [`ASK`] ends with when it waits in vain.
const NEVER: i32 = 3;
