//! Instructions that read other images, once those are found: copies, and mix-ins, whose own
//! instructions are inserted.

use std::rc::Rc;

use super::super::document::Place;
use super::super::error::Problem;
use super::super::image::{Draft, DraftInstruction, DraftUse};
use super::super::model::{CopyFrom, Instruction};
use super::super::reference::Reference;
use super::target::Target;
use super::{Around, Loader, Read};
use crate::limits::Limits;
use crate::template::TemplateRef;

impl Loader<'_> {
    /// The instructions of the image at `index`; `None` when one of them reads an image that is not
    /// found, which is reported. Mix-ins bring ports, folders, checks and tests to the draft.
    pub(super) fn instructions(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        draft: &mut Draft,
        around: &mut Around,
    ) -> Option<Vec<Instruction>> {
        let mut instructions = Vec::new();
        for one in std::mem::take(&mut draft.instructions) {
            match one {
                DraftInstruction::Whole(instruction) => instructions.push(instruction),
                DraftInstruction::CopyFrom(copy) => {
                    let directory = document.images[index].scope.directory.clone();
                    let from = &copy.reference;
                    let base = self.base(document, index, from, directory, &[], around)?;
                    instructions.push(Instruction::CopyFrom(Box::new(CopyFrom {
                        from: copy.reference.map(|_| base),
                        path: copy.path,
                        destination: copy.destination,
                        owner: copy.owner,
                    })));
                }
                DraftInstruction::Use(mixin) => {
                    let (inserted, other) = self.mixin(document, index, &mixin, around)?;
                    instructions.extend(inserted);
                    merge(draft, other);
                }
            }
        }
        Some(instructions)
    }

    /// The instructions of a mix-in, and what else its image says.
    fn mixin(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        mixin: &DraftUse,
        around: &mut Around,
    ) -> Option<(Vec<Instruction>, Draft)> {
        let (reference, set) = (&mixin.reference, mixin.settings.as_slice());
        let directory = document.images[index].scope.directory.clone();
        let (other, image) = match self.target(document, index, reference, directory, set)? {
            Target::Sibling(other) => {
                self.refuse_settings(set, "an image of the same recipe");
                (Rc::clone(document), other)
            }
            Target::Elsewhere(place, image) => {
                let namespace =
                    format!("{}{}.", document.namespace, name(&reference.value, &place));
                let other = self.document(&place, Some(reference), set, &namespace)?;
                let image = self.image_of(&other, image.as_deref(), reference)?;
                (other, image)
            }
            _ => {
                let message = format!("\"{}\" has no steps to insert", reference.value);
                let problem = Problem::new(&reference.span, message, "no template and no recipe");
                self.report(problem.with_help(
                    "write the name of a template with its version, such as \"web@^1.2\", or the \
                     path of a recipe; an image to start from belongs after \"from\"",
                ));
                return None;
            }
        };
        self.check_loop(&other, image, reference, around)?;
        let node = other.images[image].name.clone();
        if around.len() >= Limits::BASES {
            self.too_deep(&node);
            return None;
        }
        let mut draft = self.draft(&other, image);
        around.push((other.place.clone(), node.value));
        let instructions = self.instructions(&other, image, &mut draft, around);
        around.pop();
        Some((instructions?, draft))
    }
}

/// What the parameters of a mix-in are found by on the command line.
fn name(reference: &str, place: &Place) -> String {
    match Reference::parse(reference) {
        Reference::Template { wanted, .. } => match wanted.parse::<TemplateRef>() {
            Ok(wanted) => wanted.name.to_string(),
            Err(_) => wanted,
        },
        _ => place.stem(),
    }
}

/// Adds what a mix-in says beside its steps. Where both say something, that of the image holds.
fn merge(draft: &mut Draft, other: Draft) {
    for port in other.ports {
        let guest = port.value.guest;
        if draft.ports.iter().all(|known| known.value.guest != guest) {
            let name = other.port_names.get(&guest);
            draft
                .port_names
                .extend(name.map(|name| (guest, name.clone())));
            draft.ports.push(port);
        }
    }
    for share in other.shares {
        if draft.shares.iter().all(|known| known.at != share.at) {
            draft.shares.push(share);
        }
    }
    draft.checks.extend(other.checks);
    draft.tests.extend(other.tests);
}
