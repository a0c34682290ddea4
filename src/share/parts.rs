//! Parts of a file: ranges of bytes that neither touch nor overlap.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of bytes: the ends of its ranges, by their starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts(BTreeMap<u64, u64>);

impl Parts {
    /// Adds a range.
    pub(super) fn add(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return;
        }
        while let Some((&before, &its_end)) = self.0.range(..=end).next_back() {
            if its_end < start {
                break;
            }
            start = start.min(before);
            end = end.max(its_end);
            self.0.remove(&before);
        }
        self.0.insert(start, end);
    }

    /// Adds all of another one.
    pub(super) fn add_all(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.add(start..end);
        }
    }

    /// Removes what is in a range.
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        let touched: Vec<(u64, u64)> = self
            .0
            .range(..range.end)
            .rev()
            .take_while(|(_, end)| **end > range.start)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touched {
            self.0.remove(&start);
            self.add(start..range.start.min(end));
            self.add(range.end.max(start)..end);
        }
    }

    /// Whether all of a range is in it.
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        self.gap(range).is_none()
    }

    /// The first part of a range that is not in it.
    pub(super) fn gap(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let before = self.0.range(..=range.start).next_back();
        let start = before.map_or(range.start, |(_, end)| range.start.max(*end));
        if start >= range.end {
            return None;
        }
        let next = self.0.range(start..range.end).next();
        Some(start..next.map_or(range.end, |(next, _)| *next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 40;

    proptest! {
        #[test]
        fn it_is_the_set_of_its_bytes(
            steps in prop::collection::vec((any::<bool>(), 0..SIZE, 0..SIZE), 0..30),
            (from, to) in (0..SIZE, 0..SIZE),
        ) {
            let mut parts = Parts::default();
            let mut bytes = [false; SIZE as usize];
            for (add, start, end) in steps {
                match add {
                    true => parts.add(start..end),
                    false if start < end => parts.remove(&(start..end)),
                    false => continue,
                }
                for byte in start..end {
                    bytes[byte as usize] = add;
                }
            }
            let mut pairs = parts.0.iter().zip(parts.0.iter().skip(1));
            prop_assert!(pairs.all(|((_, end), (next, _))| end < next));
            let missing: Vec<u64> = (from..to).filter(|byte| !bytes[*byte as usize]).collect();
            let gap = parts.gap(&(from..to));
            prop_assert_eq!(gap.is_none(), missing.is_empty());
            prop_assert_eq!(parts.covers(&(from..to)), missing.is_empty());
            if let Some(gap) = gap {
                prop_assert_eq!(gap.start, missing[0]);
                prop_assert!(gap.clone().all(|byte| missing.contains(&byte)));
                prop_assert!(gap.end == to || bytes[gap.end as usize]);
            }
        }
    }
}
