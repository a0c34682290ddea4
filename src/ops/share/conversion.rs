//! Pulling what others publish as images of virtual machines, and making machines of container
//! images: as a recipe that starts from it and does nothing more.

use std::path::Path;

use super::super::build::{self, BuildOptions, Built};
use super::super::images::{self, FoundImage};
use super::super::{Context, RecipeChoice};
use super::pull::{PulledImage, note_moved};
use crate::digest::Sha256;
use crate::failure::Failure;
use crate::registry::{Location, Reference};
use crate::store::TagName;

/// The longest name of an image.
const MAX_NAME: usize = 128;

/// What others have published.
pub(super) struct Foreign<'a> {
    pub location: &'a Location,
    pub digest: Sha256,
    /// Whether it is a container image, whose process is to be a service.
    pub service: bool,
}

/// Makes an image of what others have published, under `tags` or its `own` name. Its blobs have
/// `size` bytes.
///
/// # Errors
/// It cannot be one, or cannot be had.
pub(super) fn pull(
    context: &Context,
    from: &Foreign<'_>,
    own: &str,
    size: u64,
    tags: &[TagName],
) -> Result<PulledImage, Failure> {
    let Foreign {
        location,
        digest,
        service,
    } = *from;
    let from = match location {
        // The tag stays: a bootable container looks for updates there.
        Location::Registry(reference) => {
            let pinned = Reference {
                digest: Some(digest),
                ..reference.clone()
            };
            format!("oci://{pinned}")
        }
        local => absolute(local),
    };
    if from.chars().any(char::is_control) || from.parse::<Location>().is_err() {
        return Err(Failure::usage(format!(
            "the path of {location} cannot be written into a recipe"
        ))
        .with_help("rename it, or move it elsewhere"));
    }
    let named = match tags {
        [] => vec![own.parse()?],
        tags => tags.to_vec(),
    };
    let store = context.store()?;
    let before = named.iter().map(|tag| store.tag(tag));
    let before = before.collect::<Result<Vec<_>, _>>()?;
    let properties = if service { " service=#true" } else { "" };
    let built = build_from(context, own, &from, properties, named.clone())?;
    let found = images::find(context, &built.image.to_string())?;
    for (tag, before) in named.iter().zip(before) {
        note_moved(context, tag, before, &found.image);
    }
    Ok(PulledImage {
        image: found.image,
        name: own.to_owned(),
        reference: location.to_string(),
        digest: digest.into(),
        tags: built
            .tags
            .iter()
            .map(|tag| tag.as_str().to_owned())
            .collect(),
        fetched: match built.steps.built {
            0 => 0,
            _ => size,
        },
    })
}

/// Makes an image of the file of a disk, without a tag: for a machine.
///
/// # Errors
/// It is no disk, or cannot be read.
pub fn disk_file(context: &Context, path: &Path) -> Result<FoundImage, Failure> {
    let whole = std::path::absolute(path).map_err(Failure::io("find", path))?;
    let from = whole
        .to_str()
        .filter(|text| !text.chars().any(char::is_control));
    let from = from.ok_or_else(|| {
        Failure::usage(format!(
            "the path {} cannot be written into a recipe",
            path.display()
        ))
        .with_help("rename it, or move it elsewhere")
    })?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let built = build_from(context, &name(&stem), from, "", Vec::new())?;
    images::find(context, &built.image.to_string())
}

/// Builds an image that starts from something, with these properties of the node, and does nothing
/// more.
fn build_from(
    context: &Context,
    own: &str,
    from: &str,
    properties: &str,
    tags: Vec<TagName>,
) -> Result<Built, Failure> {
    let base = format!("from {}{properties}", quoted(from));
    build_nodes(context, own, &base, tags)
}

/// Builds the image of these nodes.
pub(in crate::ops) fn build_nodes(
    context: &Context,
    own: &str,
    nodes: &str,
    tags: Vec<TagName>,
) -> Result<Built, Failure> {
    let directory = tempfile::tempdir().map_err(Failure::io("create", &std::env::temp_dir()))?;
    let path = directory.path().join(format!("{own}.kdl"));
    let text = format!("image \"{own}\" {{\n    {nodes}\n}}\n");
    std::fs::write(&path, text).map_err(Failure::io("write", &path))?;
    let options = BuildOptions {
        choice: RecipeChoice {
            recipe: path.display().to_string(),
            ..RecipeChoice::default()
        },
        untagged: tags.is_empty(),
        tags,
        ..BuildOptions::default()
    };
    build::build(context, &options)
}

/// A text as a string of a recipe that stands for it, whatever is in it.
pub(in crate::ops) fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Otherwise it could be a parameter.
            '$' => quoted.push_str("$$"),
            ' '..='~' => quoted.push(c),
            _ => quoted.extend(c.escape_unicode()),
        }
    }
    format!("\"{quoted}\"")
}

/// A name for an image, made from one that may be anything.
pub(in crate::ops) fn name(text: &str) -> String {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let name: String = text.to_lowercase().chars().filter(|c| fine(*c)).collect();
    let name = name.trim_start_matches(['.', '-', '_']);
    match &name[..name.len().min(MAX_NAME)] {
        "" => "image".to_owned(),
        name => name.to_owned(),
    }
}

/// A local location as it is named from anywhere.
pub(in crate::ops) fn absolute(location: &Location) -> String {
    let whole = |path: &std::path::Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
    match location {
        Location::Layout { path, tag } => Location::Layout {
            path: whole(path),
            tag: tag.clone(),
        },
        Location::Archive { path, tag } => Location::Archive {
            path: whole(path),
            tag: tag.clone(),
        },
        Location::DockerArchive { path, name } => Location::DockerArchive {
            path: whole(path),
            name: name.clone(),
        },
        other => other.clone(),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_others_become_names_of_images() {
        for (text, is) in [
            ("web", "web"),
            ("Web Server", "webserver"),
            ("fedora-40.1_x", "fedora-40.1_x"),
            ("a\"b\\c\nd{e}$f", "abcdef"),
            ("--web", "web"),
            ("_._web", "web"),
            ("..", "image"),
            ("\u{fc}bung", "bung"),
            ("", "image"),
            ("@#!", "image"),
        ] {
            assert_eq!(name(text), is, "{text:?}");
        }
        assert!(name(&"x".repeat(300)).parse::<TagName>().is_ok());
    }

    proptest! {
        #[test]
        fn whatever_others_call_it_is_a_name(text in any::<String>()) {
            let name = name(&text);
            prop_assert!(name.parse::<TagName>().is_ok(), "{}", name);
            prop_assert!(name.starts_with(|first: char| first.is_ascii_alphanumeric()), "{}", name);
        }
    }
}
