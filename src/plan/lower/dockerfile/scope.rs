//! Arguments and variables of a Dockerfile: which of them hold where.

use std::collections::BTreeMap;

use super::platform::Platform;
use crate::dockerfile::{
    Arg, Dockerfile, Expander, Kind, Pair, Platforms, Word, is_proxy, predefined,
};
use crate::image::ContainerConfig;
use crate::recipe::Problem;

/// What arguments stand for, in the whole file.
pub(super) struct Arguments {
    given: BTreeMap<String, String>,
    /// What holds in `FROM`, and what an `ARG` without a value takes: those before the first stage,
    /// and those of the platform.
    global: BTreeMap<String, String>,
    escape: char,
}

impl Arguments {
    /// `build` is the platform of this host, `wanted` that of the image.
    ///
    /// # Errors
    /// A default cannot be expanded.
    pub(super) fn new(
        file: &Dockerfile,
        given: BTreeMap<String, String>,
        build: &Platform,
        wanted: &Platform,
        target: Option<&str>,
    ) -> Result<Self, Problem> {
        let platforms = Platforms {
            build: build.to_string(),
            target: wanted.to_string(),
        };
        let mut global = predefined(&platforms, target.unwrap_or("default"));
        for (name, value) in &mut global {
            if let Some(given) = given.get(name) {
                value.clone_from(given);
            }
        }
        let mut arguments = Self {
            given,
            global,
            escape: file.directives.escape,
        };
        for arg in file.meta_args() {
            let name = &arg.name.value;
            let value = match (arguments.given.get(name), &arg.default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => arguments.in_from(default)?,
                (None, None) => continue,
            };
            arguments.global.insert(name.clone(), value);
        }
        Ok(arguments)
    }

    /// A word of a `FROM` instruction.
    ///
    /// # Errors
    /// It cannot be expanded.
    pub(super) fn in_from(&self, word: &Word) -> Result<String, Problem> {
        let lookup = |name: &str| self.global.get(name).cloned();
        Expander::new(self.escape, &lookup).word(word)
    }

    /// The arguments that were given and that no `ARG` names, in all of the file.
    pub(super) fn unknown(&self, file: &Dockerfile) -> Vec<&str> {
        let in_stages = file.stages.iter().flat_map(|stage| &stage.instructions);
        let in_stages = in_stages.filter_map(|instruction| match &instruction.kind {
            Kind::Arg(args) => Some(args),
            _ => None,
        });
        let declared: Vec<&str> = in_stages
            .flatten()
            .chain(file.meta_args())
            .map(|arg| arg.name.value.as_str())
            .collect();
        let automatic = |name: &str| self.global.contains_key(name);
        let names = self.given.keys().map(String::as_str);
        names
            .filter(|name| !declared.contains(name) && !is_proxy(name) && !automatic(name))
            .collect()
    }
}

/// The variables that hold at a place in a stage: of an `ENV` and an `ARG` of one name, the later
/// one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those of an image, for a stage that starts from it. Arguments that were declared in a stage
    /// stay declared in those that start from it, and yield to what the image has.
    pub(super) fn add_image(&mut self, config: &ContainerConfig) {
        self.0.extend(config.env.iter().cloned());
    }

    pub(super) const fn all(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// A word with these variables in it.
    ///
    /// # Errors
    /// It cannot be expanded.
    pub(super) fn expand(&self, arguments: &Arguments, word: &Word) -> Result<String, Problem> {
        self.with_expander(arguments, |expander| expander.word(word))
    }

    /// Does something with what expands words here.
    pub(super) fn with_expander<T>(
        &self,
        arguments: &Arguments,
        expand: impl FnOnce(&Expander<'_>) -> T,
    ) -> T {
        let lookup = |name: &str| self.0.get(name).cloned();
        expand(&Expander::new(arguments.escape, &lookup))
    }

    /// `ARG`.
    ///
    /// # Errors
    /// A default cannot be expanded.
    pub(super) fn declare(&mut self, arguments: &Arguments, args: &[Arg]) -> Result<(), Problem> {
        for arg in args {
            let name = &arg.name.value;
            let value = match (arguments.given.get(name), &arg.default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => self.expand(arguments, default)?,
                (None, None) => match arguments.global.get(name) {
                    Some(global) => global.clone(),
                    None => continue,
                },
            };
            self.0.insert(name.clone(), value);
        }
        Ok(())
    }

    /// `ENV`.
    pub(super) fn set(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    /// The pairs of `ENV` and `LABEL`.
    ///
    /// # Errors
    /// A name or a value cannot be expanded.
    pub(super) fn pairs(
        &self,
        arguments: &Arguments,
        pairs: &[Pair],
    ) -> Result<Vec<(String, String)>, Problem> {
        let expand = |word: &Word| self.expand(arguments, word);
        pairs
            .iter()
            .map(|pair| Ok((expand(&pair.name)?, expand(&pair.value)?)))
            .collect()
    }
}
