//! What a Dockerfile says.

use super::instruction;
use crate::image::Healthcheck;
use crate::text::{Source, Span, Spanned};

/// A text as it is written, with continuations joined: quotes, escapes and variables are in it.
pub type Word = Spanned<String>;

/// A whole Dockerfile, with at least one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    pub source: Source,
    pub directives: Directives,
    /// Instructions before the first stage; each is an `ARG`.
    pub head: Vec<Instruction>,
    /// In the order of the file.
    pub stages: Vec<Stage>,
    /// Empty lines within continued lines.
    pub(super) empty_continuations: Vec<Span>,
}

impl Dockerfile {
    /// The names of all arguments that are declared anywhere.
    pub fn declared(&self) -> impl Iterator<Item = &str> {
        let stages = self.stages.iter().flat_map(|stage| &stage.instructions);
        let args = self.head.iter().chain(stages);
        let args = args.filter_map(|instruction| match &instruction.kind {
            Kind::Arg(args) => Some(args),
            _ => None,
        });
        args.flatten().map(|arg| arg.name.value.as_str())
    }

    /// The arguments that are declared before the first stage.
    pub fn meta_args(&self) -> impl Iterator<Item = &Arg> {
        let lists = self.head.iter().map(|instruction| match &instruction.kind {
            Kind::Arg(args) => args.as_slice(),
            _ => &[],
        });
        lists.flatten()
    }

    /// The stage of this name among the first `before` stages: the last one with it. Names of
    /// stages have no case.
    #[must_use]
    pub fn stage_named(&self, name: &str, before: usize) -> Option<usize> {
        let named = |stage: &Stage| {
            stage
                .name()
                .is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let stages = &self.stages[..before.min(self.stages.len())];
        stages.iter().rposition(named)
    }
}

/// Comments at the start of the file that change how it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`: an image with a front end. vmfab reads every Dockerfile with its own.
    pub syntax: Option<Word>,
    /// `escape`: `\` or a backtick.
    pub escape: char,
    /// `check`: which checks `vmfab lint` leaves out.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
        }
    }
}

/// `FROM` and the instructions up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The `FROM` instruction.
    pub span: Span,
    /// `FROM`, as it is written.
    pub keyword: Word,
    pub comments: Vec<Word>,
    /// An image, an earlier stage, or `scratch`. Arguments of the head are in it.
    pub base: Word,
    /// `AS` and the name of the stage, as they are written.
    pub alias: Option<(Word, Word)>,
    /// `--platform`.
    pub platform: Option<Word>,
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// The name as it is written; names have no case.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.alias.as_ref().map(|(_, name)| name.value.as_str())
    }
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// From the keyword to the end of the last continued line, without here-documents.
    pub span: Span,
    /// The name of the instruction, as it is written.
    pub keyword: Word,
    /// Comments directly above it, without `#`.
    pub comments: Vec<Word>,
    /// The instruction on one line, without what follows it as here-documents.
    pub text: String,
    pub kind: Kind,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Add(Add),
    Arg(Vec<Arg>),
    Cmd(Command),
    Copy(Copy),
    /// An empty exec form takes the entry point of the base away.
    Entrypoint(Command),
    Env(Vec<Pair>),
    /// Ports, each such as `80` or `8000-8010/udp`.
    Expose(Vec<Word>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    /// Deprecated; the author of the image.
    Maintainer(Word),
    Onbuild(Onbuild),
    Run(Run),
    /// The program and arguments that shell forms are given to.
    Shell(Vec<String>),
    Stopsignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

/// A name and a value of `ENV` and `LABEL`. Both are expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub name: Word,
    pub value: Word,
    /// Whether it is written as `NAME VALUE`, without `=`.
    pub is_legacy: bool,
}

/// An argument of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    pub name: Word,
    pub default: Option<Word>,
}

/// What is run. Variables in it are left to the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A script for the shell of the stage.
    Shell(Word),
    /// A program with its arguments: a JSON list.
    Exec(Vec<Word>),
}

impl Command {
    /// The exec form as plain texts.
    #[must_use]
    pub fn arguments(&self) -> Option<Vec<String>> {
        match self {
            Self::Shell(_) => None,
            Self::Exec(words) => Some(words.iter().map(|word| word.value.clone()).collect()),
        }
    }
}

/// A text that follows an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HereDocument {
    /// What ends it; a file that is copied has this name.
    pub name: Word,
    /// The lines, as they are written.
    pub text: String,
    /// Whether variables in it are expanded: no part of the name is quoted.
    pub expands: bool,
    /// `<<-`: tabs at the start of lines are left out.
    pub strips_tabs: bool,
}

