//! Recipes: KDL 2 to a typed model with source spans. Pure: files are read through [`Files`].
//!
//! ```text
//! text ── kdl ──► nodes ── document ──► parameters, image nodes ── image ──► drafts ── load ──► model
//!                          (include)                      (shape, reader)            (from)
//! ```

mod catalogue;
mod check;
mod dockerfile;
mod document;
mod error;
mod fetched;
mod format;
mod header;
mod image;
mod instruction;
mod lint;
mod load;
mod machine;
mod manager;
mod model;
mod parameter;
mod reader;
mod reference;
mod scope;
mod shape;
mod source;
mod test;
#[cfg(test)]
mod tests;
mod value;

pub use catalogue::{BuiltIn, catalogue};
pub use dockerfile::is_dockerfile;
pub(crate) use error::closest;
pub use error::{Problem, RecipeError};
pub use format::format;
pub use lint::lint;
pub(crate) use load::default_image;
pub use load::{Given, load, load_dockerfile};
pub use manager::without_preamble;
pub use model::*;
pub use source::{Files, Source, Span, Spanned, TemplateRecipe, Wanted};
pub use value::unfit_for_logins;
