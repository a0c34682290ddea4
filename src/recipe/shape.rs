//! The vocabulary: which arguments, properties and children each node takes.

/// What one kind of node takes.
#[derive(Debug)]
pub(super) struct Shape {
    pub name: &'static str,
    /// What its arguments are, for people; `None` when it takes none.
    pub argument: Option<&'static str>,
    /// The least and the most arguments.
    pub arguments: (usize, usize),
    /// Its properties; `None` when it takes any.
    pub properties: Option<&'static [&'static str]>,
    /// The nodes between its braces.
    pub children: &'static [&'static Shape],
    /// A correct one.
    pub example: &'static str,
}

const MANY: usize = usize::MAX;

const fn shape(name: &'static str, example: &'static str) -> Shape {
    Shape {
        name,
        argument: None,
        arguments: (0, 0),
        properties: Some(&[]),
        children: &[],
        example,
    }
}

impl Shape {
    const fn takes(mut self, least: usize, most: usize, argument: &'static str) -> Self {
        self.arguments = (least, most);
        self.argument = Some(argument);
        self
    }

    const fn properties(mut self, names: &'static [&'static str]) -> Self {
        self.properties = Some(names);
        self
    }

    const fn any_properties(mut self) -> Self {
        self.properties = None;
        self
    }

    const fn children(mut self, shapes: &'static [&'static Self]) -> Self {
        self.children = shapes;
        self
    }

    /// The child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&'static Self> {
        self.children
            .iter()
            .find(|shape| shape.name == name)
            .copied()
    }
}

static ENV: Shape = shape("env", "env EDITOR=\"vim\"").any_properties();
static SET: Shape =
    shape("set", "set \"size\" \"20G\"").takes(2, 2, "a parameter of the recipe and its value");
static AUTHORIZED_KEYS: Shape = shape(
    "authorized-keys",
    "authorized-keys \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@home\"",
)
.takes(1, MANY, "public keys");
static GROUPS: Shape = shape("groups", "groups \"docker\" \"adm\"").takes(1, MANY, "group names");
static CONTENT: Shape = shape("content", "content \"hello\\n\"").takes(1, 1, "the content");
static CHOICES: Shape =
    shape("choices", "choices \"debian-12\" \"ubuntu-24.04\"").takes(1, MANY, "values");
static DESCRIPTION: Shape =
    shape("description", "description \"Docker engine\"").takes(1, 1, "a phrase");
static METADATA: Shape = shape("metadata", "metadata maintainer=\"me\"").any_properties();
static PARAM: Shape = shape("param", "param \"size\" type=\"size\" default=\"10G\"")
    .takes(1, 1, "the parameter's name")
    .properties(&["type", "default", "description", "min", "max", "pattern"])
    .children(&[&CHOICES]);
static AUTHOR: Shape =
    shape("author", "author \"Ada <ada@example.org>\"").takes(1, 1, "who made it");
static LICENSE: Shape =
    shape("license", "license \"MIT OR Apache-2.0\"").takes(1, 1, "an SPDX expression");
static RECIPE_SOURCE: Shape =
    shape("source", "source \"https://example.org/recipes\"").takes(1, 1, "where its source is");
static TAGS: Shape = shape("tags", "tags \"python\" \"web\"").takes(1, MANY, "words to find it by");
static REQUIRES: Shape = shape("requires", "requires memory=\"2G\" disk=\"20G\" cores=2")
    .properties(&["memory", "disk", "cores"]);
static README: Shape = shape("readme", "readme \"./README.md\"").takes(1, 1, "the path of a text");

pub(super) static RECIPE: Shape = shape("recipe", "recipe \"docker\" version=\"1.0.0\"")
    .takes(0, 1, "the recipe's name")
    .properties(&["version"])
    .children(&[
        &DESCRIPTION,
        &AUTHOR,
        &LICENSE,
        &RECIPE_SOURCE,
        &TAGS,
        &REQUIRES,
        &README,
        &PARAM,
        &METADATA,
    ]);
pub(super) static INCLUDE: Shape =
    shape("include", "include \"./common.kdl\"").takes(1, 1, "the path of a recipe file");
pub(super) static IMAGE: Shape = shape("image", "image \"web\" { from \"debian-12\" }")
    .takes(1, 1, "the image's name")
    .children(&[
        &FROM,
        &DOCKERFILE,
        &BOOTC,
        &BOOTSTRAP,
        &USE,
        &LAYER,
        &PACKAGES,
        &RUN,
        &PYTHON,
        &NPM,
        &CARGO,
        &FILE,
        &COPY,
        &USER,
        &ENV,
        &HOSTNAME,
        &SERVICE,
        &DISK,
        &KERNEL,
        &INITRD,
        &BOOT,
        &PORT,
        &SHARE,
        &CHECK,
        &TEST,
    ]);

