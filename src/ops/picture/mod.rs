//! Pictures of graphs of steps: where each step is drawn, and drawings for other programs.

mod dot;
mod layout;
mod svg;

pub use dot::dot;
pub use layout::{HEIGHT, Layout, WIDTH, layout};
pub use svg::svg;
