//! Files put into a tree by docker's rules: `COPY` and `ADD` of a Dockerfile.

use serde::{Deserialize, Serialize};

use super::Origin;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Add {
    /// Put one after the other.
    pub sources: Vec<AddSource>,
    /// An absolute path. With a final `/` it is a directory, whatever is there.
    pub destination: String,
    /// `user[:group]`, by name or number, as in the tree. If absent, files of another tree keep
    /// their owners, and all others are root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Permission bits in octal, or symbolic as for chmod(1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Whether the layer does not depend on the tree below it: directories and links that are there
    /// count for nothing. The inputs `layer` are only needed to look up names of owners.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
    /// Whether the directories above a source are kept; `/./` in a path says from where on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parents: bool,
    /// Whether what a source stands for has the same path below the destination. Links in the path
    /// are followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_paths: bool,
    /// With `keep_paths`, whether a directory also has its own owner, mode and time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Patterns of what is left out, as in `.dockerignore`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The time of files that the user chose, in seconds since 1970; it follows from their content
    /// when absent. Files of other trees keep theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AddSource {
    /// Files of the context, of a stage or an image. Of a directory, the content is put.
    Path {
        from: Origin,
        /// A path or pattern below the root of `from`, as it is in the Dockerfile.
        path: String,
        /// Whether tar archives are unpacked.
        unpack: bool,
    },
    /// A file with this content, and mode 0644.
    Content { name: String, content: String },
    /// The file that is the input of this role, with mode 0600 as docker has it.
    Fetched {
        input: String,
        name: String,
        /// Whether it is unpacked if it is a tar archive.
        unpack: bool,
    },
}

impl AddSource {
    /// A path or pattern in the tree of the layers that are the inputs of a role.
    #[must_use]
    pub fn layers(role: &str, path: &str) -> Self {
        Self::Path {
            from: Origin::Layers(role.to_owned()),
            path: path.to_owned(),
            unpack: false,
        }
    }
}

/// The files of a commit of a git repository, as a tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Git {
    /// Its address, as git takes it.
    pub repository: String,
    /// All digits of its name.
    pub commit: String,
    /// The directory whose files these are, relative to the root of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Whether `.git` is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_git_dir: bool,
}
