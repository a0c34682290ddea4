//! `${VARIABLE:-default}` in values, as Compose has it, and files of variables.

use std::collections::BTreeMap;

use super::yaml::{Node, Value};
use crate::text::{Problem, Span};

/// How deep a default may have variables in defaults.
const DEEPEST: usize = 16;
/// Bytes that a value may become.
const LONGEST: usize = 1 << 20;

/// The values of variables: those of the environment go before those of `.env`.
pub(super) struct Variables<'a> {
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    pub file: BTreeMap<String, String>,
}

impl Variables<'_> {
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).or_else(|| self.file.get(name).cloned())
    }
}

/// Puts variables into all values of a node. Keys stay as they are.
pub(super) fn interpolate(
    node: &mut Node,
    variables: &Variables<'_>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(text) => {
            let mut unset = Vec::new();
            match expand(text, variables, &mut unset, 0) {
                Ok(done) => *text = done,
                Err(wrong) => problems.push(wrong.problem(&node.span)),
            }
            warnings.extend(unset.iter().map(|name| {
                let message = format!("the variable \"{name}\" is not set: it stands for nothing");
                Problem::new(&node.span, message, "used here").with_help(format!(
                    "set it in the environment or in .env, or give a default: ${{{name}:-value}}"
                ))
            }));
        }
        Value::List(list) => {
            for node in list {
                interpolate(node, variables, problems, warnings);
            }
        }
        Value::Map(map) => {
            for (_, node) in map {
                interpolate(node, variables, problems, warnings);
            }
        }
    }
}

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Form,
    /// The file says that this variable is needed, and why.
    Needed(String, String),
    TooMuch,
}

impl Wrong {
    fn problem(self, span: &Span) -> Problem {
        match self {
            Self::Form => Problem::new(span, "a variable is not written as one", "here").with_help(
                "write ${NAME} or ${NAME:-default}, and $$ for a dollar sign that is itself",
            ),
            Self::Needed(name, why) => {
                let message = match why.is_empty() {
                    true => format!("the variable \"{name}\" is needed"),
                    false => format!("the variable \"{name}\" is needed: {why}"),
                };
                Problem::new(span, message, "not set")
                    .with_help(format!("set it: {name}=… vmfab up, or a line in .env"))
            }
            Self::TooMuch => Problem::new(span, "the value becomes too long", "here")
                .with_help("use shorter values, and fewer defaults in defaults"),
        }
    }
}

fn expand(
    text: &str,
    variables: &Variables<'_>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, Wrong> {
    if depth > DEEPEST {
        return Err(Wrong::TooMuch);
    }
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or(Wrong::Form)?;
            done.push_str(&braced(&after[..end], variables, unset, depth)?);
            rest = &after[end + 1..];
        } else {
            let name = name_of(rest);
            if name.is_empty() {
                return Err(Wrong::Form);
            }
            done.push_str(&value(name, variables, unset));
            rest = &rest[name.len()..];
        }
        if done.len() > LONGEST {
            return Err(Wrong::TooMuch);
        }
    }
    done.push_str(rest);
    Ok(done)
}

/// Where the brace closes that is open at the beginning.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

fn name_of(text: &str) -> &str {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    if begins {
        &text[..end.unwrap_or(text.len())]
    } else {
        ""
    }
}

fn value(name: &str, variables: &Variables<'_>, unset: &mut Vec<String>) -> String {
    variables.get(name).unwrap_or_else(|| {
        unset.push(name.to_owned());
        String::new()
    })
}

/// What is between the braces.
fn braced(
    text: &str,
    variables: &Variables<'_>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, Wrong> {
    let name = name_of(text);
    if name.is_empty() {
        return Err(Wrong::Form);
    }
    let rest = &text[name.len()..];
    if rest.is_empty() {
        return Ok(value(name, variables, unset));
    }
    let (or_empty, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mut parts = rest.chars();
    let operator = parts.next();
    let word = parts.as_str();
    let known = variables
        .get(name)
        .filter(|value| !(or_empty && value.is_empty()));
    match (operator, known) {
        (Some('-' | '?'), Some(value)) => Ok(value),
        (Some('-'), None) | (Some('+'), Some(_)) => expand(word, variables, unset, depth + 1),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let why = expand(word, variables, unset, depth + 1)?;
            Err(Wrong::Needed(name.to_owned(), why))
        }
        _ => Err(Wrong::Form),
    }
}

/// The variables of a file like `.env`. What is wrong in it is told by its line alone: such files
/// have secrets.
///
/// # Errors
/// The number of the first line that is wrong.
pub(super) fn env_file(
    text: &str,
    known: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, usize> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = index + 1;
        let line = line.trim().trim_start_matches('\u{feff}');
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            // A name alone has the value of the environment.
            let value = known(line).filter(|_| name_of(line) == line);
            found.extend(value.map(|value| (line.to_owned(), value)));
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong);
        }
        let value = match value.chars().next() {
            Some('\'') => {
                let end = value[1..].find('\'').ok_or(wrong)?;
                value[1..=end].to_owned()
            }
            quote => {
                let raw = match quote {
                    Some('"') => unquoted(&value[1..]).ok_or(wrong)?,
                    _ => value
                        .split(" #")
                        .next()
                        .unwrap_or_default()
                        .trim_end()
                        .to_owned(),
                };
                let both = |name: &str| known(name).or_else(|| found.get(name).cloned());
                let variables = Variables {
                    environment: &both,
                    file: BTreeMap::new(),
                };
                expand(&raw, &variables, &mut Vec::new(), 0).unwrap_or(raw)
            }
        };
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// The text up to the closing quote.
fn unquoted(text: &str) -> Option<String> {
    let mut done = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some(done),
            '\\' => match chars.next()? {
                'n' => done.push('\n'),
                't' => done.push('\t'),
                'r' => done.push('\r'),
                other => done.push(other),
            },
            other => done.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> Result<String, Wrong> {
        let variables = Variables {
            environment: &known,
            file: [("A", "of the file"), ("B", "2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        expand(text, &variables, &mut Vec::new(), 0)
    }

    #[test]
    fn forms_of_variables() {
        for (text, value) in [
            ("plain", "plain"),
            ("$A-${B}", "1-2"),
            ("$$A", "$A"),
            ("${X:-d}${X-d}", "dd"),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${A:+x}${EMPTY:+x}${EMPTY+x}${X+x}", "xx"),
            ("${X:-${Y:-$B}}", "2"),
            ("${A:?no}", "1"),
            ("${X:-a}b}", "ab}"),
            ("[$X]", "[]"),
        ] {
            assert_eq!(expanded(text).unwrap(), value, "{text}");
        }
        for wrong in ["${", "${}", "$", "${A", "$1", "${A!x}", "${A:}", "${-x}"] {
            assert_eq!(expanded(wrong), Err(Wrong::Form), "{wrong}");
        }
        let needed = Wrong::Needed("X".to_owned(), "say 2".to_owned());
        assert_eq!(expanded("${X:?say $B}"), Err(needed));
    }

    #[test]
    fn files_of_variables() {
        let text = "# a\nX=1\nexport Y = 'a # $A'\nZ=\"b\\n$A\" # c\nV=$X x # y\nA\nGONE\n";
        let found = env_file(text, &known).unwrap();
        let pairs: Vec<_> = found
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let expected = [
            ("A", "1"),
            ("V", "1 x"),
            ("X", "1"),
            ("Y", "a # $A"),
            ("Z", "b\n1"),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(env_file("A=1\n=2\n", &known), Err(2));
        assert_eq!(env_file("A='1\n", &known), Err(1));
    }
}
