//! A plan as text, for people and for snapshots.

use std::fmt::Write as _;

use super::Plan;
use crate::derivation::Input;

impl Plan {
    /// One line for each step: its number, its kind, its label, the numbers of the steps that it
    /// reads. With `parameters`, the parameters of each step below its line.
    #[must_use]
    pub fn render(&self, parameters: bool) -> String {
        let nodes = self.graph.nodes();
        let digits = nodes.len().saturating_sub(1).to_string().len();
        let kinds = nodes.iter().map(|node| node.builder.len()).max();
        let kinds = kinds.unwrap_or_default();
        let labels = nodes.iter().map(|node| node.name.chars().count()).max();
        let labels = labels.unwrap_or_default();
        let mut text = format!(
            "image {} for {}, {} steps\n",
            self.image_name,
            self.template.architecture,
            nodes.len()
        );
        for (index, node) in nodes.iter().enumerate() {
            let inputs = inputs(&node.inputs);
            let mut line = format!("{index:digits$}  {:kinds$}  {}", node.builder, node.name);
            if !inputs.is_empty() {
                let pad = labels - node.name.chars().count();
                let _ = write!(line, "{:pad$}  ← {inputs}", "");
            }
            let _ = writeln!(text, "{line}");
            if parameters {
                let _ = writeln!(text, "{:digits$}  {}", "", node.params);
            }
        }
        text
    }
}

/// `0-3, source 4`: layers are not named, as nearly all inputs are.
fn inputs(inputs: &[Input]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = inputs;
    while let Some(first) = rest.first() {
        let run = rest
            .iter()
            .enumerate()
            .take_while(|(offset, input)| {
                input.role == first.role && input.node.index() == first.node.index() + offset
            })
            .count();
        let role = match first.role.as_str() {
            "layer" => String::new(),
            role => format!("{role} "),
        };
        let last = rest[run - 1].node.0;
        parts.push(if run > 1 {
            format!("{role}{}-{last}", first.node.0)
        } else {
            format!("{role}{last}")
        });
        rest = &rest[run..];
    }
    parts.join(", ")
}
