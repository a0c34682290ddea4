//! Whom to trust: the system's certificate authorities and those that the user names.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use super::error::HttpError;

/// TLS with the system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR`, or where the system keeps
/// them) and those in `files`, which are PEM. A file of the user's that cannot be used is an error; of
/// the system's, what can be used is. Without `verified`, whoever answers is believed.
pub(super) fn config(files: &[PathBuf], verified: bool) -> Result<TlsConfig, HttpError> {
    let mut authorities: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    for path in files {
        authorities.extend(read(path)?);
    }
    let provider = rustls::crypto::ring::default_provider();
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&authorities))
        .unversioned_rustls_crypto_provider(Arc::new(provider))
        .disable_verification(!verified)
        .build())
}

fn read(path: &PathBuf) -> Result<Vec<Certificate<'static>>, HttpError> {
    let wrong = |message: String| HttpError::Authorities {
        path: path.clone(),
        message,
    };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        found.push(Certificate::from_der(&certificate).to_owned());
    }
    if found.is_empty() {
        return Err(wrong(
            "no certificate is in it; it must be in PEM format".to_owned(),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.pem");
        let error = config(std::slice::from_ref(&missing), true).unwrap_err();
        assert!(error.to_string().contains("missing.pem"), "{error}");
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "nothing\n").unwrap();
        let error = config(&[empty], true).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}
