//! The variables that say where credentials are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Those that are read.
const NAMES: [&str; 9] = [
    "VMFAB_REGISTRY",
    "VMFAB_REGISTRY_TOKEN",
    "VMFAB_REGISTRY_USER",
    "VMFAB_REGISTRY_PASSWORD",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "HOME",
];

/// Variables, taken once. Shown by their names only: some hold passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<&'static str, OsString>);

impl Environment {
    /// Those of this process.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Those that `value` gives. Empty ones are none.
    #[must_use]
    pub fn from_variables(value: impl Fn(&str) -> Option<OsString>) -> Self {
        let present = |name| Some((name, value(name).filter(|value| !value.is_empty())?));
        Self(NAMES.into_iter().filter_map(present).collect())
    }

    /// A variable as text; `None` when it is not set, or no text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str()
    }

    /// A variable as a path.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
