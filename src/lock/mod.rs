//! The lock file: what the recipes of a directory stand for on a certain day. Pure.
//!
//! A recipe names packages and, where it gives no checksum, addresses; what is behind them changes.
//! `vmfab.lock` says which packages, file by file, and which content it was. Entries are shared by
//! the recipes of a directory: a step by its static key (`derivation::static_keys`), content by its
//! address. Templates are pinned with their versions and the digests of their packages.

mod model;
mod text;

pub use model::{Archive, Lock, Package, PackageSet, PinnedStep, PinnedTemplate, Source, Target};
pub use text::VERSION;

/// The name of the file, in the directory of the recipe.
pub const FILE_NAME: &str = "vmfab.lock";
