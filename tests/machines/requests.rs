//! What can be asked for, and what cannot: ports, acceleration, wrong arguments.

use super::*;

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_left() {
    let bench = Bench::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let forward = format!("{port}:80");
    bench
        .run(["boot", "@tiny", "--accel", "tcg", "--port", &forward])
        .ends_with(1)
        .says(&format!(
            "cannot forward port {port} of 127.0.0.1: address in use"
        ));
    assert_eq!(bench.directories(), [""; 0]);
    let twice = ["-p", &forward, "-p", &forward];
    let mut boot = bench.command(["boot", "@tiny"]);
    Ran::from(boot.args(twice).output().unwrap())
        .ends_with(2)
        .says("two forwards use port");
}

#[test]
fn the_port_for_ssh_is_chosen_anew_when_it_is_taken() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.run(["stop", &name]).ends_with(0);
    let before = bench.entry(&name)["ssh"]["port"].as_u64().unwrap();
    let before = u16::try_from(before).unwrap();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, before)).unwrap();
    let options = StartOptions {
        until: Until::Console,
        timeout: MOMENT,
    };
    let started = machine::start(&bench.context(), &name, options).unwrap();
    assert_ne!(started.ssh.port, before);
    assert_eq!(bench.entry(&name)["ssh"]["port"], started.ssh.port);
}

#[test]
fn ports_of_the_image_are_forwarded_unless_told_otherwise() {
    let bench = Bench::new();
    let (one, other) = (free_port(), free_port());
    bench.image("served", &tiny_kernel(), |config| {
        config.template.ports = vec![
            vmfab::image::Port {
                guest: 80,
                host: Some(one),
                protocol: Default::default(),
                address: None,
            },
            vmfab::image::Port {
                guest: 443,
                host: None,
                protocol: Default::default(),
                address: None,
            },
        ];
    });
    let context = bench.context();
    let image = images::find(&context, "served").unwrap();
    let as_the_image = machine::boot(&context, &image, &Bench::options()).unwrap();
    let asked = vmfab::machine::Forwarded::tcp(other, 80);
    let options = BootOptions {
        ports: vec![asked],
        ..Bench::options()
    };
    let as_asked = machine::boot(&context, &image, &options).unwrap();
    let hosts = |booted: machine::Booted| {
        let ports = booted.ports.iter();
        ports.map(|port| port.host).collect::<Vec<_>>()
    };
    assert_eq!(hosts(as_the_image), [one]);
    assert_eq!(hosts(as_asked), [other]);
}

#[test]
fn what_qemu_says_is_shown_and_nothing_is_left() {
    let bench = Bench::new();
    bench.image("broken", b"this is no kernel", |_| {});
    bench
        .run(["boot", "@broken", "--accel", "tcg"])
        .ends_with(1)
        .says("QEMU exited with code 1")
        .says("invalid kernel header");
    assert_eq!(bench.directories(), [""; 0]);
}

#[test]
fn wrong_requests() {
    let bench = Bench::new();
    bench.boot();
    bench.image("foreign", &tiny_kernel(), |config| {
        config.template.architecture = "sparc".parse().unwrap();
    });
    bench.image("bare", &tiny_kernel(), |config| config.kernel = None);
    for (code, arguments, what) in [
        (3, &["stop", "tini"][..], "did you mean \"tiny\"?"),
        (3, &["ssh", "../x"], "no machine \"../x\" found"),
        (3, &["boot", "@tini"], "did you mean \"tiny\"?"),
        (1, &["boot", "@foreign"], "image \"foreign\" is for sparc"),
        (
            1,
            &["boot", "@bare"],
            "image \"bare\" has no kernel of its own",
        ),
        (
            1,
            &["boot", "@tiny", "--firmware", "uefi"],
            "image \"tiny\" has no boot loader for UEFI",
        ),
        (
            1,
            &["boot", "@tiny", "--name", "tiny"],
            "machine \"tiny\" already exists",
        ),
        (
            1,
            &["boot", "@tiny", "--disk-size", "512K"],
            "is smaller than the image's disk of 1M",
        ),
        (2, &["boot", "@tiny", "--name", ".x"], "--name"),
        (2, &["boot", "@tiny", "--memory", "1"], "such as 512M"),
        (
            2,
            &["boot", "@tiny", "-p", "80"],
            "write [ADDRESS:]HOST:GUEST",
        ),
        (
            5,
            &["boot", "@tiny", "--accel", "hvf"],
            "exists only on macOS",
        ),
    ] {
        let ran = Ran::from(bench.command(arguments).output().unwrap());
        ran.ends_with(code).says(what);
    }
    assert_eq!(bench.directories(), ["tiny"]);
}

/// A QEMU whose KVM never works, before the real one.
fn qemu_without_kvm(directory: &Path) {
    let real = vmfab::host::require(vmfab::host::Program::QemuSystem)
        .expect("QEMU is missing: install the package qemu-system-x86");
    let path = directory.join(real.file_name().unwrap());
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'-accel kvm'*)\n\
         echo 'KVM internal error. Suberror: 1' >&2; exit 1;;\nesac\nexec {} \"$@\"\n",
        real.display()
    );
    write_program(&path, &script);
}

#[test]
fn acceleration_that_does_not_work_is_tried_once() {
    let has_kvm = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    let bench = Bench::new();
    let bin = bench.home.join("bin");
    fs::create_dir(&bin).unwrap();
    qemu_without_kvm(&bin);
    let path = std::env::var("PATH").unwrap();
    let boot = |arguments: &[&str]| {
        let mut boot = bench.command(["boot", "@tiny", "--rm", "--timeout", "2"]);
        boot.args(arguments);
        boot.env("PATH", format!("{}:{path}", bin.display()));
        Ran::from(boot.output().unwrap())
    };

    let warned = [boot(&[]), boot(&[])].map(|ran| {
        let ran = ran.ends_with(1).says("tiny: up");
        ran.stderr.contains("KVM does not work on this host")
    });
    assert_eq!(warned, [has_kvm, false]);
    let ran = boot(&["--accel", "kvm"]);
    if has_kvm {
        ran.ends_with(1)
            .says("KVM does not work on this host: KVM internal error. Suberror: 1");
    } else {
        ran.ends_with(5).says("cannot use KVM: open /dev/kvm");
    }
    assert_eq!(bench.directories(), [""; 0]);
}

#[test]
fn connections_to_the_metadata_service_are_answered_by_few_processes() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("metadata.json"),
        "{\"meta-data/hostname\": \"web\"}",
    )
    .unwrap();
    let connect = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmfab"));
        command
            .args(["__metadata", "metadata.json"])
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running(command.spawn().unwrap())
    };
    let mut waiting: Vec<Running> = (0..40).map(|_| connect()).collect();
    let mut ended = Vec::new();
    wait_until("the refusal of those that are too many", || {
        for at in (0..waiting.len()).rev() {
            if waiting[at].0.try_wait().unwrap().is_some() {
                ended.push(waiting.remove(at));
            }
        }
        ended.len() == 24
    });
    for refused in ended {
        let refused = refused.finish().ends_with(0);
        assert!(refused.stdout.starts_with("HTTP/1.1 503 "), "{refused:#?}");
    }
    for mut one in waiting {
        let request = b"GET /latest/meta-data/hostname HTTP/1.1\r\n\r\n";
        one.0.stdin.take().unwrap().write_all(request).unwrap();
        let answered = one.finish().ends_with(0);
        assert!(answered.stdout.ends_with("\r\n\r\nweb"), "{answered:#?}");
    }
}
