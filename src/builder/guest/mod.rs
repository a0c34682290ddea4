//! Steps on a disk: commands in a machine that is booted from it, and what they changed as a disk
//! of its own.
//!
//! ```text
//! disk ──► boot ──► run, extract, write ──► commit ──► run … ──► commit ──► … ──► clean, power off
//!                                             │                    │                   │
//!                                             ▼                    ▼                   ▼
//!                                           disk 1               disk 2              last disk
//! ```
//!
//! A commit does not stop the machine: its file systems are frozen for the moment in which QEMU
//! gets a new overlay to write to. What the overlay before holds is spliced into the disk that was
//! there before, so the whole of the new disk is an object, and costs what changed. A machine that
//! did one step is kept for the step after, which then needs no boot.
//!
//! A machine of a build lives in a scratch directory, is in no list, and ends with the process that
//! started it, however that ends.
//!
//! What a guest needs: Linux, an SSH server that lets the account of its
//! [`Access`](crate::image::Access) in with the machine's key, root's rights by `sudo` or `doas`
//! without a password unless that is root, a POSIX shell, and `tar` to extract. Host keys of SSH go
//! at the end: making new ones at the boot of a machine is the image's part. Images of vmfab have a
//! unit for that, images with cloud-init do it, and so does OpenSSH's service on Alpine.

mod build_machine;
mod build_machines;
mod clean;
mod command;
mod error;
mod files;
mod shell;
mod spec;
mod steps;

pub use build_machine::{BuildMachine, Report};
pub(super) use build_machine::{end, open_log};
pub use build_machines::BuildMachines;
pub use command::Command;
pub(super) use error::failed;
pub use shell::{CLEAN, as_root};
pub use spec::BuildMachineSpec;
pub(super) use steps::{Steps, step_machine};
