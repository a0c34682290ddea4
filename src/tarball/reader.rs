//! Reading archives, member by member.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;

use super::header::Header;
use super::pax::{Extended, Owners};
use super::sparse::{self, MAX_READ, parts};
use super::{Kind, MAX_EXTENSION, Member, RECORD, Time, damaged};

/// Reads an archive. [`Reader::member`] gives one member after the other; reading gives the content
/// of the last one, holes as zeros.
pub struct Reader<R> {
    stream: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    /// Bytes of the archive that were read or skipped.
    at: u64,
    /// Bytes of it up to the next header.
    next: u64,
    /// Said by global headers.
    owners: Owners,
    content: Content,
}

/// The content of the member that was read last.
#[derive(Default)]
struct Content {
    position: u64,
    size: u64,
    /// The parts that are in the archive, and not yet read.
    data: VecDeque<Range<u64>>,
}

/// What extended headers said of the next member.
#[derive(Default)]
struct Ahead {
    extended: Option<Extended>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// An archive that is read from front to back.
    pub fn new(stream: R) -> Self {
        Self::with_skip(stream, |stream, length| {
            let skipped = io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
            match skipped == length {
                true => Ok(()),
                false => Err(cut_off()),
            }
        })
    }

    fn with_skip(stream: R, skip: fn(&mut R, u64) -> io::Result<()>) -> Self {
        Self {
            stream,
            skip,
            at: 0,
            next: 0,
            owners: Owners::default(),
            content: Content::default(),
        }
    }

    /// The next member; `None` at the end. What is left of the content of the one before is
    /// skipped.
    ///
    /// # Errors
    /// The archive cannot be read, is damaged, or says what programs understand differently.
    pub fn member(&mut self) -> io::Result<Option<Member>> {
        let mut ahead = Ahead::default();
        loop {
            self.content = Content::default();
            let Some(header) = self.header()? else {
                return match ahead.is_empty() {
                    true => Ok(None),
                    false => Err(damaged("it ends before the member of an extended header")),
                };
            };
            match header.kind() {
                b'x' | b'X' => {
                    let content = self.extension(&header)?;
                    let extended = Extended::parse(&content)?;
                    once(&mut ahead.extended, extended)?;
                }
                b'g' => {
                    let content = self.extension(&header)?;
                    self.owners.update(&content)?;
                }
                b'L' => {
                    let content = self.extension(&header)?;
                    once(&mut ahead.path, up_to_zero(content))?;
                }
                b'K' => {
                    let content = self.extension(&header)?;
                    once(&mut ahead.link, up_to_zero(content))?;
                }
                // The name of a volume.
                b'V' => self.expect(header.size()?)?,
                b'M' => return Err(damaged("it is a part of an archive of several volumes")),
                _ => return self.describe(&header, ahead).map(Some),
            }
        }
    }

    /// Where the content of the last member is in the archive.
    pub const fn place(&self) -> Range<u64> {
        // What lies behind it is less than a record.
        let length = self.content.size;
        self.at..self.at + length
    }

    /// Where the header of the next member is in the archive, or its end.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Passes the hole that the content has here, if it does; tells its length.
    pub fn hole(&mut self) -> u64 {
        let content = &mut self.content;
        let data = content.data.front();
        let end = data.map_or(content.size, |part| part.start);
        let length = end.saturating_sub(content.position);
        content.position += length;
        length
    }

    /// Writes the content to a new file. What is zeros becomes holes.
    ///
    /// # Errors
    /// The archive cannot be read, or the file cannot be written.
    pub fn write_to(&mut self, file: &File) -> io::Result<()> {
        let size = self.content.size;
        let mut buffer = sparse::buffer(size);
        loop {
            self.hole();
            let position = self.content.position;
            let mut length = 0;
            // Whole buffers: blocks of zeros must not be torn.
            while length < buffer.len() && !self.at_hole() {
                length += self.read(&mut buffer[length..])?;
            }
            if length == 0 {
                break;
            }
            sparse::write_data(file, &buffer[..length], position)?;
        }
        match size {
            0 => Ok(()),
            size => file.set_len(size),
        }
    }

