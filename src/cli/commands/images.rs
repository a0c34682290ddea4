//! `vmfab images`

use clap::Args;

use super::super::Status;
use super::super::output::{age, size};
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::image::About;
use crate::ops::available::{self, AvailableRecipe, ParameterDetails, RecipeDetails};
use crate::ops::images::{self, ImageEntry};

/// List tagged images
///
/// DISK is the size that a guest sees. SIZE is the space that disk, kernel and initrd take on this
/// host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab images
  vmfab images --available           list the recipes that come with vmfab
  vmfab images --available docker    show the parameters of one of them
  vmfab images --json | jq -r '.[].tag'")]
pub(crate) struct Images {
    /// List the recipes that come with vmfab instead, or show one with its parameters
    #[arg(long, value_name = "RECIPE", num_args = 0..=1)]
    #[expect(
        clippy::option_option,
        reason = "the option and its value are optional"
    )]
    available: Option<Option<String>>,
}

impl Images {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.available {
            None => list(session),
            Some(None) => {
                let available = available::available(session.reading_context()?)?;
                session.print(&available, |recipes| catalogue(recipes, session))
            }
            Some(Some(recipe)) => {
                let details = available::describe(session.reading_context()?, &recipe)?;
                session.print(&details, details_text)
            }
        }?;
        Ok(Status::Done)
    }
}

fn list(session: &Session) -> Result<(), Failure> {
    let entries = images::list(session.reading_context()?)?;
    session.print(&entries, |entries| {
        if session.quiet() {
            entries
                .iter()
                .map(|entry| format!("@{}\n", entry.tag))
                .collect()
        } else {
            table(entries)
        }
    })?;
    if entries.is_empty() {
        session.note("no images yet: vmfab images --available lists recipes to build");
    }
    Ok(())
}

fn catalogue(recipes: &[AvailableRecipe], session: &Session) -> String {
    if session.quiet() {
        return recipes
            .iter()
            .map(|recipe| format!("{}\n", recipe.name))
            .collect();
    }
    let mut table = Table::new([("RECIPE", Align::Left), ("DESCRIPTION", Align::Left)]);
    for recipe in recipes {
        table.row([&recipe.name, &recipe.description]);
    }
    table.to_string()
}

fn details_text(recipe: &RecipeDetails) -> String {
    let version = recipe.version.as_deref().unwrap_or_default();
    let mut text = format!("{} {version}", recipe.name).trim_end().to_owned() + "\n";
    if let Some(description) = &recipe.description {
        text += &format!("{description}\n");
    }
    for (name, value) in about(&recipe.about) {
        text += &format!("{name}: {value}\n");
    }
    if !recipe.requires.is_empty() {
        text += &format!("requires: {}\n", recipe.requires.describe());
    }
    if let Some(readme) = &recipe.readme {
        text += &format!("readme: {}\n", readme.display());
    }
    text += &format!("images: {}\n", recipe.images.join(", "));
    if recipe.parameters.is_empty() {
        return text + "no parameters\n";
    }
    let mut table = Table::new([
        ("PARAMETER", Align::Left),
        ("TYPE", Align::Left),
        ("DEFAULT", Align::Left),
        ("DESCRIPTION", Align::Left),
    ]);
    for parameter in &recipe.parameters {
        table.row([
            parameter.name.clone(),
            kind(parameter),
            parameter.default.clone().unwrap_or_default(),
            parameter.description.clone().unwrap_or_default(),
        ]);
    }
    format!(
        "{text}\n{table}\nset one with: vmfab build {} --set NAME=VALUE\n",
        recipe.name
    )
}

/// Who made a recipe, in rows.
pub(super) fn about(about: &About) -> impl Iterator<Item = (&'static str, String)> {
    let tags: Vec<&str> = about.tags.iter().map(|tag| &**tag).collect();
    let rows = [
        ("author", about.author.as_ref().map(ToString::to_string)),
        ("license", about.license.as_ref().map(ToString::to_string)),
        ("source", about.source.as_ref().map(ToString::to_string)),
        (
            "tags",
            Some(tags.join(", ")).filter(|tags| !tags.is_empty()),
        ),
    ];
    rows.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
}

/// `size, 1G to 20G`
pub(super) fn kind(parameter: &ParameterDetails) -> String {
    if !parameter.choices.is_empty() {
        return parameter.choices.join("|");
    }
    let kind = parameter.kind;
    match (&parameter.min, &parameter.max, &parameter.pattern) {
        (Some(min), Some(max), _) => format!("{kind}, {min} to {max}"),
        (Some(min), None, _) => format!("{kind}, at least {min}"),
        (None, Some(max), _) => format!("{kind}, at most {max}"),
        (None, None, Some(pattern)) => format!("{kind}, {pattern}"),
        (None, None, None) => kind.to_owned(),
    }
}

fn table(entries: &[ImageEntry]) -> String {
    let mut table = Table::new([
        ("TAG", Align::Left),
        ("IMAGE", Align::Left),
        ("NAME", Align::Left),
        ("ARCHITECTURE", Align::Left),
        ("DISK", Align::Right),
        ("SIZE", Align::Right),
        ("CREATED", Align::Left),
    ]);
    for entry in entries {
        table.row([
            format!("@{}", entry.tag),
            entry.image.short(),
            entry.name.clone(),
            entry.architecture.clone(),
            size(entry.disk_size),
            size(entry.stored_size),
            entry.created.map_or_else(String::new, age),
        ]);
    }
    table.to_string()
}
