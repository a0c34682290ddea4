//! Cutting content into chunks, by the content alone (`store-format/chunking.md`).
//!
//! A [`Cutter`] is pure and keeps no bytes: it is shown what begins at its position, and says how
//! long the next piece is. A piece is a chunk or a run of blocks of zeros. Disks are cut at
//! multiples of 4 KiB, the block of their file systems; tars at multiples of 512 bytes, but for
//! large members, which are cut like disks, so that a layer and the disk made from it share chunks.

/// Blocks of this many bytes that are all zero are holes.
pub(in crate::store) const BLOCK: usize = 4096;
/// The shortest chunk that ends by its content.
pub(in crate::store) const MIN: usize = 16 << 10;
/// The longest chunk.
pub(in crate::store) const MAX: usize = 256 << 10;
/// A cutter that is shown this many bytes always knows the next piece.
pub(in crate::store) const ENOUGH: usize = MAX + BLOCK;
/// Records of tars.
pub(in crate::store) const RECORD: usize = 512;
/// Members of tars from this length on are cut like disks.
const LARGE: u64 = 64 << 10;

/// The next piece of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Piece {
    /// A chunk of so many bytes.
    Chunk(usize),
    /// So many zeros.
    Hole(usize),
    /// It depends on bytes that were not shown.
    More,
}

/// Where the content is divided next by what it is.
#[derive(Debug, Clone, Copy)]
enum Zone {
    /// All of the content.
    Disk,
    /// Records of a tar. `walk` is the distance to the next one that may be a header.
    Records { walk: u64 },
    /// The data of a large member; so many bytes are left.
    Member { left: u64 },
}

/// Says where content is cut.
#[derive(Debug, Clone)]
pub(in crate::store) struct Cutter {
    /// Not known before the first bytes.
    zone: Option<Zone>,
    /// Bytes since the last block of the zone began.
    in_block: usize,
}

/// Where a scan for the end of a chunk stands.
struct Scan {
    zone: Zone,
    in_block: usize,
    length: usize,
}

impl Cutter {
    pub(in crate::store) const fn new() -> Self {
        Self {
            zone: None,
            in_block: 0,
        }
    }

    /// A cutter that goes on in content that is no tar, where a chunk or a block of zeros ended.
    pub(in crate::store) const fn within_disk() -> Self {
        Self {
            zone: Some(Zone::Disk),
            in_block: 0,
        }
    }

    /// Goes on behind a chunk of content that begins with the bytes `start`, when that is no tar;
    /// tells whether it does.
    pub(in crate::store) fn resume(&mut self, start: &[u8]) -> bool {
        let disk = !is_tar(start);
        if disk {
            *self = Self::within_disk();
        }
        disk
    }

    /// Whether zeros may be skipped without being shown: whether this is no tar, at the start of a
    /// block.
    pub(in crate::store) const fn may_skip(&self) -> bool {
        matches!(self.zone, Some(Zone::Disk)) && self.in_block == 0
    }

    /// The piece at the start of `bytes`, which are not empty and begin where the last piece ended;
    /// `end` when they reach to the end of the content.
    pub(in crate::store) fn next(&mut self, bytes: &[u8], end: bool) -> Piece {
        let zone = match self.zone {
            Some(zone) => zone,
            None if bytes.len() < RECORD && !end => return Piece::More,
            None if is_tar(bytes) => Zone::Records { walk: 0 },
            None => Zone::Disk,
        };
        self.zone = Some(zone);
        let mut scan = Scan {
            zone,
            in_block: self.in_block,
            length: 0,
        };
        if scan.in_block == 0 {
            let zeros = scan.zeros(bytes, end);
            if zeros > 0 {
                self.zone = Some(scan.zone.after(zeros));
                return Piece::Hole(zeros);
            }
        }
        match scan.chunk(bytes, end) {
            Some(next) => {
                self.zone = Some(next);
                self.in_block = scan.in_block;
                Piece::Chunk(scan.length)
            }
            None => Piece::More,
        }
    }
}

impl Zone {
    const fn granule(self) -> (usize, u32) {
        match self {
            Self::Disk | Self::Member { .. } => (BLOCK, 357_913_941),
            Self::Records { .. } => (RECORD, 44_739_242),
        }
    }

