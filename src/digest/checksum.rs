//! Checksums of files from outside: plain hashes, as `sha256sum`, `sha512sum` and `b3sum` print
//! them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::Sha256;
use crate::failure::Failure;

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
    /// BLAKE3 without a key, 32 bytes.
    Blake3,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Blake3];

    /// The word before the colon of a checksum.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// How many bytes a checksum has.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The plain hash of a file: `sha256:` and 64 hexadecimal digits, and so on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum {
    algorithm: Algorithm,
    /// As many as the algorithm gives.
    bytes: Box<[u8]>,
}

impl Checksum {
    /// The checksum of an algorithm with these hexadecimal digits, small or capital.
    ///
    /// # Errors
    /// They are not as many as the algorithm gives, or other characters.
    pub fn from_hex(algorithm: Algorithm, digits: &str) -> Result<Self, Failure> {
        let refused = || wrong_digits(digits, algorithm);
        if digits.len() != algorithm.length() * 2 {
            return Err(refused());
        }
        let value = |digit: u8| char::from(digit).to_digit(16);
        let bytes = digits.as_bytes().chunks(2).map(|pair| {
            let (high, low) = (value(pair[0])?, value(pair[1])?);
            u8::try_from(high << 4 | low).ok()
        });
        let bytes: Option<Box<[u8]>> = bytes.collect();
        Ok(Self {
            algorithm,
            bytes: bytes.ok_or_else(refused)?,
        })
    }

    /// How it is computed.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hexadecimal digits alone.
    #[must_use]
    pub fn hex(&self) -> String {
        self.bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The hash, when it is a SHA-256.
    #[must_use]
    pub fn sha256(&self) -> Option<Sha256> {
        let bytes = (self.algorithm == Algorithm::Sha256).then_some(&*self.bytes)?;
        bytes.try_into().ok().map(Sha256::from_bytes)
    }

    /// The algorithm and the first 12 digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}:{}", self.algorithm, &self.hex()[..12])
    }
}

impl From<Sha256> for Checksum {
    fn from(hash: Sha256) -> Self {
        Self {
            algorithm: Algorithm::Sha256,
            bytes: hash.as_bytes().as_slice().into(),
        }
    }
}

fn wrong_digits(text: &str, algorithm: Algorithm) -> Failure {
    let digits = algorithm.length() * 2;
    let why = format!("after \"{algorithm}:\" come {digits} hexadecimal digits");
    not_a_checksum(text, &why)
}

fn not_a_checksum(text: &str, why: &str) -> Failure {
    let text: String = text.chars().take(160).collect();
    Failure::failed(format!("\"{text}\" is not a checksum: {why}"))
}

/// `sha256:` and the digits in small letters.
impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Checksum {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.split_once(':').and_then(|(name, digits)| {
            let mut all = Algorithm::ALL.into_iter();
            Some((all.find(|one| one.name() == name)?, digits))
        });
        let Some((algorithm, digits)) = split else {
            return Err(not_a_checksum(
                text,
                "it must begin with \"sha256:\", \"sha512:\" or \"blake3:\"",
            ));
        };
        Self::from_hex(algorithm, digits).map_err(|_| wrong_digits(text, algorithm))
    }
}

impl Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a checksum from bytes that come one after the other.
#[derive(Clone)]
pub struct ChecksumHasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    Blake3(Box<blake3::Hasher>),
}

impl ChecksumHasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// The checksum of all that was added.
    #[must_use]
    pub fn finish(self) -> Checksum {
        let (algorithm, bytes): (_, Box<[u8]>) = match self.0 {
            State::Sha256(hasher) => (Algorithm::Sha256, hasher.finalize().as_slice().into()),
            State::Sha512(hasher) => (Algorithm::Sha512, hasher.finalize().as_slice().into()),
            State::Blake3(hasher) => (
                Algorithm::Blake3,
                hasher.finalize().as_bytes().as_slice().into(),
            ),
        };
        Checksum { algorithm, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(algorithm: Algorithm, parts: &[&[u8]]) -> String {
        let mut hasher = ChecksumHasher::new(algorithm);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish().to_string()
    }

    /// FIPS 180-4's examples, and BLAKE3's vector of no bytes.
    #[test]
    fn known_values() {
        assert_eq!(
            of(Algorithm::Sha256, &[b"a", b"bc"]),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            of(Algorithm::Sha512, &[b"abc"]),
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
        assert_eq!(
            of(Algorithm::Blake3, &[]),
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn texts_are_read_and_written() {
        for algorithm in Algorithm::ALL {
            let text = of(algorithm, &[b"x"]);
            let parsed: Checksum = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
            assert_eq!(parsed.as_bytes().len(), algorithm.length());
            let capital = parsed.hex().to_uppercase();
            assert_eq!(Checksum::from_hex(algorithm, &capital).unwrap(), parsed);
            let json = serde_json::to_string(&parsed).unwrap();
            assert_eq!(serde_json::from_str::<Checksum>(&json).unwrap(), parsed);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let digits = "a".repeat(64);
        for bad in [
            String::new(),
            digits.clone(),
            format!("md5:{}", &digits[..32]),
            format!("sha256:{}", &digits[1..]),
            format!("sha512:{digits}"),
            format!("sha256:{}", "g".repeat(64)),
            format!("sha256:{}", "ä".repeat(32)),
            format!("SHA256:{digits}"),
        ] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
        let error = "sha256:abc".parse::<Checksum>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"sha256:abc\" is not a checksum: after \"sha256:\" come 64 hexadecimal digits"
        );
    }
}
