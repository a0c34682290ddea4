//! `up`: images are built, machines are made, and started in the order of their dependencies.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::super::cache::CacheOptions;
use super::super::images::{self, FoundImage};
use super::super::machine::{
    self, BootOptions, SshAddress, StartOptions, boot_in, build_image, ports, remove_locked,
    require_shares, start_machine, tell_network, wait_for,
};
use super::super::{Context, volume};
use super::compare::{Action, Compared, compare};
use super::order::in_order;
use super::{Source, UpOptions, Wanted, lent, project, tell, wanted};
use crate::digest::ObjectId;
use crate::event::Event;
use crate::failure::Failure;
use crate::image::Hardware;
use crate::machine::{Forwarded, Machine, MachineName, Need, Project, Projects, State, Until};
use crate::qemu::AccelChoice;
use crate::recipe::Condition;
use crate::world::image_config;

/// A project whose machines are up, or some of them.
#[derive(Debug, Serialize)]
pub struct Up {
    pub project: PathBuf,
    /// The machines that were to be up, in the order of the file.
    pub machines: Vec<UpMachine>,
    /// Machines that the file does not describe any more.
    pub left: Vec<MachineName>,
    /// Why machines are not up.
    #[serde(skip)]
    pub failures: Vec<Failure>,
}

/// A machine that was to be up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UpMachine {
    pub name: MachineName,
    /// What was done: `made`, `recreated`, `started`, `resumed`, `running` (it was), `failed` or
    /// `skipped`.
    pub outcome: &'static str,
    /// Why it is not up.
    pub error: Option<String>,
    pub image: Option<ObjectId>,
    /// Where its SSH server is reached, if it has one.
    pub ssh: Option<SshAddress>,
    pub ports: Vec<Forwarded>,
    /// Seconds from its start until it was ready; nothing when it was running already.
    pub seconds: Option<f64>,
}

/// Makes and starts the machines of the project that the user is in. Those that run are left alone.
/// `agree` is shown what will be done before anything is changed, and refuses by an error.
///
/// What becomes of each machine is in the result; one that fails stops those that depend on it and
/// no others.
///
/// # Errors
/// The project's file is wrong, its directory cannot be written to, `agree` refused, or the user
/// gave up.
pub fn up<E: From<Failure>>(
    context: &Context,
    options: &UpOptions,
    agree: impl FnOnce(&[Compared]) -> Result<(), E>,
) -> Result<Up, E> {
    let project = project(context)?;
    // Mistakes in the file are told without waiting.
    let all = wanted(context, project, options)?;
    tell(context, project)?;
    let context = &lent(context, project)?;
    let projects = Projects::new(&context.home);
    let turn = projects
        .turn(project, context.sink.as_ref(), &context.interrupt)
        .map_err(Failure::from)?;
    if !options.adopt {
        refuse_strangers(context, project, &projects)?;
    }
    let is_new = projects.find(project).map_err(Failure::from)?.is_none();
    let compared = compare(context, options)?;
    agree(&compared)?;
    machine::require_programs()?;
    project.prepare().map_err(Failure::from)?;
    for note in compared.iter().flat_map(|compared| &compared.notes) {
        context.emit(Event::Note {
            message: note.clone(),
        });
    }
    let mut images = Images::get(context, &compared, &options.cache);
    if context.interrupt.requested() {
        return Err(Failure::interrupted().into());
    }
    if is_new {
        forget_grants(context, project)?;
    }
    // Before there is a machine that needs it.
    let mut needs = adopted(context, project)?;
    needs.extend(images.needs());
    turn.need(&needs).map_err(Failure::from)?;

    // All of the file, also those that are not started now: they may be later.
    let hosts: Vec<_> = all.iter().filter_map(Wanted::host).collect();
    let machines = project.machines(&context.home);
    if machines.declare_hosts(&hosts).map_err(Failure::from)? {
        tell_network(context, &machines)?;
    }

    // How far those that are to be started wait for it to come.
    let awaited = |position| {
        let others = compared
            .iter()
            .filter(|other| other.action != Action::Leave);
        let conditions = others.flat_map(|other| &other.after);
        let own = conditions.filter(|(other, _)| *other == position);
        own.map(|(_, condition)| *condition)
            .collect::<BTreeSet<_>>()
    };
    // Nothing for those that have no image: which of them tells why must not depend on who is
    // first.
    let results: Mutex<Vec<Option<Result<UpMachine, Failure>>>> =
        Mutex::new(compared.iter().map(|_| None).collect());
    let after: Vec<_> = compared.iter().map(|one| one.after.clone()).collect();
    in_order(&after, |position, failed, reach| {
        let one = &compared[position];
        let stages = Stages::new(options.until, awaited(position), reach);
        let result = match failed.first() {
            Some(&other) => Ok(UpMachine {
                error: Some(format!(
                    "it depends on \"{}\", which is not up",
                    compared[other].name
                )),
                ..UpMachine::new(one, "skipped")
            }),
            None => match images.of(position) {
                None => start_made(context, project, one, options, &stages),
                Some(Ok(image)) => make(context, project, one, image, options, &stages),
                Some(Err(_)) => return false,
            },
        };
        let succeeded = result.as_ref().is_ok_and(|up| up.error.is_none());
        results.lock().unwrap_or_else(PoisonError::into_inner)[position] = Some(result);
        succeeded
    });

    let mut up = Up {
        project: project.root().to_owned(),
        machines: Vec::new(),
        left: left(context, project, options)?,
        failures: Vec::new(),
    };
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (position, (one, result)) in compared.iter().zip(results).enumerate() {
        let result = result.or_else(|| images.take_error(position).map(Err));
        up.machines.push(match result {
            Some(Ok(machine)) => machine,
            Some(Err(error)) => {
                let machine = UpMachine {
                    error: Some(error.to_string()),
                    ..UpMachine::new(one, "failed")
                };
                up.failures.push(error);
                machine
            }
            None => UpMachine {
                error: Some("no image to create it from".to_owned()),
                ..UpMachine::new(one, "skipped")
            },
        });
    }
    turn.tidy().map_err(Failure::from)?;
    // When none could be made, nothing is left behind.
    project.clear(&turn);
    if context.interrupt.requested() {
        return Err(Failure::interrupted_with(
            "the other machines keep running: vmfab down stops them",
        )
        .into());
    }
    Ok(up)
}

