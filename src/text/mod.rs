//! Texts that people write: places in them, and mistakes shown with the line underlined.

mod excerpt;
mod finding;
mod harmless;
pub(crate) mod kdl;
mod login;
mod problem;
mod size;
mod source;

pub(crate) use crate::failure::closest;
pub(crate) use excerpt::excerpt;
pub use finding::Finding;
pub(crate) use finding::looks_like_secret;
pub(crate) use harmless::{harmless, is_harmful};
pub(crate) use login::{hide_logins, logins, without_logins};
pub(crate) use problem::enumerate;
pub use problem::{Problem, Problems};
pub(crate) use size::{shown_size, size};
pub use source::{Source, Span, Spanned};
