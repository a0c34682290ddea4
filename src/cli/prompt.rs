//! Questions to a user at a terminal.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::output::printable;
use crate::failure::Failure;
use crate::host::Interrupt;

/// No answer is longer, in bytes.
const LONGEST: usize = 64 << 10;

/// Asks for a line; `None` where there is no terminal.
pub(super) fn line(question: &str, interrupt: &Interrupt) -> Result<Option<String>, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    ask(question, interrupt).map(Some)
}

/// Asks for a line that is not shown; `None` where there is no terminal.
pub(super) fn secret(question: &str, interrupt: &Interrupt) -> Result<Option<String>, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let hidden = Hidden::new().map_err(failed)?;
    let answer = ask(question, interrupt);
    drop(hidden);
    // The user's own end of the line was not shown.
    let _ = io::stderr().write_all(b"\n");
    answer.map(Some)
}

/// All of standard input, without the end of its last line.
pub(super) fn standard_input(interrupt: &Interrupt) -> Result<String, Failure> {
    let mut text = read(interrupt, |_| false)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn ask(question: &str, interrupt: &Interrupt) -> Result<String, Failure> {
    let mut terminal = io::stderr();
    // Recipes of others have a say in it.
    let question = printable(question, false);
    let shown = terminal.write_all(question.as_bytes());
    shown.and_then(|()| terminal.flush()).map_err(failed)?;
    let line = read(interrupt, |text| text.ends_with(b"\n"))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Reads until it is enough, until the end, or until the user gives up.
fn read(interrupt: &Interrupt, enough: impl Fn(&[u8]) -> bool) -> Result<String, Failure> {
    let stdin = io::stdin();
    let mut text = Vec::new();
    while !enough(&text) {
        let mut fds = [
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(interrupt.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(error.into())),
        }
        if interrupt.requested() {
            return Err(Failure::interrupted());
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(stdin.as_fd(), &mut buffer) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if text.len() > LONGEST {
            return Err(Failure::usage("the answer is too long"));
        }
    }
    String::from_utf8(text).map_err(|_| Failure::usage("the answer is not text"))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::failed(format!("no answer: {error}"))
}
