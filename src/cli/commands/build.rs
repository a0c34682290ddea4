//! `vmfab build`

use std::path::PathBuf;

use clap::Args;

use super::super::output::{count, duration};
use super::super::session::Session;
use super::super::{Status, detach};
use super::cache::{CacheArgs, PushArgs};
use super::recipe::{AgreeArgs, DockerfileArgs, LockArgs, RecipeArgs, SecretArgs};
use super::{plan, report};
use crate::checked::BuildId;
use crate::failure::Failure;
use crate::image::{DiskFormat, ParseFormatError};
use crate::ops::build::{BuildOptions, Built, StepCounts};
use crate::ops::hypervisor::{Hypervisor, ParseHypervisorError};
use crate::store::{StoreError, TagName};

/// Build an image from a recipe or a Dockerfile
///
/// Take steps whose inputs did not change from the store, or from a cache in a registry; run the
/// others in parallel. Tag the finished image with @ and its name, or as --tag says.
///
/// Without RECIPE, build what is in the working directory: vmfab.kdl, else Dockerfile,
/// Containerfile or Dockerfile.vibe.
///
/// Print one line that says what was built; with --quiet, the image's id; with --json, one JSON
/// object per line for each event, the result last.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab build docker
  vmfab build docker --set base=debian-12 --tag @docker-debian
  vmfab build docker.kdl --output docker.qcow2 --compress
  vmfab build docker.kdl --output disk.img --format raw --force
  vmfab build ./Dockerfile --target dev --build-arg NODE=22 --tag @dev
  vmfab build docker --report docker.html
  vmfab build --secret id=npm,src=.npmrc
  vmfab build docker.kdl --cache ghcr.io/me/cache --cache-push ghcr.io/me/cache
  id=$(vmfab build --quiet docker.kdl)")]
pub(crate) struct Build {
    #[command(flatten)]
    recipe: RecipeArgs,

    #[command(flatten)]
    dockerfile: DockerfileArgs,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    lock: LockArgs,

    #[command(flatten)]
    agree: AgreeArgs,

    /// Tag the image with @TAG instead of its own name (repeatable)
    #[arg(short, long = "tag", value_name = "@TAG", value_parser = parse_tag)]
    tags: Vec<TagName>,

    /// Write the disk to FILE
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    shape: OutputArgs,

    /// Build every step twice and compare the results (exit code 6 if they differ)
    #[arg(long)]
    check: bool,

    /// Run at most N steps at once [default: number of processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// Continue after a failure with steps that do not depend on it
    #[arg(short, long)]
    keep_going: bool,

    /// Run every step, even if its result is in the store
    #[arg(long, visible_alias = "no-cache")]
    rebuild: bool,

    /// Write a report of the build to FILE, an HTML page (see vmfab report), even if it fails
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Run in the background, and print the id of the build at once (see vmfab builds)
    #[arg(long)]
    detach: bool,

    /// Only show what would run, like vmfab plan
    #[arg(short = 'n', long, conflicts_with_all = ["output", "check", "detach", "report"])]
    dry_run: bool,

    #[command(flatten)]
    cache: CacheArgs,

    #[command(flatten)]
    push: PushArgs,
}

/// What a disk file is to be like.
#[derive(Debug, Clone, Args)]
pub(super) struct OutputArgs {
    /// Set the format of FILE [default: from the file extension]
    ///
    /// qcow2: QEMU, Proxmox, OpenStack; vmdk: VMware, VirtualBox; vhdx: Hyper-V; vdi: VirtualBox;
    /// vhd: Azure; raw: all; qcow, qed, parallels: old programs.
    #[arg(short, long, value_name = "FORMAT", requires = "output", value_parser = parse_format)]
    pub(super) format: Option<DiskFormat>,

    /// Write the format that a hypervisor imports, and warn about what the image lacks for it:
    /// vmware, hyperv, virtualbox or proxmox
    ///
    /// vmware: a streamOptimized vmdk for ESXi and vSphere; hyperv: a vhdx for generation 2
    /// machines; virtualbox: a vdi; proxmox: a qcow2.
    #[arg(long = "for", value_name = "WHICH", requires = "output", value_parser = parse_hypervisor)]
    pub(super) hypervisor: Option<Hypervisor>,

    /// Compress the content of a qcow2
    #[arg(long, requires = "output")]
    pub(super) compress: bool,

    /// Replace FILE if it exists
    #[arg(long, requires = "output")]
    pub(super) force: bool,
}

