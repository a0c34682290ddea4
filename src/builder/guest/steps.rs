//! Steps of a recipe on a disk: what the tree pipeline does in a sandbox, done in a machine.
//!
//! The tasks of a step are the same in both (`tree`); here each becomes commands and files for a
//! build machine.

use std::io;
use std::time::Duration;

use super::build_machine::{BuildMachine, Report};
use super::build_machines::BuildMachines;
use super::command::Command;
use super::files::{self, Looked, Placing};
use super::shell::SET_LINE;
use super::spec::BuildMachineSpec;
use crate::builder::sources::{Source, Sources};
use crate::builder::tree;
use crate::derivation::step::{Copy, GuestAction, Step};
use crate::derivation::{BuildRequest, Builder, Outputs};
use crate::failure::Failure;
use crate::image::Access;
use crate::instruction::Packages;
use crate::limits::StepBounds;
use crate::qemu::AccelChoice;
use crate::sandbox::{DEFAULT_SECONDS, Edit, Task};
use crate::store::Store;

/// Memory of a machine for steps, in MiB: package managers and compilers of small things fit.
const MEMORY_MIB: u32 = 2048;
/// Virtual processors at most.
const CPUS: usize = 4;
/// How long a machine may take until it can be entered; many times what it takes without KVM.
const BOOT: Duration = Duration::from_secs(300);

/// Installs "$@", or the names that a system of its own has (the `case` is put in). The system has
/// just booted: what it does to its packages by itself is waited for.
const INSTALL: &str = r#"
if test "$(command -v cloud-init)" && test -d /run/cloud-init; then
    cloud-init status --wait >/dev/null 2>&1 || true
fi
test $# -gt 0 || exit 0
if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # dpkg keeps configuration files that earlier steps wrote.
    apt='-qq -o DPkg::Lock::Timeout=600 -o Acquire::Languages=none
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold'
    until apt-get $apt update -o APT::Update::Error-Mode=any; do
        # A timer of the system may have the lists.
        tries=$((${tries:-0} + 1))
        test $tries -lt 3 || exit 100
        sleep 5
    done
    recommends=--install-recommends
    test "$RECOMMENDS" = yes || recommends=--no-install-recommends
    apt-get $apt --yes $recommends install -- "$@"
elif command -v apk >/dev/null; then
    apk add --update-cache -- "$@"
elif command -v dnf >/dev/null; then
    weak=True
    test "$RECOMMENDS" = yes || weak=False
    dnf --assumeyes --setopt=install_weak_deps=$weak install -- "$@"
else
    echo "the system has neither apt, apk nor dnf" >&2
    exit 1
fi
"#;

/// Builds all kinds of steps that are done in a machine.
pub(in crate::builder) struct Steps {
    store: Store,
    sources: Sources,
    sessions: BuildMachines,
    most: Option<StepBounds>,
}

impl Builder for Steps {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Guest(guest) = crate::builder::step(request)? else {
            return Err(crate::builder::wrong_kind(request));
        };
        let report = Report::from(request);
        let mut booted = self
            .sessions
            .take(step_machine(guest.access.clone(), request)?, &report)?;
        if matches!(guest.action, GuestAction::Finish) {
            let disk = booted.shutdown(&report)?;
            return Ok(Outputs::from([("disk".to_owned(), disk)]));
        }
        let is_check = matches!(guest.action, GuestAction::Check(_));
        for task in tasks(guest.action) {
            self.task(&mut booted, task, request, &report)?;
        }
        if is_check {
            // What it changed stays for the next: a machine is not put back to where it was.
            booted.looked();
            self.sessions.put_back(booted);
            let ok = self.store.put_bytes(b"").map_err(Failure::of_step)?;
            return Ok(Outputs::from([("ok".to_owned(), ok)]));
        }
        let disk = booted.commit(&report)?;
        self.sessions.put_back(booted);
        Ok(Outputs::from([("disk".to_owned(), disk)]))
    }
}

