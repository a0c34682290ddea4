//! Source texts of recipes, and the files that they can name.

use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::instruction::Repository;
use crate::limits::Limits;
use crate::template::TemplateRef;

pub use crate::text::{Source, Span, Spanned};

/// What a recipe can ask about files. The recipe module itself does no input or output.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Whether there is a file or a directory.
    fn exists(&self, path: &Path) -> bool;

    /// Recipes of the user's by name, which go before the built-in ones.
    fn catalogue(&self) -> Vec<(String, PathBuf)> {
        Vec::new()
    }

    /// How much a recipe may take.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Whether there is a directory.
    fn is_directory(&self, path: &Path) -> bool;

    /// The recipe of a template that the recipe in the file `asking` wants.
    ///
    /// # Errors
    /// There is no such template.
    fn template(&self, wanted: &TemplateRef, _asking: &Path) -> Result<TemplateRecipe, Failure> {
        Err(Failure::failed(format!(
            "cannot look for the template {wanted} here"
        )))
    }

    /// The directory that a recipe must not read outside of: that of its package, when it is of a
    /// template that others published.
    fn confines(&self, _recipe: &Path) -> Option<PathBuf> {
        None
    }

    /// The path on this host of a file or directory of a git repository.
    ///
    /// # Errors
    /// The repository cannot be read, or lacks the file or directory.
    fn repository(&self, repository: &Repository, _: Wanted) -> Result<PathBuf, Failure> {
        Err(Failure::failed(format!(
            "cannot read {} here",
            repository.address
        )))
    }
}

/// Where the recipe of a template is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateRecipe {
    /// It comes with vmfab.
    BuiltIn(String),
    File(PathBuf),
    /// That is known when versions have been chosen for all templates: then the recipe is read
    /// again.
    Later,
}

/// What is wanted of a git repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Directory,
    /// The file that is named, or the usual one of the directory that is named.
    Dockerfile,
}
