//! Files that others wrote: read without waiting, and no further than a limit.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file. Anything else is refused, as whoever opens a pipe waits for its writer,
/// and a device may have no end.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    if kind.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let message = "it is a pipe, a socket or a device, not a regular file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// The text of a regular file of at most `most` bytes.
///
/// # Errors
/// It cannot be read, is larger ([`io::ErrorKind::FileTooLarge`]), or is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text(open_regular(path)?, most)
}

/// The same for something that is open.
///
/// # Errors
/// See [`read_text`].
pub fn text(reader: impl Read, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let message = if bytes.contains(&0) {
            "it is not text".to_owned()
        } else {
            let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
            format!(
                "line {line} has the byte 0x{:02X}, which is not UTF-8: convert the file, for example with \
                 iconv -f latin1 -t utf-8",
                bytes[at]
            )
        };
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_no_regular_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let shown = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_text(&path, 20).map_err(|error| error.to_string())
        };
        assert_eq!(shown("caf\u{e9}\n".as_bytes()).unwrap(), "caf\u{e9}\n");
        assert_eq!(shown(&[b'x'; 20]).unwrap().len(), 20);
        assert_eq!(shown(&[b'x'; 21]).unwrap_err(), "it has more than 20 bytes");
        let latin = shown(b"a\nb\ncaf\xe9\n").unwrap_err();
        assert!(
            latin.starts_with("line 3 has the byte 0xE9, which is not UTF-8"),
            "{latin}"
        );
        assert_eq!(shown(b"QFI\xfb\0\0").unwrap_err(), "it is not text");
        let pipe = directory.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for odd in [&pipe, Path::new("/dev/zero")] {
            assert_eq!(
                read_text(odd, 20).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
        let error = read_text(directory.path(), 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
