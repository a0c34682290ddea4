//! Which image a name means, and what is said when it means none.

use super::super::catalogue;
use super::super::error::{Problem, closest, enumerate};
use super::super::source::Spanned;
use super::{Loader, Read, default_image};

impl Loader<'_> {
    /// Another image of the same recipe. An image is never its own base, so that `debian-12` can
    /// start from the built-in `debian-12`.
    pub(super) fn sibling(&self, document: &Read, index: usize, name: &str) -> Option<usize> {
        document
            .images
            .iter()
            .position(|image| image.name.value == name)
            .filter(|other| *other != index)
    }

    pub(super) fn image_of(
        &self,
        document: &Read,
        image: Option<&str>,
        reference: &Spanned<String>,
    ) -> Option<usize> {
        let names = document
            .images
            .iter()
            .map(|image| image.name.value.as_str());
        let list: Vec<&str> = names.clone().collect();
        let shown = document.place.shown();
        let problem = match image {
            Some(image) => {
                if let Some(index) = names.clone().position(|name| name == image) {
                    return Some(index);
                }
                Problem::new(
                    &reference.span,
                    format!("{shown} has no image \"{image}\""),
                    "unknown image",
                )
                .with_help(match closest(image, list.iter().copied()) {
                    Some(name) => format!("did you mean \"{name}\"?"),
                    None => format!("its images are {}", enumerate(&list)),
                })
            }
            None => {
                if let Some(index) = default_image(&document.recipe.name, names) {
                    return Some(index);
                }
                Problem::new(
                    &reference.span,
                    format!("{shown} has {} images", list.len()),
                    "which one?",
                )
                .with_help(match list.first() {
                    Some(first) => format!(
                        "name one of {}: \"{}#{first}\"",
                        enumerate(&list),
                        reference.value
                    ),
                    None => "take a recipe that describes an image".to_owned(),
                })
            }
        };
        self.report(problem);
        None
    }

    pub(super) fn unknown(
        &self,
        document: &Read,
        index: usize,
        reference: &Spanned<String>,
        name: &str,
    ) {
        let own = document
            .images
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .map(|(_, image)| image.name.value.as_str());
        let listed = self.files.catalogue();
        let built_in = catalogue::catalogue()
            .iter()
            .map(|recipe| recipe.name)
            .chain(listed.iter().map(|(name, _)| name.as_str()));
        let help = match closest(name, own.chain(built_in.clone())) {
            Some(other) => format!("did you mean \"{other}\"?"),
            None => format!(
                "write the name of another image of this file, of a file {name}.kdl beside it, or \
                 of a built-in recipe ({})",
                enumerate(&built_in.collect::<Vec<_>>())
            ),
        };
        self.report(
            Problem::new(
                &reference.span,
                format!("no image or recipe \"{name}\" found"),
                "not found",
            )
            .with_help(help),
        );
    }
}
