//! `RUN --mount`.

use super::instruction::{Reading, names};
use super::model::{
    BindMount, CacheMount, Mount, MountKind, MountOption, Owner, SecretMount, Sharing, SshMount,
    TmpfsMount, Word,
};
use super::words::BLANKS;
use crate::text::{Problem, Spanned, closest};

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// Options with one meaning, the first of which is the name used here.
const OPTIONS: [&[&str]; 13] = [
    &["type"],
    &["from"],
    &["source", "src"],
    &["target", "dst", "destination"],
    &["readonly", "ro"],
    &["readwrite", "rw"],
    &["required"],
    &["size"],
    &["id"],
    &["sharing"],
    &["mode"],
    &["uid"],
    &["gid"],
];
/// Of secrets only.
const ENV: &str = "env";

/// The options that a type of mount has, beside `type`.
fn options_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "bind" => &["from", "source", "target", "readonly", "readwrite"],
        "cache" => &[
            "id",
            "target",
            "readonly",
            "readwrite",
            "sharing",
            "from",
            "source",
            "mode",
            "uid",
            "gid",
        ],
        "tmpfs" => &["target", "size", "readonly", "readwrite"],
        "secret" => &[
            "id", "source", "target", "env", "required", "mode", "uid", "gid",
        ],
        _ => &["id", "target", "required", "mode", "uid", "gid"],
    }
}

/// The name of an option as [`OPTIONS`] has it first.
fn canonical(name: &str) -> Option<&'static str> {
    if name == ENV {
        return Some(ENV);
    }
    let found = OPTIONS.iter().find(|names| names.contains(&name));
    found.map(|names| names[0])
}

pub(super) fn parse(reading: &mut Reading<'_>, flag: &Word) -> Option<Mount> {
    let mut options = Vec::new();
    let mut at = 0;
    let is_exact = flag.span.range.len() == flag.value.len();
    for field in fields(&flag.value) {
        let place = |range: std::ops::Range<usize>| {
            let mut span = flag.span.clone();
            if is_exact {
                span.range = (span.range.offset() + range.start, range.len()).into();
            }
            span
        };
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (field, None),
        };
        let end = at + field.len();
        let value = value.map(|value| {
            let text = unquoted(value);
            Spanned::new(text, place(at + name.len() + 1..end))
        });
        let lower = name.trim_matches('"').to_ascii_lowercase();
        options.push((
            Spanned::new(lower, place(at..at + name.len())),
            Spanned::new((), place(at..end)),
            value,
        ));
        at = end + 1;
    }
    let before = reading.problems.len();
    for (name, _, value) in &options {
        if canonical(&name.value).is_none() {
            unknown(reading, name);
        } else if name.value == "from"
            && value
                .as_ref()
                .is_some_and(|value| value.value.contains('$'))
        {
            let message = "from= cannot have variables";
            let help = "make a stage of it, FROM image:$VERSION AS name, and write from=name";
            reading.wrong::<()>(&name.span, message, "has a variable", help);
        }
    }
    if reading.problems.len() > before {
        return None;
    }
    let has_variables = options
        .iter()
        .any(|(_, _, value)| value.as_ref().is_some_and(|v| v.value.contains('$')));
    let mount = Mount {
        span: flag.span.clone(),
        options: options
            .into_iter()
            .map(|(name, _, value)| MountOption { name, value })
            .collect(),
    };
    if !has_variables {
        let checked = mount.resolve(&|word| Ok(word.value.clone()));
        if let Err(problem) = checked {
            reading.problems.push(problem);
            return None;
        }
    }
    Some(mount)
}

fn unknown(reading: &mut Reading<'_>, name: &Word) {
    let known = OPTIONS
        .iter()
        .flat_map(|names| names.iter().copied())
        .chain([ENV]);
    let message = format!("a mount has no option {:?}", name.value);
    let help = match closest(&name.value, known) {
        Some(near) => format!("did you mean {near}?"),
        None if name.value.contains(BLANKS) || name.value.is_empty() => {
            "separate options by commas, without spaces: type=cache,target=/var/cache/apt"
                .to_owned()
        }
        None => format!("these exist: {}", names(OPTIONS.map(|names| names[0]))),
    };
    reading.wrong::<()>(&name.span, message, "unknown option", help);
}

/// Parts between commas that are not quoted.
fn fields(text: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let separates = |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    };
    text.split(separates).collect()
}

/// CSV's quotes.
fn unquoted(value: &str) -> String {
    match value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) => inner.replace("\"\"", "\""),
        None => value.trim_end_matches('"').to_owned(),
    }
}

