//! A root filesystem from a distribution's archive, through mmdebstrap.

use std::collections::BTreeMap;

use crate::derivation::SOURCE_DATE_EPOCH;
use crate::derivation::step::Bootstrap;
use crate::sandbox::{Edit, HostCommand, Task};

/// Ubuntu's archive; mmdebstrap knows only Debian's by itself.
const UBUNTU_MIRROR: &str = "http://archive.ubuntu.com/ubuntu";
/// Where Debian's package of Ubuntu's key ring has it, and Ubuntu's own.
const UBUNTU_KEYRING: &str = "/usr/share/keyrings/ubuntu-archive-keyring.gpg";

pub(super) fn tasks(params: &Bootstrap) -> Vec<Task> {
    let command = HostCommand {
        argv: arguments(params),
        env: BTreeMap::from([
            ("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            (
                "SOURCE_DATE_EPOCH".to_owned(),
                SOURCE_DATE_EPOCH.to_string(),
            ),
            ("TMPDIR".to_owned(), "/tmp".to_owned()),
        ]),
        writable: Vec::new(),
        network: true,
    };
    // mmdebstrap copies both from the host.
    let host_files = ["/etc/hostname", "/etc/resolv.conf"];
    let removed = host_files.map(|path| Edit::Remove {
        path: path.to_owned(),
    });
    vec![Task::Host(command), Task::Edit(removed.into())]
}

fn arguments(params: &Bootstrap) -> Vec<String> {
    let ubuntu = params.distribution == "ubuntu";
    let mut arguments: Vec<String> = [
        "mmdebstrap",
        // The worker's namespace already is what mmdebstrap's own modes would make.
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("--architectures={}", params.architecture));
    arguments.push(format!("--components={}", params.components.join(",")));
    // The variant has apt where it is required by something: on Debian, not on Ubuntu.
    let packages: Vec<&str> = std::iter::once("apt")
        .chain(params.packages.iter().map(String::as_str))
        .collect();
    arguments.push(format!("--include={}", packages.join(",")));
    let keyring = params
        .keyring
        .as_deref()
        .or(ubuntu.then_some(UBUNTU_KEYRING));
    arguments.extend(keyring.map(|path| format!("--keyring={path}")));
    arguments.push(params.suite.clone());
    arguments.push("{tree}".to_owned());
    let mirror = params.mirror.as_deref().or(ubuntu.then_some(UBUNTU_MIRROR));
    let suites: &[&str] = if ubuntu {
        &["", "-updates", "-security"]
    } else {
        &[""]
    };
    for suffix in mirror.iter().flat_map(|_| suites) {
        let (suite, components) = (&params.suite, params.components.join(" "));
        arguments.push(format!(
            "deb {} {suite}{suffix} {components}",
            mirror.unwrap_or_default()
        ));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(distribution: &str, mirror: Option<&str>) -> Bootstrap {
        Bootstrap {
            distribution: distribution.into(),
            suite: "suite".into(),
            components: vec!["main".into(), "universe".into()],
            architecture: "amd64".into(),
            mirror: mirror.map(str::to_owned),
            keyring: None,
            packages: vec!["a".into(), "b".into()],
        }
    }

    #[test]
    fn debian_leaves_the_archive_to_mmdebstrap() {
        let line = arguments(&params("debian", None)).join(" ");
        insta::assert_snapshot!(line, @r#"mmdebstrap --mode=root --variant=minbase --format=directory --architectures=amd64 --components=main,universe --include=apt,a,b suite {tree}"#);
        let line = arguments(&params("debian", Some("http://m/debian"))).join(" ");
        assert!(
            line.ends_with("suite {tree} deb http://m/debian suite main universe"),
            "{line}"
        );
    }

    #[test]
    fn ubuntu_has_its_own_archive_with_updates() {
        let arguments = arguments(&params("ubuntu", None));
        insta::assert_snapshot!(arguments[arguments.len() - 6..].join("\n"), @r#"
        --keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
        suite
        {tree}
        deb http://archive.ubuntu.com/ubuntu suite main universe
        deb http://archive.ubuntu.com/ubuntu suite-updates main universe
        deb http://archive.ubuntu.com/ubuntu suite-security main universe
        "#);
    }
}