impl UpMachine {
    fn new(compared: &Compared, outcome: &'static str) -> Self {
        Self {
            name: compared.name.clone(),
            outcome,
            error: None,
            image: None,
            ssh: None,
            ports: Vec::new(),
            seconds: None,
        }
    }
}

/// Makes one machine of `image`, and waits until it is ready.
fn make(
    context: &Context,
    project: &Project,
    compared: &Compared,
    image: &FoundImage,
    options: &UpOptions,
    stages: &Stages<'_>,
) -> Result<UpMachine, Failure> {
    let machines = project.machines(&context.home);
    let settings = compared.wanted.settings.as_ref();
    let forwarded = forwarded(compared, image)?;
    if settings.is_none_or(|settings| settings.image_shares) {
        let mounts = settings.map_or(&[][..], |settings| &settings.hardware.mounts);
        require_shares(image, mounts)?;
    }
    if compared.action == Action::Recreate
        && let Ok(machine) = machines.open(&compared.name)
    {
        let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
        remove_locked(context, locked, true)?;
    }
    let accel = settings.map(|settings| settings.accel);
    let asked = BootOptions {
        name: Some(compared.name.clone()),
        hardware: settings.map_or_else(Hardware::default, |settings| settings.hardware.clone()),
        ports: Vec::new(),
        accel: accel.or(options.accel).unwrap_or(AccelChoice::Auto),
        remove: false,
        until: stages.first(),
        timeout: options.timeout,
    };
    let booted = boot_in(context, &machines, image, &asked, forwarded)?;
    stages.pass(context, &machines.open(&compared.name)?, options, 1)?;
    Ok(UpMachine {
        image: Some(booted.image),
        ssh: booted.has_ssh.then_some(booted.ssh),
        ports: booted.ports,
        seconds: Some(booted.seconds),
        ..UpMachine::new(
            compared,
            match compared.action {
                Action::Recreate => "recreated",
                _ => "made",
            },
        )
    })
}

