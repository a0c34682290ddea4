//! Instructions: what follows their keywords.

use std::ops::Range;

use super::copy;
use super::heredoc::Redirection;
use super::line::Line;
use super::model::{
    Arg, Command, HereDocument, Instruction, Kind, Network, Onbuild, Pair, Run, Stage, Word,
};
use super::mount;
use super::parse::{Parsed, unknown};
use super::words::{Piece, first_word, split_blank, split_flags, split_quoted, trimmed};
use crate::text::{Problem, Span, Spanned, closest, enumerate, without_logins};

/// A list of texts in JSON: the exec form. `None` if it is something else.
pub(super) fn json(args: &str) -> Option<Result<Vec<String>, ()>> {
    if !args.starts_with('[') {
        return None;
    }
    let list: Vec<serde_json::Value> = serde_json::from_str(args).ok()?;
    let texts = list.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(()),
    });
    Some(texts.collect())
}

/// How a flag is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Value,
    /// A value, any number of times.
    Values,
    /// Nothing, `=true` or `=false`.
    Switch,
}

/// The flags of an instruction, each known and with a value that fits how it is given.
pub(super) struct Flags(Vec<(&'static str, Word)>);

impl Flags {
    pub(super) fn value(&self, name: &str) -> Option<Word> {
        self.values(name).next()
    }

    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = Word> {
        let with_name = self.0.iter().filter(move |(own, _)| *own == name);
        with_name.map(|(_, value)| value.clone())
    }

    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value.value == "true")
    }
}

/// One instruction as it is read.
pub(super) struct Reading<'a> {
    pub(super) line: &'a Line,
    pub(super) escape: char,
    pub(super) keyword: Word,
    pub(super) flags: Vec<Piece>,
    pub(super) args: Range<usize>,
    pub(super) documents: Vec<HereDocument>,
    pub(super) problems: &'a mut Vec<Problem>,
}

/// Parses the instruction that begins at `start` in a line.
pub(super) fn parse(
    line: &Line,
    start: usize,
    escape: char,
    documents: Vec<HereDocument>,
    problems: &mut Vec<Problem>,
) -> Option<Parsed> {
    let (keyword, args) = first_word(&line.text, start..line.text.len());
    let (flags, args_start) = split_flags(&line.text, args.clone(), escape);
    let whole = keyword.start..trimmed(&line.text, keyword.start..line.text.len()).end;
    let mut reading = Reading {
        line,
        escape,
        keyword: line.word(keyword),
        flags,
        args: trimmed(&line.text, args_start..args.end.max(args_start)),
        documents,
        problems,
    };
    if reading.keyword.value.eq_ignore_ascii_case("FROM") {
        return reading.from(line.span(whole)).map(Parsed::Stage);
    }
    let kind = reading.kind()?;
    Some(Parsed::Instruction(Instruction {
        span: line.span(whole.clone()),
        keyword: reading.keyword,
        comments: if start == 0 {
            line.comments.clone()
        } else {
            Vec::new()
        },
        text: without_logins(&line.text[whole]),
        kind,
    }))
}

