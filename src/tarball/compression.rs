//! Compressed streams.

use std::io::{self, BufRead, Read};

/// The most memory that a stream may make its reader take, in KiB: the largest preset of xz(1)
/// needs an eighth.
const XZ_MEMORY: u32 = 512 << 10;

/// A format of compressed streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// <https://tukaani.org/xz/xz-file-format.txt>
    Xz,
    /// RFC 8878.
    Zstd,
    /// bzip2(1).
    Bzip2,
}

impl Compression {
    /// With their names in recipes and the bytes that they begin with.
    const ALL: [(Self, &'static str, &'static [u8]); 4] = [
        (Self::Gzip, "gz", b"\x1f\x8b"),
        (Self::Xz, "xz", b"\xfd7zXZ\0"),
        (Self::Zstd, "zst", b"\x28\xb5\x2f\xfd"),
        (Self::Bzip2, "bz2", b"BZh"),
    ];

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let find = Self::ALL.iter().find(|(_, other, _)| *other == name);
        find.map(|(format, ..)| *format)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        let find = Self::ALL.iter().find(|(format, ..)| *format == self);
        find.map_or("", |(_, name, _)| name)
    }

    /// The format of a stream that begins so.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let find = Self::ALL.iter().find(|(.., mark)| head.starts_with(mark));
        // A frame that zstd skips can come first (RFC 8878, section 3.1.2).
        let skippable = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        find.map(|(format, ..)| *format)
            .or(skippable.then_some(Self::Zstd))
    }

    /// What the stream is of, decompressed. Streams may consist of several members or frames, which
    /// follow each other.
    ///
    /// # Errors
    /// It does not begin as such a stream.
    pub fn reader<'a, R: BufRead + 'a>(self, stream: R) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(Members::new(
                stream,
                0x1f,
                flate2::bufread::GzDecoder::new,
                flate2::bufread::GzDecoder::into_inner,
            )),
            Self::Bzip2 => Box::new(Members::new(
                stream,
                b'B',
                bzip2::bufread::BzDecoder::new,
                bzip2::bufread::BzDecoder::into_inner,
            )),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(stream, true, XZ_MEMORY)),
            // Windows are limited to 128 MiB by the library.
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
        })
    }
}

/// Members of a stream, one after the other. Zeros may follow the last one, as they do on tapes.
struct Members<R, D> {
    member: Option<D>,
    mark: u8,
    open: fn(R) -> D,
    close: fn(D) -> R,
}

impl<R: BufRead, D: Read> Members<R, D> {
    fn new(stream: R, mark: u8, open: fn(R) -> D, close: fn(D) -> R) -> Self {
        Self {
            member: Some(open(stream)),
            mark,
            open,
            close,
        }
    }

    /// The next member; none at the end of the stream.
    fn next(&self, mut stream: R) -> io::Result<Option<D>> {
        loop {
            let bytes = stream.fill_buf()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            match bytes.get(zeros) {
                Some(byte) if *byte == self.mark => {
                    stream.consume(zeros);
                    return Ok(Some((self.open)(stream)));
                }
                Some(_) => {
                    let message = "something else follows it";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                None if zeros == 0 => return Ok(None),
                None => stream.consume(zeros),
            }
        }
    }
}

impl<R: BufRead, D: Read> Read for Members<R, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut member) = self.member.take() {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                self.member = Some(member);
                return Ok(count);
            }
            self.member = self.next((self.close)(member))?;
        }
        Ok(0)
    }
}
