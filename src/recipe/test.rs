//! `test` nodes: what must hold in a machine of an image.

use super::model::{Expectation, Test};
use super::reader::Reader;
use super::value;

/// Reads a `test` node.
pub(super) fn read(node: &Reader<'_>) -> Option<Test> {
    let name = node.parsed_argument(0, value::fitting("a line of text"));
    let mut expectations = Vec::new();
    for child in node.children() {
        expectations.extend(expectation(&child));
    }
    if node
        .node
        .children()
        .is_none_or(|inside| inside.nodes().is_empty())
    {
        node.lacks("run, port or file");
    }
    Some(Test {
        name: name?.value,
        expectations,
    })
}

fn expectation(node: &Reader<'_>) -> Option<Expectation> {
    match node.shape.name {
        "run" => {
            let user = node.parsed("user", value::fitting("the name of an account"));
            Some(Expectation::Run {
                command: node.argument(0)?.value,
                user: user.map(|user| user.value),
            })
        }
        "port" => node
            .number_argument(0, value::port)
            .map(|port| Expectation::Port(port.value)),
        _ => {
            let contains = node.text("contains");
            Some(Expectation::File {
                path: node.parsed_argument(0, value::image_path)?.value,
                contains: contains.map(|text| text.value),
            })
        }
    }
}
