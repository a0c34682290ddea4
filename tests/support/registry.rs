//! Debian's registry (docker-registry) on a free port of this host, for one test.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::{Ran, tool};

/// Starts the registry `$1` with the configuration `$2`, logging to `$3`, and ends it when standard
/// input ends: also when the process of the tests was killed.
const CARETAKER: &str = r#"
"$1" serve "$2" > "$3" 2>&1 &
registry=$!
read -r _
kill "$registry"
wait "$registry"
exec rm -rf "$4"
"#;

/// What kind of registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistryOptions {
    /// With TLS, and a certificate for `localhost` and `127.0.0.1`.
    pub(crate) tls: bool,
    /// Names and passwords; everybody may do everything when there are none.
    pub(crate) users: Vec<(&'static str, &'static str)>,
}

/// A registry that lives until it is dropped. Blobs and manifests can be deleted.
pub(crate) struct Registry {
    port: u16,
    directory: TempDir,
    tls: bool,
    caretaker: Child,
}

impl Registry {
    /// An open registry without TLS.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with(&RegistryOptions::default())
    }

    /// A registry.
    #[track_caller]
    pub(crate) fn with(options: &RegistryOptions) -> Self {
        // Somebody else can get a port between the look and the use.
        for _ in 0..5 {
            if let Some(registry) = Self::try_start(options) {
                return registry;
            }
        }
        panic!("the registry did not start");
    }

    #[track_caller]
    fn try_start(options: &RegistryOptions) -> Option<Self> {
        let program = tool("docker-registry", "docker-registry");
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let (tls, auth) = (certificate(root, options.tls), users(root, &options.users));
        let storage = root.join("storage");
        let configuration = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\n\
             storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n  \
             maintenance:\n    uploadpurging:\n      enabled: false\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: test\n{tls}{auth}",
            storage.display()
        );
        let file = root.join("config.yml");
        fs::write(&file, configuration).unwrap();
        let caretaker = Command::new("/bin/sh")
            .args(["-c", CARETAKER, "caretaker"])
            .arg(program.get_program())
            .args([&file, &root.join("log"), root])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests, not for it.
            .process_group(0)
            .spawn()
            .unwrap();
        let registry = Self {
            port,
            tls: options.tls,
            directory,
            caretaker,
        };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            let log = fs::read_to_string(registry.log()).unwrap_or_default();
            if log.contains("address already in use") {
                return None;
            }
            assert!(!log.contains("level=fatal"), "{log}");
            if log.contains("listening on") && TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!(
            "the registry does not listen:\n{}",
            fs::read_to_string(registry.log()).unwrap_or_default()
        );
    }

    /// Host and port, as in references.
    pub(crate) fn address(&self) -> String {
        let host = if self.tls { "localhost" } else { "127.0.0.1" };
        format!("{host}:{}", self.port)
    }

    /// `HOST:PORT/NAME`.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The certificate authority of its certificate, when it has one.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    /// The file of a blob, whether it is there or not. It can be damaged.
    pub(crate) fn blob_file(&self, sha256: &str) -> PathBuf {
        let blobs = self.storage().join("blobs/sha256");
        blobs.join(&sha256[..2]).join(sha256).join("data")
    }

    /// Uploads that were begun, and neither finished nor cancelled.
    pub(crate) fn open_uploads(&self, name: &str) -> usize {
        let uploads = self
            .storage()
            .join("repositories")
            .join(name)
            .join("_uploads");
        let uploads = fs::read_dir(uploads).into_iter().flatten().flatten();
        // Of those that were cancelled the registry keeps a directory with the states of its
        // hashes.
        uploads
            .filter(|upload| upload.path().join("startedat").exists())
            .count()
    }

    fn storage(&self) -> PathBuf {
        self.directory.path().join("storage/docker/registry/v2")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.caretaker.stdin.take());
        let _ = self.caretaker.wait();
    }
}

/// The lines of the configuration for TLS, and the files.
fn certificate(root: &Path, tls: bool) -> String {
    if !tls {
        return String::new();
    }
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let (certificate_file, key_file) = (root.join("certificate.pem"), root.join("key.pem"));
    fs::write(&certificate_file, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        certificate_file.display(),
        key_file.display()
    )
}

/// The lines of the configuration for users, and the file.
#[track_caller]
fn users(root: &Path, users: &[(&str, &str)]) -> String {
    if users.is_empty() {
        return String::new();
    }
    let mut lines = String::new();
    for (user, password) in users {
        let mut command = tool("htpasswd", "apache2-utils");
        let mut child = command
            .args(["-niB", "-C", "4", user])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(password.as_bytes()).unwrap();
        drop(stdin);
        lines += &Ran::from(child.wait_with_output().unwrap())
            .ends_with(0)
            .stdout;
    }
    let file = root.join("users");
    fs::write(&file, lines).unwrap();
    format!(
        "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        file.display()
    )
}
