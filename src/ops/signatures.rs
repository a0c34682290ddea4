//! Signing images and files, and verifying who did.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::Digest as _;

use super::Context;
use super::attestations::{self, Attestation};
use super::keys::signing_key;
use crate::audit::Deed;
use crate::config::CosignKey;
use crate::digest::{Checksum, Sha256};
use crate::failure::{Failure, Kind};
use crate::host::file::{Durability, Replace, open_regular, read_text};
use crate::registry::{
    Blob, Described, Descriptor, Location, Parsed, Repository, Version, descriptor, parse_manifest,
};
use crate::share::{Attachment, SIGNATURE, SSH_SIGNATURE, attach};
use crate::trust::{MAX_SIGNATURE, OwnKey, Trusted};
use crate::world::signatures::{Evidence, Verdict, name_of, trusted};

/// How much of a file is hashed at once, in bytes.
const PIECE: usize = 1 << 20;

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
    /// What else was pushed about it; nothing about files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<Attestation>,
}

/// A signature that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GoodSignature {
    /// The fingerprint of the key; of cosign's, its file.
    pub key: String,
    pub comment: String,
}

impl NewSignature {
    fn recorded(self, context: &Context) -> Self {
        context.record(&Deed::Signed {
            what: self.signed.clone(),
            digest: self.digest.to_string(),
            key: self.key.clone(),
        });
        self
    }
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
            let made = NewSignature {
                signed: path.display().to_string(),
                digest: digest.into(),
                key: key.fingerprint(),
                signature: beside.display().to_string(),
            };
            Ok(made.recorded(context))
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
            let version = version(&*repository, location)?;
            let subject = subject(&*repository, location, &version)?;
            let made = put_signature(&*repository, &subject, &key)?;
            repository.finish()?;
            let signed = location.to_string();
            Ok(NewSignature { signed, ..made }.recorded(context))
        }
    }
}

/// Signs a manifest, and puts the signature beside it.
fn put_signature(
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
    let mut repository_of = None;
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
            let version = version(&*repository, location)?;
            let subject = subject(&*repository, location, &version)?;
            let wrong = |why| Failure::verification(format!("the manifest {why}"));
            let digest = subject.blob().map_err(wrong)?.digest;
            let evidence = Evidence::of(&*repository, &[digest])?;
            repository_of = Some(repository);
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
    let trusted = match signers {
        Some(path) => {
            if !path.exists() {
                return Err(Failure::unknown("file of trusted keys", path.display()));
            }
            let mut given = Trusted::default();
            given.read_signers(path)?;
            given.revoked = trusted(&context)?.revoked;
            given
        }
        None => trusted(&context)?,
    };
    let verdict = evidence.verify_with(&trusted, &context, &name)?;
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
    let attestations = repository_of
        .map(|repository| attestations::of(&*repository, digest, &name, &trusted))
        .transpose()?;
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
        attestations: attestations.unwrap_or_default(),
    })
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

/// The version that a location names.
fn version(repository: &dyn Repository, location: &Location) -> Result<Version, Failure> {
    match location.version() {
        Some(version) => Ok(version),
        None => Ok(repository.only_version()?),
    }
}

/// The manifest or index of that version.
pub(super) fn subject(
    repository: &dyn Repository,
    location: &Location,
    version: &Version,
) -> Result<Descriptor, Failure> {
    let fetched = repository.manifest(version)?;
    let fetched = fetched.ok_or_else(|| {
        let what = match version {
            Version::Tag(tag) => format!("tag \"{tag}\""),
            Version::Digest(digest) => format!("manifest sha256:{digest}"),
        };
        let place = repository.name();
        Failure::new(Kind::NotFound, format!("{place} has no {what}"))
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
