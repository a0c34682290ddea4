//! What a step must not find out about its caller, and must not do to the host.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use super::super::support::{Build, Recipes, Running, tool};

/// Runs a command as a careless caller does: with a secret in the environment and in the session
/// keyring, and with the host's root directory open on descriptor 9.
fn carelessly(command: &Command) -> Command {
    let script = r#"
import ctypes, os, platform, sys
keyctl, add_key = {"x86_64": (250, 248), "aarch64": (219, 217)}[platform.machine()]
call = ctypes.CDLL(None).syscall
JOIN_SESSION_KEYRING, SESSION = 1, -3
assert call(keyctl, JOIN_SESSION_KEYRING, 0) > 0
assert call(add_key, b"user", b"vmfab-secret", b"of-the-caller", 13, SESSION) > 0
root = os.open("/", os.O_RDONLY)
os.dup2(root, 9, inheritable=True)
os.environ["SECRET"] = "of-the-caller"
os.execv(sys.argv[1], sys.argv[1:])
"#;
    let mut careless = tool("python3", "python3");
    careless
        .args(["-c", script])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        careless.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => careless.env(name, value),
            None => careless.env_remove(name),
        };
    }
    careless
}

#[test]
fn a_step_finds_nothing_of_its_caller() {
    let recipes = Recipes::new();
    // Debian's base has Perl, whose numbers of system calls are those of the machine.
    recipes.image(
        "looking",
        r##"
        run #"""
        # Every process, and what it has open beyond the step's own streams.
        for process in /proc/[0-9]*
        do
            if grep -qa of-the-caller $process/environ; then echo "environment of $process"; exit 1; fi
            # What a shell opens for itself is on 10 and above.
            if test -e $process/fd/9; then echo "open files of $process"; exit 1; fi
        done
        test ! -s /proc/keys
        perl -e '
            my %numbers = (x86_64 => 250, aarch64 => 219);
            chomp(my $machine = `uname -m`);
            my ($search, $session) = (10, -3);
            my ($type, $name) = ("user", "vmfab-secret");
            my $found = syscall($numbers{$machine}, $search, $session, $type, $name, 0);
            exit($found == -1 ? 0 : 1)
        ' || { echo "the keyring"; exit 1; }
        test "$(cut -d: -f3 /proc/self/cgroup | sort -u)" = /
        """#
"##,
    );
    Build::of(&mut carelessly(&recipes.command("looking"))).succeeds();
}

#[test]
fn values_of_the_environment_are_no_arguments() {
    let recipes = Recipes::new();
    recipes.image(
        "hiding",
        r##"
        run network=#true "test \"$TOKEN\" = of-the-recipe && echo ready && sleep 1000" {
            env TOKEN="of-the-recipe"
        }
"##,
    );
    let mut command = recipes.command("hiding");
    command.env("http_proxy", "http://me:of-the-proxy@127.0.0.1:9/");
    let mut build = Running::start(&mut command);
    build.until_line("ready");
    let mut sandboxes = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        // The script itself, which the recipe has, is one.
        if line.contains("bwrap") && line.contains("echo ready") {
            sandboxes += 1;
        }
        assert!(!line.contains("of-the-proxy"), "{line:?}");
        assert!(!line.contains("TOKEN\0of-the-recipe"), "{line:?}");
    }
    assert!(sandboxes > 0);
}

/// As root of the host, many of these could be written without any capability.
#[test]
fn a_step_cannot_change_the_kernel() {
    let recipes = Recipes::new();
    recipes.image(
        "writing",
        r##"
        run #"""
        find /proc /sys -path '/proc/[0-9]*' -prune -o -print > /tmp/all
        grep -q '^/proc/sys/kernel/core_pattern$' /tmp/all
        # Opening is enough: what is written to some of them would be done.
        perl -ne '
            chomp;
            next if -l || -d;
            push @open, $_ if sysopen(my $file, $_, 1);
            END { print "$_ can be written\n" for @open; exit(@open ? 1 : 0) }
        ' /tmp/all
        # Nor by a /proc of its own.
        if unshare --user --map-root-user --pid --fork --mount-proc true; then
            echo "a new /proc"; exit 1
        fi
        if unshare --user --map-root-user --mount umount /proc/sys; then
            echo "/proc/sys uncovered"; exit 1
        fi
        """#
"##,
    );
    recipes.build("writing").succeeds();
}

/// A step sees the host's name servers; what it does to the file is its own, and theirs are never
/// in a layer.
#[test]
fn the_resolver_file_belongs_to_the_image() {
    let recipes = Recipes::new();
    recipes.image(
        "resolving",
        r##"
        run "if cat /etc/*resolv* /etc/.*resolv* 2>/dev/null | grep ^nameserver; then exit 1; fi # of the bootstrap"
        run "rm -f /etc/resolv.conf; echo 'nameserver 192.0.2.1' > /etc/resolv.conf"
        run network=#true #"""
        if grep -q 192.0.2.1 /etc/resolv.conf; then exit 1; fi
        grep -q '^nameserver' /etc/resolv.conf
        echo '# added' >> /etc/resolv.conf
        cp /etc/resolv.conf /etc/resolv.conf.bak
        """#
        run #"""
        printf 'nameserver 192.0.2.1\n# added\n' > /tmp/expected
        cmp /tmp/expected /etc/resolv.conf
        cmp /tmp/expected /etc/resolv.conf.bak
        """#
        run network=#true "ln -s ../run/resolver /etc/new; mv -f /etc/new /etc/resolv.conf"
        run "test $(readlink /etc/resolv.conf) = ../run/resolver"
        run network=#true "test -s /etc/resolv.conf"
        run "rm /etc/resolv.conf"
        run network=#true "test -s /etc/resolv.conf"
        check "test ! -e /etc/resolv.conf"
"##,
    );
    recipes.build("resolving").succeeds();
}

/// A step with network is in the host's; abstract sockets are in it, too.
#[test]
fn abstract_sockets_of_the_host_are_out_of_reach() {
    let recipes = Recipes::new();
    let name = format!("vmfab-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    recipes.image(
        "connecting",
        &format!(
            r##"
        run network=#true #"""
        perl -MSocket -e '
            socket(my $socket, PF_UNIX, SOCK_STREAM, 0) or die;
            exit(connect($socket, sockaddr_un("\0{name}")) ? 1 : 0)
        '
        """#
"##
        ),
    );
    // The kernel can keep them apart since 6.12.
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next(), numbers.next());
    let reachable = version < (Some(6), Some(12));
    recipes.build("connecting").ends_with(i32::from(reachable));
}
