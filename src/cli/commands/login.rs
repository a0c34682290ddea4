//! `vmfab login`

use clap::Args;

use super::super::options::RegistryOptions;
use super::super::session::Session;
use super::super::{Status, prompt};
use crate::failure::Failure;
use crate::ops::registries::{self, Login as Done};

/// Log in to a registry
///
/// Ask the registry whether the account is valid, then save it where podman and docker find it,
/// too: in $REGISTRY_AUTH_FILE, in podman's auth.json if it exists, or in docker's config.json; or
/// with the helper that credHelpers or credsStore there name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab login ghcr.io -u anna
  vmfab login registry.example:5000 -u ci --password-stdin < token
  vmfab login ghcr.io --status")]
pub(crate) struct Login {
    /// Host of the registry, with a port if needed
    registry: String,

    /// Name of the account [default: ask at the terminal]
    #[arg(short, long, value_name = "NAME", conflicts_with = "status")]
    user: Option<String>,

    /// Read the password from standard input instead of asking
    #[arg(long, requires = "user")]
    password_stdin: bool,

    /// Show whose credentials vmfab uses, and change nothing
    #[arg(long)]
    status: bool,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Login {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session
            .context()?
            .clone()
            .with_access(self.registries.access());
        if self.status {
            let status = registries::status(&context, &self.registry)?;
            session.print(&status, shown)?;
            return Ok(Status::Done);
        }
        let nobody = || {
            Failure::usage("cannot ask for the account: no terminal")
                .with_help("use -u NAME --password-stdin, and write the password to standard input")
        };
        let user = match self.user {
            Some(user) => user,
            None => prompt::line("Name: ", &context.interrupt)?.ok_or_else(nobody)?,
        };
        let password = match self.password_stdin {
            true => prompt::standard_input(&context.interrupt)?,
            false => prompt::secret("Password: ", &context.interrupt)?.ok_or_else(nobody)?,
        };
        let login = registries::login(&context, &self.registry, &user, &password)?;
        session.print(&login, |login| match session.quiet() {
            true => String::new(),
            false => format!("{}saved in {}\n", shown(login), login.place),
        })?;
        Ok(Status::Done)
    }
}

fn shown(login: &Done) -> String {
    match &login.user {
        Some(user) => format!("{user} at {}\n", login.registry),
        None => format!("a token at {}\n", login.registry),
    }
}
