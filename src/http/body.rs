//! The bytes of an answer, from the thread that reads them.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::error::HttpError;
use super::pace::Speed;
use crate::host::Interrupt;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for their reader; the thread waits when there are more.
pub(super) const AHEAD: usize = 8;
/// How soon the user's giving up is noticed.
const GLANCE: Duration = Duration::from_millis(50);

/// What the reading thread sends after the head of the answer: bytes, and at the end none.
pub(super) type Part = Result<Vec<u8>, HttpError>;

/// The bytes of an answer. Dropping it ends the reading.
#[derive(Debug)]
pub struct Body {
    parts: Receiver<Part>,
    interrupt: Interrupt,
    host: String,
    ended: bool,
    /// What was taken from the thread and not read yet.
    rest: io::Cursor<Vec<u8>>,
}

impl Body {
    pub(super) fn new(parts: Receiver<Part>, host: &str, interrupt: Interrupt) -> Self {
        Self {
            parts,
            interrupt,
            host: host.to_owned(),
            ended: false,
            rest: io::Cursor::default(),
        }
    }

    /// The next bytes, as they came; `None` at the end.
    ///
    /// # Errors
    /// The connection was cut or stalled, or the user gave up.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        let begun = std::mem::take(&mut self.rest);
        let read = usize::try_from(begun.position()).unwrap_or(usize::MAX);
        let mut begun = begun.into_inner();
        if read < begun.len() {
            begun.drain(..read);
            return Ok(Some(begun));
        }
        if self.ended {
            return Ok(None);
        }
        match receive(&self.parts, &self.interrupt, &mut || true) {
            Some(part) => {
                let bytes = part?;
                self.ended = bytes.is_empty();
                Ok((!self.ended).then_some(bytes))
            }
            None if self.interrupt.requested() => Err(HttpError::Interrupted),
            // The thread is gone without having said that this is the end.
            None => Err(HttpError::Cut {
                host: self.host.clone(),
            }),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.rest.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.chunk().map_err(io::Error::other)? {
                Some(bytes) => self.rest = io::Cursor::new(bytes),
                None => return Ok(0),
            }
        }
    }
}

/// What comes next from the thread; `None` when it is done, or when the user gives up. `glance` is called while
/// nothing comes, and says whether to go on.
pub(super) fn receive<T>(
    from: &Receiver<T>,
    interrupt: &Interrupt,
    glance: &mut dyn FnMut() -> bool,
) -> Option<T> {
    while !interrupt.requested() {
        match from.recv_timeout(GLANCE) {
            Ok(got) => return Some(got),
            Err(RecvTimeoutError::Timeout) if glance() => {}
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    None
}

/// Reads to the end, or until nobody wants more.
pub(super) fn pump(
    mut reader: impl Read,
    parts: &SyncSender<Part>,
    mut speed: Speed,
    host: &str,
    failed: impl Fn(io::Error) -> HttpError,
) {
    loop {
        let mut bytes = vec![0; CHUNK];
        let begun = Instant::now();
        match reader.read(&mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                let slow = count > 0 && speed.too_slow(begun.elapsed(), count as u64);
                if parts.send(Ok(bytes)).is_err() || count == 0 {
                    return;
                }
                if slow {
                    let (least, window) = (speed.least, speed.window);
                    let host = host.to_owned();
                    // Nobody may be there to hear it.
                    let _ = parts.send(Err(HttpError::Slow {
                        host,
                        least,
                        window,
                    }));
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // Nobody may be there to hear it.
                let _ = parts.send(Err(failed(error)));
                return;
            }
        }
    }
}
