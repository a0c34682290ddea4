//! A machine's key pair: Ed25519, in OpenSSH's own format, made in this process because starting
//! `ssh-keygen` would cost more than all the rest of preparing a machine.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use crate::failure::Failure;
use crate::host::beneath::read_unlinked;

pub struct KeyPair(PrivateKey);

impl KeyPair {
    /// Makes a pair and writes its private half to a new file that only the owner can read.
    /// `comment` tells people what the key is for.
    ///
    /// # Errors
    /// The file cannot be written, or there are no random numbers.
    pub fn create(path: &Path, comment: &str) -> Result<Self, Failure> {
        let random = PrivateKey::random(&mut OsRng, Algorithm::Ed25519);
        let mut key = random.map_err(unusable(path))?;
        key.set_comment(comment);
        let text = key.to_openssh(LineEnding::LF).map_err(unusable(path))?;
        std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(Failure::io("SSH key", path))?;
        Ok(Self(key))
    }

    /// Reads the private half of a pair.
    ///
    /// # Errors
    /// The file cannot be read, or holds no key.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = read_unlinked(path).map_err(Failure::io("SSH key", path))?;
        let key = PrivateKey::from_openssh(text);
        key.map(Self).map_err(unusable(path))
    }

    /// The public half as a line of an `authorized_keys` file.
    ///
    /// # Errors
    /// None that is known of: the encoder's signature has one.
    pub fn public_line(&self) -> Result<String, ssh_key::Error> {
        self.0.public_key().to_openssh()
    }
}

fn unusable(path: &Path) -> impl FnOnce(ssh_key::Error) -> Failure {
    move |error| Failure::failed(format!("SSH key {}: {error}", path.display()))
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
