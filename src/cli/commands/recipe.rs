//! Which image of which recipe or Dockerfile is meant, and what it is given.

use std::collections::BTreeMap;
use std::env;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::super::session::Session;
use crate::failure::Failure;
use crate::host::{SecretSource, Secrets};
use crate::ops::{Context, RecipeChoice};
use crate::recipe::is_dockerfile;

/// Heading of the options of Dockerfiles in help texts.
const HEADING: &str = "Dockerfiles";

/// Which image of which recipe, with which parameters.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecipeArgs {
    /// Recipe file, Dockerfile, directory with one of them, git repository with a Dockerfile, - for
    /// a recipe on standard input, or name of a recipe that comes with vmfab
    #[arg(value_name = "RECIPE")]
    recipe: Option<String>,

    /// Image to build [default: the one with the recipe's name, or the only one]
    #[arg(value_name = "IMAGE")]
    image: Option<String>,

    /// Set a parameter of the recipe (repeatable)
    #[arg(short, long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
}

/// What a Dockerfile is given.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DockerfileArgs {
    /// Build STAGE [default: the last one]
    #[arg(long, value_name = "STAGE", help_heading = HEADING)]
    target: Option<String>,

    /// Set a build argument; NAME alone has the value of the environment (repeatable)
    #[arg(
        long = "build-arg",
        value_name = "NAME[=VALUE]",
        value_parser = parse_build_arg,
        help_heading = HEADING
    )]
    build_args: Vec<(String, Option<String>)>,

    /// Use a directory, an image or a recipe under NAME in FROM and --from (repeatable)
    #[arg(
        long = "build-context",
        value_name = "NAME=WHAT",
        value_parser = parse_setting,
        help_heading = HEADING
    )]
    contexts: Vec<(String, String)>,

    /// Build for this platform, such as linux/arm64 [default: this host's]
    #[arg(long, value_name = "OS/ARCH", value_parser = parse_platform, help_heading = HEADING)]
    platform: Option<String>,

    /// Do not run CMD and ENTRYPOINT as a service of the machine
    #[arg(long, help_heading = HEADING)]
    no_service: bool,
}

/// What steps may know and nothing keeps.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SecretArgs {
    /// Give a secret to RUN --mount=type=secret and to git (repeatable)
    ///
    /// id=NAME,src=FILE or id=NAME,env=VARIABLE; with id=NAME alone, the variable of that name if
    /// it is set, else the file. The secret GIT_AUTH_TOKEN.HOST, or GIT_AUTH_TOKEN for all hosts,
    /// is the token for git repositories over HTTP.
    #[arg(
        long = "secret",
        value_name = "id=NAME[,src=FILE]",
        value_parser = parse_secret,
        help_heading = HEADING
    )]
    secrets: Vec<(String, SecretSource)>,

    /// Give an SSH agent to RUN --mount=type=ssh and to git (repeatable)
    ///
    /// ID is that of the mount [default: default], SOCKET that of the agent [default:
    /// $SSH_AUTH_SOCK]. For git repositories over SSH, git uses the agent with the ID "default".
    #[arg(
        long = "ssh-agent",
        value_name = "ID[=SOCKET]",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "default",
        help_heading = HEADING
    )]
    agents: Vec<String>,
}

/// What holds when the lock file lacks something.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LockArgs {
    /// Refuse to use anything that vmfab.lock does not pin
    #[arg(long)]
    pub(super) locked: bool,
}

/// Whether the user agrees to everything that is built.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct AgreeArgs {
    /// Do not ask before the first build of a template of others; only show what it asks for
    #[arg(short, long)]
    pub(super) yes: bool,
}

impl AgreeArgs {
    /// The same context, asking nobody if that is wanted.
    pub(super) fn apply(self, context: Context) -> Context {
        match self.yes {
            true => context.with_agree(Arc::new(|_| Ok(None))),
            false => context,
        }
    }
}

impl LockArgs {
    /// The same choice with this.
    pub(super) fn apply(self, choice: RecipeChoice) -> RecipeChoice {
        RecipeChoice {
            locked: self.locked,
            ..choice
        }
    }
}