impl HereDocument {
    /// The lines, without tabs at their starts if `<<-` says so.
    #[must_use]
    pub fn content(&self) -> String {
        if !self.strips_tabs {
            return self.text.clone();
        }
        let lines = self.text.split_inclusive('\n');
        lines.map(|line| line.trim_start_matches('\t')).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub command: Command,
    /// In their order; only with a shell form.
    pub documents: Vec<HereDocument>,
    pub mounts: Vec<Mount>,
    pub network: Network,
}

/// What the step of a `RUN` instruction runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// A script for the shell of the stage.
    Shell(String),
    /// A program with its arguments.
    Exec(Vec<String>),
    /// A file of this name and content, which names its interpreter.
    File { name: String, content: String },
}

impl Run {
    /// What is run, with the here-documents: one that stands alone is the script, or a program if
    /// it begins with `#!`; others are left to the shell.
    #[must_use]
    pub fn script(&self) -> Script {
        let command = match &self.command {
            Command::Shell(command) => command,
            Command::Exec(words) => {
                return Script::Exec(words.iter().map(|word| word.value.clone()).collect());
            }
        };
        let Some(first) = self.documents.first() else {
            return Script::Shell(command.value.clone());
        };
        if instruction::is_document(&command.value) {
            let content = first.content();
            return match content.starts_with("#!") {
                true => Script::File {
                    name: first.name.value.clone(),
                    content,
                },
                false => Script::Shell(content),
            };
        }
        let mut script = command.value.clone();
        for document in &self.documents {
            script.push('\n');
            script.push_str(&document.text);
            script.push_str(&document.name.value);
        }
        Script::Shell(script)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// Of the build.
    #[default]
    Default,
    None,
    Host,
}

/// `--mount`, with options still unexpanded; [`Mount::resolve`] makes a [`MountKind`] of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub span: Span,
    /// Names in small letters.
    pub options: Vec<MountOption>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOption {
    pub name: Word,
    pub value: Option<Word>,
}

/// What a mount is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    Bind(BindMount),
    Cache(CacheMount),
    Tmpfs(TmpfsMount),
    Secret(SecretMount),
    Ssh(SshMount),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// A stage, image or named context; the build context if absent.
    pub from: Option<String>,
    /// Path in `from`; `/` by default.
    pub source: String,
    /// Relative to the working directory.
    pub target: String,
    /// What is written is thrown away after the step.
    pub writable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// The target by default.
    pub id: String,
    pub target: String,
    pub sharing: Sharing,
    /// Whence the cache is filled when it is new: a stage, image or named context.
    pub from: Option<String>,
    pub source: String,
    pub owner: Owner,
    /// Of the directory, when it is new; 0755 by default.
    pub mode: u32,
    pub writable: bool,
}

/// What happens when two steps want one cache at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Both write to it.
    #[default]
    Shared,
    /// The second gets another one.
    Private,
    /// The second waits.
    Locked,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmpfsMount {
    pub target: String,
    /// In bytes; no limit if absent.
    pub size: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    pub id: String,
    /// A file with the secret; `/run/secrets/ID` unless only `env` is given.
    pub target: Option<String>,
    /// A variable with the secret.
    pub env: Option<String>,
    /// Whether the step fails without the secret.
    pub required: bool,
    pub owner: Owner,
    /// 0400 by default.
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshMount {
    /// `default` by default.
    pub id: String,
    /// The path of the agent's socket; chosen by the builder if absent.
    pub target: Option<String>,
    pub required: bool,
    pub owner: Owner,
    /// 0600 by default.
    pub mode: u32,
}

/// What `COPY` and `ADD` have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Paths and patterns; for `ADD` also URLs and git repositories.
    pub sources: Vec<Word>,
    /// Sources that are here-documents.
    pub documents: Vec<HereDocument>,
    pub destination: Word,
    pub chown: Option<Word>,
    pub chmod: Option<Word>,
    pub link: bool,
    /// Patterns; not expanded.
    pub exclude: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub files: Files,
    /// A stage by name or number, an image, or a named context; not expanded.
    pub from: Option<Word>,
    pub parents: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    pub files: Files,
    pub checksum: Option<Word>,
    pub keep_git_dir: Option<bool>,
    /// Archives of the context are unpacked by default, those of URLs are not.
    pub unpack: Option<bool>,
}

/// An instruction for builds that start from the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    pub instruction: Box<Instruction>,
    /// The instruction with its here-documents, as image configs hold it.
    pub trigger: String,
}
