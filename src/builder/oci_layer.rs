//! Layers of container images: one pass verifies the blob, decompresses it, verifies the tar and
//! stores that.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::blob;
use crate::derivation::{BuildRequest, Builder, Outputs, Step};
use crate::digest::{Algorithm, Checksum, ChecksumHasher};
use crate::failure::Failure;
use crate::limits::{self, Limits};
use crate::plan::BlobPlace;
use crate::registry::Registries;
use crate::source::{Fetched, Fetcher, Outcome, TakeError, Taker};
use crate::store::{ActionResult, ObjectWriter, Store, StoreError};
use crate::text::shown_size;

/// The first bytes that tell how a blob is compressed.
const MARK: usize = 6;

pub(super) struct OciLayer {
    pub(super) store: Store,
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) registries: Registries,
    /// Where layers can be had, by the digest of their tar.
    pub(super) blobs: BTreeMap<Checksum, BlobPlace>,
    /// What is left for the layers of each repository that this build unpacks.
    pub(super) rooms: Mutex<BTreeMap<String, Arc<Room>>>,
}

/// How many bytes the layers of an image may unpack to, together: many small layers are as bad as a
/// large one.
pub(super) struct Room {
    limit: u64,
    left: AtomicU64,
}

impl Room {
    fn exceeded(&self) -> Failure {
        let limit = shown_size(self.limit);
        let more = format!("\"{}\"", shown_size(self.limit.saturating_mul(16)));
        Failure::verification(format!(
            "makes more than {limit} of the image when it is decompressed"
        ))
        .with_help(format!(
            "the layers of an image may have {limit} together, and {} times the size of their blobs; \
             when this is what you want, {}",
            Limits::RATIO,
            limits::raise("image-size", &more)
        ))
    }

    fn take(&self, bytes: u64) -> Result<(), TooLarge> {
        let less = |left: u64| left.checked_sub(bytes);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.map(drop).map_err(|_| TooLarge)
    }
}

impl OciLayer {
    fn room(&self, place: &BlobPlace) -> Arc<Room> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let room = rooms.entry(place.repository.clone()).or_insert_with(|| {
            let layers = self.blobs.values();
            let own = layers.filter(|other| other.repository == place.repository);
            let compressed = own.fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
            let limit = self.registries.limits().image_size;
            let limit = limit.max(compressed.saturating_mul(Limits::RATIO));
            Arc::new(Room {
                limit,
                left: AtomicU64::new(limit),
            })
        });
        Arc::clone(room)
    }
}

impl Builder for OciLayer {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::OciLayer(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let place = self.blobs.get(&params.diff_id);
        let place = place.ok_or_else(|| super::wrong_kind(request))?;
        let mut taker = Unpacking {
            store: &self.store,
            expected: params.diff_id,
            room: self.room(place),
            head: Vec::new(),
            stream: None,
            problem: None,
            outputs: Outputs::new(),
            request,
        };
        let already = || self.store.action(&request.key).is_some();
        let (fetcher, registries) = (&self.fetcher, &self.registries);
        match blob::bring(fetcher, registries, place, &already, &mut taker)? {
            Outcome::Already => {
                let known = self.store.action(&request.key).map(|result| result.outputs);
                known.ok_or_else(|| super::wrong_kind(request))
            }
            Outcome::Fetched(_) => match taker.problem {
                None => Ok(taker.outputs),
                Some(wrong) => {
                    let message = format!("{} {wrong} ({})", place.name, place.address());
                    Err(wrong.with_message(message))
                }
            },
        }
    }
}

/// What is wrong with a layer whose blob is what it should be: a phrase that goes on after its name.
fn wrong(what: String) -> Failure {
    let help = "the image was pushed wrongly; push it again, or use another version";
    Failure::verification(what).with_help(help)
}

/// Bytes of a blob on their way into the store.
struct Unpacking<'a> {
    store: &'a Store,
    expected: Checksum,
    room: Arc<Room>,
    /// The first bytes, until there are enough to tell how they are compressed.
    head: Vec<u8>,
    stream: Option<Stream>,
    /// What is wrong. The rest of the blob is taken all the same: when its digest is wrong, that is
    /// the reason.
    problem: Option<Failure>,
    outputs: Outputs,
    request: &'a BuildRequest<'a>,
}

/// A decompressor in front of the store.
enum Stream {
    Plain(Box<Tar>),
    Gzip(Box<flate2::write::MultiGzDecoder<Tar>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Tar>>),
}

