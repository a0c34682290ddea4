//! `vmfab template search`, `show` and `versions`

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::template::search::{self, Shown};
use crate::template::TemplateRef;
use crate::text::shown_size;

/// Search for templates
///
/// A template is found if its name, description and tags together have all words. vmfab searches
/// what it knows of repositories, without asking them: "vmfab template repo update" asks.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template search python
  vmfab template search web nginx --json
  vmfab template search    all templates")]
pub(super) struct Search {
    /// Words to look for
    #[arg(value_name = "WORD")]
    words: Vec<String>,
}

impl Search {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let hits = search::search(session.reading_context()?, &self.words)?;
        session.print(&hits, |hits| {
            let mut table = Table::new([
                ("TEMPLATE", Align::Left),
                ("VERSION", Align::Left),
                ("DESCRIPTION", Align::Left),
            ]);
            for hit in hits {
                let description = hit.description.as_deref().unwrap_or_default();
                table.row([
                    hit.template.to_string(),
                    hit.version.to_string(),
                    description.to_owned(),
                ]);
            }
            table.to_string()
        })?;
        if hits.is_empty() {
            session.note("no template found; \"vmfab template repo update\" looks for new ones");
        }
        Ok(Status::Done)
    }
}

/// Show what is known of a template
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template show acme/python-dev
  vmfab template show python-dev@^1.2 --json")]
pub(super) struct Show {
    /// Template: [NAMESPACE/]NAME[@VERSION]
    #[arg(value_name = "TEMPLATE-REF")]
    template: TemplateRef,
}

impl Show {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let shown = search::show(session.reading_context()?, &self.template)?;
        session.print(&shown, text)?;
        Ok(Status::Done)
    }
}

/// List the versions of a template
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template versions acme/python-dev
  vmfab template versions python-dev@1 --json | jq -r '.[0].version'")]
pub(super) struct Versions {
    /// Template: [NAMESPACE/]NAME[@VERSION]
    #[arg(value_name = "TEMPLATE-REF")]
    template: TemplateRef,
}

impl Versions {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let all = search::versions(session.reading_context()?, &self.template)?;
        session.print(&all, |all| {
            let mut table = Table::new([
                ("VERSION", Align::Left),
                ("SIZE", Align::Right),
                ("STATE", Align::Left),
                ("ALSO", Align::Left),
            ]);
            for one in all {
                let state = match (one.release, one.references.is_empty()) {
                    (true, _) => "release",
                    (false, false) => "branch",
                    (false, true) => "not listed any more",
                };
                let also: Vec<&str> = one.references.iter().map(|name| &**name).collect();
                table.row([
                    one.version.to_string(),
                    shown_size(one.size),
                    state.to_owned(),
                    also.join(", "),
                ]);
            }
            table.to_string()
        })?;
        Ok(Status::Done)
    }
}

fn text(shown: &Shown) -> String {
    let mut text = format!("{} {}\n", shown.template, shown.version);
    let mut line = |word: &str, value: &str| {
        if !value.is_empty() {
            text += &format!("{word:<12} {value}\n");
        }
    };
    let joined = |all: &[crate::checked::Line]| {
        let all: Vec<&str> = all.iter().map(|one| &**one).collect();
        all.join(", ")
    };
    line(
        "description",
        shown.description.as_deref().unwrap_or_default(),
    );
    line("author", shown.author.as_deref().unwrap_or_default());
    line("license", shown.license.as_deref().unwrap_or_default());
    line("tags", &joined(&shown.tags));
    line("needs", &joined(&shown.needs));
    line("repository", &shown.repository);
    line("references", &joined(&shown.references));
    line("digest", &format!("sha256:{}", shown.digest));
    text
}
