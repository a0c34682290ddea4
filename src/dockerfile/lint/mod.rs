//! Checks of Dockerfiles that have no mistakes: those of `docker build --check`.

mod options;
mod port;
mod reference;
mod rule;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::options::Options;
pub use self::rule::{RULES, Rule};
use super::ignore::Ignore;
use super::model::{Dockerfile, Instruction, Kind, Stage, Word};
use crate::text::{Finding, Problems, Span};

/// What is known beside the Dockerfile.
pub struct Facts<'a> {
    /// Which files of the context are left out, if anything says so.
    pub ignore: Option<&'a Ignore>,
    pub build_args: &'a BTreeMap<String, String>,
    /// Of the build, such as `linux/amd64`.
    pub platform: &'a str,
    /// The platform of a base image, if it is known without a network.
    pub platform_of: &'a dyn Fn(&str) -> Option<String>,
}

/// What the checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linted {
    /// In the order of the file.
    pub findings: Vec<Finding>,
    /// Whether the file says that findings are errors.
    pub fails: bool,
}

/// Checks a Dockerfile.
///
/// # Errors
/// Its directive `check` is not one.
pub fn lint(dockerfile: &Dockerfile, facts: &Facts<'_>) -> Result<Linted, Problems> {
    let options = match &dockerfile.directives.check {
        None => Ok(Options::default()),
        Some(directive) => Options::parse(directive),
    };
    let options = options.map_err(|problem| {
        let name = dockerfile.source.name().to_owned();
        Problems::new(name, vec![problem])
    })?;
    let mut findings = Findings {
        options: options.clone(),
        found: Vec::new(),
    };
    for empty in &dockerfile.empty_continuations {
        let message = "an empty line continues an instruction";
        findings.add(&rule::NO_EMPTY_CONTINUATION, empty, message);
    }
    casing(dockerfile, &mut findings);
    stage_names(dockerfile, &mut findings);
    for instruction in &dockerfile.head {
        describe(instruction, &mut findings);
    }
    for stage in &dockerfile.stages {
        findings.options = options.with_comments(&stage.comments);
        if let Some((_, name)) = &stage.alias {
            description(
                "FROM",
                &[name.value.to_lowercase()],
                stage_place(stage),
                &mut findings,
            );
        }
        for instruction in &stage.instructions {
            findings.options = options.with_comments(&instruction.comments);
            describe(instruction, &mut findings);
            if let Kind::Maintainer(_) = instruction.kind {
                let message = "MAINTAINER is deprecated";
                findings.add(&rule::MAINTAINER_DEPRECATED, &instruction.span, message);
            }
        }
    }
    stage::check(dockerfile, facts, &options, &mut findings);
    let mut found = findings.found;
    found.sort_by_key(|finding| finding.span.range.offset());
    Ok(Linted {
        fails: options.fails && !found.is_empty(),
        findings: found,
    })
}

/// What was found so far, and which checks run at the place that is read.
struct Findings {
    options: Options,
    found: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, rule: &Rule, span: &Span, message: impl Into<String>) {
        if self.options.runs(rule) {
            self.found.push(Finding {
                rule: rule.name,
                message: message.into(),
                span: span.shown(),
                help: rule.help,
                url: rule.url(),
            });
        }
    }
}

fn is_lower(word: &str) -> bool {
    word == word.to_lowercase()
}

fn is_upper(word: &str) -> bool {
    word == word.to_uppercase()
}

fn casing(dockerfile: &Dockerfile, findings: &mut Findings) {
    let keywords: Vec<&Word> = dockerfile
        .stages
        .iter()
        .flat_map(|stage| {
            let inner = stage.instructions.iter().map(|inner| &inner.keyword);
            std::iter::once(&stage.keyword).chain(inner)
        })
        .collect();
    let lower = keywords.iter().filter(|word| is_lower(word)).count();
    let upper = keywords.iter().filter(|word| is_upper(word)).count();
    let wants_lower = lower > upper;
    for word in keywords {
        let fits = if wants_lower {
            is_lower(word)
        } else {
            is_upper(word)
        };
        if !fits {
            let case = if wants_lower {
                "small letters"
            } else {
                "capitals"
            };
            let message = format!("most instructions are in {case}, {} is not", word.value);
            findings.add(&rule::CONSISTENT_INSTRUCTION_CASING, &word.span, message);
        }
    }
}

fn stage_names(dockerfile: &Dockerfile, findings: &mut Findings) {
    let mut seen = Vec::new();
    for stage in &dockerfile.stages {
        let Some((as_, name)) = &stage.alias else {
            continue;
        };
        if !is_lower(name) {
            let message = format!("the name {} of a stage has capitals", name.value);
            findings.add(&rule::STAGE_NAME_CASING, &name.span, message);
        }
        let differs = match (is_lower(&stage.keyword), is_upper(&stage.keyword)) {
            (true, _) => !is_lower(as_),
            (_, true) => !is_upper(as_),
            _ => false,
        };
        if differs {
            let message = format!("{} and {} differ in case", stage.keyword.value, as_.value);
            findings.add(&rule::FROM_AS_CASING, &as_.span, message);
        }
        let lower = name.value.to_lowercase();
        if matches!(lower.as_str(), "context" | "scratch") {
            let message = format!("the name {lower} of a stage is reserved");
            findings.add(&rule::RESERVED_STAGE_NAME, &name.span, message);
        }
        if seen.contains(&lower) {
            let message = format!("two stages have the name {lower}");
            findings.add(&rule::DUPLICATE_STAGE_NAME, &name.span, message);
        }
        seen.push(lower);
    }
}

fn stage_place(stage: &Stage) -> (&Span, &[Word]) {
    (&stage.span, &stage.comments)
}

fn describe(instruction: &Instruction, findings: &mut Findings) {
    if let Kind::Arg(args) = &instruction.kind {
        let names: Vec<_> = args.iter().map(|arg| arg.name.value.clone()).collect();
        let place = (&instruction.span, instruction.comments.as_slice());
        description("ARG", &names, place, findings);
    }
}

/// A comment above a definition begins with the name that it describes.
fn description(
    instruction: &str,
    names: &[String],
    (span, comments): (&Span, &[Word]),
    findings: &mut Findings,
) {
    let Some(last) = comments.last() else {
        return;
    };
    let first = last.value.split(' ').next().unwrap_or_default();
    if names.iter().any(|name| name == first) {
        return;
    }
    let example = match names {
        [name] => name.as_str(),
        _ => "NAME",
    };
    let message = format!("the comment for {instruction} should read: # {example} …");
    findings.add(&rule::INVALID_DEFINITION_DESCRIPTION, span, message);
}
