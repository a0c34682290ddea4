//! What vmfab tells of the private network of machines, by SMBIOS: see `guest::GuestNetwork`.

/// At the end of each line of `/etc/hosts` that is vmfab's.
const MARK: &[u8] = b" # vmfab";

/// A card of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) hardware: [u8; 6],
    pub(crate) address: [u8; 4],
}

/// Decodes base64 until something else comes; tells how many bytes that were.
pub(crate) fn decode(text: &[u8], into: &mut [u8]) -> usize {
    let (mut bits, mut count, mut length) = (0u32, 0, 0);
    for &byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            let Some(place) = into.get_mut(length) else {
                break;
            };
            count -= 8;
            *place = (bits >> count) as u8;
            length += 1;
        }
    }
    length
}

/// The card that the first line tells of.
pub(crate) fn card(table: &[u8]) -> Option<Card> {
    let line = table.split(|&byte| byte == b'\n').next()?;
    let mut words = line.split(|&byte| byte == b' ');
    let mut card = Card {
        hardware: [0; 6],
        address: [0; 4],
    };
    fill(words.next()?, b':', 16, &mut card.hardware)?;
    fill(words.next()?, b'.', 10, &mut card.address)?;
    Some(card)
}

/// Reads numbers with a character between them.
fn fill(text: &[u8], between: u8, base: u32, into: &mut [u8]) -> Option<()> {
    let mut numbers = text.split(|&byte| byte == between);
    for place in into {
        let mut number = 0;
        for &digit in numbers.next()? {
            number = number * base + char::from(digit).to_digit(base)?;
        }
        *place = u8::try_from(number).ok()?;
    }
    Some(())
}

/// Writes `/etc/hosts` anew: what it has but for the lines that are vmfab's, and those of the table.
/// Tells how long it is.
pub(crate) fn hosts(old: &[u8], table: &[u8], into: &mut [u8]) -> usize {
    let mut length = 0;
    let mut add = |part: &[u8]| {
        for (place, &byte) in into[length..].iter_mut().zip(part) {
            *place = byte;
            length += 1;
        }
    };
    for line in old.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if !text.ends_with(MARK) {
            add(text);
            add(b"\n");
        }
    }
    let lines = table.split(|&byte| byte == b'\n').skip(1);
    for line in lines.filter(|line| !line.is_empty()) {
        add(line);
        add(MARK);
        add(b"\n");
    }
    length
}
