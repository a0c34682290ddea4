//! `vmfab builds`

use clap::{Args, Subcommand};

use super::super::Status;
use super::super::output::{age, duration};
use super::super::session::Session;
use super::super::table::{Align, Table};
use super::repeat::{WatchArgs, watch};
use crate::failure::Failure;
use crate::ops::Context;
use crate::ops::builds::{self, BuildState, Outcome};

/// Show builds, including those of other terminals
///
/// List the builds that run in this home: how many of their steps are done, what runs now, and how
/// long the rest took in earlier builds. A build whose steps are all in the store is not listed.
/// vmfab keeps the last 20 builds that ended.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  vmfab builds
  vmfab builds --all
  vmfab builds --watch
  vmfab builds follow 3fa2
  vmfab builds cancel 3fa2"
)]
pub(crate) struct Builds {
    #[command(subcommand)]
    command: Option<Which>,

    /// Also list builds that ended
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    watch: WatchArgs,
}

#[derive(Debug, Subcommand)]
enum Which {
    Logs(Logs),
    Follow(Follow),
    Cancel(Cancel),
}

/// Show what a build did so far
///
/// Print the same lines as the build itself; with -v also the output of its steps.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab builds logs 3fa2
  vmfab builds logs -v 3fa2")]
struct Logs {
    /// Id of the build, or its first digits
    #[arg(value_name = "ID")]
    id: String,
}

/// Show what a build does until it ends
///
/// Exit with code 1 if the build fails or is cancelled. Ctrl-C stops following, not the build.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab builds follow 3fa2
  vmfab builds follow $(vmfab build --detach docker)")]
struct Follow {
    /// Id of the build, or its first digits
    #[arg(value_name = "ID")]
    id: String,
}

/// Cancel builds
///
/// Interrupt the vmfab that builds, as Ctrl-C in its terminal does, and wait until it has ended.
/// Finished steps stay in the store.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab builds cancel 3fa2
  vmfab builds --quiet | xargs vmfab builds cancel")]
struct Cancel {
    /// Ids of builds, or their first digits
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Builds {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            Some(Which::Logs(logs)) => {
                let context = session.context()?;
                builds::replay(context, &logs.id, false)?;
                return Ok(Status::Done);
            }
            Some(Which::Follow(follow)) => {
                let context = session.context()?;
                let state = builds::replay(context, &follow.id, true)?;
                session.end_progress();
                return ended(context, &state);
            }
            Some(Which::Cancel(cancel)) => {
                let context = session.context()?;
                let ids = cancel.ids.iter();
                let states = ids.map(|id| builds::cancel(context, id));
                let states = states.collect::<Result<Vec<_>, _>>()?;
                session.print(&states, |states| {
                    let lines = states.iter();
                    let lines = lines.map(|state| format!("{}: {}\n", state.id, state.word()));
                    lines.collect::<String>()
                })?;
                return Ok(Status::Done);
            }
            None => {}
        }
        let context = session.reading_context()?;
        let ask = || builds::list(context, self.all);
        if let Some(every) = self.watch.every() {
            return watch(session, every, || Ok(ask()), |found| table(found));
        }
        let found = ask();
        session.print(&found, |found| match (session.quiet(), found.is_empty()) {
            (true, _) => found
                .iter()
                .map(|state| format!("{}\n", state.id))
                .collect(),
            (false, true) => String::new(),
            (false, false) => table(found),
        })?;
        if found.is_empty() {
            session.note("no build runs; vmfab builds --all lists those that ended");
        }
        Ok(Status::Done)
    }
}

/// What became of a build that was followed.
fn ended(context: &Context, state: &BuildState) -> Result<Status, Failure> {
    let Some(ended) = state.ended.as_ref() else {
        return Ok(Status::Done);
    };
    if ended.outcome == Outcome::Done {
        return Ok(Status::Done);
    }
    let why = ended.error.as_ref().map(|error| format!(": {error}"));
    let (id, how) = (&state.id, state.word());
    let verb = if how == "failed" { "" } else { "was " };
    let message = format!("build {id} {verb}{how}{}", why.unwrap_or_default());
    Err(Failure::failed(message).with_output(builds::printed(context, id)))
}

/// A line for each build.
pub(super) fn brief(found: &[BuildState]) -> String {
    let line = |state: &BuildState| {
        let left = match left(state.seconds_left) {
            unknown if unknown.is_empty() => unknown,
            known => format!(", {known} left"),
        };
        format!(
            "{}: {} of {} steps for vmfab {}, {}{} (build {})\n",
            state.image.as_deref().unwrap_or("?"),
            state.done,
            state.steps,
            state.command,
            state.word(),
            left,
            state.id,
        )
    };
    found.iter().map(line).collect()
}

/// How long something still takes, as far as known.
fn left(seconds: Option<f64>) -> String {
    match seconds.map(f64::ceil) {
        None => String::new(),
        Some(0.0) => "soon".to_owned(),
        Some(seconds) if seconds < 100.0 => format!("{seconds} s"),
        Some(seconds) => duration(seconds),
    }
}

fn table(found: &[BuildState]) -> String {
    let mut table = Table::new([
        ("ID", Align::Left),
        ("COMMAND", Align::Left),
        ("IMAGE", Align::Left),
        ("STATE", Align::Left),
        ("STEPS", Align::Right),
        ("LEFT", Align::Right),
        ("STARTED", Align::Left),
        ("NOW", Align::Left),
    ]);
    for state in found {
        let steps = state.running.iter().map(|step| step.name.as_str());
        table.row([
            state.id.to_string(),
            state.command.clone(),
            state.image.clone().unwrap_or_default(),
            state.word().to_owned(),
            format!("{}/{}", state.done, state.steps),
            left(state.seconds_left),
            age(state.started as u64),
            steps.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_in_whole_seconds() {
        let texts = [None, Some(0.0), Some(0.2), Some(99.0), Some(100.1)].map(left);
        assert_eq!(texts, ["", "soon", "1 s", "99 s", "1 min 41 s"]);
    }
}