impl Mount {
    /// The value of an option, by its first name.
    fn option(&self, name: &str) -> Option<&MountOption> {
        let mut options = self.options.iter();
        options.rfind(|option| canonical(&option.name.value) == Some(name))
    }

    /// Which stage, image or named context it reads, whatever it is.
    #[must_use]
    pub fn from(&self) -> Option<&Word> {
        self.option("from")?.value.as_ref()
    }

    /// What it is, with the values of options expanded.
    ///
    /// # Errors
    /// A value does not fit its option, or an option does not fit the type.
    pub fn resolve(
        &self,
        expand: &dyn Fn(&Word) -> Result<String, Problem>,
    ) -> Result<MountKind, Problem> {
        let values = Values {
            mount: self,
            expand,
        };
        let kind = values.text("type")?.unwrap_or_else(|| "bind".to_owned());
        let kind = kind.to_ascii_lowercase();
        if !TYPES.contains(&kind.as_str()) {
            let place = self.option("type").and_then(|option| option.value.as_ref());
            let place = place.map_or(&self.span, |word| &word.span);
            let help = match closest(&kind, TYPES) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("these exist: {}", names(TYPES)),
            };
            let message = format!("unknown type of mount {kind:?}");
            return Err(Problem::new(place, message, "unknown type").with_help(help));
        }
        let known = options_of(&kind);
        for option in &self.options {
            let name = canonical(&option.name.value).unwrap_or_default();
            if name != "type" && !known.contains(&name) {
                let message = format!("a mount of type {kind} has no option {}", option.name.value);
                let help = format!("it has {}", names(known.iter().copied()));
                let problem = Problem::new(&option.name.span, message, "does not fit the type");
                return Err(problem.with_help(help));
            }
        }
        match kind.as_str() {
            "bind" => Ok(MountKind::Bind(BindMount {
                from: values.text("from")?.filter(|from| !from.is_empty()),
                source: values.source()?,
                target: values.target(true)?,
                writable: values.writable(false)?,
            })),
            "cache" => values.cache(),
            "tmpfs" => Ok(MountKind::Tmpfs(TmpfsMount {
                target: values.target(false)?,
                size: values.size()?,
            })),
            "secret" => values.secret(),
            _ => Ok(MountKind::Ssh(SshMount {
                id: values.id()?.unwrap_or_else(|| "default".to_owned()),
                target: values.text("target")?.filter(|target| !target.is_empty()),
                required: values.required()?,
                owner: values.owner()?,
                mode: values.mode(0o600)?,
            })),
        }
    }
}

/// Options with their values expanded.
struct Values<'a> {
    mount: &'a Mount,
    expand: &'a dyn Fn(&Word) -> Result<String, Problem>,
}

