//! Steps that install packages, and a lock on them.

use std::path::Path;

use super::Plan;
use crate::derivation::{Derivation, NodeId, Step, static_keys};
use crate::digest::Digest;
use crate::lock::PackageSet;

/// A step that installs packages whose list can be locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageStep {
    /// Its place in the graph.
    pub node: NodeId,
    /// Its static key.
    pub key: Digest,
    pub label: String,
}

impl Plan {
    /// The steps that install packages, those in machines excepted: what these install is not
    /// known. `name` says what a local file is called, wherever the recipe lies.
    #[must_use]
    pub fn package_steps(&self, name: &dyn Fn(&Path) -> String) -> Vec<PackageStep> {
        let keys = static_keys(&self.graph, |derivation| self.leaf(derivation, name));
        let nodes = self.graph.nodes().iter().enumerate();
        nodes
            .filter(|(_, derivation)| {
                matches!(
                    derivation.builder.as_str(),
                    "bootstrap" | "packages" | "bootable"
                )
            })
            .map(|(index, derivation)| PackageStep {
                node: NodeId(index as u32),
                key: keys[index],
                label: derivation.name.clone(),
            })
            .collect()
    }

    /// The name of a step whose parameters are the content that it gives.
    fn leaf(&self, derivation: &Derivation, name: &dyn Fn(&Path) -> String) -> Option<String> {
        let step = Step::from_parts(&derivation.builder, &derivation.params).ok()?;
        match step {
            Step::Local(local) => {
                let local = self.locals.get(&local.tree)?;
                Some(name(&local.files.path))
            }
            Step::Fetch(fetch) => match self.places.get(&fetch.checksum) {
                Some(place) => place.urls.first().cloned(),
                None => self
                    .blobs
                    .get(&fetch.checksum)
                    .map(|blob| blob.name.clone()),
            },
            Step::OciLayer(layer) => self.blobs.get(&layer.diff_id).map(|blob| blob.name.clone()),
            Step::Object(_) => Some(derivation.name.clone()),
            _ => None,
        }
    }

    /// Locks a step that installs packages: it installs these, and has another action key.
    pub fn lock(&mut self, node: NodeId, packages: &PackageSet) {
        let derivation = self.graph.get(node);
        let digest = packages.digest();
        let Ok(mut step) = Step::from_parts(&derivation.builder, &derivation.params) else {
            return;
        };
        match &mut step {
            Step::Bootstrap(params) => params.locked = Some(digest),
            Step::Packages(params) => params.locked = Some(digest),
            Step::Bootable(params) => params.locked = Some(digest),
            _ => return,
        }
        let (_, _, params) = step.to_parts();
        self.graph.set_params(node, params);
        self.locked.insert(digest, packages.clone());
    }
}
