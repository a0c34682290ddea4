//! The bytes of requests and of answers.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc::Receiver;

use super::error::{Asked, HttpError};
use super::pace::Speed;
use super::runtime;
use crate::host::Interrupt;

/// The bytes of an answer. Dropping it ends the reading.
#[derive(Debug)]
pub struct Body {
    answer: reqwest::Response,
    asked: Asked,
    interrupt: Interrupt,
    speed: Speed,
    ended: bool,
    /// What came and was not read yet.
    rest: io::Cursor<Bytes>,
}

impl Body {
    pub(super) fn new(
        answer: reqwest::Response,
        asked: Asked,
        interrupt: Interrupt,
        speed: Speed,
    ) -> Self {
        Self {
            answer,
            asked,
            interrupt,
            speed,
            ended: false,
            rest: io::Cursor::default(),
        }
    }

    /// The next bytes, as they came; `None` at the end.
    ///
    /// # Errors
    /// The connection was cut or stalled, or the user gave up.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let begun = std::mem::take(&mut self.rest);
        let read = usize::try_from(begun.position()).unwrap_or(usize::MAX);
        let mut begun = begun.into_inner();
        if read < begun.len() {
            return Ok(Some(begun.split_off(read)));
        }
        if self.ended {
            return Ok(None);
        }
        let start = Instant::now();
        let stalled = self.asked.waits.stalled;
        let next = runtime::wait(&self.interrupt, stalled, self.answer.chunk())?;
        let next = next.ok_or_else(|| self.asked.stalled())?;
        let next = next.map_err(|error| self.asked.failed(&error))?;
        let count = next.as_ref().map_or(0, Bytes::len) as u64;
        self.ended = next.is_none();
        if !self.ended && self.speed.too_slow(start.elapsed(), count) {
            return Err(self.asked.slow(&self.speed));
        }
        Ok(next)
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

/// The bytes of a request, on their way from the thread that reads them.
pub(super) struct Upload {
    pub(super) parts: Receiver<Bytes>,
    pub(super) left: u64,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match ready!(self.parts.poll_recv(context)) {
            Some(bytes) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Some(Ok(Frame::data(bytes)))
            }
            None if self.left == 0 => None,
            None => Some(Err(io::Error::other("nobody sends the rest"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
