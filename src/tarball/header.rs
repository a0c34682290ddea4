//! Headers: 512 bytes of fields.

use std::io;
use std::ops::Range;

use super::damaged;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const TIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const USER: Range<usize> = 265..297;
const GROUP: Range<usize> = 297..329;
const PREFIX: Range<usize> = 345..500;
/// Of star: its prefix is shorter.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_MAGIC: Range<usize> = 508..512;
/// Of GNU's sparse files: four pairs, whether more follow, and the length with holes.
const SPARSE: Range<usize> = 386..482;
const SPARSE_MORE: usize = 482;
const SPARSE_SIZE: Range<usize> = 483..495;
/// Of the records with more pairs.
const MORE_PAIRS: Range<usize> = 0..504;
const MORE_MORE: usize = 504;

const USTAR: &[u8; 8] = b"ustar\x0000";
const GNU: &[u8; 8] = b"ustar  \0";

/// Whether an archive begins so: with a header that has the checksum that it says.
#[must_use]
pub fn is_header(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|bytes| {
        // An extended header needs no name.
        let has_name = bytes[0] != 0 || bytes[MAGIC].starts_with(b"ustar");
        has_name && Header(*bytes).is_valid()
    })
}

/// The bytes of a header.
pub(super) struct Header(pub(super) [u8; 512]);

/// Pairs of offset and length, and whether more follow.
pub(super) type Pairs = (Vec<(u64, u64)>, bool);

impl Header {
    pub(super) fn gnu(kind: u8) -> Self {
        let mut header = Self([0; 512]);
        header.0[MAGIC].copy_from_slice(GNU);
        header.0[TYPE] = kind;
        header.set_number(TIME, 0);
        header
    }

    pub(super) fn ustar(kind: u8) -> Self {
        let mut header = Self::gnu(kind);
        header.0[MAGIC].copy_from_slice(USTAR);
        header
    }

    pub(super) fn is_end(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether the checksum is right. Old programs added signed bytes.
    pub(super) fn is_valid(&self) -> bool {
        let Ok(Some(told)) = number(&self.0[CHECKSUM]) else {
            return false;
        };
        let others = || self.0[..148].iter().chain(&self.0[156..]);
        let spaces = 8 * i64::from(b' ');
        let unsigned: i64 = others().map(|byte| i64::from(*byte)).sum();
        let signed: i64 = others().map(|byte| i64::from(byte.cast_signed())).sum();
        told == unsigned + spaces || told == signed + spaces
    }

    pub(super) const fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        if self.0[MAGIC.start..MAGIC.start + 6] != USTAR[..6] {
            return name.to_vec();
        }
        let prefix = match &self.0[STAR_MAGIC] {
            b"tar\0" => text(&self.0[STAR_PREFIX]),
            _ => text(&self.0[PREFIX]),
        };
        match prefix {
            b"" => name.to_vec(),
            prefix => [prefix, name].join(&b'/'),
        }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(&self.0[LINK])
    }

    pub(super) fn user(&self) -> &[u8] {
        self.owner_name(USER)
    }

    pub(super) fn group(&self) -> &[u8] {
        self.owner_name(GROUP)
    }

    fn owner_name(&self, field: Range<usize>) -> &[u8] {
        match self.0[MAGIC].starts_with(b"ustar") {
            true => text(&self.0[field]),
            false => b"",
        }
    }

