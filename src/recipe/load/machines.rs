//! The machines of a document, with what their images name.

use std::path::PathBuf;
use std::rc::Rc;

use super::super::error::Problem;
use super::super::machine::{self, Draft};
use super::super::model::{Machine, MachineImage};
use super::super::reader::Reader;
use super::super::reference::Reference;
use super::super::shape::MACHINE;
use super::{Loader, Place, Read, Target};

impl Loader<'_> {
    /// The machines of a document; those that are wrong are left out, which is reported.
    pub(super) fn machines(&mut self, document: &Rc<Read>) -> Vec<Machine> {
        let mut machines = Vec::new();
        for node in &document.machines {
            let reader = Reader::new(&node.scope, &node.node, &MACHINE);
            if let Some(mut draft) = machine::read(&reader) {
                // Without its image it still has a name for others to depend on.
                self.machine_image(document, &mut draft, node.scope.directory.clone());
                machines.push(draft.machine);
            }
        }
        machine::check(&machines, &mut |problem| self.report(problem));
        machines
    }

    /// Finds out what a machine is made of. A recipe is read as far as it takes to know that it has
    /// the image and the parameters; its other mistakes are found when it is planned.
    ///
    /// What the user set reaches the recipe, unless the machine sets it.
    fn machine_image(
        &mut self,
        document: &Rc<Read>,
        draft: &mut Draft,
        directory: Option<PathBuf>,
    ) -> Option<()> {
        let (asked, set) = (draft.image.as_ref()?, &draft.settings);
        // No image of this file stands at this index: all of them are others.
        let outside = usize::MAX;
        if let Reference::Template { .. } = Reference::parse(&asked.value) {
            self.report(
                Problem::new(
                    &asked.span,
                    "a machine cannot use a template directly",
                    "not an image of this file",
                )
                .with_help(format!(
                    "describe an image: image \"base\" {{ from \"{}\" }}, and write image=\"base\"",
                    asked.value
                )),
            );
            return None;
        }
        let (place, part) = match self.target(document, outside, asked, directory, set)? {
            Target::Tag(name) => {
                if !draft.machine.process.is_empty() {
                    self.report(
                        Problem::new(
                            &asked.span,
                            "a machine of a finished image runs what the image says",
                            "nothing is built of it",
                        )
                        .with_help(format!(
                            "describe an image: image \"own\" {{ from \"@{name}\" }}, and write \
                             image=\"own\""
                        )),
                    );
                    return None;
                }
                draft.machine.image = Some(MachineImage::Tag(name));
                return Some(());
            }
            Target::DiskFile(_) => {
                self.report(
                    Problem::new(
                        &asked.span,
                        "a machine needs an image, not only a disk",
                        "not an image",
                    )
                    .with_help(format!(
                        "describe an image: image \"disk\" {{ from \"{}\" }}, and write \
                         image=\"disk\"",
                        asked.value
                    )),
                );
                return None;
            }
            Target::Registry(_) => {
                self.report(
                    Problem::new(
                        &asked.span,
                        "a machine cannot use an image in a registry directly",
                        "not an image of this file",
                    )
                    .with_help(format!(
                        "describe an image: image \"base\" {{ from \"{}\" }}, and write image=\"base\"",
                        asked.value
                    )),
                );
                return None;
            }
            Target::Dockerfile(path, stage) => {
                self.dockerfile_at(&path, &asked.span, None)?;
                draft.machine.image = Some(MachineImage::Recipe {
                    recipe: path,
                    image: stage,
                });
                return Some(());
            }
            Target::Sibling(index) => {
                let name = document.images[index].name.value.clone();
                (document.place.clone(), Some(name))
            }
            Target::Elsewhere(place, part) => (place, part),
        };
        let own = place == document.place;
        let recipe = self.document(&place, Some(asked), set, "")?;
        self.image_of(&recipe, part.as_deref(), asked)?;
        for (name, value) in self.settings {
            let known = recipe.parameters.iter().any(|p| p.name.value == *name);
            if known || own {
                let settings = &mut draft.machine.settings;
                settings
                    .entry(name.clone())
                    .or_insert_with(|| value.clone());
            }
        }
        draft.machine.image = Some(match (place, part) {
            (Place::Path(_), Some(name)) if own => MachineImage::Own(name),
            (Place::Path(path), part) => MachineImage::Recipe {
                recipe: path,
                image: part,
            },
            (Place::BuiltIn(name), part) => MachineImage::Recipe {
                recipe: name.into(),
                image: part,
            },
        });
        Some(())
    }
}