impl Steps {
    /// Builds with machines whose disks are in `store`.
    pub(in crate::builder) const fn new(
        store: Store,
        sources: Sources,
        sessions: BuildMachines,
        most: Option<StepBounds>,
    ) -> Self {
        Self {
            store,
            sources,
            sessions,
            most,
        }
    }

    /// How long a command may take. The machine bounds what else it takes.
    fn seconds(&self, asked: Option<u64>) -> Option<u64> {
        match &self.most {
            Some(most) => Some(asked.unwrap_or(DEFAULT_SECONDS).min(most.seconds)),
            None => asked,
        }
    }

    /// One task, in a machine.
    fn task(
        &self,
        booted: &mut BuildMachine,
        task: Work,
        request: &BuildRequest<'_>,
        report: &Report<'_>,
    ) -> Result<(), Failure> {
        let source = || self.sources.of(request, "source");
        match task {
            Work::Packages(params) => {
                let mut command = install(params);
                command.seconds = self.seconds(command.seconds);
                booted.run(command, report)
            }
            Work::Copy(copy) => {
                let placing = Placing::Copied(&copy);
                self.place(booted, &source()?, placing, report)
            }
            Work::Unpack => self.place(booted, &source()?, Placing::Layer, report),
            Work::Tree(Task::Command(command)) => {
                let command = Command {
                    label: command.label,
                    argv: command.argv,
                    env: command.env,
                    workdir: command.workdir.unwrap_or_default(),
                    stdin: None,
                    seconds: self.seconds(command.limits.seconds),
                };
                booted.run(command, report)
            }
            Work::Tree(Task::Edit(edits)) => edits
                .into_iter()
                .try_for_each(|edit| edit_in(booted, edit, report)),
            Work::Tree(_) => Err(Failure::of_step(io::Error::other(
                "this is a task for trees alone",
            ))),
        }
    }

    /// Puts the files of an archive into the machine.
    fn place(
        &self,
        booted: &mut BuildMachine,
        source: &Source,
        placing: Placing<'_>,
        report: &Report<'_>,
    ) -> Result<(), Failure> {
        let tar = self.store.temporary().map_err(Failure::of_step)?;
        source.write_to(tar.as_file(), tar.path())?;
        let mut tar = tar.into_file();
        let file = self.store.temporary().map_err(Failure::of_step)?;
        let read = || Failure::step_io("read files for", booted.machine().directory());
        io::Seek::rewind(&mut tar).map_err(read())?;
        let questions = files::questions(&tar, placing).map_err(read())?;
        io::Seek::rewind(&mut tar).map_err(read())?;
        let looked = booted.look(&questions, report)?;
        let owner = match placing {
            Placing::Copied(copy) => owner(&looked, copy.owner.as_deref())?,
            Placing::Layer => (0, 0),
        };
        files::repack(&tar, file.as_file(), placing, owner, &looked)
            .map_err(Failure::step_io("write", file.path()))?;
        let mut file = file.into_file();
        io::Seek::rewind(&mut file).map_err(read())?;
        booted.extract(&mut file, "/", report)
    }
}

/// The ids of an owner in the machine.
fn owner(looked: &Looked, owner: Option<&str>) -> Result<(u32, u32), Failure> {
    looked.owner(owner).map_err(|message| {
        Failure::failed(message)
            .with_help("name one that exists at this step, or give the numeric id")
    })
}

/// What is to be done in a machine.
enum Work {
    Tree(Task),
    Packages(Packages),
    Copy(Copy),
    Unpack,
}

/// What an action consists of.
fn tasks(action: GuestAction) -> Vec<Work> {
    let step = match action {
        GuestAction::Packages(params) => return vec![Work::Packages(params.wanted)],
        GuestAction::Copy(params) => return vec![Work::Copy(params)],
        GuestAction::Unpack => return vec![Work::Unpack],
        GuestAction::Finish => return Vec::new(),
        GuestAction::Run(params) | GuestAction::Check(params) => Step::Run(params),
        GuestAction::File(params) => Step::File(params),
        GuestAction::User(params) => Step::User(params),
        GuestAction::Service(params) => Step::Service(params),
        GuestAction::Env(params) => Step::Env(params),
        GuestAction::Hostname(params) => Step::Hostname(params),
    };
    let tasks = tree::plain_tasks(&step).unwrap_or_default();
    tasks.into_iter().map(Work::Tree).collect()
}

