//! How an image was made: kept when it is built, and told as a statement of in-toto's with a
//! provenance of SLSA's (<https://slsa.dev/spec/v1.0/provenance>).
//!
//! One JSON file for each image below `log/provenance`. What only this host needs, to build it
//! again, is beside the predicate and not in it: a statement has no path of this host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::build::BuildOptions;
use super::build_record::RecordedStep;
use super::{Context, images};
use crate::derivation::{Outputs, Step, resolve_inputs};
use crate::digest::{Checksum, ObjectId, Sha256};
use crate::failure::{Failure, Kind};
use crate::host::file;
use crate::html::harmless_json;
use crate::plan::{BlobPlace, Plan};
use crate::text::without_logins;

/// The predicate type.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// What an in-toto statement says that it is.
pub(super) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What external parameters and steps mean: docs/provenance.md.
const BUILD_TYPE: &str = "urn:vmfab:build:v1";
/// Who built: vmfab on a host of the user's.
const BUILDER: &str = "urn:vmfab:builder:local";

/// What is kept of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The recipe's file on this host, or the name of one that comes with vmfab.
    pub(super) recipe: String,
    /// What the build was told beside parameters that cannot be told again; empty when it was told
    /// nothing of that kind.
    pub(super) untold: Vec<String>,
    pub(super) predicate: Value,
}

/// What is needed to keep how an image was made.
pub(super) struct Made<'a> {
    pub(super) options: &'a BuildOptions,
    pub(super) plan: &'a Plan,
    /// Of each step, by index.
    pub(super) outputs: &'a [Option<Outputs>],
    pub(super) started: SystemTime,
}

