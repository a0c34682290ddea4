//! What is in an image: its files by layers or by its disk, and its packages by their databases.
//!
//! | file | content |
//! |---|---|
//! | `files.rs` | files with what they take, as layers or an ext4 file system have them |
//! | `layers.rs` | layers put over each other: what each brings, and what later ones drop |
//! | `tree.rs` | directories with what is in them, the largest first |
//! | `packages/` | the databases of dpkg, apk and rpm, packages of Python and npm, licences |
//!
//! Names in images may be anything; here they are bytes, and texts only for people.

mod files;
mod layers;
mod packages;
mod tree;

pub use files::{FileKind, Files, Meta, of_disk};
pub use layers::{LayerUse, Layers, Wasted};
pub use packages::{Package, add_licenses, language_packages, packages_of};
pub use tree::{Limits, Node, Others};
