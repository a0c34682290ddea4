//! `ADD` of what is elsewhere.

use std::path::Path;

use super::Kitchen;
use crate::support::http::Server;
use crate::support::{Build, Ran, tool};

/// Every file below a directory, under its path on the server.
fn serve(server: &Server, directory: &Path, path: &str) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let name = format!("{path}/{}", entry.file_name().to_string_lossy());
        match entry.file_type().unwrap().is_dir() {
            true => serve(server, &entry.path(), &name),
            false => server.put(&name, std::fs::read(entry.path()).unwrap()),
        }
    }
}

/// A git repository, and what a server has of it.
pub(super) struct Repository<'a>(&'a Kitchen);

impl<'a> Repository<'a> {
    pub(super) fn new(kitchen: &'a Kitchen) -> Self {
        std::fs::create_dir(kitchen.path("work")).unwrap();
        let repository = Self(kitchen);
        repository.git("git init --quiet --initial-branch=main");
        repository
    }

    /// Runs a script in it.
    pub(super) fn git(&self, script: &str) -> String {
        tool("git", "git");
        let mut shell = tool("sh", "dash");
        for who in ["AUTHOR", "COMMITTER"] {
            shell.env(format!("GIT_{who}_NAME"), "n");
            shell.env(format!("GIT_{who}_EMAIL"), "e");
        }
        shell.args(["-ec", script]).current_dir(self.0.path("work"));
        Ran::of(&mut shell).ends_with(0).stdout.trim().to_owned()
    }

    /// Commits what a script changes.
    pub(super) fn commit(&self, script: &str) -> String {
        let rest = "git add . && git commit --quiet --message=one && git rev-parse HEAD";
        self.git(&format!("{script}\n{rest}"))
    }

    /// Serves it at `/repo.git`.
    pub(super) fn serve(&self, server: &Server) {
        let bare = self.0.path("repo.git");
        if bare.exists() {
            std::fs::remove_dir_all(&bare).unwrap();
        }
        self.git("git clone --quiet --bare . ../repo.git");
        self.git("git -C ../repo.git update-server-info");
        serve(server, &bare, "/repo.git");
        let refs = std::fs::read(bare.join("info/refs")).unwrap();
        server.put("/repo.git/info/refs?service=git-upload-pack", refs);
    }
}

