//! The guest's side of a machine: how it is told whom to let in, and how it is entered.
//!
//! A machine has a key pair of its own. The public half goes in with systemd's credentials, the
//! private half stays in the machine's directory. Sessions are those of the `ssh` program.

mod credentials;
mod key;
mod ssh;

pub use credentials::{Account, oem_strings};
pub use key::{KeyError, KeyPair};
pub use ssh::{CONTROL_SOCKET, KNOWN_HOSTS, PRIVATE_KEY, Ssh};