impl RecipeArgs {
    /// Which image of which recipe is meant.
    pub(super) fn choice(
        self,
        dockerfile: DockerfileArgs,
        session: &Session,
    ) -> Result<RecipeChoice, Failure> {
        let given = self.recipe.map(|text| local(session, text)).transpose()?;
        let directory = match &given {
            None => Some(Path::new(".")),
            Some(recipe) => Some(Path::new(recipe)).filter(|path| path.is_dir()),
        };
        let recipe = match (directory, given.as_deref()) {
            (Some(directory), _) => {
                let found = crate::ops::usual_recipe(directory)?;
                let shown = found.display().to_string();
                session.note(&format!("using {shown}"));
                shown
            }
            (None, Some(recipe)) => recipe.to_owned(),
            (None, None) => String::new(),
        };
        let choice = RecipeChoice {
            recipe,
            image: self.image,
            settings: once("parameter", self.settings)?,
            ..RecipeChoice::default()
        };
        dockerfile.apply(choice)
    }
}

/// A recipe as it is given; of a git repository, its Dockerfile on this host.
pub(super) fn local(session: &Session, text: String) -> Result<String, Failure> {
    let Some(found) = crate::ops::checked_out(session.context()?, &text)? else {
        return Ok(text);
    };
    let commit: String = found.commit.chars().take(12).collect();
    session.note(&format!("using the commit {commit}"));
    Ok(found.path.to_string_lossy().into_owned())
}

/// Each name with one value.
fn once(
    noun: &str,
    pairs: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    for (name, value) in pairs {
        if let Some(other) = values.insert(name.clone(), value.clone())
            && other != value
        {
            return Err(Failure::usage(format!(
                "{noun} {name} is set to both \"{other}\" and \"{value}\""
            )));
        }
    }
    Ok(values)
}

impl DockerfileArgs {
    /// The same choice with this; only Dockerfiles take it.
    pub(super) fn apply(self, mut choice: RecipeChoice) -> Result<RecipeChoice, Failure> {
        let given = [
            ("--target", self.target.is_some()),
            ("--build-arg", !self.build_args.is_empty()),
            ("--build-context", !self.contexts.is_empty()),
            ("--platform", self.platform.is_some()),
            ("--no-service", self.no_service),
        ];
        let given = given.iter().find(|(_, is_given)| *is_given);
        if let Some((option, _)) = given
            && !is_dockerfile(Path::new(&choice.recipe))
        {
            let message = format!("{option} is for Dockerfiles, and {} is none", choice.recipe);
            let help = match *option {
                "--target" => "name the image after the recipe: vmfab build RECIPE IMAGE",
                "--build-arg" => "set parameters with --set; dockerfile nodes have arg nodes",
                "--build-context" => "dockerfile nodes of recipes have context nodes",
                "--no-service" => "leave service=#true out of the recipe",
                _ => "recipes are built for this host",
            };
            return Err(Failure::usage(message).with_help(help));
        }
        if let Some(target) = self.target {
            if let Some(image) = choice.image.filter(|image| *image != target) {
                let message = format!("two stages are named: {image} and --target {target}");
                return Err(Failure::usage(message));
            }
            choice.image = Some(target);
        }
        let from_environment = |(name, value): (String, Option<String>)| {
            let value = value.or_else(|| env::var(&name).ok())?;
            Some((name, value))
        };
        let args = self.build_args.into_iter().filter_map(from_environment);
        choice.settings = once("build argument", choice.settings.into_iter().chain(args))?;
        choice.contexts = once("build context", self.contexts)?;
        choice.architecture = self.platform;
        choice.no_service = self.no_service;
        Ok(choice)
    }
}

