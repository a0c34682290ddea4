//! `config.kdl` to [`Config`]. Mistakes are collected, so that one run shows all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{NamedSource, SourceSpan};

use super::shape::{SHAPES, Shape};
use super::{
    AutoCollect, CacheMode, CheckRepository, Config, CosignKey, Demand, Mirror, NONE, Registry,
    TrustRule, TrustedUse,
};
use crate::checked::Name;
use crate::limits::Limits;
use crate::template::{BUILT_IN, LOCAL, Place, TemplateRepository};
use crate::text::kdl::{self, Bounds, Document, Entry, Node, Value};
use crate::text::{Problem, Problems, Source, Span, closest, enumerate, size};

pub(super) fn parse(
    path: &Path,
    text: &str,
    home: Option<&Path>,
    check: CheckRepository<'_>,
) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let mut reader = Reader {
        source: Arc::new(NamedSource::new(&name, text.to_owned())),
        directory: path.parent().unwrap_or(Path::new("")),
        home,
        check,
        problems: Vec::new(),
    };
    let mut config = Config::default();
    match kdl::parse(&reader.source, Bounds::WRITTEN, "the configuration is") {
        Ok(document) => reader.document(&document, &mut config),
        Err(problems) => reader.problems = problems,
    }
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        Err(Problems::new(name, reader.problems))
    }
}

