//! The end of lowering: from the value of an image to its plan.

use std::collections::BTreeMap;

use super::{Lowered, Lowering, Trunk};
use crate::checked::{Line, Text};
use crate::derivation::step::{self, Step};
use crate::image::{ImageTemplate, KernelFiles, RecipeRef};
use crate::plan::{Plan, PlanError, fit};
use crate::recipe::{Image, Kernel};

impl Lowering<'_> {
    /// The plan of an image that was lowered.
    pub(super) fn finish(mut self, image: &Image, mut lowered: Lowered) -> Result<Plan, PlanError> {
        if lowered.bare.is_none() {
            lowered.is_container();
        }
        let images = match &mut lowered.trunk {
            Trunk::Tree(_) => Vec::new(),
            Trunk::Disk(disk, images) => {
                self.prepare(disk, &lowered.settings)?;
                std::mem::take(images)
            }
        };
        for image in images {
            for instruction in &image.instructions {
                self.instruction(&mut lowered, &image, instruction)?;
            }
        }
        // In all of them the environment of the finished image holds.
        let checks = lowered.checks.iter();
        let checks = checks
            .map(|(name, check)| (name.clone(), lowered.script(check)))
            .collect();
        let settings = &lowered.settings;
        let made = match lowered.trunk {
            Trunk::Tree(tree) => self.finish_tree(image, tree, settings, checks)?,
            Trunk::Disk(disk, _) => self.finish_disk(image, *disk, checks)?,
        };
        let own = &image.name.value;
        let mut metadata = lowered.labels;
        metadata.extend(image.recipe.metadata.clone());
        let env = lowered.env.iter();
        let env = env.map(|(name, value)| Ok((fit(name)?, fit(value)?)));
        let template = ImageTemplate {
            name: fit(own)?,
            recipe: RecipeRef {
                name: Line::like(&image.recipe.name),
                version: image
                    .recipe
                    .version
                    .as_ref()
                    .map(|version| Line::like(&version.to_string())),
                about: image.recipe.about.clone(),
            },
            description: image.recipe.description.as_deref().map(Text::like),
            metadata: metadata
                .iter()
                .map(|(name, value)| (Line::like(name), Text::like(value)))
                .collect(),
            requires: settings.requires,
            architecture: fit(self.architecture)?,
            boot: settings.boot_profile(self.architecture)?,
            filesystem: made.filesystem,
            ssh_user: settings.ssh_user()?,
            users: settings.homes()?,
            ports: settings.ports.clone(),
            port_names: settings.port_names.clone(),
            health: settings.health,
            volumes: settings.volumes.clone(),
            shares: settings.shares.clone(),
            env: env.collect::<Result<_, PlanError>>()?,
            hostname: settings.hostname.as_deref().map(fit).transpose()?,
            kernel_files: match &settings.kernel {
                Some(Kernel::Tree { path, initrd }) => Some(KernelFiles {
                    path: fit(path)?,
                    initrd: initrd.as_deref().map(fit).transpose()?,
                }),
                Some(Kernel::Fetched(_)) | None => None,
            },
            container: lowered.bare,
        };
        let step = Step::Image(Box::new(step::Image {
            template: template.clone(),
        }));
        let node = self
            .graph
            .add_step(format!("{own}: image"), &step, made.inputs)?;
        Ok(Plan {
            graph: self.graph,
            image: node,
            image_name: own.clone(),
            template,
            locals: self.locals,
            places: self.places,
            blobs: self.blobs,
            artifacts: self.artifacts,
            logins: self.logins,
            locked: BTreeMap::new(),
            recipes: Vec::new(),
            programs: self.programs,
        })
    }
}
