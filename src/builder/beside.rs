//! The trees and files that a step reads beside its own tree: from their roles to places in a list.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::sources::{Source, Sources};
use crate::derivation::BuildRequest;
use crate::failure::Failure;
use crate::instruction::Origin;
use crate::sandbox::{Beside, Scratch};

pub(super) struct Trees<'a> {
    request: &'a BuildRequest<'a>,
    sources: &'a Sources,
    scratch: &'a Scratch,
    pub(super) list: Vec<Beside>,
    /// Where the files of each list are.
    pub(super) local: BTreeMap<PathBuf, PathBuf>,
    known: BTreeMap<Origin, usize>,
}

impl<'a> Trees<'a> {
    /// Stored files become tars in `scratch`, the directory of the job, and local ones a list.
    pub(super) const fn new(
        request: &'a BuildRequest<'a>,
        sources: &'a Sources,
        scratch: &'a Scratch,
    ) -> Self {
        Self {
            request,
            sources,
            scratch,
            list: Vec::new(),
            local: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    /// The place of an origin, which may be one that was asked for before.
    pub(super) fn shared(&mut self, origin: &Origin) -> Result<usize, Failure> {
        if let Some(known) = self.known.get(origin) {
            return Ok(*known);
        }
        let place = self.own(origin)?;
        self.known.insert(origin.clone(), place);
        Ok(place)
    }

    /// The place of an origin that nothing else uses.
    pub(super) fn own(&mut self, origin: &Origin) -> Result<usize, Failure> {
        self.list.push(match origin {
            Origin::Layers(role) => Beside::Layers(self.request.inputs_of(role).collect()),
            Origin::Files(role) => {
                let name = PathBuf::from(format!("files-{}", self.list.len()));
                let path = self.scratch.path().join(&name);
                match self.sources.of(self.request, role)? {
                    Source::Local(tree) => {
                        fs::write(&path, tree.listing.as_bytes())
                            .map_err(Failure::step_io("write", &path))?;
                        // The worker is in another directory.
                        let root = std::path::absolute(&tree.files.path)
                            .map_err(Failure::step_io("find", &tree.files.path))?;
                        self.local.insert(name.clone(), root);
                        Beside::Local(name)
                    }
                    stored @ Source::Stored(..) => {
                        stored.write(&path)?;
                        Beside::Archive(name)
                    }
                }
            }
        });
        Ok(self.list.len() - 1)
    }
}
