//! QMP: asking a QEMU what it does, and telling it to stop.
//!
//! QEMU talks to one client at a time, so connections are short: one question, one answer.

use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use qapi::qmp;
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use tracing::debug_span;

use super::socket::{self, Peer};

/// How long QEMU may take for an answer. It answers in microseconds unless the host swaps.
const PATIENCE: Duration = Duration::from_secs(5);

/// What QEMU says about its guest (QMP `query-status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The guest runs.
    Running,
    /// The guest is paused.
    Paused,
    /// The guest has shut down, QEMU has not ended yet.
    Shutdown,
    /// The guest is asleep (ACPI S3).
    Suspended,
    /// The guest said that its kernel panicked.
    Panicked,
    /// The acceleration failed; the guest is stopped for good.
    InternalError,
    /// The guest is halted because there was no room on the host for what it wrote. QEMU halts it
    /// for no other failure of a disk (`werror=enospc`, the default): the guest gets to see those.
    DiskFull,
    /// Something else: a migration, a debugger.
    Other,
}

impl Status {
    /// For people and for `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Shutdown => "shutting-down",
            Self::Suspended => "suspended",
            Self::Panicked => "panicked",
            Self::InternalError => "internal-error",
            Self::DiskFull => "disk-full",
            Self::Other => "other",
        }
    }
}

impl From<qmp::RunState> for Status {
    fn from(state: qmp::RunState) -> Self {
        use qmp::RunState as R;
        match state {
            R::running => Self::Running,
            R::paused | R::prelaunch => Self::Paused,
            R::shutdown => Self::Shutdown,
            R::suspended => Self::Suspended,
            R::guest_panicked => Self::Panicked,
            R::internal_error => Self::InternalError,
            R::io_error => Self::DiskFull,
            _ => Self::Other,
        }
    }
}

/// QEMU could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The connection broke, or no answer came in time.
    #[error("QMP {command}: {source}")]
    Io {
        /// What was asked.
        command: &'static str,
        /// Why there was no answer.
        source: io::Error,
    },
    #[error("QMP {command}: QEMU says \"{answer}\"")]
    Refused {
        /// What was asked.
        command: &'static str,
        answer: String,
    },
}

/// The arguments of `blockdev-add` as they are sent: the crate's type cannot say `"backing": null`.
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
struct BlockdevAdd(serde_json::Value);

impl qapi::Command for BlockdevAdd {
    type Ok = qapi::Empty;
    const NAME: &'static str = "blockdev-add";
    const ALLOW_OOB: bool = false;
}

/// A connection to a QEMU.
pub struct Qmp {
    client: qapi::Qmp<qapi::Stream<BufReader<UnixStream>, UnixStream>>,
}

/// What listens on a QMP socket.
pub enum Listener {
    /// A process, named by the kernel; it may still be slow to answer.
    Process(Pid, Pending),
    /// A process that talks to others now.
    Busy,
    Nobody,
}

/// A connection before QEMU's greeting.
pub struct Pending(UnixStream);

/// Connects to the QMP socket `name` in `directory`.
///
/// # Errors
/// The socket may not be used.
pub fn connect(directory: &Path, name: &str) -> io::Result<Listener> {
    Ok(match socket::connect(directory, name, PATIENCE)? {
        Peer::Listening(stream) => {
            Listener::Process(socket_peercred(&stream)?.pid, Pending(stream))
        }
        Peer::Busy => Listener::Busy,
        Peer::Nobody => Listener::Nobody,
    })
}

impl Pending {
    /// Waits for the greeting and answers it.
    ///
    /// # Errors
    /// QEMU is gone, busy with another client for too long, or refuses.
    pub fn greet(self) -> Result<Qmp, QmpError> {
        let failed = |source| QmpError::Io {
            command: "greeting",
            source,
        };
        let reader = BufReader::new(self.0.try_clone().map_err(failed)?);
        let mut stream = qapi::Stream::new(reader, self.0);
        // The crate panics when the peer closes before its greeting.
        if stream.fill_buf().map_err(failed)?.is_empty() {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut client = qapi::Qmp::new(stream);
        client
            .handshake()
            .map_err(|error| refused("qmp_capabilities", error))?;
        Ok(Qmp { client })
    }
}

impl Qmp {
    /// What the guest does.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn status(&mut self) -> Result<Status, QmpError> {
        let info = self.execute("query-status", &qmp::query_status {})?;
        Ok(info.status.into())
    }

