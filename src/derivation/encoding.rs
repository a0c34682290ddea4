//! The canonical encoding of derivations and the action key.
//!
//! # What an action key hashes
//!
//! | field | encoding |
//! |---|---|
//! | domain | BLAKE3 key derivation with the context `"vmfab action v1"` |
//! | builder name | field |
//! | builder version | u64: raised when the same parameters begin to give another output |
//! | parameters | canonical value, see below |
//! | number of inputs | u64 |
//! | each input, in order | field: its role; 32 bytes: the digest of the *object* it resolves to |
//!
//! A *field* is a length (u64, little endian) and that many bytes. A canonical value is a type byte
//! and a body: `n` null; `f`, `t` booleans; `i` a signed 64-bit integer, little endian; `u` an
//! unsigned one, only above `i64::MAX`; `s` a string as a field; `a` a list: u64 count, then
//! values; `o` an object: u64 count, then for each key in byte order a field and a value.
//!
//! # What is left out, and why
//!
//! | left out | why |
//! |---|---|
//! | the key of the derivation that made an input | inputs count by content, so that a step that is rebuilt to the same output stops the rebuild there |
//! | labels, positions in the recipe, image names | they name, they do not change the output |
//! | paths on the host, file times, owners | local files count by content and permission bits (see [`Local`](super::step::Local)) |
//! | user and host name, proxies, job counts, the time | no output may depend on them |
//! | versions of mmdebstrap, mke2fs and bubblewrap, the host's kernel and processor | they are not asked on the way to the store; outputs are made not to depend on them, and `--check` shows where they do |
//! | what the archive holds today | a step that was built stays as it is; a rebuild (`--rebuild`) takes what is there. What a lock file says counts: it is the parameter `locked` |
//! | environment variables, but for `SOURCE_DATE_EPOCH` | it is the parameter `time` of the steps that bring files |
//! | null parameters | a parameter that is not given is not encoded, so a new optional one keeps old keys |

use serde_json::Value;

use super::builder::ResolvedInput;
use super::graph::Derivation;
use crate::digest::{ActionKey, Hasher};

/// The action key of `derivation` with these inputs, as [`resolve_inputs`](super::resolve_inputs)
/// gives them.
#[must_use]
pub fn action_key(derivation: &Derivation, inputs: &[ResolvedInput]) -> ActionKey {
    let mut hasher = Hasher::new("vmfab action v1");
    hasher.update_field(derivation.builder.as_bytes());
    hasher.update_u64(u64::from(derivation.version));
    encode(&derivation.params, &mut hasher);
    hasher.update_u64(inputs.len() as u64);
    for input in inputs {
        hasher.update_field(input.role.as_bytes());
        hasher.update(input.object.id.digest().as_bytes());
    }
    ActionKey::new(hasher.finish())
}

/// Adds the canonical encoding of `value`.
///
/// # Panics
/// On a number that is no 64-bit integer: step parameters hold none.
pub(super) fn encode(value: &Value, hasher: &mut Hasher) {
    match value {
        Value::Null => drop(hasher.update(b"n")),
        Value::Bool(false) => drop(hasher.update(b"f")),
        Value::Bool(true) => drop(hasher.update(b"t")),
        Value::Number(number) => {
            if let Some(signed) = number.as_i64() {
                hasher.update(b"i").update(&signed.to_le_bytes());
            } else if let Some(unsigned) = number.as_u64() {
                hasher.update(b"u").update(&unsigned.to_le_bytes());
            } else {
                unreachable!("step parameters hold no floating-point numbers");
            }
        }
        Value::String(text) => drop(hasher.update(b"s").update_field(text.as_bytes())),
        Value::Array(items) => {
            hasher.update(b"a").update_u64(items.len() as u64);
            for item in items {
                encode(item, hasher);
            }
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            hasher.update(b"o").update_u64(entries.len() as u64);
            for (key, value) in entries {
                hasher.update_field(key.as_bytes());
                encode(value, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn digest(value: &Value) -> crate::digest::Digest {
        let mut hasher = Hasher::new("test");
        encode(value, &mut hasher);
        hasher.finish()
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[ -~]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The value without what is documented as left out.
    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(without_nulls).collect(),
            Value::Object(map) => map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_nulls(value)))
                .collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn equal_exactly_when_the_values_are(a in values(), b in values()) {
            prop_assert_eq!(digest(&a) == digest(&b), without_nulls(&a) == without_nulls(&b));
        }
    }

    #[test]
    fn order_of_keys_does_not_count() {
        let a: Value = serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"b":2,"a":1}"#).unwrap();
        assert_eq!(digest(&a), digest(&b));
    }

    /// Keys must not change by accident: they name what is in people's stores.
    #[test]
    fn known_key() {
        let derivation = Derivation {
            name: "label".into(),
            builder: "run".into(),
            version: 1,
            params: json!({"command": "true", "network": false, "workdir": null}),
            inputs: Vec::new(),
        };
        let key = action_key(&derivation, &[]).to_string();
        insta::assert_snapshot!(key, @"e46671a9478f84ab856540c000dcdd8a4442ed548354765cea193b0bb399db18");
        let renamed = Derivation {
            name: "other".into(),
            ..derivation.clone()
        };
        assert_eq!(action_key(&renamed, &[]).to_string(), key);
        let newer = Derivation {
            version: 2,
            ..derivation
        };
        assert_ne!(action_key(&newer, &[]).to_string(), key);
    }
}
