//! Registries for people: logging in and out, and what is there.

use serde::Serialize;

use super::Context;
use crate::failure::Failure;
use crate::http::Url;
use crate::registry::{Credential, Location, Reference, RegistryError};
use crate::share::RESULT_TAG;

/// Credentials that are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Login {
    /// Host and port.
    pub registry: String,
    /// The account's name; nothing when a token stands for it.
    pub user: Option<String>,
    /// A file, a program or the environment.
    pub place: String,
}

/// Credentials that are kept no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logout {
    /// Host and port.
    pub registry: String,
    /// Files and programs.
    pub places: Vec<String>,
}

/// What a repository has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tags {
    pub name: String,
    /// Its tags, sorted, without those of results.
    pub tags: Vec<String>,
    /// Results of steps in it, when it is a build cache.
    pub results: usize,
}

/// Asks a registry whether it knows an account, and keeps it for later.
///
/// # Errors
/// It does not know it, or it cannot be kept.
pub fn login(
    context: &Context,
    registry: &str,
    user: &str,
    password: &str,
) -> Result<Login, Failure> {
    let registry = host(registry)?;
    if user.is_empty() || user.contains(':') {
        return Err(Failure::usage(format!(
            "\"{user}\" is not an account name: it is empty or has a \":\""
        )));
    }
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    let registries = context.registries();
    let credential = Credential::Password {
        user: user.to_owned(),
        password: password.to_owned(),
    };
    let checked = registries.check(&registry, credential);
    checked.map_err(|error| match error {
        RegistryError::Denied { message, .. } => Failure::failed(format!(
            "{registry} rejects this name and password: {message}"
        ))
        .with_help("log in again; vmfab saved nothing"),
        other => other.into(),
    })?;
    let place = registries.credentials().save(&registry, user, password)?;
    Ok(Login {
        registry,
        user: Some(user.to_owned()),
        place,
    })
}

/// The credentials that are used for a registry.
///
/// # Errors
/// There are none.
pub fn status(context: &Context, registry: &str) -> Result<Login, Failure> {
    let registry = host(registry)?;
    let known = context.registries().credentials().find(&registry, "")?;
    match known {
        Some(known) => Ok(Login {
            registry,
            user: known.credential.user().map(str::to_owned),
            place: known.place,
        }),
        None => Err(unknown(&registry)),
    }
}

/// Forgets the credentials for a registry.
///
/// # Errors
/// There are none, or they cannot be forgotten.
pub fn logout(context: &Context, registry: &str) -> Result<Logout, Failure> {
    let registry = host(registry)?;
    let places = context.registries().credentials().forget(&registry)?;
    match places.is_empty() {
        true => Err(unknown(&registry)),
        false => Ok(Logout { registry, places }),
    }
}

/// Forgets all credentials in the file where [`login`] keeps them.
///
/// # Errors
/// They cannot be forgotten.
pub fn logout_all(context: &Context) -> Result<Vec<Logout>, Failure> {
    let registries = context.registries();
    let credentials = registries.credentials();
    let mut all = Vec::new();
    for registry in credentials.registries()? {
        let places = credentials.forget(&registry)?;
        if !places.is_empty() {
            all.push(Logout { registry, places });
        }
    }
    Ok(all)
}

/// The tags of a repository, layout or archive.
///
/// # Errors
/// The text names none, or they cannot be had.
pub fn tags(context: &Context, reference: &str) -> Result<Tags, Failure> {
    let location: Location = reference.parse().map_err(|error| {
        Failure::usage(format!("{error}")).with_help("write it as in registry.example/name")
    })?;
    let repository = context.registries().open(&location)?;
    let all = repository.tags()?;
    let is_result = |tag: &String| tag.starts_with(RESULT_TAG);
    Ok(Tags {
        name: repository.name(),
        results: all.iter().filter(|tag| is_result(tag)).count(),
        tags: all.into_iter().filter(|tag| !is_result(tag)).collect(),
    })
}

/// The host and port that a user means.
fn host(text: &str) -> Result<String, Failure> {
    let parsed: Result<Reference, _> = format!("{text}/name").parse();
    let has_url = format!("https://{text}/").parse::<Url>().is_ok() && !text.ends_with(':');
    match parsed {
        Ok(reference) if reference.repository == "name" && has_url => Ok(reference.registry),
        _ => Err(Failure::usage(format!("\"{text}\" is not a registry"))
            .with_help("name its host, with a port if needed: registry.example:5000")),
    }
}

fn unknown(registry: &str) -> Failure {
    Failure::unknown("login at", registry)
        .with_help(format!("log in with \"vmfab login {registry}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, is) in [
            ("ghcr.io", "ghcr.io"),
            ("localhost", "localhost"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("index.docker.io", "docker.io"),
        ] {
            assert_eq!(host(text).unwrap(), is);
        }
        for text in [
            "",
            "ghcr",
            "https://ghcr.io",
            "ghcr.io/me",
            "a b.c",
            "../x.y",
            "me@ghcr.io",
            "ghcr.io:",
            "ghcr.io:x",
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
