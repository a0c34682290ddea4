//! Builders: one file for each kind of derivation.
//!
//! | kind | file | what it does |
//! |---|---|---|
//! | `bootstrap`, `packages`, `run`, `file`, `copy`, `user`, `service`, `env`, `hostname`, `workdir`, `bootable`, `entrypoint`, `system` | `tree/` | sandbox tasks that give one layer; each file says which tasks |
//! | `exec` | `exec.rs`, with `agent.rs` for SSH agents | a process as container engines run it |
//! | `add` | `add.rs` | files by docker's rules |
//! | `git` | `git.rs` | the files of a git repository as a tar |
//! | `check` | `check.rs` | a command over the finished tree; what it changes is forgotten |
//! | `disk` | `make_disk.rs`, with the formats in [`disk`](crate::disk) | layers to a bootable disk |
//! | `bootc-installer`, `bootc-install` | `bootc/` | a bootable container, installed to a disk in a machine |
//! | `image` | `image.rs` | the image config |
//! | `fetch` | `fetch.rs`, blobs of registries with `blob.rs` | content from outside |
//! | `oci-layer` | `oci_layer.rs` | a layer of a container image as a tar |
//! | `local` | `local.rs` | the list of local files; steps that read them take them from the host |
//! | `guest` | [`guest`] | commands in a machine; what they changed as a disk |
//! | `object` | `object.rs` | what is in the store already |
//! | `transform` | `transform/` | content from outside: decompressed, converted, unpacked |
//!
//! `packages/` keeps the packages that `bootstrap`, `packages` and `bootable` installed, and gives
//! them back to locked ones.

mod add;
mod agent;
mod beside;
mod blob;
mod bootc;
mod check;
mod exec;
mod fetch;
pub(crate) mod git;
pub mod guest;
mod image;
pub mod local;
mod make_disk;
mod object;
mod oci_layer;
pub mod packages;
mod sources;
mod transform;
mod tree;

pub(crate) use fetch::fetch_unknown;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::derivation::{BuildRequest, Builder, Builders, Derivation, Step};
use crate::digest::{Checksum, Digest, ObjectId};
use crate::event::Sink;
use crate::failure::Failure;
use crate::host::{Home, Login, Secrets};
use crate::limits::StepBounds;
use crate::lock::PackageSet;
use crate::plan::{BlobPlace, LocalTree, Place};
use crate::registry::Registries;
use crate::sandbox::{CacheMounts, Ids, IdsError, Sandbox};
use crate::share::Memory;
use crate::source::Fetcher;
use crate::store::Store;

/// Where that comes from which is in no store yet.
pub struct Origins {
    pub locals: BTreeMap<Digest, Arc<LocalTree>>,
    /// Content from outside, by checksum.
    pub places: BTreeMap<Checksum, Place>,
    /// Blobs of registries, by checksum.
    pub blobs: BTreeMap<Checksum, BlobPlace>,
    /// Images of registries that have objects.
    pub artifacts: BTreeMap<ObjectId, BlobPlace>,
    /// Where progress goes.
    pub sink: Arc<dyn Sink>,
    /// Who opens these.
    pub registries: Registries,
    /// Who fetches it.
    pub fetcher: Arc<Fetcher>,
    /// The packages that locked steps install, by the digest in their parameters.
    pub locked: BTreeMap<Digest, PackageSet>,
    /// What steps may know and nothing may keep.
    pub secrets: Secrets,
    /// User names and passwords for git servers, by the addresses of repositories.
    pub logins: BTreeMap<String, Login>,
    /// What each step may take, whatever the recipe says.
    pub most: Option<StepBounds>,
}

pub struct All {
    add: add::Add,
    exec: exec::Exec,
    git: git::Git,
    bootc_installer: bootc::Installer,
    bootc_install: bootc::Install,
    check: check::Check,
    fetch: fetch::Fetch,
    guest: guest::Steps,
    disk: make_disk::MakeDisk,
    image: image::Image,
    local: local::Local,
    object: object::Object,
    oci_layer: oci_layer::OciLayer,
    transform: transform::Transform,
    tree: tree::Tree,
}

