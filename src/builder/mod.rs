//! builder

pub mod disk;
