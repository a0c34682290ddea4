//! The trees and files that a step reads beside its own tree: from their roles to places in a list.

use std::collections::BTreeMap;

use super::sources::Sources;
use crate::derivation::BuildRequest;
use crate::failure::Failure;
use crate::instruction::Origin;
use crate::sandbox::{Beside, Scratch};

pub(super) struct Trees<'a> {
    request: &'a BuildRequest<'a>,
    sources: &'a Sources,
    scratch: &'a Scratch,
    pub(super) list: Vec<Beside>,
    known: BTreeMap<Origin, usize>,
}

impl<'a> Trees<'a> {
    /// Files become tars in `scratch`, the directory of the job.
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
                let name = format!("beside-{}.tar", self.list.len());
                let source = self.sources.of(self.request, role)?;
                source.write(&self.scratch.path().join(&name))?;
                Beside::Files(name.into())
            }
        });
        Ok(self.list.len() - 1)
    }
}
