//! An archive of Debian packages, made for a test and served over HTTP.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Ran, tool};

/// A flat archive of packages without content. The server's thread ends with the tests.
#[derive(Debug)]
pub(crate) struct Archive {
    directory: TempDir,
    port: u16,
}

/// A package in the archive.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

impl Archive {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let root = directory.path().to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let root = root.clone();
                std::thread::spawn(move || serve(&stream, &root));
            }
        });
        let archive = Self { directory, port };
        archive.index();
        archive
    }

    /// The address, with `/` at its end.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn file(&self, name: &str, version: &str) -> PathBuf {
        self.directory
            .path()
            .join(format!("{name}_{version}_all.deb"))
    }

    /// Adds a package; its file is what a recipe can ask it for: `/usr/share/NAME`, with its
    /// version. It has a configuration file, too: `/etc/NAME.conf`.
    pub(crate) fn publish(&self, name: &str, version: &str, depends: &str) -> Published {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let depends = match depends {
            "" => String::new(),
            depends => format!("Depends: {depends}\n"),
        };
        write(
            "DEBIAN/control",
            &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\n{depends}\
                 Maintainer: Nobody <nobody@example.org>\nDescription: a package for a test\n"
            ),
        );
        write(&format!("usr/share/{name}"), &format!("{version}\n"));
        write(&format!("etc/{name}.conf"), "of the package\n");
        write("DEBIAN/conffiles", &format!("/etc/{name}.conf\n"));
        let file = self.file(name, version);
        let mut build = tool("dpkg-deb", "dpkg");
        let build = build.args(["--root-owner-group", "--build"]);
        // A file as old as the step that installs it would have its time set by that step.
        build.env("SOURCE_DATE_EPOCH", "1577836800");
        Ran::of(build.arg(tree.path()).arg(&file)).ends_with(0);
        self.index();
        Published {
            sha256: sha256(&file),
            size: fs::metadata(&file).unwrap().len(),
        }
    }

    /// Removes a package, as archives do with old versions.
    pub(crate) fn withdraw(&self, name: &str, version: &str) {
        fs::remove_file(self.file(name, version)).unwrap();
        self.index();
    }

    fn index(&self) {
        let root = self.directory.path();
        let mut index = String::new();
        let entries = fs::read_dir(root).unwrap().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            if file.extension().is_none_or(|extension| extension != "deb") {
                continue;
            }
            let mut control = tool("dpkg-deb", "dpkg");
            let control = Ran::of(control.arg("--field").arg(&file)).ends_with(0);
            index += &format!(
                "{}Filename: ./{}\nSize: {}\nSHA256: {}\n\n",
                control.stdout,
                file.file_name().unwrap().to_str().unwrap(),
                fs::metadata(&file).unwrap().len(),
                sha256(&file)
            );
        }
        fs::write(root.join("Packages"), &index).unwrap();
        let digest = sha256(&root.join("Packages"));
        let length = index.len();
        fs::write(
            root.join("Release"),
            format!(
                "Suite: test\nDate: Wed, 01 Jan 2020 00:00:00 UTC\n\
                 SHA256:\n {digest} {length} Packages\n"
            ),
        )
        .unwrap();
    }
}

fn sha256(path: &Path) -> String {
    let ran = Ran::of(tool("sha256sum", "coreutils").arg(path)).ends_with(0);
    ran.stdout.split_whitespace().next().unwrap().to_owned()
}

/// Answers one request with a file, or with 404.
fn serve(mut stream: &TcpStream, root: &Path) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    // The whole request is read before it is answered.
    lines.by_ref().take_while(|line| !line.is_empty()).count();
    let path = first.split(' ').nth(1).unwrap_or_default();
    let name = path.trim_start_matches(['/', '.']);
    let name = name.replace("%2b", "+").replace("%7e", "~");
    let (status, body) = match fs::read(root.join(name)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body);
}
