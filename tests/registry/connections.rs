//! TLS, its absence, and no network at all.

use std::path::Path;

use vmfab::config::{Config, Registry as Configured};
use vmfab::registry::RegistryError;

use super::{User, put};
use crate::support::proxy::Proxy;
use crate::support::registry::{Registry, RegistryOptions};

fn with_tls() -> Registry {
    Registry::with(&RegistryOptions {
        tls: true,
        ..RegistryOptions::default()
    })
}

/// A user with this in the configuration for a registry.
fn configured(address: &str, registry: Configured) -> User {
    User::with(|options| {
        options.config = Config {
            registries: [(address.to_owned(), registry)].into(),
            ..Config::default()
        };
    })
}

#[test]
fn a_certificate_is_verified() {
    let registry = with_tls();
    let user = User::new();
    let error = put(&*user.open(&registry.at("a/b")), b"x").unwrap_err();
    assert!(error.to_string().contains("does not trust"), "{error}");
    assert!(error.remedy().unwrap().contains("ca="));
    let trusting = configured(
        &registry.address(),
        Configured {
            authority: Some(registry.authority()),
            ..Configured::default()
        },
    );
    put(&*trusting.open(&registry.at("a/b")), b"x").unwrap();
    assert_eq!(trusting.events.take(), []);
    let missing = configured(
        &registry.address(),
        Configured {
            authority: Some(Path::new("/nonexistent/ca.pem").into()),
            ..Configured::default()
        },
    );
    let error = put(&*missing.open(&registry.at("a/b")), b"x").unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
}

#[test]
fn an_authority_of_one_registry_is_not_one_of_another() {
    let (one, other) = (with_tls(), with_tls());
    let user = configured(
        &one.address(),
        Configured {
            authority: Some(one.authority()),
            ..Configured::default()
        },
    );
    put(&*user.open(&one.at("a/b")), b"x").unwrap();
    assert!(put(&*user.open(&other.at("a/b")), b"x").is_err());
}

#[test]
fn who_need_not_prove_it_is_warned_of_once() {
    let registry = with_tls();
    for user in [
        User::with(|options| options.access.insecure = true),
        configured(
            &registry.address(),
            Configured {
                insecure: true,
                ..Configured::default()
            },
        ),
    ] {
        put(&*user.open(&registry.at("a/b")), b"x").unwrap();
        put(&*user.open(&registry.at("c/d")), b"x").unwrap();
        let events = format!("{:?}", user.events.take());
        assert_eq!(
            events.matches("is not asked to prove who it is").count(),
            1,
            "{events}"
        );
    }
}

#[test]
fn only_a_registry_on_this_host_is_tried_without_tls() {
    let registry = Registry::start();
    let user = User::new();
    for host in ["127.0.0.1", "localhost"] {
        let name = format!("{host}:{}/a/b", registry.port());
        put(&*user.open(&name), b"x").unwrap();
    }
    let plain = User::with(|options| options.access.plain_http = true);
    put(&*plain.open(&registry.at("a/b")), b"x").unwrap();
    // A name for this host that is none of the known ones.
    let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") else {
        panic!("there is no host name");
    };
    let elsewhere = format!("{}.example:{}/a/b", name.trim(), registry.port());
    let error = put(&*user.open(&elsewhere), b"x").unwrap_err();
    assert!(matches!(error, RegistryError::Http { .. }), "{error}");
}

#[test]
fn a_registry_with_tls_is_not_asked_without() {
    let registry = with_tls();
    let plain = User::with(|options| options.access.plain_http = true);
    let error = put(&*plain.open(&registry.at("a/b")), b"x").unwrap_err();
    assert!(!error.to_string().is_empty());
}

#[test]
fn nobody_there_is_said_after_some_tries() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let user = User::new();
    let error = user
        .open(&format!("127.0.0.1:{port}/a/b"))
        .tags()
        .unwrap_err();
    assert!(
        error.to_string().contains("refused the connection"),
        "{error}"
    );
    assert_eq!(user.waits().len(), 3);
}

#[test]
fn offline_nothing_is_asked() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    let user = User::with(|options| options.offline = true);
    let opened = user.registries.open(&proxy.at("a/b").parse().unwrap());
    let Err(error) = opened else {
        panic!("it was opened");
    };
    assert!(matches!(error, RegistryError::Offline(_)), "{error}");
    let credential = vmfab::registry::Credential::Token("x".to_owned());
    let checked = user.registries.check(&proxy.address(), credential);
    assert!(matches!(checked, Err(RegistryError::Offline(_))));
    assert!(proxy.seen().is_empty());
}