impl Build {
    pub(super) const fn is_reported(&self) -> bool {
        self.report.is_some()
    }

    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        session.lend(self.secrets.read()?);
        let choice = self.recipe.choice(self.dockerfile, session)?;
        let choice = self.lock.apply(choice);
        if self.dry_run {
            return plan::show(session, choice, self.cache);
        }
        if let Some(path) = &self.report {
            crate::ops::page_file::check(path)?;
        }
        if self.detach && !session.is_detached() {
            return detach(session);
        }
        let context = session.registry_context(self.cache.registries)?;
        let context = &self.agree.apply(context);
        let options = BuildOptions {
            tags: self.tags,
            output: self.output,
            format: self.shape.format,
            hypervisor: self.shape.hypervisor,
            compress: self.shape.compress,
            force: self.shape.force,
            check: self.check,
            jobs: self.jobs.map(usize::from),
            keep_going: self.keep_going,
            rebuild: self.rebuild,
            cache: self.cache.with(self.push, context)?,
            choice,
            ..BuildOptions::default()
        };
        let built = crate::ops::build::build(context, &options);
        if let Some(path) = &self.report
            && let Some(id) = session.end_recording(built.as_ref().err())
        {
            let written = report::after_build(session, &id, path);
            match &built {
                Ok(_) => written?,
                // Why the build failed counts more than why its report did.
                Err(_) => written.unwrap_or_else(|error| session.note(error.message())),
            }
        }
        let built = built?;
        session.print_last(&built, |built| built.image, summary)?;
        Ok(Status::Done)
    }
}

/// Starts the command in the background, and prints the id of its build.
pub(super) fn detach(session: &Session) -> Result<Status, Failure> {
    #[derive(serde::Serialize)]
    struct Detached {
        build: BuildId,
    }
    let build = detach::detach(session)?;
    session.print_last(
        &Detached { build },
        |one| one.build.clone(),
        |one| one.build.clone(),
    )?;
    Ok(Status::Done)
}

/// One line on what a build did.
fn summary(built: &Built) -> String {
    let StepCounts {
        built: ran,
        cached,
        remote,
    } = built.steps;
    let total = ran + cached + remote;
    let steps = match (ran, remote) {
        (0, 0) => format!("{} cached", count(total, "step")),
        (ran, 0) if ran == total => format!("{} built", count(total, "step")),
        (ran, 0) => format!("{ran} of {} built", count(total, "step")),
        (0, remote) if remote == total => format!("{} from the cache", count(total, "step")),
        (0, remote) => format!(
            "{remote} of {} from the cache, none built",
            count(total, "step")
        ),
        (ran, remote) => format!(
            "{ran} of {} built, {remote} from the cache",
            count(total, "step")
        ),
    };
    let tags: Vec<_> = built.tags.iter().map(ToString::to_string).collect();
    let verb = if tags.len() == 1 { "is" } else { "are" };
    let state = match (tags.is_empty(), built.tags_moved) {
        (true, _) => format!("image {}", built.image.short()),
        (false, false) => format!("{} {verb} up to date", tags.join(" ")),
        (false, true) => format!("{} {verb} {}", tags.join(" "), built.image.short()),
    };
    let checked = built
        .checked
        .map(|steps| format!(", {} identical when built again", count(steps, "step")));
    let output = built
        .output
        .as_ref()
        .map(|path| format!(", written to {}", path.display()));
    format!(
        "{}: {steps}{}, {state}{} ({})",
        built.name,
        checked.unwrap_or_default(),
        output.unwrap_or_default(),
        duration(built.seconds)
    )
}

/// A tag, with or without `@`.
pub(super) fn parse_tag(text: &str) -> Result<TagName, StoreError> {
    text.parse()
}

fn parse_hypervisor(text: &str) -> Result<Hypervisor, ParseHypervisorError> {
    text.parse()
}

pub(super) fn parse_format(text: &str) -> Result<DiskFormat, ParseFormatError> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Hasher, ObjectId};

    #[test]
    fn summaries() {
        let built = |built, cached, tags_moved| Built {
            image: ObjectId::new(Hasher::new("test").finish()),
            name: "docker".into(),
            tags: vec!["docker".parse().unwrap()],
            tags_moved,
            output: None,
            steps: StepCounts {
                built,
                cached,
                remote: 0,
            },
            checked: None,
            seconds: 0.0124,
        };
        let with_more = Built {
            output: Some("d.qcow2".into()),
            checked: Some(1),
            tags: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            seconds: 41.24,
            ..built(1, 0, true)
        };
        let remotely = |ran, cached, remote| {
            let mut built = built(ran, cached, true);
            built.steps.remote = remote;
            summary(&built)
        };
        insta::assert_snapshot!(
            [remotely(0, 0, 9), remotely(0, 2, 7), remotely(1, 1, 7), remotely(2, 0, 1)].join("\n"),
            @r#"
        docker: 9 steps from the cache, @docker is 288c02d7bbb4 (12 ms)
        docker: 7 of 9 steps from the cache, none built, @docker is 288c02d7bbb4 (12 ms)
        docker: 1 of 9 steps built, 7 from the cache, @docker is 288c02d7bbb4 (12 ms)
        docker: 2 of 3 steps built, 1 from the cache, @docker is 288c02d7bbb4 (12 ms)
        "#
        );
        insta::assert_snapshot!(
            [
                summary(&built(0, 9, false)),
                summary(&built(3, 6, true)),
                summary(&built(9, 0, true)),
                summary(&with_more),
            ]
            .join("\n"),
            @r#"
        docker: 9 steps cached, @docker is up to date (12 ms)
        docker: 3 of 9 steps built, @docker is 288c02d7bbb4 (12 ms)
        docker: 9 steps built, @docker is 288c02d7bbb4 (12 ms)
        docker: 1 step built, 1 step identical when built again, @a @b are 288c02d7bbb4, written to d.qcow2 (41.2 s)
        "#
        );
    }
}
