//! Lists of checksums, and who signed them.

use std::fs;
use std::path::{Path, PathBuf};

use vmfab::failure::Kind;
use vmfab::source::{ChecksumsRequest, FetchError, Resolved, Signature, Source};

use super::{Desk, noise, sha256};
use crate::support::http::{Fault, Server};
use crate::support::{Ran, tool};

/// Keys of somebody who signs, made by GnuPG.
struct Signer {
    home: tempfile::TempDir,
}

impl Signer {
    fn new(name: &str) -> Self {
        let signer = Self {
            home: tempfile::tempdir().unwrap(),
        };
        signer.gpg(&[
            "--passphrase",
            "",
            "--quick-generate-key",
            name,
            "ed25519",
            "sign",
            "never",
        ]);
        signer
    }

    fn gpg(&self, arguments: &[&str]) -> Ran {
        let mut command = tool("gpg", "gnupg");
        command.arg("--homedir").arg(self.home.path());
        command.args(["--batch", "--quiet"]);
        Ran::of(command.args(arguments)).ends_with(0)
    }

    /// The public key in a file.
    fn key_ring(&self, armored: bool) -> PathBuf {
        let path = self
            .home
            .path()
            .join(if armored { "keys.asc" } else { "keys.gpg" });
        let mut arguments = vec!["--yes", "--output", path.to_str().unwrap()];
        if armored {
            arguments.push("--armor");
        }
        arguments.push("--export");
        self.gpg(&arguments);
        path
    }

    fn sign(&self, bytes: &[u8], armored: bool) -> Vec<u8> {
        let (file, signature) = (
            self.home.path().join("list"),
            self.home.path().join("list.sig"),
        );
        fs::write(&file, bytes).unwrap();
        let mut arguments = vec!["--yes", "--output", signature.to_str().unwrap()];
        if armored {
            arguments.push("--armor");
        }
        arguments.extend(["--detach-sign", file.to_str().unwrap()]);
        self.gpg(&arguments);
        fs::read(signature).unwrap()
    }

    fn fingerprint(&self) -> String {
        let listing = self.gpg(&["--with-colons", "--list-keys"]).stdout;
        let line = listing
            .lines()
            .find(|line| line.starts_with("fpr:"))
            .unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // The agent of these keys, and no other.
        let mut command = tool("gpgconf", "gnupg");
        let _ = command
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "gpg-agent"])
            .output();
    }
}

fn resolve(
    desk: &Desk,
    server: &Server,
    signature: Option<(&str, &Path)>,
) -> Result<Resolved, FetchError> {
    let source = |path: &str| Source::new(&server.url(path)).unwrap();
    let (file, list) = (source("/x/disk.img"), source("/x/SHA256SUMS"));
    let signed = signature.map(|(path, keyring)| (source(path), keyring));
    desk.fetcher().resolve(&ChecksumsRequest {
        source: &file,
        list: &list,
        signature: signed
            .as_ref()
            .map(|(source, keyring)| Signature { source, keyring }),
    })
}

/// A server with a file and a list that names it.
fn published(bytes: &[u8]) -> (Server, String) {
    let server = Server::start();
    let list = format!(
        "{} *disk.img\n{} *other.img\n",
        sha256(bytes).hex(),
        sha256(b"").hex()
    );
    server.put("/x/disk.img", bytes);
    server.put("/x/SHA256SUMS", list.clone());
    (server, list)
}

#[test]
fn a_list_tells_the_checksum_and_the_server_the_size() {
    let (desk, bytes) = (Desk::new(), noise(1, 5000));
    let (server, _) = published(&bytes);
    server.next("/x/SHA256SUMS", Fault::Status(503, None));
    let resolved = resolve(&desk, &server, None).unwrap();
    assert_eq!(
        resolved,
        Resolved {
            checksum: sha256(&bytes),
            size: Some(5000),
            signed_by: None
        }
    );
    assert_eq!(
        server.asked(),
        ["GET /x/SHA256SUMS", "GET /x/SHA256SUMS", "HEAD /x/disk.img"]
    );
    // The size is good to know and not needed.
    server.next("/x/disk.img", Fault::Status(405, None));
    assert_eq!(resolve(&desk, &server, None).unwrap().size, None);
}

