//! From an image of a recipe to the steps of a graph.
//!
//! An image is [lowered](Lowering::lowered) to a [value](Lowered): what its steps are done to, and
//! what holds for it. An image that starts from it goes on from a copy of the value, so images form
//! a graph, and each of them is lowered once. At the end (`finish.rs`) the image itself is made of the
//! value of one of them; it waits for the checks, those of the bases too. What the steps are done to decides
//! how they are done:
//!
//! | base | in | each step gives | at the end |
//! |---|---|---|---|
//! | a tree: bootstrap, a tar, a container image, an image made from one | `tree.rs` | a layer over all layers below it | `system`, then the disk |
//! | a disk that was made elsewhere, or that `bootc` installs (`bootc.rs`) | `disk.rs` | the disk with its change, from inside a booted machine | `finish`, when there are steps |

mod bootc;
mod disk;
mod dockerfile;
mod finish;
mod local;
mod machine;
mod outside;
mod registry;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bootc::default_install;
use disk::Disk;
use tree::Tree;

use super::settings::Settings;
use super::{BlobPlace, LocalTree, Place, Plan, PlanError, World, label};
use crate::checked::Line;
use crate::derivation::step::{self, Step};
use crate::derivation::{Graph, Input, NodeId};
use crate::digest::{Checksum, Digest, ObjectId};
use crate::host::{Login, Program};
use crate::image::{ContainerConfig, ContainerTree, FilesystemRef, ImageConfig, MadeFrom, Process};
use crate::instruction::{self, Add, AddSource, Exec, Packages, Run};
use crate::recipe::{
    Base, Content, CopyFrom, Image, Instruction, Problem, Span, Spanned, unfit_for_logins,
};

/// Permission bits of a file with content from the recipe or from outside when the recipe gives
/// none.
const FILE_MODE: u32 = 0o644;

/// Lowers an image with all that it needs.
pub(super) fn lower(
    image: &Arc<Image>,
    world: &dyn World,
    architecture: &str,
    process: &Process,
) -> Result<Plan, PlanError> {
    let mut lowering = Lowering::new(world, architecture);
    lowering.own_kernel = names_kernel(image);
    lowering.process = (!process.is_empty()).then_some(process);
    let mut lowered = lowering.lowered(image)?;
    if let Some(process) = lowering.process {
        lowering.own_process(image, &mut lowered, process)?;
    }
    lowering.finish(image, lowered)
}

/// Whether an image, or one that it starts from, says what its kernel is.
fn names_kernel(image: &Image) -> bool {
    let of_base = || match &image.base {
        Base::Image(base) => names_kernel(base),
        _ => false,
    };
    image.kernel.is_some() || of_base()
}

/// What lowering an image gives.
#[derive(Clone)]
struct Lowered {
    trunk: Trunk,
    settings: Settings,
    /// The variables that hold at this point.
    env: BTreeMap<String, String>,
    /// What the container image says that it starts from.
    labels: BTreeMap<String, String>,
    /// What it runs, when it is a container's tree.
    container: Option<ContainerConfig>,
    /// Who made that container, as it says.
    author: Option<Line>,
    /// That container without what makes a machine of it.
    bare: Option<ContainerTree>,
    /// Scripts that must succeed in the finished image, with what they are called.
    checks: Vec<(String, Run)>,
}

/// What steps are done to.
#[derive(Clone)]
enum Trunk {
    Tree(Tree),
    /// With the images whose steps are done to it. They are lowered at the end: the disk that they
    /// run on boots as the last image says.
    Disk(Box<Disk>, Vec<Arc<Image>>),
}

impl Lowered {
    /// What has no steps yet.
    fn new(trunk: Trunk, settings: Settings) -> Self {
        Self {
            trunk,
            settings,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            container: None,
            author: None,
            bare: None,
            checks: Vec::new(),
        }
    }

    fn tree(tree: Tree) -> Self {
        Self::new(Trunk::Tree(tree), Settings::new())
    }

    /// A disk that was made elsewhere.
    fn disk(disk: Disk) -> Self {
        let trunk = Trunk::Disk(Box::new(disk), Vec::new());
        Self::new(trunk, Settings::foreign())
    }

    /// Notes that so far it is a container's tree, and nothing more.
    fn is_container(&mut self) {
        if let (Trunk::Tree(tree), Some(config)) = (&self.trunk, &self.container) {
            self.bare = Some(ContainerTree {
                author: self.author.clone(),
                ..tree.container(config)
            });
        }
    }

