//! A root filesystem from a distribution's archive, through mmdebstrap.

use std::collections::BTreeMap;

use crate::derivation::SOURCE_DATE_EPOCH;
use crate::derivation::step::Bootstrap;
use crate::sandbox::{Edit, HostCommand, Task};

/// Ubuntu's archive; mmdebstrap knows only Debian's by itself.
const UBUNTU_MIRROR: &str = "http://archive.ubuntu.com/ubuntu";
/// Where Debian's package of Ubuntu's key ring has it, and Ubuntu's own.
const UBUNTU_KEYRING: &str = "/usr/share/keyrings/ubuntu-archive-keyring.gpg";

/// What apt downloaded and the lists that it chose from go where `sandbox::Task::Packages` leaves
/// them. By `$VMFAB_JOB`: the path may hold anything.
const KEEP: &str = r#"
set -e
find "$1/var/cache/apt/archives" -maxdepth 1 -type f -name "*.deb" -exec \
    mv -t "$VMFAB_JOB/packages/archives/kept" -- {} +
APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get indextargets \
    --format '$(FILENAME)|$(METAKEY)|$(REPO_URI)' 'Created-By: Packages' > "$VMFAB_JOB/packages/archives/targets"
find "$1/var/lib/apt/lists" -maxdepth 1 -type f -name "*_*" -exec \
    mv -t "$VMFAB_JOB/packages/lists" -- {} +
"#;

/// Locked packages come from the archives on disk; the tree keeps its own sources.
const USE_LOCKED: &str = r#"
set -e
mv -- "$1/etc/apt/sources.list" "$VMFAB_JOB/packages/sources.list"
cp -- "$VMFAB_JOB/packages/archives/vmfab/sources.list" "$1/etc/apt/sources.list"
"#;
const USE_OWN: &str = r#"mv -- "$VMFAB_JOB/packages/sources.list" "$1/etc/apt/sources.list""#;

/// Host keys are no part of an image: the package of the SSH server makes none where there are
/// files of these names.
const NO_KEYS: &str = r#"
set -e
mkdir -p "$1/etc/ssh"
for kind in rsa ecdsa ed25519; do : > "$1/etc/ssh/ssh_host_${kind}_key"; done
"#;
/// Makes the initrd of each kernel, and the links to it, as the kernel's package would have.
/// `INITRD=No` keeps that from it: it would be made again for each package that has a part in it.
const INITRD: &str = r#"
set -e
rm -f "$1/etc/ssh/ssh_host_rsa_key" "$1/etc/ssh/ssh_host_ecdsa_key" "$1/etc/ssh/ssh_host_ed25519_key"
rmdir "$1/etc/ssh" 2>/dev/null || true
unset INITRD
for kernel in "$1"/boot/vmlinu[xz]-*; do
    test -e "$kernel" || continue
    image="${kernel#"$1"}"
    version="${image#/boot/vmlinu?-}"
    if test -x "$1/usr/bin/linux-update-symlinks"; then
        chroot "$1" linux-update-symlinks install "$version" "$image"
    fi
    for maker in initramfs-tools dracut; do
        hook="/etc/kernel/postinst.d/$maker"
        if test -x "$1$hook"; then chroot "$1" "$hook" "$version" "$image"; fi
    done
done
"#;

pub(super) fn tasks(params: &Bootstrap) -> Vec<Task> {
    let command = HostCommand {
        argv: arguments(params),
        env: BTreeMap::from([
            ("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
            ("INITRD".to_owned(), "No".to_owned()),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            (
                "SOURCE_DATE_EPOCH".to_owned(),
                SOURCE_DATE_EPOCH.to_string(),
            ),
            ("TMPDIR".to_owned(), "/tmp".to_owned()),
        ]),
        network: params.locked.is_none(),
    };
    // mmdebstrap copies two from the host, and the package systemd-resolved moves one of them away.
    let host_files = [
        "/etc/hostname",
        "/etc/resolv.conf",
        "/etc/.resolv.conf.systemd-resolved.bak",
    ];
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
    // So that all that was downloaded is there in the end; mmdebstrap removes it then.
    arguments.push("--skip=essential/unlink".to_owned());
    arguments.push(format!("--setup-hook={NO_KEYS}"));
    if params.locked.is_some() {
        arguments.push(format!("--setup-hook={USE_LOCKED}"));
    }
    arguments.push(format!("--customize-hook={INITRD}"));
    arguments.push(format!("--customize-hook={KEEP}"));
    if params.locked.is_some() {
        arguments.push(format!("--customize-hook={USE_OWN}"));
    }
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
            locked: None,
        }
    }

    /// The arguments without the hooks, which are scripts.
    fn line(params: &Bootstrap) -> String {
        let mut arguments = arguments(params);
        arguments.retain(|argument| !argument.contains("-hook="));
        arguments.join(" ")
    }

    #[test]
    fn debian_leaves_the_archive_to_mmdebstrap() {
        let default = line(&params("debian", None));
        insta::assert_snapshot!(default, @r#"mmdebstrap --mode=root --variant=minbase --format=directory --skip=essential/unlink --architectures=amd64 --components=main,universe --include=apt,a,b suite {tree}"#);
        let line = line(&params("debian", Some("http://m/debian")));
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
    #[test]
    fn locked_packages_come_from_the_disk_and_the_tree_keeps_its_sources() {
        let mut params = params("debian", None);
        let hooks = |params: &Bootstrap| {
            let hooks = arguments(params).into_iter();
            hooks
                .filter(|argument| argument.contains("-hook="))
                .collect::<Vec<_>>()
        };
        let unlocked = [
            format!("--setup-hook={NO_KEYS}"),
            format!("--customize-hook={INITRD}"),
            format!("--customize-hook={KEEP}"),
        ];
        assert_eq!(hooks(&params), unlocked);
        params.locked = Some(crate::digest::Hasher::new("test").finish());
        let expected = [
            format!("--setup-hook={NO_KEYS}"),
            format!("--setup-hook={USE_LOCKED}"),
            format!("--customize-hook={INITRD}"),
            format!("--customize-hook={KEEP}"),
            format!("--customize-hook={USE_OWN}"),
        ];
        assert_eq!(hooks(&params), expected);
        let tasks = tasks(&params);
        let Task::Host(command) = &tasks[0] else {
            panic!("{tasks:?}");
        };
        assert!(!command.network);
    }
}
