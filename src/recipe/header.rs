//! The `recipe` node: what a recipe says about itself, and its parameters.

use std::collections::BTreeMap;

use super::error::{Problem, closest, enumerate};
use super::model::{Parameter, ParameterKind, Recipe, ValueBounds};
use super::parameter::{self, Values};
use super::reader::Reader;
use super::scope::Scope;
use super::shape::RECIPE;
use super::source::Spanned;
use super::value;
use crate::image::Requires;
use crate::text::kdl::Node;

/// The values that are set for a recipe.
pub(super) struct Settings<'a> {
    /// By a `from` node, with the place of the name.
    pub set: &'a [(Spanned<String>, String)],
    /// By the user, for every recipe that has such a parameter.
    pub given: &'a BTreeMap<String, String>,
    /// What goes before the names of its parameters there.
    pub namespace: &'a str,
}

/// Parameters as they are declared.
#[derive(Default)]
pub(super) struct Declared {
    pub parameters: Vec<Parameter>,
    pub values: Values,
    /// Those without a value, with what to say when one is needed.
    pub unset: BTreeMap<String, Problem>,
}

/// Reads the `recipe` node of a file, when it has one.
pub(super) fn read(
    nodes: &[Node],
    scope: &Scope,
    stem: &str,
    declared: &mut Declared,
    settings: &Settings<'_>,
) -> Option<Recipe> {
    let mut nodes = nodes.iter().filter(|node| node.name().value() == "recipe");
    let reader = Reader::new(scope, nodes.next()?, &RECIPE);
    if let Some(second) = nodes.next() {
        scope.report(
            Problem::new(
                &scope.span(second.name().span()),
                "a file has one \"recipe\" node",
                "the second one",
            )
            .with_other(&reader.span(), "the first one")
            .with_help("remove one of them, or merge them into one"),
        );
    }
    let name = reader.parsed_argument(0, value::name);
    let mut recipe = Recipe::named(name.map_or_else(|| stem.to_owned(), |name| name.value));
    let version = reader.parsed("version", value::version);
    recipe.version = version.map(|version| version.value);
    for child in reader.children() {
        match child.shape.name {
            "param" => declare(&child, declared, settings),
            _ => describe(&child, &mut recipe),
        }
    }
    Some(recipe)
}

/// What a node says about the recipe.
fn describe(node: &Reader<'_>, recipe: &mut Recipe) {
    let line = || {
        let line = node.parsed_argument(0, value::fitting("a line of text"));
        line.map(|line| line.value)
    };
    match node.shape.name {
        "description" => recipe.description = node.argument(0).map(|text| text.value),
        "author" => recipe.about.author = line(),
        "license" => {
            let license = node.parsed_argument(0, value::license);
            recipe.about.license = license.map(|license| license.value);
        }
        "source" => recipe.about.source = line(),
        "tags" => recipe.about.tags.extend(node.arguments(value::tag)),
        "requires" => recipe.requires = requires(node),
        "readme" => recipe.readme = node.parsed_argument(0, value::readme),
        _ => recipe
            .metadata
            .extend(node.map(|key| Ok(key.to_owned()), |value| Ok(value.to_owned()))),
    }
}

fn requires(node: &Reader<'_>) -> Requires {
    let cores = |text: &str| value::range(text, "a number of processors", 1..=255);
    Requires {
        memory_mib: node.parsed("memory", value::memory).map(|m| m.value),
        disk: node.parsed("disk", value::disk_size).map(|disk| disk.value),
        cores: node.number("cores", cores).map(|cores| cores.value),
    }
}

