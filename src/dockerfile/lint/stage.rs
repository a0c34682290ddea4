//! Checks that follow variables through the stages.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::options::Options;
use super::reference::can_be_image;
use super::{Facts, Findings, port, rule};
use crate::dockerfile::arguments::{Platforms, predefined};
use crate::dockerfile::expand::Expander;
use crate::dockerfile::model::{
    Command, Dockerfile, Files, Instruction, Kind, Pair, Run, Stage, Word,
};
use crate::text::{Span, closest, looks_like_secret};

/// Variables that BuildKit knows without a declaration.
const UNDECLARED: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

type Variables = BTreeMap<String, String>;

/// What is known at a place of a stage.
#[derive(Debug, Clone, Default)]
struct State {
    variables: Variables,
    /// Arguments that are declared, with a value or without.
    declared: BTreeSet<String>,
    has_shell: bool,
    has_workdir: bool,
}

pub(super) fn check(
    dockerfile: &Dockerfile,
    facts: &Facts<'_>,
    options: &Options,
    findings: &mut Findings,
) {
    let target = dockerfile
        .stages
        .last()
        .and_then(Stage::name)
        .unwrap_or("default");
    let platforms = Platforms {
        build: facts.platform.to_owned(),
        target: facts.platform.to_owned(),
    };
    let predefined = predefined(&platforms, target);
    let mut checker = Checker {
        dockerfile,
        facts,
        findings,
        globals: head(dockerfile, &predefined, facts.build_args),
        defaults: head(dockerfile, &predefined, &BTreeMap::new()),
        declared: dockerfile
            .meta_args()
            .map(|arg| arg.name.value.clone())
            .collect(),
        states: Vec::new(),
    };
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        checker.findings.options = options.with_comments(&stage.comments);
        let mut state = checker.from(stage, index);
        let mut last_of = BTreeMap::new();
        for instruction in &stage.instructions {
            checker.findings.options = options.with_comments(&instruction.comments);
            checker.instruction(instruction, &mut state);
            checker.once(instruction, &mut last_of);
        }
        checker.states.push(state);
    }
}

/// The variables of the head.
fn head(dockerfile: &Dockerfile, predefined: &Variables, given: &Variables) -> Variables {
    let mut variables = predefined.clone();
    for arg in dockerfile.meta_args() {
        let value = given.get(&arg.name.value).cloned().or_else(|| {
            let lookup = |name: &str| variables.get(name).cloned();
            let expander = Expander::new(dockerfile.directives.escape, &lookup);
            arg.default
                .as_ref()
                .map(|word| expander.word(word).unwrap_or_default())
        });
        if let Some(value) = value {
            variables.insert(arg.name.value.clone(), value);
        }
    }
    variables
}

struct Checker<'a> {
    dockerfile: &'a Dockerfile,
    facts: &'a Facts<'a>,
    findings: &'a mut Findings,
    /// The variables of the head, with what was given.
    globals: Variables,
    /// The same, with defaults only.
    defaults: Variables,
    /// The arguments of the head.
    declared: BTreeSet<String>,
    /// At the end of each stage.
    states: Vec<State>,
}

/// A word with its variables replaced.
struct Expansion {
    /// `None` when it cannot be.
    text: Option<String>,
    words: Vec<String>,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

fn expansion(word: &Word, variables: &Variables, escape: char) -> Expansion {
    let used = RefCell::new(BTreeSet::new());
    let unset = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        let value = variables.get(name).cloned();
        let seen = if value.is_some() { &used } else { &unset };
        seen.borrow_mut().insert(name.to_owned());
        value
    };
    let expander = Expander::new(escape, &lookup);
    let text = expander.word(word).ok();
    let words = expander.words(word).unwrap_or_default();
    Expansion {
        text,
        words,
        used: used.into_inner(),
        unset: unset.into_inner(),
    }
}

