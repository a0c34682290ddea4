//! Guests that are halted, a QEMU that hangs, and guests that cannot be entered.

use std::os::unix::net::UnixStream;

use super::*;

/// The file system of the home is full: the guest is halted, and goes on when there is room.
/// Nothing that only reads needs any.
#[test]
fn a_full_disk_halts_the_guest_and_stops_no_reading() {
    let bench = Bench::new();
    let script = r#"
        cd "$1" && mkdir small && mount -t tmpfs -o size=24m none small && cp -r home small/home || exit 9
        export VMFAB_HOME="$1/small/home" PATH="$PATH:/usr/sbin:/sbin"
        run() { name=$1; shift; "$vmfab" "$@" > "$name.out" 2> "$name.err" </dev/null; echo "$name $?"; }
        wait_for() {
            for try in $(seq 600); do
                "$vmfab" list --json | grep -q "\"$1\"" && break
                sleep 0.1
            done
            echo "state $1 $("$vmfab" list --json | grep -c "\"$1\"")"
        }
        write() { (printf W; sleep 2) | timeout 2 "$vmfab" console tiny > /dev/null 2>&1; }
        vmfab=$2
        run boot boot @tiny --overcommit --accel tcg --memory 64M --cpus 1 --timeout 3
        dd if=/dev/zero of=small/filler bs=4k 2> /dev/null
        write
        wait_for disk-full
        run inspect inspect tiny
        run start start tiny
        run resume resume tiny
        run ssh ssh tiny true
        run images images
        run image image inspect @tiny
        run stat store stat
        run verify store verify
        run plan plan debian-12
        run doctor doctor
        rm small/filler
        run again resume tiny
        wait_for running
        run twice resume tiny
        for try in $(seq 100); do grep -q written small/home/machines/tiny/console.log && break; sleep 0.1; done
        grep -c written small/home/machines/tiny/console.log
        dd if=/dev/zero of=small/filler bs=4k 2> /dev/null
        write
        wait_for disk-full
        run stop stop tiny
        wait_for stopped
        run stopped resume tiny
    "#;
    let directory = bench.directory.path();
    let mut command = support::tool("unshare", "util-linux");
    command.args([
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.args(["sh", "-c", script, "sh"]);
    command.arg(directory).arg(env!("CARGO_BIN_EXE_vmfab"));
    let ran = Ran::from(command.output().unwrap());
    let expected = [
        "boot 1",
        "state disk-full 1",
        "inspect 0",
        "start 1",
        "resume 1",
        "ssh 1",
        "images 0",
        "image 0",
        "stat 0",
        "verify 0",
        "plan 0",
        "doctor 5",
        "again 0",
        "state running 1",
        "twice 0",
        "1",
        "state disk-full 1",
        "stop 0",
        "state stopped 1",
        "stopped 1",
    ];
    assert_eq!(
        ran.stdout.lines().collect::<Vec<_>>(),
        expected,
        "{}",
        ran.stderr
    );
    let said = |name: &str, end: &str| {
        fs::read_to_string(directory.join(name).with_extension(end)).unwrap()
    };
    for command in ["start", "resume", "ssh"] {
        let said = said(command, "err");
        assert!(
            said.contains("machine \"tiny\" is paused: no space left on "),
            "{said}"
        );
        assert!(
            said.contains("vmfab store gc") && said.contains("vmfab resume tiny"),
            "{said}"
        );
    }
    assert!(said("inspect", "out").contains("paused until space is free"));
    assert!(said("doctor", "out").contains("no space left on "));
    assert!(said("image", "out").contains("tags:         @tiny"));
    assert!(said("stat", "out").contains("@tiny") && !said("stat", "out").contains("missing"));
    assert_eq!(said("again", "out"), "tiny: resumed\n");
    assert_eq!(said("twice", "out"), "tiny: was already running\n");
    assert_eq!(said("stop", "out"), "tiny: forced to stop\n");
    assert!(said("stopped", "err").contains("vmfab start tiny starts it"));
}

#[test]
fn a_qemu_that_hangs_is_killed() {
    let bench = Bench::new();
    let name = bench.boot();
    let qemu = bench.processes();
    for process in &qemu {
        kill_process(*process, Signal::STOP).unwrap();
    }
    // More clients than QEMU lets wait: the next one cannot even connect.
    let socket = bench.machines().join(&name).join("qmp.sock");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| UnixStream::connect(&socket));
        }
        bench
            .run(["start", &name])
            .ends_with(1)
            .says("vmfab stop --force tiny kills it");
        assert_eq!(bench.entry(&name)["state"], "unresponsive");
        let stopped = bench.run(["stop", "--timeout", "1", &name]).ends_with(0);
        assert_eq!(stopped.stdout, "tiny: forced to stop\n");
    });
    assert_eq!(bench.processes(), []);
    assert_eq!(bench.entry(&name)["state"], "stopped");
}

/// Runs the program with an `ssh` that is a script.
pub(super) fn with_ssh<const N: usize>(bench: &Bench, script: &str, arguments: [&str; N]) -> Ran {
    with_ssh_in(bench, bench.directory.path(), script, arguments)
}

/// The same in a directory.
pub(super) fn with_ssh_in<const N: usize>(
    bench: &Bench,
    directory: &Path,
    script: &str,
    arguments: [&str; N],
) -> Ran {
    let bin = bench.directory.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    write_program(&bin.join("ssh"), &format!("#!/bin/sh\n{script}\n"));
    let mut command = bench.command(arguments);
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    Ran::from(command.current_dir(directory).output().unwrap())
}

#[test]
fn why_a_machine_cannot_be_entered() {
    let bench = Bench::new();
    let changed = "echo 'Host key verification failed.' >&2; exit 255";
    let ran = with_ssh(
        &bench,
        changed,
        ["boot", "@tiny", "--accel", "tcg", "--memory", "64M"],
    );
    ran.ends_with(1)
        .says("machine \"tiny\" has a new host key")
        .says("vmfab ssh --accept-new-host-key tiny");
    let known = bench.machines().join("tiny/known_hosts");
    fs::write(&known, "old").unwrap();
    // A session, too, ends with more than what ssh says of it.
    with_ssh(&bench, changed, ["ssh", "tiny", "true"])
        .ends_with(255)
        .says("machine \"tiny\" has a new host key")
        .says("vmfab ssh --accept-new-host-key tiny");
    let unreachable = "echo 'Connection refused' >&2; exit 255";
    let ran = with_ssh(&bench, unreachable, ["ssh", "tiny", "true"]).ends_with(255);
    assert!(!ran.stderr.contains("host key"), "{ran:#?}");
    with_ssh(&bench, "kill -TERM $$", ["ssh", "tiny", "true"]).ends_with(128 + 15);
    let session = ["ssh", "--accept-new-host-key", "tiny", "true"];
    with_ssh(&bench, "exec test ! -e known_hosts", session).ends_with(0);

    bench.run(["stop", "--force", "tiny"]).ends_with(0);
    // The last attempt says nothing before the time is over.
    let once = "if mkdir said 2>/dev/null; then echo 'no route to nowhere' >&2; exit 255; fi; exec sleep 100";
    let ran = with_ssh(&bench, once, ["start", "tiny", "--timeout", "3"]);
    ran.ends_with(1).says("ssh said: no route to nowhere");
}