    pub(super) fn mode(&self) -> io::Result<u32> {
        let mode = self.unsigned(MODE, "mode")?;
        Ok((mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> io::Result<u64> {
        self.unsigned(UID, "owner")
    }

    pub(super) fn gid(&self) -> io::Result<u64> {
        self.unsigned(GID, "group")
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        self.unsigned(SIZE, "size")
    }

    pub(super) fn time(&self) -> io::Result<i64> {
        let wrong = || damaged("its time is no number");
        Ok(number(&self.0[TIME]).map_err(|()| wrong())?.unwrap_or(0))
    }

    fn unsigned(&self, field: Range<usize>, what: &str) -> io::Result<u64> {
        unsigned(&self.0[field]).ok_or_else(|| damaged(format!("its {what} is no number")))
    }

    /// The map of a file in GNU's own sparse format.
    pub(super) fn sparse(&self) -> io::Result<(Pairs, u64)> {
        let map = (pairs(&self.0[SPARSE])?, self.0[SPARSE_MORE] != 0);
        Ok((map, self.unsigned(SPARSE_SIZE, "size")?))
    }

    /// The map goes on in these bytes.
    pub(super) fn more_sparse(&self) -> io::Result<Pairs> {
        Ok((pairs(&self.0[MORE_PAIRS])?, self.0[MORE_MORE] != 0))
    }

    /// Sets a name; `false` when there is no room for it.
    pub(super) fn set_path(&mut self, path: &[u8]) -> bool {
        self.set_text(NAME, path)
    }

    pub(super) fn set_link(&mut self, link: &[u8]) -> bool {
        self.set_text(LINK, link)
    }

    pub(super) fn set_owners(&mut self, user: &[u8], group: &[u8]) -> bool {
        self.set_text(USER, user) && self.set_text(GROUP, group)
    }

    fn set_text(&mut self, field: Range<usize>, text: &[u8]) -> bool {
        let length = text.len().min(field.len());
        self.0[field.start..field.start + length].copy_from_slice(&text[..length]);
        length == text.len()
    }

    pub(super) fn set_mode(&mut self, mode: u32) {
        self.set_number(MODE, u64::from(mode));
    }

    pub(super) fn set_uid(&mut self, uid: u64) {
        self.set_number(UID, uid);
    }

    pub(super) fn set_gid(&mut self, gid: u64) {
        self.set_number(GID, gid);
    }

    pub(super) fn set_size(&mut self, size: u64) {
        self.set_number(SIZE, size);
    }

    pub(super) fn set_time(&mut self, seconds: u64) {
        self.set_number(TIME, seconds);
    }

    /// Octal digits and a zero byte; in base 256 where these do not suffice.
    fn set_number(&mut self, field: Range<usize>, number: u64) {
        let field = &mut self.0[field];
        let digits = field.len() - 1;
        if number >> (3 * digits) == 0 {
            field.copy_from_slice(format!("{number:0digits$o}\0").as_bytes());
        } else {
            field.fill(0);
            field[0] = 0x80;
            let start = field.len() - 8;
            if start == 0 {
                // Owners that need all of the eight bytes do not exist.
                field[1..].copy_from_slice(&number.to_be_bytes()[1..]);
            } else {
                field[start..].copy_from_slice(&number.to_be_bytes());
            }
        }
    }

    /// The bytes with their checksum.
    pub(super) fn finish(mut self) -> [u8; 512] {
        self.0[CHECKSUM].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.set_number(CHECKSUM, sum);
        self.0
    }
}

/// A field up to its first zero byte.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

fn unsigned(field: &[u8]) -> Option<u64> {
    let number = number(field).ok()?.unwrap_or(0);
    u64::try_from(number).ok()
}

/// A number, none when the field is blank.
fn number(field: &[u8]) -> Result<Option<i64>, ()> {
    if let [first @ 0x80..=0xff, rest @ ..] = field {
        // Two's complement; the first bit is the mark, the second the sign.
        let start = match first & 0x40 {
            0 => i128::from(first & 0x3f),
            _ => i128::from(first.cast_signed()),
        };
        let value = rest
            .iter()
            .try_fold(start, |value, byte| {
                value.checked_mul(256)?.checked_add(i128::from(*byte))
            })
            .ok_or(())?;
        return i64::try_from(value).map(Some).map_err(drop);
    }
    let is_blank = |byte: &u8| matches!(byte, 0 | b' ');
    let start = field.iter().position(|byte| !is_blank(byte));
    let Some(start) = start else { return Ok(None) };
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let mut value = 0_i64;
    for digit in &digits[..end] {
        if !matches!(digit, b'0'..=b'7') {
            return Err(());
        }
        value = value.checked_mul(8).ok_or(())? + i64::from(digit - b'0');
    }
    Ok(Some(value))
}

fn pairs(bytes: &[u8]) -> io::Result<Vec<(u64, u64)>> {
    let mut pairs = Vec::new();
    for pair in bytes.chunks_exact(24) {
        let wrong = || damaged("its map is no map");
        let length = number(&pair[12..]).map_err(|()| wrong())?;
        let Some(length) = length else { break };
        let offset = unsigned(&pair[..12]).ok_or_else(wrong)?;
        pairs.push((offset, u64::try_from(length).map_err(|_| wrong())?));
    }
    Ok(pairs)
}