static FROM: Shape = shape("from", "from \"debian-12\"")
    .takes(1, 1, "what the image starts from")
    .properties(&["format", "service"])
    .children(&[&SET]);
static USE: Shape = shape("use", "use \"postgres-client@2\"")
    .takes(1, 1, "the template whose steps are inserted")
    .children(&[&SET]);
static ARG: Shape =
    shape("arg", "arg \"NODE\" \"22\"").takes(2, 2, "a build argument and its value");
static TARGET: Shape = shape("target", "target \"dev\"").takes(1, 1, "the name of a stage");
static CONTEXT: Shape = shape("context", "context \"base\" \"debian-12\"").takes(
    2,
    2,
    "a name, and the image or directory that it stands for",
);
static DOCKERFILE: Shape = shape("dockerfile", "dockerfile \"./Dockerfile\"")
    .takes(0, 1, "the path of a Dockerfile")
    .properties(&["context", "service"])
    .children(&[&ARG, &CONTENT, &TARGET, &CONTEXT]);
static KARG: Shape =
    shape("karg", "karg \"console=ttyS0\"").takes(1, MANY, "arguments of the kernel command line");
static BOOTC: Shape = shape(
    "bootc",
    "bootc \"quay.io/centos-bootc/centos-bootc:stream10\"",
)
.takes(1, 1, "a bootable container image")
.properties(&[
    "filesystem",
    "root-size",
    "bootloader",
    "composefs",
    "target",
    "target-transport",
    "install",
    "ignition",
])
.children(&[&KARG, &AUTHORIZED_KEYS, &SET]);
static BOOTSTRAP: Shape = shape("bootstrap", "bootstrap \"debian\" suite=\"bookworm\"")
    .takes(1, 1, "the distribution")
    .properties(&["suite", "components", "mirror", "keyring"]);
static FETCH: Shape = shape(
    "fetch",
    "fetch \"https://example.org/disk.raw\" \
     sha256=\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
)
.takes(1, 1, "a URL")
.properties(&[
    "sha256",
    "sha512",
    "blake3",
    "checksums",
    "signature",
    "keyring",
    "mirrors",
    "size",
]);
static STRIP_VHD_FOOTER: Shape = shape("strip-vhd-footer", "strip-vhd-footer");
static DECOMPRESS: Shape = shape("decompress", "decompress \"xz\"").takes(0, 1, "a format");
static CONVERT: Shape = shape("convert", "convert from=\"qcow2\"").properties(&["from"]);
static RENAME: Shape = shape("rename", "rename \"tool\"").takes(1, 1, "the name");
static EXTRACT: Shape =
    shape("extract", "extract \"usr/bin/tool\"").takes(1, 1, "the path in the archive");
static UNPACK: Shape = shape("unpack", "unpack");
/// What content from outside is described with, wherever it goes.
#[cfg(test)]
pub(super) static CONTENT_NODES: [&Shape; 7] = [
    &FETCH,
    &STRIP_VHD_FOOTER,
    &DECOMPRESS,
    &CONVERT,
    &RENAME,
    &EXTRACT,
    &UNPACK,
];
static LAYER: Shape = shape(
    "layer",
    "layer { fetch \"https://example.org/rootfs.tar.gz\" \
     sha256=\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"; unpack }",
)
.children(&[&FETCH, &DECOMPRESS, &RENAME, &EXTRACT, &UNPACK]);
static ON: Shape = shape("on", "on \"alpine\" \"docker\"").takes(
    1,
    MANY,
    "the ID of a system's os-release and package names",
);
static PACKAGES: Shape = shape("packages", "packages \"git\" \"curl\"")
    .takes(0, MANY, "package names")
    .properties(&["recommends", "timeout", "memory", "processes"])
    .children(&[&ON]);
const SCRIPT_PROPERTIES: &[&str] = &[
    "shell",
    "workdir",
    "network",
    "timeout",
    "memory",
    "processes",
];
static RUN: Shape = shape("run", "run \"make install\"")
    .takes(1, 1, "the script")
    .properties(&[
        "name",
        "user",
        "shell",
        "workdir",
        "network",
        "timeout",
        "memory",
        "processes",
    ])
    .children(&[&ENV]);
