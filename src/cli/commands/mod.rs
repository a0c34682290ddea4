//! All commands: the list that clap parses, and the groups of the help text.

mod audit;
mod boot;
mod build;
mod builds;
mod cache;
mod clone;
mod commit;
mod completions;
mod compose;
mod console;
mod cp;
mod create;
mod doctor;
mod down;
mod ephemeral;
mod exec;
mod explain;
mod fmt;
mod hardware;
mod history;
mod image;
mod images;
mod inspect;
mod key;
mod lint;
mod list;
mod lock;
mod login;
mod logout;
mod logs;
mod man;
mod new_machine;
mod pause;
mod pb;
mod plan;
mod port;
mod pull;
mod push;
mod recipe;
mod rename;
mod repeat;
mod report;
mod restart;
mod resume;
mod rm;
mod screenshot;
mod set;
mod several;
mod sign;
mod snapshot;
mod ssh;
mod ssh_config;
mod start;
mod stop;
mod store;
mod suspend;
mod tags;
mod template;
mod to_disk;
mod top;
mod up;
mod update;
mod verify;
mod version;
mod volume;
mod wait;
mod watch;

use clap::builder::StyledStr;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use super::Status;
use super::options::GlobalOptions;
use super::session::Session;
use crate::failure::Failure;

pub(super) use version::instead_of_option as version_instead;

/// Build virtual machine images the way a build system builds programs.
#[derive(Debug, Parser)]
#[command(
    name = "vmfab",
    version,
    arg_required_else_help = true,
    subcommand_value_name = "COMMAND",
    max_term_width = 100
)]
pub(super) struct Root {
    #[command(subcommand)]
    pub(super) command: Command,

    #[command(flatten)]
    pub(super) options: GlobalOptions,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Build(build::Build),
    Builds(builds::Builds),
    Plan(plan::Plan),
    Explain(explain::Explain),
    Report(report::Report),
    History(history::History),
    Fmt(fmt::Fmt),
    Lint(lint::Lint),
    Lock(lock::Lock),
    Update(update::Update),
    Images(images::Images),
    Image(image::Image),
    Push(push::Push),
    Pull(pull::Pull),
    Store(store::Store),
    Boot(boot::Boot),
    Create(create::Create),
    Clone(clone::Clone),
    Up(up::Up),
    Down(down::Down),
    Compose(compose::Compose),
    Ssh(ssh::Ssh),
    SshConfig(ssh_config::SshConfig),
    Exec(exec::Exec),
    Cp(cp::Cp),
    List(list::List),
    Top(top::Top),
    Watch(watch::Watch),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Pause(pause::Pause),
    Pb(pb::Pb),
    Ephemeral(ephemeral::Ephemeral),
    ToDisk(to_disk::ToDisk),
    Resume(resume::Resume),
    Suspend(suspend::Suspend),
    Port(port::Port),
    Wait(wait::Wait),
    Rename(rename::Rename),
    Rm(rm::Rm),
    Snapshot(snapshot::Snapshot),
    Commit(commit::Commit),
    Set(set::Set),
    Inspect(inspect::Inspect),
    Logs(logs::Logs),
    Console(console::Console),
    Volume(volume::Volume),
    Screenshot(screenshot::Screenshot),
    Sign(sign::Sign),
    Verify(verify::Verify),
    Key(key::Key),
    Template(template::Template),
    Audit(audit::Audit),
    Tags(tags::Tags),
    Login(login::Login),
    Logout(logout::Logout),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
    Version(version::Version),
}

impl Command {
    /// Runs the command.
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self {
            Self::Build(command) => command.run(session),
            Self::Builds(command) => command.run(session),
            Self::Plan(command) => command.run(session),
            Self::Explain(command) => command.run(session),
            Self::Report(command) => command.run(session),
            Self::History(command) => command.run(session),
            Self::Fmt(command) => command.run(session),
            Self::Lint(command) => command.run(session),
            Self::Lock(command) => command.run(session),
            Self::Update(command) => command.run(session),
            Self::Images(command) => command.run(session),
            Self::Image(command) => command.run(session),
            Self::Push(command) => command.run(session),
            Self::Pull(command) => command.run(session),
            Self::Store(command) => command.run(session),
            Self::Boot(command) => command.run(session),
            Self::Create(command) => command.run(session),
            Self::Clone(command) => command.run(session),
            Self::Up(command) => command.run(session),
            Self::Down(command) => command.run(session),
            Self::Compose(command) => command.run(session),
            Self::Ssh(command) => command.run(session),
            Self::SshConfig(command) => command.run(session),
            Self::Exec(command) => command.run(session),
            Self::Cp(command) => command.run(session),
            Self::List(command) => command.run(session),
            Self::Top(command) => command.run(session),
            Self::Watch(command) => command.run(session),
            Self::Start(command) => command.run(session),
            Self::Stop(command) => command.run(session),
            Self::Restart(command) => command.run(session),
            Self::Pause(command) => command.run(session),
            Self::Pb(command) => command.run(session),
            Self::Ephemeral(command) => command.run(session),
            Self::ToDisk(command) => command.run(session),
            Self::Resume(command) => command.run(session),
            Self::Suspend(command) => command.run(session),
            Self::Port(command) => command.run(session),
            Self::Wait(command) => command.run(session),
            Self::Rename(command) => command.run(session),
            Self::Rm(command) => command.run(session),
            Self::Snapshot(command) => command.run(session),
            Self::Commit(command) => command.run(session),
            Self::Set(command) => command.run(session),
            Self::Inspect(command) => command.run(session),
            Self::Logs(command) => command.run(session),
            Self::Console(command) => command.run(session),
            Self::Volume(command) => command.run(session),
            Self::Screenshot(command) => command.run(session),
            Self::Sign(command) => command.run(session),
            Self::Verify(command) => command.run(session),
            Self::Key(command) => command.run(session),
            Self::Template(command) => command.run(session),
            Self::Audit(command) => command.run(session),
            Self::Tags(command) => command.run(session),
            Self::Login(command) => command.run(session),
            Self::Logout(command) => command.run(session),
            Self::Doctor(command) => command.run(session),
            Self::Completions(command) => command.run(session),
            Self::Man(command) => command.run(session),
            Self::Version(command) => command.run(session),
        }
    }

    /// Whether it may build images.
    pub(super) const fn builds(&self) -> bool {
        if let Self::Pb(pb) = self {
            return pb.builds();
        }
        matches!(
            self,
            Self::Build(_)
                | Self::Boot(_)
                | Self::Create(_)
                | Self::Ephemeral(_)
                | Self::ToDisk(_)
                | Self::Up(_)
                | Self::Lock(_)
                | Self::Update(_)
        )
    }

    /// Which diagnostics the command's own option asks for.
    pub(super) const fn log_level(&self) -> Option<LevelFilter> {
        match self {
            Self::Pb(pb) => pb.log_level(),
            _ => None,
        }
    }

    /// Whether its build has a record even if no step runs.
    pub(super) const fn records_at_once(&self) -> bool {
        matches!(self, Self::Build(build) if build.is_reported())
    }

    /// Whether events belong to what the command prints with `--json`.
    pub(super) const fn streams_events(&self) -> bool {
        matches!(
            self,
            Self::Build(_)
                | Self::Boot(_)
                | Self::Create(_)
                | Self::Up(_)
                | Self::Start(_)
                | Self::Restart(_)
        )
    }
}

