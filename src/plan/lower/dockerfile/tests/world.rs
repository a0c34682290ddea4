//! A world in which everything is there, and what plans in it look like.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::derivation::{Listed, Listing};
use crate::digest::{Hasher, ObjectId, ObjectRef, Sha256};
use crate::failure::{Failure, Kind};
use crate::image::{ContainerConfig, DiskFormat, ImageConfig, Process};
use crate::instruction::Address;
use crate::plan::{
    self, BlobPlace, Container, ContainerLayer, LocalFiles, Pinned, Plan, Remote, World, WorldError,
};
use crate::recipe::{self, Fetch, Files, Loaded, RegistryImage};

/// Files by their paths.
struct Given(BTreeMap<&'static str, String>);

impl Files for Given {
    fn read(&self, path: &Path) -> io::Result<String> {
        let text = self.0.get(path.to_str().unwrap());
        text.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.contains_key(path.to_str().unwrap()) || self.is_directory(path)
    }

    fn is_directory(&self, path: &Path) -> bool {
        matches!(path.to_str(), Some("." | "src" | ""))
    }
}

/// A registry in which every image is there, and a host on which every file is.
pub(super) struct Everything;

impl World for Everything {
    fn local(&self, files: &LocalFiles) -> Result<Listing, WorldError> {
        let selection = files.selection.as_ref().unwrap();
        let mut listing = Listing::new(None);
        listing.add(&files.path, &Listed::Directory(0o755));
        for path in &selection.include {
            if path.contains("missing") {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            listing.add(Path::new(path), &Listed::Directory(0o755));
        }
        listing.add(Path::new(&selection.ignore), &Listed::Directory(0o755));
        Ok(listing)
    }

    fn tag(&self, _: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError> {
        Ok(None)
    }

    fn disk(&self, _: &Path, _: Option<DiskFormat>) -> Result<(ObjectRef, DiskFormat), WorldError> {
        let id = ObjectId::new(Hasher::new("test").finish());
        Ok((ObjectRef { id, size: 1 << 30 }, DiskFormat::Raw))
    }

    fn pin(&self, fetch: &Fetch) -> Result<Pinned, Failure> {
        assert_eq!(fetch.pin, Some(recipe::Pin::FirstUse));
        Ok(Pinned {
            checksum: Sha256::from_bytes([0x99; 32]).into(),
            size: None,
        })
    }

    fn commit(&self, repository: &Address, reference: &str) -> Result<String, Failure> {
        match reference {
            "none" => Err(Failure::new(
                Kind::Recipe,
                format!("it has no branch or tag \"none\" ({repository})"),
            )),
            "main" => Ok("c".repeat(40)),
            commit => Ok(commit.to_owned()),
        }
    }

    fn remote(&self, image: &RegistryImage, architecture: &str) -> Result<Remote, Failure> {
        let location = &image.location;
        if location.contains("nothing") {
            return Err(Failure::new(Kind::Recipe, "no such image"));
        }
        let digit = if architecture == "x86_64" { 0x11 } else { 0x22 };
        let diff_id = Sha256::from_bytes([digit; 32]);
        let place = BlobPlace {
            name: format!("layer of {location}"),
            repository: location.clone(),
            digest: diff_id,
            size: 1,
        };
        let config: ContainerConfig = serde_json::from_value(serde_json::json!({
            "Env": ["PATH=/base/bin:/bin", "BASE=1"], "Cmd": ["base"], "WorkingDir": "/base",
            "OnBuild": match location.contains("onbuild") {
                true => vec!["ARG FROM_BASE=yes", "RUN echo $FROM_BASE"],
                false => Vec::new(),
            },
        }))
        .unwrap();
        Ok(Remote::Container(Container {
            layers: vec![ContainerLayer { diff_id, place }],
            config: Box::new(config),
            author: None,
            history: Vec::new(),
            digest: Some(Sha256::from_bytes([0x33; 32])),
        }))
    }

    fn architecture(&self) -> &str {
        "x86_64"
    }
}

pub(super) fn loaded(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Loaded {
    let files = Given(BTreeMap::from([("Dockerfile", text.to_owned())]));
    let args = args.iter();
    let args = args.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let given = recipe::Given {
        target: target.map(str::to_owned),
        args: args.collect(),
        ..recipe::Given::default()
    };
    let path = Path::new("Dockerfile");
    recipe::load_dockerfile(path, Path::new("/home/web/Dockerfile"), &files, &given).unwrap()
}

pub(super) fn planned(
    text: &str,
    target: Option<&str>,
    args: &[(&str, &str)],
) -> Result<Plan, Failure> {
    plan::plan(
        &loaded(text, target, args),
        None,
        &Everything,
        "x86_64",
        &Process::default(),
    )
}

/// The steps of a plan up to the first of those that make an image of the tree, with the parameters
/// of those that Dockerfiles have.
pub(super) fn steps(plan: &Plan) -> String {
    let mut text = String::new();
    for (index, node) in plan.graph.nodes().iter().enumerate() {
        if node.name.ends_with(": bootable") {
            break;
        }
        let inputs: Vec<String> = node
            .inputs
            .iter()
            .map(|input| format!("{}={}", input.role, input.node.index()))
            .collect();
        text.push_str(&format!("{index} {} [{}]\n", node.name, inputs.join(" ")));
        if matches!(
            node.builder.as_str(),
            "exec" | "add" | "workdir" | "env" | "git"
        ) {
            let shown = shown(&node.params);
            text.push_str(&format!("    {} {shown}\n", node.builder));
        }
    }
    text
}

/// Parameters without what is usual.
fn shown(params: &Value) -> String {
    let mut params = params.clone();
    if let Some(env) = params.get_mut("env").and_then(Value::as_object_mut) {
        env.remove("PATH");
        env.remove("BASE");
    }
    let map = params.as_object_mut().unwrap();
    map.retain(|_, value| !value.is_null() && *value != serde_json::json!({}));
    params.to_string()
}

pub(super) fn lowered(text: &str) -> String {
    steps(&planned(text, None, &[]).unwrap())
}
