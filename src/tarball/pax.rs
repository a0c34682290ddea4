//! Extended headers: records `LENGTH KEY=VALUE\n`, the length being that of the record.

use std::io;

use super::{Time, acl, damaged};

/// Prefix of extended attributes in keys, as GNU tar, libarchive and Docker write them.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";
/// Prefix of access control lists, as star and GNU tar write them.
const ACL: &[u8] = b"SCHILY.acl.";
/// Prefix of what is known of a file with holes.
const SPARSE: &[u8] = b"GNU.sparse.";
/// vmfab's own key.
pub(super) const NOTE: &[u8] = b"VMFAB.note";

/// What an extended header says of a member.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) owners: Owners,
    pub(super) user: Option<Vec<u8>>,
    pub(super) group: Option<Vec<u8>>,
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) note: Option<Vec<u8>>,
    pub(super) sparse: Sparse,
}

/// What a global header can say, too.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Owners {
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) time: Option<Time>,
}

/// What is said of holes.
#[derive(Default)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// With holes: of versions 0.0 and 0.1, and of 1.0.
    pub(super) size: Option<u64>,
    /// Offsets and lengths, in turn.
    pub(super) map: Option<Vec<u64>>,
}

impl Extended {
    pub(super) fn parse(content: &[u8]) -> io::Result<Self> {
        let mut all = Self::default();
        for record in Records(content) {
            let (key, value) = record?;
            all.set(key, value)?;
        }
        all.attributes.sort();
        Ok(all)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let is_known = self.owners.set(key, value)?;
        if is_known {
            return Ok(());
        }
        if let Some(name) = key.strip_prefix(ATTRIBUTE) {
            self.set_attribute(decode_name(name), value.to_vec());
            return Ok(());
        }
        if let Some(list) = key.strip_prefix(ACL) {
            match acl::bytes(value) {
                Some(bytes) => self.set_attribute([b"system.posix_acl_", list].concat(), bytes),
                None => self.set_attribute(key.to_vec(), value.to_vec()),
            }
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(SPARSE) {
            return self.sparse.set(key, value);
        }
        // An empty value takes back what was said.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"uname" => self.user = text(),
            b"gname" => self.group = text(),
            b"size" => self.size = number(key, value)?,
            NOTE => self.note = text(),
            _ => {}
        }
        Ok(())
    }

    fn set_attribute(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.attributes.retain(|(other, _)| *other != name);
        self.attributes.push((name, value));
    }
}

impl Owners {
    /// Those of a global header, over those of one before. What cannot hold for all members is
    /// refused.
    pub(super) fn update(&mut self, content: &[u8]) -> io::Result<()> {
        for record in Records(content) {
            let (key, value) = record?;
            let is_one = matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(SPARSE);
            if is_one && !value.is_empty() {
                return Err(damaged("it gives one name or size to all its members"));
            }
            self.set(key, value)?;
        }
        Ok(())
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            uid: self.uid.or(other.uid),
            gid: self.gid.or(other.gid),
            time: self.time.or(other.time),
        }
    }

    /// Takes a record; `false` when it is about something else.
    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        match key {
            b"uid" => self.uid = number(key, value)?,
            b"gid" => self.gid = number(key, value)?,
            b"mtime" => self.time = time(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Sparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"major" => self.major = number(key, value)?,
            b"minor" => self.minor = number(key, value)?,
            b"name" => self.name = (!value.is_empty()).then(|| value.to_vec()),
            b"size" | b"realsize" => self.size = number(key, value)?,
            // Version 0.0 has a record for each number.
            b"offset" | b"numbytes" => {
                let map = self.map.get_or_insert_default();
                let turn = usize::from(key == b"numbytes");
                if map.len() % 2 != turn {
                    return Err(damaged("its map is no map"));
                }
                map.extend(number(key, value)?);
            }
            b"map" => {
                let numbers = value.split(|byte| *byte == b',');
                let numbers = numbers.map(|digits| number(key, digits));
                let numbers: io::Result<Option<Vec<u64>>> = numbers.collect();
                self.map = numbers?;
            }
            b"numblocks" => {}
            _ => return Err(damaged("it has holes in a form that is unknown")),
        }
        Ok(())
    }
}

/// The records of an extended header.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = io::Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        // Some programs fill up with zeros.
        if self.0.iter().all(|byte| *byte == 0) {
            return None;
        }
        let record = self.record();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or_else(|| damaged("an extended header is damaged")))
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let space = self.0.iter().take(20).position(|byte| *byte == b' ')?;
        let digits = &self.0[..space];
        let length = usize::try_from(digits_of(digits)?).ok()?;
        let (record, rest) = self.0.split_at_checked(length)?;
        let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        self.0 = rest;
        Some((&record[..equals], &record[equals + 1..]))
    }
}

/// Adds a record to an extended header.
pub(super) fn add(content: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    content.extend_from_slice(format!("{length} ").as_bytes());
    content.extend_from_slice(key);
    content.push(b'=');
    content.extend_from_slice(value);
    content.push(b'\n');
}

/// Adds an extended attribute.
pub(super) fn add_attribute(content: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut key = ATTRIBUTE.to_vec();
    // As GNU tar does: a key ends with `=`.
    for byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            byte => key.push(*byte),
        }
    }
    add(content, &key, value);
}

fn decode_name(mut name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    while let [first, rest @ ..] = name {
        let (byte, after) = match name {
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            _ => (*first, rest),
        };
        decoded.push(byte);
        name = after;
    }
    decoded
}

fn digits_of(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A number; none when it is empty.
fn number(key: &[u8], value: &[u8]) -> io::Result<Option<u64>> {
    if value.is_empty() {
        return Ok(None);
    }
    let key = || String::from_utf8_lossy(key).into_owned();
    let number = digits_of(value);
    number
        .map(Some)
        .ok_or_else(|| damaged(format!("its {} is no number", key())))
}

/// Seconds with a fraction; none when it is empty.
fn time(value: &[u8]) -> io::Result<Option<Time>> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_time(value)
        .map(Some)
        .ok_or_else(|| damaged("its time is no number"))
}

fn parse_time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value {
        [b'-', rest @ ..] => (true, rest),
        value => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(digits_of(parts.next()?)?).ok()?;
    let mut nanoseconds = 0;
    if let Some(fraction) = parts.next().filter(|fraction| !fraction.is_empty()) {
        digits_of(&fraction[..fraction.len().min(18)])?;
        let nine = fraction.iter().copied().chain(std::iter::repeat(b'0'));
        nanoseconds = nine
            .take(9)
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds,
        },
        // -1.25 lies three quarters of a second after -2.
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// A time as a record has it, without zeros at its end.
pub(super) fn format_time(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (false, nanoseconds) => ("", time.seconds, nanoseconds),
        (true, 0) => ("-", -time.seconds, 0),
        (true, nanoseconds) => ("-", -(time.seconds + 1), 1_000_000_000 - nanoseconds),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}
