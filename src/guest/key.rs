//! A machine's key pair: Ed25519, in OpenSSH's own format, made in this process because starting
//! `ssh-keygen` would cost more than all the rest of preparing a machine.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

pub struct KeyPair(PrivateKey);

/// A key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No random numbers, or no key in the file.
    #[error("SSH key {}: {source}", path.display())]
    Key {
        /// The file of the key.
        path: PathBuf,
        source: ssh_key::Error,
    },
    /// The file failed.
    #[error("SSH key {}: {source}", path.display())]
    Io {
        /// The file of the key.
        path: PathBuf,
        source: io::Error,
    },
}

impl KeyPair {
    /// Makes a pair and writes its private half to a new file that only the owner can read.
    /// `comment` tells people what the key is for.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn create(path: &Path, comment: &str) -> Result<Self, KeyError> {
        let key_failed = |source| KeyError::Key {
            path: path.to_owned(),
            source,
        };
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(key_failed)?;
        key.set_comment(comment);
        let text = key.to_openssh(LineEnding::LF).map_err(key_failed)?;
        std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| KeyError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self(key))
    }

    /// Reads the private half of a pair.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = crate::host::beneath::read_unlinked(path).map_err(|source| KeyError::Io {
            path: path.to_owned(),
            source,
        })?;
        PrivateKey::from_openssh(text)
            .map(Self)
            .map_err(|source| KeyError::Key {
                path: path.to_owned(),
                source,
            })
    }

    /// The public half as a line of an `authorized_keys` file.
    ///
    /// # Errors
    /// None that is known of: the encoder's signature has one.
    pub fn public_line(&self) -> Result<String, ssh_key::Error> {
        self.0.public_key().to_openssh()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn openssh_reads_the_same_public_half() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id_ed25519");
        let pair = KeyPair::create(&path, "vmfab machine docker").unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(KeyPair::create(&path, "again").is_err());

        let line = pair.public_line().unwrap();
        assert!(line.ends_with(" vmfab machine docker"), "{line}");
        assert_eq!(KeyPair::read(&path).unwrap().public_line().unwrap(), line);
        let output = Command::new("ssh-keygen")
            .args(["-y", "-f"])
            .arg(&path)
            .output()
            .expect("ssh-keygen runs (package openssh-client)");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), line);
    }
}
