//! A template is whole: what it reads of this host lies in its directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::recipe::{
    Base, Content, Context as Named, Fetched, Image, Instruction, Kernel, Loaded, Pin, Problem,
    RegistryImage, Span,
};
use crate::registry::Location;
use crate::text::Problems;

/// Makes sure that a template reads no file from outside of its directory.
///
/// # Errors
/// It does, with the places where it says so.
pub(super) fn inside(file: &Path, loaded: &Loaded) -> Result<(), Failure> {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let root = parent.unwrap_or(Path::new("."));
    let root = fs::canonicalize(root).map_err(Failure::io("find", root))?;
    let mut check = Check {
        root,
        problems: Vec::new(),
    };
    for image in &loaded.images {
        check.image(image);
    }
    for read in &loaded.files {
        check.path(read, None);
    }
    match check.problems.is_empty() {
        true => Ok(()),
        false => {
            let name = file.display().to_string();
            Err(Failure::recipe(Problems::new(name, check.problems)))
        }
    }
}

struct Check {
    /// Without links.
    root: PathBuf,
    problems: Vec<Problem>,
}

impl Check {
    fn path(&mut self, path: &Path, span: Option<&Span>) {
        let real = fs::canonicalize(path);
        if real.is_ok_and(|real| real.starts_with(&self.root)) {
            return;
        }
        let message = format!("{} is outside of the template", path.display());
        let problem = match span {
            Some(span) => Problem::new(span, message, "a template reads its own files only"),
            None => Problem::without_place(message),
        };
        let help = format!("move it below {}", self.root.display());
        self.problems.push(problem.with_help(help));
    }

    /// An address that may be of a file of this host.
    fn address(&mut self, url: &str, span: &Span) {
        let kind = url.get(..7);
        if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("file://")) {
            self.path(Path::new(&url[7..]), Some(span));
        }
    }

    fn refuse(&mut self, span: &Span, message: String) {
        let problem = Problem::new(span, message, "a template reads its own files only");
        self.problems.push(problem);
    }

    /// An image that may be in a file or in the storage of this host.
    fn registry(&mut self, image: &RegistryImage) {
        let span = &image.shown.span;
        match image.location.parse() {
            Ok(Location::Registry(_)) | Err(_) => {}
            Ok(
                Location::Layout { path, .. }
                | Location::Archive { path, .. }
                | Location::DockerArchive { path, .. },
            ) => self.path(&path, Some(span)),
            Ok(Location::Storage(name)) => {
                self.refuse(span, format!("{name} is outside of the template"));
            }
        }
    }

    fn fetched(&mut self, fetched: &Fetched) {
        let fetch = &fetched.fetch;
        self.address(&fetch.url.value, &fetch.url.span);
        for mirror in &fetch.mirrors {
            self.address(mirror, &fetched.span);
        }
        if let Some(Pin::Checksums { url, signature, .. }) = &fetch.pin {
            for list in [Some(url), signature.as_ref()].into_iter().flatten() {
                self.address(&list.value, &list.span);
            }
        }
    }

    fn base(&mut self, base: &Base) {
        match base {
            Base::Image(image) => self.image(image),
            Base::Disk(fetched) | Base::Layer(fetched) => self.fetched(fetched),
            Base::DiskFile(disk) => self.path(&disk.path.value, Some(&disk.path.span)),
            Base::Dockerfile(dockerfile) => {
                self.path(&dockerfile.context, Some(&dockerfile.span));
                for (_, context) in &dockerfile.contexts {
                    match context {
                        Named::Directory(path) => self.path(&path.value, Some(&path.span)),
                        Named::Image(base) => self.base(base),
                    }
                }
            }
            Base::Bootc(bootc) => self.base(&bootc.source.value),
            Base::Bootstrap(bootstrap) => {
                // apt has many kinds of addresses, and most are of files.
                let is_remote = |mirror: &String| {
                    mirror.starts_with("http://") || mirror.starts_with("https://")
                };
                if let Some(mirror) = bootstrap.mirror.as_ref().filter(|one| !is_remote(one)) {
                    self.refuse(
                        &bootstrap.span,
                        format!("{mirror} is outside of the template"),
                    );
                }
            }
            Base::Registry(image) => self.registry(image),
            Base::Tag(_) => {}
        }
    }

    fn image(&mut self, image: &Image) {
        self.base(&image.base);
        if let Some(Kernel::Fetched(fetched)) = &image.kernel {
            self.fetched(fetched);
        }
        if let Some(fetched) = &image.initrd {
            self.fetched(fetched);
        }
        for instruction in &image.instructions {
            match instruction {
                Instruction::Copy(copy) => self.path(&copy.source.value, Some(&copy.source.span)),
                Instruction::CopyFrom(copy) => self.base(&copy.from.value),
                Instruction::Layer(fetched) => self.fetched(fetched),
                Instruction::File(file) => match &file.content {
                    Content::Local(path) => self.path(&path.value, Some(&path.span)),
                    Content::Fetched(fetched) => self.fetched(fetched),
                    Content::Inline(_) => {}
                },
                _ => {}
            }
        }
    }
}
