//! Bytes on their way to a registry, counted.

use std::cell::Cell;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::registry::{BlobSource, Progress};

/// How often it is told how far a body is.
const GLANCE: Duration = Duration::from_millis(50);

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

    /// Opens the source.
    pub(super) fn start(&self) -> io::Result<Feed<'a>> {
        Ok(Feed {
            inner: self.source.open(self.offset)?,
            meter: self.meter,
            end: self.offset + self.length,
            left: self.length,
            told: Instant::now(),
            failure: None,
        })
    }
}

/// The bytes, as a request reads them.
pub(super) struct Feed<'a> {
    inner: Box<dyn Read + Send>,
    meter: Option<&'a Meter<'a>>,
    end: u64,
    left: u64,
    told: Instant,
    /// Why the source could not be read.
    pub(super) failure: Option<io::Error>,
}

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        match self.inner.read(&mut buffer[..most]) {
            Ok(0) if most > 0 => {
                self.failure = Some(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it ended {} bytes early", self.left),
                ));
                Ok(0)
            }
            Ok(count) => {
                self.left -= count as u64;
                if let Some(meter) = self.meter
                    && (self.left == 0 || self.told.elapsed() >= GLANCE)
                {
                    self.told = Instant::now();
                    meter.at(self.end - self.left);
                }
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failure = Some(error);
                Err(io::Error::other("the source failed"))
            }
        }
    }
}

/// How much of a blob was sent, told as differences.
pub(super) struct Meter<'a> {
    progress: &'a Progress<'a>,
    told: Cell<u64>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: &'a Progress<'a>) -> Self {
        Self {
            progress,
            told: Cell::new(0),
        }
    }

    /// So many bytes from the beginning are there, or on their way.
    pub(super) fn at(&self, position: u64) {
        let before = self.told.replace(position);
        // Blobs are much smaller than what the type holds.
        let difference = position.cast_signed() - before.cast_signed();
        if difference != 0 {
            (self.progress)(difference);
        }
    }
}
