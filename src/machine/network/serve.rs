//! The process at the other end of a machine's network card: vmfab itself, started with
//! [`NETWORK_ARGUMENT`] in the machine's directory. It takes the one connection of the machine's QEMU
//! and ends with it.
//!
//! | arguments | what it does |
//! |---|---|
//! | `SOCKET switch DIRECTORY NUMBER` | passes frames on to the other machines of a private network |
//! | `SOCKET run PROGRAM …` | becomes a program that has the connection as the file of number 9 |
//!
//! There is no switch that all machines share, and so none that has to be there before the first and
//! after the last of them. The hardware address of a card tells the number of its machine, which is
//! the name of a socket: a frame goes straight there, or to all sockets when it is for all.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, SocketAddrUnix, sendto};

use super::super::directory::files;
use super::super::server::Server;
use super::super::{Machine, MachineError};
use super::NETWORK;
use crate::failure::Failure;
use crate::host::this_program;

/// The first argument of the process.
pub const NETWORK_ARGUMENT: &str = "__network";
/// The file that a program which is run has the connection as.
pub(super) const CONNECTION: i32 = 9;
/// How long QEMU may take until it connects, in seconds: it does so before its guest runs.
const PATIENCE: i64 = 60;
/// How long a machine that takes no frames is waited for. Longer than one that runs needs for those
/// before, and short enough for all others.
const FULL: Duration = Duration::from_millis(10);
/// QEMU sends no longer frames (`NET_BUFSIZE`).
const LONGEST: usize = 4096 + 65536;

/// Starts the process that passes on the frames of a machine of a private network.
pub(in crate::machine) fn switch(machine: &Machine, number: u16) -> Result<Child, MachineError> {
    let directory = machine.machines().network();
    let words: [OsString; 3] = ["switch".into(), directory.into(), number.to_string().into()];
    serve(machine, files::GROUP_SOCKET, &words, "the private network")
}

/// Starts the process with what comes behind the name of the socket. `what` is for errors.
pub(super) fn serve(
    machine: &Machine,
    socket: &str,
    words: &[OsString],
    what: &str,
) -> Result<Child, MachineError> {
    let program = this_program()?;
    let log = socket.replace(".sock", ".log");
    let server = Server {
        program: &program,
        socket,
        log: &log,
        inherits: false,
    };
    let arguments = [NETWORK_ARGUMENT.into(), socket.into()];
    let arguments = arguments.into_iter().chain(words.iter().cloned());
    server.start(machine, arguments, |tail| {
        Failure::failed(format!("{what} does not start"))
            .with_output(tail)
            .into()
    })
}

/// The whole process.
#[must_use]
pub fn network_main(arguments: &[OsString]) -> ExitCode {
    match main(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn main(arguments: &[OsString]) -> io::Result<()> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "this is for vmfab alone");
    let (socket, rest) = arguments.split_first().ok_or_else(wrong)?;
    let listener = UnixListener::bind(socket)?;
    let connected = |listener: &UnixListener| -> io::Result<Option<UnixStream>> {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&patience))? {
            0 => Ok(None),
            _ => Ok(Some(listener.accept()?.0)),
        }
    };
    match rest {
        [what, directory, number] if what == "switch" => {
            let number = number.to_str().and_then(|number| number.parse().ok());
            let number = number.ok_or_else(wrong)?;
            // Before QEMU connects: others may send from then on.
            std::env::set_current_dir(directory)?;
            let port = Port::open(number)?;
            match connected(&listener)? {
                Some(qemu) => port.pass_on(&qemu),
                None => Ok(()),
            }
        }
        [what, program, words @ ..] if what == "run" => {
            let Some(qemu) = connected(&listener)? else {
                return Ok(());
            };
            drop(listener);
            // This process has few files, so the number is free. The copy stays open in the program.
            let kept = rustix::io::fcntl_dupfd_cloexec(&qemu, CONNECTION)?;
            if kept.as_raw_fd() != CONNECTION {
                return Err(wrong());
            }
            rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty())?;
            Err(Command::new(program).args(words).exec())
        }
        _ => Err(wrong()),
    }
}

