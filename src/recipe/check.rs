//! A node against its shape: the number and the names of what is in it.

use std::collections::BTreeMap;

use super::error::{Problem, closest, enumerate};
use super::reader::Reader;
use super::scope::Scope;
use super::shape::{DOCUMENT, Shape, home_of};
use super::source::Span;
use crate::text::kdl::{Entry, Node};

/// Reports arguments, properties and children that are missing, too many or unknown.
pub(super) fn check(reader: &Reader<'_>) {
    arguments(reader);
    properties(reader);
    children(reader);
}

fn arguments(reader: &Reader<'_>) {
    let (least, most) = reader.shape.arguments;
    let name = reader.shape.name;
    let count = reader.positional().count();
    if count < least {
        let what = reader.shape.argument.unwrap_or("an argument");
        reader.scope.report(
            Problem::new(
                &reader.span(),
                format!("\"{name}\" needs {what}"),
                "an argument is missing",
            )
            .with_help(reader.example()),
        );
    }
    if let Some(extra) = reader.positional().nth(most) {
        let label = match reader.shape.argument {
            Some(what) => format!("it takes only {what}"),
            None => "it takes properties only: name=value".to_owned(),
        };
        reader.scope.report(
            Problem::new(
                &reader.scope.span(extra.span()),
                format!("\"{name}\" has an argument too many"),
                label,
            )
            .with_help(reader.example()),
        );
    }
    let typed = reader.node.entries().iter().filter_map(Entry::ty);
    for annotation in reader.node.ty().into_iter().chain(typed) {
        reader.scope.report(
            Problem::new(
                &reader.scope.span(annotation.span()),
                format!("type annotation ({}) is not allowed", annotation.value()),
                "leave it out",
            )
            .with_help("recipes use no KDL type annotations"),
        );
    }
}

fn properties(reader: &Reader<'_>) {
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    for entry in reader.node.entries() {
        let Some(key) = entry.name() else { continue };
        let place = reader.scope.span(key.span());
        if let Some(first) = seen.get(key.value()) {
            reader.scope.report(
                Problem::new(
                    &place,
                    format!("\"{}\" is given twice", key.value()),
                    "given before in the same node",
                )
                .with_other(first, "the first time")
                .with_help("remove one of them"),
            );
            continue;
        }
        seen.insert(key.value(), place.clone());
        let Some(known) = reader.shape.properties else {
            continue;
        };
        if known.contains(&key.value()) {
            continue;
        }
        let help = if let Some(child) = reader.shape.child(key.value()) {
            format!("write it as a node between braces: {{ {} }}", child.example)
        } else if let Some(other) = closest(key.value(), known.iter().copied()) {
            format!("did you mean \"{other}\"?")
        } else if known.is_empty() {
            format!("\"{}\" takes no properties", reader.shape.name)
        } else {
            format!("\"{}\" takes {}", reader.shape.name, enumerate(known))
        };
        reader.scope.report(
            Problem::new(
                &place,
                format!(
                    "\"{}\" has no property \"{}\"",
                    reader.shape.name,
                    key.value()
                ),
                "unknown property",
            )
            .with_help(help),
        );
    }
}

fn children(reader: &Reader<'_>) {
    let Some(children) = reader.node.children() else {
        return;
    };
    for child in children.nodes() {
        if reader.shape.child(child.name().value()).is_none() {
            report_unknown(reader.scope, child, reader.shape);
        }
    }
}

/// Reports a node that `parent` does not take.
pub(super) fn report_unknown(scope: &Scope, node: &Node, parent: &Shape) {
    let name = node.name().value();
    let place = scope.span(node.name().span());
    let inside = if parent.name == DOCUMENT.name {
        format!("a {}", parent.name)
    } else {
        format!("\"{}\"", parent.name)
    };
    let children: Vec<&str> = parent.children.iter().map(|shape| shape.name).collect();
    let help = if parent.properties.is_some_and(|known| known.contains(&name)) {
        format!("write it as a property: {} … {name}=\"…\"", parent.name)
    } else if let Some(place) = home_of(name) {
        format!("\"{name}\" belongs {place}")
    } else if let Some(other) = closest(name, children.iter().copied()) {
        format!("did you mean \"{other}\"?")
    } else if children.is_empty() {
        format!("\"{}\" takes nothing between braces", parent.name)
    } else {
        format!("{inside} takes {}", enumerate(&children))
    };
    scope.report(
        Problem::new(
            &place,
            format!("unknown node \"{name}\" in {inside}"),
            "unknown node",
        )
        .with_help(help),
    );
}