/// Starts a machine that is there, with what the file says now as far as that can be changed.
fn start_made(
    context: &Context,
    project: &Project,
    compared: &Compared,
    options: &UpOptions,
    stages: &Stages<'_>,
) -> Result<UpMachine, Failure> {
    let machine = &project.machines(&context.home).open(&compared.name)?;
    let asked = StartOptions {
        until: stages.first(),
        timeout: options.timeout,
    };
    let started = start_machine(context, machine, asked, |locked| {
        let image = images::find(context, &machine.config()?.image.to_string())?;
        let requires = image.config.template.requires;
        let ports = match compared.wanted.settings {
            Some(_) => Some(forwarded(compared, &image)?),
            None => None,
        };
        if let Some(settings) = &compared.wanted.settings {
            volume::make_missing(context, &settings.hardware.mounts)?;
        }
        locked.change(|config| {
            config.ports = ports.unwrap_or_else(|| config.ports.clone());
            config.accel = options.accel.unwrap_or(config.accel);
            if let Some(settings) = &compared.wanted.settings {
                config.follow(&settings.hardware, &requires);
                config.accel = settings.accel;
            }
        })?;
        Ok(())
    })?;
    // It may have been started a moment ago, by an `up` that was killed.
    match started.was_running && !started.resumed {
        true if stages.awaited => stages.pass(context, machine, options, 0)?,
        true => {}
        false => stages.pass(context, machine, options, 1)?,
    }
    let config = machine.config()?;
    Ok(UpMachine {
        image: Some(config.image),
        ssh: started.has_ssh.then_some(started.ssh),
        ports: config.ports,
        seconds: started.seconds,
        ..UpMachine::new(
            compared,
            match (started.resumed, started.was_running) {
                (true, _) => "resumed",
                (false, true) => "running",
                (false, false) => "started",
            },
        )
    })
}

/// How far a machine is to come, one after the other, and who is told.
struct Stages<'a> {
    targets: Vec<(Until, Option<Condition>)>,
    /// Whether another machine waits for it.
    awaited: bool,
    reach: &'a dyn Fn(Condition),
}

impl<'a> Stages<'a> {
    fn new(until: Until, awaited: BTreeSet<Condition>, reach: &'a dyn Fn(Condition)) -> Self {
        let mut targets = Vec::new();
        if awaited.contains(&Condition::Started) {
            targets.push((Until::Entered, Some(Condition::Started)));
        }
        let completes = awaited.contains(&Condition::Completed);
        // The health of a process that is to end is nobody's concern, unless somebody says so.
        if !completes || awaited.contains(&Condition::Healthy) {
            targets.push((until, Some(Condition::Healthy)));
        }
        if completes {
            targets.push((Until::Completed, None));
        }
        Self {
            targets,
            awaited: !awaited.is_empty(),
            reach,
        }
    }

    fn first(&self) -> Until {
        self.targets[0].0
    }

    /// Waits until a machine that runs has come through all of them; the first `done` are behind
    /// it.
    fn pass(
        &self,
        context: &Context,
        machine: &Machine,
        options: &UpOptions,
        done: usize,
    ) -> Result<(), Failure> {
        for (index, (until, condition)) in self.targets.iter().enumerate() {
            let asked = StartOptions {
                until: *until,
                timeout: options.timeout,
            };
            if index >= done {
                wait_for(context, machine, asked)?;
            }
            if let Some(condition) = condition {
                (self.reach)(*condition);
            }
        }
        Ok(())
    }
}

/// The ports to forward.
pub(super) fn forwarded(
    compared: &Compared,
    image: &FoundImage,
) -> Result<Vec<Forwarded>, Failure> {
    match &compared.wanted.settings {
        Some(settings) if !settings.image_ports => Ok(settings.ports.clone()),
        Some(settings) => ports(image, &settings.ports),
        None => ports(image, &[]),
    }
}

/// An image, or why there is none, until that is told.
type Got = Result<FoundImage, Option<Failure>>;

/// The images that machines are to be made of, each got once.
struct Images<'a> {
    got: Vec<(&'a Source, Got)>,
    /// For each machine that is to be made, the position of its image.
    of: Vec<Option<usize>>,
}

impl<'a> Images<'a> {
    fn get(context: &Context, compared: &'a [Compared], cache: &CacheOptions) -> Self {
        let mut images = Self {
            got: Vec::new(),
            of: Vec::new(),
        };
        let mut told: Vec<&Source> = Vec::new();
        let project = context.project.as_ref();
        for one in compared {
            let is_made = matches!(one.action, Action::Make | Action::Recreate);
            if is_made && !matches!(one.wanted.source, Source::Named(_)) {
                context.emit(Event::MachinePlanned {
                    machine: Some(one.name.to_string()),
                    project: project.map(|project| project.root().to_owned()),
                });
            }
        }
        for one in compared {
            let source = &one.wanted.source;
            let tell = !told.contains(&source);
            if matches!(one.action, Action::Make | Action::Recreate) {
                let known = images.got.iter().position(|(other, _)| *other == source);
                let position = known.unwrap_or_else(|| {
                    let image = get(context, source, cache, tell);
                    images.got.push((source, image.map_err(Some)));
                    images.got.len() - 1
                });
                images.of.push(Some(position));
                told.push(source);
            } else {
                images.of.push(None);
                if let Source::Recipe(choice) | Source::Any(choice) = source
                    && one.up_to_date
                    && tell
                {
                    told.push(source);
                    cache_hit(context, choice.image.as_deref().unwrap_or(&choice.recipe));
                }
            }
        }
        images
    }

