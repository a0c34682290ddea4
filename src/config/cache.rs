//! What is said of build caches, at one place or at several.

use std::str::FromStr;

/// The word that stands for no cache.
pub const NONE: &str = "none";

/// Whose content a cache gets. Results, which say what came of a step, it gets of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// That of the image.
    Min,
    /// That of every step.
    #[default]
    Max,
}

/// A text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a cache mode: use min (content of images) or max (content of every step)")]
pub struct ParseCacheModeError(String);

impl CacheMode {
    /// All of them, with their names.
    pub const NAMES: [(&'static str, Self); 2] = [("min", Self::Min), ("max", Self::Max)];
}

impl FromStr for CacheMode {
    type Err = ParseCacheModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut modes = Self::NAMES.into_iter();
        let found = modes.find(|(name, _)| *name == text);
        found
            .map(|(_, mode)| mode)
            .ok_or_else(|| ParseCacheModeError(text.to_owned()))
    }
}

/// What one place says: the command line, the environment or the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheSettings {
    /// Repositories to ask, in order; or only [`NONE`], which switches off all that was said
    /// elsewhere.
    pub read: Vec<String>,
    /// The repository that results are offered to, or [`NONE`].
    pub push: Option<String>,
    /// Whose content goes there.
    pub mode: Option<CacheMode>,
}

impl CacheSettings {
    /// What this says, and where it says nothing what `lower` says. [`NONE`] is gone then.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        let nothing = [NONE];
        let lower = match self.read == nothing {
            true => Self {
                mode: lower.mode,
                ..Self::default()
            },
            false => lower,
        };
        let read = match self.read {
            read if read.is_empty() || read == nothing => lower.read,
            read => read,
        };
        Self {
            read,
            push: self.push.or(lower.push).filter(|push| push != NONE),
            mode: self.mode.or(lower.mode),
        }
    }

    /// Checks what the type does not say.
    ///
    /// # Errors
    /// [`NONE`] stands beside others.
    pub fn check(&self) -> Result<(), String> {
        match self.read.len() > 1 && self.read.iter().any(|one| one == NONE) {
            true => Err("\"none\" disables caches, but there are others beside it".to_owned()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(read: &[&str], push: Option<&str>, mode: Option<CacheMode>) -> CacheSettings {
        CacheSettings {
            read: read.iter().map(|&text| text.to_owned()).collect(),
            push: push.map(str::to_owned),
            mode,
        }
    }

    #[test]
    fn what_is_nearer_goes_first() {
        let lower = || settings(&["a", "b"], Some("p"), Some(CacheMode::Min));
        let nothing = || settings(&[], None, None);
        assert_eq!(nothing().over(lower()), lower());
        assert_eq!(lower().over(nothing()), lower());
        assert_eq!(
            settings(&["c"], None, Some(CacheMode::Max)).over(lower()),
            settings(&["c"], Some("p"), Some(CacheMode::Max))
        );
        assert_eq!(
            settings(&[], Some("q"), None).over(lower()),
            settings(&["a", "b"], Some("q"), Some(CacheMode::Min))
        );
    }

    #[test]
    fn none_switches_off() {
        let lower = || settings(&["a", "b"], Some("p"), None);
        let off = settings(&["none"], None, None);
        assert_eq!(off.clone().over(lower()), settings(&[], None, None));
        assert_eq!(
            settings(&["none"], Some("q"), None).over(lower()),
            settings(&[], Some("q"), None)
        );
        assert_eq!(
            settings(&[], Some("none"), None).over(lower()),
            settings(&["a", "b"], None, None)
        );
        assert!(off.check().is_ok());
        assert!(settings(&["none", "a"], None, None).check().is_err());
    }
}
