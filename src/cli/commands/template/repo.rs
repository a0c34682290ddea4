//! `vmfab template repo`

use clap::{Args, Subcommand};

use super::super::super::Status;
use super::super::super::options::RegistryOptions;
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::template::repositories::{self, RepositoryEntry, UpdatedRepository};

/// Manage repositories of templates
///
/// A repository is a directory, a git repository or a repository of an OCI registry. Each has a
/// namespace: acme/python-dev is the template python-dev of the repository acme. They are nodes
/// "templates" of config.kdl; a name without a namespace means the first that has it.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab template repo add acme oci://ghcr.io/acme/templates
  vmfab template repo add team git+https://git.example/team/templates
  vmfab template repo update
  vmfab template repo list"
)]
pub(super) struct Repo {
    #[command(subcommand)]
    command: RepoCommand,
}

#[derive(Debug, Subcommand)]
enum RepoCommand {
    Add(Add),
    List(List),
    Remove(Remove),
    Update(Update),
}

impl Repo {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            RepoCommand::Add(command) => command.run(session),
            RepoCommand::List(command) => command.run(session),
            RepoCommand::Remove(command) => command.run(session),
            RepoCommand::Update(command) => command.run(session),
        }
    }
}

/// Add a repository of templates
///
/// vmfab asks it what it has, and adds it behind the others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template repo add acme oci://ghcr.io/acme/templates
  vmfab template repo add team git@git.example:team/templates.git
  vmfab template repo add mine ~/templates")]
struct Add {
    /// Namespace of its templates
    #[arg(value_name = "NAMESPACE")]
    namespace: String,

    /// Directory, oci://HOST/REPOSITORY, git+URL or URL.git
    #[arg(value_name = "PLACE", value_hint = clap::ValueHint::AnyPath)]
    place: String,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Add {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.registry_context(self.registries)?;
        let added = repositories::add(&context, &self.namespace, &self.place)?;
        session.print(&added, updated)?;
        Ok(Status::Done)
    }
}

/// List repositories of templates, in the order in which they are asked
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  vmfab template repo list
  vmfab template repo list --json | jq -r '.[].place'"
)]
struct List {}

impl List {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let listed = repositories::list(session.reading_context()?)?;
        session.print(&listed, |listed| {
            let mut table = Table::new([
                ("NAMESPACE", Align::Left),
                ("TEMPLATES", Align::Right),
                ("PLACE", Align::Left),
            ]);
            for RepositoryEntry {
                namespace,
                place,
                templates,
                ..
            } in listed
            {
                let count = templates.map_or_else(|| "-".to_owned(), |count| count.to_string());
                table.row([namespace.to_string(), count, place.clone()]);
            }
            table.to_string()
        })?;
        Ok(Status::Done)
    }
}

/// Remove a repository of templates
///
/// Templates that were used stay on this host.
#[derive(Debug, Args)]
#[command(
    visible_alias = "rm",
    after_help = "\
Examples:
  vmfab template repo remove acme"
)]
struct Remove {
    /// Namespace of the repository
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
}

impl Remove {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let removed = repositories::remove(session.reading_context()?, &self.namespace)?;
        session.print(&removed, |removed| match session.quiet() {
            true => String::new(),
            false => format!("removed {} ({})\n", removed.namespace, removed.place),
        })?;
        Ok(Status::Done)
    }
}

/// Ask repositories what they have
///
/// vmfab keeps an index of each, which search and versions read. It refuses an index in which a
/// version changed its bytes, and warns of versions that are not listed any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template repo update
  vmfab template repo update acme")]
struct Update {
    /// Namespaces of the repositories [default: all]
    #[arg(value_name = "NAMESPACE")]
    namespaces: Vec<String>,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Update {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.registry_context(self.registries)?;
        let all = repositories::update(&context, &self.namespaces)?;
        session.print(&all, |all| all.iter().map(updated).collect::<String>())?;
        Ok(Status::Done)
    }
}

fn updated(one: &UpdatedRepository) -> String {
    let plural = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    format!(
        "{}: {} in {}\n",
        one.namespace,
        plural(one.templates, "template"),
        plural(one.versions, "version")
    )
}
