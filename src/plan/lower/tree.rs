//! Steps on a tree: each gives a layer; the disk is made from all of them.

use super::{Lowering, Made, debian_architecture, hostname_from, input};
use crate::checked::Line;
use crate::derivation::step::{self, Step};
use crate::derivation::{Input, NodeId};
use crate::host::Program;
use crate::image::{ContainerConfig, ContainerTree, FilesystemRef, HistoryEntry, ImageConfig};
use crate::instruction::{Add, AddSource, Packages, StepLimits};
use crate::plan::settings::Settings;
use crate::plan::{PlanError, fit};
use crate::recipe::{Base, Bootstrap, Fetched, Image, Instruction, Kernel, Problem};

/// The layers so far, lowest first.
#[derive(Clone, Default)]
pub(super) struct Tree {
    layers: Vec<(NodeId, &'static str)>,
    /// What made it: an entry for each layer, and those of instructions that made none.
    history: Vec<HistoryEntry>,
}

/// The `packages` nodes that come with the bootstrap: the first ones after it, without options.
pub(super) fn merged_packages(image: &Image) -> impl Iterator<Item = &Packages> {
    let from_bootstrap = matches!(image.base, Base::Bootstrap(_));
    image
        .instructions
        .iter()
        .map_while(move |instruction| match instruction {
            Instruction::Packages(packages)
                if from_bootstrap
                    && !packages.recommends
                    && packages.on.is_empty()
                    && packages.limits == StepLimits::default() =>
            {
                Some(packages)
            }
            _ => None,
        })
}

impl Tree {
    /// All layers as inputs.
    pub(super) fn inputs(&self) -> Vec<Input> {
        self.inputs_as("layer")
    }

    /// All layers as inputs under a role of their own, for a step that reads this tree beside its
    /// own.
    pub(super) fn inputs_as(&self, role: &str) -> Vec<Input> {
        let layers = self.layers.iter();
        layers
            .map(|(node, output)| input(role, *node, output))
            .collect()
    }

    /// The lowest layers alone.
    pub(super) fn lowest(&self, count: usize) -> Vec<Input> {
        let mut layers = self.inputs();
        layers.truncate(count);
        layers
    }

    /// How many layers there are.
    pub(super) const fn height(&self) -> usize {
        self.layers.len()
    }

    /// Notes an instruction, which made the layers above `before`, or none.
    pub(super) fn note(&mut self, instruction: &str, before: usize) {
        let created_by = Line::like(instruction);
        match self.history.last_mut() {
            Some(last) if self.layers.len() > before => last.created_by = created_by,
            _ => self.history.push(HistoryEntry {
                created_by,
                empty_layer: true,
            }),
        }
    }

    /// Notes what made the layers so far, if `history` has an entry for each of them.
    pub(super) fn note_all(&mut self, history: impl IntoIterator<Item = HistoryEntry>) {
        let history: Vec<HistoryEntry> = history.into_iter().collect();
        let of_layers = history.iter().filter(|entry| !entry.empty_layer);
        if of_layers.count() == self.layers.len() {
            self.history = history;
        }
    }

    /// The container whose tree this is.
    pub(super) fn container(&self, config: &ContainerConfig) -> ContainerTree {
        ContainerTree {
            config: config.clone(),
            author: None,
            layers: self.layers.len(),
            history: self.history.clone(),
        }
    }
}

impl Lowering<'_> {
    /// Adds a step that reads all layers so far, and more, and gives the next layer.
    pub(super) fn layer(
        &mut self,
        tree: &mut Tree,
        name: String,
        step: &Step,
        more: Vec<Input>,
    ) -> Result<(), PlanError> {
        let mut inputs = tree.inputs();
        inputs.extend(more);
        self.layer_of(tree, name, step, inputs)
    }

    /// Adds a step that reads these inputs and no layer below, and gives the next layer.
    pub(super) fn layer_of(
        &mut self,
        tree: &mut Tree,
        name: String,
        step: &Step,
        inputs: Vec<Input>,
    ) -> Result<(), PlanError> {
        // The image's own name comes first: it is not part of what was done.
        let (_, what) = name.split_once(": ").unwrap_or(("", &name));
        tree.history.push(HistoryEntry::layer(what));
        let node = self.graph.add_step(name, step, inputs)?;
        tree.layers.push((node, "layer"));
        Ok(())
    }

    /// What a path or pattern stands for in a tree, as a tree of one layer with the same paths:
    /// who reads it does not depend on the rest. `part` says which of it, and how.
    pub(super) fn subtree(
        &mut self,
        name: String,
        tree: &Tree,
        path: &str,
        part: Add,
    ) -> Result<Tree, PlanError> {
        let step = Step::Add(Add {
            sources: vec![AddSource::layers("source", path)],
            destination: "/".to_owned(),
            link: true,
            keep_paths: !part.parents,
            ..part
        });
        let mut subtree = Tree::default();
        self.layer_of(&mut subtree, name, &step, tree.inputs_as("source"))?;
        Ok(subtree)
    }

