//! Steps of a recipe on a disk: what the tree pipeline does in a sandbox, done in a machine.
//!
//! The tasks of a step are the same in both (`tree`); here each becomes commands and files for a session.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::command::Command;
use super::session::{Report, Session};
use super::sessions::Sessions;
use super::spec::SessionSpec;
use crate::builder::tree;
use crate::derivation::step::{Guest, GuestAction, Packages, Step};
use crate::derivation::{BuildError, BuildRequest, Builder, Outputs};
use crate::digest::ObjectRef;
use crate::image::Access;
use crate::qemu::AccelChoice;
use crate::sandbox::{Edit, Task};
use crate::store::Store;

/// Memory of a machine for steps, in MiB: package managers and compilers of small things fit.
const MEMORY_MIB: u32 = 2048;
/// Virtual processors at most.
const CPUS: usize = 4;
/// How long a machine may take until it can be entered; many times what it takes without KVM.
const BOOT: Duration = Duration::from_secs(300);

/// Replaces the line of the file $1 that begins with $2 by $3, or adds it at the end.
const SET_LINE: &str = r#"
mkdir -p -- "${1%/*}/"
touch -- "$1"
PREFIX=$2 LINE=$3 awk '
    index($0, ENVIRON["PREFIX"]) == 1 && !done { print ENVIRON["LINE"]; done = 1; next }
    { print }
    END { if (!done) print ENVIRON["LINE"] }' "$1" >"$1.vmfab-new"
cat "$1.vmfab-new" >"$1"
rm -f "$1.vmfab-new"
"#;

/// Installs "$@", or the names that a system of its own has (the `case` is put in). The system has
/// just booted: what it does to its packages by itself is waited for.
const INSTALL: &str = r#"
if test "$(command -v cloud-init)" && test -d /run/cloud-init; then
    cloud-init status --wait >/dev/null 2>&1 || true
fi
test $# -gt 0 || exit 0
if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt='-qq -o DPkg::Lock::Timeout=600 -o Acquire::Languages=none'
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
    sessions: Sessions,
}

impl Builder for Steps {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, BuildError> {
        let Step::Guest(guest) = crate::builder::step(request)? else {
            return Err(crate::builder::wrong_kind(request));
        };
        let report = Report::from(request);
        let mut session = self.sessions.take(spec(&guest, request)?, &report)?;
        let source = request.inputs_of("source").next();
        if matches!(guest.action, GuestAction::Finish) {
            let disk = session.shutdown(&report)?;
            return Ok(Outputs::from([("disk".to_owned(), disk)]));
        }
        let is_check = matches!(guest.action, GuestAction::Check(_));
        for task in tasks(guest.action) {
            self.task(&mut session, task, source, &report)?;
        }
        if is_check {
            // What it changed stays for the next: a machine is not put back to where it was.
            session.looked();
            self.sessions.put_back(session);
            let ok = self.store.put_bytes(b"").map_err(BuildError::other)?;
            return Ok(Outputs::from([("ok".to_owned(), ok)]));
        }
        let disk = session.commit(&report)?;
        self.sessions.put_back(session);
        Ok(Outputs::from([("disk".to_owned(), disk)]))
    }
}

impl Steps {
    /// Builds with machines whose disks are in `store`.
    pub(in crate::builder) fn new(store: Store, sessions: Sessions) -> Self {
        Self { store, sessions }
    }