/// A machine's place in the network: the socket that takes frames for it. The process is in the
/// directory of sockets.
struct Port {
    number: u16,
    socket: UnixDatagram,
}

impl Port {
    fn open(number: u16) -> io::Result<Self> {
        let name = number.to_string();
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(&name)?;
        socket.set_write_timeout(Some(FULL))?;
        Ok(Self { number, socket })
    }

    /// Passes on frames until QEMU closes the connection.
    fn pass_on(&self, qemu: &UnixStream) -> io::Result<()> {
        let to_qemu = qemu.try_clone()?;
        let incoming = self.socket.try_clone()?;
        std::thread::spawn(move || {
            let ended = deliver(&incoming, &to_qemu);
            // The other direction ends, too.
            let _ = to_qemu.shutdown(std::net::Shutdown::Both);
            ended
        });
        let mut frames = io::BufReader::with_capacity(LONGEST, qemu);
        let mut frame = vec![0; LONGEST];
        let mut full = Vec::new();
        loop {
            let mut length = [0; 4];
            if frames.read_exact(&mut length).is_err() {
                break;
            }
            let length = u32::from_be_bytes(length) as usize;
            if length > LONGEST || frames.read_exact(&mut frame[..length]).is_err() {
                break;
            }
            self.send(&frame[..length], &mut full);
        }
        fs::remove_file(self.number.to_string())
    }

    fn send(&self, frame: &[u8], full: &mut Vec<u16>) {
        match receiver(frame) {
            Some(number) if number == self.number => {}
            Some(number) => self.send_to(number, frame, full),
            None => {
                let entries = fs::read_dir(".").into_iter().flatten().flatten();
                let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
                for number in numbers.filter(|number| *number != self.number) {
                    self.send_to(number, frame, full);
                }
            }
        }
    }

    /// A frame that nobody takes is lost, as in every network. One that did not take the last frame
    /// in time is not waited for: it may be paused.
    fn send_to(&self, number: u16, frame: &[u8], full: &mut Vec<u16>) {
        let Ok(address) = SocketAddrUnix::new(number.to_string()) else {
            return;
        };
        let flags = match full.contains(&number) {
            true => SendFlags::DONTWAIT,
            false => SendFlags::empty(),
        };
        let sent = sendto(
            self.socket.as_fd(),
            frame,
            flags | SendFlags::NOSIGNAL,
            &address,
        );
        full.retain(|other| *other != number);
        if sent == Err(rustix::io::Errno::AGAIN) {
            full.push(number);
        }
    }
}

/// Gives QEMU the frames that come for it.
fn deliver(incoming: &UnixDatagram, mut qemu: &UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; 4 + LONGEST];
    loop {
        let length = incoming.recv(&mut buffer[4..])?;
        let prefix = u32::try_from(length).unwrap_or_default().to_be_bytes();
        buffer[..4].copy_from_slice(&prefix);
        qemu.write_all(&buffer[..4 + length])?;
    }
}

/// The number of the machine that a frame is for; nothing when it is for all, or for a card that is
/// none of this network, such as one inside of a guest.
fn receiver(frame: &[u8]) -> Option<u16> {
    let [first, second] = NETWORK;
    match *frame.get(..6)? {
        [0x52, 0x54, a, b, high, low] if [a, b] == [first, second] => {
            Some(u16::from_be_bytes([high, low]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_to_the_machine_whose_card_they_name() {
        let frame = |to: [u8; 6]| [&to[..], &[0; 54]].concat();
        assert_eq!(receiver(&frame([0x52, 0x54, 10, 213, 1, 2])), Some(0x0102));
        for all in [
            [0xff; 6],
            [0x33, 0x33, 0, 0, 0, 1],
            [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        ] {
            assert_eq!(receiver(&frame(all)), None);
        }
        assert_eq!(receiver(&[0x52, 0x54, 10]), None);
    }
}
