//! Content from outside, and what is done to it before it is a disk, a layer or a file.

use std::collections::btree_map::Entry;

use super::{Lowering, input};
use crate::derivation::step::{self, Step};
use crate::derivation::{Input, NodeId};
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::host::Program;
use crate::image::DiskFormat;
use crate::plan::{Pinned, Place, PlanError};
use crate::recipe::{Fetch, Fetched, Pin, Spanned, Transform};
use crate::text::without_logins;

impl Lowering<'_> {
    /// Content from outside after all that is done to it. Unpacking is left to the tree that it is
    /// for.
    pub(super) fn fetched(&mut self, own: &str, fetched: &Fetched) -> Result<Input, PlanError> {
        let mut blob = self.fetch(own, &fetched.fetch)?;
        for transform in &fetched.transforms {
            blob = self.transform(own, blob, &transform.value)?;
        }
        Ok(blob)
    }

    /// The same content is fetched once, whatever it is for.
    pub(super) fn fetch(&mut self, own: &str, fetch: &Fetch) -> Result<Input, PlanError> {
        let pinned = match &fetch.pin {
            Some(Pin::Checksum(checksum)) => Pinned {
                checksum: checksum.clone(),
                size: fetch.size,
            },
            _ => {
                let pinned = self.world.pin(fetch);
                pinned.map_err(|error| not_pinned(&fetch.url, "content", error))?
            }
        };
        let place = Place {
            urls: [&fetch.url.value]
                .into_iter()
                .chain(&fetch.mirrors)
                .cloned()
                .collect(),
            size: fetch.size.or(pinned.size),
            exact: fetch.size.is_some(),
        };
        let name = place.name().to_owned();
        let known_as = pinned.checksum.to_string();
        let node = match self.fetch_nodes.get(&known_as) {
            Some(node) => *node,
            None => {
                let step = Step::Fetch(step::Fetch {
                    checksum: pinned.checksum.clone(),
                });
                self.graph
                    .add_step(format!("{own}: fetch {name}"), &step, Vec::new())?
            }
        };
        self.fetch_nodes.insert(known_as, node);
        match self.places.entry(pinned.checksum) {
            Entry::Vacant(entry) => drop(entry.insert(place)),
            // Content that is fetched twice can be had at all of its addresses.
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                for url in place.urls {
                    if !known.urls.contains(&url) {
                        known.urls.push(url);
                    }
                }
                known.size = known.size.or(place.size);
                known.exact |= place.exact;
            }
        }
        Ok(input("blob", node, "blob"))
    }

    fn transform(
        &mut self,
        own: &str,
        blob: Input,
        transform: &Transform,
    ) -> Result<Input, PlanError> {
        let (label, step) = match transform {
            Transform::StripVhdFooter => (
                "strip VHD footer".to_owned(),
                step::Transform::StripVhdFooter,
            ),
            Transform::Decompress(format) => {
                let format = format.map(|format| format.name().to_owned());
                (
                    "decompress".to_owned(),
                    step::Transform::Decompress { format },
                )
            }
            Transform::Convert(from) => return self.converted(own, blob, *from),
            Transform::Rename(name) => (
                format!("rename {name}"),
                step::Transform::Rename { name: name.clone() },
            ),
            Transform::Extract(member) => (
                format!("extract {member}"),
                step::Transform::Extract {
                    member: member.clone(),
                },
            ),
            Transform::Unpack => return Ok(blob),
        };
        let node = self.graph.add_step(
            format!("{own}: {label}"),
            &Step::Transform(step),
            vec![blob],
        )?;
        Ok(input("blob", node, "blob"))
    }

    /// A disk in any format as raw bytes.
    pub(super) fn converted(
        &mut self,
        own: &str,
        mut blob: Input,
        from: Option<DiskFormat>,
    ) -> Result<Input, PlanError> {
        if from != Some(DiskFormat::Raw) {
            // It runs confined, as all programs that read what others made.
            self.programs.extend([Program::QemuImg, Program::Bwrap]);
        }
        blob.role = "blob".to_owned();
        let step = Step::Transform(step::Transform::Convert {
            from: from.map(|format| format.name().to_owned()),
        });
        let name = match from {
            Some(format) => format!("{own}: convert from {}", format.name()),
            None => format!("{own}: convert"),
        };
        let node = self.graph.add_step(name, &step, vec![blob])?;
        Ok(input("blob", node, "blob"))
    }

    /// One file of content from outside, as `copy` takes it.
    pub(super) fn packed(&mut self, own: &str, blob: Input) -> Result<Input, PlanError> {
        let step = Step::Transform(step::Transform::Pack {
            time: self.world.file_time(),
        });
        let node = self
            .graph
            .add_step(format!("{own}: pack"), &step, vec![blob])?;
        Ok(input("source", node, "blob"))
    }

    /// An object that is in the store.
    pub(super) fn object(&mut self, name: String, object: ObjectRef) -> Result<NodeId, PlanError> {
        let step = Step::Object(step::Object {
            id: object.id,
            size: object.size,
        });
        Ok(self.graph.add_step(name, &step, Vec::new())?)
    }
}

/// Why it is not known what an address stands for.
pub(super) fn not_pinned(url: &Spanned<String>, what: &str, failure: Failure) -> PlanError {
    let address = without_logins(&url.value);
    let message = format!("cannot find out which {what} {address} has: {failure}");
    let usual = "give its checksum (sha256=\"…\"), or pin it with \"vmfab lock\"";
    PlanError::asked(failure, &url.span, message, "not pinned", Some(usual))
}