    fn of(&self, position: usize) -> Option<&Got> {
        self.of[position].map(|image| &self.got[image].1)
    }

    /// Why there is no image for the machine at `position`: once, for the first of all machines of
    /// that image.
    fn take_error(&mut self, position: usize) -> Option<Failure> {
        let got = &mut self.got[self.of[position]?].1;
        got.as_mut().err().and_then(Option::take)
    }

    fn needs(&self) -> impl Iterator<Item = Need> {
        let found = self.got.iter().filter_map(|(_, image)| image.as_ref().ok());
        found.map(|image| Need {
            image: image.image,
            disk: image.config.disk.id,
        })
    }
}

/// Gets an image; builds it when a step of it has to run.
fn get(
    context: &Context,
    source: &Source,
    cache: &CacheOptions,
    tell: bool,
) -> Result<FoundImage, Failure> {
    if context.interrupt.requested() {
        return Err(Failure::interrupted());
    }
    match source {
        Source::Named(name) => images::find(context, name),
        Source::Recipe(choice) | Source::Any(choice) => {
            if let Source::Any(_) = source {
                let recipe = &choice.recipe;
                let message = format!("no {} found, using {recipe}", Project::FILE);
                context.emit(Event::Note { message });
            }
            let built = build_image(context, choice, cache)?;
            if built.cached && tell {
                cache_hit(context, &built.name);
            }
            Ok(built.image)
        }
    }
}

fn cache_hit(context: &Context, image: &str) {
    context.emit(Event::Note {
        message: format!("{image}: cache hit"),
    });
}

/// Machines that this home knows nothing of came with the directory: from a project that was moved,
/// or from somebody else, who decided what is in them and where links in them lead.
///
/// # Errors
/// There are such machines.
fn refuse_strangers(
    context: &Context,
    project: &Project,
    projects: &Projects,
) -> Result<(), Failure> {
    // Where none can be looked at none can be started: that is told when it is tried.
    let machines = project.machines(&context.home).list().unwrap_or_default();
    let Some(first) = machines.first() else {
        return Ok(());
    };
    if projects.find(project)?.is_some() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the machine \"{}\" came with {}, and was not made here",
        first.name(),
        project.root().display()
    ))
    .with_help(
        "if the project is yours and was moved, take its machines over with: vmfab up --adopt; \
             else remove its directory .vmfab, and up makes new ones",
    ))
}

/// Machines that are taken over get what the project's file says, and nothing that their own configs
/// say of a host.
fn forget_grants(context: &Context, project: &Project) -> Result<(), Failure> {
    let machines = project.machines(&context.home);
    machines.snapshots().forget_memory()?;
    for machine in machines.list()? {
        // One that cannot be read cannot be started.
        if machine.config().is_ok() {
            let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
            if machine.state()? == State::Suspended {
                context.emit(Event::Warning {
                    message: format!(
                        "machine \"{}\" boots anew: vmfab takes no memory from elsewhere",
                        machine.name()
                    ),
                });
            }
            // QEMU trusts what it reads as memory.
            locked.forget_memory()?;
            locked.change(crate::machine::MachineConfig::forget_grants)?;
        }
    }
    Ok(())
}

/// What the machines that are there need, unless the home knows it: of a project that was moved, or
/// made with another home.
fn adopted(context: &Context, project: &Project) -> Result<Vec<Need>, Failure> {
    let store = context.store()?;
    let mut needs = Vec::new();
    for machine in project.machines(&context.home).list()? {
        // What cannot be read, or is not in the store, cannot be kept. It fails when it is started.
        if let Ok(config) = machine.config()
            && let Ok(image) = image_config(&store, &config.image)
        {
            needs.push(Need {
                image: config.image,
                disk: image.disk.id,
            });
        }
    }
    Ok(needs)
}

/// Machines that the project's file does not describe any more.
fn left(
    context: &Context,
    project: &Project,
    options: &UpOptions,
) -> Result<Vec<MachineName>, Failure> {
    let wanted = wanted(context, project, options)?;
    let machines = project.machines(&context.home).list()?;
    let names = machines.iter().map(Machine::name);
    Ok(names
        .filter(|name| wanted.iter().all(|wanted| wanted.name != **name))
        .cloned()
        .collect())
}
