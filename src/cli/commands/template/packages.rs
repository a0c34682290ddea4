//! `vmfab template package`, `push`, `pull`, `import`, `list` and `rm`

use std::path::PathBuf;

use clap::Args;

use super::super::super::Status;
use super::super::super::options::RegistryOptions;
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::template::packages::{self, PackageEntry};
use crate::template::TemplateRef;

/// Write a template to one file
///
/// A package is a tar of the files of the template's directory, in a fixed order: equal templates
/// give equal bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template package ./python-dev
  vmfab template package ./python-dev --output dist/")]
pub(super) struct Package {
    /// Directory of the template
    #[arg(value_name = "TEMPLATE", default_value = ".", value_hint = clap::ValueHint::AnyPath)]
    template: PathBuf,

    /// Write to this file, or into this directory [default: NAME-VERSION.vmfabt]
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    output: Option<PathBuf>,
}

impl Package {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let made = packages::package(&self.template, self.output.as_deref())?;
        session.print(&made, |made| match session.quiet() {
            true => format!("{}\n", made.place),
            false => format!(
                "{} {} with {} files: {}\nsha256:{}\n",
                made.template, made.version, made.files, made.place, made.digest
            ),
        })?;
        Ok(Status::Done)
    }
}

/// Publish a template in a repository
///
/// A version never changes: vmfab refuses other bytes under a number that the repository has. With
/// --sign, a signature of the package goes along: trusted keys and "signatures" of config.kdl name a
/// template as template:NAMESPACE/NAME.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template push ./python-dev acme
  vmfab template push python-dev-1.0.0.vmfabt acme --sign
  vmfab template push . acme --sign=release")]
pub(super) struct Push {
    /// Directory or package of the template
    #[arg(value_name = "TEMPLATE", value_hint = clap::ValueHint::AnyPath)]
    template: PathBuf,

    /// Namespace of the repository
    #[arg(value_name = "NAMESPACE")]
    namespace: String,

    /// Sign it: with your only key, or with this one
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true)]
    sign: Option<Option<String>>,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Push {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.registry_context(self.registries)?;
        let sign = self.sign.as_ref().map(Option::as_deref);
        let pushed = packages::push(&context, &self.template, &self.namespace, sign)?;
        session.print(&pushed, |pushed| put(pushed, "pushed", session.quiet()))?;
        Ok(Status::Done)
    }
}

/// Fetch a template, to use it offline
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template pull acme/python-dev
  vmfab template pull python-dev@^1.2")]
pub(super) struct Pull {
    /// Template: [NAMESPACE/]NAME[@VERSION]
    #[arg(value_name = "TEMPLATE-REF")]
    template: TemplateRef,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Pull {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.registry_context(self.registries)?;
        let pulled = packages::pull(&context, &self.template)?;
        session.print(&pulled, |pulled| match session.quiet() {
            true => format!("sha256:{}\n", pulled.digest),
            false => format!(
                "pulled {} {} (sha256:{})\n",
                pulled.template, pulled.version, pulled.digest
            ),
        })?;
        Ok(Status::Done)
    }
}

/// Take a template from a file, a directory or a URL
///
/// It becomes local/NAME.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template import python-dev-1.0.0.vmfabt
  vmfab template import https://example.org/python-dev-1.0.0.vmfabt")]
pub(super) struct Import {
    /// File, directory or URL of a package
    #[arg(value_name = "PACKAGE", value_hint = clap::ValueHint::AnyPath)]
    from: String,
}

impl Import {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let imported = packages::import(session.context()?, &self.from)?;
        session.print(&imported, |imported| {
            put(imported, "imported", session.quiet())
        })?;
        Ok(Status::Done)
    }
}

fn put(entry: &PackageEntry, done: &str, quiet: bool) -> String {
    let done = match entry.present {
        true => "already there:",
        false => done,
    };
    match quiet {
        true => format!("sha256:{}\n", entry.digest),
        false => format!(
            "{done} {} {} ({})\nsha256:{}\n",
            entry.template, entry.version, entry.place, entry.digest
        ),
    }
}

/// List templates on this host
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  vmfab template list
  vmfab template list --json | jq -r '.[].template'"
)]
pub(super) struct List {}

impl List {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let listed = packages::list(session.reading_context()?)?;
        session.print(&listed, |listed| {
            let mut table = Table::new([
                ("TEMPLATE", Align::Left),
                ("VERSION", Align::Left),
                ("DESCRIPTION", Align::Left),
            ]);
            for one in listed {
                let description = one.description.as_deref().unwrap_or_default();
                table.row([
                    one.template.to_string(),
                    one.version.to_string(),
                    description.to_owned(),
                ]);
            }
            table.to_string()
        })?;
        Ok(Status::Done)
    }
}

/// Remove templates from this host
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template rm acme/python-dev
  vmfab template rm local/python-dev@=1.0.0")]
pub(super) struct Rm {
    /// Template: [NAMESPACE/]NAME[@VERSION]
    #[arg(value_name = "TEMPLATE-REF")]
    template: TemplateRef,
}

impl Rm {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let removed = packages::remove(session.reading_context()?, &self.template)?;
        session.print(&removed, |removed| {
            let line =
                |one: &packages::KeptEntry| format!("removed {} {}\n", one.template, one.version);
            match session.quiet() {
                true => String::new(),
                false => removed.iter().map(line).collect(),
            }
        })?;
        Ok(Status::Done)
    }
}
