//! Images in registries and layouts as bases.

use super::tree::Tree;
use super::{Lowered, Lowering, Trunk, check_architecture, disk, input};
use crate::derivation::Input;
use crate::derivation::step::{self, Step};
use crate::digest::{Checksum, Sha256};
use crate::image::HistoryEntry;
use crate::plan::{
    BlobPlace, Container, ContainerLayer, PlanError, Remote, RemoteDisk, label, login_env,
};
use crate::recipe::{Problem, RegistryImage};

impl Lowered {
    /// Remembers which image in a registry it starts from, for those who look at it there.
    fn based_on(&mut self, digest: Sha256) {
        let name = "org.opencontainers.image.base.digest".to_owned();
        self.labels.insert(name, Checksum::from(digest).to_string());
    }
}

impl Lowering<'_> {
    /// An image in a registry or a layout.
    pub(super) fn registry(
        &mut self,
        own: &str,
        image: &RegistryImage,
        architecture: &str,
    ) -> Result<Lowered, PlanError> {
        let shown = &image.shown.value;
        let remote = self.world.remote(image, architecture);
        let remote = remote.map_err(|failure| {
            let message = format!("cannot start from {shown}: {failure}");
            PlanError::asked(failure, &image.shown.span, message, "named here", None)
        })?;
        let shown = &label::remote(shown);
        if image.service && !matches!(remote, Remote::Container(_)) {
            let message = format!("{shown} is no container image: it has no process to run");
            let problem = Problem::new(&image.shown.span, message, "a machine already");
            return Err(problem.with_help("leave out service=#true").into());
        }
        Ok(match remote {
            Remote::Image(place, config) => {
                check_architecture(shown, &config, &image.shown.span, architecture)?;
                for object in config.objects() {
                    let place = BlobPlace {
                        size: object.size,
                        ..place.clone()
                    };
                    self.artifacts.insert(object.id, place);
                }
                let mut lowered = self.stored(shown, &config)?;
                lowered.based_on(place.digest);
                lowered
            }
            Remote::Container(container) => self.container(own, shown, container)?,
            Remote::Disk(remote) => Lowered::disk(self.remote_disk(own, shown, remote)?),
        })
    }

    /// A container image. Its environment is not that of logins yet.
    fn container(
        &mut self,
        own: &str,
        shown: &str,
        container: Container,
    ) -> Result<Lowered, PlanError> {
        let count = container.layers.len();
        let mut tree = Tree::default();
        for (index, layer) in container.layers.into_iter().enumerate() {
            let number = index + 1;
            let name = format!("{own}: fetch layer {number} of {count} of {shown}");
            let blob = self.oci_layer(name, layer)?;
            let name = format!("{own}: layer {number} of {count} of {shown}");
            let step = Step::Transform(step::Transform::Apply);
            self.layer(&mut tree, name, &step, vec![blob])?;
        }
        // Where it is does not count.
        tree.note_all((1..=count).map(|number| HistoryEntry::layer(&format!("layer {number}"))));
        tree.note_all(container.history);
        let mut lowered = Lowered::tree(tree);
        lowered.labels.clone_from(&container.config.labels);
        lowered.container = Some(*container.config);
        lowered.author = container.author;
        if let Some(digest) = container.digest {
            lowered.based_on(digest);
        }
        Ok(lowered)
    }

    /// Has the environment of a container hold in the steps that follow, and for all logins. `of`
    /// says of what it is, for people.
    pub(super) fn env_of_container(
        &mut self,
        own: &str,
        of: &str,
        lowered: &mut Lowered,
    ) -> Result<(), PlanError> {
        let Some(container) = &lowered.container else {
            return Ok(());
        };
        let env = login_env(container);
        let holds = |(name, value): (&String, &String)| lowered.env.get(name) == Some(value);
        let Trunk::Tree(tree) = &mut lowered.trunk else {
            return Ok(());
        };
        if env.iter().all(holds) {
            return Ok(());
        }
        let names: Vec<&str> = env.keys().map(String::as_str).collect();
        let what = format!("env {}", label::shorten(&names.join(" ")));
        let name = format!("{own}: {what}{of}");
        lowered.env.extend(env);
        let step = Step::Env(step::Env {
            variables: lowered.env.clone(),
        });
        let before = tree.height();
        self.layer(tree, name, &step, Vec::new())?;
        tree.note(&what, before);
        Ok(())
    }

    /// A disk in a registry, as raw bytes.
    fn remote_disk(
        &mut self,
        own: &str,
        shown: &str,
        remote: RemoteDisk,
    ) -> Result<disk::Disk, PlanError> {
        let (name, blob, step) = match remote {
            RemoteDisk::Blob(place) => {
                let blob = self.blob(format!("{own}: fetch {shown}"), place)?;
                let format = Some("any".to_owned());
                let step = step::Transform::Decompress { format };
                ("decompress".to_owned(), blob, step)
            }
            RemoteDisk::Containerdisk(layer) => {
                let blob = self.oci_layer(format!("{own}: fetch {shown}"), layer)?;
                let name = format!("disk of {shown}");
                (name, blob, step::Transform::Containerdisk)
            }
        };
        let step = Step::Transform(step);
        let name = format!("{own}: {name}");
        let node = self.graph.add_step(name, &step, vec![blob])?;
        let mut disk = self.converted(own, input("blob", node, "blob"), None)?;
        disk.role = "disk".to_owned();
        Ok(disk::Disk::new(disk))
    }

    /// The tar of a layer; the same one is fetched once.
    fn oci_layer(&mut self, name: String, layer: ContainerLayer) -> Result<Input, PlanError> {
        let ContainerLayer { diff_id, place } = layer;
        let diff_id = Checksum::from(diff_id);
        let step = Step::OciLayer(step::OciLayer {
            diff_id: diff_id.clone(),
        });
        self.fetched_once(name, format!("layer {diff_id}"), &step, diff_id, place)
    }

    fn blob(&mut self, name: String, place: BlobPlace) -> Result<Input, PlanError> {
        let checksum = Checksum::from(place.digest);
        let step = Step::Fetch(step::Fetch {
            checksum: checksum.clone(),
        });
        self.fetched_once(name, checksum.to_string(), &step, checksum, place)
    }

    fn fetched_once(
        &mut self,
        name: String,
        known_as: String,
        step: &Step,
        digest: Checksum,
        place: BlobPlace,
    ) -> Result<Input, PlanError> {
        let node = match self.fetch_nodes.get(&known_as) {
            Some(node) => *node,
            None => self.graph.add_step(name, step, Vec::new())?,
        };
        self.fetch_nodes.insert(known_as, node);
        self.blobs.entry(digest).or_insert(place);
        Ok(input("blob", node, "blob"))
    }
}
