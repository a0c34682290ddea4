//! Action results as payloads of records (`store-format/packs.md`).

use std::collections::BTreeMap;

use super::{FormatError, array, u16_at, u64_at};
use crate::digest::{Digest, ObjectId, ObjectRef};

/// The longest payload in bytes.
pub(crate) const MAX_ACTION: usize = 1 << 20;

type Outputs = BTreeMap<String, ObjectRef>;

/// The payload of a result that was made or used at `time` (seconds since 1970); nothing when it
/// would break a limit.
pub(crate) fn encode_action(time: u64, outputs: &Outputs) -> Option<Vec<u8>> {
    let mut bytes = time.to_le_bytes().to_vec();
    bytes.extend_from_slice(&u16::try_from(outputs.len()).ok()?.to_le_bytes());
    for (name, object) in outputs {
        bytes.push(u8::try_from(name.len()).ok().filter(|&length| length > 0)?);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(object.id.digest().as_bytes());
        bytes.extend_from_slice(&object.size.to_le_bytes());
    }
    (bytes.len() <= MAX_ACTION).then_some(bytes)
}

/// Time and outputs.
///
/// # Errors
/// The bytes are no result.
pub(crate) fn decode_action(bytes: &[u8]) -> Result<(u64, Outputs), FormatError> {
    let (time, outputs) = decode_sorted(bytes)?;
    Ok((time, outputs.into_iter().collect()))
}

/// The same with the outputs as a list, sorted by name: a map takes room for eleven.
///
/// # Errors
/// The bytes are no result.
pub(crate) fn decode_sorted(bytes: &[u8]) -> Result<(u64, Vec<(String, ObjectRef)>), FormatError> {
    let time = u64_at(bytes, 0)?;
    let count = u16_at(bytes, 8)?;
    let mut rest = &bytes[10..];
    let mut outputs: Vec<(String, ObjectRef)> = Vec::new();
    for _ in 0..count {
        let length = usize::from(array::<1>(rest, 0)?[0]);
        let name = rest
            .get(1..1 + length)
            .ok_or(FormatError("it ends too early"))?;
        let name = std::str::from_utf8(name)
            .map_err(|_| FormatError("the name of an output is not text"))?;
        let sorted = outputs.last().is_none_or(|(last, _)| last.as_str() < name);
        if name.is_empty() || !sorted {
            return Err(FormatError("the names of outputs are not in order"));
        }
        let object = ObjectRef {
            id: ObjectId::new(Digest::from_bytes(array(rest, 1 + length)?)),
            size: u64_at(rest, 33 + length)?,
        };
        outputs.push((name.to_owned(), object));
        rest = &rest[41 + length..];
    }
    if rest.is_empty() {
        Ok((time, outputs))
    } else {
        Err(FormatError("an action result is too long"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn results_round_trip(
            time: u64,
            outputs in prop::collection::btree_map("[a-zä]{1,20}", (any::<[u8; 32]>(), any::<u64>()), 0..9),
        ) {
            let outputs: Outputs = outputs
                .into_iter()
                .map(|(name, (id, size))| {
                    let id = ObjectId::new(Digest::from_bytes(id));
                    (name, ObjectRef { id, size })
                })
                .collect();
            let bytes = encode_action(time, &outputs).unwrap();
            prop_assert_eq!(decode_action(&bytes), Ok((time, outputs)));
            for end in 0..bytes.len() {
                prop_assert!(decode_action(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((time, outputs)) = decode_action(&bytes) {
                prop_assert_eq!(encode_action(time, &outputs), Some(bytes));
            }
        }
    }

    #[test]
    fn what_breaks_a_limit_is_not_encoded() {
        let object = ObjectRef {
            id: ObjectId::new(Digest::from_bytes([0; 32])),
            size: 0,
        };
        for name in ["", &"x".repeat(256)] {
            let outputs = Outputs::from([(name.to_owned(), object)]);
            assert_eq!(encode_action(0, &outputs), None);
        }
    }
}
