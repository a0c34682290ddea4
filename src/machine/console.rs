//! The guest's console: reading its log, and being the one at it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Machine;
use super::directory::{Lock, files, try_lock};
use super::error::{MachineError, io_error};
use crate::host::beneath::open_unlinked;
use crate::image::{INIT_READY, INIT_UNHEALTHY};
use crate::qemu::socket::{self, Peer};

/// What a kernel says when it gives up.
const PANIC: &str = "Kernel panic - not syncing";
/// How much of the end of a log is looked at for its last lines, at least.
const TAIL_BYTES: u64 = 16 << 10;
/// The same for each of many lines.
const LINE_BYTES: u64 = 128;

/// A connection to a machine's console. While it is held, no other can be opened.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
    _lock: Lock,
}

impl Console {
    /// What the guest writes can be read from it, and what is written to it the guest reads.
    #[must_use]
    pub const fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

impl Machine {
    /// Whether its console says that the init of vmfab's own runs it, and so no SSH server. The guest
    /// may say anything there.
    ///
    /// # Errors
    /// The console's log cannot be read.
    pub fn claims_own_init(&self) -> Result<bool, MachineError> {
        let log = self.console_log();
        let read = |mut watcher: Watcher| watcher.look().map(|()| watcher.verdict().is_some());
        match Watcher::new(&log).and_then(read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.map_err(io_error("read", &log)),
        }
    }

    /// Connects to the console.
    ///
    /// # Errors
    /// The machine does not run, or its console is in use.
    pub fn console(&self) -> Result<Console, MachineError> {
        self.check_started()?;
        let busy = || MachineError::ConsoleBusy(self.name.clone());
        let lock = try_lock(&self.directory.join(files::CONSOLE_LOCK))?.ok_or_else(busy)?;
        let path = self.directory.join(files::CONSOLE_SOCKET);
        let patience = Duration::from_secs(2);
        match socket::connect(&self.directory, files::CONSOLE_SOCKET, patience)
            .map_err(io_error("connect to", &path))?
        {
            Peer::Listening(stream) => {
                stream
                    .set_read_timeout(None)
                    .and_then(|()| stream.set_write_timeout(None))
                    .map_err(io_error("connect to", &path))?;
                Ok(Console {
                    stream,
                    _lock: lock,
                })
            }
            Peer::Busy => Err(busy()),
            Peer::Nobody => Err(MachineError::Stopped(self.name.clone())),
        }
    }
}

/// Follows a console's log from its beginning for what a waiting vmfab wants to know.
pub struct Watcher {
    file: File,
    read: u64,
    /// The end of what was read, for texts that come in two pieces.
    end: Vec<u8>,
    panicked: bool,
    verdict: Option<Verdict>,
}

/// What the init of vmfab's own says of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ready,
    Unhealthy,
}

impl Watcher {
    /// Opens a console's log.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn new(log: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open_unlinked(log)?,
            read: 0,
            end: Vec::new(),
            panicked: false,
            verdict: None,
        })
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn look(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        loop {
            let count = self.file.read_at(&mut buffer, self.read)?;
            if count == 0 {
                return Ok(());
            }
            self.read += count as u64;
            self.end.extend_from_slice(&buffer[..count]);
            let end = &self.end;
            let last = |text: &str| {
                let mut windows = end.windows(text.len());
                windows.rposition(|window| window == text.as_bytes())
            };
            self.panicked |= last(PANIC).is_some();
            let verdicts = [
                (last(INIT_READY), Verdict::Ready),
                (last(INIT_UNHEALTHY), Verdict::Unhealthy),
            ];
            let found = verdicts.into_iter().filter(|(place, _)| place.is_some());
            if let Some((_, verdict)) = found.max_by_key(|(place, _)| *place) {
                self.verdict = Some(verdict);
            }
            // The longest of the texts may have come without its last byte.
            let keep = self.end.len().saturating_sub(PANIC.len());
            self.end.drain(..keep);
        }
    }

    /// What the init of vmfab's own said last.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether the guest wrote anything.
    #[must_use]
    pub const fn spoke(&self) -> bool {
        self.read > 0
    }

    /// Whether the guest's kernel panicked.
    #[must_use]
    pub const fn panicked(&self) -> bool {
        self.panicked
    }
}

/// The last `count` lines of a log that say anything, as text. A log that cannot be read has none.
#[must_use]
pub fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let file = open_unlinked(log)?;
        let tail = TAIL_BYTES.max(count as u64 * LINE_BYTES);
        let start = file.metadata()?.len().saturating_sub(tail);
        let mut bytes = vec![0; tail as usize];
        let mut filled = 0;
        loop {
            match file.read_at(&mut bytes[filled..], start + filled as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    };
    let text = text_of(&read().unwrap_or_default());
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|&line| line.to_owned())
        .collect()
}

/// What a console wrote as plain text: without escape sequences and control characters, and of a
/// line that was written over only what was last.
#[must_use]
pub fn text_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = console::strip_ansi_codes(&text);
    let mut plain = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let end = line.ends_with('\n');
        let visible = line.trim_end_matches(['\r', '\n']);
        let last = visible.rsplit('\r').find(|part| !part.is_empty());
        plain.extend(
            last.unwrap_or_default()
                .trim_end()
                .chars()
                .filter(|c| !c.is_control() || *c == '\t'),
        );
        if end {
            plain.push('\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_console_as_text() {
        let bytes = b"\x1b[2J\x1b[01;01H\x1b[0mBooting\r\n[\x1b[0;32m  OK  \x1b[0m] Started \xff.\r\n10%\r20%\r\n\x07$ ";
        assert_eq!(
            text_of(bytes),
            "Booting\n[  OK  ] Started \u{fffd}.\n20%\n$"
        );
    }

    #[test]
    fn the_last_lines_of_a_log() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(last_lines(log.path(), 2), [""; 0]);
        for number in 0..5000 {
            write!(log, "line {number}\r\n\r\n").unwrap();
        }
        assert_eq!(last_lines(log.path(), 2), ["line 4998", "line 4999"]);
        assert_eq!(last_lines(Path::new("/nonexistent"), 2), [""; 0]);
    }

    #[test]
    fn a_panic_is_seen_in_pieces() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let mut watcher = Watcher::new(log.path()).unwrap();
        watcher.look().unwrap();
        assert!(!watcher.spoke());
        for (index, piece) in ["[ 1.0] Kernel panic", " - not syn", "cing: VFS"]
            .iter()
            .enumerate()
        {
            assert!(!watcher.panicked(), "after {index} pieces");
            log.write_all(piece.as_bytes()).unwrap();
            watcher.look().unwrap();
            assert!(watcher.spoke());
        }
        assert!(watcher.panicked());
    }

    #[test]
    fn what_the_own_init_said_last_counts() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let mut watcher = Watcher::new(log.path()).unwrap();
        for (piece, verdict) in [
            ("vmfab-init: rea", None),
            ("dy\r\n", Some(Verdict::Ready)),
            ("vmfab-init: unhealthy: why\n", Some(Verdict::Unhealthy)),
            ("x", Some(Verdict::Unhealthy)),
            (
                "vmfab-init: unhealthy\nvmfab-init: ready\n",
                Some(Verdict::Ready),
            ),
        ] {
            log.write_all(piece.as_bytes()).unwrap();
            watcher.look().unwrap();
            assert_eq!(watcher.verdict(), verdict, "{piece}");
        }
    }
}
