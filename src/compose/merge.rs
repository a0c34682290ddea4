//! One service over another: `extends`, and the file that goes over the first one.

use super::yaml::{Map, Node, Value};
use crate::text::Spanned;

/// Lists that replace the ones below them; others are added to.
const REPLACE: [&str; 3] = ["command", "entrypoint", "test"];
/// What is the same as a list of `NAME=VALUE` and as a mapping.
const PAIRS: [&str; 6] = [
    "environment",
    "labels",
    "args",
    "annotations",
    "sysctls",
    "additional_contexts",
];

/// A node with what `over` says of it.
pub(super) fn merged(base: Node, over: Node, name: &str) -> Node {
    let (base, over) = match name {
        _ if PAIRS.contains(&name) => (pairs(base), pairs(over)),
        "depends_on" | "networks" => (names(base), names(over)),
        _ => (base, over),
    };
    let span = over.span.clone();
    let value = match (base.value, over.value) {
        (base, Value::Null) => base,
        (Value::Map(mut map), Value::Map(others)) => {
            for (key, node) in others {
                match map.iter().position(|(known, _)| known.value == key.value) {
                    Some(at) => {
                        let (known, old) = map.remove(at);
                        let node = merged(old, node, &known.value);
                        map.insert(at, (key, node));
                    }
                    None => map.push((key, node)),
                }
            }
            Value::Map(map)
        }
        (Value::List(mut list), Value::List(others)) if !REPLACE.contains(&name) => {
            for node in others {
                let target = target(&node);
                if name == "volumes" && target.is_some() {
                    list.retain(|known| self::target(known) != target);
                }
                let same = |known: &Node| match (&known.value, &node.value) {
                    (Value::Scalar(a), Value::Scalar(b)) => a == b,
                    _ => false,
                };
                if !list.iter().any(same) {
                    list.push(node);
                }
            }
            Value::List(list)
        }
        (_, over) => over,
    };
    Node { value, span }
}

/// Where a volume is in the container.
fn target(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(text) => {
            let mut parts = text.split(':').filter(|part| part.starts_with('/'));
            let first = parts.next();
            parts.next().or(first).map(str::to_owned)
        }
        _ => match &node.get("target")?.value {
            Value::Scalar(text) => Some(text.clone()),
            _ => None,
        },
    }
}

/// A list of `NAME=VALUE` as a mapping.
pub(super) fn pairs(node: Node) -> Node {
    let Value::List(list) = node.value else {
        return node;
    };
    let mut map: Map = Vec::new();
    for item in list {
        let Value::Scalar(text) = &item.value else {
            continue;
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Value::Scalar(value.to_owned())),
            None => (text.as_str(), Value::Null),
        };
        let key = Spanned::new(name.to_owned(), item.span.clone());
        map.retain(|(known, _)| known.value != key.value);
        let span = item.span;
        map.push((key, Node { value, span }));
    }
    Node {
        value: Value::Map(map),
        span: node.span,
    }
}

/// A list of names as a mapping of them.
pub(super) fn names(node: Node) -> Node {
    let Value::List(list) = node.value else {
        return node;
    };
    let entries = list.into_iter().filter_map(|item| {
        let Value::Scalar(name) = &item.value else {
            return None;
        };
        let key = Spanned::new(name.clone(), item.span.clone());
        let value = Value::Null;
        let span = item.span;
        Some((key, Node { value, span }))
    });
    Node {
        value: Value::Map(entries.collect()),
        span: node.span,
    }
}
