//! What a service is built of.

use std::collections::BTreeMap;
use std::path::Path;

use super::include::is_below;
use super::model::Build;
use super::service::Reading;
use super::yaml::{Node, Value};
use crate::host::SecretSource;
use crate::instruction::Repository;

impl Reading<'_> {
    pub(super) fn build(&mut self, node: &Node) -> Build {
        const KNOWN: [&str; 27] = [
            "additional_contexts",
            "args",
            "cache_from",
            "cache_to",
            "context",
            "dockerfile",
            "dockerfile_inline",
            "entitlements",
            "extra_hosts",
            "isolation",
            "labels",
            "network",
            "no_cache",
            "no_cache_filter",
            "platforms",
            "privileged",
            "provenance",
            "pull",
            "sbom",
            "secrets",
            "shm_size",
            "ssh",
            "tags",
            "target",
            "ulimits",
            "cache",
            "name",
        ];
        let mut build = Build {
            context: ".".to_owned(),
            ..Build::default()
        };
        let (mut context_span, mut file_span) = (node.span.clone(), node.span.clone());
        let mut names_file = false;
        let mut dockerfile = "Dockerfile".to_owned();
        if let Value::Map(map) = &node.value {
            self.notes.unknown(map, &KNOWN, "build");
            for (key, value) in map {
                let name = key.value.as_str();
                match name {
                    "context" => {
                        build.context = self.notes.text(value, name).unwrap_or(build.context);
                        context_span = value.span.clone();
                    }
                    "dockerfile" => {
                        dockerfile = self.notes.text(value, name).unwrap_or(dockerfile);
                        file_span = value.span.clone();
                        names_file = true;
                    }
                    "target" => build.target = self.notes.text(value, name),
                    "args" => build.args = self.notes.pairs(value, name, self.around.known),
                    "additional_contexts" => build.contexts = self.contexts(value),
                    "dockerfile_inline" => build.inline = self.notes.text(value, name),
                    "secrets" => self.build_secrets(value),
                    "ssh" => self.notes.warn(
                        &key.span,
                        "builds get the agent that you hand over: vmfab up --ssh-agent",
                    ),
                    "privileged" | "entitlements" | "extra_hosts" | "isolation" => {
                        self.notes.wrong(
                            &key.span,
                            format!("vmfab cannot do what \"{name}\" of build asks for"),
                            "remove it: a step has no rights on the host",
                        );
                    }
                    _ => {}
                }
            }
        } else {
            build.context = self.notes.text(node, "build").unwrap_or(build.context);
        }
        if let Some(repository) = Repository::parse(&build.context) {
            let place = repository.and_then(|_| match build.inline {
                Some(_) => Err("a repository has its own Dockerfile".to_owned()),
                None => of_repository(&build.context, &dockerfile),
            });
            build.context = String::new();
            match place {
                Ok(place) => build.dockerfile = place,
                Err(message) => {
                    let help = "write ADDRESS#REF:DIRECTORY, with the Dockerfile in that directory";
                    self.notes.wrong(&context_span, message, help);
                }
            }
            return build;
        }
        if build.context.contains("://") {
            self.notes.wrong(
                &context_span,
                "vmfab builds from directories and git repositories only",
                "name a directory, or the address of a git repository",
            );
            return build;
        }
        let context = self.around.directory.join(&build.context);
        if !self.around.files.is_directory(&context) {
            let message = format!("no directory {} found", build.context);
            let help = "the path is relative to the directory of this file";
            self.notes.wrong(&context_span, message, help);
            return build;
        }
        if build.inline.is_some() {
            if names_file {
                let message = "the Dockerfile is both a file and text";
                let help = "keep one of dockerfile and dockerfile_inline";
                self.notes.wrong(&file_span, message, help);
            }
            return build;
        }
        let file = Path::new(&build.context).join(&dockerfile);
        if !self
            .around
            .files
            .is_file(&self.around.directory.join(&file))
        {
            let message = format!("no file {} found", file.display());
            let help = "it counts from the context";
            self.notes.wrong(&file_span, message, help);
        }
        let shown = file.display().to_string();
        build.dockerfile = match file.is_absolute() || shown.starts_with('.') {
            true => shown,
            false => format!("./{shown}"),
        };
        build
    }

    /// The secrets of the build.
    fn build_secrets(&mut self, node: &Node) {
        for item in self.notes.list(node, "secrets").to_vec() {
            let name = item.get("source").unwrap_or(&item);
            let Some(source) = self.notes.text(name, "secrets") else {
                continue;
            };
            let id = item.get("target").unwrap_or(name);
            let id = self.notes.text(id, "target").unwrap_or_default();
            let known = self.around.root.get("secrets");
            let Some(known) = known.and_then(|all| all.get(&source)) else {
                let message = format!("no secret \"{source}\" found");
                let help = "name it at the top of the file: secrets: { NAME: { file: ./FILE } }";
                self.notes.wrong(&name.span, message, help);
                continue;
            };
            let secret = match (known.get("file"), known.get("environment")) {
                (Some(file), None) => {
                    let path = self.notes.text(file, "file").unwrap_or_default();
                    if !is_below(&path) {
                        let message = format!("vmfab does not read {path} for a Compose file");
                        let help =
                            format!("give it yourself: vmfab up --secret id={id},src={path}");
                        self.notes.wrong(&file.span, message, help);
                        continue;
                    }
                    SecretSource::File(self.around.directory.join(path))
                }
                (None, Some(name)) => {
                    let name = self.notes.text(name, "environment");
                    SecretSource::Variable(name.unwrap_or_default())
                }
                _ => {
                    let message = format!("vmfab cannot read the secret \"{source}\"");
                    self.notes
                        .wrong(&known.span, message, "write file or environment");
                    continue;
                }
            };
            let other = self.shared.secrets.insert(id.clone(), secret.clone());
            if other.is_some_and(|other| other != secret) {
                let message = format!("two builds have different secrets \"{id}\"");
                self.notes
                    .wrong(&item.span, message, "give them different names");
            }
        }
    }

    fn contexts(&mut self, node: &Node) -> BTreeMap<String, String> {
        let pairs = self.notes.pairs(node, "additional_contexts", &|_| None);
        let mut found = BTreeMap::new();
        for (name, value) in pairs {
            if Repository::parse(&value).is_some() {
                found.insert(name, value);
                continue;
            }
            let value = match value.split_once("://") {
                Some(("docker-image", image)) => format!("oci://{image}"),
                Some(("oci-layout", path)) => format!("oci:{path}"),
                Some(_) => {
                    let message = format!("the context \"{name}\" is not one that vmfab reads");
                    let help = "name a directory, a git repository, docker-image://NAME or \
                                oci-layout://DIRECTORY";
                    self.notes.wrong(&node.span, message, help);
                    continue;
                }
                None if value.starts_with("service:") => {
                    let message = format!("the context \"{name}\" is another service");
                    let help = "write the Dockerfile of that service as a stage of this one";
                    self.notes.wrong(&node.span, message, help);
                    continue;
                }
                None => value,
            };
            found.insert(name, value);
        }
        found
    }
}

/// The address of a Dockerfile in the directory of a git repository that is the context.
fn of_repository(context: &str, file: &str) -> Result<String, String> {
    if file == "Dockerfile" {
        return Ok(context.to_owned());
    }
    if file.contains('/') {
        return Err(format!(
            "{file} is not in the directory that is the context"
        ));
    }
    let (address, fragment) = context.split_once('#').unwrap_or((context, ""));
    let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let place = match directory.trim_matches('/') {
        "" => format!("{address}#{reference}:{file}"),
        directory => format!("{address}#{reference}:{directory}/{file}"),
    };
    match Repository::parse(&place) {
        Some(Err(message)) => Err(message),
        _ => Ok(place),
    }
}