/// What `pb` is to do, of a command line whose root it is.
pub(super) fn pb(matches: &ArgMatches) -> clap::error::Result<Command> {
    pb::Pb::from_arg_matches(matches).map(Command::Pb)
}

/// How `vmfab --help` groups commands. Every command is in one group; a test holds that.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Build images",
        &[
            "build", "builds", "plan", "explain", "report", "history", "lock", "update", "fmt",
            "lint",
        ],
    ),
    ("Inspect images", &["images", "image"]),
    ("Share images", &["push", "pull"]),
    (
        "Run machines",
        &[
            "boot",
            "create",
            "clone",
            "up",
            "down",
            "compose",
            "ssh",
            "ssh-config",
            "exec",
            "cp",
            "list",
            "top",
            "watch",
            "start",
            "stop",
            "restart",
            "pause",
            "resume",
            "suspend",
            "wait",
            "port",
            "rename",
            "set",
            "rm",
            "volume",
        ],
    ),
    ("Run bootable containers", &["pb", "ephemeral", "to-disk"]),
    ("Save machines", &["snapshot", "commit"]),
    (
        "Inspect machines",
        &["inspect", "logs", "console", "screenshot"],
    ),
    ("Use templates", &["template"]),
    ("Manage the store", &["store"]),
    (
        "Sign and verify images",
        &["sign", "verify", "key", "audit"],
    ),
    ("Use registries", &["tags", "login", "logout"]),
    (
        "Manage vmfab",
        &["doctor", "completions", "man", "version", "help"],
    ),
];

/// The colours that cargo has.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(AnsiColor::Red.on_default().bold())
    .valid(AnsiColor::Cyan.on_default().bold())
    .invalid(AnsiColor::Yellow.on_default().bold());

const EXAMPLES: &str = "\
Examples:
  vmfab doctor                       check what this host lacks
  vmfab build docker                 build an image and tag it @docker
  vmfab images                       list images
  vmfab boot @docker                 create a machine from it and start it
  vmfab ssh docker -- docker info    run a command in the machine
  vmfab push @docker ghcr.io/me/vm   share it through a registry
  vmfab up                           start the machines that vmfab.kdl describes

Exit codes:
  0 done, 1 failed, 2 usage, 3 not found, 4 error in the recipe, 5 something is
  missing on this host, 6 verification failed, 130 interrupted, 255 no session

Environment:
  VMFAB_HOME   directory for all data [default: ~/.local/share/vmfab]
  NO_COLOR     no colours

Run 'vmfab help COMMAND' for the options and examples of a command.";

/// The whole command line, with commands in groups.
pub(super) fn root() -> clap::Command {
    let root = Root::command().styles(STYLES).after_help(EXAMPLES);
    let template = template(&root);
    root.help_template(template)
}

/// The help text of the root: clap has one flat list of commands, this one has headings.
fn template(root: &clap::Command) -> StyledStr {
    use std::fmt::Write as _;
    let styles = root.get_styles();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = StyledStr::new();
    let about = |name: &str| match root.find_subcommand(name) {
        Some(command) => command.get_about().map(ToString::to_string),
        // clap adds it later.
        None => (name == "help").then(|| "Explain a command".to_owned()),
    };
    let _ = write!(
        text,
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n"
    );
    for (heading, names) in GROUPS {
        let _ = write!(text, "\n{header}{heading}:{header:#}\n");
        for name in *names {
            if let Some(about) = about(name) {
                let _ = writeln!(text, "  {literal}{name:<12}{literal:#} {about}");
            }
        }
    }
    let _ = write!(
        text,
        "\n{header}Global options:{header:#}\n{{options}}{{after-help}}"
    );
    text
}
