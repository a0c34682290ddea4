//! Dockerfiles: stages to steps.
//!
//! A stage is lowered when something needs it: the target, then what it starts from and what it
//! copies from. So stages that nothing needs make no steps, and one that is needed twice is lowered
//! once. What a stage yields is a tree with what holds at its end (`Stage`): a stage that starts
//! from it goes on from a copy, and `--from` reads its layers.

mod config;
mod files;
mod platform;
mod run;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use platform::Platform;
use scope::{Arguments, Variables};

use super::tree::Tree;
use super::{Lowered, Lowering, Trunk};
use crate::dockerfile::{self, Dockerfile, Instruction, Kind, Word};
use crate::image::{ContainerConfig, Protocol, local_scheme};
use crate::plan::{PlanError, USUAL_PATH, label};
use crate::recipe::{self, Base, Context, Problem, RecipeError, RegistryImage, Span, Spanned};

/// A stage, or an image that stages use.
#[derive(Clone)]
struct Stage {
    lowered: Lowered,
    variables: Variables,
    platform: Platform,
    /// Instructions for stages that start from this one.
    triggers: Vec<Instruction>,
    /// Whether the stage itself has a `CMD`.
    has_cmd: bool,
}

impl Stage {
    fn config(&mut self) -> &mut ContainerConfig {
        self.lowered.container.get_or_insert_default()
    }

    fn tree(&mut self) -> &mut Tree {
        match &mut self.lowered.trunk {
            Trunk::Tree(tree) => tree,
            Trunk::Disk(..) => unreachable!("a stage with a disk is refused"),
        }
    }
}

/// What a name in `--from` stands for.
enum Origin {
    Tree(Tree),
    Directory(std::path::PathBuf),
}

/// A Dockerfile that is lowered.
struct Build<'a> {
    /// The name of the image, for labels.
    own: &'a str,
    asked: &'a recipe::Dockerfile,
    file: Rc<Dockerfile>,
    arguments: Arguments,
    wanted: Platform,
    stages: BTreeMap<usize, Stage>,
    /// Images by the names that the file has for them, with the platforms.
    images: BTreeMap<(String, String), Stage>,
    /// Mistakes after which lowering went on.
    problems: Vec<Problem>,
}

impl Lowering<'_> {
    /// The stage of a Dockerfile that is asked for, as the base of an image.
    pub(super) fn dockerfile(
        &mut self,
        own: &str,
        asked: &recipe::Dockerfile,
    ) -> Result<Lowered, PlanError> {
        let (name, text) = (asked.source.name(), asked.source.inner());
        let file = Rc::new(dockerfile::parse(name, text, &asked.limits)?);
        let given = asked.args.iter();
        let given = given.map(|(name, value)| (name.value.clone(), value.clone()));
        let wanted = Platform::linux(self.architecture);
        let host = Platform::linux(self.world.architecture());
        let target = asked.target.as_ref().map(|target| target.value.as_str());
        let arguments = Arguments::new(&file, given.collect(), &host, &wanted, target)?;
        let mut build = Build {
            own,
            asked,
            file,
            arguments,
            wanted,
            stages: BTreeMap::new(),
            images: BTreeMap::new(),
            problems: Vec::new(),
        };
        build.check_arguments();
        let stage = build.wanted_stage(self);
        let stage = match stage {
            Ok(stage) => Some(stage),
            Err(PlanError::Recipe(problem)) => {
                build.problems.push(*problem);
                None
            }
            Err(other) => return Err(other),
        };
        match stage {
            Some(stage) if build.problems.is_empty() => {
                let mut lowered = stage.lowered;
                let config = lowered.container.iter();
                for exposed in config.flat_map(|config| &config.exposed) {
                    if exposed.protocol == Protocol::Tcp {
                        lowered.settings.serve(exposed.port);
                    }
                }
                lowered.is_container();
                self.env_of_container(own, "", &mut lowered)?;
                Ok(lowered)
            }
            _ => {
                let name = build.file.source.name();
                Err(RecipeError::new(name, build.problems).into())
            }
        }
    }
}