fn declare(node: &Reader<'_>, declared: &mut Declared, settings: &Settings<'_>) {
    let kind = match node.choice("type", &ParameterKind::NAMES) {
        Some(kind) => kind.value,
        // A wrong type was reported; any value will do.
        None => ParameterKind::String,
    };
    let default = node.scalar("default");
    let description = node.text("description").map(|text| text.value);
    let bounds = bounds(node, kind);
    let Some(name) = node.parsed_argument(0, value::name) else {
        return;
    };
    let twin = |other: &&Parameter| other.name.value == name.value;
    if let Some(first) = declared.parameters.iter().find(twin) {
        node.scope.report(
            Problem::new(
                &name.span,
                format!("the parameter \"{}\" is declared twice", name.value),
                "declared before, here or in an included file",
            )
            .with_other(&first.name.span, "declared here")
            .with_help("remove one of them"),
        );
        return;
    }
    let given_name = format!("{}{}", settings.namespace, name.value);
    let from_base = settings.set.iter().find(|(key, _)| key.value == name.value);
    let chosen = if let Some((key, value)) = from_base {
        Some((value.clone(), key.span.clone(), "set here"))
    } else if let Some(value) = settings.given.get(&given_name) {
        Some((
            value.clone(),
            name.span.clone(),
            "this parameter was set with --set",
        ))
    } else {
        default
            .as_ref()
            .map(|default| (default.value.clone(), default.span.clone(), "wrong default"))
    };
    let mut value = None;
    match chosen {
        Some((text, span, label)) => match parameter::check(kind, &bounds, &text) {
            Ok(()) => value = Some(text),
            Err(wrong) => {
                let help = wrong.help;
                let message = format!("parameter \"{}\": {}", name.value, wrong.message);
                // A value that the user gives may be for several recipes: once is enough.
                let told = |other: &Problem| other.to_string() == message;
                let again = node.scope.problems.borrow().iter().any(told);
                if !again {
                    let problem = Problem::new(&span, message, label).with_help(help);
                    node.scope.report(problem);
                }
            }
        },
        None if node.has("default") => {}
        // An image that does not use it needs no value.
        None => drop(
            declared.unset.insert(
                name.value.clone(),
                Problem::new(
                    &name.span,
                    format!("the parameter \"{}\" has no value", name.value),
                    "it has no default and is not set",
                )
                .with_help(format!(
                    "give it one with --set {given_name}=…, or add default=\"…\""
                )),
            ),
        ),
    }
    declared.values.insert(name.value.clone(), value.clone());
    declared.parameters.push(Parameter {
        name,
        kind,
        value: value.unwrap_or_default(),
        default: default.map(|default| default.value),
        bounds,
        description,
    });
}

/// The bounds of a parameter; a bound that makes no sense is reported.
fn bounds(node: &Reader<'_>, kind: ParameterKind) -> ValueBounds {
    let is_ordered = matches!(
        kind,
        ParameterKind::Size | ParameterKind::Integer | ParameterKind::Port
    );
    let limit = |name: &str| {
        let limit = node.scalar(name)?;
        let problem = if !is_ordered {
            let message = format!("\"{name}\" is for sizes, integers and ports");
            Problem::new(&limit.span, message, "this type has no order")
                .with_help("give the parameter another type, or use choices or pattern=\"…\"")
        } else {
            match parameter::check(kind, &ValueBounds::default(), &limit.value) {
                Ok(()) => return Some(limit.value),
                Err(wrong) => {
                    Problem::new(&limit.span, wrong.message, "wrong value").with_help(wrong.help)
                }
            }
        };
        node.scope.report(problem);
        None
    };
    let pattern = node.parsed("pattern", value::regular_expression);
    if let Some(pattern) = pattern.as_ref().filter(|_| kind != ParameterKind::String) {
        node.scope.report(
            Problem::new(
                &pattern.span,
                "\"pattern\" is for strings",
                "this type has a form of its own",
            )
            .with_help("leave it out, or leave type= out"),
        );
    }
    ValueBounds {
        choices: node
            .children()
            .flat_map(|choices| choices.arguments(|text| Ok(text.to_owned())))
            .collect(),
        min: limit("min"),
        max: limit("max"),
        pattern: pattern.map(|pattern| pattern.value),
    }
}

/// `did you mean …`, or all that there are.
pub(super) fn known_parameters<'a>(
    word: &str,
    names: impl Iterator<Item = &'a String> + Clone,
) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    match closest(word, names.iter().copied()) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None if names.is_empty() => "it has no parameters".to_owned(),
        None => format!("its parameters are {}", enumerate(&names)),
    }
}
