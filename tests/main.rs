//! Tests of the whole program: one binary, one module for each area.

// Helpers of tests are tests too; the lint sees only functions marked so.
#![allow(clippy::unwrap_used)]

mod architecture;
mod bootc;
mod cli;
mod compose;
mod containers;
mod differential;
mod disk;
mod dist;
mod dockerfiles;
mod docs;
mod end_to_end;
mod export;
mod guest;
mod instructions;
mod machines;
mod pb;
mod recipes;
mod registry;
mod report;
mod roles;
mod sources;
mod store;
mod store_format;
mod support;
mod transforms;
mod upstream;