    pub(super) fn bootstrap(
        &mut self,
        own: &str,
        bootstrap: &Bootstrap,
        packages: &[&Packages],
    ) -> Result<Tree, PlanError> {
        self.programs.insert(Program::Mmdebstrap);
        let mut names: Vec<String> = Vec::new();
        for name in packages.iter().flat_map(|packages| &packages.names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let step = Step::Bootstrap(step::Bootstrap {
            distribution: bootstrap.distribution.clone(),
            suite: bootstrap.suite.clone(),
            components: bootstrap.components.clone(),
            architecture: debian_architecture(self.architecture)?.to_owned(),
            mirror: bootstrap.mirror.clone(),
            keyring: bootstrap.keyring.clone(),
            packages: names,
            locked: None,
        });
        let (distribution, suite) = (&bootstrap.distribution, &bootstrap.suite);
        let name = format!("{own}: bootstrap {distribution} {suite}");
        let mut tree = Tree::default();
        self.layer(&mut tree, name, &step, Vec::new())?;
        Ok(tree)
    }

    /// The files of a tar from outside, over the tree.
    pub(super) fn unpacked(
        &mut self,
        tree: &mut Tree,
        own: &str,
        fetched: &Fetched,
    ) -> Result<(), PlanError> {
        let blob = self.fetched(own, fetched)?;
        let step = Step::Transform(step::Transform::Unpack);
        self.layer(tree, format!("{own}: unpack"), &step, vec![blob])
    }

    /// The layers of an image in the store. The last one is of the `system` step, which is made
    /// anew for this image.
    pub(super) fn stored_tree(
        &mut self,
        name: &str,
        config: &ImageConfig,
    ) -> Result<Tree, PlanError> {
        let mut tree = Tree::default();
        let count = config.layers.len() - 1;
        for (index, object) in config.layers[..count].iter().enumerate() {
            let name = format!("{name}: layer {} of {count}", index + 1);
            tree.history.push(HistoryEntry::layer(&name));
            let node = self.object(name, *object)?;
            tree.layers.push((node, "object"));
        }
        Ok(tree)
    }

    /// The steps after those of the recipe.
    pub(super) fn finish_tree(
        &mut self,
        image: &Image,
        mut tree: Tree,
        settings: &Settings,
        checks: Vec<(String, step::Run)>,
    ) -> Result<Made, PlanError> {
        self.programs.extend([Program::Bwrap, Program::Mke2fs]);
        let own = &image.name.value;
        let (kernel, initrd) = tree_kernel(settings)?;
        let system = Step::System(step::System {
            label: settings.label.clone(),
            filesystem: settings.filesystem.clone(),
            uefi: settings.uefi,
            hostname: match &settings.hostname {
                Some(name) => name.clone(),
                None => hostname_from(own),
            },
        });
        self.layer(&mut tree, format!("{own}: system"), &system, Vec::new())?;

        let layers = tree.inputs();
        let size = settings.tree_size();
        let disk = Step::Disk(step::Disk {
            size,
            filesystem: settings.filesystem.clone(),
            label: settings.label.clone(),
            uefi: settings.uefi,
            kernel,
            initrd,
            command_line: settings.command_line_without_root(self.architecture),
        });
        let name = format!("{own}: disk {}", crate::text::shown_size(size));
        let disk = self.graph.add_step(name, &disk, layers.clone())?;
        let mut inputs = layers.clone();
        inputs.extend(["disk", "kernel", "initrd"].map(|output| input(output, disk, output)));
        for (name, check) in checks {
            let node = self
                .graph
                .add_step(name, &Step::Check(check), layers.clone())?;
            inputs.push(input("check", node, "ok"));
        }
        Ok(Made {
            inputs,
            filesystem: Some(FilesystemRef {
                kind: fit(&settings.filesystem)?,
                label: fit(&settings.label)?,
            }),
        })
    }
}

/// Paths of kernel and initrd in the tree, when the recipe names them.
fn tree_kernel(settings: &Settings) -> Result<(Option<String>, Option<String>), PlanError> {
    let outside = match (&settings.kernel, &settings.initrd) {
        (_, Some(initrd)) => initrd,
        (Some(Kernel::Fetched(kernel)), None) => kernel,
        (Some(Kernel::Tree { path, initrd }), None) => {
            return Ok((Some(path.clone()), initrd.clone()));
        }
        (None, None) => return Ok((None, None)),
    };
    let message = "an image made from a tree needs its kernel in the tree";
    let problem = Problem::new(&outside.span, message, "this comes from outside");
    let help = "install a kernel package, or write it to the tree: \
                file \"/boot/vmlinuz\" { fetch … }";
    Err(problem.with_help(help).into())
}
