//! `check=skip=…;error=true`, as a directive and in comments.

use std::collections::BTreeSet;

use super::rule::Rule;
use crate::dockerfile::model::Word;
use crate::text::Problem;

/// Which checks run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    skips_all: bool,
    skips: BTreeSet<String>,
    tries_all: bool,
    tries: BTreeSet<String>,
    /// Whether findings are errors.
    pub(super) fails: bool,
}

impl Options {
    /// Reads the value of a directive: up to the first space, the rest is a comment.
    pub(super) fn parse(directive: &Word) -> Result<Self, Problem> {
        let wrong = |message: String| {
            let help = "write check=skip=Rule,Rule, check=skip=all, check=error=true, or several \
                        with ; between them";
            Problem::new(&directive.span, message, "unknown option").with_help(help)
        };
        let mut options = Self::default();
        let text = directive.value.split(' ').next().unwrap_or_default();
        for part in text.split(';') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(wrong(format!("the option {part:?} of check needs a value")));
            };
            let value = value.trim();
            let names = || {
                value
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect()
            };
            match name.trim() {
                "skip" if value == "all" => options.skips_all = true,
                "skip" => options.skips = names(),
                "experimental" if value == "all" => options.tries_all = true,
                "experimental" => options.tries = names(),
                "error" => match value.to_ascii_lowercase().as_str() {
                    "true" | "t" | "1" => options.fails = true,
                    "false" | "f" | "0" => options.fails = false,
                    _ => return Err(wrong(format!("error is true or false, not {value:?}"))),
                },
                other => return Err(wrong(format!("check has no option {other:?}"))),
            }
        }
        Ok(options)
    }

    /// With what comments above an instruction say; the first that can be read counts.
    pub(super) fn with_comments(&self, comments: &[Word]) -> Self {
        let mut options = self.clone();
        let mut directives = comments.iter().filter_map(|comment| {
            let (name, value) = comment.value.split_once('=')?;
            let is_check = name.trim().eq_ignore_ascii_case("check");
            is_check.then(|| comment.clone().map(|_| value.trim().to_owned()))
        });
        if let Some(Ok(more)) = directives.next().map(|directive| Self::parse(&directive)) {
            options.skips_all |= more.skips_all;
            options.skips.extend(more.skips);
            options.tries_all |= more.tries_all;
            options.tries.extend(more.tries);
        }
        options
    }

    pub(super) fn runs(&self, rule: &Rule) -> bool {
        match rule.is_experimental {
            true => self.tries_all || self.tries.contains(rule.name),
            false => !self.skips_all && !self.skips.contains(rule.name),
        }
    }
}
