//! `vmfab watch`

mod page;
mod pane;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::prompt;
use super::super::screen::{Input, Look, Screen};
use super::super::session::Session;
use super::boot::TIMEOUT;
use super::several::check;
use super::{console, repeat, ssh, stop};
use crate::event::Silent;
use crate::failure::Failure;
use crate::machine::{Machine, Until};
use crate::ops::Context;
use crate::ops::machine::{
    self, Affected, Each, Glance, Lister, SshOptions, StartOptions, Targets,
};
use page::{Id, Page, Wish};

/// How often machines are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// The same with `--json`.
const EVERY_JSON: Duration = Duration::from_secs(1);
/// Lines of each console that one can scroll through.
const LINES: usize = 1000;
/// The same with `--json`.
const LINES_JSON: usize = 20;
/// How long a guest may take to shut down; as vmfab stop has it.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// Show machines and their consoles side by side
///
/// Show the machines of the project, or of the home if the project has none, as a page of consoles:
/// the state of each machine, the processors and the memory that it uses, and what its guest wrote
/// last. Keys open a session, attach to the console, stop and restart the selected machine; ? lists
/// them. vmfab asks before it stops a machine that runs. Whatever a guest writes is shown as plain
/// text.
///
/// With --json, print the same as one line each second, with the last 20 lines of each console.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab watch
  vmfab watch web worker             a machine, and all machines of the node worker
  vmfab watch --all
  vmfab watch --json | jq -c '.[] | [.name, .state, .console[-1]]'")]
pub(crate) struct Watch {
    /// Machines; the name of a node with count= in vmfab.kdl stands for all of its machines
    /// [default: all of the project, or of the home if the project has none]
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// All machines of the home and of all projects
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
}

impl Watch {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let targets = match (self.all, self.names) {
            (true, _) => Targets::Everywhere,
            (false, names) if names.is_empty() => Targets::All(Affected::Any),
            (false, names) => Targets::Named(names),
        };
        let context = match session.json() {
            true => session.reading_context()?,
            false => session.context()?,
        };
        // Later, machines come and go.
        check(targets.find(context)?, "found")?;
        if session.json() {
            let mut lister = Lister::default();
            let ask = || {
                let found = machine::glance(context, &mut lister, &targets, LINES_JSON)?;
                Ok(found.into_iter().map(|(_, glance)| glance).collect())
            };
            return repeat::watch(session, EVERY_JSON, ask, |_: &Vec<Glance>| String::new());
        }
        let screen = Screen::open(
            session,
            &context.interrupt,
            "vmfab list --watch lists machines anywhere; --json prints what the page shows",
        )?;
        Watching::new(session, context, targets)?.run(screen)
    }
}

/// Machines that are shown, and what is done with them.
struct Watching<'a> {
    session: &'a Session,
    context: &'a Context,
    page: Page,
    machines: BTreeMap<Id, Machine>,
    found: Receiver<Result<Vec<(Machine, Glance)>, Failure>>,
    /// What runs in the background.
    works: Vec<Work>,
}

/// Something that is done with a machine.
struct Work {
    id: Id,
    thread: JoinHandle<Result<String, Failure>>,
}

impl<'a> Watching<'a> {
    fn new(session: &'a Session, context: &'a Context, targets: Targets) -> Result<Self, Failure> {
        // While the terminal is somebody else's, it waits with what it found.
        let (sender, found) = sync_channel(0);
        let looking = context.clone();
        spawn("machines", move || {
            let mut lister = Lister::default();
            loop {
                let found = machine::glance(&looking, &mut lister, &targets, LINES);
                if sender.send(found).is_err() {
                    return;
                }
                thread::sleep(EVERY);
            }
        })?;
        Ok(Self {
            session,
            context,
            page: Page::new(Look::of(session)),
            machines: BTreeMap::new(),
            found,
            works: Vec::new(),
        })
    }

    fn run(mut self, mut screen: Screen) -> Result<Status, Failure> {
        let shown = self.show(&mut screen);
        drop(screen);
        let worked = self.finish();
        shown.and(worked)
    }

    /// Until the user has enough.
    fn show(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let mut changed = true;
        loop {
            if self.context.interrupt.requested() {
                return Err(Failure::interrupted());
            }
            changed |= self.look()?;
            changed |= self.end_works();
            if changed {
                screen.draw(|frame| self.page.draw(frame))?;
            }
            let input = screen.input()?;
            changed = input != Input::Nothing;
            if let Input::Key(key) = input
                && let Some(wish) = self.page.key(key)
            {
                match wish {
                    Wish::Quit => return Ok(()),
                    wish => self.grant(screen, wish)?,
                }
            }
        }
    }

