//! A guest's memory and devices as one stream, which QEMU calls migration (qapi/migration.json).

use serde::{Deserialize, Serialize};

use super::qmp::{Qmp, QmpError};

/// The socket that the stream goes through, relative to QEMU's working directory.
pub const MEMORY_SOCKET: &str = "memory.sock";
/// Bytes in a second; QEMU's default is meant for networks.
const FASTEST: i64 = i64::MAX / 16;

/// The address of [`MEMORY_SOCKET`].
fn address() -> String {
    format!("unix:{MEMORY_SOCKET}")
}

/// Arguments of a QEMU that waits for the stream at [`MEMORY_SOCKET`].
#[must_use]
pub fn incoming() -> [String; 2] {
    ["-incoming".to_owned(), address()]
}

/// How far the stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    Going,
    /// QEMU has handed everything over.
    Done,
    /// It did not come through, and why. The guest is as it was.
    Failed(String),
}

/// The crate's types of these commands know parameters that QEMU 7.2 does not.
#[derive(Debug, Serialize)]
struct Migrate {
    uri: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SetParameters {
    max_bandwidth: i64,
}

#[derive(Debug, Serialize)]
struct Query {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Migration {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error_desc: String,
}

macro_rules! command {
    ($type:ty, $name:literal, $answer:ty) => {
        impl qapi::Command for $type {
            type Ok = $answer;
            const NAME: &'static str = $name;
            const ALLOW_OOB: bool = false;
        }
    };
}

command!(Migrate, "migrate", qapi::Empty);
command!(SetParameters, "migrate-set-parameters", qapi::Empty);
command!(Query, "query-migrate", Migration);

impl Qmp {
    /// Has QEMU connect to [`MEMORY_SOCKET`] and send everything.
    ///
    /// # Errors
    /// See [`QmpError`]; one is that a device of the machine cannot be sent.
    pub fn send_memory(&mut self) -> Result<(), QmpError> {
        self.execute(&SetParameters {
            max_bandwidth: FASTEST,
        })?;
        self.execute(&Migrate { uri: address() }).map(drop)
    }

    /// How far that is.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn memory_sent(&mut self) -> Result<Sending, QmpError> {
        let migration = self.execute(&Query {})?;
        Ok(match migration.status.as_str() {
            "completed" => Sending::Done,
            "failed" | "cancelled" => Sending::Failed(migration.error_desc),
            _ => Sending::Going,
        })
    }
}
