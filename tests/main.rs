//! Tests of the whole program: one binary, one module for each area.

mod architecture;
mod cli;