impl All {
    /// Builders that work on the store of `home`.
    #[must_use]
    pub fn new(home: &Home, store: &Store, origins: Origins) -> Self {
        let Origins {
            locals,
            places,
            blobs,
            artifacts,
            sink,
            registries,
            fetcher,
            locked,
            secrets,
            logins,
            most,
        } = origins;
        let sandbox = Sandbox::new(home, store.clone());
        let sandbox = sandbox.telling(sink.clone()).bounded(most);
        let sources = sources::Sources::new(store.clone(), locals);
        let image_size = registries.limits().image_size;
        Self {
            add: add::Add {
                sandbox: sandbox.clone(),
                sources: sources.clone(),
            },
            exec: exec::Exec {
                sandbox: sandbox.clone(),
                sources: sources.clone(),
                caches: CacheMounts::new(home),
                secrets: secrets.clone(),
            },
            git: git::Git {
                sandbox: sandbox.clone(),
                store: store.clone(),
                secrets,
                logins,
            },
            bootc_installer: bootc::Installer {
                sandbox: sandbox.clone(),
                store: store.clone(),
            },
            bootc_install: bootc::Install {
                home: home.clone(),
                sandbox: sandbox.clone(),
                store: store.clone(),
            },
            check: check::Check {
                sandbox: sandbox.clone(),
                store: store.clone(),
            },
            fetch: fetch::Fetch {
                store: store.clone(),
                fetcher: fetcher.clone(),
                places,
                blobs: blobs.clone(),
                registries: registries.clone(),
            },
            guest: guest::Steps::new(
                store.clone(),
                sources.clone(),
                guest::BuildMachines::new(home, store),
                most,
            ),
            disk: make_disk::MakeDisk {
                sandbox: sandbox.clone(),
                store: store.clone(),
            },
            image: image::Image {
                store: store.clone(),
            },
            local: local::Local {
                store: store.clone(),
                sources: sources.clone(),
            },
            object: object::Object {
                store: store.clone(),
                artifacts,
                registries: registries.clone(),
                downloads: home.downloads(),
                memory: Memory::new(home.registries()),
                sink,
            },
            oci_layer: oci_layer::OciLayer {
                store: store.clone(),
                fetcher,
                blobs,
                registries,
                rooms: Mutex::default(),
            },
            transform: transform::Transform {
                sandbox: sandbox.clone(),
                store: store.clone(),
                image_size,
            },
            tree: tree::Tree {
                sandbox,
                store: store.clone(),
                sources,
                locked,
            },
        }
    }
}

impl Builders for All {
    fn builder(&self, name: &str) -> Option<&dyn Builder> {
        Some(match name {
            "add" => &self.add,
            "exec" => &self.exec,
            "git" => &self.git,
            "bootc-installer" => &self.bootc_installer,
            "bootc-install" => &self.bootc_install,
            "check" => &self.check,
            "fetch" => &self.fetch,
            "guest" => &self.guest,
            "disk" => &self.disk,
            "image" => &self.image,
            "local" => &self.local,
            "object" => &self.object,
            "oci-layer" => &self.oci_layer,
            "transform" => &self.transform,
            "bootstrap" | "packages" | "run" | "file" | "copy" | "user" | "service" | "env"
            | "hostname" | "workdir" | "bootable" | "entrypoint" | "system" => &self.tree,
            _ => return None,
        })
    }

    fn waits(&self, name: &str) -> bool {
        matches!(
            name,
            "fetch" | "git" | "object" | "oci-layer" | "guest" | "bootc-install"
        )
    }

    fn possible(&self, derivation: &Derivation) -> Result<(), Failure> {
        let (user, group) = tree::owner(derivation);
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        let checked = Ids::of_sandboxes().and_then(|ids| ids.check(user, group));
        checked.map_err(|IdsError { message, help }| Failure::missing(message).with_help(help))
    }
}

/// The typed step of a request.
fn step(request: &BuildRequest<'_>) -> Result<Step, Failure> {
    Step::from_parts(&request.derivation.builder, &request.derivation.params)
        .map_err(Failure::of_step)
}

/// A step came to the builder of another kind: a mistake in this program.
fn wrong_kind(request: &BuildRequest<'_>) -> Failure {
    let kind = &request.derivation.builder;
    Failure::of_step(std::io::Error::other(format!(
        "\"{kind}\" is built elsewhere"
    )))
}