/// A machine with the disk of a step.
pub(in crate::builder) fn step_machine(
    access: Access,
    request: &BuildRequest<'_>,
) -> Result<BuildMachineSpec, Failure> {
    let disk = request.inputs_of("disk").next();
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(CPUS));
    Ok(BuildMachineSpec {
        disk: disk.ok_or_else(|| crate::builder::wrong_kind(request))?,
        kernel: request.inputs_of("kernel").next(),
        initrd: request.inputs_of("initrd").next(),
        access,
        disk_size: None,
        memory_mib: MEMORY_MIB,
        cpus: u32::try_from(cpus).unwrap_or(1),
        accel: AccelChoice::Auto,
        boot_timeout: BOOT,
    })
}

fn install(params: Packages) -> Command<'static> {
    let quoted = |names: &[String]| {
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        quoted.join(" ")
    };
    let mut script = String::from("set -eu\nID=\n. /etc/os-release\n");
    if !params.on.is_empty() {
        script.push_str("case $ID in\n");
        for (id, names) in &params.on {
            // Names have no quotes in them: recipes with such are refused.
            script.push_str(&format!("'{id}') set -- {} ;;\n", quoted(names)));
        }
        script.push_str("esac\n");
    }
    script.push_str(INSTALL);
    let mut argv: Vec<String> = ["/bin/sh", "-euc", &script, "packages"]
        .map(str::to_owned)
        .into();
    argv.extend(params.names.iter().cloned());
    let recommends = if params.recommends { "yes" } else { "no" };
    Command {
        label: Some(format!("packages {}", params.names.join(" "))),
        argv,
        env: [("RECOMMENDS".to_owned(), recommends.to_owned())].into(),
        seconds: params.limits.seconds,
        ..Command::default()
    }
}

fn edit_in(booted: &mut BuildMachine, edit: Edit, report: &Report<'_>) -> Result<(), Failure> {
    match edit {
        Edit::Write {
            path,
            content,
            mode,
            owner: named,
            time,
        } => {
            let (user, group) = match named {
                Some(_) => owner(&booted.look(&[], report)?, named.as_deref())?,
                None => (0, 0),
            };
            let owner = format!("{user}:{group}");
            booted.write(&path, content.as_bytes(), mode, &owner, time, report)
        }
        Edit::WriteDefault {
            path,
            content,
            replaces,
        } if replaces.is_empty() => {
            let there = booted
                .root
                .script("test -e \"$1\" || test -L \"$1\"", &[&path]);
            if booted.quiet(&there, None, report)?.end.success() {
                return Ok(());
            }
            booted.write(&path, content.as_bytes(), 0o644, "0:0", None, report)
        }
        Edit::SetLine { path, prefix, line } => {
            let argv = ["/bin/sh", "-c", SET_LINE, "line", &path, &prefix, &line];
            let command = Command {
                label: Some(format!("set a line of {path}")),
                argv: argv.map(str::to_owned).into(),
                ..Command::default()
            };
            booted.run(command, report)
        }
        other => Err(Failure::of_step(io::Error::other(format!(
            "{other:?} is an edit for trees alone"
        )))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_scripts() {
        let params = Packages {
            names: vec!["a".into()],
            on: [("alpine".to_owned(), vec!["b".to_owned(), "c".to_owned()])].into(),
            recommends: false,
            limits: Default::default(),
        };
        let install = install(params).argv;
        let status = std::process::Command::new("sh")
            .args(["-n", "-c", &install[2]])
            .status();
        assert!(status.unwrap().success(), "{}", install[2]);
        assert!(install[2].contains("'alpine') set -- 'b' 'c' ;;"));
    }
}
