//! Statements about images in registries, pushed with them and signed: how an image was made, and
//! what is in it.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::contents::{self, BillFormat};
use super::keys::signing_key;
use super::provenance::{PROVENANCE, STATEMENT, document, kept, statement};
use super::share::PushedImage;
use super::signatures::subject;
use super::{Context, images};
use crate::audit::Deed;
use crate::digest::{Checksum, Sha256};
use crate::failure::{Failure, Kind};
use crate::registry::{Described, Location, Parsed, Repository, Version, parse_manifest};
use crate::share::{ATTESTATION, Attachment, ENVELOPE, attach, attached};
use crate::text::excerpt;
use crate::trust::{Envelope, Trusted};
use crate::world::signatures::{name_of, trusted};

/// The predicate type of bills of materials.
const SPDX: &str = "https://spdx.dev/Document";
/// The longest attestation that is read, in bytes.
const LONGEST: u64 = 32 << 20;
/// The annotation that says what a statement is about.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// More images of an index are not looked at.
const MOST: usize = 16;

/// A statement about an image, and whether it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attestation {
    /// What it says, such as `https://slsa.dev/provenance/v1`.
    pub predicate_type: String,
    /// The manifest that it is about.
    pub subject: Checksum,
    /// The fingerprint of the trusted key that signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(skip)]
    statement: Value,
}

/// What an attestation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attested {
    Provenance,
    Bill,
}

impl Attested {
    const fn predicate_type(self) -> &'static str {
        match self {
            Self::Provenance => PROVENANCE,
            Self::Bill => SPDX,
        }
    }
}

/// Whether attestations of an image can be made and signed: to be asked before it is pushed.
///
/// # Errors
/// They cannot.
pub fn check(
    context: &Context,
    image: &str,
    to: &Location,
    key: Option<&str>,
) -> Result<(), Failure> {
    if !matches!(to, Location::Registry(_) | Location::Layout { .. }) {
        return Err(Failure::usage(format!("{to} cannot take attestations"))
            .with_help("push to a registry or a layout"));
    }
    kept(context, &images::find(context, image)?)?;
    signing_key(context, key)?.sign_statement(b"")?;
    Ok(())
}

/// Signs and pushes how an image was made, and what is in it. Returns what was said.
///
/// # Errors
/// See [`check`]; or the repository does not take them.
pub fn attest(
    context: &Context,
    pushed: &PushedImage,
    to: &Location,
    key: Option<&str>,
) -> Result<Vec<&'static str>, Failure> {
    let key = signing_key(context, key)?;
    let id = pushed.image.to_string();
    let found = images::find(context, &id)?;
    let made = kept(context, &found)?.predicate;
    let bill = contents::sbom(context, &id)?.document(BillFormat::Spdx);
    let bill = serde_json::from_str(&bill).map_err(Failure::other)?;
    let repository = context.registries().open(to)?;
    let digest = pushed.manifest.sha256();
    let digest = digest.ok_or_else(|| Failure::failed("the manifest has no SHA-256"))?;
    let about = subject(&*repository, to, &Version::Digest(digest))?;
    let name = name_of(to);
    let mut said = Vec::new();
    for (kind, predicate) in [(PROVENANCE, &made), (SPDX, &bill)] {
        let statement = statement(&name, &json!({ "sha256": digest }), kind, predicate);
        let bytes = serde_json::to_vec(&statement).map_err(Failure::other)?;
        let document = Attachment {
            artifact_type: ATTESTATION,
            media_type: ENVELOPE,
            bytes: key.sign_statement(&bytes)?,
            annotations: [(PREDICATE_TYPE.to_owned(), kind.to_owned())].into(),
        };
        attach(&*repository, &about, &document)?;
        said.push(kind);
    }
    repository.finish()?;
    context.record(&Deed::Attested {
        what: to.to_string(),
        digest: pushed.manifest.to_string(),
        key: key.fingerprint(),
        said: said.iter().map(|&kind| kind.to_owned()).collect(),
    });
    Ok(said)
}