impl Values<'_> {
    fn word(&self, name: &str) -> Result<Option<Word>, Problem> {
        let Some(option) = self.mount.option(name) else {
            return Ok(None);
        };
        let Some(word) = &option.value else {
            let name = &option.name.value;
            let message = format!("the option {name} of a mount needs a value");
            let problem = Problem::new(&option.name.span, message, "no value");
            return Err(problem.with_help(format!("write {name}=…")));
        };
        let value = (self.expand)(word)?;
        Ok(Some(word.clone().map(|_| value)))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        Ok(self.word(name)?.map(|word| word.value))
    }

    fn source(&self) -> Result<String, Problem> {
        let source = self.text("source")?.filter(|source| !source.is_empty());
        Ok(source.unwrap_or_else(|| "/".to_owned()))
    }

    fn target(&self, default_is_workdir: bool) -> Result<String, Problem> {
        let help = "write target= with a directory or a file in the image";
        match self.word("target")? {
            Some(word) if clean(&word.value) == "/" => {
                let message = "a mount cannot hide the whole image";
                Err(Problem::new(&word.span, message, "the root").with_help(help))
            }
            Some(word) if !word.value.is_empty() => Ok(word.value),
            // The working directory, as BuildKit has it.
            _ if default_is_workdir => Ok(".".to_owned()),
            _ => {
                let message = "a mount needs a target";
                Err(Problem::new(&self.mount.span, message, "no target").with_help(help))
            }
        }
    }

    /// An option that may stand alone.
    fn switch(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.mount.option(name) {
            Some(option) if option.value.is_none() => return Ok(Some(true)),
            None => return Ok(None),
            Some(_) => {}
        }
        let Some(word) = self.word(name)? else {
            return Ok(None);
        };
        // The forms that Go knows.
        match word.value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            other => {
                let message = format!("{other:?} is neither true nor false");
                let problem = Problem::new(&word.span, message, "not true or false");
                Err(problem.with_help(format!("write {name} or {name}=false")))
            }
        }
    }

    fn writable(&self, default: bool) -> Result<bool, Problem> {
        let read_only = self.switch("readonly")?;
        let writable = self.switch("readwrite")?;
        Ok(writable
            .or(read_only.map(|read_only| !read_only))
            .unwrap_or(default))
    }

    fn required(&self) -> Result<bool, Problem> {
        Ok(self.switch("required")?.unwrap_or(false))
    }

    fn number(&self, name: &str, radix: u32, help: &str) -> Result<Option<u32>, Problem> {
        let Some(word) = self.word(name)? else {
            return Ok(None);
        };
        let is_plain = word.value.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(&word.value, radix) {
            Ok(number) if is_plain => Ok(Some(number)),
            _ => {
                let message = format!("{:?} is not a value of {name}", word.value);
                Err(Problem::new(&word.span, message, "wrong value").with_help(help))
            }
        }
    }

    fn owner(&self) -> Result<Owner, Problem> {
        let number = |name| self.number(name, 10, "write a number, such as 1000");
        Ok(Owner {
            uid: number("uid")?.unwrap_or(0),
            gid: number("gid")?.unwrap_or(0),
        })
    }

    fn mode(&self, default: u32) -> Result<u32, Problem> {
        let mode = self.number("mode", 8, "write it in octal, such as 0755")?;
        Ok(mode.unwrap_or(default) & 0o7777)
    }

    fn id(&self) -> Result<Option<String>, Problem> {
        Ok(self.text("id")?.filter(|id| !id.is_empty()))
    }

    fn size(&self) -> Result<Option<u64>, Problem> {
        let Some(word) = self.word("size")? else {
            return Ok(None);
        };
        match bytes(&word.value) {
            Some(size) => Ok(Some(size)),
            None => {
                let message = format!("{:?} is not a size", word.value);
                let problem = Problem::new(&word.span, message, "not a size");
                Err(problem.with_help("write bytes, or a unit: 64m, 1g"))
            }
        }
    }

    fn cache(&self) -> Result<MountKind, Problem> {
        let target = self.target(false)?;
        let sharing = match self.word("sharing")? {
            None => Sharing::Shared,
            Some(word) => match word.value.to_ascii_lowercase().as_str() {
                "shared" => Sharing::Shared,
                "private" => Sharing::Private,
                "locked" => Sharing::Locked,
                other => {
                    let message = format!("unknown sharing {other:?}");
                    let problem = Problem::new(&word.span, message, "unknown sharing");
                    return Err(problem.with_help("write shared, private or locked"));
                }
            },
        };
        Ok(MountKind::Cache(CacheMount {
            id: self.id()?.unwrap_or_else(|| clean(&target)),
            sharing,
            from: self.text("from")?.filter(|from| !from.is_empty()),
            source: self.source()?,
            owner: self.owner()?,
            mode: self.mode(0o755)?,
            writable: self.writable(true)?,
            target,
        }))
    }

    fn secret(&self) -> Result<MountKind, Problem> {
        let source = self
            .word("source")?
            .filter(|source| !source.value.is_empty());
        let id = self.id()?;
        let target = self.text("target")?.filter(|target| !target.is_empty());
        let env = self.text("env")?.filter(|env| !env.is_empty());
        if let (Some(source), Some(_)) = (&source, &id) {
            let message = "a secret has an id or a source, not both";
            let problem = Problem::new(&source.span, message, "second name of the secret");
            return Err(problem.with_help("leave source= out"));
        }
        let last = |path: &str| {
            path.rsplit('/')
                .find(|part| !part.is_empty())
                .map(str::to_owned)
        };
        let id = source.map(|source| source.value).or(id);
        let id = id
            .or_else(|| target.as_deref().and_then(last))
            .or_else(|| env.clone());
        let Some(id) = id else {
            let problem = Problem::new(&self.mount.span, "a secret needs an id", "which secret?");
            return Err(problem.with_help("write id= with the name that --secret gives"));
        };
        let target = target.or_else(|| {
            let name = last(&id).unwrap_or_else(|| id.clone());
            env.is_none().then(|| format!("/run/secrets/{name}"))
        });
        Ok(MountKind::Secret(SecretMount {
            id,
            target,
            env,
            required: self.required()?,
            owner: self.owner()?,
            mode: self.mode(0o400)?,
        }))
    }
}

/// A path without doubled slashes, `.` and `..`, as far as its text says.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    match format!("{root}{}", parts.join("/")) {
        path if path.is_empty() => ".".to_owned(),
        path => path,
    }
}

/// Bytes with an optional unit of 1024s, in either case: `64m`, `1GiB`.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim();
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let shift = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * (1_u64 << shift) as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}
