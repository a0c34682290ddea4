//! What instructions of Dockerfiles do to a tree. The trees are made of BusyBox and nothing else.

mod files;
mod mounts;
mod outside;
mod processes;
mod pushed;
mod repositories;
mod secrets;

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

pub(crate) use pushed::CONTAINER;

use crate::support::Workshop;

/// The stage that the others start from: a shell, three accounts, and empty programs in place of
/// what a machine needs, so that the result becomes an image that nobody boots.
const BASE: &str = r#"FROM scratch AS base
COPY busybox /bin/
RUN ["/bin/busybox", "sh", "-ec", "/bin/busybox --install -s /bin"]
COPY --chmod=755 base.sh /
RUN /base.sh && rm /base.sh
FROM base
"#;

const BASE_SCRIPT: &str = r#"#!/bin/sh -e
mkdir -p -m 755 /boot /etc /home/node /sbin /usr/bin /usr/lib/systemd /usr/sbin /var
mkdir -m 1777 /tmp
for program in /sbin/init /usr/bin/apt-get /usr/bin/systemctl /usr/lib/systemd/systemd /usr/sbin/sshd
do
    echo '#!/bin/sh' >$program
    chmod 755 $program
done
echo ID=debian >/etc/os-release
cat >/etc/passwd <<END
root:x:0:0:root:/root:/bin/sh
node:x:1000:1001::/home/node:/bin/sh
other:x:2000:2000::/:/bin/sh
END
cat >/etc/group <<END
root:x:0:
sudo:x:27:node
node:x:1001:
END
"#;

/// Prints everything below the paths: kind, mode, owner, name, and the content or target.
const LISTING: &str = r#"
find "$@" | sort | while read -r name; do
    content=
    case $(stat -c %F "$name") in
    regular*) kind=f content=$(cat "$name") ;;
    symbolic*) kind=l content=$(readlink "$name") ;;
    *) kind=d ;;
    esac
    echo "$kind $(stat -c '%a %u:%g' "$name") $name $content"
done
"#;

/// A context with a Dockerfile, a recipe with it, and a home.
pub(crate) struct Kitchen(Workshop);

impl Deref for Kitchen {
    type Target = Workshop;

    fn deref(&self) -> &Workshop {
        &self.0
    }
}

impl Kitchen {
    /// The instructions follow those of [`BASE`].
    pub(crate) fn new(instructions: &str) -> Self {
        let kitchen = Self(Workshop::new());
        let busybox = "/bin/busybox";
        assert!(
            PathBuf::from(busybox).exists(),
            "install the Debian package busybox-static"
        );
        fs::create_dir(kitchen.path("context")).unwrap();
        fs::copy(busybox, kitchen.path("context/busybox")).unwrap();
        kitchen.file("base.sh", BASE_SCRIPT, 0o644);
        kitchen.file("list", &format!("#!/bin/sh -e\n{LISTING}"), 0o755);
        kitchen.write(instructions);
        fs::write(
            kitchen.path("test.kdl"),
            "image \"test\" {\n    dockerfile \"context/Dockerfile\" service=#false\n    \
             file \"/boot/vmlinuz\" { content \"no kernel\" }\n    \
             kernel \"/boot/vmlinuz\"\n    disk size=\"64M\"\n}\n",
        )
        .unwrap();
        kitchen
    }

    /// Writes the Dockerfile.
    fn write(&self, instructions: &str) {
        fs::write(
            self.path("context/Dockerfile"),
            format!("{BASE}{instructions}"),
        )
        .unwrap();
    }

    /// Writes a file of the context.
    fn file(&self, name: &str, content: &str, mode: u32) {
        let path = self.path("context").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What the steps of a build that succeeds print.
    #[track_caller]
    fn output(&self) -> String {
        let built = self.build().succeeds();
        let mut lines = built.output();
        lines.retain(|line| !line.starts_with("Warning: the fs_type"));
        lines.join("\n")
    }

    /// What is said when one of the instructions cannot be done.
    #[track_caller]
    fn refused(&self, instructions: &str) -> String {
        self.write(instructions);
        self.fails(1)
    }
}