    /// The zone after `zeros` of it, which end no zone but a member's.
    const fn after(self, zeros: usize) -> Self {
        let zeros = zeros as u64;
        match self {
            Self::Disk => Self::Disk,
            // Records of zeros are no headers.
            Self::Records { walk } => Self::Records {
                walk: walk.saturating_sub(zeros),
            },
            Self::Member { left } if left <= zeros => Self::Records { walk: 0 },
            Self::Member { left } => Self::Member { left: left - zeros },
        }
    }

    /// Bytes to the end of the zone as far as that is known.
    const fn left(self) -> usize {
        match self {
            Self::Member { left } if left < usize::MAX as u64 => left as usize,
            _ => usize::MAX,
        }
    }
}

impl Scan {
    /// Length of the run of whole blocks of zeros at the start of `bytes`.
    fn zeros(&self, bytes: &[u8], end: bool) -> usize {
        let mut zeros = 0;
        loop {
            let rest = &bytes[zeros..];
            let block = BLOCK.min(self.zone.left() - zeros).min(rest.len());
            let whole = end || block == BLOCK || block == self.zone.left() - zeros;
            if block == 0 || !whole || !is_zero(&rest[..block]) {
                return zeros;
            }
            zeros += block;
            // A tail of zeros that is not a multiple of a block ends its zone.
            if block < BLOCK {
                return zeros;
            }
        }
    }

    /// Scans to the end of the chunk at the start of `bytes`. Gives the zone that follows, or
    /// nothing when the chunk may go on behind `bytes`.
    fn chunk(&mut self, bytes: &[u8], end: bool) -> Option<Zone> {
        let (granule, threshold) = self.zone.granule();
        loop {
            let rest = &bytes[self.length..];
            let left = self.zone.left();
            if rest.is_empty() && end {
                return Some(self.zone);
            }
            if self.in_block == 0 {
                let block = BLOCK.min(left).min(rest.len());
                if block < BLOCK.min(left) && !end {
                    return None;
                }
                if is_zero(&rest[..block]) {
                    return Some(self.zone);
                }
            }
            let length = granule.min(left).min(rest.len());
            if length < granule.min(left) && !end {
                return None;
            }
            let piece = &rest[..length];
            self.length += length;
            self.in_block = (self.in_block + length) % BLOCK;
            let next = self.zone.after_granule(piece);
            if std::mem::discriminant(&self.zone) != std::mem::discriminant(&next) {
                self.in_block = 0;
                return Some(next);
            }
            self.zone = next;
            let cut = self.length >= MIN && crc32c::crc32c(piece) < threshold;
            if cut || self.length == MAX {
                return Some(self.zone);
            }
        }
    }
}

impl Zone {
    /// The zone behind a granule of this one.
    fn after_granule(self, granule: &[u8]) -> Self {
        match self {
            Self::Records { walk: 0 } => match member_size(granule) {
                Some(size) if size >= LARGE => Self::Member {
                    left: size.next_multiple_of(RECORD as u64),
                },
                Some(size) => Self::Records {
                    walk: size.next_multiple_of(RECORD as u64),
                },
                None => self,
            },
            other => other.after(granule.len()),
        }
    }
}

/// Whether content that begins so is a tar; [`RECORD`] bytes tell.
pub(in crate::store) fn is_tar(bytes: &[u8]) -> bool {
    bytes.len() >= RECORD && &bytes[257..262] == b"ustar"
}

/// The bytes of data behind a member header; nothing when the record is none.
fn member_size(record: &[u8]) -> Option<u64> {
    if record.len() < RECORD || !is_tar(record) {
        return None;
    }
    let field = &record[124..136];
    let digits = field
        .iter()
        .take_while(|byte| matches!(byte, b'0'..=b'7'))
        .count();
    let padded = field[digits..].iter().all(|byte| matches!(byte, b' ' | 0));
    if digits == 0 || !padded {
        return None;
    }
    let size = field[..digits]
        .iter()
        .fold(0, |size, digit| size * 8 + u64::from(digit - b'0'));
    Some(if matches!(record[156], b'1'..=b'6') {
        0
    } else {
        size
    })
}

/// Whether all bytes are zero.
pub(in crate::store) fn is_zero(bytes: &[u8]) -> bool {
    let (parts, tail) = bytes.as_chunks::<128>();
    // Without a branch for each byte.
    parts
        .iter()
        .all(|part| part.iter().fold(0, |or, &byte| or | byte) == 0)
        && tail.iter().all(|&byte| byte == 0)
}

#[cfg(any(test, fuzzing))]
pub(in crate::store) mod book;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
