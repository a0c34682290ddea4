//! This host: its directories, the programs that vmfab calls, its child processes and the user's
//! Ctrl-C.

pub mod files;
mod home;
mod interrupt;
pub mod process;
mod programs;
mod spawner;

pub use home::{Home, HomeError};
pub use interrupt::Interrupt;
pub use programs::{MissingProgram, Program, find_program, require};
pub use spawner::spawn_lasting;
