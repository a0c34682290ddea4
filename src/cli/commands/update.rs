//! `vmfab update`

use std::path::PathBuf;

use clap::Args;
use semver::Version;

use super::super::Status;
use super::super::options::RegistryOptions;
use super::super::output::{count, size};
use super::super::session::Session;
use super::recipe::SecretArgs;
use crate::failure::Failure;
use crate::ops::lock::{self, PackageChange, SourceChange, TemplateChange, UpdateOptions, Updated};

/// Update pinned packages, downloads and templates, and show what changed
///
/// Update everything in the lock file, or only what you name. For templates, vmfab asks their
/// repositories for new versions and takes the newest that fit the recipe. vmfab updates whole steps: the name
/// of a package means all steps that install it. It runs these steps again to see what they install
/// now, and also steps below them that are not in the store. The next build uses the results.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab update
  vmfab update docker                update the steps and sources of an image
  vmfab update docker.io --dry-run   update the steps that install a package
  vmfab update -C recipes --json")]
pub(crate) struct Update {
    /// Images, steps, addresses, templates or packages in the lock file [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Use the lock file in DIRECTORY [default: the current one]
    #[arg(short = 'C', long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,

    /// Show what would change, and do not write the lock file; steps still run
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Update {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        session.lend(self.secrets.read()?);
        let options = UpdateOptions {
            directory: self.directory.unwrap_or_default(),
            names: self.names,
            dry_run: self.dry_run,
        };
        let updated = lock::update(&session.registry_context(self.registries)?, &options)?;
        session.print(&updated, text)?;
        Ok(Status::Done)
    }
}

fn text(updated: &Updated) -> String {
    let mut text = String::new();
    for step in &updated.steps {
        text += &format!("{}\n", step.name);
        for package in &step.packages {
            text += &format!("    {}\n", package_line(package));
        }
    }
    for source in &updated.sources {
        text += &format!("{}\n    {}\n", source.url, source_line(source));
    }
    for template in &updated.templates {
        text += &format!("template {}\n    {}\n", template.name, moved(template));
    }
    let file = updated.file.display();
    let packages: usize = updated.steps.iter().map(|step| step.packages.len()).sum();
    let mut changed = Vec::new();
    if packages > 0 {
        changed.push(count(packages, "package"));
    }
    if !updated.sources.is_empty() {
        changed.push(count(updated.sources.len(), "source"));
    }
    if !updated.templates.is_empty() {
        changed.push(count(updated.templates.len(), "template"));
    }
    text += &match (changed.is_empty(), updated.written) {
        (true, _) => format!(
            "{file}: nothing changed ({} checked)\n",
            match updated.looked_at {
                1 => "1 entry".to_owned(),
                number => format!("{number} entries"),
            }
        ),
        (false, true) => format!("{file}: {} changed\n", enumerate(&changed)),
        (false, false) => format!("{file}: {} would change\n", enumerate(&changed)),
    };
    text
}

fn package_line(package: &PackageChange) -> String {
    let name = &package.name;
    match (&package.was, &package.is) {
        (Some(was), Some(is)) if was == is => format!("{name} {is}, another file"),
        (Some(was), Some(is)) => format!("{name} {was} → {is}"),
        (Some(was), None) => format!("{name} {was} removed"),
        (None, is) => format!("{name} {} added", is.as_deref().unwrap_or_default()),
    }
}

fn moved(template: &TemplateChange) -> String {
    let shown = |versions: &[Version]| {
        let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
        versions.join(", ")
    };
    match (template.was.is_empty(), template.is.is_empty()) {
        (_, true) => format!("{} removed", shown(&template.was)),
        (true, _) => format!("{} added", shown(&template.is)),
        _ => format!("{} → {}", shown(&template.was), shown(&template.is)),
    }
}

/// `a`, `a and b` or `a, b and c`.
fn enumerate(parts: &[String]) -> String {
    match parts {
        [others @ .., last] if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => parts.concat(),
    }
}

fn source_line(source: &SourceChange) -> String {
    let none = || "nothing".to_owned();
    let was = source.was.clone().unwrap_or_else(none);
    let is = source.is.clone().unwrap_or_else(none);
    let size = source
        .size
        .map_or_else(String::new, |bytes| format!(", {}", size(bytes)));
    format!("{was} → {is}{size}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::lock::StepChange;

    #[test]
    fn summaries() {
        let package = |name: &str, was: Option<&str>, is: Option<&str>| PackageChange {
            name: name.into(),
            architecture: "amd64".into(),
            was: was.map(str::to_owned),
            is: is.map(str::to_owned),
        };
        let updated = Updated {
            file: "vmfab.lock".into(),
            steps: vec![StepChange {
                name: "docker: packages docker.io".into(),
                packages: vec![
                    package("docker.io", Some("20.10.24"), Some("20.10.25")),
                    package("runc", Some("1"), Some("1")),
                    package("tini", Some("1"), None),
                    package("crun", None, Some("2")),
                ],
            }],
            sources: vec![SourceChange {
                url: "https://m/x".into(),
                was: Some("sha256:00".into()),
                is: Some("sha256:11".into()),
                size: Some(4096),
            }],
            templates: vec![TemplateChange {
                name: "acme/web".parse().unwrap(),
                was: vec![Version::new(1, 2, 0)],
                is: vec![Version::new(1, 3, 0)],
            }],
            looked_at: 2,
            written: true,
        };
        let nothing = Updated {
            steps: Vec::new(),
            sources: Vec::new(),
            templates: Vec::new(),
            written: false,
            ..updated.clone()
        };
        insta::assert_snapshot!(text(&updated) + &text(&nothing), @r#"
        docker: packages docker.io
            docker.io 20.10.24 → 20.10.25
            runc 1, another file
            tini 1 removed
            crun 2 added
        https://m/x
            sha256:00 → sha256:11, 4.0 KiB
        template acme/web
            1.2.0 → 1.3.0
        vmfab.lock: 4 packages, 1 source and 1 template changed
        vmfab.lock: nothing changed (2 entries checked)
        "#);
    }
}