    /// Takes what was found since the last time; returns whether there is something.
    fn look(&mut self) -> Result<bool, Failure> {
        match self.found.try_recv() {
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => {
                Err(Failure::failed("machines can no longer be asked"))
            }
            Ok(found) => {
                let found = found?;
                self.machines.clear();
                let mut glances = Vec::new();
                for (machine, glance) in found {
                    self.machines.insert(page::id(&glance), machine);
                    glances.push(glance);
                }
                self.page.update(glances);
                Ok(true)
            }
        }
    }

    fn grant(&mut self, screen: &mut Screen, wish: Wish) -> Result<(), Failure> {
        let (Wish::Ssh(id) | Wish::Console(id) | Wish::Stop(id) | Wish::Restart(id)) = &wish else {
            return Ok(());
        };
        let Some(machine) = self.machines.get(id).cloned() else {
            return Ok(());
        };
        match wish {
            Wish::Ssh(_) => self.enter(screen, &machine, Self::ssh),
            Wish::Console(_) => self.enter(screen, &machine, Self::console),
            Wish::Stop(id) => self.begin(id, "stopping", move |context| {
                let stopped = machine::stop_machine(context, &machine, SHUTDOWN)?;
                Ok(stop::describe(&stopped))
            }),
            Wish::Restart(id) => self.begin(id, "restarting", move |context| {
                let options = StartOptions {
                    until: Until::Ssh,
                    timeout: Duration::from_secs(TIMEOUT),
                };
                let started = machine::restart(context, &machine, SHUTDOWN, options)?;
                Ok(format!("{}: ready", started.name))
            }),
            Wish::Quit => Ok(()),
        }
    }

    /// Leaves the page for a machine, and comes back.
    fn enter(
        &mut self,
        screen: &mut Screen,
        machine: &Machine,
        how: fn(&Self, &Machine) -> Result<Status, Failure>,
    ) -> Result<(), Failure> {
        let status = screen.away(|| how(self, machine))?;
        let name = machine.name();
        match status {
            Ok(Status::Done | Status::Code(0)) => {}
            Ok(Status::Code(code)) => {
                let ended = format!("{name}: the session ended with {code}");
                self.page.tell(&ended);
            }
            Err(failure) => self.page.tell(&format!("{name}: {failure}")),
        }
        Ok(())
    }

    fn ssh(&self, machine: &Machine) -> Result<Status, Failure> {
        let ssh = machine::ssh(machine, &SshOptions::default(), &[])?;
        let status = ssh::run_session(self.session, self.context, machine, ssh)?;
        if status == Status::Code(ssh::NOT_OPENED) && !self.context.interrupt.requested() {
            // Above it is what ssh says of that.
            prompt::line("Enter goes back to vmfab watch ", &self.context.interrupt)?;
        }
        Ok(status)
    }

    fn console(&self, machine: &Machine) -> Result<Status, Failure> {
        console::attach(
            self.session,
            self.context,
            machine,
            &machine.console()?,
            &[],
        )
    }

    fn begin(
        &mut self,
        id: Id,
        doing: &'static str,
        work: impl FnOnce(&Context) -> Result<String, Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        self.page.busy.insert(id.clone(), doing);
        let mut context = self.context.clone();
        // Bars would be drawn over the page.
        context.sink = Arc::new(Silent);
        let thread = spawn("work", move || work(&context))?;
        self.works.push(Work { id, thread });
        Ok(())
    }

    /// Tells what has ended in the background; returns whether anything has.
    fn end_works(&mut self) -> bool {
        let ended: Vec<Work> = self
            .works
            .extract_if(.., |work| work.thread.is_finished())
            .collect();
        let any = !ended.is_empty();
        for work in ended {
            self.page.busy.remove(&work.id);
            match joined(work.thread) {
                Ok(done) => self.page.tell(done.trim_end()),
                Err(failure) => self.page.tell(&format!("{}: {failure}", work.id.1)),
            }
        }
        any
    }

    /// Waits for what was begun, without the page.
    fn finish(self) -> Result<Status, Failure> {
        if self.works.is_empty() {
            return Ok(Status::Done);
        }
        let names: Vec<_> = self.works.iter().map(|work| work.id.1.as_str()).collect();
        let names = names.join(", ");
        self.session
            .note(&format!("not yet done: {names}; Ctrl-C gives up"));
        let mut each = Each {
            done: Vec::new(),
            failures: Vec::new(),
        };
        for work in self.works {
            match joined(work.thread) {
                Ok(done) => {
                    self.session.note(done.trim_end());
                    each.done.push(done);
                }
                Err(failure) => each.failures.push(failure),
            }
        }
        check(each, "stopped or restarted")
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| Failure::failed(format!("no thread can be started: {error}")))
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
