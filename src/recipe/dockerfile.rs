//! Dockerfiles that images are made by: the node, and which files are some.

use std::path::Path;

use super::error::Problem;
use super::reader::Reader;
use super::source::Spanned;
use super::value;

/// A Dockerfile that was not looked for yet.
pub(super) struct DraftDockerfile {
    pub text: DraftText,
    pub context: Option<Spanned<String>>,
    pub service: bool,
    pub args: Vec<(Spanned<String>, String)>,
    pub target: Option<Spanned<String>>,
    pub contexts: Vec<(Spanned<String>, Spanned<String>)>,
}

impl DraftDockerfile {
    pub(super) const fn new(text: DraftText) -> Self {
        Self {
            text,
            context: None,
            service: true,
            args: Vec::new(),
            target: None,
            contexts: Vec::new(),
        }
    }
}

/// Where the text of a Dockerfile is.
pub(super) enum DraftText {
    /// In a file.
    Path(Spanned<String>),
    Inline(Spanned<String>),
}

/// Whether a path is that of a Dockerfile, by its name: `Dockerfile`, `Dockerfile.dev`,
/// `dev.Dockerfile`, `Containerfile`.
#[must_use]
pub fn is_dockerfile(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    if [".kdl", ".dockerignore"]
        .iter()
        .any(|ending| name.ends_with(ending))
    {
        return false;
    }
    ["dockerfile", "containerfile"].iter().any(|usual| {
        let (before, after) = (name.strip_suffix(usual), name.strip_prefix(usual));
        after.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '_']))
            || before.is_some_and(|rest| rest.ends_with('.'))
    })
}

/// What an image is called that is made by a Dockerfile alone: as the stage that is wanted, else as
/// the part of the file's name that says more than what it is, else as its directory.
pub(super) fn image_name(path: &Path, stage: Option<&str>) -> String {
    let name = path.file_name().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    let own = name.replace("dockerfile", "").replace("containerfile", "");
    let directory = path.parent().and_then(Path::file_name);
    let directory = directory.unwrap_or_default().to_string_lossy();
    let known = [stage.unwrap_or_default(), &own, &directory].map(fitting);
    let mut known = known.into_iter().filter(|name| !name.is_empty());
    known.next().unwrap_or_else(|| "image".to_owned())
}

/// A name with the characters of a text that names may have.
fn fitting(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = text
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(64)
        .collect();
    let name = name.trim_matches(['.', '_', '-']);
    match value::name(name) {
        Ok(_) => name.to_owned(),
        Err(_) => String::new(),
    }
}

/// Reads a `dockerfile` node.
pub(super) fn read(node: &Reader<'_>) -> Option<DraftDockerfile> {
    let content = node.children().find(|child| child.shape.name == "content");
    let text = match (node.argument(0), content) {
        (Some(path), None) => DraftText::Path(path),
        (None, Some(content)) => DraftText::Inline(content.argument(0)?),
        (Some(_), Some(content)) => {
            let message = "the Dockerfile is both a file and text";
            let problem = Problem::new(&content.span(), message, "its text");
            let problem = problem.with_help("keep one of the path and \"content\"");
            node.scope.report(problem);
            return None;
        }
        (None, None) => {
            node.lacks("the path of a Dockerfile");
            return None;
        }
    };
    let mut draft = DraftDockerfile {
        context: node.text("context"),
        service: node.flag("service").is_none_or(|service| service.value),
        ..DraftDockerfile::new(text)
    };
    let twice = |name: &Spanned<String>, first: Option<&Spanned<String>>| {
        let Some(first) = first else {
            return false;
        };
        let problem = Problem::new(
            &name.span,
            format!("\"{}\" is given twice", name.value),
            "the second time",
        );
        let problem = problem.with_other(&first.span, "the first time");
        node.scope.report(problem.with_help("remove one of them"));
        true
    };
    for child in node.children() {
        let Some(name) = child.argument(0) else {
            continue;
        };
        let same = |other: &&Spanned<String>| other.value == name.value;
        match child.shape.name {
            "content" => {}
            "target" => {
                if !twice(&name, draft.target.as_ref()) {
                    draft.target = Some(name);
                }
            }
            "arg" => {
                let mut names = draft.args.iter().map(|(name, _)| name);
                if !twice(&name, names.find(same))
                    && let Some(value) = child.argument(1)
                {
                    draft.args.push((name, value.value));
                }
            }
            _ => {
                let mut names = draft.contexts.iter().map(|(name, _)| name);
                if !twice(&name, names.find(same))
                    && let Some(value) = child.argument(1)
                {
                    draft.contexts.push((name, value));
                }
            }
        }
    }
    Some(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (path, name) in [
            ("Dockerfile", "image"),
            ("/srv/Web App/Dockerfile", "Web-App"),
            ("a/Dockerfile.vibe", "vibe"),
            ("a/dev.Dockerfile", "dev"),
            ("a/Containerfile", "a"),
            ("Dockerfile_x", "x"),
        ] {
            assert!(is_dockerfile(Path::new(path)), "{path}");
            assert_eq!(image_name(Path::new(path), None), name, "{path}");
        }
        assert_eq!(image_name(Path::new("Dockerfile"), Some("dev")), "dev");
        for path in [
            "dockerfiles",
            "dockerfile:1",
            "a.kdl",
            "dockerfile.kdl",
            "Dockerfile.dockerignore",
            "mydockerfile",
            "",
        ] {
            assert!(!is_dockerfile(Path::new(path)), "{path}");
        }
    }
}