struct Reader<'a> {
    source: Source,
    directory: &'a Path,
    home: Option<&'a Path>,
    check: CheckRepository<'a>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn document(&mut self, document: &Document, config: &mut Config) {
        let mut seen: Vec<&str> = Vec::new();
        for node in document.nodes() {
            let name = node.name().value();
            let Some(shape) = SHAPES.iter().find(|shape| shape.name == name) else {
                let names = SHAPES.map(|shape| shape.name);
                let help = match closest(name, names) {
                    Some(known) => format!("did you mean \"{known}\"?"),
                    None => format!("known settings are {}", enumerate(&names)),
                };
                let message = format!("no setting \"{name}\" found");
                self.report(node.name().span(), message, "unknown", help);
                continue;
            };
            if ["downloads", "recipes", "roles", "limits", "gc"].contains(&name)
                && seen.contains(&name)
            {
                let message = format!("\"{name}\" is given twice");
                let help = "remove one of them".to_owned();
                self.report(node.name().span(), message, "set before", help);
            }
            seen.push(shape.name);
            let Some(arguments) = self.checked(node, shape) else {
                continue;
            };
            match (name, arguments.as_slice()) {
                ("mirror", [from, to]) => {
                    let only = self.property(node, "only", "#true or #false", Value::as_bool);
                    match Mirror::new(from, to, only.unwrap_or(false)) {
                        Ok(mirror) => config.mirrors.push(mirror),
                        Err(error) => {
                            let help = format!("for example: {}", shape.example);
                            self.report(node.span(), error.to_string(), "wrong value", help);
                        }
                    }
                }
                ("downloads", []) => {
                    let parallel = self.number(node, "parallel", 1, 64);
                    config.parallel = parallel.map_or(config.parallel, |number| number as usize);
                    let retries = self.number(node, "retries", 0, 100);
                    config.retries = retries.unwrap_or(config.retries);
                }
                ("recipes", [directory]) => config.recipes = Some(self.path(directory)),
                ("roles", [repository]) => {
                    if let Err(reason) = (self.check)(repository) {
                        let help = format!("for example: {}", shape.example);
                        self.report(node.span(), reason, "wrong value", help);
                    }
                    config.roles = Some(repository.clone());
                }
                ("certificate-authority", [file]) => {
                    let file = self.path(file);
                    config.certificate_authorities.push(file);
                }
                ("registry", [host]) => self.registry(node, host, config),
                ("limits", []) => self.limits(node, &mut config.limits),
                ("gc", [when]) => self.gc(node, when, config),
                ("cache", [repository]) => self.cache(node, repository, config),
                ("signatures", [demand, names]) => self.signatures(node, demand, names, config),
                ("templates", [namespace, place]) => {
                    self.templates(node, namespace, place, config);
                }
                ("signers", [file]) => {
                    let file = self.path(file);
                    config.trust.signers.push(file);
                }
                ("cosign-key", [names, file]) => {
                    let (names, path) = (names.clone(), self.path(file));
                    config.trust.cosign.push(CosignKey { names, path });
                }
                _ => {}
            }
        }
    }

    fn limits(&mut self, node: &Node, limits: &mut Limits) {
        let mut set = |name, limit: &mut u64| {
            let wanted = "\"1G\" or another size";
            let read = |value: &Value| size(value.as_string()?);
            *limit = self.property(node, name, wanted, read).unwrap_or(*limit);
        };
        set("recipe-size", &mut limits.recipe_size);
        set("image-size", &mut limits.image_size);
        set("step-log", &mut limits.step_log);
        let steps_of_templates = &mut limits.template_steps;
        set("template-memory", &mut steps_of_templates.memory);
        set("template-disk", &mut steps_of_templates.disk);
        let mut count = |name, limit: &mut u64| {
            *limit = self
                .number(node, name, 1, 1 << 30)
                .map_or(*limit, u64::from);
        };
        count("template-time", &mut steps_of_templates.seconds);
        count("template-processes", &mut steps_of_templates.processes);
        let steps = self.number(node, "image-steps", 1, 1_000_000);
        limits.image_steps = steps.unwrap_or(limits.image_steps);
        let speed = self.number(node, "least-speed", 0, 1 << 30);
        limits.least_speed = speed.map_or(limits.least_speed, u64::from);
    }

    fn templates(&mut self, node: &Node, namespace: &str, place: &str, config: &mut Config) {
        let help = "for example: templates \"acme\" \"oci://ghcr.io/acme/templates\"".to_owned();
        let name = match namespace.parse::<Name>() {
            Ok(name) if [BUILT_IN, LOCAL].contains(&namespace) => {
                let message = format!("the namespace \"{name}\" is vmfab's own");
                return self.report(node.span(), message, "choose another", help);
            }
            Ok(name) => name,
            Err(error) => return self.report(node.span(), error.to_string(), "wrong value", help),
        };
        let known = config.templates.iter();
        if known.map(|one| &one.namespace).any(|other| *other == name) {
            let message = format!("the namespace \"{name}\" has two repositories");
            return self.report(node.span(), message, "the second one", help);
        }
        if Place::is_other_address(place) {
            let message = format!("{place} is no repository of templates");
            let help = "write oci://HOST/REPOSITORY for a registry, git+URL for a git repository, or the path of a \
                        directory";
            return self.report(node.span(), message, "unknown kind", help.to_owned());
        }
        let place = Place::parse(place, |text| self.path(text));
        if let Place::Registry(repository) = &place
            && let Err(reason) = (self.check)(repository)
        {
            return self.report(node.span(), reason, "wrong value", help);
        }
        config.templates.push(TemplateRepository {
            namespace: name,
            place,
        });
    }

    fn signatures(&mut self, node: &Node, demand: &str, names: &str, config: &mut Config) {
        let known = Demand::ALL.iter().find(|(word, _)| *word == demand);
        let Some(&(_, demand)) = known else {
            let message = format!("\"{demand}\" is not require, warn or off");
            let help = "for example: signatures \"require\" \"ghcr.io/team/*\"".to_owned();
            self.report(node.span(), message, "wrong value", help);
            return;
        };
        let wanted =
            "\"pull\" or another use: \"boot\", \"from\", \"snapshot-import\", \"template\"";
        let used_for = self.property(node, "for", wanted, |value| {
            let word = value.as_string()?;
            let all = TrustedUse::ALL.iter();
            all.clone()
                .find(|(name, _)| *name == word)
                .map(|&(_, one)| one)
        });
        // A rule for something unknown must not become one for everything.
        if node.entry("for").is_none() || used_for.is_some() {
            config.trust.rules.push(TrustRule {
                demand,
                names: names.to_owned(),
                used_for,
            });
        }
    }

    fn gc(&mut self, node: &Node, when: &str, config: &mut Config) {
        if when != "auto" {
            let message = format!("\"gc\" takes \"auto\", not \"{when}\"");
            let help = "leave the node out if builds are not to collect garbage".to_owned();
            self.report(node.span(), message, "wrong value", help);
        }
        let bytes = |value: &Value| size(value.as_string()?);
        let wanted = "\"50G\" or another size";
        let usual = AutoCollect::default();
        config.gc = Some(AutoCollect {
            max_size: self.property(node, "max-size", wanted, bytes),
            cache_size: self
                .property(node, "cache-size", wanted, bytes)
                .unwrap_or(usual.cache_size),
            older_than: self
                .property(node, "older-than", "\"14d\" or another time", |value| {
                    humantime::parse_duration(value.as_string()?).ok()
                })
                .unwrap_or(usual.older_than),
            keep_last: self
                .number(node, "keep-last", 0, 1_000_000)
                .map_or(usual.keep_last, |number| number as usize),
        });
    }

    fn registry(&mut self, node: &Node, host: &str, config: &mut Config) {
        let mut flag = |name| self.property(node, name, "#true or #false", Value::as_bool);
        let mut registry = Registry {
            plain_http: flag("plain-http").unwrap_or(false),
            insecure: flag("insecure").unwrap_or(false),
            authority: None,
        };
        let authority = self.property(node, "ca", "\"FILE\" in PEM format", |value| {
            value.as_string().filter(|file| !file.is_empty())
        });
        registry.authority = authority.map(|file| self.path(file));
        let fine = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let example = "name it as in references: registry \"registry.example:5000\"".to_owned();
        if !host.chars().all(fine) {
            let message = format!("\"{host}\" is not HOST or HOST:PORT");
            self.report(node.span(), message, "wrong value", example);
        } else if config.registries.contains_key(host) {
            let message = format!("the registry \"{host}\" is given twice");
            self.report(
                node.span(),
                message,
                "set before",
                "remove one of them".to_owned(),
            );
        }
        config.registries.insert(host.to_owned(), registry);
    }

    fn cache(&mut self, node: &Node, repository: &str, config: &mut Config) {
        let argument = node.entries().iter().find(|entry| entry.name().is_none());
        let span = argument.map_or(node.span(), Entry::span);
        if repository == NONE {
            let message = "\"none\" is not a repository".to_owned();
            let help = "leave the node out".to_owned();
            self.report(span, message, "wrong value", help);
        } else if let Err(reason) = (self.check)(repository) {
            let help = "name a repository, such as ghcr.io/me/cache".to_owned();
            self.report(span, reason, "wrong value", help);
        }
        let push = self.property(node, "push", "#true or #false", Value::as_bool);
        let mode = self.property(node, "mode", "\"min\" or \"max\"", |value| {
            value.as_string()?.parse::<CacheMode>().ok()
        });
        let entry = |name| node.entry(name).map_or(node.span(), Entry::span);
        if node.entry("mode").is_some() && push == Some(false)
            || node.entry("mode").is_some() && node.entry("push").is_none()
        {
            let message = "\"mode\" applies only to the cache with push=#true".to_owned();
            let help = "add push=#true, or leave it out".to_owned();
            self.report(entry("mode"), message, "has no effect here", help);
        }
        let settings = &mut config.cache;
        settings.read.push(repository.to_owned());
        if push == Some(true) {
            settings.mode = mode;
            if settings.push.replace(repository.to_owned()).is_some() {
                let message = "another cache also has push=#true".to_owned();
                let help = "remove push=#true from one of them".to_owned();
                self.report(entry("push"), message, "there is one before", help);
            }
        }
    }

    /// The arguments of a node, when they are those of its shape. Everything else in it is checked.
    fn checked(&mut self, node: &Node, shape: &Shape) -> Option<Vec<String>> {
        let before = self.problems.len();
        let example = || format!("for example: {}", shape.example);
        let mut arguments = Vec::new();
        let mut properties: Vec<&str> = Vec::new();
        for entry in node.entries() {
            let Some(key) = entry.name().map(|key| (key.value(), key.span())) else {
                match entry.value() {
                    Value::String(text) if !text.is_empty() => arguments.push((text, entry)),
                    _ => {
                        let message = format!("an argument of \"{}\" must be a string", shape.name);
                        self.report(entry.span(), message, "wrong value", example());
                    }
                }
                continue;
            };
            if !shape.properties.contains(&key.0) {
                let help = match closest(key.0, shape.properties.iter().copied()) {
                    Some(known) => format!("did you mean \"{known}\"?"),
                    None => example(),
                };
                let message = format!("\"{}\" takes no property \"{}\"", shape.name, key.0);
                self.report(key.1, message, "unknown", help);
            } else if properties.contains(&key.0) {
                let message = format!("\"{}\" is given twice", key.0);
                self.report(
                    key.1,
                    message,
                    "given before",
                    "remove one of them".to_owned(),
                );
            }
            properties.push(key.0);
        }
        if let Some(children) = node.children() {
            let message = format!("\"{}\" takes no block", shape.name);
            self.report(children.span(), message, "leave it out", example());
        }
        if let Some((_, extra)) = arguments.get(shape.arguments.len()) {
            let message = format!("\"{}\" has an argument too many", shape.name);
            self.report(extra.span(), message, "one too many", example());
        }
        if let Some(missing) = shape.arguments.get(arguments.len())
            && self.problems.len() == before
        {
            let message = format!("\"{}\" needs {missing}", shape.name);
            self.report(
                node.name().span(),
                message,
                "an argument is missing",
                example(),
            );
        }
        let arguments = arguments.into_iter().map(|(text, _)| text.clone());
        (self.problems.len() == before).then(|| arguments.collect())
    }

    fn property<'n, T>(
        &mut self,
        node: &'n Node,
        name: &str,
        wanted: &str,
        value: impl Fn(&'n Value) -> Option<T>,
    ) -> Option<T> {
        let entry: &Entry = node.entry(name)?;
        let got = value(entry.value());
        if got.is_none() {
            let help = format!(
                "write {name}={}",
                wanted.split(' ').next().unwrap_or_default()
            );
            self.report(
                entry.span(),
                format!("\"{name}\" must be {wanted}"),
                "wrong value",
                help,
            );
        }
        got
    }

    fn number(&mut self, node: &Node, name: &str, least: u32, most: u32) -> Option<u32> {
        let wanted = format!("{least} to {most}");
        self.property(node, name, &wanted, |value| {
            let number = u32::try_from(value.as_integer()?).ok()?;
            (least..=most).contains(&number).then_some(number)
        })
    }

    /// A path as written, from the directory of the file; `~/` is below the home.
    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.directory.join(text),
        }
    }

    fn report(&mut self, range: SourceSpan, message: String, label: &str, help: String) {
        let span = Span {
            source: Arc::clone(&self.source),
            range,
        };
        self.problems
            .push(Problem::new(&span, message, label).with_help(help));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use miette::Diagnostic;

    use super::super::{CacheSettings, TrustSettings};
    use super::*;

    fn read(text: &str) -> Result<Config, Problems> {
        parse(
            Path::new("/etc/vmfab/config.kdl"),
            text,
            Some(Path::new("/home/me")),
            &|text| match text.contains(':') {
                true => Err(format!("{text} has a tag")),
                false => Ok(()),
            },
        )
    }

    #[test]
    fn caches() {
        let cache = |text| read(text).unwrap().cache;
        let several = cache(
            "cache \"a/b\"\ncache \"c/d\" push=#true mode=\"min\"\ncache \"e/f\" push=#false",
        );
        assert_eq!(several.read, ["a/b", "c/d", "e/f"]);
        assert_eq!(several.push.as_deref(), Some("c/d"));
        assert_eq!(several.mode, Some(CacheMode::Min));
        assert_eq!(cache("cache \"a/b\" push=#true").mode, None);
        let text = r#"
cache
cache "none"
cache "a/b:1"
cache "a/b" push="yes"
cache "a/b" mode="max"
cache "a/b" push=#true mode="all"
cache "a/b" push=#true
cache "a/b" "c/d" from=#true
"#;
        insta::assert_snapshot!(mistakes(text), @r#"
        "cache" needs a repository [cache] for example: cache "ghcr.io/me/cache" push=#true mode="max"
        "none" is not a repository ["none"] leave the node out
        a/b:1 has a tag ["a/b:1"] name a repository, such as ghcr.io/me/cache
        "push" must be #true or #false [push="yes"] write push=#true
        "mode" applies only to the cache with push=#true [mode="max"] add push=#true, or leave it out
        "mode" must be "min" or "max" [mode="all"] write mode="min"
        another cache also has push=#true [push=#true] remove push=#true from one of them
        "cache" has an argument too many ["c/d"] for example: cache "ghcr.io/me/cache" push=#true mode="max"
        "cache" takes no property "from" [from] for example: cache "ghcr.io/me/cache" push=#true mode="max"
        "#);
    }

    #[test]
    fn everything_at_once() {
        let config = read(
            r#"
            // Where things are nearer.
            mirror "https://cloud-images.ubuntu.com/" "https://mirror.example/ubuntu-cloud/"
            mirror "*" "http://127.0.0.1:8080/" only=#true
            downloads parallel=2 retries=0
            recipes "~/recipes"
            roles "ghcr.io/me"
            templates "acme" "oci://ghcr.io/acme/templates"
            templates "mine" "~/templates"
            certificate-authority "company.pem"
            certificate-authority "/ca.pem"
            registry "registry.example:5000" insecure=#true ca="~/ca.pem"
            registry "localhost" plain-http=#true
            limits image-steps=5000 image-size="20G" step-log="1G" least-speed=0
            gc auto max-size="50G" older-than="7d"
            "#,
        )
        .unwrap();
        let mirror = |from, to, only| Mirror::new(from, to, only).unwrap();
        assert_eq!(
            config,
            Config {
                mirrors: vec![
                    mirror(
                        "https://cloud-images.ubuntu.com",
                        "https://mirror.example/ubuntu-cloud",
                        false
                    ),
                    mirror("*", "http://127.0.0.1:8080", true),
                ],
                parallel: 2,
                retries: 0,
                recipes: Some("/home/me/recipes".into()),
                roles: Some("ghcr.io/me".to_owned()),
                templates: [
                    ("acme", Place::Registry("ghcr.io/acme/templates".to_owned())),
                    ("mine", Place::Directory("/home/me/templates".into())),
                ]
                .map(|(namespace, place)| TemplateRepository {
                    namespace: namespace.parse().unwrap(),
                    place,
                })
                .to_vec(),
                path: None,
                certificate_authorities: vec!["/etc/vmfab/company.pem".into(), "/ca.pem".into()],
                registries: [
                    (
                        "registry.example:5000".to_owned(),
                        Registry {
                            plain_http: false,
                            insecure: true,
                            authority: Some("/home/me/ca.pem".into()),
                        }
                    ),
                    (
                        "localhost".to_owned(),
                        Registry {
                            plain_http: true,
                            ..Registry::default()
                        }
                    ),
                ]
                .into(),
                cache: CacheSettings::default(),
                file_time: None,
                trust: TrustSettings::default(),
                limits: Limits {
                    image_steps: 5000,
                    image_size: 20 << 30,
                    least_speed: 0,
                    step_log: 1 << 30,
                    ..Limits::default()
                },
                gc: Some(AutoCollect {
                    max_size: Some(50 << 30),
                    older_than: Duration::from_hours(7 * 24),
                    ..AutoCollect::default()
                }),
            }
        );
        assert_eq!(read("").unwrap(), Config::default());
        assert_eq!(read("downloads retries=9").unwrap().parallel, 4);
    }

    fn mistakes(text: &str) -> String {
        let problems = read(text).unwrap_err();
        let lines = problems.problems().iter().map(|problem| {
            let help = problem
                .help()
                .map_or_else(String::new, |help| help.to_string());
            let label = problem.labels().unwrap().next().unwrap();
            let at = &text[label.offset()..label.offset() + label.len()];
            format!("{problem} [{at}] {help}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn whose_signatures_are_asked_for() {
        let trust = read(
            "signatures require \"ghcr.io/team/*\"\nsignatures warn \"*\" for=pull\n\
             signers \"team/keys\"\ncosign-key \"*/others/*\" \"others.pub\"",
        );
        let trust = trust.unwrap().trust;
        let covers = |pattern: &str, name: &str| pattern == "*" || name.contains("/team/");
        for (name, used_for, expected) in [
            ("ghcr.io/team/a", TrustedUse::Boot, Demand::Require),
            ("ghcr.io/a/b", TrustedUse::Pull, Demand::Warn),
            ("ghcr.io/a/b", TrustedUse::Boot, Demand::Off),
        ] {
            assert_eq!(trust.demand(name, used_for, covers), expected, "{name}");
        }
        assert_eq!(trust.signers, [Path::new("/etc/vmfab/team/keys")]);
        assert_eq!(trust.cosign[0].path, Path::new("/etc/vmfab/others.pub"));
        let text = "signatures \"always\" \"*\"\nsignatures require\n\
            signatures require \"*\" for=\"push\"\nsigners\ncosign-key \"*\"\n";
        insta::assert_snapshot!(mistakes(text), @r#"
        "always" is not require, warn or off [signatures "always" "*"] for example: signatures "require" "ghcr.io/team/*"
        "signatures" needs a pattern of names [signatures] for example: signatures "require" "ghcr.io/team/*" for="pull"
        "for" must be "pull" or another use: "boot", "from", "snapshot-import", "template" [for="push"] write for="pull"
        "signers" needs a file of trusted keys [signers] for example: signers "team/allowed_signers"
        "cosign-key" needs a PEM file [cosign-key] for example: cosign-key "ghcr.io/others/*" "others.pub"
        "#);
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let text = r#"
mirrors "https://a/" "https://b/"
mirror "https://a/"
mirror "a.org" "https://b/"
mirror "https://a/" "https://b/" only="yes"
downloads parallel=0 retrys=4
downloads "4"
recipes 3
roles "ghcr.io/me/docker:1"
certificate-authority "a" "b" { x; }
registry "https://a.org" plain=#true
registry "https://a.org"
registry "a.org" insecure="yes" ca=#true
registry "a.org"
gc
gc "always" max-size=50 older-than="soon" keep-last=-1
nonsense
"#;
        insta::assert_snapshot!(mistakes(text), @r#"
        no setting "mirrors" found [mirrors] did you mean "mirror"?
        "mirror" needs where to look instead [mirror] for example: mirror "https://cloud-images.ubuntu.com/" "https://mirror.example/ubuntu/"
        "a.org" does not begin with http:// or https:// [mirror "a.org" "https://b/"] for example: mirror "https://cloud-images.ubuntu.com/" "https://mirror.example/ubuntu/"
        "only" must be #true or #false [only="yes"] write only=#true
        "downloads" takes no property "retrys" [retrys] did you mean "retries"?
        "downloads" is given twice [downloads] remove one of them
        "downloads" has an argument too many ["4"] for example: downloads parallel=4 retries=4
        an argument of "recipes" must be a string [3] for example: recipes "~/recipes"
        ghcr.io/me/docker:1 has a tag [roles "ghcr.io/me/docker:1"] for example: roles "ghcr.io/me"
        "certificate-authority" has an argument too many ["b"] for example: certificate-authority "company.pem"
        "certificate-authority" takes no block [x] for example: certificate-authority "company.pem"
        "registry" takes no property "plain" [plain] did you mean "plain-http"?
        "https://a.org" is not HOST or HOST:PORT [registry "https://a.org"] name it as in references: registry "registry.example:5000"
        "insecure" must be #true or #false [insecure="yes"] write insecure=#true
        "ca" must be "FILE" in PEM format [ca=#true] write ca="FILE"
        the registry "a.org" is given twice [registry "a.org"] remove one of them
        "gc" needs "auto" [gc] for example: gc "auto" max-size="50G"
        "gc" is given twice [gc] remove one of them
        "gc" takes "auto", not "always" [gc "always" max-size=50 older-than="soon" keep-last=-1] leave the node out if builds are not to collect garbage
        "max-size" must be "50G" or another size [max-size=50] write max-size="50G"
        "older-than" must be "14d" or another time [older-than="soon"] write older-than="14d"
        "keep-last" must be 0 to 1000000 [keep-last=-1] write keep-last=0
        no setting "nonsense" found [nonsense] known settings are mirror, downloads, recipes, roles, certificate-authority, registry, cache, limits, gc, templates, signatures, signers and cosign-key
        "#);
        insta::assert_snapshot!(mistakes("downloads parallel=0"), @r#""parallel" must be 1 to 64 [parallel=0] write parallel=1"#);
    }

    #[test]
    fn text_that_is_not_kdl() {
        let problems = read("downloads parallel=true\n").unwrap_err();
        let help = problems.help().unwrap().to_string();
        assert!(help.contains("#true"), "{help}");
    }
}