static LANGUAGE_PACKAGES: Shape =
    shape("packages", "packages \"flask\"").takes(1, MANY, "packages, with their versions");
static PYTHON: Shape = shape("python", "python { packages \"flask==3.0.3\" }")
    .properties(&["requirements", "venv", "timeout", "memory", "processes"])
    .children(&[&LANGUAGE_PACKAGES, &ENV]);
static NPM: Shape = shape("npm", "npm { packages \"typescript@5.4.5\" }")
    .properties(&["workdir", "timeout", "memory", "processes"])
    .children(&[&LANGUAGE_PACKAGES, &ENV]);
static CARGO: Shape = shape("cargo", "cargo { packages \"ripgrep@14.1.0\" }")
    .properties(&["workdir", "timeout", "memory", "processes"])
    .children(&[&LANGUAGE_PACKAGES, &ENV]);
static TEST_RUN: Shape = shape("run", "run \"curl -f http://localhost/\"")
    .takes(1, 1, "the command")
    .properties(&["user"]);
static TEST_PORT: Shape = shape("port", "port 80").takes(1, 1, "the port in the guest");
static TEST_FILE: Shape = shape("file", "file \"/etc/motd\" contains=\"hello\"")
    .takes(1, 1, "the path in the guest")
    .properties(&["contains"]);
static TEST: Shape = shape("test", "test \"the site answers\" { port 80 }")
    .takes(1, 1, "what is tested, a phrase")
    .children(&[&TEST_RUN, &TEST_PORT, &TEST_FILE]);
static CHECK: Shape = shape("check", "check \"docker --version\"")
    .takes(1, 1, "the script")
    .properties(SCRIPT_PROPERTIES)
    .children(&[&ENV]);
static FILE: Shape = shape("file", "file \"/etc/motd\" { content \"hello\\n\" }")
    .takes(1, 1, "the path in the image")
    .properties(&["mode", "owner", "source"])
    .children(&[&CONTENT, &FETCH, &DECOMPRESS, &RENAME, &EXTRACT]);
static COPY: Shape = shape("copy", "copy \"./site\" \"/srv/www\"")
    .takes(2, 2, "the local path and the path in the image")
    .properties(&["from", "mode", "owner", "exclude"])
    .children(&[&EXCLUDE]);
static EXCLUDE: Shape = shape("exclude", "exclude \"*.o\" \"/target/\"").takes(1, MANY, "patterns");
static USER: Shape = shape("user", "user \"vm\" groups=\"docker\" sudo=#true")
    .takes(1, 1, "the login name")
    .properties(&["groups", "sudo", "uid", "shell", "password-hash"])
    .children(&[&GROUPS, &AUTHORIZED_KEYS]);
static HOSTNAME: Shape = shape("hostname", "hostname \"web-1\"").takes(1, 1, "the host name");
static SERVICE: Shape = shape("service", "service \"docker\" enable=#true")
    .takes(1, 1, "the service's name")
    .properties(&["enable"]);
static DISK: Shape = shape("disk", "disk size=\"20G\"")
    .properties(&["size", "filesystem", "label", "firmware"])
    .children(&[
        &FETCH,
        &STRIP_VHD_FOOTER,
        &DECOMPRESS,
        &CONVERT,
        &RENAME,
        &EXTRACT,
    ]);
static KERNEL: Shape = shape(
    "kernel",
    "kernel \"/boot/vmlinuz-custom\" initrd=\"/boot/initrd.img-custom\"",
)
.takes(0, 1, "the path in the image")
.properties(&["initrd"])
.children(&[&FETCH, &DECOMPRESS, &RENAME, &EXTRACT]);
static INITRD: Shape = shape(
    "initrd",
    "initrd { fetch \"https://example.org/initramfs\" \
     sha256=\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" }",
)
.children(&[&FETCH, &DECOMPRESS, &RENAME, &EXTRACT]);
static BOOT: Shape = shape("boot", "boot \"quiet\"")
    .takes(0, 1, "arguments of the kernel command line")
    .properties(&[
        "firmware",
        "seed",
        "user",
        "machine-type",
        "disk-bus",
        "nic",
    ]);
static PORT: Shape = shape("port", "port 80 host=8080")
    .takes(1, 1, "the port in the guest")
    .properties(&["host", "name"]);

static MACHINE_PORT: Shape = shape("port", "port 80 host=8080")
    .takes(1, 1, "the port in the guest")
    .properties(&["host", "protocol", "address", "last"]);
