//! Images in registries and layouts as bases.

use super::tree::Tree;
use super::{Lowering, Trunk, disk, input};
use crate::derivation::Input;
use crate::derivation::step::{self, Step};
use crate::plan::settings::Settings;
use crate::plan::{
    BlobPlace, Container, ContainerLayer, PlanError, Remote, RemoteDisk, label, login_env,
};
use crate::recipe::{Problem, RegistryImage};

impl Lowering<'_> {
    /// What the steps of an image are done to that starts from one in a registry, and the settings that it comes with.
    pub(super) fn registry(
        &mut self,
        own: &str,
        image: &RegistryImage,
    ) -> Result<(Trunk, Settings), PlanError> {
        let shown = &image.shown.value;
        let remote = self.world.remote(&image.location, self.architecture);
        let remote = remote.map_err(|error| {
            let message = format!("cannot start from {shown}: {error}");
            if error.outage {
                let help = error.help.unwrap_or_default();
                return PlanError::Outage { message, help };
            }
            let problem = Problem::new(&image.shown.span, message, "named here");
            match error.help {
                Some(help) => problem.with_help(help).into(),
                None => problem.into(),
            }
        })?;
        let shown = &label::remote(shown);
        match remote {
            Remote::Image(place, config) => {
                self.check_architecture(shown, &config, &image.shown.span)?;
                self.based_on(&place.digest);
                for object in config.objects() {
                    let place = BlobPlace {
                        size: object.size,
                        ..place.clone()
                    };
                    self.artifacts.insert(object.id, place);
                }
                self.stored(shown, &config)
            }
            Remote::Container(container) => {
                let digest = container.digest.clone();
                let tree = self.container(own, shown, container)?;
                self.based_on(&digest);
                Ok((Trunk::Tree(tree), Settings::new()))
            }
            Remote::Disk(remote) => {
                let disk = self.remote_disk(own, shown, remote)?;
                Ok((Trunk::Disk(Box::new(disk)), Settings::foreign()))
            }
        }
    }

    /// Remembers which image in a registry it starts from, for those who look at it there.
    fn based_on(&mut self, digest: &str) {
        let name = "org.opencontainers.image.base.digest".to_owned();
        self.labels.insert(name, digest.to_owned());
    }

    /// The tree of a container image. Its environment holds in the steps that follow, and for all logins.
    fn container(
        &mut self,
        own: &str,
        shown: &str,
        container: Container,
    ) -> Result<Tree, PlanError> {
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
        let env = login_env(&container.config);
        self.labels = container.config.labels;
        if !env.is_empty() {
            self.env = env;
            let names: Vec<&str> = self.env.keys().map(String::as_str).collect();
            let name = format!("{own}: env {} of {shown}", label::shorten(&names.join(" ")));
            let step = Step::Env(step::Env {
                variables: self.env.clone(),
            });
            self.layer(&mut tree, name, &step, Vec::new())?;
        }
        Ok(tree)
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
        let step = Step::OciLayer(step::OciLayer {
            diff_id: diff_id.clone(),
        });
        self.fetched_once(name, format!("layer {diff_id}"), &step, diff_id, place)
    }

    fn blob(&mut self, name: String, place: BlobPlace) -> Result<Input, PlanError> {
        let checksum = place.digest.clone();
        let step = Step::Fetch(step::Fetch {
            checksum: checksum.clone(),
        });
        self.fetched_once(name, checksum.clone(), &step, checksum, place)
    }

    fn fetched_once(
        &mut self,
        name: String,
        known_as: String,
        step: &Step,
        digest: String,
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
