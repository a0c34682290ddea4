//! What leads to objects by another name than their digest: action results, tags, roots, and files
//! of the user.

pub(super) mod action;
pub(super) mod file;
pub(super) mod root;
pub(super) mod tag;