    /// One task, in a machine. `source` are the files of a `copy`, or the layer to unpack.
    fn task(
        &self,
        session: &mut Session,
        task: Work,
        source: Option<ObjectRef>,
        report: &Report<'_>,
    ) -> Result<(), BuildError> {
        let lacks = || BuildError::other(io::Error::other("the step lacks its files"));
        match task {
            Work::Packages(params) => session.run(install(params), report),
            Work::Copy {
                destination,
                mode,
                owner,
            } => {
                let source = source.ok_or_else(lacks)?;
                let (mut archive, below) =
                    self.archive(&source, &destination, mode, owner.as_deref())?;
                session.extract(&mut archive, &below, report)
            }
            Work::Unpack => {
                let layer = source.ok_or_else(lacks)?;
                let mut reader = self
                    .store
                    .open_object(&layer.id)
                    .map_err(BuildError::other)?;
                session.extract(&mut reader, "/", report)
            }
            Work::Tree(Task::Command(command)) => {
                let command = Command {
                    label: command.label,
                    argv: command.argv,
                    env: command.env,
                    workdir: command.workdir.unwrap_or_default(),
                    stdin: None,
                    seconds: command.limits.seconds,
                };
                session.run(command, report)
            }
            Work::Tree(Task::Edit(edits)) => edits
                .into_iter()
                .try_for_each(|edit| edit_in(session, edit, report)),
            Work::Tree(_) => Err(BuildError::other(io::Error::other(
                "this is a task for trees alone",
            ))),
        }
    }

    /// The files of a `copy` as a tar with modes and owners as the step has them, and the directory to
    /// unpack it in.
    fn archive(
        &self,
        source: &ObjectRef,
        destination: &str,
        mode: Option<u32>,
        owner: Option<&str>,
    ) -> Result<(std::fs::File, String), BuildError> {
        let reader = self
            .store
            .open_object(&source.id)
            .map_err(BuildError::other)?;
        let file = self.store.temporary().map_err(BuildError::other)?;
        let below = repack(reader, file.as_file(), destination, mode, owner)
            .map_err(BuildError::io("write", file.path()))?;
        let mut file = file.into_file();
        io::Seek::rewind(&mut file)
            .map_err(BuildError::io("read", Path::new("a temporary file")))?;
        Ok((file, below))
    }
}

/// What is to be done in a machine.
enum Work {
    /// As in a tree.
    Tree(Task),
    Packages(Packages),
    Copy {
        destination: String,
        mode: Option<u32>,
        owner: Option<String>,
    },
    Unpack,
}

