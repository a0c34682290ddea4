//! Running a command in a machine: by the guest's agent where there is one, else over SSH.

use std::io::Read;
use std::process::Command;

use super::super::Context;
use super::enter::{SshOptions, shell_words, ssh};
use super::find_machine;
use crate::checked::AccountName;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::qemu::agent::{Ended, MOST};

/// By what a command gets into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// By its agent, when it has one and the command needs no terminal and no input.
    #[default]
    Auto,
    Agent,
    Ssh,
}

/// How a command is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// The account; the image's when absent.
    pub user: Option<AccountName>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Whether it gets this process's standard input.
    pub input: bool,
    pub way: Way,
}

/// A command in a machine.
#[derive(Debug)]
pub enum Exec {
    /// A session that is ready to be started.
    Session(Command),
    /// It has ended.
    Ended(Ended),
}

/// Runs a command in a running machine, or gets a session ready that runs it. Its words reach it
/// as they are.
///
/// # Errors
/// There is no such machine, it is stopped or paused, or it has neither agent nor SSH server.
pub fn exec(
    context: &Context,
    name: &str,
    options: &ExecOptions,
    command: &[String],
) -> Result<Exec, Failure> {
    let machine = find_machine(context, name)?;
    machine.check_started()?;
    machine.check_goes_on()?;
    let agent = match options.way {
        Way::Ssh => None,
        Way::Auto if options.terminal || options.input => None,
        Way::Auto => machine.agent()?,
        Way::Agent => Some(machine.agent()?.ok_or_else(|| no_agent(&machine))?),
    };
    if let Some(mut agent) = agent {
        let command = as_user(&machine, options, command)?;
        let input = options.input.then(input).transpose()?;
        let ended = agent.run(&command, input.as_deref(), |pause| {
            std::thread::sleep(pause);
            !context.interrupt.requested()
        });
        return match ended {
            Ok(ended) => Ok(Exec::Ended(ended)),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                Err(Failure::interrupted_with(format!(
                    "the command goes on in machine \"{}\"",
                    machine.name()
                )))
            }
            Err(error) => Err(Failure::failed(format!(
                "the agent of machine \"{}\" cannot run {:?}: {error}",
                machine.name(),
                command.first().map_or("", String::as_str)
            ))),
        };
    }
    let session_options = SshOptions {
        user: options.user.clone(),
        terminal: options.terminal,
        accept_new_host_key: false,
    };
    let mut session = ssh(&machine, &session_options, &[shell_words(command)])?;
    if !options.input && !options.terminal {
        session.stdin(std::process::Stdio::null());
    }
    Ok(Exec::Session(session))
}

fn no_agent(machine: &Machine) -> Failure {
    Failure::failed(format!(
        "no guest agent runs in machine \"{}\"",
        machine.name()
    ))
    .with_help(
        "add the package qemu-guest-agent to the image, or leave out --agent: vmfab then uses SSH",
    )
}

/// The agent runs commands as root; `su` runs them as another account.
fn as_user(
    machine: &Machine,
    options: &ExecOptions,
    command: &[String],
) -> Result<Vec<String>, Failure> {
    let user = match &options.user {
        Some(user) => user.clone(),
        None => machine.config()?.ssh_user,
    };
    if *user == *"root" {
        return Ok(command.to_vec());
    }
    let su = ["su", "-", &user, "-c", &shell_words(command)];
    Ok(su.map(str::to_owned).to_vec())
}

/// All of standard input: the agent takes it before it starts the command.
fn input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MOST as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(Failure::io("read", "standard input".as_ref()))?;
    match bytes.len() > MOST {
        true => Err(Failure::usage(format!(
            "the guest agent takes at most {} MiB of input",
            MOST >> 20
        ))
        .with_help("leave out --agent: vmfab then uses SSH")),
        false => Ok(bytes),
    }
}
