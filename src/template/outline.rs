//! What the text of a recipe says of itself as a template, without the files that it names.

use std::sync::Arc;

use miette::NamedSource;
use semver::Version;

use super::name::{TemplateRef, Wanted};
use crate::checked::{Line, Name};
use crate::text::kdl::{self, Bounds, Node, Value};
use crate::text::{Problem, Problems, Source, Span};

/// The most templates that one needs at once.
pub(super) const MOST_DEPENDENCIES: usize = 64;
/// The most words that a template is found by.
const MOST_TAGS: usize = 32;

/// What a template says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    pub name: Name,
    pub version: Version,
    pub description: Option<Line>,
    pub author: Option<Line>,
    pub license: Option<Line>,
    pub tags: Vec<Line>,
    /// The templates that it needs, each once.
    pub needs: Vec<Dependency>,
}

/// A template that another one needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub template: TemplateRef,
    pub span: Span,
}

impl Outline {
    /// Reads the text of a recipe; `name` is for messages.
    ///
    /// # Errors
    /// It is no KDL, or lacks what makes a recipe a template: a name and a semantic version.
    pub fn read(name: &str, text: &str) -> Result<Self, Problems> {
        let source: Source = Arc::new(NamedSource::new(name, text.to_owned()));
        let failed = |problems| Problems::new(name.to_owned(), problems);
        let document = kdl::parse(&source, Bounds::WRITTEN, "recipes are").map_err(failed)?;
        let reader = Reader { source };
        let read = reader.outline(document.nodes());
        read.map_err(|problem| failed(vec![problem]))
    }

    /// The templates that the text of a recipe needs, whether it is a template itself or not.
    ///
    /// # Errors
    /// It is no KDL, or names a template wrongly.
    pub fn needs_of(name: &str, text: &str) -> Result<Vec<Dependency>, Problems> {
        let source: Source = Arc::new(NamedSource::new(name, text.to_owned()));
        let failed = |problems| Problems::new(name.to_owned(), problems);
        let document = kdl::parse(&source, Bounds::WRITTEN, "recipes are").map_err(failed)?;
        let reader = Reader { source };
        let needs = reader.needs(document.nodes());
        needs.map_err(|problem| failed(vec![problem]))
    }
}

struct Reader {
    source: Source,
}

impl Reader {
    fn problem(&self, node: &Node, message: impl Into<String>, help: &str) -> Problem {
        Problem::new(&self.span(node), message, "here").with_help(help)
    }

    fn span(&self, node: &Node) -> Span {
        Span {
            source: Arc::clone(&self.source),
            range: node.span(),
        }
    }

    fn outline(&self, nodes: &[Node]) -> Result<Outline, Problem> {
        const EXAMPLE: &str = "for example: recipe \"python-dev\" version=\"1.0.0\" { … }";
        let header = nodes.iter().find(|node| node.name().value() == "recipe");
        let Some(header) = header else {
            let message = format!("{} has no \"recipe\" node", self.source.name());
            return Err(Problem::without_place(message).with_help(EXAMPLE));
        };
        let named = text(header.get(0)).and_then(|text| text.parse().ok());
        let Some(name) = named else {
            return Err(self.problem(header, "a template needs a name", EXAMPLE));
        };
        let told = text(header.get("version"));
        let version = told.and_then(|text| Version::parse(text).ok());
        let Some(version) = version else {
            let message = match told {
                Some(told) => format!("\"{told}\" is no semantic version"),
                None => "a template needs a version".to_owned(),
            };
            return Err(self.problem(header, message, EXAMPLE));
        };
        let tags: Vec<Line> = child(header, "tags")
            .iter()
            .flat_map(|node| node.entries())
            .filter(|entry| entry.name().is_none())
            .filter_map(|entry| line(Some(entry.value())))
            .collect();
        if tags.len() > MOST_TAGS {
            let message = format!(
                "the template has {} tags, more than {MOST_TAGS}",
                tags.len()
            );
            return Err(self.problem(header, message, "keep those that people search for"));
        }
        let own = |name| child(header, name).and_then(|node| line(node.get(0)));
        Ok(Outline {
            name,
            version,
            description: own("description"),
            author: own("author"),
            license: own("license"),
            tags,
            needs: self.needs(nodes)?,
        })
    }

