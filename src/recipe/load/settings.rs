//! Values for the parameters of recipes, from `--set` and from `set`.

use std::rc::Rc;

use super::{Loader, Read};
use crate::recipe::header::known_parameters;
use crate::recipe::{Problem, Spanned};

impl Loader<'_> {
    pub(super) fn refuse_settings(&self, set: &[(Spanned<String>, String)], what: &str) {
        if let Some((name, _)) = set.first() {
            self.report(
                Problem::new(
                    &name.span,
                    format!("{what} has no parameters to set"),
                    "no recipe takes this",
                )
                .with_help("\"set\" is for the parameters of another recipe"),
            );
        }
    }

    /// Values for parameters that no recipe on the way has.
    pub(super) fn check_settings(&self) {
        let read = || self.documents.values().flatten();
        let name = |read: &Rc<Read>| {
            let names = read
                .parameters
                .iter()
                .map(|parameter| &parameter.name.value);
            names
                .map(|name| format!("{}{name}", read.namespace))
                .collect::<Vec<_>>()
        };
        let names: Vec<String> = read().flat_map(name).collect();
        for name in self.settings.keys() {
            if !names.contains(name) {
                let mut unique = names.clone();
                unique.sort();
                unique.dedup();
                self.report(
                    Problem::without_place(format!(
                        "--set {name}: the recipe has no parameter \"{name}\""
                    ))
                    .with_help(known_parameters(name, unique.iter())),
                );
            }
        }
    }
}
