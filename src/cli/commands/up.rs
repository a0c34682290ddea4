//! `vmfab up`

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::output::{count, duration, size};
use super::super::session::Session;
use super::boot::{Accel, TIMEOUT};
use super::cache::CacheArgs;
use super::recipe::{AgreeArgs, DockerfileArgs, SecretArgs, parse_setting};
use super::rm::loss;
use super::several::OvercommitArgs;
use crate::failure::Failure;
use crate::machine::{Project, Until};
use crate::ops::project::{self, Action, ForeseenMachine, UpMachine, UpOptions};
use crate::ops::{Context, RecipeChoice};
use crate::world::usual_dockerfile;

/// Create and start the machines of a project
///
/// vmfab.kdl describes the machines of a project. vmfab looks for it in the working directory and
/// then in the directories above. Without one, vmfab makes a machine of each service of a
/// compose.yaml (vmfab compose --help). Without that, the project is the working directory, with
/// one machine of the same name: of the Dockerfile in it, else of the managed Alpine.
///
/// vmfab up builds missing images and creates missing machines. Existing machines keep their disks,
/// below .vmfab in the project: vmfab starts stopped ones and leaves running ones alone. A machine
/// starts when those that it depends on are ready. If the recipe of an image changes, its machines
/// keep their old image until --recreate.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab up
  vmfab up web && vmfab ssh web
  vmfab up --image @docker           in a directory without vmfab.kdl
  vmfab up --target dev --build-arg NODE=22      of the Dockerfile of this directory
  vmfab up --dry-run
  vmfab up --recreate web

A vmfab.kdl:
  machine \"control\" image=\"docker\" memory=\"2G\" { port 80 host=8080 }
  machine \"worker\" image=\"docker\" count=2 { depends-on \"control\" }")]
pub(crate) struct Up {
    /// Machines to start, with those that they depend on [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Create the machine from this, if vmfab.kdl is missing [default: Dockerfile, else alpine]
    #[arg(long, value_name = "NAME|@TAG|RECIPE")]
    image: Option<String>,

    /// Set a parameter of vmfab.kdl, or of the recipes that it names (repeatable)
    #[arg(short, long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,

    /// Choose the acceleration: auto, kvm, hvf or tcg [default: as vmfab.kdl says]
    #[arg(long, value_name = "WHICH", value_enum, hide_possible_values = true)]
    accel: Option<Accel>,

    /// Wait at most SECONDS for each machine until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,

    /// Remove the named machines, or all, and create them anew; their disks are lost
    #[arg(long)]
    recreate: bool,

    /// Take over the machines of a project that was moved or copied here
    #[arg(long)]
    adopt: bool,

    #[command(flatten)]
    room: OvercommitArgs,

    /// Do not ask before discarding data
    #[arg(short, long)]
    yes: bool,

    /// Show what would happen, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    dockerfile: DockerfileArgs,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    cache: CacheArgs,
}

