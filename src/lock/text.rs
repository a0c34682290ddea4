//! The lock file as text: KDL 2, one line for each package, the same text for the same lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::Arc;

use miette::{NamedSource, SourceSpan};

use super::model::{self, Archive, Lock, Package, PackageSet, PinnedStep, Target};
use crate::digest::Digest;
use crate::text::kdl::{self, Bounds, Key, Node, Value};
use crate::text::{Problem, Source, Span};

/// The version of the format that is written, and the newest that is read.
pub const VERSION: i128 = 1;

const HEADER: &str = "\
// Written by \"vmfab lock\" and \"vmfab update\": what the recipes of this directory stand for.
// Keep it with them under version control. Not to be edited by hand.
";

/// The words of a `Release` file that are kept, and the properties that hold them.
const RELEASE: [(&str, &str); 5] = [
    ("Suite", "suite"),
    ("Codename", "codename"),
    ("Version", "version"),
    ("Origin", "origin"),
    ("Label", "label"),
];

impl Lock {
    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}version {VERSION}\n");
        for target in &self.targets {
            let (recipe, image) = (quoted(&target.recipe), quoted(&target.image));
            line(&mut text, &format!("\nrecipe {recipe} image={image} {{"));
            for (name, value) in &target.settings {
                line(
                    &mut text,
                    &format!("    set {} {}", quoted(name), quoted(value)),
                );
            }
            for url in &target.sources {
                line(&mut text, &format!("    source {}", quoted(url)));
            }
            for key in &target.steps {
                line(&mut text, &format!("    step \"{key}\""));
            }
            for (name, version) in &target.templates {
                line(&mut text, &format!("    template \"{name}\" \"{version}\""));
            }
            line(&mut text, "}");
        }
        for ((name, version), template) in &self.templates {
            let (digest, source) = (template.digest, quoted(&template.source));
            let words = format!("sha256=\"{digest}\" source={source}");
            line(
                &mut text,
                &format!("\ntemplate \"{name}\" \"{version}\" {words}"),
            );
        }
        for (url, source) in &self.sources {
            let mut words = format!(
                "\nsource {} checksum={}",
                quoted(url),
                quoted(&source.checksum)
            );
            if let Some(size) = source.size {
                let _ = write!(words, " size={size}");
            }
            line(
                &mut text,
                &format!("{words} resolved={}", quoted(&source.resolved)),
            );
        }
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by_key(|(key, step)| (&step.label, **key));
        for (key, step) in steps {
            let head = format!("\nstep {} key=\"{key}\"", quoted(&step.label));
            match &step.packages {
                Some(set) => {
                    line(&mut text, &format!("{head} {{"));
                    write_set(set, &mut text);
                    line(&mut text, "}");
                }
                None => line(&mut text, &format!("{head} pinned=#false")),
            }
        }
        text
    }

    /// The lock that a text says; `name` is for messages.
    ///
    /// # Errors
    /// It is no lock file, or a newer vmfab wrote it.
    pub fn from_text(name: &str, text: &str) -> Result<Self, Problem> {
        let source = Arc::new(NamedSource::new(name, text.to_owned()));
        let reader = Reader { source: &source };
        let document = kdl::parse(&source, Bounds::GENERATED, "locks are").map_err(|problems| {
            // There is at least one.
            let first = &problems[0];
            reader.wrong(first.range().unwrap_or((0, 0).into()), first.to_string())
        })?;
        let mut lock = Self::default();
        let mut version = None;
        for node in document.nodes() {
            if version.is_none() {
                version = Some(reader.version(node)?);
                continue;
            }
            match node.name().value() {
                "recipe" => lock.targets.push(reader.target(node)?),
                "source" => {
                    let (url, source) = reader.source(node)?;
                    lock.sources.insert(url, source);
                }
                "template" => {
                    let template = model::PinnedTemplate {
                        version: reader.parsed(node, 1)?,
                        digest: reader.parsed(node, "sha256")?,
                        source: reader.parsed(node, "source")?,
                    };
                    let key = (reader.parsed(node, 0)?, template.version.clone());
                    lock.templates.insert(key, template);
                }
                "step" => {
                    let (key, step) = reader.step(node)?;
                    lock.steps.insert(key, step);
                }
                _ => return Err(reader.unknown(node)),
            }
        }
        match version {
            Some(_) => Ok(lock),
            None => Err(reader.wrong((0, 0).into(), "the file is empty")),
        }
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn write_set(set: &PackageSet, text: &mut String) {
    for archive in &set.archives {
        let mut words = format!("    archive {}", quoted(&archive.url));
        for (field, property) in RELEASE {
            if let Some(value) = archive.release.get(field) {
                let _ = write!(words, " {property}={}", quoted(value));
            }
        }
        line(text, &words);
    }
    for package in &set.packages {
        let mut words = format!(
            "    package {} {} {} sha256=\"{}\" size={}",
            quoted(&package.name),
            quoted(&package.version),
            quoted(&package.architecture),
            package.sha256,
            package.size
        );
        if let Some(priority) = &package.priority {
            let _ = write!(words, " priority={}", quoted(priority));
        }
        // Most recipes have one archive: its number says nothing then.
        if let Some(archive) = package.archive.filter(|&archive| archive > 0) {
            let _ = write!(words, " archive={archive}");
        }
        if let Some(file) = &package.file {
            let _ = write!(words, " file={}", quoted(file));
        }
        line(text, &words);
    }
}

/// A KDL string in quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            // Also those that KDL does not allow as they are.
            _ if character.is_control()
                || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                let _ = write!(quoted, "\\u{{{:x}}}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads nodes of one text.
struct Reader<'a> {
    source: &'a Source,
}

impl Reader<'_> {
    fn wrong(&self, range: SourceSpan, message: impl Display) -> Problem {
        let span = Span {
            source: Arc::clone(self.source),
            range,
        };
        let message = format!("{} cannot be read: {message}", self.source.name());
        Problem::new(&span, message, "here")
            .with_help("restore it from version control, or remove it and run \"vmfab lock\" again")
    }

    fn unknown(&self, node: &Node) -> Problem {
        let name = node.name().value();
        self.wrong(node.name().span(), format!("lock files have no \"{name}\""))
    }

    fn version(&self, node: &Node) -> Result<(), Problem> {
        let version = match (node.name().value(), node.get(0)) {
            ("version", Some(Value::Integer(version))) => *version,
            _ => return Err(self.wrong(node.span(), "it does not begin with its version")),
        };
        match version {
            VERSION => Ok(()),
            version if version > VERSION => {
                let name = self.source.name();
                let message = format!(
                    "{name} has version {version}, but this vmfab supports versions up to {VERSION}"
                );
                Err(Problem::without_place(message)
                    .with_help("a newer vmfab wrote it: use that vmfab"))
            }
            _ => Err(self.wrong(node.span(), "this version never existed")),
        }
    }

    fn target(&self, node: &Node) -> Result<Target, Problem> {
        let mut target = Target {
            recipe: self.text_of(node, 0)?,
            image: self.text_of(node, "image")?,
            settings: BTreeMap::new(),
            sources: BTreeSet::new(),
            steps: BTreeSet::new(),
            templates: BTreeMap::new(),
        };
        for child in node.iter_children() {
            match child.name().value() {
                "set" => {
                    let (name, value) = (self.text_of(child, 0)?, self.text_of(child, 1)?);
                    target.settings.insert(name, value);
                }
                "source" => {
                    target.sources.insert(self.text_of(child, 0)?);
                }
                "step" => {
                    target.steps.insert(self.parsed(child, 0)?);
                }
                "template" => {
                    let (name, version) = (self.parsed(child, 0)?, self.parsed(child, 1)?);
                    target.templates.insert(name, version);
                }
                _ => return Err(self.unknown(child)),
            }
        }
        Ok(target)
    }

    fn source(&self, node: &Node) -> Result<(String, model::Source), Problem> {
        let source = model::Source {
            checksum: self.text_of(node, "checksum")?,
            size: self.number(node, "size")?,
            resolved: self.text_of(node, "resolved")?,
        };
        Ok((self.text_of(node, 0)?, source))
    }

    fn step(&self, node: &Node) -> Result<(Digest, PinnedStep), Problem> {
        let pinned = node.get("pinned") != Some(&Value::Bool(false));
        let mut set = PackageSet::default();
        for child in node.iter_children() {
            match child.name().value() {
                "archive" => set.archives.push(self.archive(child)?),
                "package" => set.packages.push(self.package(child)?),
                _ => return Err(self.unknown(child)),
            }
        }
        set.packages.sort();
        let step = PinnedStep {
            label: self.text_of(node, 0)?,
            packages: pinned.then_some(set),
        };
        Ok((self.parsed(node, "key")?, step))
    }

    fn archive(&self, node: &Node) -> Result<Archive, Problem> {
        let mut release = BTreeMap::new();
        for (field, property) in RELEASE {
            if node.get(property).is_some() {
                let field = field.parse().expect("a name");
                release.insert(field, self.parsed(node, property)?);
            }
        }
        Ok(Archive {
            url: self.parsed(node, 0)?,
            release,
        })
    }

    fn package(&self, node: &Node) -> Result<Package, Problem> {
        let optional = |key: &str| match node.get(key) {
            Some(_) => self.parsed(node, key).map(Some),
            None => Ok(None),
        };
        let file = optional("file")?;
        let archive = match self.number(node, "archive")? {
            Some(archive) => usize::try_from(archive).ok(),
            None => file.is_some().then_some(0),
        };
        Ok(Package {
            name: self.parsed(node, 0)?,
            version: self.parsed(node, 1)?,
            architecture: self.parsed(node, 2)?,
            sha256: self.parsed(node, "sha256")?,
            size: self
                .number(node, "size")?
                .ok_or_else(|| self.wrong(node.span(), "a package without its size"))?,
            priority: optional("priority")?,
            archive,
            file,
        })
    }

    fn text_of(&self, node: &Node, key: impl Key) -> Result<String, Problem> {
        node.get(key)
            .and_then(Value::as_string)
            .map(str::to_owned)
            .ok_or_else(|| {
                let name = node.name().value();
                self.wrong(node.span(), format!("this \"{name}\" is not complete"))
            })
    }

    fn parsed<T: std::str::FromStr>(&self, node: &Node, key: impl Key) -> Result<T, Problem>
    where
        T::Err: Display,
    {
        let text = self.text_of(node, key)?;
        text.parse()
            .map_err(|error: T::Err| self.wrong(node.span(), error))
    }

    fn number(&self, node: &Node, key: &str) -> Result<Option<u64>, Problem> {
        match node.get(key) {
            None => Ok(None),
            Some(value) => value
                .as_integer()
                .and_then(|number| u64::try_from(number).ok())
                .map(Some)
                .ok_or_else(|| self.wrong(node.span(), format!("{key} is not a size"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::{key, package};
    use super::*;
    use crate::checked::Line;
    use crate::digest::Sha256;
    use crate::template::TemplateName;

    fn example() -> Lock {
        let set = PackageSet {
            archives: vec![
                Archive {
                    url: "http://deb.debian.org/debian/".parse().unwrap(),
                    release: BTreeMap::from([
                        ("Suite".parse().unwrap(), Line::like("oldstable")),
                        ("Codename".parse().unwrap(), Line::like("bookworm")),
                    ]),
                },
                Archive {
                    url: "http://127.0.0.1/".parse().unwrap(),
                    release: BTreeMap::new(),
                },
            ],
            packages: vec![
                Package {
                    priority: Some("required".parse().unwrap()),
                    ..package("docker.io", "20.10.24+dfsg1-1")
                },
                Package {
                    archive: Some(1),
                    ..package("odd\"name\\", "1\u{200e}")
                },
                Package {
                    archive: None,
                    file: None,
                    ..package("stray", "1")
                },
            ],
        };
        let url = "https://example.org/disk.qcow2".to_owned();
        let mut lock = Lock::default();
        lock.steps.insert(
            key("a"),
            PinnedStep {
                label: "docker: packages docker.io".into(),
                packages: Some(set),
            },
        );
        lock.steps.insert(
            key("b"),
            PinnedStep {
                label: "alpine: packages bash".into(),
                packages: None,
            },
        );
        lock.sources.insert(
            url.clone(),
            model::Source {
                checksum: "sha256:00".into(),
                size: Some(12),
                resolved: "2026-11-21T12:00:00Z".into(),
            },
        );
        let name: TemplateName = "acme/web".parse().unwrap();
        let template = model::PinnedTemplate {
            version: "1.2.0".parse().unwrap(),
            digest: Sha256::from_bytes([7; 32]),
            source: "oci://example.org/templates".parse().unwrap(),
        };
        let version = template.version.clone();
        lock.templates
            .insert((name.clone(), version.clone()), template);
        lock.put_target(Target {
            templates: BTreeMap::from([(name, version)]),
            recipe: "docker.kdl".into(),
            image: "docker".into(),
            settings: BTreeMap::from([("base".to_owned(), "debian-12".to_owned())]),
            sources: BTreeSet::from([url]),
            steps: BTreeSet::from([key("a"), key("b")]),
        });
        lock
    }

    #[test]
    fn a_line_for_each_package() {
        insta::assert_snapshot!(example().to_text());
    }

    #[test]
    fn what_is_written_is_read() {
        let lock = example();
        let read = Lock::from_text("vmfab.lock", &lock.to_text()).unwrap();
        assert_eq!(read, lock);
        assert_eq!(read.to_text(), lock.to_text());
        let empty = Lock::default();
        assert_eq!(Lock::from_text("x", &empty.to_text()).unwrap(), empty);
    }

    #[test]
    fn newer_and_wrong_files_are_refused() {
        let refused = |text: &str| Lock::from_text("vmfab.lock", text).unwrap_err().to_string();
        let texts = [
            "version 2\nsomething new",
            "version 0",
            "",
            "version",
            "recipe \"a\"",
            "version 1\nrecipe \"a\"",
            "version 1\nstep \"a\" key=\"b\"",
            "version 1\nstep {",
            "version 1\nother",
            // A line of a list, an option of a program.
            "version 1\nstep \"a\" key=\"KEY\" { package \"a\" \"1\\nDepends: b\" \"all\" sha256=\"SHA\" size=1; }",
            "version 1\nstep \"a\" key=\"KEY\" { archive \"-oDir=/\"; }",
            "version 1\nsource \"u\" checksum=\"c\" size=-1 resolved=\"\"",
            "version 1\ntemplate \"../a\" \"1.0.0\" sha256=\"SHA\" source=\"s\"",
            "version 1\ntemplate \"acme/a\" \"1\" sha256=\"SHA\" source=\"s\"",
        ];
        let texts = texts.map(|text| {
            let digest = "0".repeat(64);
            text.replace("KEY", &digest).replace("SHA", &digest)
        });
        let refused = |text: String| refused(&text);
        insta::assert_snapshot!(texts.map(refused).join("\n"));
    }
}
