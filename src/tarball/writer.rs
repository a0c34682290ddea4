//! Writing archives. Equal members give equal bytes.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::header::Header;
use super::{Kind, MAX_EXTENSION, Member, RECORD, pax};

/// Writes an archive.
pub struct Writer<W> {
    stream: W,
}

impl<W: Write> Writer<W> {
    /// An archive without members.
    pub const fn new(stream: W) -> Self {
        Self { stream }
    }

    /// Adds a member that has no content.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, member: &Member) -> io::Result<()> {
        self.add_file(member, &mut io::empty())
    }

    /// Adds a member with the content that is stored of it: what lies in its holes is left out.
    ///
    /// # Errors
    /// It cannot be written, or there is less or more content than it says.
    pub fn add_file(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let stored = stored(member);
        self.header(member)?;
        // Into the stream itself: if that has a buffer, this is filled.
        let copied = io::copy(&mut (&mut *content).take(stored), &mut self.stream)?;
        self.end(member, copied + content.read(&mut [0])? as u64)
    }

    /// Adds a member whose content is written piece by piece.
    ///
    /// # Errors
    /// It cannot be written, or there is less or more content than it says.
    pub fn add_written(
        &mut self,
        member: &Member,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.header(member)?;
        let mut counted = Counted(&mut self.stream, 0);
        content(&mut counted)?;
        let written = counted.1;
        self.end(member, written)
    }

    /// Ends a member of whose content so many bytes were given.
    fn end(&mut self, member: &Member, given: u64) -> io::Result<()> {
        match given == stored(member) {
            true => self.pad(given),
            false => Err(io::Error::other("its length changed while it was read")),
        }
    }

    /// Writes the end; gives the stream back.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.stream.write_all(&[0; 2 * RECORD as usize])?;
        Ok(self.stream)
    }

    fn header(&mut self, member: &Member) -> io::Result<()> {
        let records = records(member);
        if !records.is_empty() {
            let mut header = Header::ustar(b'x');
            header.set_size(records.len() as u64);
            self.extension(header, &records)?;
        }
        // GNU tar expects its own maps in its own headers.
        let new = match member.data {
            Some(_) => Header::ustar,
            None => Header::gnu,
        };
        let mut header = new(match member.kind {
            Kind::File => b'0',
            Kind::Link => b'1',
            Kind::Symlink => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
            Kind::Other(flag) => flag,
        });
        if !header.set_path(&member.path) {
            self.long(b'L', &member.path)?;
        }
        if !header.set_link(&member.link) {
            self.long(b'K', &member.link)?;
        }
        if !header.set_owners(&member.user, &member.group) {
            return Err(io::Error::other("the name of its owner is too long"));
        }
        header.set_mode(member.mode);
        header.set_uid(member.uid);
        header.set_gid(member.gid);
        // Other times are in the extended header.
        header.set_time(u64::try_from(member.time.seconds).unwrap_or(0));
        header.set_size(stored(member));
        self.stream.write_all(&header.finish())
    }

    /// A name that does not fit into a header.
    fn long(&mut self, kind: u8, name: &[u8]) -> io::Result<()> {
        let mut header = Header::gnu(kind);
        header.set_path(b"././@LongLink");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(name.len() as u64 + 1);
        self.extension(header, &[name, b"\0"].concat())
    }

    fn extension(&mut self, header: Header, content: &[u8]) -> io::Result<()> {
        if content.len() as u64 > MAX_EXTENSION {
            return Err(io::Error::other(format!(
                "its name and attributes have more than {MAX_EXTENSION} bytes"
            )));
        }
        self.stream.write_all(&header.finish())?;
        self.stream.write_all(content)?;
        self.pad(content.len() as u64)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let padding = length.next_multiple_of(RECORD) - length;
        self.stream
            .write_all(&[0; RECORD as usize][..padding as usize])
    }
}

/// Counts what is written.
struct Counted<'a, W>(&'a mut W, u64);

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1 += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Bytes of a member's content that are stored.
fn stored(member: &Member) -> u64 {
    match &member.data {
        Some(parts) => parts.iter().map(|part| part.end - part.start).sum(),
        None => member.size,
    }
}

/// What only an extended header can hold.
fn records(member: &Member) -> Vec<u8> {
    let mut records = Vec::new();
    for (name, value) in &member.attributes {
        pax::add_attribute(&mut records, name, value);
    }
    if let Some(parts) = &member.data {
        let map = map(parts, member.size);
        let numbers = |number: u64| number.to_string().into_bytes();
        pax::add(&mut records, b"GNU.sparse.major", b"0");
        pax::add(&mut records, b"GNU.sparse.minor", b"1");
        pax::add(&mut records, b"GNU.sparse.size", &numbers(member.size));
        let count = numbers(map.len() as u64);
        pax::add(&mut records, b"GNU.sparse.numblocks", &count);
        let map: Vec<String> = map
            .iter()
            .map(|(start, length)| format!("{start},{length}"))
            .collect();
        pax::add(&mut records, b"GNU.sparse.map", map.join(",").as_bytes());
    }
    if !member.note.is_empty() {
        pax::add(&mut records, pax::NOTE, &member.note);
    }
    if member.time.seconds < 0 || member.time.nanoseconds > 0 {
        let time = pax::format_time(member.time);
        pax::add(&mut records, b"mtime", time.as_bytes());
    }
    records
}

/// Offsets and lengths. A hole at the end has an empty part behind it.
fn map(parts: &[Range<u64>], size: u64) -> Vec<(u64, u64)> {
    let mut map: Vec<(u64, u64)> = parts
        .iter()
        .map(|part| (part.start, part.end - part.start))
        .collect();
    if parts.last().is_none_or(|last| last.end < size) {
        map.push((size, 0));
    }
    map
}
