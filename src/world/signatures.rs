//! Whether what comes from elsewhere is signed by whom the user trusts.

use std::time::SystemTime;

use super::Context;
use crate::audit::Deed;
use crate::config::{Demand, TrustedUse};
use crate::digest::Sha256;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::host::file;
use crate::registry::{Location, Repository};
use crate::share::{SIGNATURE, attached, cosign_signatures};
use crate::trust::{
    Accepted, CosignPublicKey, CosignSignature, MAX_SIGNATURE, Signature, Trusted, covers,
};

/// The file of trusted keys in the directory of the configuration.
pub(crate) const ALLOWED_SIGNERS: &str = "allowed_signers";
/// The file of revoked keys there.
pub(crate) const REVOKED_KEYS: &str = "revoked_keys";

/// Signatures of a manifest or a file, and whom the user trusts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    /// Texts of OpenSSH's, and the digest that each should be of.
    pub(crate) signatures: Vec<(String, Sha256)>,
    pub(crate) cosign: Vec<(CosignSignature, Sha256)>,
}

/// What came of signatures.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Those that count.
    pub(crate) accepted: Vec<Accepted>,
    /// Why the others do not: sentences.
    pub(crate) rejected: Vec<String>,
    /// The texts of those of OpenSSH's that count.
    good: Vec<(String, Sha256)>,
}

/// All keys that the user trusts.
///
/// # Errors
/// A file of keys cannot be read or is wrong.
pub(crate) fn trusted(context: &Context) -> Result<Trusted, Failure> {
    let trust = &context.config.trust;
    let mut trusted = Trusted::default();
    if let Some(directory) = &trust.directory {
        trusted.read_signers(&directory.join(ALLOWED_SIGNERS))?;
        trusted.read_revoked(&directory.join(REVOKED_KEYS))?;
    }
    for path in &trust.signers {
        trusted.read_signers(path)?;
    }
    Ok(trusted)
}

/// What is signed is called so: `HOST/REPOSITORY`; `file:NAME` for what lies in a file;
/// `containers-storage:NAME` for podman's.
#[must_use]
pub(crate) fn name_of(location: &Location) -> String {
    match location {
        Location::Registry(reference) => reference.name(),
        Location::Layout { path, .. }
        | Location::Archive { path, .. }
        | Location::DockerArchive { path, .. } => {
            let name = path.file_name().unwrap_or_default();
            format!("file:{}", name.to_string_lossy())
        }
        Location::Storage(_) => location.to_string(),
    }
}

/// Checks that what is used is signed, if the user asks for that. One of its `digests` must be
/// signed: its own, or that of an index that names it.
///
/// # Errors
/// No signature counts, and one is required; or there is no way to tell.
pub(crate) fn check(
    context: &Context,
    location: &Location,
    digests: &[Sha256],
    used_for: TrustedUse,
) -> Result<(), Failure> {
    let name = name_of(location);
    let demand = context.config.trust.demand(&name, used_for, covers);
    if demand == Demand::Off {
        return Ok(());
    }
    if !kept(context, digests)
        .verify(context, &name)?
        .accepted
        .is_empty()
    {
        return Ok(());
    }
    let fetched = context
        .registries()
        .open(location)
        .map_err(Failure::from)
        .and_then(|repository| Evidence::of(&*repository, digests));
    let verdict = match fetched {
        Ok(evidence) => {
            let verdict = evidence.verify(context, &name)?;
            keep(context, &verdict.good);
            verdict
        }
        Err(error) if error.is(Kind::Interrupted) => return Err(error),
        Err(error) => Verdict {
            rejected: vec![format!("its signatures cannot be fetched: {error}")],
            ..Verdict::default()
        },
    };
    decide(context, demand, &location.to_string(), verdict)
}

/// The same for a file, with a signature beside it.
///
/// # Errors
/// See [`check`].
pub(crate) fn check_evidence(
    context: &Context,
    name: &str,
    used_for: TrustedUse,
    evidence: impl FnOnce() -> Result<Evidence, Failure>,
) -> Result<(), Failure> {
    let demand = context.config.trust.demand(name, used_for, covers);
    match demand {
        Demand::Off => Ok(()),
        _ => {
            let verdict = evidence()?.verify(context, name)?;
            decide(context, demand, name, verdict)
        }
    }
}

