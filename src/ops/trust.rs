//! Keys, signatures, and whom the user trusts.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use sha2::Digest as _;
use ssh_key::{HashAlg, PublicKey};

use super::Context;
use crate::config::CosignKey;
use crate::digest::{Checksum, Sha256};
use crate::failure::Failure;
use crate::host::file::{Durability, Lock, Replace, open_regular, read_text};
use crate::registry::{
    Blob, Described, Descriptor, Location, Parsed, Repository, Version, descriptor, parse_manifest,
};
use crate::share::{Attachment, SIGNATURE, SSH_SIGNATURE, attach};
use crate::trust::{MAX_SIGNATURE, OwnKey, Signer, Trusted, names_a_place, own_keys};
use crate::world::signatures::{
    ALLOWED_SIGNERS, Evidence, REVOKED_KEYS, Verdict, name_of, trusted,
};

/// How much of a file is hashed at once, in bytes.
const PIECE: usize = 1 << 20;

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

/// What to sign, or whose signatures to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    File(PathBuf),
    Place(Location),
}

/// A signature that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewSignature {
    /// What was signed.
    pub signed: String,
    pub digest: Checksum,
    /// The fingerprint of the key.
    pub key: String,
    /// The file, or the digest of the manifest, that holds it.
    pub signature: String,
}

/// What signatures say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub signed: String,
    pub digest: Checksum,
    /// The name that a key must be trusted for.
    pub name: String,
    pub signatures: Vec<GoodSignature>,
    /// Why others do not count.
    pub rejected: Vec<String>,
}

/// A signature that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GoodSignature {
    /// The fingerprint of the key; of cosign's, its file.
    pub key: String,
    pub comment: String,
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

impl Signed {
    /// A file that is there, or else where an image lies. What is neither is a file that is missing.
    #[must_use]
    pub fn named(text: &str) -> Self {
        match text.parse() {
            Ok(place) if !Path::new(text).is_file() => Self::Place(place),
            _ => Self::File(text.into()),
        }
    }
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
        namespaces: Some(crate::trust::NAMESPACE.to_owned()),
        after: options.from,
        before: options.until,
        key,
    };
    add_line(context, ALLOWED_SIGNERS, &signer.line())?;
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

/// Signs an image in a registry or layout, or a file.
///
/// # Errors
/// There is nothing to sign, the key cannot be used, or the signature cannot be put there.
pub fn sign(
    context: &Context,
    signed: &Signed,
    key: Option<&str>,
) -> Result<NewSignature, Failure> {
    let key = signing_key(context, key)?;
    match signed {
        Signed::File(path) => {
            let mut file = opened(path)?;
            let digest = digest_of(context, path, &mut file)?;
            let text = key.sign(&digest)?;
            let beside = signature_path(path);
            Replace::new(&beside, Durability::Whole)
                .permissions(PermissionsExt::from_mode(0o644))
                .with(text.as_bytes())
                .map_err(Failure::io("write", &beside))?;
            Ok(NewSignature {
                signed: path.display().to_string(),
                digest: digest.into(),
                key: key.fingerprint(),
                signature: beside.display().to_string(),
            })
        }
        Signed::Place(location @ Location::Storage(_)) => Err(Failure::usage(format!(
            "{location} cannot take a signature"
        ))
        .with_help("push the image to a registry, and sign it there")),
        Signed::Place(
            location @ (Location::Archive { path, .. } | Location::DockerArchive { path, .. }),
        ) => {
            let path = path.display();
            Err(
                Failure::usage(format!("{location} cannot take a signature"))
                    .with_help(format!("sign the file itself: vmfab sign {path}")),
            )
        }
        Signed::Place(location) => {
            let repository = context.registries().open(location)?;
            let subject = subject(&*repository, location)?;
            let made = put_signature(&*repository, &subject, &key)?;
            repository.finish()?;
            Ok(NewSignature {
                signed: location.to_string(),
                ..made
            })
        }
    }
}

/// Signs a manifest that was just pushed.
///
/// # Errors
/// See [`sign`].
pub(super) fn put_signature(
    repository: &dyn Repository,
    subject: &Descriptor,
    key: &OwnKey,
) -> Result<NewSignature, Failure> {
    let wrong = |why| Failure::verification(format!("the manifest {why}"));
    let digest = subject.blob().map_err(wrong)?.digest;
    let document = Attachment {
        artifact_type: SIGNATURE,
        media_type: SSH_SIGNATURE,
        bytes: key.sign(&digest)?.into_bytes(),
        annotations: [("org.vmfab.signature.key".to_owned(), key.fingerprint())].into(),
    };
    let signature = attach(repository, subject, &document)?;
    Ok(NewSignature {
        signed: repository.name(),
        digest: digest.into(),
        key: key.fingerprint(),
        signature: format!("sha256:{signature}"),
    })
}

