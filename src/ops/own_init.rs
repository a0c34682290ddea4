//! Whether the init of vmfab's own runs the guests of an image. Their consoles say so, too, but a
//! guest may write anything there: where an identity must go, the image decides.

use crate::disk::open_root;
use crate::failure::Failure;
use crate::image::{ImageConfig, ImageTemplate, MadeFrom, OWN_INIT};
use crate::store::Store;

const LINK: &str = "/sbin/init";
/// The annotation of an image of a machine that such an init runs: the guest had its disk, so that
/// nothing on it proves anything.
const KEY: &str = "vmfab.init";
const VALUE: &str = "own";

/// Whether guests of the image have no SSH server, and no identity.
///
/// # Errors
/// The store does not have the image's disk.
pub(super) fn runs_own_init(store: &Store, image: &ImageConfig) -> Result<bool, Failure> {
    let template = &image.template;
    if image.made_from() == MadeFrom::Disk {
        let mut notes = template.metadata.iter();
        return Ok(notes.any(|(key, value)| **key == *KEY && **value == *VALUE));
    }
    // Who brings no kernel gets an init system with it.
    if template.kernel_files.is_none() {
        return Ok(false);
    }
    let root = open_root(store.open_object(&image.disk.id)?).ok().flatten();
    let link = root.and_then(|root| root.read_link(LINK).ok());
    Ok(link.is_some_and(|to| to.as_ref() == OWN_INIT.as_bytes()))
}

/// Notes it in the config of an image that is made of a machine.
pub(super) fn note_own_init(template: &mut ImageTemplate) {
    if let (Ok(key), Ok(value)) = (KEY.parse(), VALUE.parse()) {
        template.metadata.insert(key, value);
    }
}
