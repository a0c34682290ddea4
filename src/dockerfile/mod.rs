//! Dockerfiles: BuildKit's language to a typed model with source spans. Pure.
//!
//! ```text
//! text ── line ──► logical lines ── instruction ──► stages ── (planning) expand ──► values
//!                  (continuations,   (flags, words,
//!                   here-documents)   mount)
//! ```
//!
//! Words stay as they are written: what variables stand for is only known to planning, which
//! expands them with an [`Expander`]. `docs/dockerfile.md` lists what differs from BuildKit.

mod arguments;
mod copy;
mod expand;
mod healthcheck;
mod heredoc;
mod ignore;
mod instruction;
mod line;
mod lint;
mod model;
mod mount;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;
mod words;

pub use arguments::{Platforms, is_proxy, predefined};
pub use copy::is_mode;
pub use expand::{Expander, Lookup, Unexpandable, expand};
pub use ignore::{Ignore, Ignored};
pub use lint::{Facts, Linted, RULES, Rule, lint};
pub use model::*;
pub use parse::{parse, parse_trigger};
