//! Local files.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Lowering, input};
use crate::derivation::step::{self, Step};
use crate::derivation::{Input, NodeId};
use crate::plan::{LocalFiles, LocalTree, PlanError, WorldError};
use crate::recipe::{Image, Problem, Spanned};

impl Lowering<'_> {
    /// A local file or directory as an input.
    pub(super) fn source(
        &mut self,
        image: &Image,
        source: &Spanned<PathBuf>,
        exclude: &[String],
    ) -> Result<Input, PlanError> {
        let files = LocalFiles {
            path: source.value.clone(),
            exclude: exclude.to_owned(),
            selection: None,
        };
        let node = self.local(&image.name.value, files).map_err(|error| {
            let message = format!("cannot read {}: {error}", source.value.display());
            Problem::new(&source.span, message, "not readable")
                .with_help("check that you can read it and everything in it")
        })?;
        Ok(input("source", node, step::LISTING))
    }

    /// Local files; the same content is one step.
    pub(super) fn local(&mut self, own: &str, files: LocalFiles) -> Result<NodeId, WorldError> {
        let listing = self.world.local(&files)?;
        let tree = listing.digest();
        let node = match self.local_nodes.get(&tree) {
            Some(node) => *node,
            None => {
                let name = format!("{own}: local {}", files.path.display());
                let step = Step::Local(step::Local { tree });
                self.graph.add_step(name, &step, Vec::new())?
            }
        };
        self.local_nodes.insert(tree, node);
        self.locals
            .insert(tree, Arc::new(LocalTree { files, listing }));
        Ok(node)
    }
}
