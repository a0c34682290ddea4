//! Base snapshots: images under tags.

use super::super::Context;
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::store::TagName;

/// Makes a tag name an image.
///
/// # Errors
/// It names another one and is not to be replaced, or the store fails.
pub fn save_base(
    context: &Context,
    image: &ObjectId,
    tag: &TagName,
    force: bool,
) -> Result<(), Failure> {
    let store = context.store()?;
    match store.tag(tag)? {
        Some(other) if other != *image && !force => Err(taken(tag)),
        _ => Ok(store.put_tag(tag, image)?),
    }
}

/// Makes sure, before long work, that a tag may come to name an image.
///
/// # Errors
/// A project snapshot has the name.
pub fn check_base(context: &Context, tag: &TagName, force: bool) -> Result<(), Failure> {
    let names = super::names(context)?;
    match names.iter().any(|name| name == tag.as_str()) && !force {
        true => Err(Failure::failed(format!(
            "a snapshot of a machine is called {}",
            tag.as_str()
        ))
        .with_help("choose another tag, or insist with --force: @NAME and NAME differ")),
        false => Ok(()),
    }
}

/// Whether a tag of that name exists.
///
/// # Errors
/// The store fails.
pub fn is_image(context: &Context, name: &str) -> Result<bool, Failure> {
    match name.parse::<TagName>() {
        Ok(tag) => Ok(context.store()?.tag(&tag)?.is_some()),
        Err(_) => Ok(false),
    }
}

fn taken(tag: &TagName) -> Failure {
    Failure::failed(format!("{tag} already names another image"))
        .with_help("choose another tag, or replace it with --force")
}
