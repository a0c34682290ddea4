//! Building an image from a recipe.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::cache::{self, CacheOptions};
use super::export::{self, ExportOptions};
use super::hypervisor::Hypervisor;
use super::image_record::{ImageRecord, ImageSource};
use super::{Context, RecipeChoice, build_record, provenance, template};
use crate::audit::Deed;
use crate::builder;
use crate::derivation::{Cache, Graph, NodeId};
use crate::digest::ObjectId;
use crate::event::Event;
use crate::executor::{self, Execution, Executor};
use crate::failure::{Failure, Kind};
use crate::host::Program;
use crate::image::DiskFormat;
use crate::store::{Store, TagName};
use crate::world::recipes::base_of_role;
use crate::world::templates;
use crate::{plan, world};

/// What to build, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// What to build.
    pub choice: RecipeChoice,
    /// Tags that are to name the image; its own name when empty.
    pub tags: Vec<TagName>,
    /// A disk file to write.
    pub output: Option<PathBuf>,
    /// The format of that file.
    pub format: Option<DiskFormat>,
    /// The program that the file is for.
    pub hypervisor: Option<Hypervisor>,
    /// Whether the file is compressed.
    pub compress: bool,
    /// Whether an existing file may be replaced.
    pub force: bool,
    /// Give the image no tag: it is for a machine alone.
    pub untagged: bool,
    /// Build every step twice and compare.
    pub check: bool,
    /// How many steps may run at once; one for each processor when absent.
    pub jobs: Option<usize>,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Run every step, even when its result is known.
    pub rebuild: bool,
    /// Caches to ask, and the one that gets what is built.
    pub cache: CacheOptions,
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Built {
    pub image: ObjectId,
    /// Its name in the recipe.
    pub name: String,
    /// The tags that name it now, without `@`.
    #[serde(serialize_with = "tag_names")]
    pub tags: Vec<TagName>,
    /// Whether one of them named another image before, or none.
    pub tags_moved: bool,
    /// The disk file that was written.
    pub output: Option<PathBuf>,
    /// What became of the steps.
    pub steps: StepCounts,
    /// How many steps were built twice and compared, when that was asked for.
    pub checked: Option<usize>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// How many steps ran, and how many did not have to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StepCounts {
    /// They ran.
    pub built: usize,
    /// Their results were known here.
    pub cached: usize,
    /// A cache has their results.
    pub remote: usize,
}

fn tag_names<S: serde::Serializer>(tags: &[TagName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tags.iter().map(TagName::as_str))
}

