//! Whom to trust: the system's certificate authorities and those that the user names.

use std::path::PathBuf;

use reqwest::{Certificate, ClientBuilder};

use super::error::HttpError;

/// TLS with the system's authorities (on Linux `SSL_CERT_FILE` and `SSL_CERT_DIR`, or where the
/// system keeps them) and those in `files`, which are PEM. A file of the user's that cannot be used
/// is an error; of the system's, what can be used is. Without `verified`, whoever answers is
/// believed.
pub(super) fn with_authorities(
    client: ClientBuilder,
    files: &[PathBuf],
    verified: bool,
) -> Result<ClientBuilder, HttpError> {
    let read: Result<Vec<_>, _> = files.iter().map(read).collect();
    Ok(client
        .tls_danger_accept_invalid_certs(!verified)
        .tls_certs_merge(read?.into_iter().flatten()))
}

fn read(path: &PathBuf) -> Result<Vec<Certificate>, HttpError> {
    let wrong = |message: String| HttpError::Authorities {
        path: path.clone(),
        message,
    };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
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
        let with = |path| with_authorities(reqwest::Client::builder(), &[path], true);
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.pem");
        let error = with(missing).unwrap_err();
        assert!(error.to_string().contains("missing.pem"), "{error}");
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "nothing\n").unwrap();
        let error = with(empty).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}