impl Checker<'_> {
    fn expansion(&self, word: &Word, variables: &Variables) -> Expansion {
        expansion(word, variables, self.dockerfile.directives.escape)
    }

    fn from(&mut self, stage: &Stage, index: usize) -> State {
        let base = self.expansion(&stage.base, &self.globals);
        self.undeclared(&base, &stage.base.span);
        let default = self.expansion(&stage.base, &self.defaults);
        if default
            .text
            .as_deref()
            .is_some_and(|text| !can_be_image(text))
        {
            let message = format!(
                "the defaults make {:?} no name of an image",
                stage.base.value
            );
            self.findings.add(
                &rule::INVALID_DEFAULT_ARG_IN_FROM,
                &stage.base.span,
                message,
            );
        }
        if let Some(platform) = &stage.platform {
            self.platform(stage, platform);
        }
        let base = base.text.unwrap_or_default();
        if let Some(earlier) = self.dockerfile.stage_named(&base, index) {
            return self.states[earlier].clone();
        }
        let mut state = State::default();
        if base != "scratch" {
            // Every base image has one; what else it sets is only known when it is pulled.
            state
                .variables
                .insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
            self.base_platform(stage, &base);
        }
        state
    }

    fn base_platform(&mut self, stage: &Stage, base: &str) {
        let wanted = match &stage.platform {
            None => Some(self.facts.platform.to_owned()),
            Some(platform) => self.expansion(platform, &self.globals).text,
        };
        let Some(found) = (self.facts.platform_of)(base) else {
            return;
        };
        if let Some(wanted) = wanted
            && wanted != found
        {
            let message = format!("the image {base} is for {found}, this build for {wanted}");
            self.findings.add(
                &rule::INVALID_BASE_IMAGE_PLATFORM,
                &stage.base.span,
                message,
            );
        }
    }

    fn platform(&mut self, stage: &Stage, word: &Word) {
        let platform = self.expansion(word, &self.globals);
        self.undeclared(&platform, &word.span);
        let Some(text) = &platform.text else {
            return;
        };
        let is_target = platform.used.iter().eq(["TARGETPLATFORM"]) && platform.unset.is_empty();
        if is_target && self.globals.get("TARGETPLATFORM") == Some(text) {
            let message = format!("{} is the platform without --platform, too", word.value);
            self.findings
                .add(&rule::REDUNDANT_TARGET_PLATFORM, &word.span, message);
        }
        if platform.used.is_empty() && platform.unset.is_empty() {
            let name = stage.name().unwrap_or_default().to_lowercase();
            let in_name = text.split('/').take(2).any(|part| name.contains(part));
            if !in_name {
                let message = format!("FROM is always for the platform {text}");
                self.findings.add(
                    &rule::FROM_PLATFORM_FLAG_CONST_DISALLOWED,
                    &word.span,
                    message,
                );
            }
        }
    }

    /// Reports variables of `FROM` that are not declared in the head.
    fn undeclared(&mut self, expansion: &Expansion, span: &Span) {
        for name in &expansion.unset {
            if self.declared.contains(name) {
                continue;
            }
            let known = self.declared.iter().chain(self.globals.keys());
            let near = closest(name, known.map(String::as_str));
            let message = format!("the variable {name} is not declared before FROM");
            let message = suggested(message, near);
            self.findings
                .add(&rule::UNDEFINED_ARG_IN_FROM, span, message);
        }
    }

    /// Expands a word of a stage, and reports variables that nothing declares.
    fn word(&mut self, word: &Word, state: &State) -> String {
        let expanded = self.expansion(word, &state.variables);
        for name in &expanded.unset {
            if state.declared.contains(name) || UNDECLARED.contains(&name.as_str()) {
                continue;
            }
            let known = state.variables.keys().chain(&state.declared);
            let near = closest(name, known.map(String::as_str));
            let message = suggested(format!("the variable {name} is not declared"), near);
            self.findings.add(&rule::UNDEFINED_VAR, &word.span, message);
        }
        expanded.text.unwrap_or_default()
    }

    fn instruction(&mut self, instruction: &Instruction, state: &mut State) {
        match &instruction.kind {
            Kind::Arg(args) => {
                for arg in args {
                    self.secret("ARG", &arg.name);
                    let name = &arg.name.value;
                    let default = arg.default.as_ref();
                    let value = match self.facts.build_args.get(name) {
                        Some(value) => Some(value.clone()),
                        None => default.map(|word| self.word(word, state)),
                    };
                    let value = value.or_else(|| self.globals.get(name).cloned());
                    state.declared.insert(name.clone());
                    state
                        .variables
                        .extend(value.map(|value| (name.clone(), value)));
                }
            }
            Kind::Env(pairs) => {
                let before = state.clone();
                for pair in pairs {
                    let (name, value) = self.pair("ENV", pair, &before);
                    self.secret("ENV", &pair.name);
                    state.variables.insert(name, value);
                }
            }
            Kind::Label(pairs) => {
                for pair in pairs {
                    self.pair("LABEL", pair, state);
                }
            }
            Kind::Copy(copy) => {
                let from_context = copy.from.is_none();
                self.files("COPY", &copy.files, from_context, state);
            }
            Kind::Add(add) => self.files("ADD", &add.files, true, state),
            Kind::Workdir(word) => {
                let path = self.word(word, state);
                if !state.has_workdir && !path.starts_with('/') {
                    let message = format!("the working directory {path} is relative");
                    self.findings
                        .add(&rule::WORKDIR_RELATIVE_PATH, &word.span, message);
                }
                state.has_workdir = true;
            }
            Kind::Expose(ports) => {
                for word in ports {
                    let ports = self.expansion(word, &state.variables).words;
                    for text in ports {
                        port::check(word, &text, self.findings);
                    }
                }
            }
            Kind::Cmd(command) | Kind::Entrypoint(command) => {
                if matches!(command, Command::Shell(_)) && !state.has_shell {
                    let name = instruction.keyword.value.to_uppercase();
                    let message = format!("{name} is given to a shell");
                    let rule = &rule::JSON_ARGS_RECOMMENDED;
                    self.findings.add(rule, &instruction.span, message);
                }
            }
            Kind::Shell(_) => state.has_shell = true,
            Kind::User(word) | Kind::Stopsignal(word) => drop(self.word(word, state)),
            Kind::Volume(words) => {
                for word in words {
                    self.word(word, state);
                }
            }
            Kind::Run(run) => self.mounts(run, state),
            Kind::Healthcheck(_) | Kind::Maintainer(_) | Kind::Onbuild(_) => {}
        }
    }

    fn pair(&mut self, instruction: &str, pair: &Pair, state: &State) -> (String, String) {
        if pair.is_legacy {
            let message = format!("{instruction} {} has no =", pair.name.value);
            self.findings
                .add(&rule::LEGACY_KEY_VALUE_FORMAT, &pair.name.span, message);
        }
        let name = self.word(&pair.name, state);
        (name, self.word(&pair.value, state))
    }

    fn secret(&mut self, instruction: &str, name: &Word) {
        if looks_like_secret(&name.value) {
            let message = format!("{instruction} {} looks like a secret", name.value);
            self.findings
                .add(&rule::SECRETS_USED_IN_ARG_OR_ENV, &name.span, message);
        }
    }

    fn files(&mut self, name: &str, files: &Files, from_context: bool, state: &State) {
        for word in [&files.chown, &files.chmod].into_iter().flatten() {
            self.word(word, state);
        }
        for source in &files.sources {
            let path = self.word(source, state);
            if from_context && !path.contains("://") {
                self.ignored(name, source, &path);
            }
        }
        self.word(&files.destination, state);
    }

    fn ignored(&mut self, name: &str, source: &Word, path: &str) {
        // With exceptions, a directory that is left out may have files that are not.
        let Some(ignore) = self.facts.ignore.filter(|ignore| !ignore.has_exceptions()) else {
            return;
        };
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        let relative = parts.collect::<Vec<_>>().join("/");
        let is_ignored = match relative.as_str() {
            "" => ignore.takes_whole_root(),
            relative => ignore.ignores(relative),
        };
        if is_ignored {
            let shown = if relative.is_empty() {
                "."
            } else {
                relative.as_str()
            };
            let message = format!("{name} of {shown}, which .dockerignore leaves out");
            self.findings
                .add(&rule::COPY_IGNORED_FILE, &source.span, message);
        }
    }

    fn mounts(&mut self, run: &Run, state: &State) {
        for mount in &run.mounts {
            for word in mount
                .options
                .iter()
                .filter_map(|option| option.value.as_ref())
            {
                self.word(word, state);
            }
        }
    }

    /// `CMD`, `ENTRYPOINT` and `HEALTHCHECK` count once in a stage.
    fn once(
        &mut self,
        instruction: &Instruction,
        last_of: &mut BTreeMap<&'static str, (Span, Options)>,
    ) {
        let name = match instruction.kind {
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            _ => return,
        };
        let here = (instruction.span.clone(), self.findings.options.clone());
        if let Some((span, _)) = last_of.insert(name, here) {
            let message = format!("this {name} is overridden further down");
            self.findings
                .add(&rule::MULTIPLE_INSTRUCTIONS_DISALLOWED, &span, message);
        }
    }
}

fn suggested(message: String, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("{message} (did you mean {near}?)"),
        None => message,
    }
}
