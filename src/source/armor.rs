//! ASCII armour of OpenPGP key rings, taken off (RFC 9580, section 6.2): gpgv reads binary ones
//! only.

use base64ct::{Base64, Encoding};

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// The key ring in the form that gpgv reads; an error says what the bytes are instead.
pub(super) fn key_ring(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    // A packet's first bit is set; a keybox has its mark at its ninth byte.
    let binary = bytes.first().is_some_and(|first| first & 0x80 != 0);
    if binary || bytes.get(8..12) == Some(b"KBXf") {
        return Ok(bytes.to_vec());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "neither binary nor armored keys")?;
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, block)) = rest.split_once(BEGIN) {
        let (block, after) = block.split_once(END).ok_or("its armor has no end")?;
        keys.extend(decode(block).ok_or("its armor is damaged")?);
        rest = after;
    }
    if keys.is_empty() {
        return Err("no public key is in it");
    }
    Ok(keys)
}

/// What is between the lines of a block: headers, an empty line, Base64, a checksum that may be
/// there.
fn decode(block: &str) -> Option<Vec<u8>> {
    let mut lines = block.lines().map(str::trim).skip(1);
    lines.by_ref().find(|line| line.is_empty())?;
    let data: String = lines.take_while(|line| !line.starts_with('=')).collect();
    Base64::decode_vec(&data)
        .ok()
        .filter(|data| !data.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armor_is_taken_off() {
        let block = |data: &str| {
            format!("words\n{BEGIN}\r\nComment: x\r\n\r\n{data}\r\n=abcd\r\n{END}\r\n")
        };
        let two = block("mQ\r\nID") + &block("mA==");
        assert_eq!(key_ring(two.as_bytes()).unwrap(), b"\x99\x02\x03\x98");
        assert_eq!(key_ring(b"\x99\x01").unwrap(), b"\x99\x01");
        assert_eq!(
            key_ring(b"\0\0\0\x20\x01\x01\0\x02KBXf..").unwrap().len(),
            14
        );
        for (bad, why) in [
            (&b""[..], "no public key is in it"),
            (b"hello", "no public key is in it"),
            (b"\x01\xff", "neither binary nor armored keys"),
            (BEGIN.as_bytes(), "its armor has no end"),
            (block("m").as_bytes(), "its armor is damaged"),
        ] {
            assert_eq!(key_ring(bad), Err(why));
        }
    }
}
