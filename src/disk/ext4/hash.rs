//! The hash of names in indexed directories: half MD4, as the kernel's `fs/ext4/hash.c` describes
//! it. Pure.

/// What the hash depends on beside the name.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameHash {
    /// The file system's hash seed.
    pub(super) seed: [u32; 4],
    /// Whether bytes count as signed, as they do where `char` is.
    pub(super) signed: bool,
}

/// Words of a name that are hashed at once.
const WORDS: usize = 8;
/// What no name may have: it is for the end of a directory.
const END: u32 = 0xffff_fffe;

impl NameHash {
    pub(super) fn of(&self, name: &[u8]) -> u32 {
        let mut state = match self.seed {
            [0, 0, 0, 0] => [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476],
            seed => seed,
        };
        let mut rest = name;
        while !rest.is_empty() {
            transform(&mut state, &self.words(rest));
            rest = rest.get(WORDS * 4..).unwrap_or_default();
        }
        match state[1] & !1 {
            END => END - 2,
            hash => hash,
        }
    }

    /// The next words of a name: its bytes, and its length where it has no more.
    fn words(&self, rest: &[u8]) -> [u32; WORDS] {
        let length = rest.len() as u32;
        let pad = length | length << 8;
        let pad = pad | pad << 16;
        let mut words = [pad; WORDS];
        let part = &rest[..rest.len().min(WORDS * 4)];
        for (word, bytes) in words.iter_mut().zip(part.chunks(4)) {
            for byte in bytes {
                let value = match self.signed {
                    true => i32::from(byte.cast_signed()).cast_unsigned(),
                    false => u32::from(*byte),
                };
                *word = value.wrapping_add(*word << 8);
            }
        }
        words
    }
}

fn transform(state: &mut [u32; 4], words: &[u32; WORDS]) {
    type Mix = fn(u32, u32, u32) -> u32;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (
            |x, y, z| z ^ (x & (y ^ z)),
            0,
            [0, 1, 2, 3, 4, 5, 6, 7],
            [3, 7, 11, 19],
        ),
        (
            |x, y, z| (x & y).wrapping_add((x ^ y) & z),
            0x5a82_7999,
            [1, 3, 5, 7, 0, 2, 4, 6],
            [3, 5, 9, 13],
        ),
        (
            |x, y, z| x ^ y ^ z,
            0x6ed9_eba1,
            [3, 7, 2, 6, 1, 5, 0, 4],
            [3, 9, 11, 15],
        ),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, shifts) in rounds {
        for (index, word) in order.into_iter().enumerate() {
            let sum = a
                .wrapping_add(mix(b, c, d))
                .wrapping_add(words[word])
                .wrapping_add(constant)
                .rotate_left(shifts[index % 4]);
            (a, b, c, d) = (d, sum, b, c);
        }
    }
    for (old, new) in state.iter_mut().zip([a, b, c, d]) {
        *old = old.wrapping_add(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of `debugfs -R "dx_hash -h half_md4 -s SEED NAME"`.
    #[test]
    fn it_is_the_hash_of_e2fsprogs() {
        let seed = [0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c];
        let hash = NameHash { seed, signed: true };
        for (name, value) in [
            ("a", 0x0a2f_a3a0),
            ("passwd", 0xa46f_5858),
            (
                "a-name-of-more-than-thirty-two-bytes-which-takes-two-turns",
                0xd470_be6e,
            ),
            ("überlänge", 0x2ca4_8636),
        ] {
            assert_eq!(hash.of(name.as_bytes()), value, "{name}");
        }
    }
}