impl SecretArgs {
    /// The secrets and agents, of which each exists.
    pub(super) fn read(self) -> Result<Secrets, Failure> {
        let mut secrets = Secrets::default();
        for (id, source) in self.secrets {
            if let Err(error) = source.read() {
                let message = format!("cannot read the secret {id} from {source}: {error}");
                return Err(Failure::usage(message).with_help(format!(
                    "write --secret id={id},src=FILE or id={id},env=NAME"
                )));
            }
            if secrets.secrets.insert(id.clone(), source).is_some() {
                return Err(Failure::usage(format!("the secret {id} is given twice")));
            }
        }
        for agent in self.agents {
            let (id, socket) = match agent.split_once('=') {
                Some((id, socket)) => (id.to_owned(), PathBuf::from(socket)),
                None => match env::var_os("SSH_AUTH_SOCK") {
                    Some(socket) => (agent, socket.into()),
                    None => {
                        let message = "--ssh-agent: no agent is running, SSH_AUTH_SOCK is not set";
                        let help = "start one: eval $(ssh-agent) && ssh-add";
                        return Err(Failure::usage(message).with_help(help));
                    }
                },
            };
            let is_socket = socket
                .metadata()
                .is_ok_and(|meta| meta.file_type().is_socket());
            if !is_socket {
                let message = format!("--ssh-agent: {} is not a socket", socket.display());
                let help = "give the socket of an agent; keys are added to one with ssh-add";
                return Err(Failure::usage(message).with_help(help));
            }
            secrets.agents.insert(id, socket);
        }
        Ok(secrets)
    }
}

pub(super) fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn parse_build_arg(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("write NAME=VALUE".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((text.to_owned(), None)),
    }
}

/// The architecture of `linux/ARCHITECTURE`, as vmfab calls it.
fn parse_platform(text: &str) -> Result<String, String> {
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let architecture = match text.split('/').collect::<Vec<_>>().as_slice() {
        ["linux", "amd64"] | ["linux", "amd64", "v1"] => "x86_64",
        ["linux", "arm64"] | ["linux", "arm64", "v8"] => "aarch64",
        ["linux", other] if is_word(other) => *other,
        _ => return Err("write linux and an architecture, such as linux/arm64".to_owned()),
    };
    Ok(architecture.to_owned())
}

/// `id=NAME`, with `src=FILE` or `env=VARIABLE`; `type=` as docker has it.
fn parse_secret(text: &str) -> Result<(String, SecretSource), String> {
    let usage = || "write id=NAME,src=FILE or id=NAME,env=VARIABLE".to_owned();
    let (mut id, mut file, mut variable) = (None, None, None);
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(usage)?;
        if value.is_empty() {
            return Err(usage());
        }
        match name {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(PathBuf::from(value)),
            "env" => variable = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => {}
            _ => return Err(usage()),
        }
    }
    let id = id.ok_or_else(usage)?;
    let source = match (file, variable) {
        (Some(file), None) => SecretSource::File(file),
        (None, Some(variable)) => SecretSource::Variable(variable),
        (None, None) if env::var_os(&id).is_some() => SecretSource::Variable(id.clone()),
        (None, None) => SecretSource::File(PathBuf::from(&id)),
        (Some(_), Some(_)) => return Err(usage()),
    };
    Ok((id, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let file = |path: &str| SecretSource::File(path.into());
        assert_eq!(
            parse_secret("id=a,src=b/c"),
            Ok(("a".to_owned(), file("b/c")))
        );
        assert_eq!(
            parse_secret("type=file,id=a,source=b"),
            Ok(("a".to_owned(), file("b")))
        );
        let variable = SecretSource::Variable("B".to_owned());
        assert_eq!(parse_secret("id=a,env=B"), Ok(("a".to_owned(), variable)));
        assert_eq!(
            parse_secret("id=no-such-name"),
            Ok(("no-such-name".to_owned(), file("no-such-name")))
        );
        for bad in [
            "",
            "a",
            "src=b",
            "id=",
            "id=a,src=b,env=C",
            "id=a,x=y",
            "id=a,type=x",
        ] {
            assert!(parse_secret(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn platforms() {
        assert_eq!(parse_platform("linux/amd64"), Ok("x86_64".to_owned()));
        assert_eq!(parse_platform("linux/arm64/v8"), Ok("aarch64".to_owned()));
        assert_eq!(parse_platform("linux/riscv64"), Ok("riscv64".to_owned()));
        for bad in [
            "",
            "linux",
            "arm64",
            "windows/amd64",
            "linux/",
            "linux/arm/v7",
            "linux/a b",
        ] {
            assert!(parse_platform(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn build_arguments() {
        assert_eq!(
            parse_build_arg("A=b=c"),
            Ok(("A".to_owned(), Some("b=c".to_owned())))
        );
        assert_eq!(parse_build_arg("A"), Ok(("A".to_owned(), None)));
        assert!(parse_build_arg("=b").is_err());
    }
}