/// Builds an image, tags it and, when asked, writes its disk to a file.
///
/// # Errors
/// The recipe is wrong, a program is missing, a step fails, outputs differ on `check`, the user
/// gives up.
pub fn build(context: &Context, options: &BuildOptions) -> Result<Built, Failure> {
    let started = Instant::now();
    let started_at = SystemTime::now();
    let store = context.store()?;
    let plan = world::plan(context, &options.choice)?;
    // Now the packages of templates that it builds on are here.
    template::consent(context, &options.choice)?;

    let output = output(options)?;
    if context.offline {
        world::offline::check(context, &store, &plan)?;
    }

    let cache = cache::open(context, &options.cache)?;
    let part = Part {
        graph: &plan.graph,
        wanted: BTreeSet::from([plan.image]),
        afresh: BTreeSet::new(),
    };
    let execution = execute(context, &store, &plan, part, options, cache.as_deref())?;
    let rebuild = options.rebuild || options.check;
    build_record::remember(context, &options.choice, &plan, &execution, rebuild)?;
    let steps = StepCounts {
        built: execution.built,
        cached: execution.cached,
        remote: execution.remote,
    };
    let offers = execution.offers.clone();
    let outputs = execution.outputs.clone();
    let record = ImageRecord::now(ImageSource::Built {
        recipe: options.choice.path().display().to_string(),
    })
    .with_steps(&plan.graph, &execution.outputs);
    let offer = || {
        if let Some(cache) = cache.as_deref() {
            executor::offer(cache, &offers, &context.interrupt);
        }
    };
    let image = match finished_image(&plan, execution) {
        Ok(image) => image,
        Err(error) => {
            // What did succeed need not be done again elsewhere.
            if !error.is(Kind::Interrupted) {
                offer();
            }
            return Err(error);
        }
    };

    record.keep(context, &image);
    if steps.built + steps.remote > 0 || !provenance::is_known(context, &image) {
        let made = provenance::Made {
            options,
            plan: &plan,
            outputs: &outputs,
            started: started_at,
        };
        made.keep(context, &image);
    }
    let tags = tags(context, options, &plan)?;
    let tags_moved = tag(&store, &tags, &image)?;
    context.emit(Event::ImageReady {
        image: image.to_string(),
        tag: tags.first().map(|tag| tag.as_str().to_owned()),
    });
    if steps.built + steps.remote > 0 || tags_moved {
        context.record(&Deed::ImageBuilt {
            image: image.to_string(),
            recipe: options.choice.path().display().to_string(),
            tags: tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            steps: steps.built,
        });
    }
    offer();
    if let Some((target, format)) = &output {
        let config = world::image_config(&store, &image)?;
        let options = ExportOptions {
            disk: config.disk.id,
            target: target.clone(),
            format: *format,
            hypervisor: options.hypervisor,
            compress: options.compress,
            force: options.force,
        };
        export::export(context, &options)?;
        export::advise(context, &config, &options)?;
    }
    Ok(Built {
        image,
        name: plan.image_name,
        tags,
        tags_moved,
        output: output.map(|(path, _)| path),
        steps,
        checked: options.check.then(|| plan.graph.len()),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// What is to be executed: the graph of a plan, or a part of it.
pub(super) struct Part<'a> {
    pub(super) graph: &'a Graph,
    /// Steps whose outputs must be in the store in the end.
    pub(super) wanted: BTreeSet<NodeId>,
    /// Steps that run even when their result is known.
    pub(super) afresh: BTreeSet<NodeId>,
}

/// Executes a graph.
///
/// # Errors
/// A program is missing. Whether all steps succeeded [`finished`] says.
pub(super) fn execute(
    context: &Context,
    store: &Store,
    plan: &plan::Plan,
    part: Part<'_>,
    options: &BuildOptions,
    cache: Option<&dyn Cache>,
) -> Result<Execution, Failure> {
    let origins = builder::Origins {
        locals: plan.locals.clone(),
        places: plan.places.clone(),
        blobs: plan.blobs.clone(),
        artifacts: plan.artifacts.clone(),
        sink: context.sink.clone(),
        registries: context.registries(),
        fetcher: context.fetcher(),
        locked: plan.locked.clone(),
        secrets: context.secrets.clone(),
        logins: plan.logins.clone(),
        most: (context.bounded || templates::is_of_others(context, &plan.recipes))
            .then_some(context.config.limits.template_steps),
    };
    let builders = builder::All::new(&context.home, store, origins);
    let executor = Executor {
        store,
        builders: &builders,
        cache,
        remembered: &context.remembered(),
        options: executor::Options {
            jobs: options.jobs,
            keep_going: options.keep_going,
            rebuild: options.rebuild,
            afresh: part.afresh,
            check: options.check,
            log_limit: context.config.limits.step_log,
        },
        sink: &*context.sink,
        interrupt: &context.interrupt,
        log: &context.home.log(),
        programs: &programs(plan),
    };
    executor.execute(&plan.image_name, part.graph, &part.wanted)
}

/// The file to write and its format, when one is asked for and can be written.
fn output(options: &BuildOptions) -> Result<Option<(PathBuf, DiskFormat)>, Failure> {
    let Some(path) = &options.output else {
        return Ok(None);
    };
    let format = export::format(path, options.format, options.hypervisor, options.compress)?;
    export::check(path, format, options.force)?;
    Ok(Some((path.clone(), format)))
}

/// The programs that the steps call, and those that every step of an unprivileged user needs.
fn programs(plan: &plan::Plan) -> BTreeSet<Program> {
    let mut programs = plan.programs.clone();
    if !rustix::process::getuid().is_root() {
        programs.extend([Program::Newuidmap, Program::Newgidmap]);
    }
    programs
}

/// An execution, when all of its steps succeeded.
///
/// # Errors
/// A step failed, outputs differ, the user gave up.
pub(super) fn finished(execution: Execution) -> Result<Execution, Failure> {
    if execution.interrupted {
        return Err(Failure::interrupted());
    }
    if !execution.failures.is_empty() {
        return Err(executor::steps(execution.failures));
    }
    if !execution.differences.is_empty() {
        let lines: Vec<String> = execution
            .differences
            .iter()
            .map(|difference| {
                let second = difference
                    .second
                    .map_or("nothing".to_owned(), |o| o.id.short());
                let (step, output) = (&difference.step, &difference.output);
                format!(
                    "{step}: {output} was {}, then {second}",
                    difference.first.id.short()
                )
            })
            .collect();
        return Err(Failure::verification(format!(
            "these steps gave different results in two builds:\n  {}",
            lines.join("\n  ")
        ))
        .with_help("check these steps for times, random numbers and network content"));
    }
    Ok(execution)
}

/// The image that an execution made, or why it made none.
fn finished_image(plan: &plan::Plan, execution: Execution) -> Result<ObjectId, Failure> {
    let execution = finished(execution)?;
    let outputs = execution
        .outputs
        .get(plan.image.index())
        .and_then(Option::as_ref);
    outputs
        .and_then(|outputs| outputs.get("config"))
        .map(|config| config.id)
        .ok_or_else(|| Failure::failed("the build produced no image"))
}

/// The tags that are to name the image. Without any that the user chose, that of a role on
/// `ubuntu-24.04` also has the tag `@ubuntu-24.04-ROLE`.
fn tags(
    context: &Context,
    options: &BuildOptions,
    plan: &plan::Plan,
) -> Result<Vec<TagName>, Failure> {
    if options.untagged || !options.tags.is_empty() {
        return Ok(options.tags.clone());
    }
    let mut tags = vec![plan.image_name.parse()?];
    // A base that is a file gives no tag.
    let base = base_of_role(context, &options.choice);
    tags.extend(base.and_then(|base| role_tag(&base, &plan.image_name)));
    Ok(tags)
}

/// The tag of a role on a base.
pub(super) fn role_tag(base: &str, role: &str) -> Option<TagName> {
    format!("{base}-{role}").parse().ok()
}

/// Makes the tags name the image; tells whether one of them did not before.
fn tag(store: &Store, tags: &[TagName], image: &ObjectId) -> Result<bool, Failure> {
    let mut moved = false;
    for tag in tags {
        if store.tag(tag)? != Some(*image) {
            store.put_tag(tag, image)?;
            moved = true;
        }
    }
    Ok(moved)
}