    /// The step of a script; the environment of the image holds in it.
    fn script(&self, run: &Run) -> Run {
        let mut env = self.env.clone();
        env.extend(run.env.clone());
        Run { env, ..run.clone() }
    }

    /// The step of a script as its user.
    fn run(&self, run: &Run) -> Step {
        let mut script = self.script(run);
        let Some(user) = script.user.take() else {
            return Step::Run(script);
        };
        match self.trunk {
            Trunk::Tree(_) => {
                script.shell.push(script.command);
                Step::Exec(Exec {
                    argv: script.shell,
                    env: script.env,
                    user: Some(user),
                    workdir: script.workdir,
                    network: match script.network {
                        true => instruction::Network::Default,
                        false => instruction::Network::None,
                    },
                    limits: script.limits,
                    ..Exec::default()
                })
            }
            Trunk::Disk(..) => {
                let own = std::mem::take(&mut script.shell);
                script.shell = ["/bin/sh", "-c", AS_USER, &user]
                    .map(str::to_owned)
                    .to_vec();
                script.shell.extend(own);
                Step::Run(script)
            }
        }
    }
}

/// Runs its arguments as the user that is its name, in a machine that is booted.
const AS_USER: &str = r#"HOME=$(getent passwd "${0%%:*}" | cut -d: -f6)
export HOME
case $0 in
    *:*) exec setpriv --init-groups --reuid "${0%%:*}" --regid "${0#*:}" -- "$@" ;;
    *) exec runuser -u "$0" -- "$@" ;;
esac"#;

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
    /// The images that were lowered, by where they are in memory: they are kept, so that no other
    /// is there.
    images: BTreeMap<*const Image, (Arc<Image>, Lowered)>,
    locals: BTreeMap<Digest, Arc<LocalTree>>,
    local_nodes: BTreeMap<Digest, NodeId>,
    places: BTreeMap<Checksum, Place>,
    blobs: BTreeMap<Checksum, BlobPlace>,
    artifacts: BTreeMap<ObjectId, BlobPlace>,
    logins: BTreeMap<String, Login>,
    fetch_nodes: BTreeMap<String, NodeId>,
    programs: BTreeSet<Program>,
    /// Whether the recipe names the kernel.
    own_kernel: bool,
    /// What the image is to run otherwise than it says; nothing once a service does.
    process: Option<&'a Process>,
}

impl<'a> Lowering<'a> {
    fn new(world: &'a dyn World, architecture: &'a str) -> Self {
        Self {
            world,
            architecture,
            graph: Graph::new(),
            images: BTreeMap::new(),
            locals: BTreeMap::new(),
            local_nodes: BTreeMap::new(),
            places: BTreeMap::new(),
            blobs: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            logins: BTreeMap::new(),
            fetch_nodes: BTreeMap::new(),
            programs: BTreeSet::new(),
            own_kernel: false,
            process: None,
        }
    }
}

