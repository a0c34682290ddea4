//! Templates: recipes that others can find, get and build on. Pure.
//!
//! ```text
//! name         NAMESPACE/NAME, and what a recipe asks for: NAME@REQUIREMENT
//! outline      what the text of a recipe says of itself, and which templates it needs
//! package      one file: a tar of a fixed order, bounded and strict
//! index        what a repository has, a line for each template; what it must not change
//! requirement  ranges of semantic versions as sets
//! repository   where templates are, by namespace
//! resolve      which version of each template is taken, or why there is none
//! ```
//!
//! A package comes from strangers. [`package::Package::read`] says which rule one breaks.

pub mod index;
mod name;
mod outline;
pub mod package;
mod repository;
mod requirement;
pub mod resolve;

pub use index::{Entry, Index};
pub use name::{BUILT_IN, TemplateName, TemplateRef, Wanted};
pub use outline::{Dependency, Outline};
pub use package::{Package, PackageFile};
pub use repository::{LOCAL, Place, TemplateRepository};

/// The ending of the file of a package.
pub const EXTENSION: &str = "vmfabt";
