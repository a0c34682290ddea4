//! A blocking HTTP client, for downloads and for registries.
//!
//! [`reqwest`] makes connections, keeps them, and speaks HTTP/1.1 and HTTP/2 on them; all of them
//! live on one thread (`runtime.rs`), which the first request starts. Callers wait on threads of
//! their own, and give up by dropping what they wait for. Done here:
//!
//! | what | why |
//! |---|---|
//! | interrupts, silence, least speed | who waits knows how long, and what to say then |
//! | redirects | no step from https to http, credentials only for the server that they are for, each host through its own proxy |
//! | the choice of a proxy | the rules of `no_proxy` that others obey, with networks and ports |
//! | retries | pauses that servers ask for, and what may be sent again |
//! | errors by what to do about them | see [`HttpError`] |
//!
//! Plain `http` goes through an HTTP proxy as a request for the whole URL, `https` through a tunnel
//! (CONNECT).

mod body;
mod client;
mod error;
mod pace;
mod proxy;
mod retry;
mod runtime;
mod tls;
mod url;

pub use body::Body;
pub use client::{Client, Request, Response, Settings};
pub use error::HttpError;
pub use proxy::Proxies;
pub use reqwest::header::{self, HeaderMap, HeaderName};
pub use reqwest::{Method, StatusCode};
pub use retry::{Backoff, LONGEST_WAIT, RetryPolicy, retry, sleep};
pub use url::{ParseUrlError, Scheme, Url, escape, unescape};
