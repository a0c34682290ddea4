//! A whole Dockerfile: lines to stages. Every mistake of the file is collected.

use super::heredoc;
use super::instruction;
use super::line::{Line, Lines, span};
use super::model::{Dockerfile, HereDocument, Instruction, Stage, Word};
use super::words::{first_word, split_flags, trimmed};
use crate::limits::{self, Limits};
use crate::text::{Problem, Problems, Source, closest};

/// The instructions, as they are usually written.
pub(super) const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What a line turned out to be.
pub(super) enum Parsed {
    Stage(Stage),
    Instruction(Instruction),
}

/// Reads a Dockerfile; `name` is what messages call it.
///
/// # Errors
/// It has mistakes: all of them.
pub fn parse(name: &str, text: &str, limits: &Limits) -> Result<Dockerfile, Problems> {
    let source = Source::new(miette::NamedSource::new(name, text.to_owned()));
    let mut problems = Vec::new();
    if text.len() as u64 > limits.recipe_size {
        let message = format!("{name} has more than {} bytes", limits.recipe_size);
        let help = limits::raise("recipe-size", &text.len().to_string());
        let problem = Problem::without_place(message).with_help(help);
        return Err(Problems::new(name, vec![problem]));
    }
    let mut lines = Lines::new(&source, text);
    let mut head = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut has_lines = false;
    let mut too_early = None;
    while let Some(line) = lines.next(&mut problems) {
        has_lines = true;
        match parsed(&line, &mut lines, &mut problems) {
            Some(Parsed::Stage(stage)) => stages.push(stage),
            Some(Parsed::Instruction(instruction)) => match stages.last_mut() {
                Some(stage) => {
                    stage.instructions.push(instruction);
                    if stage.instructions.len() as u64 == u64::from(limits.image_steps) + 1 {
                        problems.push(too_many(stage, limits));
                    }
                }
                None if is_arg(&instruction) => head.push(instruction),
                None => {
                    // Without FROM, all instructions stand before it.
                    let keyword = instruction.keyword;
                    too_early.get_or_insert_with(|| before_from(&keyword));
                }
            },
            None => {}
        }
    }
    problems.extend(too_early);
    if stages.is_empty() && problems.is_empty() {
        let start = span(&source, 0..text.lines().next().map_or(0, str::len));
        let message = match has_lines {
            true => format!("{name} has no FROM"),
            false => format!("{name} has no instructions"),
        };
        let help = "begin with the image to start from, such as FROM debian:12";
        problems.push(Problem::new(&start, message, "needs a FROM").with_help(help));
    }
    if !problems.is_empty() {
        return Err(Problems::new(name, problems));
    }
    Ok(Dockerfile {
        directives: lines.directives,
        empty_continuations: lines.empty_continuations,
        source,
        head,
        stages,
    })
}

/// Reads an `ONBUILD` trigger of an image; `name` is what messages call it.
///
/// # Errors
/// It is not one instruction, or has mistakes.
pub fn parse_trigger(name: &str, text: &str) -> Result<Instruction, Problems> {
    let source = Source::new(miette::NamedSource::new(name, text.to_owned()));
    let mut problems = Vec::new();
    let mut lines = Lines::new(&source, text);
    let line = lines.next(&mut problems);
    let parsed = line.and_then(|line| parsed(&line, &mut lines, &mut problems));
    let rest = lines.next(&mut problems);
    match (parsed, rest) {
        (Some(Parsed::Instruction(instruction)), None) if problems.is_empty() => Ok(instruction),
        _ => {
            if problems.is_empty() {
                let whole = span(&source, 0..text.len());
                let message = "a trigger is one instruction other than FROM";
                let help = "the image that has it in its config must be built anew";
                problems.push(Problem::new(&whole, message, "not a trigger").with_help(help));
            }
            Err(Problems::new(name, problems))
        }
    }
}

fn is_arg(instruction: &Instruction) -> bool {
    matches!(instruction.kind, super::Kind::Arg(_))
}

fn before_from(keyword: &Word) -> Problem {
    let message = format!("{} stands before the first FROM", keyword.value);
    let help = "write FROM with an image first; only ARG may stand before it";
    Problem::new(&keyword.span, message, "no image to work on yet").with_help(help)
}

fn too_many(stage: &Stage, limits: &Limits) -> Problem {
    let most = limits.image_steps;
    let message = format!("a stage has more than {most} instructions");
    let help = limits::raise("image-steps", &(u64::from(most) * 2).to_string());
    Problem::new(&stage.span, message, "too many instructions").with_help(help)
}

/// One line with its here-documents.
fn parsed(line: &Line, lines: &mut Lines<'_>, problems: &mut Vec<Problem>) -> Option<Parsed> {
    let documents = documents(line, lines, problems);
    instruction::parse(line, 0, lines.directives.escape, documents?, problems)
}

/// Takes the here-documents that a line announces. `None` if one is not closed.
fn documents(
    line: &Line,
    lines: &mut Lines<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<HereDocument>> {
    let mut documents = Vec::new();
    if !can_have_documents(&line.text, lines.directives.escape) {
        return Some(documents);
    }
    for (range, redirection) in heredoc::redirections(&line.text) {
        let name = line.word(range).map(|_| redirection.name);
        let Some(text) = lines.here_document(&name.value, redirection.strips_tabs) else {
            let message = format!("no line ends the here-document {}", name.value);
            let help = format!("end it with a line that has only {}", name.value);
            problems.push(Problem::new(&name.span, message, "begins here").with_help(help));
            return None;
        };
        documents.push(HereDocument {
            name,
            text,
            expands: redirection.expands,
            strips_tabs: redirection.strips_tabs,
        });
    }
    Some(documents)
}

fn can_have_documents(line: &str, escape: char) -> bool {
    if !line.contains("<<") {
        return false;
    }
    let (mut keyword, mut args) = first_word(line, 0..line.len());
    if line[keyword.clone()].eq_ignore_ascii_case("ONBUILD") {
        let (_, start) = split_flags(line, args.clone(), escape);
        (keyword, args) = first_word(line, start..args.end);
    }
    let keyword = &line[keyword];
    let can = ["ADD", "COPY", "RUN"]
        .iter()
        .any(|name| keyword.eq_ignore_ascii_case(name));
    let (_, start) = split_flags(line, args.clone(), escape);
    can && instruction::json(&line[trimmed(line, start..args.end)]).is_none()
}

pub(super) fn unknown(keyword: &Word) -> Problem {
    let name = &keyword.value;
    let message = format!("unknown instruction {name}");
    let help = match closest(name, INSTRUCTIONS) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("these exist: {}", INSTRUCTIONS.join(", ")),
    };
    Problem::new(&keyword.span, message, "not an instruction").with_help(help)
}
