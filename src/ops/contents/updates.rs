//! For which packages of an image the archives have newer versions: the package manager of the
//! image asks them, with the sources and keys that are in it, in a sandbox over its layers.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::super::images;
use super::Context;
use crate::derivation::{BuildRequest, Graph, Step, action_key};
use crate::digest::ObjectId;
use crate::event::Event;
use crate::failure::Failure;
use crate::instruction::{Run, StepLimits};
use crate::sandbox::{Command, Job, Lent, Runner as _, Sandbox, Task};

/// Ends what the manager says while it asks the archives.
const BEGIN: &str = "vmfab: versions of ";

/// Asks the archives, and then prints what is installed and what they have.
const SCRIPT: &str = r#"if command -v apt-get > /dev/null
then
    apt='-qq -o Acquire::Languages=none -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache='
    apt-get $apt update -o APT::Update::Error-Mode=any
    echo 'vmfab: versions of apt'
    dpkg-query -W -f '${db:Status-Abbrev}|${binary:Package}\n' | sed -n 's/^.i *|//p' |
        xargs apt-cache $apt policy
elif command -v apk > /dev/null
then
    apk --no-progress update
    echo 'vmfab: versions of apk'
    apk version -l '<'
else
    echo 'neither apt nor apk is in the image' >&2
    exit 1
fi"#;

/// What the archives have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Updates {
    pub image: ObjectId,
    /// Its tag, or the first digits of its id.
    pub name: String,
    /// `apt` or `apk`.
    pub manager: String,
    /// Sorted by name.
    pub packages: Vec<Update>,
}

/// A package with a newer version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Update {
    pub name: String,
    pub installed: String,
    pub available: String,
    /// The archive that has it, as the package manager names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
}

/// Asks for newer packages.
///
/// # Errors
/// There is no such image, its layers are not in the store, it has no package manager that is
/// known, or an archive does not answer.
pub fn updates(context: &Context, image: &str) -> Result<Updates, Failure> {
    if context.offline {
        return Err(Failure::usage(
            "only the archives know newer packages, and --offline asks nobody",
        )
        .with_help("leave out --offline"));
    }
    let found = images::find(context, image)?;
    let name = found.display_name();
    let store = context.store()?;
    let layers = &found.config.layers;
    if layers.is_empty() || layers.iter().any(|layer| !store.has_object(layer)) {
        return Err(Failure::failed(format!(
            "the layers of {name} are not in the store: the package manager runs over them"
        ))
        .with_help(
            "build the image on this host; in a machine of it, ask the package manager there",
        ));
    }
    let run = Run {
        command: SCRIPT.to_owned(),
        shell: vec!["/bin/sh".to_owned(), "-ec".to_owned()],
        env: [("LC_ALL".to_owned(), "C.UTF-8".to_owned())].into(),
        workdir: None,
        network: true,
        limits: StepLimits::default(),
        user: None,
        name: None,
    };
    let command = Command {
        label: Some(format!("check-updates {name}")),
        argv: [run.shell.clone(), vec![run.command.clone()]].concat(),
        env: run.env.clone(),
        network: true,
        ..Command::default()
    };
    let mut graph = Graph::default();
    let node = graph.add_step("check-updates", &Step::Check(run), Vec::new())?;
    let derivation = graph.get(node);
    let sandbox = Sandbox::new(&context.home, store).telling(context.sink.clone());
    let sandbox = sandbox.bounded(Some(context.config.limits.template_steps));
    let scratch = sandbox.scratch()?;
    let lines = Mutex::new(Vec::new());
    let said = |line: &str| {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line.to_owned());
    };
    context.emit(Event::Note {
        message: format!("asking the archives of {name}"),
    });
    let request = BuildRequest {
        key: action_key(derivation, &[]),
        derivation,
        inputs: &[],
        log: &scratch.path().join("check-updates.log"),
        log_limit: context.config.limits.step_log,
        output: &said,
        interrupt: &context.interrupt,
    };
    let job = Job::over(layers, vec![Task::Command(command)]);
    sandbox.run(job, &Lent::default(), &scratch, &request)?;
    let lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut lines = lines.iter().map(String::as_str);
    let manager = lines.find_map(|line| line.strip_prefix(BEGIN));
    let manager = manager.unwrap_or_default().to_owned();
    let mut packages = match manager.as_str() {
        "apt" => of_apt(lines),
        _ => of_apk(lines),
    };
    packages.sort();
    packages.dedup();
    Ok(Updates {
        image: found.image,
        name,
        manager,
        packages,
    })
}

