//! A container engine of a test: a daemon with a directory of its own, and an image that has the
//! host's `/usr`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::support::{Ran, program, tool};

/// `docker` of the Debian package: another one may talk to somebody else's daemon.
const DOCKER: &str = "/usr/bin/docker";
/// A user of the image, with subordinate ids.
pub(crate) const USER: &str = "1000:1000";
/// What every container gets: the host's programs, and the program under test.
const IMAGE: &str = "runner";

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

pub(crate) struct Engine {
    /// On a disk, unlike /tmp in places.
    directory: TempDir,
    /// Names of sockets are short.
    sockets: TempDir,
    daemon: Child,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let sockets = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(directory.path().join("dockerd.log")).unwrap();
        let daemon = as_root(&tool("dockerd", "docker.io"))
            // It has no network of its own: containers have that of the host.
            .args(["--iptables=false", "--bridge=none", "--data-root"])
            .arg(directory.path().join("data"))
            .arg("--exec-root")
            .arg(sockets.path().join("exec"))
            .arg("--pidfile")
            .arg(sockets.path().join("pid"))
            .arg("--host")
            .arg(host(&sockets))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut engine = Self {
            directory,
            sockets,
            daemon,
        };
        engine.wait();
        engine.import();
        engine
    }

    fn wait(&mut self) {
        let started = Instant::now();
        while Ran::of(self.docker().arg("version")).code != Some(0) {
            let over = self.daemon.try_wait().unwrap().is_some();
            if over || started.elapsed() > Duration::from_secs(120) {
                let log = std::fs::read_to_string(self.directory.path().join("dockerd.log"));
                panic!("dockerd does not start:\n{}", log.unwrap());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// An image with nothing but places to mount at, users, and the programs that map their ids.
    /// These have file capabilities: a program that is set-user-id root must have CAP_SYS_ADMIN for
    /// it, which containers do not give.
    fn import(&self) {
        let archive = self.directory.path().join("image.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
        for (path, mode) in [
            ("etc", 0o755),
            ("home", 0o755),
            ("opt", 0o755),
            ("root", 0o700),
            ("tmp", 0o1777),
            ("usr", 0o755),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(mode);
            header.set_size(0);
            tar.append_data(&mut header, path, std::io::empty())
                .unwrap();
        }
        for link in ["bin", "lib", "lib64", "sbin"] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, link, format!("usr/{link}"))
                .unwrap();
        }
        // Two ranges count as one.
        let ids = "runner:100000:60000\nrunner:200000:5536\n";
        for (path, text) in [
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/sh\nrunner:x:1000:1000::/home:/bin/sh\n",
            ),
            ("etc/group", "root:x:0:\nrunner:x:1000:\n"),
            ("etc/subuid", ids),
            ("etc/subgid", ids),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        for (name, capability) in [("newuidmap", CAP_SETUID), ("newgidmap", CAP_SETGID)] {
            let program = std::fs::read(tool(name, "uidmap").get_program()).unwrap();
            let attribute = file_capability(capability);
            tar.append_pax_extensions([("SCHILY.xattr.security.capability", &attribute[..])])
                .unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(program.len() as u64);
            tar.append_data(&mut header, format!("opt/{name}"), &program[..])
                .unwrap();
        }
        tar.into_inner().unwrap();
        Ran::of(self.docker().arg("import").arg(archive).arg(IMAGE)).ends_with(0);
    }

    /// A new directory on a disk.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Makes directories, with all that is in them, those of the image's user.
    pub(crate) fn give_to_user(&self, volumes: &[&Path]) {
        let mut chown = as_root(&tool("chown", "coreutils"));
        Ran::of(chown.args(["--recursive", USER]).args(volumes)).ends_with(0);
    }

    /// A command that runs a script in a new container, with these options of `docker run` and
    /// these directories at these places.
    pub(crate) fn run(&self, options: &[&str], places: &[(&Path, &str)], script: &str) -> Command {
        let mut docker = self.docker();
        docker
            .args([
                "run",
                "--rm",
                "--network",
                "host",
                "--volume",
                "/usr:/usr:ro",
            ])
            .arg("--volume")
            .arg(format!("{}:/vmfab:ro", program()))
            .args(["--env", "PATH=/opt:/usr/sbin:/usr/bin"]);
        for (path, place) in places {
            docker
                .arg("--volume")
                .arg(format!("{}:{place}", path.display()));
        }
        docker.args(options).args([IMAGE, "/bin/sh", "-ec", script]);
        docker
    }

    /// Runs what an image runs, without a network.
    pub(crate) fn run_archive(&self, archive: &Path, image: &str) -> Ran {
        Ran::of(self.docker().arg("load").arg("--input").arg(archive)).ends_with(0);
        Ran::of(
            self.docker()
                .args(["run", "--rm", "--network", "none", image]),
        )
    }

    fn docker(&self) -> Command {
        assert!(
            Path::new(DOCKER).exists(),
            "{DOCKER} does not exist: install the Debian package docker.io"
        );
        let mut docker = as_root(&Command::new(DOCKER));
        docker.arg("--host").arg(host(&self.sockets));
        docker
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It ends its containers, and takes its mounts away.
        let mut kill = as_root(&tool("kill", "procps"));
        Ran::of(kill.arg(self.daemon.id().to_string()));
        let _ = self.daemon.wait();
        let mut remove = as_root(&tool("rm", "coreutils"));
        Ran::of(
            remove
                .arg("-rf")
                .args([self.directory.path(), self.sockets.path()]),
        );
    }
}

/// The attribute of a file that gives one effective capability. Source: struct vfs_cap_data of
/// linux/capability.h, version 2.
fn file_capability(capability: u32) -> [u8; 20] {
    const VERSION_AND_EFFECTIVE: u32 = 0x0200_0001;
    let mut attribute = [0; 20];
    attribute[..4].copy_from_slice(&VERSION_AND_EFFECTIVE.to_le_bytes());
    attribute[4..8].copy_from_slice(&(1_u32 << capability).to_le_bytes());
    attribute
}

fn host(sockets: &TempDir) -> String {
    format!("unix://{}", sockets.path().join("docker").display())
}

/// The same program as root. Where the tests do not run as root, sudo must do it without a
/// question.
fn as_root(command: &Command) -> Command {
    if rustix::process::getuid().is_root() {
        return Command::new(command.get_program());
    }
    let mut sudo = tool("sudo", "sudo");
    sudo.arg("-n").arg(command.get_program());
    sudo
}
