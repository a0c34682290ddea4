//! Bytes on their way to a registry: counted, and stopped when nobody waits for them any more.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::registry::{BlobSource, Progress};

/// A part of a source that is the body of a request. It can be sent several times.
pub(super) struct Sending<'a> {
    pub(super) source: &'a dyn BlobSource,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) meter: Option<&'a Meter<'a>>,
}

impl<'a> Sending<'a> {
    /// All bytes of a source, of which nobody is told.
    pub(super) fn whole(source: &'a dyn BlobSource, length: u64) -> Self {
        Self {
            source,
            offset: 0,
            length,
            meter: None,
        }
    }

    /// Opens the source for the thread that sends.
    pub(super) fn start(&self) -> io::Result<(Feed, Arc<Flow>)> {
        let flow = Arc::new(Flow::default());
        let feed = Feed {
            inner: self.source.open(self.offset)?,
            left: self.length,
            flow: Arc::clone(&flow),
        };
        Ok((feed, flow))
    }

    /// Tells how far it is.
    pub(super) fn tell(&self, flow: &Flow) {
        if let Some(meter) = self.meter {
            meter.at(self.offset + flow.sent.load(Ordering::Relaxed));
        }
    }
}

/// What the thread that sends and the one that waits share.
#[derive(Default)]
pub(super) struct Flow {
    sent: AtomicU64,
    over: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Flow {
    /// Nobody waits any more: the rest is not read.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Why the source could not be read.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The bytes, for the thread that sends.
pub(super) struct Feed {
    inner: Box<dyn Read + Send>,
    left: u64,
    flow: Arc<Flow>,
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        if self.flow.over.load(Ordering::Relaxed) {
            return Err(io::Error::other("given up"));
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = match self.inner.read(&mut buffer[..most]) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ended {} bytes early", self.left),
            )),
            other => other,
        };
        match read {
            Ok(count) => {
                self.left -= count as u64;
                self.flow.sent.fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let failure = self.flow.failure.lock();
                *failure.unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(io::Error::other("the source failed"))
            }
        }
    }
}

/// How much of a blob was sent, told as differences.
pub(super) struct Meter<'a> {
    progress: &'a Progress<'a>,
    told: AtomicU64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: &'a Progress<'a>) -> Self {
        Self {
            progress,
            told: AtomicU64::new(0),
        }
    }

    /// So many bytes from the beginning are there, or on their way.
    pub(super) fn at(&self, position: u64) {
        let before = self.told.swap(position, Ordering::Relaxed);
        // Blobs are much smaller than what the type holds.
        let difference = position.cast_signed() - before.cast_signed();
        if difference != 0 {
            (self.progress)(difference);
        }
    }
}
