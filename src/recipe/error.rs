//! Mistakes in recipes.

pub use crate::text::{Problem, Problems as RecipeError};
pub(crate) use crate::text::{closest, enumerate};
