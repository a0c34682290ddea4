//! What came of testing a template.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::recipe::Loaded;

/// What came of a template's tests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TestReport {
    /// The recipe.
    pub file: PathBuf,
    pub name: String,
    pub version: Option<String>,
    /// In the order in which they ran.
    pub cases: Vec<Case>,
}

/// A build, a boot, or a test of the recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    pub name: String,
    pub parameters: BTreeMap<String, String>,
    pub seconds: f64,
    /// Why it failed.
    pub failure: Option<String>,
}

impl TestReport {
    pub(super) fn new(file: &Path, loaded: Option<&Loaded>) -> Self {
        let recipe = loaded.map(|loaded| &loaded.recipe);
        let version = recipe.and_then(|recipe| recipe.version.as_ref());
        Self {
            file: file.to_owned(),
            name: recipe.map_or_else(String::new, |recipe| recipe.name.clone()),
            version: version.map(ToString::to_string),
            cases: Vec::new(),
        }
    }

    /// How many cases failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        let cases = self.cases.iter();
        cases.filter(|case| case.failure.is_some()).count()
    }

    /// The form that CI systems read: JUnit's XML, as its Ant task writes it.
    #[must_use]
    pub fn junit(&self) -> String {
        let seconds: f64 = self.cases.iter().map(|case| case.seconds).sum();
        let name = escaped(&self.name);
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuites>\n  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"0\" \
             skipped=\"0\" time=\"{seconds:.3}\">\n",
            self.cases.len(),
            self.failed()
        );
        for case in &self.cases {
            let _ = write!(
                text,
                "    <testcase classname=\"{name}\" name=\"{}\" time=\"{:.3}\"",
                escaped(&case.title()),
                case.seconds
            );
            match &case.failure {
                None => text.push_str("/>\n"),
                Some(failure) => {
                    let first = failure.lines().next().unwrap_or_default();
                    let _ = writeln!(
                        text,
                        ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                        escaped(first),
                        escaped(failure)
                    );
                }
            }
        }
        text + "  </testsuite>\n</testsuites>\n"
    }
}

impl Case {
    /// Its name, with the parameters that it ran with.
    #[must_use]
    pub fn title(&self) -> String {
        let pairs = self.parameters.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        match pairs.is_empty() {
            true => self.name.clone(),
            false => format!("{} [{}]", self.name, pairs.join(" ")),
        }
    }
}

/// Text for XML 1.0, which has no control characters but tabs and line ends.
fn escaped(text: &str) -> String {
    let mut done = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => done.push_str("&amp;"),
            '<' => done.push_str("&lt;"),
            '>' => done.push_str("&gt;"),
            '"' => done.push_str("&quot;"),
            '\t' | '\n' => done.push(c),
            '\u{fffe}' | '\u{ffff}' => done.push('\u{fffd}'),
            c if c.is_control() => done.push('\u{fffd}'),
            c => done.push(c),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_has_cases_and_why_they_failed() {
        let case = |name: &str, failure: Option<&str>| Case {
            name: name.to_owned(),
            parameters: BTreeMap::from([("port".to_owned(), "80".to_owned())]),
            seconds: 1.5,
            failure: failure.map(str::to_owned),
        };
        let report = TestReport {
            file: "web.kdl".into(),
            name: "web".to_owned(),
            version: None,
            cases: vec![
                case("build", None),
                case("a <b>", Some("run x: \u{1b}\"y\"\nmore")),
            ],
        };
        insta::assert_snapshot!(report.junit(), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites>
          <testsuite name="web" tests="2" failures="1" errors="0" skipped="0" time="3.000">
            <testcase classname="web" name="build [port=80]" time="1.500"/>
            <testcase classname="web" name="a &lt;b&gt; [port=80]" time="1.500">
              <failure message="run x: �&quot;y&quot;">run x: �&quot;y&quot;
        more</failure>
            </testcase>
          </testsuite>
        </testsuites>
        "#);
    }
}