    /// Whether the guest runs under KVM.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn has_kvm(&mut self) -> Result<bool, QmpError> {
        Ok(self.execute("query-kvm", &qmp::query_kvm {})?.enabled)
    }

    /// Presses the power button (ACPI). The guest decides what that means.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn powerdown(&mut self) -> Result<(), QmpError> {
        self.execute("system_powerdown", &qmp::system_powerdown {})
            .map(drop)
    }

    /// Lets a halted guest go on, with the write that failed when it was halted for one.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn go_on(&mut self) -> Result<(), QmpError> {
        self.execute("cont", &qmp::cont {}).map(drop)
    }

    /// Wakes a guest that is asleep.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn wake(&mut self) -> Result<(), QmpError> {
        self.execute("system_wakeup", &qmp::system_wakeup {})
            .map(drop)
    }

    /// Ends QEMU: it writes back its caches and exits. The guest is not asked.
    ///
    /// # Errors
    /// See [`QmpError`]. That QEMU closes the connection while it ends is none.
    pub fn quit(&mut self) -> Result<(), QmpError> {
        match self.execute("quit", &qmp::quit {}) {
            Err(QmpError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                ) =>
            {
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Puts the qcow2 file `file` over the node `node`, whose file must not be written to from then
    /// on, while the guest runs. `overlay` names the node of the new file. QEMU has written all of
    /// the old file when this returns.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn put_overlay(&mut self, node: &str, overlay: &str, file: &str) -> Result<(), QmpError> {
        let add = BlockdevAdd(serde_json::json!({
            "driver": "qcow2",
            "node-name": overlay,
            "discard": "unmap",
            "file": { "driver": "file", "filename": file, "discard": "unmap" },
            "backing": null,
        }));
        self.execute("blockdev-add", &add)?;
        let snapshot = qmp::blockdev_snapshot(qmp::BlockdevSnapshot {
            node: node.to_owned(),
            overlay: overlay.to_owned(),
        });
        self.execute("blockdev-snapshot", &snapshot).map(drop)
    }

    fn execute<C: qapi::Command>(
        &mut self,
        name: &'static str,
        command: &C,
    ) -> Result<C::Ok, QmpError> {
        let _span = debug_span!("qmp", name).entered();
        self.client
            .execute(command)
            .map_err(|error| refused(name, error))
    }
}

fn refused(command: &'static str, error: qapi::ExecuteError) -> QmpError {
    match error {
        qapi::ExecuteError::Io(source) => QmpError::Io { command, source },
        qapi::ExecuteError::Qapi(error) => QmpError::Refused {
            command,
            answer: error.desc,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    use super::*;

    const GREETING: &str = r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10},"package":""},"capabilities":["oob"]}}"#;

    /// A peer that sends `lines[0]` at once and each further line after a command, then closes.
    fn peer(directory: &Path, lines: &'static [&'static str]) -> JoinHandle<()> {
        let listener = UnixListener::bind(directory.join("qmp.sock")).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut commands = BufReader::new(stream.try_clone().unwrap()).lines();
            for (index, line) in lines.iter().enumerate() {
                if index > 0 && commands.next().is_none() {
                    return;
                }
                writeln!(stream, "{line}").unwrap();
            }
            if !lines.is_empty() {
                // What QEMU does on `quit`: it reads the command and is gone.
                commands.next();
            }
        })
    }

    fn greeted(lines: &'static [&'static str]) -> (Result<Qmp, QmpError>, JoinHandle<()>) {
        let directory = tempfile::tempdir().unwrap();
        let thread = peer(directory.path(), lines);
        let Listener::Process(pid, pending) = connect(directory.path(), "qmp.sock").unwrap() else {
            panic!("nobody listens");
        };
        assert_eq!(pid, rustix::process::getpid());
        (pending.greet(), thread)
    }

    #[test]
    fn events_between_answers_are_passed_over() {
        let (qmp, thread) = greeted(&[
            GREETING,
            "{\"return\":{}}",
            "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"RESUME\"}\n\
             {\"return\":{\"status\":\"internal-error\",\"running\":false}}",
            r#"{"error":{"class":"GenericError","desc":"no power button"}}"#,
        ]);
        let mut qmp = qmp.unwrap();
        assert_eq!(qmp.status().unwrap(), Status::InternalError);
        assert_eq!(
            qmp.powerdown().unwrap_err().to_string(),
            "QMP system_powerdown: QEMU says \"no power button\""
        );
        qmp.quit().unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_peer_that_is_no_qemu_is_an_error() {
        for lines in [&[""][..], &["hello"], &[]] {
            let (result, thread) = greeted(lines);
            assert!(matches!(result, Err(QmpError::Io { .. })), "{lines:?}");
            thread.join().unwrap();
        }
    }
}