impl Made<'_> {
    /// Keeps how an image was made. What cannot be written is not known later, and no more.
    pub(super) fn keep(&self, context: &Context, image: &ObjectId) {
        let kept = Kept {
            recipe: self.options.choice.path().display().to_string(),
            untold: self.untold(),
            predicate: self.predicate(),
        };
        let _ = serde_json::to_vec(&kept)
            .map_err(io::Error::from)
            .and_then(|bytes| file::cache(&path(context, image), &bytes));
    }

    fn untold(&self) -> Vec<String> {
        let choice = &self.options.choice;
        let told = [
            (!choice.contexts.is_empty(), "build contexts"),
            (choice.process != Default::default(), "another process"),
            (choice.generic, "another base"),
        ];
        let told = told.into_iter().filter(|(is, _)| *is);
        told.map(|(_, what)| what.to_owned()).collect()
    }

    fn predicate(&self) -> Value {
        let choice = &self.options.choice;
        let recipe = choice.path();
        let time = |time| humantime::format_rfc3339_seconds(time).to_string();
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": file_name(&recipe),
                    "image": self.plan.image_name,
                    "architecture": *self.plan.template.architecture,
                    "parameters": choice.settings,
                    "contexts": choice.contexts.keys().collect::<Vec<_>>(),
                    "service": !choice.no_service,
                },
                "internalParameters": { "steps": self.steps() },
                "resolvedDependencies": self.dependencies(),
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": { "vmfab": env!("CARGO_PKG_VERSION") },
                },
                "metadata": {
                    "startedOn": time(self.started),
                    "finishedOn": time(SystemTime::now()),
                },
            },
        })
    }

    /// The steps: what went into each and came out of it, by digest. Parameters are in the action
    /// key, and not here: they may have paths of this host.
    fn steps(&self) -> Vec<Value> {
        let nodes = self.plan.graph.nodes().iter().zip(self.outputs);
        let steps = nodes.filter_map(|(derivation, outputs)| {
            let made = |node: crate::derivation::NodeId| self.outputs[node.index()].as_ref();
            let inputs = resolve_inputs(derivation, made)?;
            let step = RecordedStep::new(derivation, &inputs);
            Some(json!({
                "name": self.label(&step),
                "builder": { "id": step.builder, "version": step.version },
                "action": step.key().to_string(),
                "inputs": step.inputs.iter()
                    .map(|(role, id)| json!({ "role": role, "object": id }))
                    .collect::<Vec<_>>(),
                "outputs": outputs.iter().flatten()
                    .map(|(name, object)| (name.clone(), object.id.to_string()))
                    .collect::<BTreeMap<_, _>>(),
            }))
        });
        steps.collect()
    }

    /// The label of a step without paths of this host: that of the recipe's directory, and those of
    /// local files elsewhere.
    fn label(&self, step: &RecordedStep) -> String {
        let mut label = without_logins(&step.name);
        let recipe = &self.options.choice.recipe;
        for recipe in [self.options.choice.path().as_path(), Path::new(recipe)] {
            if let Some(directory) = recipe.parent().filter(|path| path.is_absolute()) {
                label = label.replace(&format!("{}/", directory.display()), "");
            }
        }
        if !matches!(step.builder.as_str(), "local" | "object") {
            return label;
        }
        let words = label.split(' ').map(|word| match word.starts_with('/') {
            true => file_name(Path::new(word)),
            false => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// What came from outside, with digests.
    fn dependencies(&self) -> Vec<Value> {
        let plan = self.plan;
        let mut all = Vec::new();
        for path in &plan.recipes {
            let digest = fs::read(path).map(|text| Sha256::of(&text).to_string());
            let digest = digest.map_or(json!({}), |hex| json!({ "sha256": hex }));
            all.push(json!({ "name": file_name(path), "digest": digest }));
        }
        if plan.recipes.is_empty() {
            let name = file_name(&self.options.choice.path());
            let version = env!("CARGO_PKG_VERSION");
            all.push(json!({ "name": name, "uri": format!("urn:vmfab:recipe:{version}:{name}") }));
        }
        for (checksum, place) in &plan.places {
            let url = place.urls.first().filter(|url| !url.starts_with("file:"));
            let mut one = json!({ "name": place.name(), "digest": digest_set(checksum) });
            if let Some(url) = url.filter(|url| url.contains("://")) {
                one["uri"] = without_logins(url).into();
            }
            all.push(one);
        }
        all.extend(plan.blobs.values().map(blob));
        all.extend(plan.artifacts.values().map(blob));
        all.extend(plan.graph.nodes().iter().filter_map(|derivation| {
            match Step::from_parts(&derivation.builder, &derivation.params).ok()? {
                Step::Git(git) => Some(json!({
                    "uri": format!("git+{}", without_logins(&git.repository)),
                    "digest": { "gitCommit": git.commit },
                })),
                Step::Local(local) => Some(json!({
                    "name": "local files",
                    "digest": { "vmfabTree": local.tree },
                })),
                Step::Object(object) => Some(json!({
                    "name": "object of the store",
                    "digest": { "vmfabObject": object.id },
                })),
                _ => None,
            }
        }));
        for set in plan.locked.values() {
            all.extend(set.packages.iter().map(|package| {
                let mut one = json!({
                    "name": format!("{} {} {}", package.name, package.version, package.architecture),
                    "digest": { "sha256": package.sha256 },
                });
                if let Some(url) = set.url(package) {
                    one["uri"] = without_logins(&url).into();
                }
                one
            }));
        }
        all.dedup();
        all
    }
}

fn blob(place: &BlobPlace) -> Value {
    let mut one = json!({ "digest": { "sha256": place.digest } });
    match place.is_local() {
        true => one["name"] = "blob of a local layout".into(),
        false => one["uri"] = without_logins(&place.address()).into(),
    }
    one
}

fn digest_set(checksum: &Checksum) -> Value {
    let text = checksum.to_string();
    let (algorithm, hex) = text.split_once(':').unwrap_or_default();
    json!({ algorithm: hex })
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn path(context: &Context, image: &ObjectId) -> PathBuf {
    let directory = context.home.provenance();
    directory.join(format!("{image}.json"))
}

/// Whether it is known how an image was made.
pub(super) fn is_known(context: &Context, image: &ObjectId) -> bool {
    path(context, image).exists()
}

/// Forgets how images were made for which `gone` holds.
pub(super) fn sweep(context: &Context, gone: impl Fn(&ObjectId) -> bool) {
    let entries = fs::read_dir(context.home.provenance());
    for path in entries.into_iter().flatten().flatten().map(|e| e.path()) {
        let image = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        if image.is_some_and(|image| gone(&image)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What is kept of the build of an image.
///
/// # Errors
/// Nothing is.
pub(super) fn kept(context: &Context, found: &images::FoundImage) -> Result<Kept, Failure> {
    let bytes = fs::read(path(context, &found.image));
    let kept = bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    kept.ok_or_else(|| {
        let name = found.display_name();
        let message = format!("no build on this host says how {name} was made");
        Failure::new(Kind::NotFound, message).with_help(
            "\"vmfab image provenance REF --attached\" shows what was pushed with an image; \
             \"vmfab build RECIPE --rebuild\" builds it anew",
        )
    })
}

/// A statement about an image.
#[must_use]
pub(super) fn statement(name: &str, digest: &Value, kind: &str, predicate: &Value) -> Value {
    json!({
        "_type": STATEMENT,
        "subject": [{ "name": name, "digest": digest }],
        "predicateType": kind,
        "predicate": predicate,
    })
}

/// How an image was made, as a document: a statement of in-toto's.
///
/// # Errors
/// There is no such image, or nothing says how it was made.
pub fn provenance(context: &Context, image: &str) -> Result<String, Failure> {
    let found = images::find(context, image)?;
    let kept = kept(context, &found)?;
    let digest = json!({ "vmfabObject": found.image });
    let name = &found.config.template.name;
    let statement = statement(name, &digest, PROVENANCE, &kept.predicate);
    Ok(document(&statement))
}

/// A document as it is printed.
pub(super) fn document(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    harmless_json(&text) + "\n"
}