impl Reading<'_> {
    fn kind(&mut self) -> Option<Kind> {
        Some(match self.name().as_str() {
            "ADD" => Kind::Add(copy::add(self)?),
            "ARG" => Kind::Arg(self.arg()?),
            "CMD" => Kind::Cmd(self.plain_command()?),
            "COPY" => Kind::Copy(copy::copy(self)?),
            "ENTRYPOINT" => Kind::Entrypoint(self.plain_command()?),
            "ENV" => Kind::Env(self.pairs()?),
            "EXPOSE" => Kind::Expose(self.without_flags()?.list("a port")?),
            "HEALTHCHECK" => Kind::Healthcheck(self.healthcheck()?),
            "LABEL" => Kind::Label(self.pairs()?),
            "MAINTAINER" => Kind::Maintainer(self.without_flags()?.single("a name")?),
            "ONBUILD" => Kind::Onbuild(self.onbuild()?),
            "RUN" => Kind::Run(self.run()?),
            "SHELL" => Kind::Shell(self.shell()?),
            "STOPSIGNAL" => Kind::Stopsignal(self.without_flags()?.single("a signal")?),
            "USER" => Kind::User(self.without_flags()?.single("a user")?),
            "VOLUME" => Kind::Volume(self.volume()?),
            "WORKDIR" => Kind::Workdir(self.without_flags()?.single("a directory")?),
            _ => {
                self.problems.push(unknown(&self.keyword));
                return None;
            }
        })
    }

    /// The instruction in capitals.
    pub(super) fn name(&self) -> String {
        self.keyword.value.to_ascii_uppercase()
    }

    pub(super) fn text(&self) -> &str {
        &self.line.text[self.args.clone()]
    }

    pub(super) fn all(&self) -> Word {
        self.line.word(self.args.clone())
    }

    pub(super) fn word(&self, piece: Piece) -> Word {
        Spanned::new(piece.text, self.line.span(piece.range))
    }

    /// Reports a mistake.
    pub(super) fn wrong<T>(
        &mut self,
        span: &Span,
        message: impl Into<String>,
        label: &str,
        help: impl Into<String>,
    ) -> Option<T> {
        let problem = Problem::new(span, message, label).with_help(help);
        self.problems.push(problem);
        None
    }

    pub(super) fn needs<T>(&mut self, what: &str, example: &str) -> Option<T> {
        let keyword = self.keyword.clone();
        let message = format!("{} needs {what}", self.name());
        let help = format!("for example {example}");
        self.wrong(&keyword.span, message, &format!("needs {what}"), help)
    }

    /// The flags, of those that the instruction has.
    pub(super) fn flags(&mut self, known: &[(&'static str, Takes)]) -> Option<Flags> {
        let mut found = Vec::new();
        let before = self.problems.len();
        for flag in std::mem::take(&mut self.flags) {
            let (name, value) = match flag.text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag.text.as_str(), None),
            };
            let span = self.line.span(flag.range.clone());
            let Some((known_name, takes)) = known.iter().find(|(own, _)| *own == &name[2..]) else {
                let message = format!("{} has no flag {name}", self.name());
                let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                let help = match closest(&name[2..], names.iter().copied()) {
                    Some(near) => format!("did you mean --{near}?"),
                    None if names.is_empty() => "leave it out; the instruction has none".to_owned(),
                    None => format!("these exist: --{}", names.join(", --")),
                };
                self.wrong::<()>(&span, message, "unknown flag", help);
                continue;
            };
            let is_given = found.iter().any(|(own, _)| own == known_name);
            if is_given && *takes != Takes::Values {
                let message = format!("the flag {name} is given twice");
                self.wrong::<()>(&span, message, "second time", "keep one of the two");
                continue;
            }
            let value_start = name.len() + 1;
            let value = match (takes, value) {
                (Takes::Switch, None) => Some(Spanned::new("true".to_owned(), span.clone())),
                (Takes::Switch, Some(value)) => match value.to_ascii_lowercase() {
                    value if value == "true" || value == "false" => {
                        Some(Spanned::new(value, span.clone()))
                    }
                    _ => None,
                },
                (_, Some(value)) => {
                    let range = flag.part(value_start..flag.text.len());
                    Some(Spanned::new(value.to_owned(), self.line.span(range)))
                }
                (_, None) => None,
            };
            match value {
                Some(value) => found.push((*known_name, value)),
                None if *takes == Takes::Switch => {
                    let message = format!("the flag {name} is either true or false");
                    let help = format!("write {name} or {name}=false");
                    self.wrong::<()>(&span, message, "not true or false", help);
                }
                None => {
                    let message = format!("the flag {name} needs a value");
                    self.wrong::<()>(&span, message, "no value", format!("write {name}=…"));
                }
            }
        }
        (self.problems.len() == before).then_some(Flags(found))
    }

    fn without_flags(&mut self) -> Option<&mut Self> {
        self.flags(&[])?;
        Some(self)
    }

    /// All of the arguments as one text.
    fn single(&mut self, what: &str) -> Option<Word> {
        if self.args.is_empty() {
            let example = match self.name().as_str() {
                "USER" => "USER nobody",
                "WORKDIR" => "WORKDIR /srv",
                "STOPSIGNAL" => "STOPSIGNAL SIGINT",
                _ => "MAINTAINER someone@example.org",
            };
            return self.needs(what, example);
        }
        Some(self.all())
    }

    fn list(&mut self, what: &str) -> Option<Vec<Word>> {
        let pieces = split_blank(&self.line.text, self.args.clone());
        if pieces.is_empty() {
            return self.needs(what, "EXPOSE 80 443/udp");
        }
        Some(pieces.into_iter().map(|piece| self.word(piece)).collect())
    }

    /// The exec form, if it is one: `Some(None)` if it is not.
    pub(super) fn exec(&mut self) -> Option<Option<Vec<Word>>> {
        let all = self.all();
        match json(self.text()) {
            None => Some(None),
            Some(Ok(texts)) => {
                let words = texts.into_iter().map(|text| all.clone().map(|_| text));
                Some(Some(words.collect()))
            }
            Some(Err(())) => {
                let message = format!(
                    "the list of {} has something that is not a text",
                    self.name()
                );
                let help = "put every element in double quotes: [\"sleep\", \"10\"]";
                self.wrong(&all.span, message, "not a list of texts", help)
            }
        }
    }

    pub(super) fn command(&mut self) -> Option<Command> {
        Some(match self.exec()? {
            Some(words) => Command::Exec(words),
            None => Command::Shell(self.all()),
        })
    }

    /// Of `CMD` and `ENTRYPOINT`.
    fn plain_command(&mut self) -> Option<Command> {
        self.flags(&[])?;
        if self.args.is_empty() {
            let example = format!("{} [\"nginx\", \"-g\", \"daemon off;\"]", self.name());
            return self.needs("a command", &example);
        }
        self.command()
    }

    fn run(&mut self) -> Option<Run> {
        let flags = self.flags(&[
            ("mount", Takes::Values),
            ("network", Takes::Value),
            ("security", Takes::Value),
            ("device", Takes::Values),
        ]);
        let flags = flags?;
        let before = self.problems.len();
        let mounts: Vec<_> = flags
            .values("mount")
            .filter_map(|flag| mount::parse(self, &flag))
            .collect();
        let network = flags.value("network").map_or(Network::Default, |network| {
            match network.value.as_str() {
                "default" => Network::Default,
                "none" => Network::None,
                "host" => Network::Host,
                other => {
                    let message = format!("unknown network {other:?}");
                    let help = "write --network=default, none or host";
                    self.wrong::<()>(&network.span, message, "unknown network", help);
                    Network::Default
                }
            }
        });
        if let Some(security) = flags
            .value("security")
            .filter(|word| word.value != "sandbox")
        {
            let message = format!("RUN --security={} is refused", security.value);
            let help = "steps never have rights on the host, so that a Dockerfile of someone else \
                        can be built; leave the flag out, and do in a booted machine what needs \
                        more";
            self.wrong::<()>(&security.span, message, "no step has more rights", help);
        }
        for device in flags.values("device") {
            let message = "RUN --device is refused";
            let help = "steps see no devices of the host, so that results are the same everywhere; \
                        do in a booted machine what needs one";
            self.wrong::<()>(&device.span, message, "steps see no devices", help);
        }
        if self.args.is_empty() {
            return self.needs("a command", "RUN apt-get update");
        }
        let command = self.command()?;
        (self.problems.len() == before).then(|| Run {
            command,
            documents: std::mem::take(&mut self.documents),
            mounts,
            network,
        })
    }

    /// Of `ENV` and `LABEL`.
    fn pairs(&mut self) -> Option<Vec<Pair>> {
        self.flags(&[])?;
        let name = self.name();
        let pieces = split_quoted(&self.line.text, self.args.clone(), self.escape);
        let Some(first) = pieces.first() else {
            return self.needs("a name and a value", &format!("{name} NAME=value"));
        };
        if !first.text.contains('=') {
            return self.legacy_pair();
        }
        let mut pairs = Vec::new();
        for piece in pieces {
            let Some(at) = piece.text.find('=').filter(|at| *at > 0) else {
                let span = self.line.span(piece.range.clone());
                let message = format!("{name} needs NAME=value, and {:?} is not", piece.text);
                let help = "put values with spaces in double quotes: NAME=\"some words\"";
                self.wrong::<()>(&span, message, "not NAME=value", help);
                continue;
            };
            let part = |range: Range<usize>| {
                let text = piece.text[range.clone()].to_owned();
                Spanned::new(text, self.line.span(piece.part(range)))
            };
            pairs.push(Pair {
                name: part(0..at),
                value: part(at + 1..piece.text.len()),
                is_legacy: false,
            });
        }
        (!pairs.is_empty()).then_some(pairs)
    }

    /// `NAME VALUE`: the value is the rest of the line.
    fn legacy_pair(&mut self) -> Option<Vec<Pair>> {
        let (name, value) = first_word(&self.line.text, self.args.clone());
        if value.is_empty() {
            let word = self.line.word(name);
            let message = format!("{} needs a value for {}", self.name(), word.value);
            let help = format!("write {} {}=…", self.name(), word.value);
            return self.wrong(&word.span, message, "no value", help);
        }
        Some(vec![Pair {
            name: self.line.word(name),
            value: self.line.word(value),
            is_legacy: true,
        }])
    }

    fn arg(&mut self) -> Option<Vec<Arg>> {
        self.flags(&[])?;
        let pieces = split_quoted(&self.line.text, self.args.clone(), self.escape);
        if pieces.is_empty() {
            return self.needs("a name", "ARG VERSION=1.0");
        }
        let mut args = Vec::new();
        for piece in pieces {
            let at = piece.text.find('=').unwrap_or(piece.text.len());
            let part = |range: Range<usize>| {
                let text = piece.text[range.clone()].to_owned();
                Spanned::new(text, self.line.span(piece.part(range)))
            };
            if at == 0 {
                let span = self.line.span(piece.range.clone());
                self.wrong::<()>(&span, "ARG needs a name", "no name", "write ARG NAME=value");
                continue;
            }
            args.push(Arg {
                name: part(0..at),
                default: (at < piece.text.len()).then(|| part(at + 1..piece.text.len())),
            });
        }
        (!args.is_empty()).then_some(args)
    }

    fn shell(&mut self) -> Option<Vec<String>> {
        self.flags(&[])?;
        let all = self.all();
        match self.exec()? {
            Some(words) if !words.is_empty() => {
                Some(words.into_iter().map(|word| word.value).collect())
            }
            _ if self.args.is_empty() => self.needs("a list", r#"SHELL ["/bin/bash", "-c"]"#),
            _ => {
                let help = r#"write a list in double quotes, such as SHELL ["/bin/bash", "-c"]"#;
                self.wrong(&all.span, "SHELL needs a list of texts", "not a list", help)
            }
        }
    }

    fn volume(&mut self) -> Option<Vec<Word>> {
        self.flags(&[])?;
        let volumes = match self.exec()? {
            Some(words) => words,
            None => {
                let pieces = split_blank(&self.line.text, self.args.clone());
                pieces.into_iter().map(|piece| self.word(piece)).collect()
            }
        };
        if volumes.is_empty() {
            return self.needs("a directory", "VOLUME /var/lib/data");
        }
        if let Some(empty) = volumes.iter().find(|word| word.value.trim().is_empty()) {
            let span = empty.span.clone();
            let help = "write a directory, such as VOLUME /var/lib/data";
            return self.wrong(&span, "a volume has an empty name", "empty", help);
        }
        Some(volumes)
    }

    fn onbuild(&mut self) -> Option<Onbuild> {
        self.flags(&[])?;
        let (keyword, _) = first_word(&self.line.text, self.args.clone());
        let keyword = self.line.word(keyword);
        match keyword.value.to_ascii_uppercase().as_str() {
            "" => return self.needs("an instruction", "ONBUILD RUN make"),
            name @ ("ONBUILD" | "FROM" | "MAINTAINER") => {
                let message = format!("{name} cannot follow ONBUILD");
                let help = "write an instruction that works on the new image, such as RUN or COPY";
                return self.wrong(&keyword.span, message, "cannot be a trigger", help);
            }
            _ => {}
        }
        let mut trigger = self.text().to_owned();
        for document in &self.documents {
            trigger.push('\n');
            trigger.push_str(&document.text);
            trigger.push_str(&document.name.value);
        }
        let documents = std::mem::take(&mut self.documents);
        let start = self.args.start;
        match parse(self.line, start, self.escape, documents, self.problems)? {
            Parsed::Instruction(instruction) => Some(Onbuild {
                instruction: Box::new(instruction),
                trigger,
            }),
            Parsed::Stage(_) => None,
        }
    }

    fn from(&mut self, span: Span) -> Option<Stage> {
        let flags = self.flags(&[("platform", Takes::Value)])?;
        let pieces = split_blank(&self.line.text, self.args.clone());
        let mut words: Vec<_> = pieces.into_iter().map(|piece| self.word(piece)).collect();
        let alias = match words.as_slice() {
            [] => return self.needs("an image", "FROM debian:12 AS build"),
            [_] => None,
            [_, as_, name] if as_.value.eq_ignore_ascii_case("AS") => {
                Some((as_.clone(), name.clone()))
            }
            [_, second, ..] => {
                let is_as = second.value.eq_ignore_ascii_case("AS");
                let second = second.span.clone();
                let message = match is_as {
                    true => "FROM needs exactly one name after AS",
                    false => "FROM takes one image, and AS with a name",
                };
                let help = "write FROM image, or FROM image AS name; a comment needs its own line";
                return self.wrong(&second, message, "not expected", help);
            }
        };
        if let Some((_, name)) = &alias
            && !is_stage_name(&name.value.to_lowercase())
        {
            let message = format!("{:?} cannot be the name of a stage", name.value);
            let help =
                "a name begins with a letter, and has letters, digits, \"-\", \"_\" and \".\"";
            let span = name.span.clone();
            return self.wrong(&span, message, "not a name", help);
        }
        Some(Stage {
            span,
            keyword: self.keyword.clone(),
            comments: self.line.comments.clone(),
            base: words.swap_remove(0),
            alias,
            platform: flags.value("platform"),
            instructions: Vec::new(),
        })
    }
}

fn is_stage_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(fits)
}

/// Whether all of a command is the announcement of one here-document.
pub(super) fn is_document(command: &str) -> bool {
    Redirection::parse(command).is_some()
}

/// `a, b and c`, of flags and options.
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    enumerate(&names.into_iter().collect::<Vec<_>>())
}
