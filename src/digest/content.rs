//! The digest of a file's content, in time that does not grow with its holes.

/// Zeros of at least this length count as a hole. A property of the content, whatever a file system
/// makes of it.
const MIN_HOLE: u64 = 1 << 20;
/// At most so many bytes are looked at at once: no hole is shorter.
const PIECE: usize = 64 << 10;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Hashes content from front to back. Without holes, runs of 1 MiB and more of zeros, the digest is
/// BLAKE3's of the content. Else it is that of all but the holes, hashed again with where they are.
#[derive(Default)]
pub struct ContentHasher {
    /// Of what is no hole.
    data: blake3::Hasher,
    /// Of the holes; none while there are none.
    holes: Option<blake3::Hasher>,
    /// Zeros at the end so far, which may become a hole.
    zeros: u64,
    /// Bytes so far, with these zeros.
    size: u64,
}

impl ContentHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            if piece == &ZEROS[..piece.len()] {
                self.add_zeros(piece.len() as u64);
                continue;
            }
            let is_data = |byte: &u8| *byte != 0;
            let first = piece.iter().position(is_data).unwrap_or(0);
            let last = piece.iter().rposition(is_data).unwrap_or(0);
            self.add_zeros(first as u64);
            self.end_zeros();
            self.data.update(&piece[first..=last]);
            self.size += (last + 1 - first) as u64;
            self.add_zeros((piece.len() - last - 1) as u64);
        }
    }

    /// Takes so many zeros.
    pub const fn add_zeros(&mut self, count: u64) {
        self.zeros += count;
        self.size += count;
    }

    fn end_zeros(&mut self) {
        let length = std::mem::take(&mut self.zeros);
        if length >= MIN_HOLE {
            let start = self.size - length;
            let holes = self.holes.get_or_insert_default();
            holes.update(&start.to_le_bytes());
            holes.update(&length.to_le_bytes());
            return;
        }
        let mut left = length as usize;
        while left > 0 {
            let count = left.min(PIECE);
            self.data.update(&ZEROS[..count]);
            left -= count;
        }
    }

    /// The digest.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        self.end_zeros();
        let data = self.data.finalize();
        let Some(holes) = self.holes else {
            return *data.as_bytes();
        };
        let mut all = blake3::Hasher::new_derive_key("vmfab content with holes v1");
        all.update(data.as_bytes());
        all.update(holes.finalize().as_bytes());
        *all.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = ContentHasher::default();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finish()
    }

    #[test]
    fn zeros_count_as_holes_from_a_length_on() {
        let hole = vec![0; MIN_HOLE as usize];
        let less = &hole[1..];
        for content in [
            vec![],
            b"x".to_vec(),
            less.to_vec(),
            [b"a", less, b"b"].concat(),
        ] {
            assert_eq!(of(&[&content]), *blake3::hash(&content).as_bytes());
        }
        let mut digests = Vec::new();
        for parts in [
            [&b""[..], &hole, b""],
            [b"a", &hole, b"b"],
            [b"ab", &hole, b""],
            [b"", &hole, b"ab"],
            [b"a\0", &hole, b"b"],
            [b"a", &hole, b"\0b"],
            [b"ab", b"", b""],
        ] {
            digests.push(of(&parts));
        }
        // One zero more before or behind is the same content.
        assert_eq!(digests.remove(4), digests[4]);
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }

    proptest! {
        /// However the content comes, and whichever zeros are given by their number.
        #[test]
        fn the_digest_is_that_of_the_content(
            runs in prop::collection::vec((0..3_u8, prop_oneof![0..9_usize, 0..2_500_000_usize]), 0..4),
            cut in 1..200_000_usize,
        ) {
            let mut content = Vec::new();
            let mut known = ContentHasher::default();
            for (byte, length) in runs {
                let start = content.len();
                content.resize(start + length, byte);
                match byte {
                    0 => known.add_zeros(length as u64),
                    _ => known.update(&content[start..]),
                }
            }
            let pieces: Vec<&[u8]> = content.chunks(cut).collect();
            let digest = of(&pieces);
            prop_assert_eq!(digest, of(&[&content]));
            prop_assert_eq!(digest, known.finish());
        }
    }
}
