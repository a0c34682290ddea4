//! A small blocking HTTP/1.1 client, for downloads and for registries.
//!
//! What the library below ([`ureq`]) does not do, or not so, is done here:
//!
//! | what | why |
//! |---|---|
//! | a thread for each answer | name look-ups and reads cannot be interrupted; who waits for the thread can |
//! | redirects | no step from https to http, credentials only for the server that they are for, each host through its own proxy |
//! | the choice of a proxy | the library takes the first variable it finds, whatever the URL |
//! | certificate authorities | the system's and the user's together |
//! | errors by what to do about them | see [`HttpError`] |
//!
//! Plain `http` through an HTTP proxy goes through a tunnel (CONNECT), as the library has it. Proxies that
//! make tunnels to port 443 only refuse that.

mod body;
mod client;
mod error;
mod pace;
mod proxy;
mod retry;
mod tls;
mod url;

pub use body::Body;
pub use client::{Client, Request, Response, Settings};
pub use error::HttpError;
pub use proxy::Proxies;
pub use retry::{Backoff, LONGEST_WAIT, RetryPolicy, retry, sleep};
pub use ureq::http::{HeaderMap, HeaderName, Method, StatusCode, header};
pub use url::{ParseUrlError, Scheme, Url, escape, unescape};