    fn needs(&self, nodes: &[Node]) -> Result<Vec<Dependency>, Problem> {
        let mut needs: Vec<Dependency> = Vec::new();
        let images = nodes.iter().filter(|node| node.name().value() == "image");
        for node in images.flat_map(Node::iter_children) {
            let named = match (node.name().value(), text(node.get(0))) {
                ("from" | "use" | "bootc", Some(text)) if TemplateRef::is_one(text) => text,
                ("copy", _) => match text(node.get("from")) {
                    Some(text) if TemplateRef::is_one(text) => text,
                    _ => continue,
                },
                _ => continue,
            };
            let (front, _) = named.split_once('#').unwrap_or((named, ""));
            let template: TemplateRef = front.parse().map_err(|error: String| {
                let help = "write NAME@VERSION or NAMESPACE/NAME@VERSION";
                self.problem(node, error, help)
            })?;
            if let Wanted::Reference(wanted) = &template.wanted {
                let message = format!("a template needs versions, and \"{wanted}\" is none");
                let help =
                    "what a branch stands for changes: ask for a range, such as \"web@^1.2\"";
                return Err(self.problem(node, message, help));
            }
            if needs.iter().all(|known| known.template != template) {
                let span = self.span(node);
                needs.push(Dependency { template, span });
            }
            if needs.len() > MOST_DEPENDENCIES {
                let message = format!("a template needs more than {MOST_DEPENDENCIES} others");
                return Err(self.problem(node, message, "build on fewer templates"));
            }
        }
        Ok(needs)
    }
}

fn child<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    node.iter_children()
        .find(|node| node.name().value() == name)
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_string)
}

fn line(value: Option<&Value>) -> Option<Line> {
    text(value)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_template_says() {
        let text = r#"
            recipe "web" version="1.2.0" {
                description "A web server"
                author "Anna"
                license "MIT"
                tags "web" "nginx"
            }
            image "web" {
                from "alpine@3.22"
                use "acme/metrics@2"
                use "acme/metrics@2" { set "port" "1" }
                copy "/x" "/y" from="python-dev@1#tools"
                run "true"
            }
            image "other" { from "web" }
        "#;
        let outline = Outline::read("web.kdl", text).unwrap();
        assert_eq!(outline.name, "web");
        assert_eq!(outline.version, Version::new(1, 2, 0));
        assert_eq!(outline.tags.len(), 2);
        let needs: Vec<String> = outline
            .needs
            .iter()
            .map(|need| need.template.to_string())
            .collect();
        assert_eq!(needs, ["alpine@^3.22", "acme/metrics@^2", "python-dev@^1"]);
    }

    #[test]
    fn what_is_no_template() {
        let many: String = (0..65).map(|n| format!("use \"t{n}@1\"\n")).collect();
        let many = format!("recipe \"a\" version=\"1.0.0\"\nimage \"a\" {{\n{many}}}");
        for (text, message) in [
            ("image \"a\" { }", "a.kdl has no \"recipe\" node"),
            ("recipe version=\"1.0.0\"", "a template needs a name"),
            ("recipe \"a\"", "a template needs a version"),
            ("recipe \"a\" version=\"1\"", "\"1\" is no semantic version"),
            (&many, "a template needs more than 64 others"),
            (
                "recipe \"a\" version=\"1.0.0\"\nimage \"a\" { use \"b@main\"; }",
                "a template needs versions, and \"main\" is none",
            ),
        ] {
            let problems = Outline::read("a.kdl", text).unwrap_err();
            assert_eq!(problems.problems()[0].to_string(), message);
        }
    }
}
