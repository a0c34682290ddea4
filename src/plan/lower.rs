//! From an image of a recipe to the steps of a graph.
//!
//! The steps of the base come first, then those of the image itself: each reads all layers below it
//! and gives one layer. After them comes one `system` step; then the disk and, beside it, the
//! checks, those of the base too; then the image, which waits for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::settings::Settings;
use super::{Plan, PlanError, World, label};
use crate::derivation::step::{self, Step};
use crate::derivation::{Graph, Input, NodeId};
use crate::digest::Digest;
use crate::host::Program;
use crate::image::{FilesystemRef, ImageConfig, ImageTemplate, KernelFiles, RecipeRef};
use crate::recipe::{
    Base, Bootstrap, Content, Image, Instruction, Limits, Packages, Problem, Run, Spanned,
};

/// Permission bits of a file with inline content when the recipe gives none.
const FILE_MODE: u32 = 0o644;

/// Lowers one image.
pub(super) fn lower(
    image: &Image,
    world: &dyn World,
    architecture: &str,
) -> Result<Plan, PlanError> {
    let mut chain = vec![image];
    while let Base::Image(base) = &chain[chain.len() - 1].base {
        chain.push(base);
    }
    chain.reverse();
    let mut lowering = Lowering {
        world,
        architecture,
        graph: Graph::new(),
        layers: Vec::new(),
        env: BTreeMap::new(),
        locals: BTreeMap::new(),
        local_nodes: BTreeMap::new(),
        programs: BTreeSet::from([Program::Bwrap, Program::Mke2fs]),
    };
    let mut settings = lowering.base(chain[0])?;
    let mut checks = Vec::new();
    for image in &chain {
        settings.apply(image);
        let merged = merged_packages(image).count();
        for instruction in &image.instructions[merged..] {
            lowering.instruction(image, instruction)?;
        }
        for check in &image.checks {
            checks.push((label::script("check", check), &image.name.value, check));
        }
    }
    lowering.finish(image, &settings, &checks)
}

/// The `packages` nodes that come with the bootstrap: the first ones after it, without options.
fn merged_packages(image: &Image) -> impl Iterator<Item = &Packages> {
    let from_bootstrap = matches!(image.base, Base::Bootstrap(_));
    image
        .instructions
        .iter()
        .map_while(move |instruction| match instruction {
            Instruction::Packages(packages)
                if from_bootstrap
                    && !packages.recommends
                    && packages.limits == Limits::default() =>
            {
                Some(packages)
            }
            _ => None,
        })
}

/// A step's output that is a layer.
struct Layer {
    node: NodeId,
    output: &'static str,
}

struct Lowering<'a> {
    world: &'a dyn World,
    architecture: &'a str,
    graph: Graph,
    layers: Vec<Layer>,
    /// The variables that hold at this point.
    env: BTreeMap<String, String>,
    locals: BTreeMap<Digest, PathBuf>,
    local_nodes: BTreeMap<Digest, NodeId>,
    programs: BTreeSet<Program>,
}