fn decide(context: &Context, demand: Demand, what: &str, verdict: Verdict) -> Result<(), Failure> {
    if !verdict.accepted.is_empty() || demand == Demand::Off {
        return Ok(());
    }
    let reasons = match verdict.rejected.is_empty() {
        true => "it has no signature".to_owned(),
        false => verdict.rejected.join("; "),
    };
    let message = format!("{what} is not signed by a trusted key: {reasons}");
    let what = what.to_owned();
    context.record(&match demand {
        Demand::Require => Deed::SignatureRefused {
            what,
            reason: reasons,
        },
        _ => Deed::SignatureMissing {
            what,
            reason: reasons,
        },
    });
    match demand {
        Demand::Require => Err(Failure::verification(message).with_help(
            "\"vmfab key trust\" trusts a key; \"signatures\" in the configuration says what must be signed",
        )),
        _ => {
            context.emit(Event::Warning { message });
            Ok(())
        }
    }
}

impl Evidence {
    /// What a repository has for these digests.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) fn of(repository: &dyn Repository, digests: &[Sha256]) -> Result<Self, Failure> {
        let mut evidence = Self::default();
        for digest in digests {
            attached(repository, digest, SIGNATURE, MAX_SIGNATURE, |text| {
                if let Ok(text) = String::from_utf8(text) {
                    evidence.signatures.push((text, *digest));
                }
            })?;
            let cosign = cosign_signatures(repository, digest, MAX_SIGNATURE)?;
            evidence
                .cosign
                .extend(cosign.into_iter().map(|one| (one, *digest)));
        }
        Ok(evidence)
    }

    /// Which signatures count for a name.
    ///
    /// # Errors
    /// A file of keys cannot be read or is wrong.
    pub(crate) fn verify(&self, context: &Context, name: &str) -> Result<Verdict, Failure> {
        self.verify_with(&trusted(context)?, context, name)
    }

    /// The same, with other keys of OpenSSH's.
    ///
    /// # Errors
    /// See [`verify`](Self::verify).
    pub(crate) fn verify_with(
        &self,
        trusted: &Trusted,
        context: &Context,
        name: &str,
    ) -> Result<Verdict, Failure> {
        let mut verdict = Verdict::default();
        let now = SystemTime::now();
        for (text, digest) in &self.signatures {
            let judged = Signature::parse(text)
                .map_err(|why| format!("one {why}"))
                .and_then(|signature| trusted.judge(&signature, digest, name, now));
            if judged.is_ok() {
                verdict.good.push((text.clone(), *digest));
            }
            verdict.add(judged);
        }
        let keys = &context.config.trust.cosign;
        let keys: Vec<_> = keys.iter().filter(|key| covers(&key.names, name)).collect();
        for key in &keys {
            let public = CosignPublicKey::read(&key.path)?;
            for (signature, digest) in &self.cosign {
                let verified = public.verify(signature, digest);
                verdict.add(verified.map(|()| Accepted {
                    key: key.path.display().to_string(),
                    comment: "cosign".to_owned(),
                }));
            }
        }
        if keys.is_empty() && !self.cosign.is_empty() {
            let message = "no cosign-key in the configuration covers it, and cosign signed it";
            verdict.rejected.push(message.to_owned());
        }
        Ok(verdict)
    }
}

impl Verdict {
    fn add(&mut self, judged: Result<Accepted, String>) {
        match judged {
            Ok(accepted) => self.accepted.push(accepted),
            Err(reason) => self.rejected.push(reason),
        }
    }
}

/// Signatures that were had before: a second plan asks nobody. They are judged each time.
fn kept(context: &Context, digests: &[Sha256]) -> Evidence {
    let mut evidence = Evidence::default();
    for digest in digests {
        let path = context.home.manifests().join(format!("{digest}.sig"));
        if let Ok(text) = file::read_text(&path, MAX_SIGNATURE) {
            evidence.signatures.push((text, *digest));
        }
    }
    evidence
}

/// Keeps one that counts for each digest. What cannot be kept is asked for again.
fn keep(context: &Context, signatures: &[(String, Sha256)]) {
    for (text, digest) in signatures {
        let path = context.home.manifests().join(format!("{digest}.sig"));
        let _ = file::cache(&path, text.as_bytes());
    }
}
