//! What `from` can say.

use std::path::{Component, Path, PathBuf};

use super::dockerfile::is_dockerfile;
use crate::image::local_scheme;
use crate::template::TemplateRef;

/// What an image can start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// `@tag`: an image in the store.
    Tag(String),
    /// `./file.kdl` or `./file.kdl#image`.
    Path { path: String, image: Option<String> },
    /// An image of this file, or a recipe by name; `name#image` for one image of it.
    Name { name: String, image: Option<String> },
    /// `acme/web@^1.2` or `web@1#image`: a template, which [`TemplateRef`] reads.
    Template {
        wanted: String,
        image: Option<String>,
    },
    /// `./disk.qcow2`: a disk that was made elsewhere.
    DiskFile(String),
    /// `debian:12`, `oci://ghcr.io/me/vm:1`: an image in a registry, without its scheme.
    Registry(String),
    /// `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME`: an image in a layout or an
    /// archive, with scheme and path apart.
    Layout { scheme: &'static str, path: String },
    /// `containers-storage:IMAGE`: one in the storage of podman.
    Storage,
    /// `./Dockerfile` or `./Dockerfile#stage`.
    Dockerfile { path: String, stage: Option<String> },
    /// A URL: content is fetched with a checksum.
    Address,
}

impl Reference {
    /// Tells by the form of the text alone.
    pub(super) fn parse(text: &str) -> Self {
        let (front, image) = match text.split_once('#') {
            Some((front, image)) => (front, Some(image.to_owned())),
            None => (text, None),
        };
        let file_name = front.rsplit('/').next().unwrap_or(front).to_lowercase();
        if let Some(tag) = text.strip_prefix('@') {
            Self::Tag(tag.to_owned())
        } else if let Some((scheme, rest)) = local_scheme(text) {
            match scheme {
                "containers-storage" => Self::Storage,
                scheme => Self::Layout {
                    scheme,
                    path: rest.to_owned(),
                },
            }
        } else if is_dockerfile(Path::new(front)) && !front.contains("://") {
            Self::Dockerfile {
                path: front.to_owned(),
                stage: image,
            }
        } else if is_disk(&file_name, front) {
            Self::DiskFile(front.to_owned())
        } else if front.ends_with(".kdl") || front.starts_with(['.', '/']) {
            Self::Path {
                path: front.to_owned(),
                image,
            }
        } else if TemplateRef::is_one(front) {
            Self::Template {
                wanted: front.to_owned(),
                image,
            }
        } else if ["http://", "https://", "ftp://", "file://"]
            .iter()
            .any(|scheme| front.starts_with(scheme))
        {
            Self::Address
        } else if front.contains([':', '/']) {
            let bare = ["oci://", "docker://"]
                .iter()
                .find_map(|scheme| text.strip_prefix(scheme));
            Self::Registry(bare.unwrap_or(text).to_owned())
        } else {
            Self::Name {
                name: front.to_owned(),
                image,
            }
        }
    }
}

/// Whether a path is one of a disk: by the usual endings, or because it is a path and its ending is
/// none of a recipe's. What is in it decides its format.
fn is_disk(file_name: &str, front: &str) -> bool {
    let endings = [".qcow2", ".img", ".raw", ".vmdk", ".vhd", ".vhdx"];
    let usual = endings.iter().any(|ending| file_name.ends_with(ending));
    (usual && !front.contains("://")) || (front.starts_with(['.', '/']) && !front.ends_with(".kdl"))
}

/// The path without `.` and `..`, as far as the text tells.
pub(super) fn normalise(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(normal.components().next_back(), Some(Component::Normal(_))) =>
            {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let name = |name: &str| Reference::Name {
            name: name.into(),
            image: None,
        };
        assert_eq!(Reference::parse("ubuntu-24.04"), name("ubuntu-24.04"));
        assert_eq!(
            Reference::parse("../x.kdl#web"),
            Reference::Path {
                path: "../x.kdl".into(),
                image: Some("web".into())
            }
        );
        for (text, wanted, image) in [
            ("acme/web@^1.2", "acme/web@^1.2", None),
            ("web@1#tools", "web@1", Some("tools")),
        ] {
            let (wanted, image) = (wanted.to_owned(), image.map(str::to_owned));
            assert_eq!(
                Reference::parse(text),
                Reference::Template { wanted, image }
            );
        }
        assert_eq!(Reference::parse("@a.b"), Reference::Tag("a.b".into()));
        for path in ["./disk", "../a.qcow2", "disk.vhdx", "/srv/x.img"] {
            assert_eq!(Reference::parse(path), Reference::DiskFile(path.into()));
        }
        for (text, is) in [
            ("oci://ghcr.io/x/y", "ghcr.io/x/y"),
            ("docker://me/disk.raw", "me/disk.raw"),
            ("docker.io/library/debian:12", "docker.io/library/debian:12"),
            ("debian:12", "debian:12"),
            ("me/vm@sha256:1", "me/vm@sha256:1"),
            ("docker/dockerfile:1", "docker/dockerfile:1"),
        ] {
            assert_eq!(Reference::parse(text), Reference::Registry(is.into()));
        }
        for (text, scheme, path) in [
            ("oci:out:1", "oci", "out:1"),
            ("oci:/a/disk.raw", "oci", "/a/disk.raw"),
            ("oci-archive:a.tar", "oci-archive", "a.tar"),
            ("docker-archive:a.tar:os:1", "docker-archive", "a.tar:os:1"),
        ] {
            let path = path.to_owned();
            let layout = Reference::Layout { scheme, path };
            assert_eq!(Reference::parse(text), layout);
        }
        let storage = Reference::parse("containers-storage:localhost/os:1");
        assert_eq!(storage, Reference::Storage);
        for (text, path, stage) in [
            ("./Dockerfile", "./Dockerfile", None),
            ("web.Dockerfile#dev", "web.Dockerfile", Some("dev")),
        ] {
            let (path, stage) = (path.to_owned(), stage.map(str::to_owned));
            let dockerfile = Reference::Dockerfile { path, stage };
            assert_eq!(Reference::parse(text), dockerfile);
        }
        assert_eq!(
            Reference::parse("https://example.org/x"),
            Reference::Address
        );
    }

    #[test]
    fn paths_are_normalised() {
        assert_eq!(normalise(Path::new("./a/../b/./c")), Path::new("b/c"));
        assert_eq!(normalise(Path::new("../a")), Path::new("../a"));
        assert_eq!(normalise(Path::new("../../a/b/..")), Path::new("../../a"));
    }
}
