//! QMP: asking a QEMU what it does, and telling it to stop.
//!
//! A connection keeps the events that QEMU sends until [`Qmp::wait_for`] asks for them. QEMU talks
//! to one client at a time, and others wait: hold a connection only while something happens on it.
//!
//! Commands and events are the types of `qapi`; the messages are read here. Its own reader fails at
//! unknown events, panics without a greeting, and takes a late answer for that of the next command.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use qapi::qmp;
pub use qapi::qmp::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use serde::Deserialize;
use serde_json::Value;
use tracing::debug_span;

use super::network::{Forward, NETWORK};
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
    /// The guest is halted because there was no room on the host for what it wrote.
    DiskFull,
    /// The guest is halted because a part of its disk that is not here could not be read.
    DiskAway,
    /// A migration, a debugger.
    Other,
}

impl Status {
    /// For people and for `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused | Self::DiskFull | Self::DiskAway => "paused",
            Self::Shutdown => "shutting-down",
            Self::Suspended => "suspended",
            Self::Panicked => "panicked",
            Self::InternalError => "internal-error",
            Self::Other => "other",
        }
    }

    /// Why the guest is paused, when nobody asked for it.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::DiskFull => Some("disk-full"),
            Self::DiskAway => Some("registry"),
            _ => None,
        }
    }
}

impl From<qmp::RunState> for Status {
    fn from(state: qmp::RunState) -> Self {
        use qmp::RunState as R;
        match state {
            R::running => Self::Running,
            R::paused | R::prelaunch | R::postmigrate => Self::Paused,
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

/// A qcow2 file that goes over what the guest writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLayer {
    /// The node that the guest writes to now.
    pub below: String,
    /// The name that the new node gets; at most 31 bytes.
    pub node: String,
    /// Its file, relative to QEMU's working directory.
    pub file: String,
}

/// The arguments of `screendump`; the crate's type does not know the format, which QEMU 7.1 added.
#[derive(Debug, serde::Serialize)]
struct Screendump<'a> {
    filename: &'a str,
    format: &'static str,
}

impl qapi::Command for Screendump<'_> {
    type Ok = qapi::Empty;
    const NAME: &'static str = "screendump";
    const ALLOW_OOB: bool = false;
}

/// A connection to a QEMU.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// The start of a message whose end has not come yet.
    line: Vec<u8>,
    /// The number of the last command.
    last: u64,
    /// What nobody has asked for yet, oldest first.
    events: VecDeque<Event>,
}

/// An answer to a command, or an event.
#[derive(Deserialize)]
struct Message {
    id: Option<u64>,
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<Value>,
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
        let mut qmp = Qmp {
            stream: BufReader::new(self.0),
            line: Vec::new(),
            last: 0,
            events: VecDeque::new(),
        };
        let greeting = qmp.read().map_err(QmpError::during("greeting"))?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::during("greeting")(
                io::ErrorKind::InvalidData.into(),
            ));
        }
        qmp.execute(&qmp::qmp_capabilities { enable: None })?;
        Ok(qmp)
    }
}