#[test]
fn files_of_repositories_and_servers() {
    let kitchen = Kitchen::new("");
    let server = Server::start();
    let script = "mkdir docs && echo text >docs/page && echo top >top && ln -s top link && \
        echo ignored >.vmfabignore";
    let repository = Repository::new(&kitchen);
    let commit = repository.commit(script);
    repository.git("git tag --annotate --message=one v1");
    repository.serve(&server);
    server.put("/file.txt", "from a server");
    let (repository, file) = (server.url("/repo.git"), server.url("/file.txt"));
    kitchen.write(&format!(
        "ADD {repository} /all\nADD {repository}#v1:docs /docs/\n\
         ADD --keep-git-dir=true {repository}#{commit} /kept\nADD {file} /files/\nADD --chmod=644 {file} /named\n\
         ADD --checksum=sha256:30bb0dffd46bfdebb63e98b2fe08e4afb03b9aa47e97c8011227278e89846573 {file} /summed\n\
         COPY list /\nRUN /list /all /docs /files /named /summed; cat /kept/.git/HEAD; ls -A /kept\n"
    ));
    let output = kitchen.output().replace(&commit, "COMMIT");
    insta::assert_snapshot!(output, @r#"
    d 755 0:0 /all
    f 644 0:0 /all/.vmfabignore ignored
    d 755 0:0 /all/docs
    f 644 0:0 /all/docs/page text
    l 777 0:0 /all/link top
    f 644 0:0 /all/top top
    d 755 0:0 /docs
    f 644 0:0 /docs/page text
    d 755 0:0 /files
    f 600 0:0 /files/file.txt from a server
    f 644 0:0 /named from a server
    f 600 0:0 /summed from a server
    COMMIT
    .git
    .vmfabignore
    docs
    link
    top
    "#);
    let wrong = "0".repeat(64);
    kitchen.write(&format!("ADD --checksum=sha256:{wrong} {file} /x"));
    let said = kitchen.fails(6);
    assert!(said.contains(&wrong), "{said}");
    let none = "0".repeat(40);
    let said = kitchen.refused(&format!("ADD {repository}#{none} /x"));
    assert!(said.contains("git fetch"), "{said}");
    let said = kitchen.refused(&format!("ADD {repository}#{commit}:none /x"));
    assert!(said.contains("no directory \"none\""), "{said}");
}

#[test]
fn a_repository_is_what_is_built() {
    let kitchen = Kitchen::new("COPY page /\nRUN cp /page /boot/vmlinuz && cat /page\n");
    let server = Server::start();
    let repository = Repository::new(&kitchen);
    let first = repository.commit(
        "mkdir vm && cp ../context/busybox ../context/base.sh vm/ && echo 1 >vm/page && \
         cp ../context/Dockerfile vm/Dockerfile.vibe && ln -s / root && mkdir linked ignoring && \
         ln -s /etc/passwd linked/Dockerfile && cp ../context/Dockerfile ignoring/ && \
         ln -s /etc/passwd ignoring/.dockerignore",
    );
    repository.serve(&server);
    let url = server.url("/repo.git");
    let build = |rest: &str| {
        let address = format!("{url}{rest}");
        Build::of(&mut kitchen.command(&["build", &address, "--json", "--no-service"]))
    };
    let built = build("#main:vm").succeeds();
    assert!(built.output().contains(&"1"), "{:?}", built.output());
    kitchen.run(&["image", "inspect", "@vibe"]).ends_with(0);

    // What a branch says is asked each time, and a commit stays what it is.
    repository.commit("echo 2 >vm/page");
    repository.serve(&server);
    let built = build("?branch=main&subdir=vm/Dockerfile.vibe").succeeds();
    assert!(built.output().contains(&"2"), "{:?}", built.output());
    let again = build(&format!("?commit={first}#:vm")).succeeds();
    assert!(again.started().is_empty(), "{:?}", again.started());

    for (rest, code, expected) in [
        ("#main:none", 3, "Dockerfile in the repository at \"none\""),
        (
            "#main:root/etc",
            3,
            "Dockerfile in the repository at \"root/etc\"",
        ),
        (
            "#main:linked",
            1,
            "linked/Dockerfile is a link that leads out",
        ),
        ("#main:ignoring", 1, "ignoring/.dockerignore is a link"),
        ("#none", 1, "no branch or tag \"none\""),
        ("?depth=1", 2, "\"depth\" is unknown"),
        (&format!("?commit={}#main", &first[..9]), 6, "not at"),
    ] {
        let said = kitchen.run(&["build", &format!("{url}{rest}")]);
        assert!(said.stderr.contains(expected), "{rest}: {}", said.stderr);
        said.ends_with(code);
    }
}

#[test]
fn references_of_repositories_stay_what_they_were() {
    let kitchen = Kitchen::new("");
    let server = Server::start();
    let repository = Repository::new(&kitchen);
    let first = repository.commit("echo 1 >file");
    repository.git("git tag v1 && git branch other");
    repository.serve(&server);
    let url = server.url("/repo.git");
    let short = &first[..8];
    // A round runs its last step anew.
    let write = |round: u32| {
        kitchen.write(&format!(
            "ADD {url} /head\nADD {url}#main /main\nADD {url}#{short} /short\n\
             ADD --checksum={short} {url}#v1 /tag\nCOPY list /\n\
             RUN /list /*/file # {round}\n"
        ));
    };
    write(1);
    let files = |of: [u32; 4]| {
        let [head, main, short, tag] = of;
        format!(
            "f 644 0:0 /head/file {head}\nf 644 0:0 /main/file {main}\n\
             f 644 0:0 /short/file {short}\nf 644 0:0 /tag/file {tag}"
        )
    };
    assert_eq!(kitchen.output(), files([1, 1, 1, 1]));

    kitchen.run(&["lock", "test.kdl"]).ends_with(0);
    let lock = || std::fs::read_to_string(kitchen.path("vmfab.lock")).unwrap();
    assert_eq!(lock().matches(&first).count(), 4, "{}", lock());

    // The repository goes on, and the lock does not.
    let second = repository.commit("echo 2 >file");
    repository.serve(&server);
    kitchen.run(&["lock", "test.kdl"]).ends_with(0);
    assert_eq!(lock().matches(&first).count(), 4, "{}", lock());
    let built = kitchen.build().succeeds();
    assert_eq!(built.output(), Vec::<String>::new());
    kitchen.run(&["update", "repo.git#main"]).ends_with(0);
    assert_eq!(lock().matches(&second).count(), 1, "{}", lock());
    write(2);
    assert_eq!(kitchen.output(), files([1, 2, 1, 1]));
    kitchen.run(&["update"]).ends_with(0);
    write(3);
    assert_eq!(kitchen.output(), files([2, 2, 1, 1]));

    let wrong = |instruction: &str| {
        kitchen.write(instruction);
        kitchen.fails(4)
    };
    let said = wrong(&format!("ADD {url}#none /x"));
    assert!(said.contains("no branch or tag \"none\""), "{said}");
    let said = wrong(&format!("ADD --checksum=1111111 {url}#v1 /x"));
    assert!(said.contains(&format!("is the commit {first}")), "{said}");
    let said = wrong(&format!("ADD --checksum=v1 {url}#v1 /x"));
    assert!(said.contains("\"v1\" is not a commit"), "{said}");
    let missing = server.url("/missing.git");
    kitchen.write(&format!("ADD {missing}#main /x"));
    let said = kitchen.run(&["build", "test.kdl"]);
    assert!(
        said.code == Some(1) && said.stderr.contains("ls-remote"),
        "{said:?}"
    );
}
