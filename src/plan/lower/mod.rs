//! From an image of a recipe to the steps of a graph.
//!
//! The steps of the base come first, then those of the image itself; at the end the image, which
//! waits for the checks, those of the base too. What the steps are done to decides how they are done:
//!
//! | base | in | each step gives | at the end |
//! |---|---|---|---|
//! | a tree: bootstrap, a tar, a container image, an image made from one | `tree.rs` | a layer over all layers below it | `system`, then the disk |
//! | a disk that was made elsewhere | `disk.rs` | the disk with its change, from inside a booted machine | `finish`, when there are steps |

mod disk;
mod outside;
mod remote;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::settings::Settings;
use super::{BlobPlace, LocalFiles, Place, Plan, PlanError, World, fit, label};
use crate::checked::{Line, Text};
use crate::derivation::step::{self, Step};
use crate::derivation::{Graph, Input, NodeId};
use crate::digest::{Digest, ObjectId};
use crate::host::Program;
use crate::image::{FilesystemRef, ImageConfig, ImageTemplate, KernelFiles, RecipeRef};
use crate::instruction::Run;
use crate::recipe::{
    Base, Content, Image, Instruction, Kernel, Problem, Span, Spanned, unfit_for_logins,
};

/// Permission bits of a file with content from the recipe or from outside when the recipe gives none.
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
        env: BTreeMap::new(),
        locals: BTreeMap::new(),
        local_nodes: BTreeMap::new(),
        places: BTreeMap::new(),
        blobs: BTreeMap::new(),
        artifacts: BTreeMap::new(),
        labels: BTreeMap::new(),
        fetch_nodes: BTreeMap::new(),
        programs: BTreeSet::new(),
    };
    let (mut trunk, mut settings) = lowering.base(chain[0])?;
    for image in &chain {
        settings.apply(image);
    }
    if let Trunk::Disk(disk) = &mut trunk {
        lowering.prepare(disk, &settings)?;
    }
    let mut checks = Vec::new();
    for image in &chain {
        let merged = match trunk {
            Trunk::Tree(_) => tree::merged_packages(image).count(),
            Trunk::Disk(_) => 0,
        };
        for instruction in &image.instructions[merged..] {
            lowering.instruction(&mut trunk, image, instruction)?;
        }
        for check in &image.checks {
            let name = format!("{}: {}", image.name.value, label::script("check", check));
            checks.push((name, check));
        }
    }
    // In all of them the environment of the finished image holds.
    let checks = checks
        .into_iter()
        .map(|(name, check)| (name, lowering.script(check)))
        .collect();
    let made = match trunk {
        Trunk::Tree(tree) => lowering.finish_tree(image, tree, &settings, checks)?,
        Trunk::Disk(disk) => lowering.finish_disk(image, *disk, checks)?,
    };
    lowering.image(image, &settings, made)
}

/// What steps are done to.
enum Trunk {
    Tree(tree::Tree),
    Disk(Box<disk::Disk>),
}

/// What the image step reads: layers, `disk`, `kernel`, `initrd`, checks.
struct Made {
    inputs: Vec<Input>,
    /// The file system of a disk that is made from a tree.
    filesystem: Option<FilesystemRef>,
}

struct Lowering<'a> {
    world: &'a dyn World,
    architecture: &'a str,
    graph: Graph,
    /// The variables that hold at this point.
    env: BTreeMap<String, String>,
    locals: BTreeMap<Digest, LocalFiles>,
    local_nodes: BTreeMap<Digest, NodeId>,
    places: BTreeMap<String, Place>,
    blobs: BTreeMap<String, BlobPlace>,
    artifacts: BTreeMap<ObjectId, BlobPlace>,
    /// What the container image says that the image starts from.
    labels: BTreeMap<String, String>,
    fetch_nodes: BTreeMap<String, NodeId>,
    programs: BTreeSet<Program>,
}

