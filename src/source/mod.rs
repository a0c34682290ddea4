//! Everything between a URL and verified bytes.
//!
//! ```text
//! source ── config ──► mirrors, the URL ── http ──► one pass ──┬──► hasher ──► is it what it should be?
//!                                          (resume, retry)     ├──► partial file
//!                                                              └──► taker (the store)
//! ```
//!
//! **No byte of a download is read a second time to verify it.** The pass that brings it feeds the
//! partial file, the hasher and the taker together. What an earlier process left in a partial file
//! is read once, to bring hasher and taker to where it ended. Content that turns out wrong is never
//! passed on: the taker is told to begin anew, and finishes only when the checksum is right.
//!
//! Below [`Home::downloads`](crate::host::Home::downloads):
//!
//! ```text
//! <key>.partial   what is here of a download; the key is a hash of URL and checksum
//! <key>.json      where it came from, its validator and size
//! <key>.lock      held by who downloads it; locks die with their process
//! ```
//!
//! What can happen, and what then:
//!
//! | what | then |
//! |---|---|
//! | the connection is cut or stalls, a server is busy | tried again after a pause, from where it was |
//! | Ctrl-C, kill -9, a full disk | the partial file stays; the next process goes on from its end |
//! | the server has another version by now | from the start, with the taker told so |
//! | it is complete and its checksum is wrong | it is deleted; the next mirror, or an error that says so |
//! | it is complete, and the process dies before the taker has finished | the next process needs no network |
//! | another process or thread downloads the same | waited for; the caller says whether it is there then |

mod armor;
mod checksums;
mod download;
mod error;
mod fetch;
mod list;
mod location;
mod origin;
mod partial;
mod permits;
mod progress;
mod signature;
mod transfer;

pub use checksums::{ChecksumsRequest, Resolved, Signature};
pub use error::{Attempt, AttemptError, FetchError};
pub use fetch::{FetchRequest, Fetched, Fetcher, FetcherOptions, Outcome};
pub use location::Source;
pub use origin::Origin;
pub use transfer::{TakeError, Taker};
