//! Killed processes, several at once, odd paths, damaged files.

use super::*;

#[test]
fn a_killed_qemu_leaves_a_stopped_machine() {
    let bench = Bench::new();
    let name = bench.boot();
    for process in bench.processes() {
        kill_process(process, Signal::KILL).unwrap();
    }
    wait_until("the end of QEMU", || {
        bench.entry(&name)["state"] == "stopped"
    });
    assert!(bench.machines().join(&name).join("qmp.sock").exists());
    let options = StartOptions {
        until: Until::Console,
        timeout: MOMENT,
    };
    let started = machine::start(&bench.context(), &name, options).unwrap();
    assert!(!started.was_running);
    assert_eq!(bench.entry(&name)["state"], "running");
}

#[test]
fn a_killed_vmfab_leaves_machines_that_can_be_handled() {
    let bench = Bench::new();
    for delay in (0..60).step_by(4) {
        let boot = ["boot", "@tiny", "--accel", "tcg", "--memory", "64M"];
        let boot = Running(bench.command(boot).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(delay));
        kill_process(boot.pid(), Signal::KILL).unwrap();
        drop(boot);
        let states = ["stopped", "starting", "running"];
        // A QEMU that was just being started is on its way for a moment.
        for _ in 0..100 {
            for entry in bench.list() {
                let name = entry["name"].as_str().unwrap();
                assert!(
                    states.contains(&entry["state"].as_str().unwrap()),
                    "{entry}"
                );
                bench.run(["rm", "--force", name]).ends_with(0);
            }
            if bench.processes().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(bench.processes(), []);
    }
    // What is left of a machine that was being made goes when the next one is made.
    bench.boot();
    assert_eq!(bench.directories(), ["tiny"]);
}

#[test]
fn starting_twice_at_once_starts_once() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.run(["stop", &name]).ends_with(0);
    let options = StartOptions {
        until: Until::Console,
        timeout: MOMENT,
    };
    let mut were_running = std::thread::scope(|scope| {
        let start = || {
            machine::start(&bench.context(), &name, options)
                .unwrap()
                .was_running
        };
        let threads = [scope.spawn(start), scope.spawn(start), scope.spawn(start)];
        threads.map(|thread| thread.join().unwrap())
    });
    were_running.sort_unstable();
    assert_eq!(were_running, [false, true, true]);
    assert_eq!(bench.processes().len(), 1);
}

#[test]
fn removing_twice_at_once_removes_once() {
    let bench = Bench::new();
    let name = bench.boot();
    let rm = || Running(bench.command(["rm", "--force", &name]).spawn().unwrap());
    let codes = [rm(), rm()].map(|running| running.finish().code.unwrap());
    assert!(codes == [0, 3] || codes == [3, 0], "{codes:?}");
    assert_eq!(bench.directories(), [""; 0]);
    assert_eq!(bench.processes(), []);
}

#[test]
fn the_path_of_the_home_may_be_long_and_odd() {
    let odd = "a, b=c \"d\" 'e' %h ~ ${x} \\ ,,";
    let long = format!("{odd}/{}/{}", "l".repeat(120), "m".repeat(120));
    for path in [odd, &long] {
        let bench = Bench::below(path);
        let name = bench.boot();
        assert_eq!(bench.entry(&name)["state"], "running");
        bench.say(&name, "hello", "hello");
        let ran = bench.with_fake_ssh(["ssh", &name, "true"]).ends_with(7);
        let machine = bench.machines().join(&name);
        assert_eq!(ran.stdout, format!("{}\n", machine.display()));
        let stopped = bench.run(["stop", &name]).ends_with(0);
        assert_eq!(stopped.stdout, "tiny: stopped\n");
        bench.run(["rm", &name]).ends_with(0);
    }
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_machine() {
    let bench = Bench::new();
    for (rm, left) in [(false, 1), (true, 0)] {
        let mut boot = bench.command(["boot", "@tiny", "--accel", "tcg"]);
        if rm {
            boot.arg("--rm");
        }
        // Ctrl-C goes to all processes of the terminal's foreground group.
        let boot = Running(boot.process_group(0).spawn().unwrap());
        bench.wait_for_log("tiny", "tiny: up");
        kill_process_group(boot.pid(), Signal::INT).unwrap();
        let ran = boot.finish().ends_with(130);
        if rm {
            ran.says("removed the machine");
        } else {
            ran.says("machine \"tiny\" keeps running: vmfab stop tiny stops it");
            assert_eq!(bench.entry("tiny")["state"], "running");
        }
        assert_eq!(bench.processes().len(), left);
        assert_eq!(bench.directories().len(), left);
        for name in bench.directories() {
            bench.run(["rm", "--force", &name]).ends_with(0);
        }
    }
}

#[test]
fn a_damaged_machine_can_be_seen_and_removed() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.run(["stop", &name]).ends_with(0);
    let config = bench.machines().join(&name).join("machine.json");
    fs::write(config, "{\"version\": 1").unwrap();
    assert_eq!(bench.entry(&name)["state"], "damaged");
    for command in ["start", "inspect", "ssh"] {
        let ran = bench.run([command, &name]).ends_with(1);
        ran.says("machine \"tiny\" is damaged: ")
            .says("remove the rest of it with vmfab rm --force tiny");
    }
    bench.run(["rm", &name]).ends_with(0);
}
