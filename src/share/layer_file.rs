//! Layers as ordinary container images have them: tars, compressed, in temporary files.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use sha2::Digest as _;
use tempfile::{NamedTempFile, TempPath};

use crate::digest::Sha256;
use crate::registry::{Blob, BlobSource};
use crate::store::StoreError;

/// The media type of a layer: gzip is what every registry and container runtime knows.
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The level of gzip: the next ones take twice the time for a hundredth.
const GZIP: u32 = 3;

/// When everything was made, for who asks: vmfab's `SOURCE_DATE_EPOCH`.
pub const CREATED: &str = "2020-01-01T00:00:00Z";

/// What a tar goes through on its way into a file.
pub(super) type Gzip = GzEncoder<Hashing<BufWriter<NamedTempFile>>>;

/// A layer in a temporary file, which is removed with it.
#[derive(Debug)]
pub struct LayerFile {
    pub blob: Blob,
    path: TempPath,
}

impl BlobSource for LayerFile {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

impl LayerFile {
    /// Makes a layer in a file below `directory` of the tar that `write` writes, and gives the
    /// SHA-256 of that tar.
    ///
    /// # Errors
    /// `write` fails, or the file cannot be written.
    pub(super) fn make(
        directory: &Path,
        write: impl FnOnce(Hashing<Gzip>) -> Result<Hashing<Gzip>, LayerError>,
    ) -> Result<(Self, Sha256), LayerError> {
        let file = tempfile::Builder::new()
            .prefix("layer-")
            .tempfile_in(directory)?;
        let out = Hashing::new(BufWriter::with_capacity(1 << 20, file));
        let gzip = flate2::GzBuilder::new().mtime(0).operating_system(255);
        let gzip = gzip.write(out, flate2::Compression::new(GZIP));
        let (gzip, diff_id) = write(Hashing::new(gzip))?.finish();
        let (mut writer, blob) = gzip.finish()?.finish();
        writer.flush()?;
        let file: NamedTempFile = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let path = file.into_temp_path();
        Ok((Self { blob, path }, diff_id.digest))
    }
}

/// A layer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The image cannot be had from the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the tree has a name that container images cannot hold.
    #[error("the tree has a file called {0}, which container images take for the removal of one")]
    Reserved(String),
    /// The layer could not be written.
    #[error("cannot write the layer: {0}")]
    Io(#[from] io::Error),
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
}

/// Computes the SHA-256 of what goes through.
pub(super) struct Hashing<W> {
    inner: W,
    hasher: sha2::Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: sha2::Sha256::new(),
            size: 0,
        }
    }

    fn finish(self) -> (W, Blob) {
        let digest = Sha256::from_bytes(self.hasher.finalize().into());
        let size = self.size;
        (self.inner, Blob { digest, size })
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
