//! `vmfab console`

use std::io::{self, Read, Write};
use std::net::Shutdown;

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::super::Status;
use super::super::error::standard_output;
use super::super::session::Session;
use crate::failure::Failure;
use crate::machine::{self, Machine};
use crate::ops::Context;
use crate::ops::machine::{self as operations, LogKind};

/// Ctrl-], which telnet and virsh have, too.
const ESCAPE: u8 = 0x1d;

/// Attach to the serial console of a machine
///
/// On a terminal, every key goes to the machine, including Ctrl-C. Ctrl-] detaches; the machine
/// keeps running. Without a terminal, connect standard input and output to the console until the
/// machine stops. Only one vmfab console can attach at a time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab console docker
  echo reboot | timeout 5 vmfab console docker")]
pub(crate) struct Console {
    /// Name of the machine
    name: String,
}

impl Console {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let machine = operations::find_machine(context, &self.name)?;
        attach(session, context, &machine, &machine.console()?, &[])
    }
}

/// Shows what a machine wrote so far and stays at its console.
pub(super) fn from_the_beginning(
    session: &Session,
    context: &Context,
    name: &str,
) -> Result<Status, Failure> {
    let machine = operations::find_machine(context, name)?;
    let console = machine.console()?;
    let mut logs = operations::logs(context, name, LogKind::Console)?;
    let mut so_far = Vec::new();
    loop {
        match logs.read()? {
            more if more.is_empty() => break,
            more => so_far.extend(more),
        }
    }
    attach(session, context, &machine, &console, &so_far)
}

/// Is at the console of a machine until the user or the machine leaves.
pub(super) fn attach(
    session: &Session,
    context: &Context,
    machine: &Machine,
    console: &machine::Console,
    so_far: &[u8],
) -> Result<Status, Failure> {
    let name = machine.name();
    let stdin = rustix::stdio::stdin();
    let terminal = rustix::termios::isatty(stdin);
    if terminal {
        session.note(&format!(
            "attached to the console of \"{name}\"; Ctrl-] detaches"
        ));
    }
    session.end_progress();
    let raw = terminal.then(RawTerminal::new).transpose();
    let raw = raw.map_err(|error| failed("the terminal", &error))?;
    show(so_far)?;
    let end = relay(context, console, terminal)?;
    drop(raw);
    match end {
        End::Left => {
            // The guest's line is not over, the shell's begins.
            show(b"\n")?;
            Ok(Status::Done)
        }
        End::Closed => {
            session.note(&format!("machine \"{name}\" stopped"));
            Ok(Status::Done)
        }
        End::Interrupted => Err(Failure::interrupted_with(format!(
            "machine \"{name}\" keeps running: vmfab stop {name} stops it"
        ))),
    }
}

/// Why one is no longer at the console.
enum End {
    Left,
    Closed,
    Interrupted,
}

fn relay(context: &Context, console: &machine::Console, escape: bool) -> Result<End, Failure> {
    let stdin = rustix::stdio::stdin();
    let mut stream = console.stream();
    let mut buffer = vec![0; 16 << 10];
    let mut input = true;
    loop {
        let mut fds = vec![
            PollFd::new(&context.interrupt, PollFlags::IN),
            PollFd::new(&stream, PollFlags::IN),
        ];
        if input {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed("the console", &error.into())),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            return Ok(End::Interrupted);
        }
        if ready[1] {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(End::Closed),
                Ok(count) => show(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(End::Closed);
                }
                Err(error) => return Err(failed("the console", &error)),
            }
        }
        if input && ready[2] {
            let count = rustix::io::read(stdin, &mut buffer)
                .map_err(|error| failed("standard input", &error.into()))?;
            let typed = &buffer[..count];
            let left = escape
                .then(|| typed.iter().position(|byte| *byte == ESCAPE))
                .flatten();
            match stream.write_all(&typed[..left.unwrap_or(count)]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Closed),
                Err(error) => return Err(failed("the console", &error)),
            }
            if left.is_some() {
                let _ = stream.shutdown(Shutdown::Both);
                return Ok(End::Left);
            }
            // What the machine writes is shown on, when there is nothing more to say.
            input = count > 0;
        }
    }
}

fn show(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| standard_output(&error))
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("{what} cannot be used: {error}"))
}

/// The terminal without echo, lines and signals, until it is dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn new() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.before);
    }
}
