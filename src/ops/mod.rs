//! Operations: one file for each use case, with typed options and results. They know neither clap
//! nor the terminal: progress goes to the sink of their [`Context`].

pub mod attestations;
pub mod audit;
pub mod available;
pub mod build;
mod build_record;
pub mod builds;
pub mod cache;
pub mod compose;
pub mod contents;
pub mod doctor;
pub mod export;
pub mod fmt;
pub mod forecast;
pub mod hypervisor;
mod image_record;
pub mod images;
pub mod keys;
pub mod lazy;
pub mod lint;
pub mod lock;
pub mod machine;
mod own_init;
pub mod page_file;
pub mod pb;
pub mod picture;
pub mod project;
pub mod provenance;
mod reason;
pub mod rebuild;
pub mod registries;
pub mod report;
pub mod share;
pub mod signatures;
pub mod snapshot;
pub mod store;
pub mod template;
pub mod volume;

pub use crate::world::{Agree, CheckedOut, Context, RecipeChoice, checked_out, usual_recipe};
