//! Files by docker's rules.

use std::fs::{self, File};

use super::beside::Trees;
use super::local;
use super::sources::Sources;
use crate::derivation::{BuildRequest, Builder, Outputs, Step, file_time};
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::instruction::{AddSource, Origin};
use crate::sandbox::{AddFiles, Job, Lent, Put, Runner, Sandbox, Task};

/// Permission bits of a file with content from a Dockerfile, and of one from a URL.
const CONTENT_MODE: u32 = 0o644;
const FETCHED_MODE: u32 = 0o600;

pub(super) struct Add {
    pub(super) sandbox: Sandbox,
    pub(super) sources: Sources,
}

impl Builder for Add {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Add(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let scratch = self.sandbox.scratch()?;
        let mut trees = Trees::new(request, &self.sources, &scratch);
        let mut sources = Vec::new();
        for (index, source) in params.sources.iter().enumerate() {
            let name_of_file = format!("source-{index}");
            let file = scratch.path().join(&name_of_file);
            sources.push(match source {
                AddSource::Path { from, path, unpack } => Put::Path {
                    tree: trees.shared(from)?,
                    path: path.clone(),
                    unpack: *unpack,
                },
                AddSource::Content { name, content } => {
                    fs::write(&file, content).map_err(Failure::step_io("write", &file))?;
                    let digest = local::hash(content.as_bytes()).map_err(Failure::of_step)?;
                    Put::File {
                        file: name_of_file.into(),
                        name: name.clone(),
                        mode: CONTENT_MODE,
                        time: file_time(params.time, &digest),
                        unpack: false,
                    }
                }
                AddSource::Fetched {
                    input,
                    name,
                    unpack,
                } => {
                    let object = request.inputs_of(input).next();
                    let object = object.ok_or_else(|| super::wrong_kind(request))?;
                    self.sandbox.write_object(&object, &file)?;
                    let digest = File::open(&file)
                        .and_then(local::hash)
                        .map_err(Failure::step_io("read", &file))?;
                    Put::File {
                        file: name_of_file.into(),
                        name: name.clone(),
                        mode: FETCHED_MODE,
                        time: file_time(params.time, &digest),
                        unpack: *unpack,
                    }
                }
            });
        }
        let mut layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let names = match params.link && !layers.is_empty() {
            true => Some(trees.own(&Origin::Layers("layer".to_owned()))?),
            false => None,
        };
        if params.link {
            layers.clear();
        }
        let task = Task::Add(AddFiles {
            sources,
            destination: params.destination,
            owner: params.owner,
            names,
            mode: params.mode,
            parents: params.parents,
            keep_paths: params.keep_paths,
            whole: params.whole,
            exclude: params.exclude,
        });
        let lent = Lent {
            local: trees.local,
            ..Lent::default()
        };
        let job = Job {
            beside: trees.list,
            ..Job::layer(&layers, vec![task], false)
        };
        let layer = self.sandbox.layer(job, &lent, &scratch, request)?;
        Ok(Outputs::from([("layer".to_owned(), layer)]))
    }
}
