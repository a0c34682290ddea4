//! What a boot reads of a disk, in order (`store-format/oci-mapping.md`). Pure.

use std::ops::Range;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::parts::Parts;

const VERSION: u32 = 1;
/// The longest that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// The most parts.
const MAX_PARTS: usize = 32_768;

/// The parts of a disk that a boot reads, in the order in which it reads each first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootOrder(Vec<Range<u64>>);

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    /// Offset and length of each part, in bytes.
    parts: Vec<(u64, u64)>,
}

impl BootOrder {
    /// From the reads of a boot. What does not fit is left out.
    #[must_use]
    pub fn of(reads: impl IntoIterator<Item = Range<u64>>) -> Self {
        let (mut parts, mut seen) = (Vec::<Range<u64>>::new(), Parts::default());
        for read in reads {
            while let Some(gap) = seen.gap(&read) {
                seen.add(gap.clone());
                let is_full = parts.len() == MAX_PARTS;
                match parts.last_mut() {
                    Some(last) if last.end == gap.start => last.end = gap.end,
                    _ if is_full => return Self(parts),
                    _ => parts.push(gap),
                }
            }
        }
        Self(parts)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, for a disk of `size` bytes.
    ///
    /// # Errors
    /// It is none, or that of another disk: a phrase that follows what it is.
    pub fn from_bytes(bytes: &[u8], size: u64) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(bytes).map_err(|_| "is no boot order")?;
        if written.version != VERSION {
            return Err(format!("has the unknown version {}", written.version));
        }
        if written.parts.len() > MAX_PARTS {
            return Err(format!("has more than {MAX_PARTS} parts"));
        }
        let parts = written.parts.into_iter().map(|(offset, length)| {
            let end = offset.checked_add(length).filter(|end| *end <= size);
            end.map(|end| offset..end)
        });
        let parts: Option<Vec<_>> = parts.collect();
        // Once more: they may overlap.
        let parts = parts.ok_or("goes beyond the end of the disk")?;
        Ok(Self::of(parts))
    }

    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = self
            .0
            .iter()
            .map(|part| (part.start, part.end - part.start));
        let written = Written {
            version: VERSION,
            parts: parts.collect(),
        };
        serde_json::to_vec(&written).unwrap_or_default()
    }

    #[must_use]
    pub fn parts(&self) -> &[Range<u64>] {
        &self.0
    }

    /// How much a boot reads, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|part| part.end - part.start).sum()
    }
}

/// What was read of a disk so far.
#[derive(Debug, Default)]
pub struct Reads(Mutex<Parts>);

impl Reads {
    pub fn add(&self, read: Range<u64>) {
        self.parts().add(read);
    }

    /// How much of a boot order was read, in bytes.
    #[must_use]
    pub fn of_order(&self, order: &BootOrder) -> u64 {
        let seen = self.parts();
        let missing = |part: &Range<u64>| {
            let (mut rest, mut missing) = (part.clone(), 0);
            while let Some(gap) = seen.gap(&rest) {
                missing += gap.end - gap.start;
                rest.start = gap.end;
            }
            missing
        };
        order.bytes() - order.0.iter().map(missing).sum::<u64>()
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_in_it_once_in_the_order_of_reads() {
        let order = BootOrder::of([40..50, 0..10, 10..20, 45..60, 0..20, 5..5]);
        assert_eq!(order.parts(), [40..50, 0..20, 50..60]);
        assert_eq!(order.bytes(), 40);
        assert_eq!(BootOrder::from_bytes(&order.to_bytes(), 60), Ok(order));
    }

    #[test]
    fn what_is_read_of_it_is_counted() {
        let order = BootOrder::of([40..50, 0..20]);
        let reads = Reads::default();
        assert_eq!(reads.of_order(&order), 0);
        reads.add(10..45);
        assert_eq!(reads.of_order(&order), 15);
        reads.add(0..100);
        assert_eq!(reads.of_order(&order), order.bytes());
    }

    #[test]
    fn others_are_refused() {
        let refused = |text: &str| BootOrder::from_bytes(text.as_bytes(), 100).unwrap_err();
        insta::assert_snapshot!(
            [
                refused(r#"{"version":1,"parts":[[90,11]]}"#),
                refused(r#"{"version":1,"parts":[[18446744073709551615,1]]}"#),
                refused(r#"{"version":2,"parts":[]}"#),
                refused("[]"),
            ]
            .join("\n"),
            @r"
        goes beyond the end of the disk
        goes beyond the end of the disk
        has the unknown version 2
        is no boot order
        "
        );
        let many = vec![(0, 1); MAX_PARTS + 1];
        let many = serde_json::json!({"version": 1, "parts": many}).to_string();
        assert!(refused(&many).contains("more than 32768 parts"));
    }
}
