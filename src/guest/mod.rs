//! The guest's side of a machine: how it is told whom to let in, and how it is entered.
//!
//! A machine has a key pair of its own. The public half goes in by the seed that the image asks
//! for, the private half stays in the machine's directory. Sessions are those of the `ssh` program.
//!
//! | seed | file |
//! |---|---|
//! | systemd's credentials | `credentials.rs` |
//! | NoCloud, a small disk | `nocloud.rs`, with the user data of `cloud.rs` |
//! | Amazon's metadata service | `ec2.rs`, with the same |

mod cloud;
mod credentials;
pub mod ec2;
mod key;
mod mounts;
mod multipart;
mod network;
pub mod nocloud;
mod password;
mod ssh;

pub use cloud::Identity;
pub use credentials::{Account, oem_strings, password_string};
pub use key::KeyPair;
pub use mounts::GuestMount;
pub use network::GuestNetwork;
pub use nocloud::{check_meta_data, check_user_data};
pub use password::hash_password;
pub use ssh::{CONTROL_SOCKET, KNOWN_HOSTS, PRIVATE_KEY, Ssh, host_key_changed};
