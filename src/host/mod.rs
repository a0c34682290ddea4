//! This host: its directories, the programs that vmfab calls, its child processes and the user's
//! Ctrl-C.

pub mod beneath;
mod capacity;
pub mod file;
pub mod git;
mod home;
mod inheritance;
mod interrupt;
pub mod process;
mod programs;
mod secrets;
mod space;
mod spawner;
pub mod umask;
mod usage;

pub use capacity::{available_memory, load, usable_cpus, usable_memory};
pub use home::Home;
pub use inheritance::{
    bare_command, keep_files_from_children, leave_abstract_sockets, leave_session_keyring,
};
pub use interrupt::Interrupt;
pub use programs::{
    MissingProgram, Program, apt_get, find_program, missing_programs, require, this_program,
};
pub use secrets::{Login, Redactor, Secret, SecretSource, Secrets};
pub use space::{free_space, is_full, total_memory};
pub use spawner::spawn_lasting;
pub use usage::Usage;
