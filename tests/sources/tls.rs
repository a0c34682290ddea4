//! Connections over TLS, with an authority of our own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use vmfab::http::Proxies;
use vmfab::source::FetchError;

use super::process::second;
use super::{Desk, noise, sha256};
use crate::support::Ran;
use crate::support::http::{Fault, Server};

/// A server whose certificate, for these names, is from the authority in the file.
fn server(desk: &Desk, names: &[&str]) -> (Server, PathBuf) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let path = desk.path().join("authority.pem");
    fs::write(&path, pem).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let issuer = Issuer::new(authority, authority_key);
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate)],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (Server::start_tls(Arc::new(config)), path)
}

#[test]
fn an_authority_of_the_users_own() {
    let (mut desk, bytes) = (Desk::new(), noise(1, 300_000));
    let (server, authority) = server(&desk, &["localhost"]);
    server.put("/a", bytes.clone());
    let url = server.url("/a");
    let error = desk.refuses(&url, Some(&sha256(&bytes)));
    assert!(
        error
            .to_string()
            .contains("from an authority that this host does not trust"),
        "{error}"
    );
    let remedy = error.remedy().join("\n");
    assert!(remedy.contains("certificate-authority"), "{remedy}");
    assert_eq!(
        server.asked(),
        [] as [&str; 0],
        "it is no case for another try"
    );
    desk.config.certificate_authorities.push(authority);
    server.next("/a", Fault::Cut(100_000));
    desk.gets(&url, &bytes);
    assert_eq!(server.asked(), ["GET /a", "GET /a bytes=100000-"]);
}

/// The proxy sees no more than the name of the server.
#[test]
fn through_a_proxy_it_is_a_tunnel() {
    let (mut desk, bytes) = (Desk::new(), noise(3, 100_000));
    let (server, authority) = server(&desk, &["server.invalid"]);
    desk.config.certificate_authorities.push(authority);
    let proxy = Server::start();
    let through = proxy.url("").replace("://", "://me:p%40ss@");
    desk.settings.proxies = Proxies::from_variables(|name| {
        let ours = name == "https_proxy";
        ours.then(|| through.clone())
    });
    server.put("/a", bytes.clone());
    let url = server.url("/a").replace("localhost", "server.invalid");
    desk.gets(&url, &bytes);
    let seen = proxy.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].method, "CONNECT");
    assert!(seen[0].path.starts_with("server.invalid:"), "{seen:?}");
    assert_eq!(seen[0].header("proxy-authorization"), "Basic bWU6cEBzcw==");
    assert_eq!(server.seen()[0].header("proxy-authorization"), "");
}

#[test]
fn the_systems_authorities_are_where_the_environment_says() {
    let (desk, bytes) = (Desk::new(), noise(2, 1000));
    let (server, authority) = server(&desk, &["localhost"]);
    server.put("/a", bytes.clone());
    let run = |variable: &str| {
        let mut command = second(&desk, &server.url("/a"), &bytes);
        let ran = Ran::of(
            command
                .env_remove("SSL_CERT_FILE")
                .env(variable, &authority),
        );
        ran.ends_with(0).stdout
    };
    let without = run("VMFAB_TEST_NOTHING");
    assert!(without.contains("does not trust"), "{without}");
    let with = run("SSL_CERT_FILE");
    assert!(with.contains("fetched 1000"), "{with}");
}

#[test]
fn the_certificate_of_another_host() {
    let mut desk = Desk::new();
    let (server, authority) = server(&desk, &["other.example"]);
    desk.config.certificate_authorities.push(authority);
    let error = desk.refuses(&server.url("/a"), None);
    assert!(
        error.to_string().contains("for another host name"),
        "{error}"
    );
}

#[test]
fn a_server_without_tls() {
    let (desk, server) = (Desk::new(), Server::start());
    let error = desk.refuses(&server.url("/a").replace("http:", "https:"), None);
    assert!(
        error
            .to_string()
            .contains("no secure connection to 127.0.0.1"),
        "{error}"
    );
}

#[test]
fn no_redirect_leads_out_of_tls() {
    let mut desk = Desk::new();
    let (secure, authority) = server(&desk, &["localhost"]);
    let plain = Server::start();
    desk.config.certificate_authorities.push(authority);
    secure.always("/a", Fault::Redirect(302, plain.url("/a")));
    let error = desk.refuses(&secure.url("/a"), None);
    assert!(error.to_string().contains("which is not secure"), "{error}");
    assert_eq!(plain.connections(), 0);
}

#[test]
fn an_authority_that_cannot_be_read_is_named() {
    let mut desk = Desk::new();
    let (server, _) = server(&desk, &["localhost"]);
    desk.config
        .certificate_authorities
        .push(desk.path().join("missing.pem"));
    let error = desk.refuses(&server.url("/a"), None);
    assert!(matches!(error, FetchError::Download { .. }), "{error:?}");
    assert!(error.to_string().contains("missing.pem"), "{error}");
}
