//! Texts that people write: places in them, and mistakes shown with the line underlined.

mod problem;
mod source;
pub(crate) mod syntax;

pub use problem::{Problem, Problems};
pub(crate) use problem::{closest, enumerate};
pub use source::{Source, Span, Spanned};
