//! Faults on purpose: the n-th change of a file fails, or the process "dies" there.

use std::io;
use std::sync::Mutex;

use super::files::Change;

/// What is to fail.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {}

impl Faults {
    pub(super) fn change(&self, _change: &Change<'_>) -> io::Result<()> {
        let _ = &self.0;
        Ok(())
    }
}