#[test]
fn lists_that_do_not_help() {
    let (mut desk, server) = (Desk::new(), Server::start());
    let error = resolve(&desk, &server, None).unwrap_err();
    assert!(matches!(error, FetchError::Download { .. }), "{error}");
    server.put(
        "/x/SHA256SUMS",
        format!("{}  disk.iso\n", sha256(b"").hex()),
    );
    let error = resolve(&desk, &server, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Verification);
    assert_eq!(
        error.to_string(),
        format!(
            "{}: the list has no checksum of disk.img; it has disk.iso",
            server.url("/x/SHA256SUMS")
        )
    );
    server.put("/x/SHA256SUMS", vec![b'x'; 17 << 20]);
    let error = resolve(&desk, &server, None).unwrap_err();
    assert!(
        error.to_string().contains("more than 16777216 bytes"),
        "{error}"
    );
    let connections = server.connections();
    desk.offline = true;
    let error = resolve(&desk, &server, None).unwrap_err();
    assert!(matches!(&error, FetchError::Offline { url, .. } if url.ends_with("SHA256SUMS")));
    assert_eq!(server.connections(), connections);
}

#[test]
fn lists_come_from_mirrors_too() {
    let (mut desk, bytes) = (Desk::new(), noise(2, 10));
    let (mirror, _) = published(&bytes);
    let origin = Server::start();
    desk.mirror(&origin.url("/"), &mirror.url("/"), true);
    let resolved = resolve(&desk, &origin, None).unwrap();
    assert_eq!(
        (resolved.checksum, resolved.size),
        (sha256(&bytes), Some(10))
    );
    assert_eq!(origin.connections(), 0);
}

#[test]
fn signatures_of_every_form() {
    let (desk, bytes) = (Desk::new(), noise(3, 10));
    let (server, list) = published(&bytes);
    let signer = Signer::new("Publisher <publisher@example.org>");
    for armored in [false, true] {
        server.put("/x/SHA256SUMS.gpg", signer.sign(list.as_bytes(), armored));
        let signature = Some(("/x/SHA256SUMS.gpg", &*signer.key_ring(armored)));
        let resolved = resolve(&desk, &server, signature).unwrap();
        assert_eq!(resolved.checksum, sha256(&bytes));
        assert_eq!(resolved.signed_by, Some(signer.fingerprint()));
    }
}

/// What is wrong with the signature.
#[track_caller]
fn flaw(result: Result<Resolved, FetchError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Verification, "{error}");
    error.to_string()
}

#[test]
fn signatures_that_prove_nothing() {
    let (desk, bytes) = (Desk::new(), noise(4, 10));
    let (server, list) = published(&bytes);
    let (signer, other) = (Signer::new("Publisher"), Signer::new("Somebody Else"));
    let (keyring, others) = (signer.key_ring(false), other.key_ring(true));
    let path = "/x/SHA256SUMS.gpg";
    let check = |keyring: &Path| resolve(&desk, &server, Some((path, keyring)));
    // None there.
    assert!(matches!(check(&keyring), Err(FetchError::Download { .. })));
    server.put(path, signer.sign(list.as_bytes(), false));
    let unknown = flaw(check(&others));
    let key = unknown.split("it is by key ").nth(1).expect(&unknown);
    let key = key.split(',').next().unwrap();
    assert!(
        key.len() >= 16 && signer.fingerprint().ends_with(key),
        "{unknown}"
    );
    server.put(path, signer.sign(b"another list", false));
    let changed = flaw(check(&keyring));
    assert!(changed.contains("changed after it was signed"), "{changed}");
    server.put(path, "<html>not found</html>");
    let page = flaw(check(&keyring));
    assert!(page.contains("it is no OpenPGP signature"), "{page}");
    // Key rings that are none.
    let empty = desk.path().join("empty.gpg");
    fs::write(&empty, "").unwrap();
    let none = flaw(check(&empty));
    assert!(none.contains("empty.gpg is no key ring"), "{none}");
    let error = check(&desk.path().join("missing.gpg")).unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().contains("missing.gpg"), "{error}");
}
