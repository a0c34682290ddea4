//! Layers as ordinary container images have them: tars, compressed, in temporary files.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use sha2::Digest as _;
use tempfile::{NamedTempFile, TempPath};

use crate::digest::Sha256;
use crate::failure::Failure;
use crate::host::Interrupt;
use crate::registry::{Blob, BlobSource};

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
    /// `write` fails, the file cannot be written, or the user gave up.
    pub(super) fn make(
        directory: &Path,
        interrupt: &Interrupt,
        write: impl FnOnce(Hashing<Gzip>) -> Result<Hashing<Gzip>, Failure>,
    ) -> Result<(Self, Sha256), Failure> {
        let file = tempfile::Builder::new()
            .prefix("layer-")
            .tempfile_in(directory)
            .map_err(not_written)?;
        let out = Hashing::new(BufWriter::with_capacity(1 << 20, file));
        let gzip = flate2::GzBuilder::new().mtime(0).operating_system(255);
        let gzip = gzip.write(out, flate2::Compression::new(GZIP));
        let written = write(Hashing::new(gzip)).map_err(|error| match interrupt.requested() {
            true => Failure::interrupted(),
            false => error,
        });
        let (gzip, diff_id) = written?.finish();
        let (mut writer, blob) = gzip.finish().map_err(not_written)?.finish();
        writer.flush().map_err(not_written)?;
        let file: NamedTempFile = writer
            .into_inner()
            .map_err(|error| not_written(error.into_error()))?;
        let path = file.into_temp_path();
        Ok((Self { blob, path }, diff_id.digest))
    }
}

/// A layer could not be written.
pub(super) fn not_written(error: io::Error) -> Failure {
    Failure::failed(format!("cannot write the layer: {error}"))
}

/// Computes the SHA-256 of what goes through.
pub struct Hashing<W> {
    inner: W,
    hasher: sha2::Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    /// Passes on to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: sha2::Sha256::new(),
            size: 0,
        }
    }

    /// Where all went, with its size and checksum.
    pub fn finish(self) -> (W, Blob) {
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
