//! The rows of a table in a file of SQLite, and no more of it.
//!
//! Source: <https://www.sqlite.org/fileformat2.html>. What a journal beside the file has is not in
//! it.

const MAGIC: &[u8] = b"SQLite format 3\0";
/// The most levels of pages that a table has.
const MAX_DEPTH: usize = 24;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
    /// Nothing, or a kind that nobody here reads.
    Other,
}

/// The rows of a table, in the order of their ids.
pub(super) fn rows(file: &[u8], table: &str) -> Result<Vec<Vec<Value>>, String> {
    let file = File::open(file).ok_or("it is no database of SQLite")?;
    let root = file
        .table(1)?
        .into_iter()
        .find_map(|row| match row.as_slice() {
            [
                Value::Text(kind),
                Value::Text(name),
                _,
                Value::Integer(root),
                ..,
            ] if kind == "table" && name == table => usize::try_from(*root).ok(),
            _ => None,
        });
    file.table(root.ok_or_else(|| format!("it has no table {table}"))?)
}

/// What a table can still have: each page and each byte of a row is at one place in the file. A table
/// with more has a loop, or rows over each other.
struct Left {
    pages: usize,
    bytes: usize,
}

struct File<'a> {
    bytes: &'a [u8],
    page_size: usize,
    /// Bytes of a page without what is reserved at its end.
    usable: usize,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let page_size = match u16_at(bytes, 16)? {
            1 => 1 << 16,
            size => size,
        };
        let usable = page_size.checked_sub((*bytes.get(20)?).into())?;
        let fits = page_size.is_power_of_two() && page_size >= 512 && usable >= 480;
        fits.then_some(Self {
            bytes,
            page_size,
            usable,
        })
    }

    fn page(&self, number: usize) -> Option<&'a [u8]> {
        let start = number.checked_sub(1)?.checked_mul(self.page_size)?;
        self.bytes.get(start..start.checked_add(self.page_size)?)
    }

    fn table(&self, root: usize) -> Result<Vec<Vec<Value>>, String> {
        let mut rows = Vec::new();
        let mut left = Left {
            pages: self.bytes.len() / self.page_size,
            bytes: self.bytes.len(),
        };
        self.walk(root, 0, &mut left, &mut rows)
            .ok_or("it is damaged")?;
        Ok(rows)
    }

    fn walk(
        &self,
        number: usize,
        depth: usize,
        left: &mut Left,
        rows: &mut Vec<Vec<Value>>,
    ) -> Option<()> {
        left.pages = left.pages.checked_sub(1)?;
        if depth > MAX_DEPTH {
            return None;
        }
        let page = self.page(number)?;
        // The first page begins with the header of the file.
        let head = if number == 1 { 100 } else { 0 };
        let cells = u16_at(page, head + 3)?;
        match *page.get(head)? {
            0x0d => {
                for cell in 0..cells {
                    let at = u16_at(page, head + 8 + 2 * cell)?;
                    rows.push(record(&self.payload(page, at, left)?)?);
                }
            }
            0x05 => {
                for cell in 0..cells {
                    let at = u16_at(page, head + 12 + 2 * cell)?;
                    self.walk(u32_at(page, at)?, depth + 1, left, rows)?;
                }
                self.walk(u32_at(page, head + 8)?, depth + 1, left, rows)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// The content of a cell of a leaf, from all of its pages.
    fn payload(&self, page: &[u8], at: usize, left: &mut Left) -> Option<Vec<u8>> {
        let cell = page.get(at..self.usable)?;
        let (length, used) = varint(cell)?;
        let (_, more) = varint(cell.get(used..)?)?;
        let cell = cell.get(used + more..)?;
        let length = usize::try_from(length).ok()?;
        left.bytes = left.bytes.checked_sub(length)?;
        let most = self.usable - 35;
        let here = match length {
            _ if length <= most => length,
            _ => {
                let least = (self.usable - 12) * 32 / 255 - 23;
                let split = least + (length - least) % (self.usable - 4);
                if split <= most { split } else { least }
            }
        };
        let mut payload = cell.get(..here)?.to_vec();
        let mut next = match length > here {
            true => u32_at(cell, here)?,
            false => 0,
        };
        while payload.len() < length {
            let page = self.page(next)?;
            next = u32_at(page, 0)?;
            let part = (length - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(&page[4..4 + part]);
        }
        Some(payload)
    }
}

/// The values of a row: their kinds, then their bytes.
fn record(payload: &[u8]) -> Option<Vec<Value>> {
    let (length, mut at) = varint(payload)?;
    let length = usize::try_from(length).ok()?;
    let kinds = payload.get(..length)?;
    let mut data = payload.get(length..)?;
    let mut values = Vec::new();
    while at < length {
        let (kind, used) = varint(kinds.get(at..)?)?;
        at += used;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let bytes = data.get(..usize::try_from(size).ok()?)?;
        data = &data[bytes.len()..];
        values.push(match kind {
            1..=6 => Value::Integer(integer(bytes)),
            8 | 9 => Value::Integer((kind - 8).cast_signed()),
            0 | 7 => Value::Other,
            _ if kind % 2 == 0 => Value::Blob(bytes.to_vec()),
            _ => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        });
    }
    Some(values)
}

/// A number with a sign, the highest byte first.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |value, byte| value << 8 | i64::from(*byte))
}

/// A number in groups of seven bits, the highest first, and how many bytes it takes; the ninth byte
/// counts whole.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?).into())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_over_each_other_are_damage() {
        // A leaf whose cells are all the one at 500: a row of ten bytes, of which `TEXT` has eight.
        let file = |cells: u16| {
            let mut bytes = vec![0; 512];
            bytes[..16].copy_from_slice(MAGIC);
            bytes[16..18].copy_from_slice(&512_u16.to_be_bytes());
            bytes[100] = 0x0d;
            bytes[103..105].copy_from_slice(&cells.to_be_bytes());
            for cell in 0..usize::from(cells) {
                let at = 108 + 2 * cell;
                bytes[at..at + 2].copy_from_slice(&500_u16.to_be_bytes());
            }
            bytes[500..].copy_from_slice(b"\x0a\x01\x02\x1dabcdefgh");
            bytes
        };
        let count = |cells| {
            File::open(&file(cells))
                .unwrap()
                .table(1)
                .map(|rows| rows.len())
        };
        assert_eq!(count(51), Ok(51));
        assert_eq!(count(52), Err("it is damaged".to_owned()));
    }

    #[test]
    fn numbers_are_read_as_sqlite_writes_them() {
        assert_eq!(varint(&[0x7f]), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0x80]), None);
        assert_eq!(integer(&[0xff, 0xfe]), -2);
        assert_eq!(integer(&[0x01, 0x00]), 256);
        assert_eq!(integer(&[]), 0);
    }
}
