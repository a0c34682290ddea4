//! Names of machines.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name: that of a host name's label (RFC 1035).
const MAX: usize = 63;

/// The name of a machine: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at
/// most 63. It is the name of the machine's directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(String);

/// The text cannot be a machine's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" cannot be a machine's name: use letters, digits, \".\", \"_\" and \"-\", beginning \
     with a letter or digit, at most {MAX}"
)]
pub struct NameError(String);

impl MachineName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that is most like a text: what cannot be in a name becomes `-`.
    #[must_use]
    pub fn like(text: &str) -> Self {
        Self(Self::base(text))
    }

    /// The host name that is most like it (RFC 1123): labels without `_` that begin and end with a
    /// letter or digit.
    pub(super) fn hostname(&self) -> String {
        let labels = self.0.split('.').map(|label| label.replace('_', "-"));
        let labels = labels.map(|label| label.trim_matches('-').to_owned());
        let labels: Vec<String> = labels.filter(|label| !label.is_empty()).collect();
        labels.join(".")
    }

    /// Names for machines of an image, the best one first: `docker`, `docker-2`, `docker-3` …
    /// What cannot be in a name becomes `-`.
    pub fn candidates(image: &str) -> impl Iterator<Item = Self> + use<> {
        let base = Self::base(image);
        (1_u32..).map(move |number| match number {
            1 => Self(base.clone()),
            number => Self(format!("{base}-{number}")),
        })
    }

    fn base(text: &str) -> String {
        let mut base: String = text
            .chars()
            .map(|c| if is_inner(c) { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(MAX - 8) // room for a number
            .collect();
        if base.is_empty() {
            base.push_str("machine");
        }
        base
    }
}

fn is_inner(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl FromStr for MachineName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = text.len() <= MAX
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(is_inner);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MachineName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for MachineName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for good in ["docker", "docker-2", "a.b_c", "9", &"x".repeat(63)] {
            assert!(good.parse::<MachineName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".tmp",
            "-rf",
            "a/b",
            "a b",
            "ü",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names() {
        for (name, hostname) in [
            ("worker-1", "worker-1"),
            ("My_Web.example", "My-Web.example"),
            ("a-", "a"),
            ("a..b_.", "a.b"),
        ] {
            assert_eq!(name.parse::<MachineName>().unwrap().hostname(), hostname);
        }
    }

    #[test]
    fn candidates_count_up() {
        let names: Vec<String> = MachineName::candidates("docker")
            .take(3)
            .map(|name| name.0)
            .collect();
        assert_eq!(names, ["docker", "docker-2", "docker-3"]);
    }

    proptest! {
        #[test]
        fn candidates_are_names(image in any::<String>()) {
            for name in MachineName::candidates(&image).take(2) {
                prop_assert_eq!(name.0.parse::<MachineName>(), Ok(name.clone()));
            }
        }
    }
}