impl Up {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let (yes, dry_run) = (self.yes, self.dry_run);
        session.lend(self.secrets.clone().read()?);
        let context = session.registry_context(self.cache.registries)?;
        let context = context.with_overcommit(self.room.overcommit);
        let context = &AgreeArgs { yes }.apply(context);
        let options = self.options(context)?;
        if dry_run {
            let foreseen = project::foresee(context, &options)?;
            session.print_last(
                &foreseen,
                |_| String::new(),
                |foreseen| {
                    foreseen
                        .machines
                        .iter()
                        .map(foreseen_text)
                        .collect::<String>()
                },
            )?;
            let all = foreseen.machines.len();
            let errors: Vec<Failure> = foreseen.failures;
            if errors.is_empty() {
                return Ok(Status::Done);
            }
            let message = format!(
                "{} of {} would not be up",
                errors.len(),
                count(all, "machine")
            );
            return Err(Failure::several(errors, message));
        }
        let up = project::up(context, &options, |compared| {
            let lost: Vec<String> = compared
                .iter()
                .filter_map(|machine| Some(loss(&machine.name, machine.lost.as_ref()?)))
                .collect();
            match lost.is_empty() || yes {
                true => Ok(()),
                false => session.confirm(&lost.join("\n"), "--yes"),
            }
        })?;
        session.print_last(
            &up,
            |up| {
                let names = up.machines.iter().filter(|machine| machine.error.is_none());
                names
                    .map(|machine| format!("{}\n", machine.name))
                    .collect::<String>()
            },
            |up| match &up.machines[..] {
                // The error follows, and says the same.
                [one] if one.outcome == "failed" => String::new(),
                several => several.iter().map(describe).collect(),
            },
        )?;
        let file = context.project.as_ref().and_then(Project::file);
        let file = file.as_deref().and_then(Path::file_name);
        let file = file.map_or("the project".into(), OsStr::to_string_lossy);
        for name in &up.left {
            session.note(&format!(
                "machine \"{name}\" is not in {file} any more, and is left as it is: vmfab rm --force \
                 {name} removes it"
            ));
        }
        let errors: Vec<Failure> = up.failures;
        if errors.is_empty() {
            return Ok(Status::Done);
        }
        let failed = up.machines.iter().filter(|machine| machine.error.is_some());
        let message = format!(
            "{} of {} not up",
            failed.count(),
            count(up.machines.len(), "machine")
        );
        Err(Failure::several(errors, message))
    }

    fn options(self, context: &Context) -> Result<UpOptions, Failure> {
        let project = context.project.as_ref();
        let file = project.and_then(Project::file);
        let usual = project.and_then(|project| usual_dockerfile(project.root()));
        let recipe = file
            .or_else(|| self.image.clone().map(PathBuf::from))
            .or(usual)
            .unwrap_or_default();
        let mut dockerfile = self.dockerfile.apply(RecipeChoice {
            recipe: recipe.to_string_lossy().into_owned(),
            settings: self.settings.into_iter().collect(),
            ..RecipeChoice::default()
        })?;
        Ok(UpOptions {
            cache: self.cache.options(context)?,
            names: self.names,
            image: self.image,
            settings: std::mem::take(&mut dockerfile.settings),
            dockerfile,
            accel: self.accel.map(Into::into),
            recreate: self.recreate,
            adopt: self.adopt,
            until: Until::Ssh,
            timeout: Duration::from_secs(self.timeout),
        })
    }
}

/// What would be done with a machine.
fn foreseen_text(machine: &ForeseenMachine) -> String {
    let compared = &machine.compared;
    let what = match compared.action {
        Action::Make => "would be created and started".to_owned(),
        Action::Recreate => format!(
            "would be removed with its disk ({} of its own), created anew and started",
            size(compared.lost.as_ref().map_or(0, |lost| lost.stored_size))
        ),
        Action::Start => "would be started".to_owned(),
        Action::Resume => "is halted, and would resume".to_owned(),
        Action::Leave => "is already running".to_owned(),
    };
    let what = match &machine.error {
        Some(error) => format!("would fail: {error}"),
        None => what,
    };
    let mut text = format!("{}: {what}\n", compared.name);
    for note in &compared.notes {
        text += &format!("  {note}\n");
    }
    text
}

/// What became of a machine, and what the user can do now.
fn describe(machine: &UpMachine) -> String {
    let name = &machine.name;
    if let Some(error) = &machine.error {
        let not = match machine.outcome {
            "skipped" => "was not started",
            _ => "failed",
        };
        return format!("{name}: {not}: {error}\n");
    }
    let how = match (machine.outcome, machine.seconds) {
        ("running", _) => "is already running".to_owned(),
        ("resumed", _) => "resumed".to_owned(),
        (outcome, Some(seconds)) => format!("{outcome}, ready after {}", duration(seconds)),
        (outcome, None) => outcome.to_owned(),
    };
    let mut text = match machine.ssh {
        Some(_) => format!("{name}: {how}; enter it with: vmfab ssh {name}\n"),
        None => format!("{name}: {how}\n"),
    };
    for port in &machine.ports {
        text += &format!("{name}: {port}\n");
    }
    text
}
