//! The trees and files that a step reads beside its own tree: from their roles to places in a list.

use std::collections::BTreeMap;

use crate::derivation::BuildRequest;
use crate::failure::Failure;
use crate::instruction::Origin;
use crate::sandbox::Beside;

pub(super) struct Trees<'a> {
    request: &'a BuildRequest<'a>,
    pub(super) list: Vec<Beside>,
    known: BTreeMap<Origin, usize>,
}

impl<'a> Trees<'a> {
    pub(super) fn new(request: &'a BuildRequest<'a>) -> Self {
        Self {
            request,
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
                let object = self.request.inputs_of(role).next();
                Beside::Files(object.ok_or_else(|| super::wrong_kind(self.request))?)
            }
        });
        Ok(self.list.len() - 1)
    }
}