static MACHINE_DISK: Shape = shape("disk", "disk size=\"20G\"")
    .takes(0, 1, "the size or the file of a further disk")
    .properties(&["size", "read-only"]);
static VOLUME: Shape = shape("volume", "volume \"data\" \"/var/lib/postgresql\"")
    .takes(2, 2, "the volume's name and the path in the guest")
    .properties(&["read-only"]);
static SHARE: Shape = shape("share", "share \"code\" host=\"./src\" guest=\"/src\"")
    .takes(0, 1, "a name")
    .properties(&["host", "guest", "read-only"]);
static DEPENDS_ON: Shape = shape("depends-on", "depends-on \"control\"")
    .takes(1, MANY, "names of machines")
    .properties(&["condition"]);
static ENTRYPOINT: Shape =
    shape("entrypoint", "entrypoint \"/run.sh\"").takes(0, MANY, "the program and its arguments");
static COMMAND: Shape = shape("command", "command \"nginx\" \"-g\" \"daemon off;\"").takes(
    0,
    MANY,
    "the program, or arguments of the entrypoint",
);
static HEALTH: Shape = shape(
    "health",
    "health \"curl -f http://localhost/\" interval=\"5s\"",
)
.takes(0, MANY, "a script, or a program and its arguments")
.properties(&[
    "interval",
    "timeout",
    "start-period",
    "start-interval",
    "retries",
    "enable",
]);
static SSH_KEY: Shape =
    shape(
    "ssh-key",
    "ssh-key \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ40bVItbth04dBcCmp7Xiupg9mfyiA3cj7aNgv1hOVQ me@laptop\"",
).takes(1, 1, "a public key");
static ALIAS: Shape = shape("alias", "alias \"database\"").takes(1, MANY, "further names");
static PROCESS: Shape = shape("process", "process user=\"www-data\" restart=\"always\"")
    .properties(&["user", "workdir", "stop-signal", "stop-timeout", "restart"]);
pub(super) static MACHINE: Shape = shape("machine", "machine \"web\" image=\"debian-12\"")
    .takes(1, 1, "the machine's name")
    .properties(&[
        "image",
        "memory",
        "cpus",
        "count",
        "accel",
        "firmware",
        "network",
        "image-ports",
        "image-shares",
        "disk-bus",
        "nic",
        "machine-type",
        "cdrom",
        "display",
        "cloud-init",
        "tpm",
    ])
    .children(&[
        &MACHINE_PORT,
        &MACHINE_DISK,
        &VOLUME,
        &SHARE,
        &SSH_KEY,
        &ALIAS,
        &SET,
        &ENV,
        &ENTRYPOINT,
        &COMMAND,
        &PROCESS,
        &HEALTH,
        &DEPENDS_ON,
    ]);

/// A whole file: the nodes at its top.
pub(super) static DOCUMENT: Shape = shape("recipe file", "image \"web\" { from \"debian-12\" }")
    .children(&[&RECIPE, &INCLUDE, &IMAGE, &MACHINE]);

/// Every shape below one, with the names of the nodes around it.
#[cfg(test)]
pub(super) fn all() -> Vec<(Vec<&'static str>, &'static Shape)> {
    fn below(
        shape: &'static Shape,
        around: &[&'static str],
        found: &mut Vec<(Vec<&'static str>, &'static Shape)>,
    ) {
        for child in shape.children {
            found.push((around.to_vec(), child));
            let inside: Vec<_> = around.iter().copied().chain([child.name]).collect();
            below(child, &inside, found);
        }
    }
    let mut found = Vec::new();
    below(&DOCUMENT, &[], &mut found);
    found
}

/// Where in a recipe a node of this name belongs, when there is only one such place or they are
/// alike.
pub(super) fn home_of(name: &str) -> Option<&'static str> {
    if DOCUMENT.child(name).is_some() {
        return Some("at the top of the file");
    }
    [
        (&IMAGE, "in an image"),
        (&RECIPE, "in the recipe node"),
        (&USER, "in a user node"),
        (&FILE, "in a file node"),
        (&FROM, "in a from or use node"),
        (&BOOTC, "in a bootc node"),
        (&DOCKERFILE, "in a dockerfile node"),
        (&DISK, "in a disk node, after fetch"),
        (&LAYER, "in a layer node, after fetch"),
        (&PARAM, "in a param node"),
        (&MACHINE, "in a machine node"),
    ]
    .into_iter()
    .find(|(shape, _)| shape.child(name).is_some())
    .map(|(_, place)| place)
}
