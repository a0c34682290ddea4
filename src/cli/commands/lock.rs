//! `vmfab lock`

use clap::Args;

use super::super::Status;
use super::super::options::RegistryOptions;
use super::super::output::count;
use super::super::session::Session;
use super::recipe::{DockerfileArgs, RecipeArgs, SecretArgs};
use crate::failure::Failure;
use crate::ops::lock::{self, Locked};

/// Pin the packages, downloads and templates of a recipe in vmfab.lock
///
/// Write vmfab.lock in the directory of the recipe (for a recipe that comes with vmfab: in the
/// current directory). It lists each package file of each step that installs packages, and the
/// checksums of downloads without one in the recipe, and the version and digest of each template
/// that the recipe builds on. Later builds install exactly these files,
/// without network if the store still has them. Keep vmfab.lock under version control, beside the
/// recipe.
///
/// Keep existing entries ("vmfab update" changes them), add missing ones, and drop those that the
/// recipe no longer needs. To find missing entries, vmfab builds the steps in question. It can lock
/// packages of apt, but not those of other package managers or of steps inside machines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab lock web.kdl
  vmfab lock web.kdl --set base=debian-12
  vmfab lock --check web.kdl         in CI: exit with 6 if the lock is out of date
  vmfab build --locked web.kdl       refuse to install unlocked packages")]
pub(crate) struct Lock {
    #[command(flatten)]
    recipe: RecipeArgs,

    #[command(flatten)]
    dockerfile: DockerfileArgs,

    /// Only check whether the lock is up to date (exit code 6 if not)
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Lock {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        session.lend(self.secrets.read()?);
        let choice = self.recipe.choice(self.dockerfile, session)?;
        let access = self.registries.access();
        let locked = if self.check {
            lock::check(
                &session.reading_context()?.clone().with_access(access),
                &choice,
            )?
        } else {
            lock::lock(&session.context()?.clone().with_access(access), &choice)?
        };
        session.print(&locked, text)?;
        Ok(Status::Done)
    }
}

fn text(locked: &Locked) -> String {
    let mut text = String::new();
    let mark = |new: bool| if new { " (new)" } else { "" };
    for step in &locked.steps {
        let packages = match step.packages {
            Some(number) => count(number, "package"),
            None => "not locked: its package manager does not report what it installs".to_owned(),
        };
        text += &format!("{}: {packages}{}\n", step.name, mark(step.new));
    }
    for source in &locked.sources {
        text += &format!("{}: {}{}\n", source.url, source.checksum, mark(source.new));
    }
    for template in &locked.templates {
        let (name, version) = (&template.name, &template.version);
        text += &format!("template {name}: {version}{}\n", mark(template.new));
    }
    let file = locked.file.display();
    let dropped = match locked.dropped {
        0 => String::new(),
        1 => ", 1 entry dropped".to_owned(),
        number => format!(", {number} entries dropped"),
    };
    text += &match locked.changed {
        true => format!("{}: locked in {file}{dropped}\n", locked.image),
        false => format!("{}: {file} is up to date\n", locked.image),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::lock::{LockedSource, LockedStep, LockedTemplate};

    #[test]
    fn summaries() {
        let step = |name: &str, packages, new| LockedStep {
            name: name.into(),
            packages,
            new,
        };
        let locked = Locked {
            file: "vmfab.lock".into(),
            image: "docker".into(),
            steps: vec![
                step("docker: packages docker.io", Some(28), true),
                step("docker: packages bash", None, false),
            ],
            sources: vec![LockedSource {
                url: "https://m/x".into(),
                checksum: "sha256:00".into(),
                new: true,
            }],
            templates: vec![LockedTemplate {
                name: "acme/web".parse().unwrap(),
                version: "1.2.0".parse().unwrap(),
                digest: crate::digest::Sha256::of(b""),
                new: true,
            }],
            dropped: 2,
            changed: true,
        };
        let unchanged = Locked {
            steps: Vec::new(),
            sources: Vec::new(),
            templates: Vec::new(),
            changed: false,
            ..locked.clone()
        };
        insta::assert_snapshot!(text(&locked) + &text(&unchanged), @r#"
        docker: packages docker.io: 28 packages (new)
        docker: packages bash: not locked: its package manager does not report what it installs
        https://m/x: sha256:00 (new)
        template acme/web: 1.2.0 (new)
        docker: locked in vmfab.lock, 2 entries dropped
        docker: vmfab.lock is up to date
        "#);
    }
}
