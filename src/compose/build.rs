//! What a service is built of.

use std::collections::BTreeMap;
use std::path::Path;

use super::model::Build;
use super::service::Reading;
use super::yaml::{Node, Value};

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
                    }
                    "target" => build.target = self.notes.text(value, name),
                    "args" => build.args = self.notes.pairs(value, name, self.around.known),
                    "additional_contexts" => build.contexts = self.contexts(value),
                    "dockerfile_inline" => self.notes.wrong(
                        &key.span,
                        "vmfab does not read Dockerfiles in Compose files",
                        "write it into a file, and name that: dockerfile: Dockerfile.web",
                    ),
                    "secrets" | "ssh" => self.notes.wrong(
                        &key.span,
                        format!("vmfab up hands no \"{name}\" to builds"),
                        "build the image first: vmfab build ./Dockerfile --secret id=NAME,src=FILE \
                         --tag @web, and write image: \"@web\"",
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
        if build.context.contains("://") || build.context.starts_with("git@") {
            self.notes.wrong(
                &context_span,
                "vmfab builds from directories only",
                "clone the repository, and name its directory",
            );
            return build;
        }
        let context = self.around.directory.join(&build.context);
        if !self.around.files.is_directory(&context) {
            let message = format!("no directory {} found", build.context);
            let help = "it counts from the directory of this file";
            self.notes.wrong(&context_span, message, help);
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

    fn contexts(&mut self, node: &Node) -> BTreeMap<String, String> {
        let pairs = self.notes.pairs(node, "additional_contexts", &|_| None);
        let mut found = BTreeMap::new();
        for (name, value) in pairs {
            let value = match value.split_once("://") {
                Some(("docker-image", image)) => format!("oci://{image}"),
                Some(("oci-layout", path)) => format!("oci:{path}"),
                Some(_) => {
                    let message = format!("the context \"{name}\" is not one that vmfab reads");
                    let help = "name a directory, docker-image://NAME or oci-layout://DIRECTORY";
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