/// The attestations of a manifest, or of the images of an index.
///
/// # Errors
/// The repository fails, or a file of keys is wrong.
pub(super) fn of(
    repository: &dyn Repository,
    digest: Sha256,
    name: &str,
    trusted: &Trusted,
) -> Result<Vec<Attestation>, Failure> {
    let mut digests = vec![digest];
    if let Some(fetched) = repository.manifest(&Version::Digest(digest))?
        && let Ok(Parsed::Index(index)) = parse_manifest(&fetched.bytes, &fetched.media_type)
    {
        let images = index.manifests().iter().take(MOST);
        digests.extend(images.filter_map(|one| Some(one.blob().ok()?.digest)));
    }
    let mut found = Vec::new();
    for digest in digests {
        attached(repository, &digest, ATTESTATION, LONGEST, |bytes| {
            found.push(judge(&bytes, &digest, name, trusted));
        })?;
    }
    Ok(found)
}

fn judge(bytes: &[u8], digest: &Sha256, name: &str, trusted: &Trusted) -> Attestation {
    let mut attestation = Attestation {
        predicate_type: "unknown".to_owned(),
        subject: (*digest).into(),
        key: None,
        problem: None,
        statement: Value::Null,
    };
    let judged = Envelope::parse(bytes)
        .map_err(|why| format!("it {why}"))
        .and_then(|envelope| {
            let statement: Value = serde_json::from_slice(&envelope.statement)
                .map_err(|error| format!("its statement is no JSON: {error}"))?;
            let kind = statement["predicateType"].as_str().unwrap_or_default();
            attestation.predicate_type = excerpt(kind);
            let hex = digest.to_string();
            let mut subjects = statement["subject"].as_array().into_iter().flatten();
            if statement["_type"] != STATEMENT
                || !subjects.any(|one| one["digest"]["sha256"] == hex.as_str())
            {
                return Err(format!("its statement is not about sha256:{digest}"));
            }
            let accepted = trusted.judge_statement(&envelope, name, SystemTime::now())?;
            attestation.statement = statement;
            Ok(accepted)
        });
    match judged {
        Ok(accepted) => attestation.key = Some(accepted.key),
        Err(why) => attestation.problem = Some(why),
    }
    attestation
}

/// What was pushed with an image and a trusted key signed, as a document: the statement on how it
/// was made, or the bill of materials.
///
/// # Errors
/// There is none, or none that counts.
pub fn published(context: &Context, from: &Location, what: Attested) -> Result<String, Failure> {
    let repository = context.registries().open(from)?;
    let version = match from.version() {
        Some(version) => version,
        None => repository.only_version()?,
    };
    let subject = subject(&*repository, from, &version)?;
    let wrong = |why| Failure::verification(format!("the manifest {why}"));
    let digest = subject.blob().map_err(wrong)?.digest;
    let mut all = of(&*repository, digest, &name_of(from), &trusted(context)?)?;
    all.retain(|one| one.predicate_type == what.predicate_type());
    if let Some(one) = all.iter().find(|one| one.key.is_some()) {
        return Ok(document(match what {
            Attested::Provenance => &one.statement,
            Attested::Bill => &one.statement["predicate"],
        }));
    }
    let problems = all.into_iter().filter_map(|one| one.problem);
    let problems: Vec<_> = problems.collect();
    Err(match problems.is_empty() {
        true => {
            let what = what.predicate_type();
            let message = format!("{from} has no attestation of the type {what}");
            Failure::new(Kind::NotFound, message)
                .with_help("\"vmfab push --attest\" pushes attestations with an image")
        }
        false => {
            let message = format!("no attestation of {from} counts: {}", problems.join("; "));
            Failure::verification(message).with_help("\"vmfab key trust\" trusts a key")
        }
    })
}
