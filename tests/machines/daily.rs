//! What people do with a machine all day long.

use super::*;

/// In a real machine that runs: commands, files, ports, its screen, and waiting.
pub(super) fn work(bench: &Bench, name: &str) {
    commands(bench, name);
    files(bench, name);
    ports(bench, name);
    waiting(bench, name);
    let screen = bench.directory.path().join("screen.png");
    let screen = screen.to_str().unwrap();
    bench.run(["screenshot", name, screen]).ends_with(0);
    assert!(fs::read(screen).unwrap().starts_with(b"\x89PNG\r\n"));
    let missing = bench.run(["screenshot", name, "/nonexistent/screen.png"]);
    missing.ends_with(1).says("/nonexistent/screen.png");
}

fn commands(bench: &Bench, name: &str) {
    let words = bench.run(["exec", name, "--", "printf", "%s|", "a b", "$HOME", "it's"]);
    assert_eq!(words.ends_with(0).stdout, "a b|$HOME|it's|");
    bench
        .run(["exec", name, "--", "sh", "-c", "exit 7"])
        .ends_with(7);
    let root = bench.run(["exec", "--user", "root", name, "--", "id", "-u"]);
    assert_eq!(root.ends_with(0).stdout, "0\n");
    let mut cat = bench.command(["exec", "-i", name, "--", "cat"]);
    let mut cat = Running(cat.stdin(Stdio::piped()).spawn().unwrap());
    cat.0.stdin.take().unwrap().write_all(b"typed").unwrap();
    assert_eq!(cat.finish().ends_with(0).stdout, "typed");
    let agent = bench
        .run(["exec", "--agent", name, "--", "true"])
        .ends_with(1);
    agent.says("qemu-guest-agent");
    bench.run(["exec", "gone", "--", "true"]).ends_with(3);
}

fn files(bench: &Bench, name: &str) {
    let here = bench.directory.path().join("files");
    fs::create_dir_all(here.join("tree/inner dir")).unwrap();
    let bytes: Vec<u8> = (0..3 << 20).map(|at: u32| (at ^ (at >> 8)) as u8).collect();
    fs::write(here.join("tree/inner dir/data"), &bytes).unwrap();
    fs::write(here.join("one"), "one\n").unwrap();
    let cp = |arguments: &[&str]| {
        let mut command = bench.command(["cp"]);
        Ran::from(command.args(arguments).current_dir(&here).output().unwrap())
    };
    let guest = |path: &str| format!("{name}:{path}");
    cp(&["./tree", &guest("/tmp")]).ends_with(0);
    cp(&["one", &guest("/tmp/tree/renamed")]).ends_with(0);
    cp(&[&guest("/tmp/tree"), "back"]).ends_with(0);
    assert_eq!(fs::read(here.join("back/inner dir/data")).unwrap(), bytes);
    assert_eq!(
        fs::read_to_string(here.join("back/renamed")).unwrap(),
        "one\n"
    );
    // Into a directory that exists, under its own name; and only what is in it.
    cp(&[&guest("/tmp/tree/inner dir"), "back"]).ends_with(0);
    cp(&[&guest("/tmp/tree/."), "content"]).ends_with(0);
    assert!(here.join("back/inner dir/data").exists());
    assert!(here.join("content/renamed").exists());

    let archive = bench
        .command(["cp", &guest("/tmp/tree"), "-"])
        .output()
        .unwrap();
    let names = support::tool("tar", "tar")
        .arg("t")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut names = names.unwrap();
    names
        .stdin
        .take()
        .unwrap()
        .write_all(&archive.stdout)
        .unwrap();
    let listed = String::from_utf8(names.wait_with_output().unwrap().stdout).unwrap();
    assert!(listed.contains("tree/inner dir/data"), "{listed}");
    let mut unpack = bench.command(["cp", "-", &guest("/var/tmp")]);
    let mut unpack = Running(unpack.stdin(Stdio::piped()).spawn().unwrap());
    unpack
        .0
        .stdin
        .take()
        .unwrap()
        .write_all(&archive.stdout)
        .unwrap();
    unpack.finish().ends_with(0);
    cp(&[&guest("/var/tmp/tree/renamed"), &guest("again")]).ends_with(0);
    let again = bench.run(["exec", name, "--", "cat", "again"]);
    assert_eq!(again.ends_with(0).stdout, "one\n");

    for (from, to, code, why) in [
        (
            guest("/nonexistent"),
            ".".to_owned(),
            1,
            "/nonexistent: no such file or directory",
        ),
        (
            "one".to_owned(),
            guest("/nonexistent/one"),
            1,
            "/nonexistent: no such directory",
        ),
        ("one".to_owned(), guest("/etc/one"), 1, "Permission denied"),
        (
            "gone".to_owned(),
            guest("/tmp"),
            3,
            "no file or directory \"gone\" found",
        ),
        ("one".to_owned(), "two".to_owned(), 2, "in a machine"),
        (
            "one".to_owned(),
            "gone:/tmp".to_owned(),
            3,
            "no machine \"gone\" found",
        ),
    ] {
        cp(&[&from, &to]).ends_with(code).says(why);
    }
    // A hostile guest: names that were not asked for, and a link out of the directory.
    let script = "mkdir -p evil && cd evil && ln -s / out && cp /bin/tar tar.real && \
        printf '#!/bin/sh\\ntouch asked .other && exec /bin/tar -cf - .other asked\\n' > tar && \
        chmod +x tar && sudo cp tar /usr/local/bin/tar";
    bench
        .run(["exec", name, "--", "sh", "-c", script])
        .ends_with(0);
    fs::create_dir(here.join("in")).unwrap();
    cp(&[&guest("evil/asked"), "in"]);
    assert!(!here.join("in/.other").exists());
    let remove = ["exec", name, "--", "sudo", "rm", "/usr/local/bin/tar"];
    bench.run(remove).ends_with(0);
}

fn ports(bench: &Bench, name: &str) {
    let port = free_port();
    let rule = format!("{port}:22");
    bench.run(["port", name, "--add", &rule]).ends_with(0);
    let banner = || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        let mut banner = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut banner).ok()?;
        Some(banner)
    };
    assert_eq!(banner(), Some(*b"SSH-"));
    let again = bench.run(["port", name, "-p", &rule]).ends_with(1);
    again.says("already forwards");
    let ports = bench.run(["port", name, "--json"]).ends_with(0).json();
    let last = ports.as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (last["host"].as_u64(), &last["active"]),
        (Some(port.into()), &true.into())
    );
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = held.local_addr().unwrap().port().to_string();
    let refused = bench.run(["port", name, "--add", &format!("{taken}:80")]);
    refused.ends_with(1).says("cannot forward port");
    bench.run(["port", name, "--remove", &taken]).ends_with(3);
    bench
        .run(["port", name, "--remove", &port.to_string()])
        .ends_with(0);
    assert_eq!(banner(), None);
}

fn waiting(bench: &Bench, name: &str) {
    let all = ["wait", name, "--boot", "--service", "ssh", "--port", "22"];
    let waited = bench.run(all).ends_with(0);
    assert!(waited.stdout.contains("ready after"), "{waited:#?}");
    let service = ["wait", name, "--service", "nope", "--timeout", "9"];
    bench.run(service).ends_with(1).says("has no service nope");
    let port = ["wait", name, "--port", "81", "--timeout", "9"];
    bench
        .run(port)
        .ends_with(1)
        .says("did not reach port 81 within 9 s");
}
