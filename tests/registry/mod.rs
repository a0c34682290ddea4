//! Registries, layouts and archives: what is brought there is had again, here and by other programs.

mod archive;
mod bases;
mod layout;
mod local;
