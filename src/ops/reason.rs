//! Why a step runs, compared with the last build of the image.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::build_record::{Record, RecordedStep};
use crate::derivation::Derivation;
use crate::digest::ObjectId;

/// Why a step would run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// The image was never built here, or the step was not in it.
    New,
    /// A parameter is another.
    Parameter { name: String, was: Value, is: Value },
    /// Local files are others.
    Files {
        /// The file or directory that the recipe names.
        path: PathBuf,
        /// What is new, changed or gone in it, by paths below it; `.` is the path itself. Empty
        /// when the earlier content is not in the store any more.
        changed: Vec<PathBuf>,
    },
    /// The step has more or fewer inputs than before, or others.
    Inputs,
    /// The content of an input is another.
    Input {
        /// The step that makes it.
        step: String,
    },
    /// This vmfab builds such steps differently.
    Builder,
    /// Nothing changed, but the result is not in the store any more.
    Lost,
    /// A step that it reads would run.
    Depends { step: String },
    /// All steps were to run: `--rebuild` or `--check`.
    Asked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => write!(f, "was not part of the last build on this host"),
            Self::Parameter { name, was, is } => {
                let (was, is) = (text_of(was), text_of(is));
                let same = was.iter().zip(&is).take_while(|(a, b)| a == b).count();
                let (was, is) = (short(&was, same), short(&is, same));
                write!(f, "{name} was {was}, is {is}")
            }
            Self::Files { path, changed } => f.write_str(&files(path, changed)),
            Self::Inputs => write!(f, "reads different steps than in the last build"),
            Self::Input { step } => write!(f, "reads \"{step}\", whose result changed"),
            Self::Builder => write!(f, "this vmfab builds such steps differently"),
            Self::Lost => write!(f, "is unchanged, but its result is not in the store"),
            Self::Depends { step } => write!(f, "reads \"{step}\", which runs"),
            Self::Asked => write!(f, "runs whether its result is known or not, as asked"),
        }
    }
}

/// The inputs of a step, with their roles.
type Inputs<'r> = &'r [(String, ObjectId)];

/// The last build of an image, to find its steps in.
#[derive(Default)]
pub(super) struct Last<'r> {
    by_name: HashMap<(&'r str, &'r str), &'r RecordedStep>,
    by_inputs: HashMap<(&'r str, Inputs<'r>), &'r RecordedStep>,
    known: bool,
}

impl<'r> Last<'r> {
    pub(super) fn new(record: Option<&'r Record>) -> Self {
        let mut last = Self {
            known: record.is_some(),
            ..Self::default()
        };
        // Of several, the first counts.
        for step in record.iter().flat_map(|record| &record.steps).rev() {
            let builder = step.builder.as_str();
            last.by_name.insert((builder, &step.name), step);
            last.by_inputs.insert((builder, &step.inputs), step);
        }
        last
    }

    /// The step of that name.
    pub(super) fn named(&self, builder: &str, name: &str) -> Option<&'r RecordedStep> {
        self.by_name.get(&(builder, name)).copied()
    }

    /// What `now` was then: a step whose label changed with its parameters stands on the same
    /// inputs.
    fn before(&self, now: &RecordedStep) -> Option<&'r RecordedStep> {
        let same_inputs = (now.builder.as_str(), now.inputs.as_slice());
        self.named(&now.builder, &now.name)
            .or_else(|| self.by_inputs.get(&same_inputs).copied())
    }
}

/// What changed about a step itself, whatever it reads.
pub(super) fn own_changes(last: &Last<'_>, now: &Derivation) -> Vec<Reason> {
    match last.named(&now.builder, &now.name) {
        Some(before) => changes(before, now.version, &now.params),
        None if !last.known => Vec::new(),
        // Its label is made from its parameters.
        None => vec![Reason::New],
    }
}

/// What is another about a step than before, but for its inputs.
fn changes(before: &RecordedStep, version: u32, params: &Value) -> Vec<Reason> {
    let builder = (before.version != version).then_some(Reason::Builder);
    let parameters = changed("", &before.params, params);
    builder.into_iter().chain(parameters).collect()
}

/// Why `now` would run, when the last build is `last`. `makers` are the steps that make its inputs.
pub(super) fn reasons(last: &Last<'_>, now: &RecordedStep, makers: &[&str]) -> Vec<Reason> {
    let Some(before) = last.before(now) else {
        return vec![Reason::New];
    };
    let mut reasons = changes(before, now.version, &now.params);
    let roles = |step: &RecordedStep| step.inputs.iter().map(|i| i.0.clone()).collect::<Vec<_>>();
    if roles(before) == roles(now) {
        let inputs = before.inputs.iter().zip(&now.inputs).zip(makers);
        for ((_, _), maker) in inputs.filter(|((was, is), _)| was != is) {
            reasons.push(Reason::Input {
                step: (*maker).to_owned(),
            });
        }
    } else {
        reasons.push(Reason::Inputs);
    }
    if reasons.is_empty() {
        reasons.push(Reason::Lost);
    }
    reasons
}