/// What an action consists of.
fn tasks(action: GuestAction) -> Vec<Work> {
    let step = match action {
        GuestAction::Packages(params) => return vec![Work::Packages(params)],
        GuestAction::Copy(params) => {
            return vec![Work::Copy {
                destination: params.destination,
                mode: params.mode,
                owner: params.owner,
            }];
        }
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

fn spec(guest: &Guest, request: &BuildRequest<'_>) -> Result<SessionSpec, BuildError> {
    let access: Access = serde_json::from_value(guest.access.clone()).map_err(BuildError::other)?;
    let disk = request.inputs_of("disk").next();
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(CPUS));
    Ok(SessionSpec {
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

fn edit_in(session: &mut Session, edit: Edit, report: &Report<'_>) -> Result<(), BuildError> {
    match edit {
        Edit::Write {
            path,
            content,
            mode,
            owner,
        } => session.write(&path, content.as_bytes(), mode, owner.as_deref(), report),
        Edit::SetLine { path, prefix, line } => {
            let argv = ["/bin/sh", "-euc", SET_LINE, "line", &path, &prefix, &line];
            let command = Command {
                label: Some(format!("set a line of {path}")),
                argv: argv.map(str::to_owned).into(),
                ..Command::default()
            };
            session.run(command, report)
        }
        other => Err(BuildError::other(io::Error::other(format!(
            "{other:?} is an edit for trees alone"
        )))),
    }
}

/// Writes the tar of a `copy` step anew for tar(1) in a guest, and gives the directory to unpack it in.
/// A single file named `.` becomes `destination`; everything else goes below it.
fn repack(
    source: impl io::Read,
    target: &std::fs::File,
    destination: &str,
    mode: Option<u32>,
    owner: Option<&str>,
) -> io::Result<String> {
    let (user, group) = match owner.map(|owner| owner.split_once(':').unwrap_or((owner, ""))) {
        Some((user, group)) => (user, group),
        None => ("root", "root"),
    };
    let mut archive = tar::Archive::new(source);
    let mut builder = tar::Builder::new(io::BufWriter::with_capacity(1 << 20, target));
    let mut below = destination.to_owned();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut path = entry.path()?.into_owned();
        let mut header = entry.header().clone();
        let kind = header.entry_type();
        if path == Path::new(".") {
            if !kind.is_file() {
                continue;
            }
            let whole = Path::new(destination);
            path = whole.file_name().unwrap_or_default().into();
            below = whole
                .parent()
                .map_or_else(|| "/".to_owned(), |parent| parent.display().to_string());
        }
        if let Some(mode) = mode.filter(|_| kind.is_file()) {
            header.set_mode(mode);
        }
        own(&mut header, user, group)?;
        match entry.link_name()? {
            Some(link) => builder.append_link(&mut header, &path, link)?,
            None => builder.append_data(&mut header, &path, &mut entry)?,
        }
    }
    io::Write::flush(&mut builder.into_inner()?)?;
    Ok(below)
}

/// Names go before numbers where the guest knows them. A group that is not given is the user's name:
/// that is what tar(1) of a system with a group for each user makes of it.
fn own(header: &mut tar::Header, user: &str, group: &str) -> io::Result<()> {
    let group = if group.is_empty() { user } else { group };
    match user.parse() {
        Ok(uid) => header.set_uid(uid),
        Err(_) => header.set_username(user)?,
    }
    match group.parse() {
        Ok(gid) => header.set_gid(gid),
        Err(_) => header.set_groupname(group)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            builder
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn repacked(
        entries: &[(&str, &str)],
        destination: &str,
        owner: Option<&str>,
    ) -> (String, Vec<String>) {
        let mut file = tempfile::tempfile().unwrap();
        let below = repack(&packed(entries)[..], &file, destination, Some(0o600), owner).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut archive = tar::Archive::new(file);
        let lines = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            format!(
                "{} {:o} {}:{}",
                entry.path().unwrap().display(),
                header.mode().unwrap(),
                header.username().unwrap().unwrap_or(""),
                header.groupname().unwrap().unwrap_or("")
            )
        });
        (below, lines.collect())
    }

    #[test]
    fn one_file_gets_the_name_of_its_destination() {
        let (below, lines) = repacked(&[(".", "x")], "/usr/bin/tool", Some("web:adm"));
        assert_eq!(below, "/usr/bin");
        assert_eq!(lines, ["tool 600 web:adm"]);
        let (below, _) = repacked(&[(".", "x")], "/tool", None);
        assert_eq!(below, "/");
    }

    #[test]
    fn a_directory_goes_below_its_destination() {
        let (below, lines) = repacked(&[("a", "1"), ("b/c", "2")], "/srv/www", None);
        assert_eq!(below, "/srv/www");
        assert_eq!(lines, ["a 600 root:root", "b/c 600 root:root"]);
    }

    #[test]
    fn scripts_are_scripts() {
        let params = Packages {
            names: vec!["a".into()],
            on: [("alpine".to_owned(), vec!["b".to_owned(), "c".to_owned()])].into(),
            recommends: false,
            limits: Default::default(),
            locked: None,
        };
        let install = install(params).argv;
        for script in [SET_LINE, &install[2]] {
            let status = std::process::Command::new("sh")
                .args(["-n", "-c", script])
                .status();
            assert!(status.unwrap().success(), "{script}");
        }
        assert!(install[2].contains("'alpine') set -- 'b' 'c' ;;"));
    }

    #[test]
    fn a_line_is_set_or_added() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etc/hosts");
        let path = path.to_str().unwrap();
        for (line, expected) in [
            ("127.0.1.1 a", "127.0.1.1 a\n"),
            ("127.0.1.1 b", "127.0.1.1 b\n"),
            ("::1 c", "127.0.1.1 b\n::1 c\n"),
            ("A a\\tb", "127.0.1.1 b\n::1 c\nA a\\tb\n"),
        ] {
            let prefix = line.split(' ').next().unwrap();
            let status = std::process::Command::new("sh")
                .args(["-euc", SET_LINE, "line", path, prefix, line])
                .status();
            assert!(status.unwrap().success());
            assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
        }
    }
}
