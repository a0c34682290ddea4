//! Keys of the user's own, keys that he trusts, and keys that are revoked.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use ssh_key::{HashAlg, PublicKey};

use super::Context;
use crate::audit::Deed;
use crate::failure::Failure;
use crate::host::file::{self, Durability, Lock, Replace, read_text};
use crate::trust::{MAX_SIGNATURE, NAMESPACE, OwnKey, Signer, names_a_place, own_keys};
use crate::world::signatures::{ALLOWED_SIGNERS, REVOKED_KEYS, trusted};

/// A key, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyEntry {
    /// The name of one's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `SHA256:…`
    pub fingerprint: String,
    pub comment: String,
    /// Patterns of names that it may sign, when it is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signs: Option<String>,
    /// `valid`, `expires soon`, `expired`, `not yet valid` or `revoked`.
    pub state: &'static str,
    /// As a line of a `.pub` file.
    pub public: String,
    /// The file of an own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// All keys that vmfab knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Keys {
    pub own: Vec<KeyEntry>,
    pub trusted: Vec<KeyEntry>,
    /// Fingerprints.
    pub revoked: Vec<String>,
}

/// A key that is to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustOptions {
    /// A `.pub` file, `-` for standard input, one's own key by name, or the text of a public key.
    pub key: String,
    /// Patterns of names that it may sign.
    pub names: Vec<String>,
    pub from: Option<SystemTime>,
    pub until: Option<SystemTime>,
}

/// Makes a key of the user's own.
///
/// # Errors
/// The name is taken or bad, or the key cannot be written.
pub fn new_key(context: &Context, name: &str, comment: Option<&str>) -> Result<KeyEntry, Failure> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(good) {
        return Err(
            Failure::usage(format!("\"{name}\" cannot be the name of a key"))
                .with_help("use letters, digits, \".\", \"_\" and \"-\""),
        );
    }
    let comment = comment.unwrap_or(name);
    if comment.chars().any(char::is_control) {
        return Err(Failure::usage(
            "the comment has characters that are no text",
        ));
    }
    let key = OwnKey::create(&keys_directory(context)?, name, comment)?;
    context.record(&Deed::KeyMade {
        key: key.fingerprint(),
    });
    Ok(own_entry(&key, false))
}

/// All keys.
///
/// # Errors
/// A file of keys cannot be read or is wrong.
pub fn list(context: &Context) -> Result<Keys, Failure> {
    let trusted = trusted(context)?;
    let now = SystemTime::now();
    let own = own_keys(&keys_directory(context)?)?;
    let own = own
        .iter()
        .map(|key| own_entry(key, trusted.is_revoked(&key.public)));
    let signer = |signer: &Signer| KeyEntry {
        signs: Some(signer.names.clone()),
        state: signer.state(trusted.is_revoked(&signer.key), now),
        ..entry(&signer.key)
    };
    Ok(Keys {
        own: own.collect(),
        trusted: trusted.signers.iter().map(signer).collect(),
        revoked: trusted.revoked.iter().map(ToString::to_string).collect(),
    })
}

/// Trusts a key to sign what has these names.
///
/// # Errors
/// It is no key, a pattern says no place, or the file of trusted keys cannot be written.
pub fn trust(context: &Context, options: &TrustOptions) -> Result<KeyEntry, Failure> {
    if let Some(name) = options.names.iter().find(|name| {
        name.is_empty() || name.contains([',', '"', ' ', '\t']) || !names_a_place(name)
    }) {
        return Err(Failure::usage(format!("\"{name}\" is no pattern of names"))
            .with_help("write HOST/REPOSITORY with * and ?, such as ghcr.io/team/* or */team/*"));
    }
    let key = public_key(context, &options.key)?;
    let trusted = trusted(context)?;
    if trusted.is_revoked(&key) {
        return Err(
            Failure::usage(format!("key {} is revoked", fingerprint(&key)))
                .with_help("remove its line from revoked_keys first, if that was a mistake"),
        );
    }
    let signer = Signer {
        names: options.names.join(","),
        namespaces: Some(NAMESPACE.to_owned()),
        after: options.from,
        before: options.until,
        key,
    };
    add_line(context, ALLOWED_SIGNERS, &signer.line())?;
    context.record(&Deed::KeyTrusted {
        key: fingerprint(&signer.key),
        names: signer.names.clone(),
    });
    Ok(KeyEntry {
        signs: Some(signer.names.clone()),
        state: signer.state(false, SystemTime::now()),
        ..entry(&signer.key)
    })
}

