//! A plan for Graphviz.

use std::fmt::Write as _;

use super::drawn;
use crate::ops::forecast::{Forecast, ForecastState};
use crate::text::harmless;

/// The plan in Graphviz's language (<https://graphviz.org/doc/info/lang.html>).
#[must_use]
pub fn dot(plan: &Forecast) -> String {
    let drawn = drawn(plan);
    let mut text = format!(
        "digraph {} {{\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"]\n",
        quoted(&plan.name)
    );
    // Writing to a string cannot fail.
    for (index, step) in plan.steps.iter().enumerate() {
        let (fill, line, more) = match step.state {
            ForecastState::Cached => ("#eef1f4", "#9aa5b1", ""),
            ForecastState::Remote => ("#dff3f5", "#1b8a99", ""),
            ForecastState::Build => ("#d9f0dd", "#1f7a3a", ", penwidth=2"),
            ForecastState::Depends => ("#fcf0cf", "#a66f00", ", penwidth=2"),
        };
        let label = quoted(&step.name);
        let state = step.state.word();
        let _ = writeln!(
            text,
            "  s{index} [label={label}, tooltip=\"{state}\", fillcolor=\"{fill}\", \
             color=\"{line}\"{more}]"
        );
    }
    for (index, edges) in drawn.edges.iter().enumerate() {
        for input in edges {
            let _ = writeln!(text, "  s{input} -> s{index}");
        }
    }
    text + "}\n"
}

/// A name in quotes, in which nothing of the language means anything.
fn quoted(name: &str) -> String {
    let name = harmless(name).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{name}\"")
}
