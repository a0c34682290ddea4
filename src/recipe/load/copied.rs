//! Instructions that read other images, once those are found.

use std::rc::Rc;

use super::super::image::DraftInstruction;
use super::super::model::{CopyFrom, Instruction};
use super::{Around, Loader, Read};

impl Loader<'_> {
    /// The instructions of the image at `index`; `None` when one of them reads an image that is not
    /// found, which is reported.
    pub(super) fn instructions(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        drafts: Vec<DraftInstruction>,
        around: &mut Around,
    ) -> Option<Vec<Instruction>> {
        let mut instructions = Vec::new();
        for draft in drafts {
            instructions.push(match draft {
                DraftInstruction::Whole(instruction) => instruction,
                DraftInstruction::CopyFrom(draft) => {
                    let directory = document.images[index].scope.directory.clone();
                    let from = &draft.reference;
                    let base = self.base(document, index, from, directory, &[], around)?;
                    Instruction::CopyFrom(Box::new(CopyFrom {
                        from: draft.reference.map(|_| base),
                        path: draft.path,
                        destination: draft.destination,
                        owner: draft.owner,
                    }))
                }
            });
        }
        Some(instructions)
    }
}