/// Trusts a key no more, whatever it signed.
///
/// # Errors
/// There is no such key, or the file of revoked keys cannot be written.
pub fn revoke(context: &Context, key: &str) -> Result<KeyEntry, Failure> {
    let trusted = trusted(context)?;
    let known = trusted.signers.iter().map(|signer| &signer.key);
    let named = known.into_iter().find(|known| fingerprint(known) == key);
    let key = match named {
        Some(named) => named.clone(),
        None => public_key(context, key)?,
    };
    if !trusted.is_revoked(&key) {
        add_line(context, REVOKED_KEYS, &line(&key))?;
        context.record(&Deed::KeyRevoked {
            key: fingerprint(&key),
        });
    }
    Ok(KeyEntry {
        state: "revoked",
        ..entry(&key)
    })
}

/// A key of one's own by name; the only one when no name is given.
///
/// # Errors
/// There is none, or there are several.
pub fn own(context: &Context, name: Option<&str>) -> Result<KeyEntry, Failure> {
    Ok(own_entry(&signing_key(context, name)?, false))
}

/// A key of one's own: by name, by path, or the only one.
///
/// # Errors
/// There is none, or there are several.
pub(super) fn signing_key(context: &Context, key: Option<&str>) -> Result<OwnKey, Failure> {
    let directory = keys_directory(context)?;
    if let Some(key) = key {
        let named = directory.join(format!("{key}.pub"));
        return match key.contains('/') || !named.is_file() {
            true => OwnKey::read(Path::new(key)),
            false => OwnKey::read(&named),
        };
    }
    let mut own = own_keys(&directory)?;
    match own.len() {
        0 => Err(Failure::usage("you have no key to sign with")
            .with_help("\"vmfab key new\" makes one; --key FILE signs with a key of OpenSSH's")),
        1 => Ok(own.remove(0)),
        _ => {
            let names: Vec<&str> = own.iter().map(|key| key.name.as_str()).collect();
            Err(Failure::usage("you have several keys")
                .with_help(format!("say which with --key: {}", names.join(", "))))
        }
    }
}

fn directory(context: &Context) -> Result<&Path, Failure> {
    context.config.trust.directory.as_deref().ok_or_else(|| {
        Failure::missing("there is no directory for keys: neither HOME nor XDG_CONFIG_HOME is set")
            .with_help("set HOME, or VMFAB_CONFIG to a file beside which keys are kept")
    })
}

fn keys_directory(context: &Context) -> Result<PathBuf, Failure> {
    Ok(directory(context)?.join("keys"))
}

/// A public key: of a file, of standard input, one's own by name, or the text itself.
fn public_key(context: &Context, text: &str) -> Result<PublicKey, Failure> {
    if let Ok(key) = PublicKey::from_openssh(text.trim()) {
        return Ok(key);
    }
    if text == "-" {
        let input = file::text(io::stdin().lock(), MAX_SIGNATURE);
        let input = input.map_err(Failure::io("read", Path::new("-")))?;
        let key = PublicKey::from_openssh(input.trim());
        return key
            .map_err(|error| Failure::usage(format!("standard input is no public key: {error}")));
    }
    Ok(signing_key(context, Some(text))?.public)
}

/// Adds a line to a file of keys, while nobody else does.
fn add_line(context: &Context, file: &str, line: &str) -> Result<(), Failure> {
    let directory = directory(context)?;
    std::fs::create_dir_all(directory).map_err(Failure::io("create", directory))?;
    let path = directory.join(file);
    let lock = directory.join(format!(".{file}.lock"));
    let _lock = Lock::wait(&lock, &context.interrupt, || ())
        .map_err(Failure::io("lock", &lock))?
        .ok_or_else(Failure::interrupted)?;
    let mut text = match read_text(&path, 4 << 20) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(Failure::io("read", &path))?,
    };
    if text.lines().any(|one| one.trim() == line) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    Replace::new(&path, Durability::Lasting)
        .permissions(PermissionsExt::from_mode(0o644))
        .with(text.as_bytes())
        .map_err(Failure::io("write", &path))
}

fn own_entry(key: &OwnKey, revoked: bool) -> KeyEntry {
    KeyEntry {
        name: Some(key.name.clone()),
        state: if revoked { "revoked" } else { "valid" },
        path: Some(key.path.clone()),
        ..entry(&key.public)
    }
}

fn entry(key: &PublicKey) -> KeyEntry {
    KeyEntry {
        name: None,
        fingerprint: fingerprint(key),
        comment: key.comment().to_owned(),
        signs: None,
        state: "valid",
        public: line(key),
        path: None,
    }
}

fn line(key: &PublicKey) -> String {
    key.to_openssh().unwrap_or_default()
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
