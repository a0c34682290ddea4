//! Files of locked packages that the store does not have: downloaded by their address, with apt's
//! own helper, which knows its proxies and certificates. What comes counts only when it is what the
//! lock says.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::derivation::BuildRequest;
use crate::derivation::step::StepLimits;
use crate::digest::{ObjectRef, Sha256};
use crate::failure::Failure;
use crate::host::beneath;
use crate::lock::{Package, PackageSet};
use crate::sandbox::{Bind, Command, HostCommand, Job, Lent, Runner, Sandbox, Task};

/// Whose apt and dpkg are used.
#[derive(Clone, Copy)]
pub(in crate::builder) enum AptOf<'a> {
    /// Those of the host, where mmdebstrap takes this suite.
    Host(&'a str),
    /// Those of a tree of these layers.
    Tree(&'a [ObjectRef], &'a StepLimits),
}

/// Where a tree sees the files.
pub(super) const IN_TREE: &str = "/var/cache/apt/archives";

/// `$1` is the directory; then come address, name and SHA-256 of each file. Source: apt-helper has
/// no manual page; `apt-helper help`.
const DOWNLOAD: &str = r#"
cd -- "$1"; shift
exec /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file -- "$@"
"#;

/// `$1` is the directory.
const CONTROLS: &str = r#"
cd -- "$1"
for deb in *.deb; do dpkg-deb --field "$deb" > "$deb.control"; done
"#;

/// Downloads packages to the paths beside them.
pub(super) fn download(
    sandbox: &Sandbox,
    set: &PackageSet,
    missing: &[(&Package, PathBuf)],
    from: AptOf<'_>,
    request: &BuildRequest<'_>,
) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut arguments = Vec::new();
    for (package, _) in missing {
        let Some(url) = set.url(package) else {
            return Err(unavailable(package, "no archive has it", None));
        };
        arguments.push(url);
        arguments.push(format!("{}.deb", package.sha256));
        arguments.push(format!("SHA256:{}", package.sha256));
    }
    let scratch = sandbox.scratch()?;
    let directory = scratch.path().join("files");
    super::directory(&directory)?;
    let job = job(from, DOWNLOAD, arguments, true);
    let ran = sandbox.run(job, &Lent::default(), &scratch, request);
    let reason = match ran {
        Ok(_) => None,
        Err(error) if error.is_command() => (error.details().output.iter())
            .find(|line| line.starts_with("E: "))
            .or(error.details().output.last())
            .cloned(),
        Err(error) => return Err(error),
    };
    for (package, path) in missing {
        let file = directory.join(format!("{}.deb", package.sha256));
        if !is(&file, &package.sha256)? {
            let url = set.url(package);
            let own = reason.as_deref().filter(|reason| {
                // What it says of another file is no reason for this one.
                !reason.contains("://") || url.as_ref().is_some_and(|url| reason.contains(url))
            });
            return Err(unavailable(
                package,
                own.unwrap_or("it did not arrive"),
                url,
            ));
        }
        fs::rename(&file, path).map_err(Failure::step_io("rename", &file))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))
            .map_err(Failure::step_io("open up", path))?;
    }
    Ok(())
}

fn is(path: &Path, sha256: &Sha256) -> Result<bool, Failure> {
    match super::sha256(path) {
        Ok((found, _)) => Ok(found == *sha256),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::step_io("read", path)(error)),
    }
}

fn unavailable(package: &Package, reason: &str, url: Option<String>) -> Failure {
    let Package { name, version, .. } = package;
    let place = url.map_or_else(String::new, |url| format!(" from {url}"));
    Failure::failed(format!(
            "cannot download {name} {version}{place}, which is locked and not in the store: {reason}"
        )).with_help("archives drop old versions: \"vmfab update\" moves the lock to what there is now; a recipe \
               that is to be built for years needs a mirror that keeps all, such as snapshot.debian.org"
            )
}

/// What packages say of themselves.
pub(super) fn controls(
    sandbox: &Sandbox,
    files: &[&Path],
    from: AptOf<'_>,
    request: &BuildRequest<'_>,
) -> Result<Vec<String>, Failure> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let scratch = sandbox.scratch()?;
    let directory = scratch.path().join("files");
    super::directory(&directory)?;
    for (index, file) in files.iter().enumerate() {
        let link = directory.join(format!("{index}.deb"));
        fs::hard_link(file, &link).map_err(Failure::step_io("link", file))?;
    }
    let job = job(from, CONTROLS, Vec::new(), false);
    sandbox.run(job, &Lent::default(), &scratch, request)?;
    let read = |index: usize| {
        let path = directory.join(format!("{index}.deb.control"));
        beneath::read_unlinked(&path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(Failure::step_io("read", &path))
    };
    (0..files.len()).map(read).collect()
}

/// A script that works in the directory `files` of the job.
fn job(from: AptOf<'_>, script: &str, arguments: Vec<String>, network: bool) -> Job {
    let seen = match from {
        AptOf::Host(_) => "{job}/files",
        AptOf::Tree(..) => IN_TREE,
    };
    let label = if network { "apt-helper" } else { "dpkg-deb" };
    let mut argv: Vec<String> = ["/bin/sh", "-euc", script, label, seen]
        .map(str::to_owned)
        .into();
    argv.extend(arguments);
    match from {
        AptOf::Host(_) => {
            let command = HostCommand {
                argv,
                env: BTreeMap::from([("LC_ALL".to_owned(), "C.UTF-8".to_owned())]),
                network,
            };
            Job::over(&[], vec![Task::Host(command)])
        }
        AptOf::Tree(layers, limits) => {
            let command = Command {
                label: Some(label.to_owned()),
                argv,
                network,
                binds: vec![Bind {
                    from: "files".into(),
                    to: IN_TREE.to_owned(),
                }],
                limits: limits.clone(),
                ..Command::default()
            };
            Job::over(layers, vec![Task::Command(command)])
        }
    }
}
