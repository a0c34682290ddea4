//! The files that steps read, as tars: of this host, or out of the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::local;
use crate::derivation::step::LISTING;
use crate::derivation::{BuildRequest, Listing};
use crate::digest::{Digest, ObjectRef};
use crate::failure::Failure;
use crate::plan::LocalTree;
use crate::store::Store;

/// Finds the files that a step reads.
#[derive(Clone)]
pub(super) struct Sources {
    store: Store,
    locals: Arc<BTreeMap<Digest, Arc<LocalTree>>>,
}

/// A tar that a step reads.
pub(super) enum Source {
    Local(Arc<LocalTree>),
    Stored(Store, ObjectRef),
}

impl Sources {
    pub(super) fn new(store: Store, locals: BTreeMap<Digest, Arc<LocalTree>>) -> Self {
        let locals = Arc::new(locals);
        Self { store, locals }
    }

    /// The local files of a digest, which the plan names.
    pub(super) fn local(&self, tree: &Digest) -> Option<Arc<LocalTree>> {
        self.locals.get(tree).cloned()
    }

    /// The tar that a step reads under a role.
    pub(super) fn of(&self, request: &BuildRequest<'_>, role: &str) -> Result<Source, Failure> {
        let wrong = || super::wrong_kind(request);
        let object = request.inputs_of(role).next().ok_or_else(wrong)?;
        let inputs = &request.derivation.inputs;
        let is_listing =
            |input: &crate::derivation::Input| input.role == role && input.output == LISTING;
        if !inputs.iter().any(is_listing) {
            return Ok(Source::Stored(self.store.clone(), object));
        }
        // A shared cache may have given it: it counts only if the plan has the same.
        let known = self.locals.values().map(|tree| tree.listing.as_bytes());
        let longest = known.map(<[u8]>::len).max().unwrap_or(0) as u64;
        let stored = self.store.open_object(&object.id);
        let mut stored = stored.map_err(Failure::of_step)?.take(longest + 1);
        let mut listing = Vec::new();
        stored.read_to_end(&mut listing).map_err(Failure::of_step)?;
        let listing = Listing::from_bytes(listing);
        let local = listing.and_then(|listing| self.local(&listing.digest()));
        let local = local.ok_or_else(|| {
            Failure::verification("the list of local files in the store is not that of these files")
                .with_help("a cache gave a wrong result: build again with --rebuild")
        })?;
        Ok(Source::Local(local))
    }
}

impl Source {
    /// Writes it to a new file.
    ///
    /// # Errors
    /// The local files are not as they were when they were planned, or cannot be read.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let file = File::create_new(path).map_err(Failure::step_io("create", path))?;
        self.write_to(&file, path)
    }

    /// Writes it to an empty file, which is at `path`.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    pub(super) fn write_to(&self, file: &File, path: &Path) -> Result<(), Failure> {
        match self {
            Self::Local(tree) => pack(tree, file),
            Self::Stored(store, object) => store
                .write_to(&object.id, file, path)
                .map_err(Failure::of_step),
        }
    }
}

fn pack(LocalTree { files, listing }: &LocalTree, file: &File) -> Result<(), Failure> {
    match local::pack(files, listing, file).map_err(Failure::step_io("read", &files.path))? {
        true => Ok(()),
        false => {
            let path = files.path.display();
            let message = format!("{path} changed while it was read");
            Err(Failure::failed(message).with_help("build again"))
        }
    }
}