impl Build<'_> {
    fn check_arguments(&mut self) {
        for name in self.arguments.unknown(&self.file) {
            let given = self.asked.args.iter().find(|(own, _)| own.value == name);
            let Some((given, _)) = given else { continue };
            let help = match recipe::closest(name, self.file.declared()) {
                Some(other) => format!("did you mean \"{other}\"?"),
                None => format!("declare it in the Dockerfile: ARG {name}"),
            };
            let message = format!("the Dockerfile has no ARG \"{name}\"");
            let problem = Problem::new(&given.span, message, "not declared");
            self.problems.push(problem.with_help(help));
        }
    }

    /// The number of the stage that is wanted.
    fn target(&self) -> Result<usize, PlanError> {
        let count = self.file.stages.len();
        let Some(target) = &self.asked.target else {
            return Ok(count - 1);
        };
        let by_number = || target.value.parse().ok().filter(|number| *number < count);
        let found = self.file.stage_named(&target.value, count);
        let by_image = || (target.value == self.asked.name).then_some(count - 1);
        found.or_else(by_number).or_else(by_image).ok_or_else(|| {
            let names = || self.file.stages.iter().filter_map(|stage| stage.name());
            let help = match recipe::closest(&target.value, names()) {
                Some(other) => format!("did you mean \"{other}\"?"),
                None if names().next().is_none() => "name a stage: FROM … AS dev".to_owned(),
                None => {
                    let names: Vec<&str> = names().collect();
                    format!("its stages are {}", names.join(", "))
                }
            };
            let message = format!("the Dockerfile has no stage \"{}\"", target.value);
            let problem = Problem::new(&target.span, message, "unknown stage");
            problem.with_help(help).into()
        })
    }

    /// The stage that is wanted.
    fn wanted_stage(&mut self, lowering: &mut Lowering<'_>) -> Result<Stage, PlanError> {
        let target = self.target()?;
        let stage = self.stage(lowering, target)?;
        if stage.platform.machine() == lowering.architecture {
            return Ok(stage);
        }
        let asked = &self.file.stages[target];
        let place = asked.platform.as_ref().unwrap_or(&asked.base);
        let (own, wanted) = (&stage.platform, &self.wanted);
        let message = format!("the stage is for {own}, and the image for {wanted}");
        let problem = Problem::new(&place.span, message, "another architecture");
        let help = "leave --platform out of the last stage, or use another target";
        Err(problem.with_help(help).into())
    }

    /// A stage after its instructions.
    fn stage(&mut self, lowering: &mut Lowering<'_>, index: usize) -> Result<Stage, PlanError> {
        if let Some(known) = self.stages.get(&index) {
            return Ok(known.clone());
        }
        let file = Rc::clone(&self.file);
        let asked = &file.stages[index];
        let context = asked.name().and_then(|name| self.context(name));
        if let Some((_, Context::Image(base))) = context {
            // It stands for the whole stage.
            let stage = self.image_of_recipe(lowering, &asked.base.span, base)?;
            self.stages.insert(index, stage.clone());
            return Ok(stage);
        }
        let mut stage = self.from(lowering, index)?;
        let triggers = std::mem::take(&mut stage.triggers);
        for instruction in triggers.iter().chain(&asked.instructions) {
            let height = stage.tree().height();
            match self.instruction(lowering, &mut stage, index, instruction) {
                Err(PlanError::Recipe(problem)) => self.problems.push(*problem),
                Err(other) => return Err(other),
                Ok(()) if matches!(instruction.kind, Kind::Arg(_)) => {}
                Ok(()) => stage.tree().note(&instruction.text, height),
            }
        }
        self.stages.insert(index, stage.clone());
        Ok(stage)
    }

    /// What a stage starts from, with nothing of its own yet.
    fn from(&mut self, lowering: &mut Lowering<'_>, index: usize) -> Result<Stage, PlanError> {
        let file = Rc::clone(&self.file);
        let asked = &file.stages[index];
        let name = self.arguments.in_from(&asked.base)?;
        if name.is_empty() {
            let message = format!("{} is empty", asked.base.value);
            let problem = Problem::new(&asked.base.span, message, "no image");
            let help = "give the argument a value: an ARG before the first FROM, or --build-arg";
            return Err(problem.with_help(help).into());
        }
        let platform = match &asked.platform {
            Some(word) => self.platform(word)?,
            None => self.wanted.clone(),
        };
        if let Some(other) = file.stage_named(&name, index) {
            let mut stage = self.stage(lowering, other)?;
            let config = stage.config().clone();
            stage.variables.add_image(&config);
            stage.config().onbuild.clear();
            stage.has_cmd = false;
            return Ok(stage);
        }
        let base = Spanned::new(name, asked.base.span.clone());
        self.image(lowering, &base, &platform)
    }

    /// The platform that a word names.
    fn platform(&self, word: &Word) -> Result<Platform, PlanError> {
        let text = self.arguments.in_from(word)?;
        let platform = Platform::parse(&text, &self.wanted).map_err(|message| {
            let problem = Problem::new(&word.span, message, "not a platform");
            problem.with_help("write it as OS/ARCHITECTURE: linux/amd64, linux/arm64")
        })?;
        if platform.os != "linux" {
            let message = format!("vmfab builds images for Linux, not for {}", platform.os);
            let problem = Problem::new(&word.span, message, "another system");
            return Err(problem
                .with_help("use --platform=linux/amd64 or linux/arm64")
                .into());
        }
        Ok(platform)
    }

    fn context(&self, name: &str) -> Option<&(Spanned<String>, Context)> {
        let mut contexts = self.asked.contexts.iter();
        contexts.find(|(own, _)| own.value.eq_ignore_ascii_case(name))
    }

    /// An image by the name that the file has for it.
    fn image(
        &mut self,
        lowering: &mut Lowering<'_>,
        name: &Spanned<String>,
        platform: &Platform,
    ) -> Result<Stage, PlanError> {
        let key = (name.value.clone(), platform.to_string());
        if let Some(known) = self.images.get(&key) {
            return Ok(known.clone());
        }
        let architecture = platform.machine();
        let stage = match self.context(&name.value) {
            Some((_, Context::Image(base))) => self.image_of_recipe(lowering, &name.span, base)?,
            Some((_, Context::Directory(_))) => {
                let message = format!("\"{}\" is a directory, not an image", name.value);
                let problem = Problem::new(&name.span, message, "not an image");
                let help = "read it with COPY --from, or start from an image";
                return Err(problem.with_help(help).into());
            }
            None if name.value == "scratch" => {
                let nothing = Lowered::tree(Tree::default());
                self.of_lowered(&name.span, nothing, platform)?
            }
            None => {
                let base = self.reference(name)?;
                let lowered = match &base {
                    Base::Tag(tag) => {
                        let config = lowering.tagged(tag, architecture)?;
                        lowering.stored(&name.value, &config)?
                    }
                    Base::Registry(image) => lowering.registry(self.own, image, architecture)?,
                    _ => unreachable!("a name in a Dockerfile is a tag or an image elsewhere"),
                };
                self.of_lowered(&name.span, lowered, platform)?
            }
        };
        self.images.insert(key, stage.clone());
        Ok(stage)
    }

    /// An image of a recipe that a name stands for.
    fn image_of_recipe(
        &self,
        lowering: &mut Lowering<'_>,
        span: &Span,
        base: &Base,
    ) -> Result<Stage, PlanError> {
        let lowered = lowering.files_of(self.own, base)?;
        self.of_lowered(span, lowered, &self.wanted)
    }

    /// A stage of nothing but what it starts from.
    fn of_lowered(
        &self,
        span: &Span,
        mut lowered: Lowered,
        platform: &Platform,
    ) -> Result<Stage, PlanError> {
        if matches!(lowered.trunk, Trunk::Disk(..)) {
            let message = "a Dockerfile cannot start from an image that is only a disk";
            let problem = Problem::new(span, message, "without layers");
            let help = "start from a container image, or from an image that is made of a tree";
            return Err(problem.with_help(help).into());
        }
        // An image of vmfab that was a container still is one for a stage.
        if let (None, Some(bare)) = (&lowered.container, &lowered.bare) {
            lowered.container = Some(bare.config.clone());
            lowered.author.clone_from(&bare.author);
        }
        let env = lowered.env.clone();
        let config = lowered.container.get_or_insert_default();
        for (name, value) in env {
            if config.env(&name).is_none() {
                config.set_env(&name, &value);
            }
        }
        if config.env("PATH").is_none() {
            config.set_env("PATH", USUAL_PATH);
        }
        let mut triggers = Vec::new();
        for (index, text) in std::mem::take(&mut config.onbuild).iter().enumerate() {
            let name = format!("ONBUILD {} of the base", index + 1);
            triggers.push(dockerfile::parse_trigger(&name, text)?);
        }
        let mut variables = Variables::default();
        variables.add_image(config);
        Ok(Stage {
            lowered,
            variables,
            platform: platform.clone(),
            triggers,
            has_cmd: false,
        })
    }

    /// What `FROM` and `--from` name: a tag of the store, or an image in a registry or a layout.
    fn reference(&self, name: &Spanned<String>) -> Result<Base, PlanError> {
        let text = name.value.as_str();
        if let Some(tag) = text.strip_prefix('@') {
            return Ok(Base::Tag(Spanned::new(tag.to_owned(), name.span.clone())));
        }
        let local = local_scheme(text);
        let location = match local {
            Some(("containers-storage", _)) => text.to_owned(),
            Some((scheme, path)) => {
                let path = self.asked.context.join(path);
                format!("{scheme}:{}", path.display())
            }
            None => {
                let bare = ["docker-image://", "docker://", "oci://"];
                let bare = bare.iter().find_map(|scheme| text.strip_prefix(scheme));
                bare.unwrap_or(text).to_owned()
            }
        };
        if local.is_none() && location.starts_with(['.', '/']) {
            let message = format!("\"{text}\" is a path, not an image");
            let problem = Problem::new(&name.span, message, "not an image");
            let help = "give the image of a recipe a name: --build-context base=./recipe.kdl, or \
                        context \"base\" \"./recipe.kdl\" in the dockerfile node; then FROM base";
            return Err(problem.with_help(help).into());
        }
        Ok(Base::Registry(RegistryImage {
            shown: name.clone(),
            location,
            context: Some(self.asked.context.clone()),
            service: false,
        }))
    }

    /// What `--from` names at the stage `before`: an earlier stage by name or number, or something
    /// else.
    fn origin(
        &mut self,
        lowering: &mut Lowering<'_>,
        name: &Spanned<String>,
        before: usize,
    ) -> Result<Origin, PlanError> {
        let file = Rc::clone(&self.file);
        let number = name.value.parse::<usize>().ok();
        let named = file.stage_named(&name.value, file.stages.len());
        let earlier = number.or_else(|| file.stage_named(&name.value, before));
        match earlier.or(named) {
            Some(index) if index < before => {
                return Ok(Origin::Tree(self.stage(lowering, index)?.tree().clone()));
            }
            Some(index) => {
                let message = match (number, index == before) {
                    (Some(number), _) if number >= file.stages.len() => {
                        format!("the Dockerfile has no stage {number}")
                    }
                    (_, true) => "a stage cannot read itself".to_owned(),
                    _ => format!("the stage {} comes after this one", name.value),
                };
                let problem = Problem::new(&name.span, message, "not an earlier stage");
                let help = "name a stage above this one, or move that stage up";
                return Err(problem.with_help(help).into());
            }
            None => {}
        }
        if let Some((_, Context::Directory(path))) = self.context(&name.value) {
            return Ok(Origin::Directory(path.value.clone()));
        }
        let platform = self.wanted.clone();
        let mut stage = self.image(lowering, name, &platform)?;
        Ok(Origin::Tree(stage.tree().clone()))
    }

    /// The label of a step of a stage.
    fn name(&self, index: usize, what: &str) -> String {
        let own = self.own;
        let what = label::shorten(what);
        let stages = &self.file.stages;
        match stages[index].name() {
            _ if stages.len() == 1 => format!("{own}: {what}"),
            Some(stage) if stage == own => format!("{own}: {what}"),
            Some(stage) => format!("{own}: {stage}: {what}"),
            None => format!("{own}: stage {index}: {what}"),
        }
    }
}
