use proptest::prelude::*;

use super::book::{by_steps, by_the_book};

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
