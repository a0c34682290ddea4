use proptest::prelude::*;

use super::*;

/// Cuts as the specification says it, with all of the content at hand: `(start, length)` of chunks.
fn by_the_book(content: &[u8]) -> Vec<(usize, usize)> {
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
fn by_steps(content: &[u8], step: usize) -> Vec<(usize, usize)> {
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

/// Bytes that look random, from a seed.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn member(name: &str, kind: tar::EntryType, data: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, data).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (any::<u64>(), 0_usize..200_000).prop_map(|(seed, length)| noise(seed, length)),
        2 => (0_usize..20_000).prop_map(|length| vec![0; length]),
        1 => (0_usize..10).prop_map(|blocks| vec![0; blocks * 4096]),
        1 => (0_usize..600_000).prop_map(|length| vec![7; length]),
    ]
}

fn tar_part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (any::<u64>(), 0_usize..200_000)
            .prop_map(|(seed, length)| member("file", tar::EntryType::Regular, &noise(seed, length))),
        2 => (any::<u64>(), 60_000_usize..70_000)
            .prop_map(|(seed, length)| member("edge", tar::EntryType::Regular, &noise(seed, length))),
        1 => (60_000_usize..300_000)
            .prop_map(|length| member("zeros", tar::EntryType::Regular, &vec![0; length])),
        1 => Just(member("dir", tar::EntryType::Directory, b"")),
        1 => part(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn steps_cut_as_the_book_says(
        parts in prop::collection::vec(part(), 0..4),
        step in 1_usize..300_000,
    ) {
        let content = parts.concat();
        prop_assert_eq!(by_steps(&content, step), by_the_book(&content));
    }

    #[test]
    fn tars_are_cut_as_the_book_says(
        parts in prop::collection::vec(tar_part(), 0..6),
        step in 1_usize..300_000,
    ) {
        let mut content = member("first", tar::EntryType::Regular, b"x");
        content.extend(parts.concat());
        prop_assert_eq!(by_steps(&content, step), by_the_book(&content));
    }

    #[test]
    fn an_insertion_leaves_most_chunks_alone(seed: u64, blocks in 1_usize..20) {
        let content = noise(seed, 4 << 20);
        let mut longer = noise(!seed, blocks * 4096);
        longer.extend_from_slice(&content);
        let chunks = |content: &[u8]| -> std::collections::HashSet<blake3::Hash> {
            by_the_book(content)
                .into_iter()
                .map(|(at, length)| blake3::hash(&content[at..at + length]))
                .collect()
        };
        let before = chunks(&content);
        let new = chunks(&longer).difference(&before).count();
        prop_assert!(new <= 12, "{new} new chunks of {}", before.len());
    }
}

#[test]
fn the_mean_is_about_64_kib() {
    let chunks = by_the_book(&noise(1, 32 << 20));
    let mean = (32 << 20) / chunks.len();
    assert!((56 << 10..72 << 10).contains(&mean), "{mean}");
}

#[test]
fn a_file_in_a_tar_shares_chunks_with_a_disk() {
    let file = noise(5, 2 << 20);
    let mut tar = member("first", tar::EntryType::Regular, &noise(6, 777));
    tar.extend(member("file", tar::EntryType::Regular, &file));
    let mut disk = noise(7, 9 * 4096);
    disk.extend_from_slice(&file);
    disk.extend(noise(8, 5 * 4096));
    let hashes = |content: &[u8]| -> Vec<(blake3::Hash, usize)> {
        by_steps(content, 100_000)
            .into_iter()
            .map(|(at, length)| (blake3::hash(&content[at..at + length]), length))
            .collect()
    };
    let on_disk = hashes(&disk);
    let shared: usize = hashes(&tar)
        .iter()
        .filter(|chunk| on_disk.contains(chunk))
        .map(|(_, length)| length)
        .sum();
    assert!(shared > 3 * file.len() / 4, "{shared}");
}