impl Lowering<'_> {
    /// All layers so far, lowest first.
    fn layer_inputs(&self) -> Vec<Input> {
        self.layers
            .iter()
            .map(|layer| Input {
                role: "layer".to_owned(),
                node: layer.node,
                output: layer.output.to_owned(),
            })
            .collect()
    }

    /// Adds a step that reads all layers so far, and more, and gives the next layer.
    fn layer(&mut self, name: String, step: &Step, more: Vec<Input>) -> Result<(), PlanError> {
        let mut inputs = self.layer_inputs();
        inputs.extend(more);
        let node = self.graph.add_step(name, step, inputs)?;
        self.layers.push(Layer {
            node,
            output: "layer",
        });
        Ok(())
    }

    /// The lowest layers, and the settings that they come with.
    fn base(&mut self, image: &Image) -> Result<Settings, PlanError> {
        match &image.base {
            Base::Bootstrap(bootstrap) => {
                self.bootstrap(image, bootstrap)?;
                Ok(Settings::new())
            }
            Base::Tag(tag) => {
                let config = self.tagged(tag)?;
                // The last layer is of the `system` step, which is made anew for this image.
                let count = config.layers.len() - 1;
                for (index, object) in config.layers[..count].iter().enumerate() {
                    let step = Step::Object(step::Object {
                        id: object.id,
                        size: object.size,
                    });
                    let name = format!("@{}: layer {} of {count}", tag.value, index + 1);
                    let node = self.graph.add_step(name, &step, Vec::new())?;
                    self.layers.push(Layer {
                        node,
                        output: "object",
                    });
                }
                self.env.clone_from(&config.template.env);
                Ok(Settings::of_config(&config))
            }
            Base::Image(_) => unreachable!("the first of a chain has no image as its base"),
        }
    }

    fn bootstrap(&mut self, image: &Image, bootstrap: &Bootstrap) -> Result<(), PlanError> {
        self.programs.insert(Program::Mmdebstrap);
        let mut packages: Vec<String> = Vec::new();
        for name in merged_packages(image).flat_map(|packages| &packages.names) {
            if !packages.contains(name) {
                packages.push(name.clone());
            }
        }
        let step = Step::Bootstrap(step::Bootstrap {
            distribution: bootstrap.distribution.clone(),
            suite: bootstrap.suite.clone(),
            components: bootstrap.components.clone(),
            architecture: debian_architecture(self.architecture)?.to_owned(),
            mirror: bootstrap.mirror.clone(),
            keyring: bootstrap.keyring.clone(),
            packages,
        });
        let name = format!(
            "{}: bootstrap {} {}",
            image.name.value, bootstrap.distribution, bootstrap.suite
        );
        self.layer(name, &step, Vec::new())
    }

    fn tagged(&self, tag: &Spanned<String>) -> Result<ImageConfig, PlanError> {
        let name = &tag.value;
        let problem = match self.world.tag(name) {
            Err(error) => Problem::new(
                &tag.span,
                format!("cannot look up @{name}: {error}"),
                "asked here",
            ),
            Ok(None) => Problem::new(&tag.span, format!("there is no tag @{name}"), "not found")
                .with_help(format!(
                    "\"vmfab images\" lists the tags; \"vmfab build … --tag @{name}\" makes it"
                )),
            Ok(Some((_, config))) => {
                let architecture = &config.template.architecture;
                if config.layers.is_empty() {
                    let message = format!("@{name} has no layers that more could be put on");
                    Problem::new(&tag.span, message, "made from a finished disk")
                        .with_help("start from an image that vmfab built from a tree")
                } else if architecture != self.architecture {
                    let message = format!(
                        "@{name} is for {architecture}, not for {}",
                        self.architecture
                    );
                    Problem::new(&tag.span, message, "another architecture")
                        .with_help("start from an image of the same architecture")
                } else {
                    return Ok(config);
                }
            }
        };
        Err(problem.into())
    }

    fn instruction(&mut self, image: &Image, instruction: &Instruction) -> Result<(), PlanError> {
        let mut more = Vec::new();
        let step = match instruction {
            Instruction::Packages(packages) => Step::Packages(step::Packages {
                names: packages.names.clone(),
                recommends: packages.recommends,
                limits: limits(&packages.limits),
            }),
            Instruction::Run(run) => Step::Run(self.script(run)),
            Instruction::File(file) => match &file.content {
                Content::Inline(content) => Step::File(step::File {
                    path: file.path.clone(),
                    content: content.clone(),
                    mode: file.mode.unwrap_or(FILE_MODE),
                    owner: file.owner.clone(),
                }),
                Content::Local(source) => {
                    more.push(self.local(image, source)?);
                    Step::Copy(step::Copy {
                        destination: file.path.clone(),
                        mode: file.mode,
                        owner: file.owner.clone(),
                    })
                }
            },
            Instruction::Copy(copy) => {
                more.push(self.local(image, &copy.source)?);
                Step::Copy(step::Copy {
                    destination: copy.destination.clone(),
                    mode: copy.mode,
                    owner: copy.owner.clone(),
                })
            }
            Instruction::User(user) => Step::User(step::User {
                name: user.name.clone(),
                groups: user.groups.clone(),
                sudo: user.sudo,
                shell: user.shell.clone(),
                uid: user.uid,
                password_hash: user.password_hash.clone(),
                authorized_keys: user.authorized_keys.clone(),
            }),
            Instruction::Env(variables) => {
                self.env.extend(variables.clone());
                Step::Env(step::Env {
                    variables: self.env.clone(),
                })
            }
            Instruction::Hostname(name) => Step::Hostname(step::Hostname {
                name: name.value.clone(),
            }),
            Instruction::Service(service) => Step::Service(step::Service {
                name: service.name.clone(),
                enable: service.enable,
            }),
        };
        let name = format!("{}: {}", image.name.value, label::instruction(instruction));
        self.layer(name, &step, more)
    }

    /// The step of a script; the environment of the image holds in it.
    fn script(&self, run: &Run) -> step::Run {
        let mut env = self.env.clone();
        env.extend(run.env.clone());
        step::Run {
            command: run.command.value.clone(),
            shell: run.shell.clone(),
            env,
            workdir: run.workdir.clone(),
            network: run.network,
            limits: limits(&run.limits),
        }
    }

    /// Local files as an input; the same content is one step.
    fn local(&mut self, image: &Image, source: &Spanned<PathBuf>) -> Result<Input, PlanError> {
        let path: &Path = &source.value;
        let tree = self.world.local(path).map_err(|error| {
            let message = format!("cannot read {}: {error}", path.display());
            Problem::new(&source.span, message, "not readable")
                .with_help("check that you may read it and all that is in it")
        })?;
        let node = match self.local_nodes.get(&tree) {
            Some(node) => *node,
            None => {
                let name = format!("{}: local {}", image.name.value, path.display());
                let step = Step::Local(step::Local { tree });
                self.graph.add_step(name, &step, Vec::new())?
            }
        };
        self.local_nodes.insert(tree, node);
        self.locals.insert(tree, path.to_owned());
        Ok(Input {
            role: "source".to_owned(),
            node,
            output: "source".to_owned(),
        })
    }

    fn finish(
        mut self,
        image: &Image,
        settings: &Settings,
        checks: &[(String, &String, &Run)],
    ) -> Result<Plan, PlanError> {
        let own = &image.name.value;
        let system = Step::System(step::System {
            label: settings.label.clone(),
            filesystem: settings.filesystem.clone(),
            uefi: settings.uefi,
            hostname: match &settings.hostname {
                Some(name) => name.clone(),
                None => hostname_from(own),
            },
        });
        self.layer(format!("{own}: system"), &system, Vec::new())?;

        let layers = self.layer_inputs();
        let boot = settings.boot_profile(self.architecture)?;
        let disk = Step::Disk(step::Disk {
            size: settings.size,
            filesystem: settings.filesystem.clone(),
            label: settings.label.clone(),
            uefi: settings.uefi,
            kernel: settings.kernel.as_ref().map(|kernel| kernel.path.clone()),
            initrd: settings
                .kernel
                .as_ref()
                .and_then(|kernel| kernel.initrd.clone()),
            command_line: settings.command_line_without_root(self.architecture),
        });
        let name = format!("{own}: disk {}", label::size(settings.size));
        let disk = self.graph.add_step(name, &disk, layers.clone())?;

        let mut inputs = layers.clone();
        inputs.extend(["disk", "kernel", "initrd"].map(|output| Input {
            role: output.to_owned(),
            node: disk,
            output: output.to_owned(),
        }));
        for (text, image, check) in checks {
            let step = Step::Check(self.script(check));
            let name = format!("{image}: {text}");
            let node = self.graph.add_step(name, &step, layers.clone())?;
            inputs.push(Input {
                role: "check".to_owned(),
                node,
                output: "ok".to_owned(),
            });
        }

        let template = ImageTemplate {
            name: own.clone(),
            recipe: RecipeRef {
                name: image.recipe.name.clone(),
                version: image.recipe.version.clone(),
            },
            description: image.recipe.description.clone(),
            metadata: image.recipe.metadata.clone(),
            architecture: self.architecture.to_owned(),
            boot,
            filesystem: FilesystemRef {
                kind: settings.filesystem.clone(),
                label: settings.label.clone(),
            },
            ssh_user: settings.ssh_user(),
            users: settings.homes(),
            ports: settings.ports.clone(),
            env: self.env,
            hostname: settings.hostname.clone(),
            kernel: settings.kernel.as_ref().map(|kernel| KernelFiles {
                path: kernel.path.clone(),
                initrd: kernel.initrd.clone(),
            }),
        };
        let step = Step::Image(Box::new(step::Image {
            template: serde_json::to_value(&template).map_err(PlanError::Template)?,
        }));
        let node = self
            .graph
            .add_step(format!("{own}: image"), &step, inputs)?;
        Ok(Plan {
            graph: self.graph,
            image: node,
            image_name: own.clone(),
            template,
            locals: self.locals,
            programs: self.programs,
        })
    }
}

fn limits(limits: &Limits) -> step::Limits {
    step::Limits {
        seconds: limits.seconds,
        memory: limits.memory,
        processes: limits.processes,
    }
}

/// A host name made from an image's name, which may hold what host names may not.
fn hostname_from(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    name.trim_matches('-').to_lowercase()
}

/// Debian's name of an architecture.
pub(super) fn debian_architecture(architecture: &str) -> Result<&'static str, PlanError> {
    match architecture {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(PlanError::Architecture(other.to_owned())),
    }
}
