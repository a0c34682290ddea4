//! BuildKit of Debian 13, run by a dockerd of our own in a root made for it. It needs root, and
//! neither kernel modules nor a network bridge.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::{Ran, tool};

/// Where the root is kept from one run to the next.
const ROOT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/buildkit");
/// How long the start may take.
const PATIENCE: Duration = Duration::from_secs(60);
const SOCKET: &str = "unix:///work/docker.sock";

/// dockerd, in namespaces that end with it. `$1` is the root: a mount point, as dockerd needs it.
const SERVE: &str = r#"
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
exec chroot "$1" dockerd --iptables=false --bridge=none --data-root=/work/data \
    --exec-root=/work/exec --pidfile=/work/pid --host=unix:///work/docker.sock
"#;

/// A dockerd that ends with us.
pub(super) struct BuildKit {
    server: Child,
}

impl BuildKit {
    pub(super) fn start() -> Self {
        let root = Path::new(ROOT);
        if !root.join("usr/sbin/dockerd").exists() {
            let packages = "docker.io,docker-cli,docker-buildx,xz-utils";
            let mut make = tool("mmdebstrap", "mmdebstrap");
            make.args(["--variant=minbase", "--include", packages, "trixie"]);
            let unfinished = root.with_extension("unfinished");
            let _ = fs::remove_dir_all(&unfinished);
            Ran::of(make.arg(&unfinished)).ends_with(0);
            fs::rename(unfinished, root).unwrap();
        }
        let work = root.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).unwrap();
        }
        fs::create_dir(&work).unwrap();
        let log = File::create(work.join("log")).unwrap();
        let mut server = tool("unshare", "util-linux")
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-ec", SERVE, "serve", ROOT])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !work.join("docker.sock").exists() {
            let ended = server.try_wait().unwrap().is_some();
            assert!(
                !ended && started.elapsed() < PATIENCE,
                "dockerd did not start (it needs root):\n{}",
                fs::read_to_string(work.join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { server }
    }

    /// The client, in a directory of the root.
    fn docker(&self, directory: &str, words: &[&str]) -> Command {
        let mut command = tool("chroot", "coreutils");
        command.args([ROOT, "env", "-C", directory, "docker"]);
        command.args(words).env("DOCKER_HOST", SOCKET);
        command
    }

    pub(super) fn version(&self) -> String {
        let words = ["version", "--format", "{{.Server.Version}}"];
        let version = Ran::of(&mut self.docker("/", &words)).ends_with(0).stdout;
        format!("BuildKit of docker {}", version.trim())
    }

    /// Where a case is prepared.
    pub(super) fn directory(&self, case: &str) -> PathBuf {
        Path::new(ROOT).join("work/cases").join(case)
    }

    /// Makes a layout the image `base`.
    pub(super) fn load(&self, layout: &Path) {
        let json = |path: PathBuf| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
        };
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            format!("blobs/{}", digest.replace(':', "/"))
        };
        let index = json(layout.join("index.json"));
        let manifest = json(layout.join(blob(&index["manifests"][0])));
        let layers = manifest["layers"].as_array().unwrap();
        let image = serde_json::json!([{
            "Config": blob(&manifest["config"]),
            "RepoTags": ["base:latest"],
            "Layers": layers.iter().map(blob).collect::<Vec<_>>(),
        }]);
        let file = Path::new(ROOT).join("work/base.tar");
        fs::write(layout.join("manifest.json"), image.to_string()).unwrap();
        let mut pack = tool("tar", "tar");
        pack.arg("-cf").arg(&file).arg("-C").arg(layout).arg(".");
        Ran::of(&mut pack).ends_with(0);
        let words = ["load", "--input", "base.tar"];
        Ran::of(&mut self.docker("/work", &words)).ends_with(0);
    }

    /// Builds a case that was prepared, to a layout; what BuildKit says when it refuses it.
    pub(super) fn build(&self, case: &str, options: &[String]) -> Result<PathBuf, String> {
        let directory = format!("/work/cases/{case}");
        let tag = format!("--tag=case-{case}");
        let words = [
            "buildx",
            "build",
            "--progress=plain",
            "--network=host",
            &tag,
        ];
        let mut build = self.docker(&directory, &words);
        let built = Ran::of(build.args(options).arg("context"));
        if built.code != Some(0) {
            let said = built.stderr.lines().rev();
            let said = said.filter_map(|line| line.strip_prefix("ERROR: ")).next();
            let said = said.unwrap_or(&built.stderr).split_whitespace();
            // Ids and paths of this run are in long words.
            let said = said.map(|word| if word.len() > 40 { "…" } else { word });
            return Err(said.collect::<Vec<_>>().join(" "));
        }
        let image = format!("case-{case}");
        let words = ["save", "--output", "image.tar", &image];
        Ran::of(&mut self.docker(&directory, &words)).ends_with(0);
        let layout = self.directory(case).join("layout");
        fs::create_dir(&layout).unwrap();
        let mut unpack = tool("tar", "tar");
        unpack
            .arg("-xf")
            .arg(self.directory(case).join("image.tar"));
        Ran::of(unpack.arg("-C").arg(&layout)).ends_with(0);
        Ok(layout)
    }
}

impl Drop for BuildKit {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