    /// What is stored of the content, without its holes.
    pub const fn stored(&mut self) -> Stored<'_, R> {
        Stored(self)
    }

    /// Whether no stored byte comes next.
    fn at_hole(&self) -> bool {
        let content = &self.content;
        let data = content.data.front();
        data.is_none_or(|part| part.start > content.position)
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let gap = self.next.saturating_sub(self.at);
        if gap > 0 {
            (self.skip)(&mut self.stream, gap)?;
            self.at = self.next;
        }
        let Some(header) = self.record()? else {
            return Ok(None);
        };
        if header.is_end() {
            return Ok(None);
        }
        if !header.is_valid() {
            return Err(match self.at {
                RECORD => damaged("it is no tar"),
                at => damaged(format!("there is no header at byte {}", at - RECORD)),
            });
        }
        Ok(Some(header))
    }

    /// The next 512 bytes; `None` at the end.
    fn record(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header([0; 512]);
        let mut length = 0;
        while length < header.0.len() {
            match self.stream.read(&mut header.0[length..]) {
                Ok(0) if length == 0 => return Ok(None),
                Ok(0) => return Err(cut_off()),
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.at += RECORD;
        self.next = self.at;
        Ok(Some(header))
    }

    /// The next header comes behind so many bytes.
    fn expect(&mut self, length: u64) -> io::Result<()> {
        let next = length
            .checked_next_multiple_of(RECORD)
            .and_then(|padded| self.at.checked_add(padded));
        self.next = next.ok_or_else(|| damaged("its size is no number"))?;
        Ok(())
    }

    /// The content of a header that describes the next member.
    fn extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = header.size()?;
        if size > MAX_EXTENSION {
            return Err(damaged(format!(
                "a header has {size} bytes, and at most {MAX_EXTENSION} are read"
            )));
        }
        self.expect(size)?;
        let mut content = Vec::new();
        self.stream.by_ref().take(size).read_to_end(&mut content)?;
        self.at += content.len() as u64;
        match content.len() as u64 == size {
            true => Ok(content),
            false => Err(cut_off()),
        }
    }

    fn describe(&mut self, header: &Header, ahead: Ahead) -> io::Result<Member> {
        let mut extended = ahead.extended.unwrap_or_default();
        let sparse_name = extended.sparse.name.take();
        let path = one(sparse_name.or(extended.path.take()), ahead.path, || {
            header.path()
        })?;
        let link = one(extended.link.take(), ahead.link, || header.link().to_vec())?;
        let is_directory = path.ends_with(b"/");
        let kind = match header.kind() {
            // Before there was a type for directories, a slash told them.
            0 | b'0' | b'7' if is_directory => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Link,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            // `D` has the names of the files in it for content.
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        };
        let stored = match header.kind() {
            // These have no content, whatever the size says.
            b'1'..=b'6' => 0,
            _ => match extended.size {
                Some(size) => size,
                None => header.size()?,
            },
        };
        self.expect(stored)?;
        let data = match kind {
            Kind::File => self.data(header, &extended, stored)?,
            _ => None,
        };
        let (size, data) = match data {
            Some((size, data)) => (size, Some(data)),
            None if kind == Kind::File => (stored, None),
            None => (0, None),
        };
        self.content = Content {
            position: 0,
            size,
            data: data
                .clone()
                .unwrap_or_else(|| std::iter::once(0..size).collect())
                .into(),
        };
        let owners = extended.owners.or(self.owners);
        let or =
            |said: Option<u64>, field: &dyn Fn() -> io::Result<u64>| said.map_or_else(field, Ok);
        let trimmed = path.iter().rposition(|byte| *byte != b'/');
        Ok(Member {
            path: path[..trimmed.map_or(0, |last| last + 1)].to_vec(),
            kind,
            link: match kind {
                Kind::Link | Kind::Symlink => link,
                _ => Vec::new(),
            },
            mode: header.mode()?,
            uid: or(owners.uid, &|| header.uid())?,
            gid: or(owners.gid, &|| header.gid())?,
            user: extended.user.unwrap_or_else(|| header.user().to_vec()),
            group: extended.group.unwrap_or_else(|| header.group().to_vec()),
            time: match owners.time {
                Some(time) => time,
                None => Time {
                    seconds: header.time()?,
                    nanoseconds: 0,
                },
            },
            size,
            data,
            attributes: extended.attributes,
            note: extended.note.unwrap_or_default(),
        })
    }

    /// The length of a file with holes, and its parts that are stored; `None` when it has no holes.
    fn data(
        &mut self,
        header: &Header,
        extended: &Extended,
        stored: u64,
    ) -> io::Result<Option<(u64, Vec<Range<u64>>)>> {
        let sparse = &extended.sparse;
        let unknown = || damaged("it has holes in a form that is unknown");
        let (size, pairs) = if header.kind() == b'S' {
            let ((mut pairs, mut more), size) = header.sparse()?;
            while more {
                let record = self.record()?.ok_or_else(cut_off)?;
                let next;
                (next, more) = record.more_sparse()?;
                pairs.extend(next);
                check_length(pairs.len())?;
            }
            self.expect(stored)?;
            (size, pairs)
        } else {
            match (sparse.major, sparse.minor, &sparse.map) {
                (None, None, None) if sparse.size.is_none() => return Ok(None),
                (Some(1), Some(0), None) => {
                    let pairs = self.map_in_content(stored)?;
                    (sparse.size.ok_or_else(unknown)?, pairs)
                }
                (None | Some(0), None | Some(0 | 1), Some(map)) => {
                    check_length(map.len())?;
                    let pairs = map.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                    let pairs = match map.len() % 2 {
                        0 => pairs.collect(),
                        _ => return Err(damaged("its map is no map")),
                    };
                    (sparse.size.ok_or_else(unknown)?, pairs)
                }
                _ => return Err(unknown()),
            }
        };
        let parts = parts(pairs, size)?;
        let length: u64 = parts.iter().map(|part| part.end - part.start).sum();
        match length <= self.next - self.at {
            true => Ok(Some((size, parts))),
            false => Err(damaged("its map is no map")),
        }
    }

    /// The map of version 1.0: lines with numbers, filled up to a record.
    fn map_in_content(&mut self, stored: u64) -> io::Result<Vec<(u64, u64)>> {
        let end = self.next;
        let mut digits: Vec<u8> = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let wrong = || damaged("its map is no map");
        let start = self.at;
        while numbers
            .first()
            .is_none_or(|count| numbers.len() as u64 / 2 < *count)
        {
            if self.at - start >= stored {
                return Err(wrong());
            }
            let record = self.record()?.ok_or_else(cut_off)?;
            for byte in record.0 {
                match byte {
                    b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                    b'\n' => {
                        let text = std::str::from_utf8(&digits).unwrap_or_default();
                        numbers.push(text.parse().map_err(|_| wrong())?);
                        digits.clear();
                        check_length(numbers.len())?;
                        if numbers.len() as u64 == numbers[0].saturating_mul(2) + 1 {
                            break;
                        }
                    }
                    _ => return Err(wrong()),
                }
            }
        }
        self.next = end;
        let pairs = numbers[1..].chunks_exact(2);
        Ok(pairs.map(|pair| (pair[0], pair[1])).collect())
    }
}

