//! Pictures of graphs of steps: where each step is drawn, and drawings for other programs.

mod dot;
mod layout;
mod svg;

pub use dot::dot;
pub use layout::{HEIGHT, Layout, WIDTH, layout};
pub use svg::svg;

use super::forecast::Forecast;

/// Where the steps of a plan are.
fn drawn(plan: &Forecast) -> Layout {
    let inputs = plan.steps.iter().map(|step| step.inputs.as_slice());
    layout(&inputs.collect::<Vec<_>>())
}
