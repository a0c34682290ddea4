//! Requests to a registry, and what their answers say.

use std::io::{self, Read};

use serde::Deserialize;

use super::sending::Sending;
use crate::http::{HeaderName, HttpError, Method, Response, Url};
use crate::registry::RegistryError;

/// What is read of an answer that only says what went wrong.
const LONGEST_MESSAGE: u64 = 64 << 10;
/// What is shown of it, in characters.
const SHOWN_MESSAGE: usize = 300;

/// Where a request goes.
pub(super) enum Target<'a> {
    /// Below `/v2/`.
    Path(&'a str),
    /// Where the registry said.
    Url(&'a Url),
}

/// A request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) target: Target<'a>,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// What must be allowed.
    pub(super) scopes: &'a [String],
    pub(super) body: Option<&'a Sending<'a>>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, target: Target<'a>, scopes: &'a [String]) -> Self {
        Self {
            method,
            target,
            headers: Vec::new(),
            scopes,
            body: None,
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) const fn body(mut self, body: &'a Sending<'a>) -> Self {
        self.body = Some(body);
        self
    }
}

/// Why a request failed: a try later may succeed, or not.
pub(super) enum CallError {
    Http(HttpError),
    Final(RegistryError),
}

impl CallError {
    /// The body of an answer could not be read.
    pub(super) fn of_reading(error: io::Error) -> Self {
        let host = String::new();
        let other = |error: io::Error| HttpError::Other {
            host,
            message: error.to_string(),
        };
        Self::Http(match error.downcast::<HttpError>() {
            Ok(error) => error,
            Err(error) => other(error),
        })
    }
}

impl From<HttpError> for CallError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<RegistryError> for CallError {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

/// The error of an operation at a place.
pub(super) fn of_http(place: &str, error: HttpError) -> RegistryError {
    match error {
        HttpError::Interrupted => RegistryError::Interrupted,
        error => RegistryError::Http {
            place: place.to_owned(),
            source: Box::new(error),
        },
    }
}

/// Reads an answer that says nothing to its end, so that its connection can be used again.
pub(super) fn drain(response: Response) {
    // A connection that is cut is one less.
    let _ = io::copy(&mut response.body.take(LONGEST_MESSAGE), &mut io::sink());
}

/// What a registry says about a refusal: its error codes and messages, or the status. `scrub` takes
/// secrets out, before a long text is cut: the beginning of a secret is one, too.
pub(super) fn said(response: Response, scrub: impl FnOnce(String) -> String) -> String {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Problem>,
    }
    #[derive(Deserialize)]
    struct Problem {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status;
    let mut bytes = Vec::new();
    let read = response.body.take(LONGEST_MESSAGE).read_to_end(&mut bytes);
    let answer: Option<Answer> = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
    let problems = answer.map(|answer| answer.errors).unwrap_or_default();
    let texts = problems.iter().map(|problem| match &*problem.code {
        "" => problem.message.clone(),
        code => format!("{code}: {}", problem.message),
    });
    let text = texts.collect::<Vec<_>>().join("; ");
    let text: String = scrub(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN_MESSAGE)
        .collect();
    match text.trim() {
        "" => match status.canonical_reason() {
            Some(reason) => format!("it answers {} ({reason})", status.as_u16()),
            None => format!("it answers {}", status.as_u16()),
        },
        text => text.to_owned(),
    }
}

/// What a request is about, for people.
pub(super) fn what_of(call: &Call<'_>) -> String {
    let scope = call.scopes.first().and_then(|scope| {
        let (name, _) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        Some(name.to_owned())
    });
    scope.unwrap_or_else(|| "it".to_owned())
}
