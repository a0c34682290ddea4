//! A plan as a picture.

use std::fmt::Write as _;

use super::drawn;
use super::layout::{HEIGHT, Layout, WIDTH};
use crate::html::escape;
use crate::ops::forecast::{Forecast, ForecastState};
use crate::text::harmless;

/// Around the drawing.
const MARGIN: u32 = 24;
/// The height of the headline and the legend.
const HEAD: u32 = 64;
/// The least width: that of the legend.
const LEAST: u32 = 440;
/// The most letters of a label.
const LETTERS: usize = 27;

const STYLE: &str = "\
svg{font:12px ui-sans-serif,system-ui,sans-serif;background:#fff;color:#1c2430}
text{fill:currentColor}
.title{font-size:17px;font-weight:600}.quiet{fill:#5b6673}
.edge{fill:none;stroke:#b3bcc7;stroke-width:1.3}
.edge.on{stroke:#1f7a3a;stroke-width:2}
rect{stroke-width:1.2;rx:6px}
.cached rect{fill:#f2f4f7;stroke:#c3cad3}.cached text{fill:#5b6673}
.remote rect{fill:#dff3f5;stroke:#1b8a99}
.build rect{fill:#d9f0dd;stroke:#1f7a3a;stroke-width:2.2}
.depends rect{fill:#fcf0cf;stroke:#a66f00;stroke-width:2.2;stroke-dasharray:5 3}
@media(prefers-color-scheme:dark){svg{background:#12161c;color:#e3e8ee}
.quiet,.cached text{fill:#9aa5b1}.edge{stroke:#465160}.edge.on{stroke:#5fc27e}
.cached rect{fill:#1d232b;stroke:#3b4552}.remote rect{fill:#0f3137;stroke:#3fb4c4}
.build rect{fill:#143823;stroke:#5fc27e}.depends rect{fill:#3a2d0b;stroke:#e0ab3d}}
";

/// The plan as an SVG file: steps that would run stand out.
#[must_use]
pub fn svg(plan: &Forecast) -> String {
    let drawn = drawn(plan);
    let width = (drawn.width + 2 * MARGIN).max(LEAST);
    let height = drawn.height + 2 * MARGIN + HEAD;
    let left = (width - drawn.width) / 2;
    let name = escape(&plan.name);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Steps of {name}\">\n\
         <style>{STYLE}</style>\n"
    );
    head(&mut text, plan);
    let _ = writeln!(
        text,
        "<g transform=\"translate({left} {})\">",
        MARGIN + HEAD
    );
    for (step, edges) in drawn.edges.iter().enumerate() {
        for &input in edges {
            let on = if plan.steps[input].state.runs() {
                " on"
            } else {
                ""
            };
            let path = edge(&drawn, input, step);
            let _ = writeln!(text, "<path class=\"edge{on}\" d=\"{path}\"/>");
        }
    }
    for (step, &(x, y)) in plan.steps.iter().zip(&drawn.places) {
        let state = step.state.word();
        let name = harmless(&step.name);
        let mut reasons: Vec<String> = step.reasons.iter().map(ToString::to_string).collect();
        reasons.insert(0, format!("{name}: {state}"));
        let _ = writeln!(
            text,
            "<g class=\"{state}\"><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\"/><text x=\"{}\" y=\"{}\">{}</text></g>",
            escape(reasons.join("\n")),
            x + 10,
            y + 19,
            escape(short(&name)),
        );
    }
    text + "</g>\n</svg>\n"
}

/// The headline, and what the colours mean.
fn head(text: &mut String, plan: &Forecast) {
    let runs = plan.steps.iter().filter(|step| step.state.runs()).count();
    let steps = plan.steps.len();
    let _ = writeln!(
        text,
        "<text class=\"title\" x=\"{MARGIN}\" y=\"34\">{}</text>\
         <text class=\"quiet\" x=\"{MARGIN}\" y=\"54\">{runs} of {steps} steps would run</text>",
        escape(harmless(&plan.name)),
    );
    for (number, state) in (0_u32..).zip(ForecastState::ALL) {
        let (x, word) = (MARGIN + number * 100, state.word());
        let _ = writeln!(
            text,
            "<g class=\"{word}\"><rect x=\"{x}\" y=\"66\" width=\"14\" height=\"14\"/>\
             <text x=\"{}\" y=\"77\">{word}</text></g>",
            x + 20
        );
    }
}

/// The way from a step to one that reads it.
fn edge(drawn: &Layout, from: usize, to: usize) -> String {
    let ((x1, y1), (x2, y2)) = (drawn.places[from], drawn.places[to]);
    match drawn.sideways {
        true => {
            let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
            let middle = u32::midpoint(x1, x2);
            format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}")
        }
        false => {
            let (y1, x1, x2) = (y1 + HEIGHT, x1 + WIDTH / 2, x2 + WIDTH / 2);
            let middle = u32::midpoint(y1, y2);
            format!("M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}")
        }
    }
}

/// The beginning of a name that is too long for its box.
fn short(name: &str) -> String {
    match name.chars().nth(LETTERS) {
        None => name.to_owned(),
        Some(_) => name.chars().take(LETTERS - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dot;
    use super::*;
    use crate::ops::forecast::{ForecastStep, Reason};

    fn plan() -> Forecast {
        let step = |name: &str, inputs: &[usize], state| ForecastStep {
            name: name.to_owned(),
            builder: "run".to_owned(),
            inputs: inputs.to_vec(),
            key: None,
            state,
            from: None,
            reasons: match state {
                ForecastState::Build => vec![Reason::New],
                _ => Vec::new(),
            },
        };
        Forecast {
            name: "a & \"b\"".to_owned(),
            steps: vec![
                step("base", &[], ForecastState::Cached),
                step(
                    "run echo '</svg><script>' \"\u{1b}[2J\\",
                    &[0],
                    ForecastState::Build,
                ),
                step("disk", &[0, 1], ForecastState::Depends),
            ],
        }
    }

    #[test]
    fn a_picture_in_which_names_do_nothing() {
        let text = svg(&plan());
        assert!(text.contains("2 of 3 steps would run"), "{text}");
        assert!(
            text.contains(">run echo &#39;&lt;/svg&gt;&lt;script&gt;&#39; …<"),
            "{text}"
        );
        assert!(text.contains("was not part of the last build"), "{text}");
        assert!(text.contains("aria-label=\"Steps of a &amp; &quot;b&quot;\""));
        assert!(!text.contains('\u{1b}') && !text.contains("<script"));
        // The disk reads the base, too, and that is seen from the way over the command.
        assert_eq!(text.matches("<path class=\"edge").count(), 2);
        assert_eq!(text.matches("<path class=\"edge on\"").count(), 1);
    }

    #[test]
    fn a_graph_for_graphviz() {
        insta::assert_snapshot!(dot(&plan()), @r##"
        digraph "a & \"b\"" {
          node [shape=box, style="rounded,filled", fontname="sans-serif"]
          s0 [label="base", tooltip="cached", fillcolor="#eef1f4", color="#9aa5b1"]
          s1 [label="run echo '</svg><script>' \"\\", tooltip="build", fillcolor="#d9f0dd", color="#1f7a3a", penwidth=2]
          s2 [label="disk", tooltip="depends", fillcolor="#fcf0cf", color="#a66f00", penwidth=2]
          s0 -> s1
          s1 -> s2
        }
        "##);
    }
}
