//! `ADD` of what is elsewhere.

use std::path::Path;

use super::Kitchen;
use crate::support::http::Server;
use crate::support::{Ran, tool};

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

#[test]
fn files_of_repositories_and_servers() {
    let kitchen = Kitchen::new("");
    let server = Server::start();
    let script = "git init --quiet --initial-branch=main work && cd work && mkdir docs && \
        echo text >docs/page && echo top >top && ln -s top link && echo ignored >.vmfabignore && git add . && \
        git -c user.name=n -c user.email=e commit --quiet --message=one && cd .. && \
        git clone --quiet --bare work repo.git && cd repo.git && git update-server-info && \
        git rev-parse HEAD";
    tool("git", "git");
    let mut shell = tool("sh", "dash");
    shell.args(["-ec", script]).current_dir(kitchen.path(""));
    let commit = Ran::of(&mut shell).ends_with(0).stdout;
    let commit = commit.trim();
    serve(&server, &kitchen.path("repo.git"), "/repo.git");
    let refs = std::fs::read(kitchen.path("repo.git/info/refs")).unwrap();
    server.put("/repo.git/info/refs?service=git-upload-pack", refs);
    server.put("/file.txt", "from a server");
    let (repository, file) = (server.url("/repo.git"), server.url("/file.txt"));
    kitchen.write(&format!(
        "ADD {repository}#{commit} /all\nADD {repository}#{commit}:docs /docs/\n\
         ADD --keep-git-dir=true {repository}#{commit} /kept\nADD {file} /files/\nADD --chmod=644 {file} /named\n\
         COPY list /\nRUN /list /all /docs /files /named; cat /kept/.git/HEAD; ls -A /kept\n"
    ));
    let output = kitchen.output().replace(commit, "COMMIT");
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
    COMMIT
    .git
    .vmfabignore
    docs
    link
    top
    "#);
    let none = "0".repeat(40);
    let said = kitchen.refused(&format!("ADD {repository}#{none} /x"));
    assert!(said.contains("git fetch"), "{said}");
    let said = kitchen.refused(&format!("ADD {repository}#{commit}:none /x"));
    assert!(said.contains("no directory \"none\""), "{said}");
}
