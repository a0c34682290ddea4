//! Cutting by the book, which is slow and plain, for tests to compare with.

use super::{Cutter, ENOUGH, Piece, is_zero};

/// Cuts as the specification says it, with all of the content at hand: `(start, length)` of chunks.
pub(crate) fn by_the_book(content: &[u8]) -> Vec<(usize, usize)> {
    let mut chunks = Vec::new();
    for (start, end, granule, threshold) in zones(content) {
        let mut chunk: Option<(usize, usize)> = None;
        let mut at = start;
        while at < end {
            let block = &content[at..end.min(at + 4096)];
            if block.iter().all(|&byte| byte == 0) {
                chunks.extend(chunk.take());
            } else {
                for piece in block.chunks(granule) {
                    let offset = at + (piece.as_ptr() as usize - block.as_ptr() as usize);
                    let (from, length) = chunk.unwrap_or((offset, 0));
                    let length = length + piece.len();
                    chunk = Some((from, length));
                    if length == 262_144 || length >= 16_384 && crc32c::crc32c(piece) < threshold {
                        chunks.extend(chunk.take());
                    }
                }
            }
            at += block.len();
        }
        chunks.extend(chunk);
    }
    chunks
}

fn zones(content: &[u8]) -> Vec<(usize, usize, usize, u32)> {
    const DISK: (usize, u32) = (4096, 357_913_941);
    const TAR: (usize, u32) = (512, 44_739_242);
    if content.len() < 512 || &content[257..262] != b"ustar" {
        return vec![(0, content.len(), DISK.0, DISK.1)];
    }
    let mut zones = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < content.len() {
        let record = &content[at..content.len().min(at + 512)];
        at += record.len();
        let Some(size) = header(record) else { continue };
        let data = size.div_ceil(512) * 512;
        let end = content.len().min(at + data);
        if size >= 65_536 {
            zones.push((start, at, TAR.0, TAR.1));
            zones.push((at, end, DISK.0, DISK.1));
            start = end;
        }
        at = end;
    }
    zones.push((start, content.len(), TAR.0, TAR.1));
    zones
}

fn header(record: &[u8]) -> Option<usize> {
    if record.len() < 512 || &record[257..262] != b"ustar" {
        return None;
    }
    let text = std::str::from_utf8(&record[124..136]).ok()?;
    let digits = text.trim_end_matches([' ', '\0']);
    if digits.is_empty() || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    let size = usize::from_str_radix(digits, 8).ok()?;
    Some(if (b'1'..=b'6').contains(&record[156]) {
        0
    } else {
        size
    })
}

/// Cuts with a cutter that is shown `step` more bytes each time that it asks.
pub(crate) fn by_steps(content: &[u8], step: usize) -> Vec<(usize, usize)> {
    let mut cutter = Cutter::new();
    let mut chunks = Vec::new();
    let (mut at, mut shown) = (0, 0);
    while at < content.len() {
        let end = shown == content.len();
        match cutter.next(&content[at..shown], end) {
            Piece::More => {
                assert!(!end);
                assert!(shown - at < ENOUGH);
                shown = content.len().min(shown + step);
            }
            Piece::Chunk(length) => {
                chunks.push((at, length));
                at += length;
            }
            Piece::Hole(length) => {
                assert!(is_zero(&content[at..at + length]));
                at += length;
            }
        }
    }
    chunks
}
