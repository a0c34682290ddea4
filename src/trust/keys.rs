//! The user's own keys, and signing with them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};

use super::{NAMESPACE, Signature, message};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::host::file::{Durability, Replace, read_text};
use crate::host::{Program, require};

/// The longest key file that is read, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// A key of the user's: its public half, and the file that signs.
#[derive(Debug, Clone)]
pub struct OwnKey {
    /// The name of its file.
    pub name: String,
    pub public: PublicKey,
    /// Its private half; the public one when that is in an agent or a token.
    pub path: PathBuf,
}

/// The keys in a directory, by name. What is no key is passed over.
///
/// # Errors
/// The directory cannot be read.
pub fn own_keys(directory: &Path) -> Result<Vec<OwnKey>, Failure> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Failure::io("read", directory))?,
    };
    let mut keys = Vec::new();
    for entry in entries {
        let path = entry.map_err(Failure::io("read", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "pub") {
            keys.extend(OwnKey::read(&path));
        }
    }
    keys.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(keys)
}

impl OwnKey {
    /// Makes an Ed25519 key in a directory, which is made when it is missing.
    ///
    /// # Errors
    /// There is a key of this name, or it cannot be written.
    pub fn create(directory: &Path, name: &str, comment: &str) -> Result<Self, Failure> {
        let path = directory.join(name);
        let public_path = directory.join(format!("{name}.pub"));
        if path.exists() || public_path.exists() {
            return Err(Failure::usage(format!("there is a key \"{name}\" already"))
                .with_help("give the new one another name: vmfab key new NAME"));
        }
        let wrong = |error: ssh_key::Error| Failure::failed(format!("key \"{name}\": {error}"));
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(wrong)?;
        key.set_comment(comment);
        let private = key.to_openssh(LineEnding::LF).map_err(wrong)?;
        let public = key.public_key().to_openssh().map_err(wrong)?;
        fs::create_dir_all(directory).map_err(Failure::io("create", directory))?;
        Replace::new(&path, Durability::Lasting)
            .with(private.as_bytes())
            .map_err(Failure::io("write", &path))?;
        Replace::new(&public_path, Durability::Lasting)
            .with(format!("{public}\n").as_bytes())
            .map_err(Failure::io("write", &public_path))?;
        Ok(Self {
            name: name.to_owned(),
            public: key.public_key().clone(),
            path,
        })
    }

    /// The key of a file: a private one, or the public half of one in an agent or a token.
    ///
    /// # Errors
    /// There is no such file, or it holds no key.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let is_public = path.extension().is_some_and(|extension| extension == "pub");
        let (private, public) = match is_public {
            true => (path.with_extension(""), path.to_owned()),
            false => {
                let mut public = path.as_os_str().to_owned();
                public.push(".pub");
                (path.to_owned(), PathBuf::from(public))
            }
        };
        let read = |path: &Path| match read_text(path, MAX_KEY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::new(
                Kind::NotFound,
                format!("there is no key {}", path.display()),
            )
            .with_help("\"vmfab key list\" lists your keys, \"vmfab key new\" makes one")),
            text => text.map_err(Failure::io("read", path)),
        };
        let wrong = |path: &Path, error: ssh_key::Error| {
            Failure::usage(format!(
                "{} is no key of OpenSSH's: {error}",
                path.display()
            ))
        };
        let text = match is_public || !private.exists() {
            true => read(&public)?,
            false => {
                let text = read(&private)?;
                // The public half is in it, also when a passphrase protects the other.
                let key = PrivateKey::from_openssh(&text);
                let key = key.map_err(|error| wrong(&private, error))?;
                let public = key.public_key().to_openssh();
                public.map_err(|error| wrong(&private, error))?
            }
        };
        let key = PublicKey::from_openssh(text.trim());
        let stem = private.file_name().unwrap_or_default();
        Ok(Self {
            name: stem.to_string_lossy().into_owned(),
            public: key.map_err(|error| wrong(&public, error))?,
            path: match private.exists() {
                true => private,
                false => public,
            },
        })
    }

    /// `SHA256:…`
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.public.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Signs what has this digest, and verifies the result. A key with a passphrase, in an agent
    /// or on a token signs by `ssh-keygen`, which asks at the terminal.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn sign(&self, digest: &Sha256) -> Result<String, Failure> {
        let message = message(digest);
        let text = match self.unlocked() {
            Some(key) => key
                .sign(NAMESPACE, HashAlg::Sha512, &message)
                .and_then(|signature| signature.to_pem(LineEnding::LF))
                .map_err(|error| Failure::failed(format!("key \"{}\": {error}", self.name)))?,
            None => self.sign_elsewhere(&message)?,
        };
        let signature = Signature::parse(&text);
        let signature = signature.map_err(|why| Failure::failed(format!("ssh-keygen's {why}")))?;
        let verified = self.public.verify(NAMESPACE, &message, &signature.0);
        verified.map_err(|error| {
            Failure::failed(format!(
                "key \"{}\" made a signature that vmfab cannot verify: {error}",
                self.name
            ))
            .with_help("sign with an Ed25519 key: \"vmfab key new\" makes one")
        })?;
        Ok(text)
    }

    /// The private half, when this process can use it.
    pub(super) fn unlocked(&self) -> Option<PrivateKey> {
        let text = read_text(&self.path, MAX_KEY).ok()?;
        let key = PrivateKey::from_openssh(text).ok()?;
        (!key.is_encrypted() && key.algorithm() == Algorithm::Ed25519).then_some(key)
    }

    fn sign_elsewhere(&self, message: &[u8]) -> Result<String, Failure> {
        let program = require(Program::SshKeygen)?;
        let child = Command::new(&program)
            .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(Failure::io("run", &program))?;
        if let Some(mut stdin) = child.stdin.take() {
            // If it does not read it, its exit code says so.
            let _ = stdin.write_all(message);
        }
        let output = child.wait_with_output();
        let output = output.map_err(Failure::io("run", &program))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().map(str::to_owned).collect();
            let message = format!("cannot sign with {}", self.path.display());
            return Err(Failure::failed(message).with_output(said).with_help(
                "a key of an agent or a token needs the agent (SSH_AUTH_SOCK) or the token here",
            ));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| Failure::failed("ssh-keygen wrote no signature"))
    }
}