/// What differs between two objects, by the names on the way to it.
fn changed(around: &str, was: &Value, is: &Value) -> Vec<Reason> {
    let empty = serde_json::Map::new();
    let fields = |value: &Value| value.as_object().unwrap_or(&empty).clone();
    let (was, is) = (fields(was), fields(is));
    let names: BTreeMap<&String, ()> = was.keys().chain(is.keys()).map(|name| (name, ())).collect();
    let value = |map: &serde_json::Map<String, Value>, name: &str| {
        map.get(name).cloned().unwrap_or(Value::Null)
    };
    names
        .into_keys()
        .map(|name| (name, value(&was, name), value(&is, name)))
        .filter(|(_, was, is)| was != is)
        .flat_map(|(name, was, is)| {
            let name = match around {
                "" => name.clone(),
                around => format!("{around} {name}"),
            };
            match was.is_object() && is.is_object() {
                true => changed(&name, &was, &is),
                false => vec![Reason::Parameter { name, was, is }],
            }
        })
        .collect()
}

/// What changed in local files, the first few by name.
fn files(path: &Path, changed: &[PathBuf]) -> String {
    const SHOWN: usize = 5;
    let path = path.display();
    // A file by itself is its own root.
    if matches!(changed, []) || changed == [Path::new(".")] {
        return format!("{path} changed");
    }
    let (shown, more) = changed.split_at(changed.len().min(SHOWN));
    let mut names: Vec<_> = shown.iter().map(|one| one.display().to_string()).collect();
    if !more.is_empty() {
        names.push(format!("and {} more", more.len()));
    }
    format!("{path} changed: {}", names.join(", "))
}

/// A value as JSON.
fn text_of(value: &serde_json::Value) -> Vec<char> {
    match value.is_null() {
        true => "absent".chars().collect(),
        false => value.to_string().chars().collect(),
    }
}

/// A text; of a long one what is around the place from which on it differs from another.
fn short(text: &[char], same: usize) -> String {
    const BEFORE: usize = 20;
    const LONGEST: usize = 64;
    if text.len() <= LONGEST {
        return text.iter().collect();
    }
    let start = same.saturating_sub(BEFORE).min(text.len() - LONGEST);
    let end = start + LONGEST;
    let dots = |cut: bool| if cut { "…" } else { "" };
    let middle: String = text[start..end].iter().collect();
    format!("{}{middle}{}", dots(start > 0), dots(end < text.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::digest::{Hasher, ObjectId};

    fn step(name: &str, params: Value, inputs: &[&str]) -> RecordedStep {
        let id = |text: &&str| ObjectId::new(Hasher::new("test").update(text.as_bytes()).finish());
        RecordedStep {
            name: name.into(),
            builder: "run".into(),
            version: 1,
            params,
            inputs: inputs
                .iter()
                .map(|text| ("layer".to_owned(), id(text)))
                .collect(),
            node: None,
            outputs: Default::default(),
        }
    }

    #[test]
    fn the_reason_is_what_changed() {
        let last = Record {
            steps: vec![step("a", json!({"command": "x"}), &["1", "2"])],
            ..Record::default()
        };
        let why = |now: &RecordedStep| reasons(&Last::new(Some(&last)), now, &["base", "middle"]);
        let same = step("a", json!({"command": "x"}), &["1", "2"]);
        assert_eq!(why(&same), [Reason::Lost]);
        assert_eq!(reasons(&Last::default(), &same, &[]), [Reason::New]);
        let renamed = step("b", json!({"command": "y"}), &["1", "2"]);
        let changed = Reason::Parameter {
            name: "command".into(),
            was: "x".into(),
            is: "y".into(),
        };
        assert_eq!(why(&renamed), [changed]);
        let below = step("a", json!({"command": "x"}), &["1", "3"]);
        assert_eq!(
            why(&below),
            [Reason::Input {
                step: "middle".into()
            }]
        );
        assert_eq!(
            why(&step("a", json!({"command": "x"}), &["1"])),
            [Reason::Inputs]
        );
        assert_eq!(
            why(&step("b", json!({"command": "x"}), &["7"])),
            [Reason::New]
        );
        let newer = RecordedStep { version: 2, ..same };
        assert_eq!(why(&newer), [Reason::Builder]);
    }
}
