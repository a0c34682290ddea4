//! The image that stages of the corpus start from.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::{Ran, tool};

/// The tree of `base`: a shell, accounts, and empty programs in place of what a machine needs.
const BASE: &str = r#"
umask 022
mkdir -p bin boot dev etc home/node proc root sbin srv sys tmp usr/bin usr/lib/systemd usr/sbin var
chmod 1777 tmp
cp "$BUSYBOX" bin/busybox
chmod 755 bin/busybox
for name in $(bin/busybox --list); do
    [ "$name" = busybox ] || ln -s busybox "bin/$name"
done
for program in sbin/init usr/bin/apt-get usr/bin/systemctl usr/lib/systemd/systemd usr/sbin/sshd; do
    echo '#!/bin/sh' >$program
    chmod 755 $program
done
echo kernel >boot/vmlinuz
echo initrd >boot/initrd.img
echo ID=debian >etc/os-release
touch etc/hosts etc/resolv.conf
cat >etc/passwd <<END
root:x:0:0:root:/root:/bin/sh
node:x:1000:1001::/home/node:/bin/sh
other:x:2000:2000::/:/bin/sh
END
cat >etc/group <<END
root:x:0:
sudo:x:27:node
node:x:1001:
END
"#;

/// The image `base`, as a layout that both read.
pub(super) struct Base(TempDir);

impl Base {
    pub(super) fn make() -> Self {
        let busybox = Path::new("/bin/busybox");
        assert!(
            busybox.exists(),
            "install the Debian package busybox-static"
        );
        let base = Self(tempfile::tempdir().unwrap());
        let tree = base.0.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut script = tool("sh", "dash");
        script.args(["-ec", BASE]).current_dir(&tree);
        Ran::of(script.env("BUSYBOX", busybox)).ends_with(0);
        let file = base.0.path().join("base.tar");
        let mut pack = tool("tar", "tar");
        pack.args(["--sort=name", "--numeric-owner", "--owner=0", "--group=0"]);
        pack.args(["--mtime=@1000000000", "-cf"]).arg(&file);
        Ran::of(pack.arg("-C").arg(&tree).arg(".")).ends_with(0);
        base.write(&fs::read(file).unwrap());
        base
    }

    pub(super) fn layout(&self) -> PathBuf {
        self.0.path().join("layout")
    }

    fn write(&self, layer: &[u8]) {
        fs::create_dir_all(self.layout().join("blobs/sha256")).unwrap();
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Env": [format!("PATH={path}"), "BASE=of the base"],
                "Cmd": ["sh"],
                "Labels": { "org.example.base": "yes" },
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))] },
        });
        let config = config.to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob("config.v1+json", config.as_bytes()),
            "layers": [self.blob("layer.v1.tar", layer)],
        });
        let mut manifest = self.blob("manifest.v1+json", manifest.to_string().as_bytes());
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.layout().join("index.json"), index.to_string()).unwrap();
        let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
        fs::write(self.layout().join("oci-layout"), version).unwrap();
    }

    /// A blob of the layout, as a descriptor.
    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.layout().join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{digest}"),
            "size": bytes.len(),
        })
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