impl Lowering<'_> {
    /// An image after its steps. One that is used twice is lowered once.
    fn lowered(&mut self, image: &Arc<Image>) -> Result<Lowered, PlanError> {
        if let Some((_, known)) = self.images.get(&Arc::as_ptr(image)) {
            return Ok(known.clone());
        }
        let merged: Vec<&Packages> = tree::merged_packages(image).collect();
        let size = image.disk.size.as_ref().map(|size| size.value);
        let mut lowered = self.base(&image.name.value, &image.base, &merged, size)?;
        lowered.settings.apply(image);
        match &mut lowered.trunk {
            Trunk::Tree(_) => {
                for instruction in &image.instructions[merged.len()..] {
                    self.instruction(&mut lowered, image, instruction)?;
                }
            }
            Trunk::Disk(_, images) => images.push(Arc::clone(image)),
        }
        for check in &image.checks {
            let name = format!("{}: {}", image.name.value, label::script("check", check));
            lowered.checks.push((name, check.clone()));
        }
        let entry = (Arc::clone(image), lowered.clone());
        self.images.insert(Arc::as_ptr(image), entry);
        Ok(lowered)
    }

    /// What the steps of an image are done to. `packages` are installed with a bootstrap; `size` is
    /// that of the disk that a bootable container is installed to.
    fn base(
        &mut self,
        own: &str,
        base: &Base,
        packages: &[&Packages],
        size: Option<u64>,
    ) -> Result<Lowered, PlanError> {
        Ok(match base {
            Base::Bootstrap(bootstrap) => Lowered::tree(self.bootstrap(own, bootstrap, packages)?),
            Base::Layer(fetched) => {
                let mut tree = Tree::default();
                self.unpacked(&mut tree, own, fetched)?;
                Lowered::tree(tree)
            }
            Base::Image(base) => self.lowered(base)?,
            Base::Tag(tag) => {
                let config = self.tagged(tag, self.architecture)?;
                self.stored(&format!("@{}", tag.value), &config)?
            }
            Base::Registry(image) => {
                let mut lowered = self.registry(own, image, self.architecture)?;
                if lowered.is_bootable_container() {
                    let install = default_install(base);
                    return self.installed(own, &lowered, install, size, &image.shown.span);
                }
                let of = format!(" of {}", label::remote(&image.shown.value));
                self.env_of_container(own, &of, &mut lowered)?;
                if image.service {
                    lowered.is_container();
                    self.machine(own, &mut lowered, true, &image.shown.span)?;
                }
                lowered
            }
            Base::Dockerfile(asked) => {
                let mut lowered = self.dockerfile(own, asked)?;
                if lowered.is_bootable_container() {
                    let install = default_install(base);
                    return self.installed(own, &lowered, install, size, &asked.span);
                }
                self.machine(own, &mut lowered, asked.service, &asked.span)?;
                lowered
            }
            Base::Bootc(asked) => self.bootc(own, asked, size)?,
            Base::Disk(fetched) => Lowered::disk(self.fetched_disk(own, fetched)?),
            Base::DiskFile(path) => Lowered::disk(self.local_disk(own, path)?),
        })
    }

    /// An image whose files are wanted: it need not be a machine.
    fn files_of(&mut self, own: &str, base: &Base) -> Result<Lowered, PlanError> {
        match base {
            Base::Dockerfile(asked) => self.dockerfile(own, asked),
            Base::Registry(image) => self.registry(own, image, self.architecture),
            base => self.base(own, base, &[], None),
        }
    }

    /// The step that puts files of another image.
    fn copied(
        &mut self,
        lowered: &Lowered,
        own: &str,
        copy: &CopyFrom,
        more: &mut Vec<Input>,
    ) -> Result<Step, PlanError> {
        let of_disk = |message: &str, help: &str| {
            Problem::new(&copy.from.span, message, "without layers").with_help(help)
        };
        if matches!(lowered.trunk, Trunk::Disk(..)) {
            let message = "an image that starts from a disk cannot read other images";
            let help = "start from an image that is made of a tree, or fetch the files in a run";
            return Err(of_disk(message, help).into());
        }
        let Trunk::Tree(other) = self.files_of(own, &copy.from.value)?.trunk else {
            let message = "the files of an image that is only a disk cannot be copied";
            let help = "copy from a container image, or from an image that is made of a tree";
            return Err(of_disk(message, help).into());
        };
        let path = &copy.path;
        let name = format!("{own}: read {path}");
        let part = self.subtree(name, &other, path, Add::default())?;
        more.extend(part.inputs_as("source"));
        Ok(Step::Add(Add {
            sources: vec![AddSource::layers("source", path)],
            destination: copy.destination.clone(),
            owner: copy.owner.clone(),
            ..Add::default()
        }))
    }

    /// An image in the store, which `name` names for people.
    fn stored(&mut self, name: &str, config: &ImageConfig) -> Result<Lowered, PlanError> {
        let trunk = match config.made_from() {
            MadeFrom::Tree => Trunk::Tree(self.stored_tree(name, config)?),
            MadeFrom::Disk => {
                let disk = self.stored_disk(name, config)?;
                Trunk::Disk(Box::new(disk), Vec::new())
            }
        };
        let mut lowered = Lowered::new(trunk, Settings::of_config(config));
        lowered.bare.clone_from(&config.template.container);
        let env = config.template.env.iter();
        let env = env.map(|(name, value)| (name.to_string(), value.to_string()));
        // The config may come from anywhere.
        lowered.env = env
            .filter(|(_, value)| unfit_for_logins(value).is_none())
            .collect();
        Ok(lowered)
    }

    fn tagged(&self, tag: &Spanned<String>, architecture: &str) -> Result<ImageConfig, PlanError> {
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
                check_architecture(&format!("@{name}"), &config, &tag.span, architecture)?;
                return Ok(config);
            }
        };
        Err(problem.into())
    }

    fn instruction(
        &mut self,
        lowered: &mut Lowered,
        image: &Image,
        instruction: &Instruction,
    ) -> Result<(), PlanError> {
        let own = &image.name.value;
        let name = format!("{own}: {}", label::instruction(instruction));
        if let Instruction::Layer(fetched) = instruction {
            return match &mut lowered.trunk {
                Trunk::Tree(tree) => self.unpacked(tree, own, fetched),
                Trunk::Disk(disk, _) => self.unpack_in_guest(disk, own, name, fetched),
            };
        }
        let (step, more) = self.step(lowered, image, instruction)?;
        match &mut lowered.trunk {
            Trunk::Tree(tree) => self.layer(tree, name, &step, more),
            Trunk::Disk(disk, _) => self.guest(disk, name, step, more),
        }
    }

    /// The step of an instruction as it is done to a tree, and what it reads besides.
    fn step(
        &mut self,
        lowered: &mut Lowered,
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
            Instruction::Run(run) => lowered.run(run),
            Instruction::File(file) => match &file.content {
                Content::Inline(content) => Step::File(step::File {
                    path: file.path.clone(),
                    content: content.clone(),
                    mode: file.mode.unwrap_or(FILE_MODE),
                    owner: file.owner.clone(),
                    time: self.world.file_time(),
                }),
                Content::Local(source) => {
                    more.push(self.source(image, source, &[])?);
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
                more.push(self.source(image, &copy.source, &copy.exclude)?);
                Step::Copy(step::Copy {
                    destination: copy.destination.clone(),
                    mode: copy.mode,
                    owner: copy.owner.clone(),
                })
            }
            Instruction::CopyFrom(copy) => self.copied(lowered, own, copy, &mut more)?,
            Instruction::User(user) => Step::User(user.clone()),
            Instruction::Env(variables) => {
                lowered.env.extend(variables.clone());
                Step::Env(step::Env {
                    variables: lowered.env.clone(),
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
}

/// Refuses an image for another architecture.
fn check_architecture(
    name: &str,
    config: &ImageConfig,
    span: &Span,
    wanted: &str,
) -> Result<(), PlanError> {
    let architecture = &config.template.architecture;
    if *architecture == wanted {
        return Ok(());
    }
    let message = format!("{name} is for {architecture}, not for {wanted}");
    let problem = Problem::new(span, message, "another architecture");
    let help = "start from an image of the same architecture";
    Err(problem.with_help(help).into())
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
        other => {
            let message = format!("\"{other}\" is not an architecture that images are built for");
            Err(Problem::without_place(message)
                .with_help("there are x86_64 and aarch64")
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::plan::tests::{NoTags, OneFile};
    use crate::recipe;

    #[test]
    fn an_image_that_is_used_twice_is_lowered_once() {
        let files = OneFile(
            "image \"base\" { from \"debian:12\"; run \"base\" }\n\
             image \"one\" { from \"base\"; run \"one\" }\n\
             image \"two\" { from \"base\"; run \"two\" }\n"
                .to_owned(),
        );
        let loaded = recipe::load(Path::new("test.kdl"), &files, &BTreeMap::new()).unwrap();
        let mut lowering = Lowering::new(&NoTags, "x86_64");
        let trees = loaded.images[1..].iter().map(|image| {
            let lowered = lowering.lowered(image).unwrap();
            match lowered.trunk {
                Trunk::Tree(tree) => tree.inputs(),
                Trunk::Disk(..) => unreachable!("the base is a tree"),
            }
        });
        let trees: Vec<Vec<Input>> = trees.collect();
        assert_eq!(trees[0].len(), trees[1].len());
        let shared = trees[0].len() - 1;
        assert_eq!(trees[0][..shared], trees[1][..shared]);
        assert_ne!(trees[0][shared], trees[1][shared]);
        let nodes = lowering.graph.nodes().iter();
        let mut runs = nodes.filter(|node| node.builder == "run");
        assert!(runs.all(|node| !node.name.starts_with("two: ") || node.inputs.len() == shared));
        let named = |name: &str| {
            let nodes = lowering.graph.nodes().iter();
            nodes.filter(|node| node.name == name).count()
        };
        assert_eq!((named("base: run base"), named("two: run two")), (1, 1));
    }
}
