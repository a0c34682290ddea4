//! `vmfab plan`

use clap::{Args, ValueEnum};
use console::Style;

use super::super::Status;
use super::super::output::{self, count};
use super::super::session::Session;
use super::super::table::{Align, Table};
use super::cache::CacheArgs;
use super::recipe::{DockerfileArgs, LockArgs, RecipeArgs, SecretArgs};
use crate::failure::Failure;
use crate::ops::RecipeChoice;
use crate::ops::forecast::{self, Forecast, ForecastState};
use crate::ops::picture;

/// Show the steps of a build and which of them would run
///
/// Build nothing. The state of a step is "cached" if its result is in the store, "remote" if a
/// cache has it, "build" if it would run, and "depends" if it runs only when the result of an
/// earlier step changes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab plan docker
  vmfab plan docker --set base=debian-12 --json
  vmfab plan docker --format svg > docker.svg
  vmfab plan docker --format dot | dot -Tpdf > docker.pdf")]
pub(crate) struct Plan {
    #[command(flatten)]
    of: PlanArgs,

    /// Print the graph in another form: svg, a picture; dot, for Graphviz; json, as with --json
    ///
    /// Steps that would run stand out.
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    format: Option<Form>,
}

/// A form of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Dot,
    Svg,
    Json,
}

/// Options of commands that plan a build and build nothing.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    recipe: RecipeArgs,

    #[command(flatten)]
    dockerfile: DockerfileArgs,

    #[command(flatten)]
    lock: LockArgs,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    cache: CacheArgs,
}

impl PlanArgs {
    /// What the build would do.
    pub(super) fn forecast(self, session: &Session) -> Result<Forecast, Failure> {
        session.lend(self.secrets.read()?);
        let choice = self.recipe.choice(self.dockerfile, session)?;
        forecast(session, &self.lock.apply(choice), self.cache)
    }
}

impl Plan {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if session.json() && matches!(self.format, Some(Form::Dot | Form::Svg)) {
            return Err(
                Failure::usage("--json and --format ask for different things")
                    .with_help("drop one of them"),
            );
        }
        let planned = self.of.forecast(session)?;
        match self.format {
            None => return print(session, &planned),
            Some(Form::Json) => output::write_json(&planned)?,
            Some(Form::Dot) => output::write(&picture::dot(&planned))?,
            Some(Form::Svg) => output::write(&picture::svg(&planned))?,
        }
        Ok(Status::Done)
    }
}

/// Plans and prints.
pub(super) fn show(
    session: &Session,
    choice: RecipeChoice,
    cache: CacheArgs,
) -> Result<Status, Failure> {
    print(session, &forecast(session, &choice, cache)?)
}

fn forecast(
    session: &Session,
    choice: &RecipeChoice,
    cache: CacheArgs,
) -> Result<Forecast, Failure> {
    let context = session.reading_context()?.clone();
    let context = &context.with_access(cache.registries.access());
    forecast::forecast(context, choice, &cache.options(context)?)
}

fn print(session: &Session, planned: &Forecast) -> Result<Status, Failure> {
    session.print(planned, |planned| text(planned, session))?;
    Ok(Status::Done)
}

fn text(planned: &Forecast, session: &Session) -> String {
    let mut table = Table::new([
        ("STEP", Align::Right),
        ("STATE", Align::Left),
        ("NAME", Align::Left),
        ("READS", Align::Left),
        ("KEY", Align::Left),
    ]);
    for (index, step) in planned.steps.iter().enumerate() {
        let state = match step.state {
            ForecastState::Cached => Style::new().dim(),
            ForecastState::Remote => Style::new().cyan(),
            ForecastState::Build => Style::new().green(),
            ForecastState::Depends => Style::new().yellow(),
        };
        let state = session.style(state).apply_to(step.state.word());
        let inputs: Vec<_> = step.inputs.iter().map(|i| (i + 1).to_string()).collect();
        table.row([
            (index + 1).to_string(),
            state.to_string(),
            step.name.clone(),
            ranges(&inputs),
            step.key.map_or_else(String::new, |key| key.short()),
        ]);
    }
    let cached = planned.count(ForecastState::Cached);
    let remote = planned.count(ForecastState::Remote);
    let told = match remote {
        0 => String::new(),
        remote => format!(" {remote} remote,"),
    };
    format!(
        "{table}\n{}: {}, {cached} cached,{told} {} to build\n",
        planned.name,
        count(planned.steps.len(), "step"),
        planned.steps.len() - cached - remote
    )
}

/// At most three numbers: the lists of the last steps are long.
fn ranges(numbers: &[String]) -> String {
    match numbers {
        [first, _, _, .., last] => format!("{first} … {last}"),
        few => few.join(" "),
    }
}