/// Packages that apt would replace, of `apt-cache policy` (apt-cache(8)): its candidate is another
/// version than what is installed. Preferences of the image count.
fn of_apt<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Update> {
    let mut found: Vec<Update> = Vec::new();
    let (mut name, mut installed) = ("", "");
    // Whether the lines are those of the version that was found last.
    let (mut newer, mut is_its) = (false, false);
    for line in lines {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if depth == 0 {
            name = text.trim_end_matches(':');
            (newer, is_its) = (false, false);
        } else if let Some(version) = text.strip_prefix("Installed: ") {
            installed = version;
        } else if let Some(version) = text.strip_prefix("Candidate: ") {
            newer = version != installed && version != "(none)";
            if newer {
                found.push(Update {
                    name: name.to_owned(),
                    installed: installed.to_owned(),
                    available: version.to_owned(),
                    archive: None,
                });
            }
        } else if newer && let Some(last) = found.last_mut() {
            let mut words = text.trim_start_matches("*** ").split_whitespace();
            let first = words.next().unwrap_or_default();
            // `VERSION PRIORITY`, and below it `PRIORITY ADDRESS SUITE ARCHITECTURE Packages`.
            if depth < 8 {
                is_its = first == last.available;
            } else if is_its && last.archive.is_none() {
                let archive: Vec<&str> = words.take(2).collect();
                last.archive = Some(archive.join(" "));
            }
        }
    }
    found
}

/// Packages of `apk version -l '<'` (apk-version(8)): `NAME-VERSION-rRELEASE < VERSION-rRELEASE`.
fn of_apk<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Update> {
    let found = lines.filter_map(|line| {
        let (installed, available) = line.split_once(" < ")?;
        let (rest, release) = installed.trim_end().rsplit_once('-')?;
        let (name, version) = rest.rsplit_once('-')?;
        let mut available = available.split_whitespace();
        Some(Update {
            name: name.to_owned(),
            installed: format!("{version}-{release}"),
            available: available.next()?.to_owned(),
            archive: available.next().map(str::to_owned),
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(updates: &[Update]) -> Vec<String> {
        let one = |update: &Update| {
            let Update {
                name,
                installed,
                available,
                archive,
            } = update;
            let archive = archive.as_deref().unwrap_or("-");
            format!("{name} {installed} {available} {archive}")
        };
        updates.iter().map(one).collect()
    }

    #[test]
    fn candidates_of_apt_that_are_not_installed_are_updates() {
        let text = "\
bash:
  Installed: 5.2.15-2+b2
  Candidate: 5.2.15-2+b7
  Version table:
     5.2.15-2+b7 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
        500 http://mirror.example.org/debian bookworm/main amd64 Packages
 *** 5.2.15-2+b2 100
        100 /var/lib/dpkg/status
libc6:i386:
  Installed: 2.36-9
  Candidate: 2.36-9
  Version table:
 *** 2.36-9 500
        500 http://deb.debian.org/debian bookworm/main i386 Packages
own:
  Installed: 1
  Candidate: 1
  Version table:
 *** 1 100
        100 /var/lib/dpkg/status
";
        let expected = ["bash 5.2.15-2+b2 5.2.15-2+b7 http://deb.debian.org/debian bookworm/main"];
        assert_eq!(shown(&of_apt(text.lines())), expected);
    }

    #[test]
    fn newer_packages_of_apk_are_updates() {
        let text = "\
Installed:                                Available:
ssl_client-1.37.0-r12                   < 1.37.0-r14
musl-utils-1.2.5-r9                     < 1.2.5-r10
";
        let expected = [
            "ssl_client 1.37.0-r12 1.37.0-r14 -",
            "musl-utils 1.2.5-r9 1.2.5-r10 -",
        ];
        assert_eq!(shown(&of_apk(text.lines())), expected);
    }
}
