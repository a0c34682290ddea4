//! Builders: one file for each kind of derivation.
//!
//! | kind | file | what it does |
//! |---|---|---|
//! | `bootstrap`, `packages`, `run`, `file`, `copy`, `user`, `service`, `env`, `hostname`, `system` | `tree/` | sandbox tasks that give one layer; each file says which tasks |
//! | `check` | `check.rs` | a command over the finished tree; what it changes is forgotten |
//! | `disk` | `make_disk.rs`, with the formats in [`disk`](crate::disk) | layers to a bootable disk |
//! | `image` | `image.rs` | the image config |
//! | `local` | `local.rs` | local files as a tar |
//! | `object` | `object.rs` | what is in the store already |
//!
//! `packages/` keeps the packages that `bootstrap` and `packages` installed, and gives them back to locked ones.

mod check;
mod image;
pub mod local;
mod make_disk;
mod object;
pub mod packages;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::derivation::{BuildError, BuildRequest, Builder, Builders, Step};
use crate::digest::Digest;
use crate::host::Home;
use crate::lock::PackageSet;
use crate::sandbox::Sandbox;
use crate::store::Store;

/// All builders.
pub struct All {
    check: check::Check,
    disk: make_disk::MakeDisk,
    image: image::Image,
    local: local::Local,
    object: object::Object,
    tree: tree::Tree,
}

impl All {
    /// Builders that work on the store of `home`. `locals` says where local files are, by digest, and `locked`
    /// which packages locked steps install.
    #[must_use]
    pub fn new(
        home: &Home,
        store: &Store,
        locals: BTreeMap<Digest, PathBuf>,
        locked: BTreeMap<Digest, PackageSet>,
    ) -> Self {
        let sandbox = Sandbox::new(home, store.clone());
        Self {
            check: check::Check {
                sandbox: sandbox.clone(),
                store: store.clone(),
            },
            disk: make_disk::MakeDisk {
                sandbox: sandbox.clone(),
                store: store.clone(),
            },
            image: image::Image {
                store: store.clone(),
            },
            local: local::Local {
                store: store.clone(),
                locals,
            },
            object: object::Object {
                store: store.clone(),
            },
            tree: tree::Tree {
                sandbox,
                store: store.clone(),
                locked,
            },
        }
    }
}

impl Builders for All {
    fn builder(&self, name: &str) -> Option<&dyn Builder> {
        Some(match name {
            "check" => &self.check,
            "disk" => &self.disk,
            "image" => &self.image,
            "local" => &self.local,
            "object" => &self.object,
            "bootstrap" | "packages" | "run" | "file" | "copy" | "user" | "service" | "env"
            | "hostname" | "system" => &self.tree,
            _ => return None,
        })
    }
}

/// The typed step of a request.
fn step(request: &BuildRequest<'_>) -> Result<Step, BuildError> {
    Step::from_parts(&request.derivation.builder, &request.derivation.params)
        .map_err(BuildError::other)
}

/// A step came to the builder of another kind: a mistake in this program.
fn wrong_kind(request: &BuildRequest<'_>) -> BuildError {
    let kind = &request.derivation.builder;
    BuildError::other(std::io::Error::other(format!(
        "\"{kind}\" is built elsewhere"
    )))
}
