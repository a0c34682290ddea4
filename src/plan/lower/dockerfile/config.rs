//! Instructions, one after the other, and what they change of a stage's config.

use super::{Build, Stage};
use crate::checked::Line;
use crate::derivation::step::{self, Step};
use crate::dockerfile::{Command, Instruction, Kind, Word};
use crate::image::{ExposedPort, Signal};
use crate::plan::PlanError;
use crate::plan::lower::Lowering;
use crate::recipe::Problem;
use crate::text::without_logins;

impl Build<'_> {
    /// Does one instruction of a stage.
    pub(super) fn instruction(
        &mut self,
        lowering: &mut Lowering<'_>,
        stage: &mut Stage,
        index: usize,
        instruction: &Instruction,
    ) -> Result<(), PlanError> {
        let expand = |stage: &Stage, word: &Word| stage.variables.expand(&self.arguments, word);
        match &instruction.kind {
            Kind::Arg(args) => stage.variables.declare(&self.arguments, args)?,
            Kind::Env(pairs) => {
                // What one instruction sets does not hold in itself.
                for (name, value) in stage.variables.pairs(&self.arguments, pairs)? {
                    stage.config().set_env(&name, &value);
                    stage.variables.set(name, value);
                }
            }
            Kind::Label(pairs) => {
                let labels = stage.variables.pairs(&self.arguments, pairs)?;
                stage.config().labels.extend(labels.clone());
                stage.lowered.labels.extend(labels);
            }
            Kind::Maintainer(author) => {
                let author = expand(stage, author)?;
                stage.lowered.author = Some(Line::like(&author));
                let name = "org.opencontainers.image.authors".to_owned();
                stage.lowered.labels.insert(name, author);
            }
            Kind::Run(run) => self.run(lowering, stage, index, instruction, run)?,
            Kind::Copy(copy) => self.copy(lowering, stage, index, instruction, copy)?,
            Kind::Add(add) => self.add(lowering, stage, index, instruction, add)?,
            Kind::Workdir(word) => {
                let path = expand(stage, word)?;
                if path.is_empty() {
                    let problem =
                        Problem::new(&word.span, "the working directory is empty", "empty");
                    return Err(problem
                        .with_help("write an absolute path: WORKDIR /app")
                        .into());
                }
                let path = inside(stage.workdir(), &path);
                stage.config().workdir = Some(path.clone());
                if path != "/" {
                    let name = self.name(index, &instruction.text);
                    let step = Step::Workdir(step::Workdir {
                        path,
                        owner: stage.config().user.clone(),
                    });
                    lowering.layer(stage.tree(), name, &step, Vec::new())?;
                }
            }
            Kind::User(word) => {
                let user = expand(stage, word)?;
                if user.is_empty() {
                    let problem = Problem::new(&word.span, "the user is empty", "empty");
                    return Err(problem
                        .with_help("write a name or a number: USER 1000")
                        .into());
                }
                stage.config().user = Some(user);
            }
            Kind::Shell(shell) => stage.config().shell.clone_from(shell),
            Kind::Cmd(command) => {
                stage.config().cmd = stage.command(command);
                stage.has_cmd = true;
            }
            Kind::Entrypoint(command) => {
                let entrypoint = stage.command(command);
                let has_cmd = stage.has_cmd;
                let config = stage.config();
                config.entrypoint = entrypoint;
                // A command of the base is for the entry point of the base.
                if !has_cmd {
                    config.cmd.clear();
                }
            }
            Kind::Expose(words) => {
                for word in words {
                    let expander = |stage: &Stage| {
                        let variables = &stage.variables;
                        variables.with_expander(&self.arguments, |expander| expander.words(word))
                    };
                    for text in expander(stage)? {
                        expose(stage, word, &text)?;
                    }
                }
            }
            Kind::Volume(words) => {
                for word in words {
                    let volume = expand(stage, word)?;
                    if volume.is_empty() {
                        let problem = Problem::new(&word.span, "the volume is empty", "empty");
                        return Err(problem.with_help("write a path: VOLUME /data").into());
                    }
                    stage.config().volumes.insert(volume);
                }
            }
            Kind::Stopsignal(word) => {
                let signal = expand(stage, word)?;
                if let Err(error) = signal.parse::<Signal>() {
                    let problem = Problem::new(&word.span, error.to_string(), "unknown signal");
                    return Err(problem
                        .with_help("write a name or a number: SIGTERM, 15")
                        .into());
                }
                stage.config().stop_signal = Some(signal);
            }
            Kind::Healthcheck(check) => stage.config().healthcheck = Some(check.clone()),
            Kind::Onbuild(onbuild) => {
                let trigger = &onbuild.trigger;
                let is_add = matches!(onbuild.instruction.kind, Kind::Add(_));
                if is_add && without_logins(trigger) != *trigger {
                    let message = "the address has a user name or a password in it";
                    let problem =
                        Problem::new(&instruction.span, message, "would stay in the image");
                    let help = "give the login with the build: --secret id=GIT_AUTH_TOKEN";
                    return Err(problem.with_help(help).into());
                }
                stage.config().onbuild.push(onbuild.trigger.clone());
                stage.triggers.push((*onbuild.instruction).clone());
            }
        }
        Ok(())
    }
}

impl Stage {
    /// The working directory, absolute.
    pub(super) fn workdir(&self) -> &str {
        let config = self.lowered.container.as_ref();
        config
            .and_then(|config| config.workdir.as_deref())
            .unwrap_or("/")
    }

    /// The command line of `CMD` and `ENTRYPOINT`.
    fn command(&mut self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
            Command::Shell(script) => {
                let mut line = self.config().shell();
                line.push(script.value.clone());
                line
            }
        }
    }
}

/// A path as it is meant in a directory, without `.`, `..` and doubled slashes.
pub(super) fn inside(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = match path.starts_with('/') {
        true => "",
        false => directory,
    };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn expose(stage: &mut Stage, word: &Word, text: &str) -> Result<(), PlanError> {
    let ports = ExposedPort::range(text).map_err(|error| {
        let problem = Problem::new(&word.span, error.to_string(), "not a port");
        problem.with_help("write EXPOSE 80, EXPOSE 53/udp or EXPOSE 8000-8010")
    })?;
    for exposed in ports {
        stage.config().exposed.insert(exposed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn paths_in_directories() {
        for (directory, path, is) in [
            ("/", "a", "/a"),
            ("/a", "b/../c/", "/a/c"),
            ("/a", "/b//c", "/b/c"),
            ("/a", "../..", "/"),
            ("/a", ".", "/a"),
        ] {
            assert_eq!(inside(directory, path), is);
        }
    }
}