/// Verifies the signatures of an image or a file.
///
/// # Errors
/// There is nothing, or no signature counts.
pub fn verify(
    context: &Context,
    signed: &Signed,
    signers: Option<&Path>,
    cosign: Option<&Path>,
) -> Result<Verified, Failure> {
    let (shown, name, digest, evidence) = match signed {
        Signed::File(path) => {
            let mut file = opened(path)?;
            let evidence = beside(context, path, &mut file)?;
            let digest = match evidence.signatures.first() {
                Some((_, digest)) => *digest,
                None => {
                    let beside = signature_path(path);
                    let message = format!("{} has no signature", path.display());
                    return Err(Failure::verification(message).with_help(format!(
                        "\"vmfab sign {}\" makes {}",
                        path.display(),
                        beside.display()
                    )));
                }
            };
            (
                path.display().to_string(),
                file_name(path),
                digest,
                evidence,
            )
        }
        Signed::Place(location) => {
            let repository = context.registries().open(location)?;
            let subject = subject(&*repository, location)?;
            let wrong = |why| Failure::verification(format!("the manifest {why}"));
            let digest = subject.blob().map_err(wrong)?.digest;
            let evidence = Evidence::of(&*repository, &[digest])?;
            (location.to_string(), name_of(location), digest, evidence)
        }
    };
    let mut context = context.clone();
    if let Some(path) = cosign {
        context.config.trust.cosign = vec![CosignKey {
            names: "*".to_owned(),
            path: path.to_owned(),
        }];
    }
    let verdict = match signers {
        Some(path) => {
            if !path.exists() {
                return Err(Failure::unknown("file of trusted keys", path.display()));
            }
            let mut given = Trusted::default();
            given.read_signers(path)?;
            given.revoked = trusted(&context)?.revoked;
            evidence.verify_with(&given, &context, &name)?
        }
        None => evidence.verify(&context, &name)?,
    };
    let Verdict {
        accepted, rejected, ..
    } = verdict;
    if accepted.is_empty() {
        let reasons = match rejected.is_empty() {
            true => "it has no signature".to_owned(),
            false => rejected.join("; "),
        };
        let message = format!("{shown} is not signed by a trusted key: {reasons}");
        return Err(Failure::verification(message).with_help(
            "\"vmfab key trust\" trusts a key, \"vmfab key list\" lists those that are trusted",
        ));
    }
    Ok(Verified {
        signed: shown,
        digest: digest.into(),
        name,
        signatures: accepted
            .into_iter()
            .map(|one| GoodSignature {
                key: one.key,
                comment: one.comment,
            })
            .collect(),
        rejected,
    })
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

/// What a file is called when it is signed.
pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!("file:{}", name.to_string_lossy())
}

/// The signature beside an open file.
pub(super) fn beside(context: &Context, path: &Path, file: &mut File) -> Result<Evidence, Failure> {
    let beside = signature_path(path);
    let text = match read_text(&beside, MAX_SIGNATURE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Evidence::default()),
        text => text.map_err(Failure::io("read", &beside))?,
    };
    Ok(Evidence {
        signatures: vec![(text, digest_of(context, path, file)?)],
        ..Evidence::default()
    })
}

fn opened(path: &Path) -> Result<File, Failure> {
    open_regular(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::unknown("file", path.display())
            .with_help("an image is named by where it lies: HOST/NAME[:TAG] or oci:DIR[:TAG]"),
        _ => Failure::of_io("read", path, &error),
    })
}

fn signature_path(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sig");
    beside.into()
}

/// The SHA-256 of a file.
fn digest_of(context: &Context, path: &Path, file: &mut File) -> Result<Sha256, Failure> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        if context.interrupt.requested() {
            return Err(Failure::interrupted());
        }
        match file.read(&mut buffer).map_err(Failure::io("read", path))? {
            0 => return Ok(Sha256::from_bytes(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The manifest or index that a location names.
fn subject(repository: &dyn Repository, location: &Location) -> Result<Descriptor, Failure> {
    let version = match location.version() {
        Some(version) => version,
        None => repository.only_version()?,
    };
    let fetched = repository.manifest(&version)?;
    let fetched = fetched.ok_or_else(|| {
        let what = match &version {
            Version::Tag(tag) => format!("tag \"{tag}\""),
            Version::Digest(digest) => format!("manifest sha256:{digest}"),
        };
        let place = repository.name();
        Failure::new(
            crate::failure::Kind::NotFound,
            format!("{place} has no {what}"),
        )
        .with_help(format!("\"vmfab tags {place}\" lists the tags"))
    })?;
    let parsed = parse_manifest(&fetched.bytes, &fetched.media_type);
    let parsed = parsed.map_err(|why| Failure::verification(format!("{location}: it {why}")))?;
    let artifact_type = match &parsed {
        Parsed::Manifest(manifest) => manifest.artifact_type().clone(),
        Parsed::Index(index) => index.artifact_type().clone(),
    };
    let mut subject = descriptor(&fetched.media_type, &Blob::of(&fetched.bytes));
    subject.set_artifact_type(artifact_type);
    Ok(subject)
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
        let input = crate::host::file::text(io::stdin().lock(), MAX_SIGNATURE);
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
