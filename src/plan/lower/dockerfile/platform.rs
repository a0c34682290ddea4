//! Platforms as container images name them: `linux/amd64`.

use std::fmt;

/// An operating system and an architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Platform {
    pub os: String,
    /// As Go calls it: `amd64`.
    pub architecture: String,
    pub variant: String,
}

/// Names of architectures, with those that Go has for them and the variants that go without saying.
const ARCHITECTURES: [(&str, &str, &str); 9] = [
    ("x86_64", "amd64", "v1"),
    ("x86-64", "amd64", "v1"),
    ("aarch64", "arm64", "v8"),
    ("i386", "386", ""),
    ("i486", "386", ""),
    ("i586", "386", ""),
    ("i686", "386", ""),
    ("armhf", "arm", ""),
    ("armel", "arm", ""),
];

/// Architectures of Linux that container images are made for.
const KNOWN: [&str; 9] = [
    "amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le", "loong64",
];

impl Platform {
    /// Linux on an architecture as vmfab calls it: `x86_64`.
    pub(super) fn linux(architecture: &str) -> Self {
        let known = ARCHITECTURES
            .iter()
            .find(|(name, ..)| *name == architecture);
        Self {
            os: "linux".to_owned(),
            architecture: known.map_or(architecture, |(_, name, _)| name).to_owned(),
            variant: String::new(),
        }
    }

    /// Reads `OS/ARCHITECTURE/VARIANT`, or one of the first two; what is left out is that of
    /// `usual`.
    ///
    /// # Errors
    /// It is none; a phrase.
    pub(super) fn parse(text: &str, usual: &Self) -> Result<Self, String> {
        let parts: Vec<String> = text.split('/').map(str::to_lowercase).collect();
        let is_word = |part: &String| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            !part.is_empty() && part.bytes().all(fits)
        };
        if !parts.iter().all(is_word) {
            return Err(format!("\"{text}\" is not a platform"));
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [only] if only == "local" => return Ok(usual.clone()),
            [only] if is_architecture(only) => (usual.os.clone(), only.clone(), String::new()),
            [os] => (os.clone(), usual.architecture.clone(), String::new()),
            [os, architecture] => (os.clone(), architecture.clone(), String::new()),
            [os, architecture, variant] => (os.clone(), architecture.clone(), variant.clone()),
            _ => return Err(format!("\"{text}\" is not a platform")),
        };
        let known = ARCHITECTURES
            .iter()
            .find(|(name, ..)| *name == architecture);
        let architecture = known.map_or(architecture.as_str(), |(_, name, _)| name);
        let usual =
            |(_, name, usual): &&(&str, &str, &str)| *name == architecture && *usual == variant;
        let variant = match ARCHITECTURES.iter().find(usual) {
            Some(_) => String::new(),
            None => variant,
        };
        Ok(Self {
            os,
            architecture: architecture.to_owned(),
            variant,
        })
    }

    /// The architecture as vmfab calls it, when images for it can be read.
    pub(super) fn machine(&self) -> &str {
        let known = ARCHITECTURES
            .iter()
            .find(|(_, name, _)| *name == self.architecture);
        known.map_or(&self.architecture, |(machine, ..)| machine)
    }
}

fn is_architecture(word: &str) -> bool {
    KNOWN.contains(&word) || ARCHITECTURES.iter().any(|(name, ..)| *name == word)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let usual = Platform::linux("x86_64");
        assert_eq!(usual.to_string(), "linux/amd64");
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/X86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux", "linux/amd64"),
            ("local", "linux/amd64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            let platform = Platform::parse(text, &usual).unwrap();
            assert_eq!(platform.to_string(), shown);
        }
        for text in ["", "linux/", "a/b/c/d", "linux/a b", "$X"] {
            assert!(Platform::parse(text, &usual).is_err(), "{text}");
        }
        let platform = Platform::parse("linux/arm64", &usual).unwrap();
        assert_eq!(platform.machine(), "aarch64");
    }
}
