//! A package of Debian that the archive has in two versions, whichever they are today.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::{printed, time, tool};

/// In this order: packages of about 1.5 MB that can be upgraded alone, and of which nothing is in
/// the initrd, which would change as a whole.
const CANDIDATES: [&str; 3] = ["openssl", "libgnutls30", "bind9-libs"];

/// The suites that mmdebstrap installs from when it is given none.
const SOURCES: &str = "\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://security.debian.org/debian-security bookworm-security main
";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A package and its two newest versions.
pub(crate) struct Upgrade {
    pub(crate) package: &'static str,
    pub(crate) before: String,
    pub(crate) after: String,
    /// Bytes of the newer version's `.deb`.
    pub(crate) size: u64,
}

impl Upgrade {
    /// Asks the archive. Lists go below `directory`, not to those of the host.
    pub(crate) fn find(directory: &Path) -> Self {
        let archive = Archive::update(directory);
        CANDIDATES
            .into_iter()
            .find_map(|package| {
                let versions = archive.versions(package);
                let [after, before, ..] = &versions[..] else {
                    return None;
                };
                Some(Self {
                    package,
                    before: before.clone(),
                    after: after.clone(),
                    size: archive.size(package, after),
                })
            })
            .expect("the archive has one version of each package: nothing to upgrade")
    }
}

/// apt with a configuration of its own.
struct Archive<'a>(&'a Path);

impl<'a> Archive<'a> {
    fn update(directory: &'a Path) -> Self {
        for made in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(made)).unwrap();
        }
        let at = |name: &str| directory.join(name).display().to_string();
        fs::write(at("status"), "").unwrap();
        fs::write(at("sources.list"), SOURCES).unwrap();
        let configuration = [
            ("Dir::State", at("state")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            ("Dir::Etc::Trusted", KEYRING.to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            // Another user could not write below a directory of ours.
            ("APT::Sandbox::User", "root".to_owned()),
        ]
        .map(|(name, value)| format!("{name} \"{value}\";\n"));
        fs::write(at("apt.conf"), configuration.concat()).unwrap();
        let archive = Self(directory);
        time(
            archive
                .apt("apt-get")
                .args(["-qq", "update", "-o", "APT::Update::Error-Mode=any"]),
        );
        archive
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = tool(program, "apt");
        command
            .env("APT_CONFIG", self.0.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// All versions of a package, the newest first.
    fn versions(&self, package: &str) -> Vec<String> {
        let lines = printed(self.apt("apt-cache").args(["madison", package]));
        let mut versions: Vec<String> = lines
            .lines()
            .filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned()))
            .collect();
        versions.dedup();
        versions
    }

    fn size(&self, package: &str, version: &str) -> u64 {
        let record = printed(
            self.apt("apt-cache")
                .args(["show", &format!("{package}={version}")]),
        );
        let size = record.lines().find_map(|line| line.strip_prefix("Size: "));
        size.unwrap().parse().unwrap()
    }
}