impl Qmp {
    /// What the guest does.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn status(&mut self) -> Result<Status, QmpError> {
        let info = self.execute(&qmp::query_status {})?;
        Ok(info.status.into())
    }

    /// Whether the guest runs under KVM.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn has_kvm(&mut self) -> Result<bool, QmpError> {
        Ok(self.execute(&qmp::query_kvm {})?.enabled)
    }

    /// Gives a disk another size, in bytes; the guest is told.
    ///
    /// # Errors
    /// QEMU refuses, or does not answer.
    pub fn resize(&mut self, node: &str, bytes: u64) -> Result<(), QmpError> {
        self.execute(&qmp::block_resize {
            device: None,
            node_name: Some(node.to_owned()),
            size: i64::try_from(bytes).unwrap_or(i64::MAX),
        })
        .map(drop)
    }

    /// Presses the power button (ACPI). The guest decides what that means.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn powerdown(&mut self) -> Result<(), QmpError> {
        self.execute(&qmp::system_powerdown {}).map(drop)
    }

    /// Halts the guest.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn halt(&mut self) -> Result<(), QmpError> {
        self.execute(&qmp::stop {}).map(drop)
    }

    /// Lets a halted guest go on, with the write that failed when it was halted for one.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn go_on(&mut self) -> Result<(), QmpError> {
        self.execute(&qmp::cont {}).map(drop)
    }

    /// Wakes a guest that is asleep.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn wake(&mut self) -> Result<(), QmpError> {
        self.execute(&qmp::system_wakeup {}).map(drop)
    }

    /// Ends QEMU: it writes back its caches and exits. The guest is not asked.
    ///
    /// # Errors
    /// See [`QmpError`]. That QEMU closes the connection while it ends is none.
    pub fn quit(&mut self) -> Result<(), QmpError> {
        match self.execute(&qmp::quit {}) {
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

    /// The nodes that the guest writes to, one for each of its disks.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn written_nodes(&mut self) -> Result<Vec<String>, QmpError> {
        let devices = self.execute(&qmp::query_block {})?;
        let inserted = devices.into_iter().filter_map(|device| device.inserted);
        Ok(inserted.filter_map(|medium| medium.node_name).collect())
    }

    /// Opens the qcow2 file of a layer that is to be put over another, as a node of its own. A node
    /// that an earlier vmfab left is opened anew.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn open_overlay(&mut self, layer: &NewLayer) -> Result<(), QmpError> {
        let NewLayer { node, file, .. } = layer;
        let left = qmp::blockdev_del {
            node_name: node.clone(),
        };
        // Most often there is none.
        let _ = self.execute(&left);
        let add = BlockdevAdd(serde_json::json!({
            "driver": "qcow2",
            "node-name": node,
            "discard": "unmap",
            "file": { "driver": "file", "filename": file, "discard": "unmap" },
            "backing": null,
        }));
        self.execute(&add).map(drop)
    }

    /// Puts opened layers over what the guest writes to, all of them at one moment, while it runs.
    /// What is below must not be written to from then on, and QEMU has written all of it when this
    /// returns.
    ///
    /// # Errors
    /// See [`QmpError`]; none of them was put in place when QEMU refuses.
    pub fn put_overlays(&mut self, layers: &[NewLayer]) -> Result<(), QmpError> {
        let action = |layer: &NewLayer| {
            qmp::TransactionAction::blockdev_snapshot(qmp::BlockdevSnapshotWrapper {
                data: qmp::BlockdevSnapshot {
                    node: layer.below.clone(),
                    overlay: layer.node.clone(),
                },
            })
        };
        let transaction = qmp::transaction {
            actions: layers.iter().map(action).collect(),
            properties: None,
        };
        self.execute(&transaction).map(drop)
    }

    /// Writes what the guest's screen shows to a file, as PNG. QEMU writes it.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn screenshot(&mut self, file: &str) -> Result<(), QmpError> {
        let command = Screendump {
            filename: file,
            format: "png",
        };
        self.execute(&command).map(drop)
    }

    /// Forwards one more port into the guest.
    ///
    /// # Errors
    /// See [`QmpError`]; one is that the port of the host is taken.
    pub fn add_forward(&mut self, forward: &Forward) -> Result<(), QmpError> {
        let said = self.monitor(format!("hostfwd_add {NETWORK} {}", forward.rule()))?;
        Self::nothing_said(&said)
    }

    /// Forwards a port no longer. Connections through it stay.
    ///
    /// # Errors
    /// See [`QmpError`]; one is that it was not forwarded.
    pub fn remove_forward(&mut self, forward: &Forward) -> Result<(), QmpError> {
        let said = self.monitor(format!("hostfwd_remove {NETWORK} {}", forward.listener()))?;
        match said.contains(" removed") {
            true => Ok(()),
            false => Self::nothing_said(&said),
        }
    }

    /// Whether a program in the guest has opened the port of a character device.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn is_open(&mut self, device: &str) -> Result<bool, QmpError> {
        let devices = self.execute(&qmp::query_chardev {})?;
        let mut devices = devices.iter();
        Ok(devices.any(|one| one.label == device && one.frontend_open))
    }

    /// A command of the monitor for people, for what QMP has none; gives what QEMU says.
    fn monitor(&mut self, line: String) -> Result<String, QmpError> {
        self.execute(&qmp::human_monitor_command {
            command_line: line,
            cpu_index: None,
        })
    }

    /// That monitor says nothing when a command succeeded.
    fn nothing_said(said: &str) -> Result<(), QmpError> {
        match said.trim() {
            "" => Ok(()),
            answer => Err(QmpError::Refused {
                command: "human-monitor-command",
                answer: answer.to_owned(),
            }),
        }
    }

    /// Waits at most `patience` for an event that is `wanted`, and gives it. Those before it are
    /// forgotten.
    ///
    /// # Errors
    /// The connection broke.
    pub fn wait_for(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Option<Event>, QmpError> {
        let until = Instant::now() + patience;
        loop {
            while let Some(event) = self.events.pop_front() {
                if wanted(&event) {
                    return Ok(Some(event));
                }
            }
            let failed = QmpError::during("event");
            if !self.readable(until).map_err(&failed)? {
                return Ok(None);
            }
            self.message().map_err(&failed)?;
        }
    }

    pub(super) fn execute<C: qapi::Command>(&mut self, command: &C) -> Result<C::Ok, QmpError> {
        let _span = debug_span!("qmp", name = C::NAME).entered();
        let answer = self.answer(command).map_err(QmpError::during(C::NAME))?;
        answer.map_err(|answer| QmpError::Refused {
            command: C::NAME,
            answer,
        })
    }

    fn answer<C: qapi::Command>(&mut self, command: &C) -> io::Result<Result<C::Ok, String>> {
        self.last += 1;
        let mut line = serde_json::to_vec(&qapi::Execute::with_id(command, self.last))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        loop {
            match self.message()? {
                // The answer to a command that nobody waits for any more.
                Message { id: Some(id), .. } if id != self.last => {}
                Message {
                    error: Some(error), ..
                } => return Ok(Err(error["desc"].as_str().unwrap_or_default().to_owned())),
                Message {
                    answer: Some(answer),
                    ..
                } => return Ok(Ok(serde_json::from_value(answer)?)),
                _ => {}
            }
        }
    }

    /// The next message. An event is kept besides; one that the crate does not know is of no use.
    fn message(&mut self) -> io::Result<Message> {
        let message = self.read()?;
        if message.get("event").is_some() {
            self.events.extend(Event::deserialize(&message).ok());
        }
        Ok(serde_json::from_value(message)?)
    }

    fn read(&mut self) -> io::Result<Value> {
        self.stream.read_until(b'\n', &mut self.line)?;
        if self.line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&std::mem::take(&mut self.line))?)
    }

    /// Waits until there is something to read; false when there is nothing until then.
    fn readable(&self, until: Instant) -> io::Result<bool> {
        while self.stream.buffer().is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.stream.get_ref(), PollFlags::IN)];
            match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl QmpError {
    fn during(command: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { command, source }
    }
}