impl<R: Read + Seek> Reader<R> {
    /// An archive whose contents are skipped without reading them. What is said to lie behind its
    /// end is found missing when the next header is read, or never.
    pub fn seekable(stream: R) -> Self {
        Self::with_skip(stream, |stream, length| {
            let length = i64::try_from(length).map_err(|_| cut_off())?;
            stream.seek_relative(length)
        })
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let content = &mut self.content;
        let left = usize::try_from(content.size - content.position).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        if most == 0 {
            return Ok(0);
        }
        let next = content.data.front().cloned();
        let next = next.unwrap_or(content.size..content.size);
        let at_most = |length: u64| most.min(usize::try_from(length).unwrap_or(usize::MAX));
        if content.position < next.start {
            let length = at_most(next.start - content.position);
            buffer[..length].fill(0);
            content.position += length as u64;
            return Ok(length);
        }
        let length = at_most(next.end - content.position);
        let count = self.stream.read(&mut buffer[..length])?;
        if count == 0 {
            return Err(cut_off());
        }
        self.at += count as u64;
        content.position += count as u64;
        if content.position == next.end {
            content.data.pop_front();
        }
        Ok(count)
    }
}

/// The stored parts of a member's content, one after the other.
pub struct Stored<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Stored<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.hole();
        self.0.read(buffer)
    }
}

impl Ahead {
    const fn is_empty(&self) -> bool {
        self.extended.is_none() && self.path.is_none() && self.link.is_none()
    }
}

/// Sets what a member can have once.
fn once<T>(place: &mut Option<T>, value: T) -> io::Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(damaged("a member has two extended headers of one kind")),
    }
}

/// The name that counts of those that a member has.
fn one(
    pax: Option<Vec<u8>>,
    gnu: Option<Vec<u8>>,
    header: impl FnOnce() -> Vec<u8>,
) -> io::Result<Vec<u8>> {
    let name = match (pax, gnu) {
        // Programs differ in which one counts.
        (Some(pax), Some(gnu)) if pax != gnu => return Err(damaged("a member has two names")),
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => header(),
    };
    match name.contains(&0) {
        true => Err(damaged("a name has a zero byte in it")),
        false => Ok(name),
    }
}

fn up_to_zero(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0);
    name.truncate(end.unwrap_or(name.len()));
    name
}

fn check_length(length: usize) -> io::Result<()> {
    match length <= MAX_READ {
        true => Ok(()),
        false => Err(damaged(format!("its map has more than {MAX_READ} parts"))),
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off")
}
