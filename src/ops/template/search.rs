//! Finding templates in what is known of repositories. Nobody is asked.

use semver::Version;
use serde::Serialize;

use super::super::Context;
use crate::checked::Line;
use crate::digest::Sha256;
use crate::failure::Failure;
use crate::template::{Entry, Index, TemplateName, TemplateRef};
use crate::world::templates::{self, Found};

/// A template that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    pub template: TemplateName,
    /// The newest.
    pub version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Line>,
    pub tags: Vec<Line>,
}

/// A version of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub template: TemplateName,
    pub version: Version,
    pub digest: Sha256,
    /// Of its package, in bytes.
    pub size: u64,
    /// Where it comes from.
    pub repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<Line>,
    pub tags: Vec<Line>,
    /// The templates that it needs.
    pub needs: Vec<Line>,
    /// Branches and tags of a git repository that stand for it.
    pub references: Vec<Line>,
    /// Whether ranges of versions have it: not the state of a branch, nor one that its repository
    /// lists no more.
    pub release: bool,
}

/// Templates that have all words in their name, description or tags; all when there is no word.
/// Those whose name has them come first.
///
/// # Errors
/// An index cannot be read.
pub fn search(context: &Context, words: &[String]) -> Result<Vec<Hit>, Failure> {
    let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    // As JSON writes them; a line without one cannot be of a template that has it.
    let escaped: Vec<String> = words.iter().map(|word| escaped(word)).collect();
    let mut hits = Vec::new();
    for repository in templates::repositories(context) {
        let Some(text) = templates::index_text(context, &repository)? else {
            continue;
        };
        let namespace = &repository.namespace;
        let of_namespace = |word: &String| namespace.to_lowercase().contains(word.as_str());
        let may_fit = |line: &&str| {
            let lower = line.to_lowercase();
            let mut all = words.iter().zip(&escaped);
            all.all(|(word, escaped)| of_namespace(word) || lower.contains(escaped.as_str()))
        };
        let lines: Vec<&str> = text.lines().filter(may_fit).collect();
        let index = Index::parse(namespace, &lines.join("\n"))?;
        for (name, versions) in index.iter() {
            let Some(newest) = versions
                .iter()
                .rfind(|entry| entry.is_release())
                .or(versions.last())
            else {
                continue;
            };
            let template = TemplateName::new(namespace.clone(), name.clone());
            if words.iter().all(|word| has(&template, newest, word)) {
                hits.push(Hit {
                    template,
                    version: newest.version.clone(),
                    description: newest.description.clone(),
                    tags: newest.tags.clone(),
                });
            }
        }
    }
    let named = |hit: &Hit| {
        let name = hit.template.name.to_lowercase();
        words
            .iter()
            .filter(|word| name.contains(word.as_str()))
            .count()
    };
    hits.sort_by_key(|hit| std::cmp::Reverse(named(hit)));
    Ok(hits)
}

fn escaped(word: &str) -> String {
    let json = serde_json::to_string(word).unwrap_or_default();
    json[1..json.len().saturating_sub(1).max(1)].to_lowercase()
}

fn has(template: &TemplateName, entry: &Entry, word: &str) -> bool {
    let texts = entry.description.iter().chain(&entry.tags);
    let mut texts = texts.map(|text| text.to_lowercase());
    template.to_string().to_lowercase().contains(word) || texts.any(|text| text.contains(word))
}

/// The newest version that is wanted.
///
/// # Errors
/// No repository has it.
pub fn show(context: &Context, wanted: &TemplateRef) -> Result<Shown, Failure> {
    let found = templates::find(context, wanted)?;
    Ok(shown(&found))
}

/// All versions of a template, the newest first.
///
/// # Errors
/// No repository has the template.
pub fn versions(context: &Context, wanted: &TemplateRef) -> Result<Vec<Shown>, Failure> {
    let found = templates::find(context, wanted)?;
    let index = templates::index(context, &found.repository)?;
    let versions = index.versions(&found.name.name).iter().rev();
    let fits = |entry: &&Entry| match &wanted.wanted {
        crate::template::Wanted::Range(range) if *range != semver::VersionReq::STAR => {
            range.matches(&entry.version)
        }
        _ => true,
    };
    let all = versions.filter(fits).map(|entry| {
        shown(&Found {
            entry: entry.clone(),
            ..found.clone()
        })
    });
    Ok(all.collect())
}

pub(super) fn shown(found: &Found) -> Shown {
    let Found {
        repository,
        name,
        entry,
    } = found;
    Shown {
        template: name.clone(),
        version: entry.version.clone(),
        digest: entry.digest,
        size: entry.size,
        repository: repository.place.to_string(),
        description: entry.description.clone(),
        author: entry.author.clone(),
        license: entry.license.clone(),
        tags: entry.tags.clone(),
        needs: entry.needs.clone(),
        references: entry.references.clone(),
        release: entry.is_release(),
    }
}