impl Stream {
    /// The stream for bytes that begin so.
    fn new(head: &[u8], tar: Tar) -> Result<Self, Begin> {
        Ok(match head {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(flate2::write::MultiGzDecoder::new(tar))),
            // A frame that zstd skips can come first (RFC 8878, section 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let decoder = zstd::stream::write::Decoder::new(tar).map_err(Begin::Failed)?;
                Self::Zstd(Box::new(decoder))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(Begin::Unknown("xz")),
            [b'B', b'Z', b'h', ..] => return Err(Begin::Unknown("bzip2")),
            _ => Self::Plain(Box::new(tar)),
        })
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Plain(_) => "tar",
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(tar) => tar.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zstd(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Tar> {
        match self {
            Self::Plain(tar) => Ok(*tar),
            Self::Gzip(decoder) => decoder.finish(),
            Self::Zstd(mut decoder) => {
                decoder.flush()?;
                Ok(decoder.into_inner())
            }
        }
    }
}

enum Begin {
    Unknown(&'static str),
    Failed(io::Error),
}

/// The tar as it goes into the store.
struct Tar {
    /// Until it is finished.
    writer: Option<ObjectWriter>,
    hasher: ChecksumHasher,
    size: u64,
    room: Arc<Room>,
    /// Whether it stays: one that is dropped gives back what it took.
    kept: bool,
}

impl Drop for Tar {
    fn drop(&mut self) {
        if !self.kept {
            self.room.left.fetch_add(self.size, Ordering::Relaxed);
        }
    }
}

/// The tar has more bytes than it may have.
#[derive(Debug, thiserror::Error)]
#[error("too large")]
struct TooLarge;

impl Write for Tar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        self.room.take(length).map_err(io::Error::other)?;
        self.size += length;
        self.hasher.update(bytes);
        if let Some(writer) = &mut self.writer {
            writer.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Unpacking<'_> {
    /// Decides about the compression by the bytes so far.
    fn begin(&mut self) -> Result<(), TakeError> {
        let tar = Tar {
            writer: Some(self.store.writer()?),
            hasher: ChecksumHasher::new(Algorithm::Sha256),
            size: 0,
            room: Arc::clone(&self.room),
            kept: false,
        };
        let head = std::mem::take(&mut self.head);
        match Stream::new(&head, tar) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.write(&head)
            }
            Err(Begin::Unknown(format)) => {
                let what = format!("is compressed with {format}, which layers must not be");
                self.problem = Some(wrong(what));
                Ok(())
            }
            Err(Begin::Failed(error)) => Err(error.into()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TakeError> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let name = stream.name();
        let written = stream.write(bytes);
        written.or_else(|error| self.wrong(name, error))
    }

    /// What is wrong with the layer is remembered; what is wrong with the store is an error.
    fn wrong(&mut self, format: &'static str, error: io::Error) -> Result<(), TakeError> {
        self.stream = None;
        let error = match error.downcast::<StoreError>() {
            Ok(error) => return Err(error.into()),
            Err(error) => error,
        };
        self.problem = Some(match error.downcast::<TooLarge>() {
            Ok(_) => self.room.exceeded(),
            Err(error) => wrong(format!("is not complete {format} data: {error}")),
        });
        Ok(())
    }
}

impl Taker for Unpacking<'_> {
    fn restart(&mut self) -> Result<(), TakeError> {
        self.head.clear();
        (self.stream, self.problem) = (None, None);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TakeError> {
        if self.problem.is_some() {
            return Ok(());
        }
        if self.stream.is_some() {
            return self.write(bytes);
        }
        self.head.extend_from_slice(bytes);
        match self.head.len() {
            ..MARK => Ok(()),
            _ => self.begin(),
        }
    }

    fn finish(&mut self, _: &Fetched) -> Result<(), TakeError> {
        if self.stream.is_none() && self.problem.is_none() {
            self.begin()?;
        }
        let Some(stream) = self.stream.take() else {
            return Ok(());
        };
        let name = stream.name();
        let mut tar = match stream.finish() {
            Ok(tar) => tar,
            Err(error) => return self.wrong(name, error),
        };
        let found = tar.hasher.clone().finish();
        if found != self.expected {
            self.problem = Some(wrong(format!(
                "is not the layer that the image's config names: the uncompressed content has \
                 {found}, expected {}",
                self.expected
            )));
            return Ok(());
        }
        tar.kept = true;
        let Some(writer) = tar.writer.take() else {
            return Ok(());
        };
        let object = writer.finish()?;
        self.outputs.insert("blob".to_owned(), object);
        // Now, for after this the download is forgotten: a process that dies would leave nothing.
        let outputs = self.outputs.clone();
        Ok(self
            .store
            .put_action(&self.request.key, ActionResult { outputs })?)
    }
}
