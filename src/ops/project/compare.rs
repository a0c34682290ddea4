//! What `up` has to do: each machine as it is beside what it is to be. Nothing is changed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::super::Context;
use super::super::images::{self, FoundImage};
use super::super::machine::Loss;
use super::{Source, UpOptions, Wanted, project, select, wanted};
use crate::digest::ObjectId;
use crate::failure::{Failure, Kind};
use crate::image::Requires;
use crate::machine::{Machine, MachineConfig, MachineError, MachineName, Project, State};
use crate::recipe::Condition;
use crate::world::{self, image_config};

/// What has to be done with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is made and started.
    Make,
    /// It is removed, and then made and started.
    Recreate,
    /// It is started as it is.
    Start,
    /// It is halted, and goes on.
    Resume,
    /// It runs.
    Leave,
}

/// A machine and what has to be done with it.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    pub name: MachineName,
    /// What has to be done.
    pub action: Action,
    /// What is lost.
    pub lost: Option<Loss>,
    /// What the user should know of how it differs from what it is to be.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub(super) wanted: Wanted,
    /// The image of the machine that stays.
    #[serde(skip)]
    pub(super) has: Option<ObjectId>,
    /// Positions, in the plan, of those that must be ready before it.
    #[serde(skip)]
    pub(super) after: Vec<(usize, Condition)>,
    /// Whether it has the image that it is to have, and that is in the store.
    #[serde(skip)]
    pub(super) up_to_date: bool,
}

/// What `up` has to do.
///
/// # Errors
/// The project's file is wrong, or it does not describe a machine that is named.
pub fn compare(context: &Context, options: &UpOptions) -> Result<Vec<Compared>, Failure> {
    let project = project(context)?;
    let wanted = wanted(context, project, options)?;
    let named = match options.names.as_slice() {
        [] => (0..wanted.len()).collect(),
        names => select(&wanted, names)?,
    };
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    let mut open = named.clone();
    while let Some(position) = open.pop() {
        if chosen.insert(position) {
            open.extend(wanted[position].after.iter().map(|(other, _)| other));
        }
    }
    let positions: Vec<usize> = chosen.into_iter().collect();
    let mut compared = Vec::new();
    for &position in &positions {
        let wanted = wanted[position].clone();
        let places = wanted.after.iter();
        let after = places
            .filter_map(|(other, condition)| {
                let place = positions.iter().position(|position| position == other)?;
                Some((place, *condition))
            })
            .collect();
        let recreate = options.recreate && named.contains(&position);
        compared.push(one(context, project, wanted, after, recreate)?);
    }
    Ok(compared)
}

fn one(
    context: &Context,
    project: &Project,
    wanted: Wanted,
    after: Vec<(usize, Condition)>,
    recreate: bool,
) -> Result<Compared, Failure> {
    let mut compared = Compared {
        name: wanted.name.clone(),
        action: Action::Make,
        lost: None,
        notes: Vec::new(),
        wanted,
        has: None,
        after,
        up_to_date: false,
    };
    let machine = match project.machines(&context.home).open(&compared.name) {
        Err(MachineError::Unknown(_)) => return Ok(compared),
        machine => machine?,
    };
    let state = machine.state()?;
    let running = !state.is_off();
    if recreate {
        compared.action = Action::Recreate;
        compared.lost = Some(Loss::of(context, &machine));
        return Ok(compared);
    }
    compared.action = match state {
        State::Stopped => Action::Start,
        state if state.is_halted() => Action::Resume,
        _ => Action::Leave,
    };
    // A damaged one fails when it is started.
    if let Ok(config) = machine.config() {
        compared.has = Some(config.image);
        note_differences(context, &mut compared, &machine, &config, running)?;
    }
    Ok(compared)
}

/// Notes how a machine differs from what it is to be.
fn note_differences(
    context: &Context,
    compared: &mut Compared,
    machine: &Machine,
    config: &MachineConfig,
    running: bool,
) -> Result<(), Failure> {
    let name = machine.name();
    let recreate = format!("vmfab up --recreate {name} creates it anew");
    match current(context, &compared.wanted.source)? {
        // It has an image that was not named here: whatever it is, it is in the store.
        Current::Whatever => compared.up_to_date = true,
        Current::Image(image) if image == config.image => compared.up_to_date = true,
        Current::Image(image) => compared.notes.push(format!(
            "machine \"{name}\" stays on the image {} that it was made of, which is {} now: {recreate}",
            config.image.short(),
            image.short()
        )),
        Current::NotBuilt => compared.notes.push(format!(
            "machine \"{name}\" stays on the image {} that it was made of; what its recipe gives now is \
             not built: {recreate}",
            config.image.short()
        )),
        Current::Gone(tag) => compared.notes.push(format!(
            "machine \"{name}\" stays on the image {} that it was made of; there is no image {tag} any \
             more",
            config.image.short()
        )),
    }
    let Some(settings) = &compared.wanted.settings else {
        return Ok(());
    };
    let mut fixed = Vec::new();
    let hardware = &settings.hardware;
    if hardware
        .disk_size
        .is_some_and(|size| size != config.disk_size())
    {
        fixed.push("disk");
    }
    if hardware
        .firmware
        .is_some_and(|firmware| firmware != config.firmware)
    {
        fixed.push("firmware");
    }
    if !fixed.is_empty() {
        compared.notes.push(format!(
            "machine \"{name}\" keeps its {}: {recreate}",
            fixed.join(" and ")
        ));
    }
    let ports = settings
        .ports
        .iter()
        .all(|port| config.ports.contains(port));
    let mut followed = config.clone();
    // Of a machine whose image is gone nothing is known.
    let image = image_config(&context.store()?, &config.image);
    let requires = image.map_or_else(|_| Requires::default(), |image| image.template.requires);
    followed.follow(hardware, &requires);
    let same = followed == *config && ports;
    if running && !same {
        compared.notes.push(format!(
            "machine \"{name}\" runs with other memory, processors, volumes, devices, ports or network than the file says: vmfab \
             down {name}, and vmfab up starts it with those"
        ));
    }
    Ok(())
}

/// The image that a machine would be made of now.
enum Current {
    Whatever,
    Image(ObjectId),
    NotBuilt,
    Gone(String),
}

fn current(context: &Context, source: &Source) -> Result<Current, Failure> {
    match source {
        Source::Any(_) => Ok(Current::Whatever),
        Source::Named(name) => match images::find(context, name) {
            Ok(FoundImage { image, .. }) => Ok(Current::Image(image)),
            Err(error) if error.is(Kind::NotFound) => Ok(Current::Gone(name.clone())),
            Err(error) => Err(error),
        },
        Source::Recipe(choice) => {
            Ok(world::known_image(context, choice)?.map_or(Current::NotBuilt, Current::Image))
        }
    }
}