impl Lowering<'_> {
    /// What the steps of an image with this base are done to, and the settings that it comes with.
    fn base(&mut self, image: &Image) -> Result<(Trunk, Settings), PlanError> {
        let own = &image.name.value;
        Ok(match &image.base {
            Base::Bootstrap(bootstrap) => {
                let tree = self.bootstrap(image, bootstrap)?;
                (Trunk::Tree(tree), Settings::new())
            }
            Base::Layer(fetched) => {
                let mut tree = tree::Tree::default();
                self.unpacked(&mut tree, own, fetched)?;
                (Trunk::Tree(tree), Settings::new())
            }
            Base::Tag(tag) => {
                let config = self.tagged(tag)?;
                self.stored(&format!("@{}", tag.value), &config)?
            }
            Base::Registry(image) => self.registry(own, image)?,
            Base::Disk(fetched) => {
                let disk = self.fetched_disk(own, fetched)?;
                (Trunk::Disk(Box::new(disk)), Settings::foreign())
            }
            Base::DiskFile(path) => {
                let disk = self.local_disk(own, path)?;
                (Trunk::Disk(Box::new(disk)), Settings::foreign())
            }
            Base::Image(_) => unreachable!("the first of a chain has no image as its base"),
        })
    }

    /// What the steps are done to that start from an image in the store, which `name` names for people.
    fn stored(&mut self, name: &str, config: &ImageConfig) -> Result<(Trunk, Settings), PlanError> {
        let env = config.template.env.iter();
        let env = env.map(|(name, value)| (name.to_string(), value.to_string()));
        // The config may come from anywhere.
        self.env = env
            .filter(|(_, value)| unfit_for_logins(value).is_none())
            .collect();
        let trunk = match config.layers.is_empty() {
            false => Trunk::Tree(self.stored_tree(name, config)?),
            true => Trunk::Disk(Box::new(self.stored_disk(name, config)?)),
        };
        Ok((trunk, Settings::of_config(config)))
    }

    fn tagged(&self, tag: &Spanned<String>) -> Result<ImageConfig, PlanError> {
        let name = &tag.value;
        let problem = match self.world.tag(name) {
            Err(error) => Problem::new(
                &tag.span,
                format!("cannot look up @{name}: {error}"),
                "named here",
            ),
            Ok(None) => Problem::new(&tag.span, format!("no tag @{name} found"), "not found")
                .with_help(format!(
                    "\"vmfab images\" lists the tags; \"vmfab build … --tag @{name}\" creates it"
                )),
            Ok(Some((_, config))) => {
                self.check_architecture(&format!("@{name}"), &config, &tag.span)?;
                return Ok(config);
            }
        };
        Err(problem.into())
    }

    fn check_architecture(
        &self,
        name: &str,
        config: &ImageConfig,
        span: &Span,
    ) -> Result<(), PlanError> {
        let architecture = &config.template.architecture;
        if *architecture == self.architecture {
            return Ok(());
        }
        let message = format!(
            "{name} is for {architecture}, not for {}",
            self.architecture
        );
        let problem = Problem::new(span, message, "another architecture");
        Err(problem
            .with_help("start from an image of the same architecture")
            .into())
    }

    fn instruction(
        &mut self,
        trunk: &mut Trunk,
        image: &Image,
        instruction: &Instruction,
    ) -> Result<(), PlanError> {
        let name = format!("{}: {}", image.name.value, label::instruction(instruction));
        if let Instruction::Layer(fetched) = instruction {
            return match trunk {
                Trunk::Tree(tree) => self.unpacked(tree, &image.name.value, fetched),
                Trunk::Disk(disk) => self.unpack_in_guest(disk, &image.name.value, name, fetched),
            };
        }
        let (step, more) = self.step(image, instruction)?;
        match trunk {
            Trunk::Tree(tree) => self.layer(tree, name, &step, more),
            Trunk::Disk(disk) => self.guest(disk, name, step, more),
        }
    }

    /// The step of an instruction as it is done to a tree, and what it reads besides.
    fn step(
        &mut self,
        image: &Image,
        instruction: &Instruction,
    ) -> Result<(Step, Vec<Input>), PlanError> {
        let mut more = Vec::new();
        let own = &image.name.value;
        let step = match instruction {
            Instruction::Packages(packages) => Step::Packages(step::Packages {
                wanted: packages.clone(),
                locked: None,
            }),
            Instruction::Run(run) => Step::Run(self.script(run)),
            Instruction::File(file) => match &file.content {
                Content::Inline(content) => Step::File(step::File {
                    path: file.path.clone(),
                    content: content.clone(),
                    mode: file.mode.unwrap_or(FILE_MODE),
                    owner: file.owner.clone(),
                    time: self.world.file_time(),
                }),
                Content::Local(source) => {
                    more.push(self.local(image, source, &[])?);
                    Step::Copy(step::Copy {
                        destination: file.path.clone(),
                        mode: file.mode,
                        owner: file.owner.clone(),
                    })
                }
                Content::Fetched(fetched) => {
                    let blob = self.fetched(own, fetched)?;
                    more.push(self.packed(own, blob)?);
                    Step::Copy(step::Copy {
                        destination: file.path.clone(),
                        mode: Some(file.mode.unwrap_or(FILE_MODE)),
                        owner: file.owner.clone(),
                    })
                }
            },
            Instruction::Copy(copy) => {
                more.push(self.local(image, &copy.source, &copy.exclude)?);
                Step::Copy(step::Copy {
                    destination: copy.destination.clone(),
                    mode: copy.mode,
                    owner: copy.owner.clone(),
                })
            }
            Instruction::User(user) => Step::User(user.clone()),
            Instruction::Env(variables) => {
                self.env.extend(variables.clone());
                Step::Env(step::Env {
                    variables: self.env.clone(),
                })
            }
            Instruction::Hostname(name) => Step::Hostname(step::Hostname {
                name: name.value.clone(),
            }),
            Instruction::Service(service) => Step::Service(service.clone()),
            Instruction::Layer(_) => unreachable!("a layer from outside is no step on a tree"),
        };
        Ok((step, more))
    }

    /// The step of a script; the environment of the image holds in it.
    fn script(&self, run: &Run) -> Run {
        let mut env = self.env.clone();
        env.extend(run.env.clone());
        Run { env, ..run.clone() }
    }

    /// Local files as an input; the same content is one step.
    fn local(
        &mut self,
        image: &Image,
        source: &Spanned<PathBuf>,
        exclude: &[String],
    ) -> Result<Input, PlanError> {
        let path: &Path = &source.value;
        let files = LocalFiles {
            path: path.to_owned(),
            exclude: exclude.to_owned(),
        };
        let tree = self.world.local(&files).map_err(|error| {
            let message = format!("cannot read {}: {error}", path.display());
            Problem::new(&source.span, message, "not readable")
                .with_help("check that you can read it and everything in it")
        })?;
        let node = match self.local_nodes.get(&tree) {
            Some(node) => *node,
            None => {
                let name = format!("{}: local {}", image.name.value, path.display());
                let step = Step::Local(step::Local {
                    tree,
                    time: self.world.file_time(),
                });
                self.graph.add_step(name, &step, Vec::new())?
            }
        };
        self.local_nodes.insert(tree, node);
        self.locals.insert(tree, files);
        Ok(Input {
            role: "source".to_owned(),
            node,
            output: "source".to_owned(),
        })
    }

    /// The image itself, and the plan.
    fn image(mut self, image: &Image, settings: &Settings, made: Made) -> Result<Plan, PlanError> {
        let own = &image.name.value;
        let mut metadata = std::mem::take(&mut self.labels);
        metadata.extend(image.recipe.metadata.clone());
        let env = self.env.iter();
        let env = env.map(|(name, value)| Ok((fit(name)?, fit(value)?)));
        let template = ImageTemplate {
            name: fit(own)?,
            recipe: RecipeRef {
                name: Line::like(&image.recipe.name),
                version: image.recipe.version.as_deref().map(Line::like),
            },
            description: image.recipe.description.as_deref().map(Text::like),
            metadata: metadata
                .iter()
                .map(|(name, value)| (Line::like(name), Text::like(value)))
                .collect(),
            architecture: fit(self.architecture)?,
            boot: settings.boot_profile(self.architecture)?,
            filesystem: made.filesystem,
            ssh_user: settings.ssh_user()?,
            users: settings.homes()?,
            ports: settings.ports.clone(),
            env: env.collect::<Result<_, PlanError>>()?,
            hostname: settings.hostname.as_deref().map(fit).transpose()?,
            kernel_files: match &settings.kernel {
                Some(Kernel::Tree { path, initrd }) => Some(KernelFiles {
                    path: fit(path)?,
                    initrd: initrd.as_deref().map(fit).transpose()?,
                }),
                Some(Kernel::Fetched(_)) | None => None,
            },
        };
        let step = Step::Image(Box::new(step::Image {
            template: serde_json::to_value(&template).map_err(PlanError::Template)?,
        }));
        let node = self
            .graph
            .add_step(format!("{own}: image"), &step, made.inputs)?;
        Ok(Plan {
            graph: self.graph,
            image: node,
            image_name: own.clone(),
            template,
            locals: self.locals,
            places: self.places,
            blobs: self.blobs,
            artifacts: self.artifacts,
            locked: BTreeMap::new(),
            programs: self.programs,
        })
    }
}

/// An input under a role.
fn input(role: &str, node: NodeId, output: &str) -> Input {
    Input {
        role: role.to_owned(),
        node,
        output: output.to_owned(),
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
