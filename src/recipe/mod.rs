//! Recipes: KDL 2 to a typed model with source spans. Pure: files are read through [`Files`].

mod error;
mod model;
mod source;

pub use error::{Problem, RecipeError};
pub use model::*;
pub use source::{Files, Source, Span, Spanned};