#[cfg(test)]
mod tests {
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
    fn events_between_answers_are_kept() {
        let (qmp, thread) = greeted(&[
            GREETING,
            r#"{"return":{},"id":1}"#,
            "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"RESUME\"}\n\
             {\"timestamp\":{\"seconds\":1,\"microseconds\":3},\"event\":\"OF_THE_FUTURE\"}\n\
             {\"timestamp\":{\"seconds\":1,\"microseconds\":4},\"event\":\"STOP\"}\n\
             {\"return\":{\"status\":\"internal-error\",\"running\":false},\"id\":2}",
            r#"{"error":{"class":"GenericError","desc":"no power button"},"id":3}"#,
        ]);
        let mut qmp = qmp.unwrap();
        assert_eq!(qmp.status().unwrap(), Status::InternalError);
        assert_eq!(
            qmp.powerdown().unwrap_err().to_string(),
            "QMP system_powerdown: QEMU says \"no power button\""
        );
        let mut next = || qmp.wait_for(Duration::ZERO, |_| true).unwrap();
        assert!(matches!(next(), Some(Event::RESUME { .. })));
        assert!(matches!(next(), Some(Event::STOP { .. })));
        assert!(next().is_none());
        qmp.quit().unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn events_are_waited_for_and_late_answers_are_of_no_use() {
        let (qmp, thread) = greeted(&[
            GREETING,
            r#"{"return":{},"id":1}"#,
            "{\"return\":{\"enabled\":true,\"present\":true},\"id\":1}\n\
             {\"return\":{\"enabled\":false,\"present\":true},\"id\":2}\n\
             {\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"RESUME\"}\n\
             {\"timestamp\":{\"seconds\":1,\"microseconds\":4},\"event\":\"STOP\"}",
        ]);
        let mut qmp = qmp.unwrap();
        assert!(!qmp.has_kvm().unwrap());
        let stop = |event: &Event| matches!(event, Event::STOP { .. });
        assert!(qmp.wait_for(PATIENCE, stop).unwrap().is_some());
        qmp.quit().unwrap();
        assert!(qmp.wait_for(PATIENCE, stop).is_err());
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
