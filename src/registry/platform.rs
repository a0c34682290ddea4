//! What an image is for, and which one of an index is for a platform. Pure.

use std::fmt;

use super::model::{Described, Descriptor, Index, Platform};

/// podman's annotation with the monitor that the disk of a virtual machine is for.
const DISK_TYPE: &str = "disktype";
/// Monitors by how well their disks suit QEMU: qcow2, raw, VHDX.
const DISK_TYPES: [&str; 3] = ["qemu", "applehv", "hyperv"];

impl Platform {
    /// Linux on an architecture, which is called as Go calls it or as `uname` does.
    #[must_use]
    pub fn linux(architecture: &str) -> Self {
        Self {
            architecture: go_name(architecture).to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }

    #[must_use]
    pub fn host() -> Self {
        Self::linux(std::env::consts::ARCH)
    }

    /// Whether what is for this platform is for the wanted one. A variant counts only when one is
    /// wanted.
    fn fits(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && go_name(&self.architecture) == go_name(&wanted.architecture)
            && (wanted.variant.is_none() || self.more_than_usual() == wanted.more_than_usual())
    }

    /// Whether what says that it is for this platform is not for the wanted one. What it keeps
    /// silent about is as good as right.
    #[must_use]
    pub fn is_other_than(&self, wanted: &Self) -> bool {
        let other = |told: &str, wanted: &str| !told.is_empty() && told != wanted;
        let tells_variant = |one: &Self| !one.variant.as_deref().unwrap_or_default().is_empty();
        let both_tell =
            !self.architecture.is_empty() && tells_variant(self) && tells_variant(wanted);
        other(&self.os, &wanted.os)
            || other(go_name(&self.architecture), go_name(&wanted.architecture))
            || both_tell && self.more_than_usual() != wanted.more_than_usual()
    }

    /// The variant, if it asks for more than every processor of the architecture has: 64-bit ARM is
    /// always at least v8, and amd64 at least v1.
    #[must_use]
    pub fn more_than_usual(&self) -> Option<&str> {
        let usual = match go_name(&self.architecture) {
            "arm64" => "v8",
            "amd64" => "v1",
            _ => "",
        };
        let variant = self.variant.as_deref();
        variant.filter(|variant| !variant.is_empty() && *variant != usual)
    }
}

/// `OS/ARCHITECTURE[/VARIANT]`, without what is not known.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = self.variant.as_deref().unwrap_or_default();
        let mut parts = vec![self.os.as_str(), &self.architecture, variant];
        parts.retain(|part| !part.is_empty());
        f.write_str(&parts.join("/"))
    }
}

/// The manifest of an index for a platform. Of several the one whose disk suits QEMU best, then
/// that of the usual variant, then the first.
pub(super) fn choose<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let fitting = index.manifests().iter().filter_map(|one| {
        let platform = one.is_for()?;
        platform.fits(wanted).then_some((one, platform))
    });
    let usual = |platform: &Platform| platform.more_than_usual().map(str::to_owned);
    let best = fitting.min_by_key(|(one, platform)| (disk_rank(one), usual(platform)));
    best.map(|(one, _)| one)
}

/// The platforms that an index has images for, sorted, for messages.
pub(super) fn platforms(index: &Index) -> Vec<String> {
    let mut names: Vec<String> = index
        .manifests()
        .iter()
        .filter_map(Described::is_for)
        // Attestations have a place in the index and are no images.
        .filter(|platform| platform.os != "unknown")
        .map(|platform| platform.to_string())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Go's name of an architecture, as the specification wants it; podman's machines have `uname`'s.
fn go_name(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// How well the disk suits QEMU. What says nothing of a monitor is not made for another one.
fn disk_rank(descriptor: &Descriptor) -> usize {
    match descriptor.annotation(DISK_TYPE) {
        None => 0,
        Some(own) => DISK_TYPES
            .iter()
            .position(|known| *known == own)
            .unwrap_or(DISK_TYPES.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::{Blob, ToldPlatform, descriptor, media};

    /// A manifest for `OS/ARCHITECTURE[/VARIANT]`, with a kind of machine or without one.
    fn entry(platform: &str, disk_type: &str) -> Descriptor {
        let mut entry = descriptor(media::MANIFEST, &Blob::of(platform.as_bytes()));
        entry.set_for(&parsed(platform));
        if !disk_type.is_empty() {
            entry.annotate(DISK_TYPE, disk_type);
        }
        entry
    }

    fn parsed(platform: &str) -> Platform {
        let parts: Vec<&str> = platform.split('/').collect();
        Platform {
            os: parts[0].to_owned(),
            architecture: parts[1].to_owned(),
            variant: parts.get(2).map(|&variant| variant.to_owned()),
        }
    }

    fn index(manifests: Vec<Descriptor>) -> Index {
        crate::registry::index(manifests, Default::default())
    }

    fn of_platforms(platforms: &[&str]) -> Index {
        index(platforms.iter().map(|one| entry(one, "")).collect())
    }

    /// Which one of an index is chosen, by its number.
    fn chosen(index: &Index, wanted: &str) -> Option<usize> {
        let chosen = choose(index, &parsed(wanted))?;
        let at = |one: &Descriptor| std::ptr::eq(one, chosen);
        index.manifests().iter().position(at)
    }

    #[test]
    fn platforms_as_people_write_them() {
        for platform in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(parsed(platform).to_string(), platform);
        }
        assert_eq!(parsed("linux/arm64/").to_string(), "linux/arm64");
        assert_eq!(parsed("/arm64").to_string(), "arm64");
        assert_eq!(Platform::linux("x86_64").to_string(), "linux/amd64");
        assert_eq!(Platform::linux("aarch64").to_string(), "linux/arm64");
        assert_eq!(Platform::linux("arm64").to_string(), "linux/arm64");
        assert_eq!(Platform::linux("s390x").to_string(), "linux/s390x");
    }

    #[test]
    fn the_platform_of_the_machine_is_chosen() {
        let all = [
            "windows/amd64",
            "linux/arm/v7",
            "linux/amd64/v3",
            "linux/amd64",
            "linux/arm64/v8",
            "unknown/unknown",
        ];
        let index = of_platforms(&all);
        assert_eq!(chosen(&index, "linux/amd64"), Some(3));
        assert_eq!(chosen(&index, "linux/x86_64"), Some(3));
        assert_eq!(chosen(&index, "linux/aarch64"), Some(4));
        assert_eq!(chosen(&index, "linux/arm"), Some(1));
        assert_eq!(chosen(&index, "windows/amd64"), Some(0));
        assert_eq!(chosen(&index, "linux/riscv64"), None);
        let unusual = of_platforms(&all[..3]);
        assert_eq!(chosen(&unusual, "linux/amd64"), Some(2), "better than none");
        assert_eq!(chosen(&of_platforms(&[]), "linux/amd64"), None);
    }

    #[test]
    fn of_the_variants_the_usual_one_is_chosen() {
        let index = of_platforms(&["linux/arm64/v9", "linux/arm64/v8", "linux/arm64"]);
        assert_eq!(chosen(&index, "linux/arm64"), Some(1), "the first");
        let index = of_platforms(&["linux/arm/v7", "linux/arm/v6", "linux/arm/v6"]);
        assert_eq!(chosen(&index, "linux/arm"), Some(1), "the least");
    }

    #[test]
    fn a_variant_that_is_wanted_must_be_there() {
        let index = of_platforms(&["linux/arm/v6", "linux/arm/v7", "linux/arm64"]);
        assert_eq!(chosen(&index, "linux/arm/v7"), Some(1));
        assert_eq!(chosen(&index, "linux/arm/v5"), None);
        assert_eq!(chosen(&index, "linux/arm64/v9"), None);
        let usual = of_platforms(&["linux/arm64/v9", "linux/arm64", "linux/amd64/v1"]);
        assert_eq!(
            chosen(&usual, "linux/arm64/v8"),
            Some(1),
            "it is the usual one"
        );
        assert_eq!(chosen(&usual, "linux/amd64/v1"), Some(2));
        assert_eq!(chosen(&of_platforms(&["linux/arm"]), "linux/arm/v8"), None);
    }

    #[test]
    fn the_disk_that_suits_is_chosen() {
        let podman = [
            ("linux/x86_64", "wsl"),
            ("linux/x86_64", "hyperv"),
            ("linux/aarch64", "qemu"),
            ("linux/x86_64", "applehv"),
            ("linux/x86_64", "qemu"),
        ];
        let podman = index(podman.map(|(one, kind)| entry(one, kind)).to_vec());
        assert_eq!(chosen(&podman, "linux/amd64"), Some(4));
        assert_eq!(chosen(&podman, "linux/arm64"), Some(2));
        let without = |last: usize| index(podman.manifests()[..last].to_vec());
        assert_eq!(chosen(&without(4), "linux/amd64"), Some(3));
        assert_eq!(chosen(&without(3), "linux/amd64"), Some(1));
        assert_eq!(chosen(&without(1), "linux/amd64"), Some(0));
        let mixed = [
            ("linux/amd64", "hyperv"),
            ("linux/amd64/v3", "qemu"),
            ("linux/amd64", ""),
            ("linux/amd64", "qemu"),
        ];
        let mixed = index(mixed.map(|(one, kind)| entry(one, kind)).to_vec());
        assert_eq!(chosen(&mixed, "linux/amd64"), Some(2));
        let monitor_first = index(mixed.manifests()[..2].to_vec());
        assert_eq!(chosen(&monitor_first, "linux/amd64"), Some(1));
    }

    #[test]
    fn what_has_no_platform_is_for_none() {
        let mut silent = of_platforms(&["linux/amd64"]);
        let mut manifests = silent.manifests().clone();
        manifests[0].set_platform(None);
        silent.set_manifests(manifests);
        assert_eq!(chosen(&silent, "linux/amd64"), None);
        assert!(platforms(&silent).is_empty());
    }

    #[test]
    fn what_is_not_told_is_as_good_as_right() {
        let wanted = parsed("linux/amd64");
        for told in [
            "linux/amd64",
            "linux/x86_64",
            "linux/amd64/v3",
            "/amd64",
            "linux/",
            "/",
        ] {
            assert!(!parsed(told).is_other_than(&wanted), "{told}");
        }
        for told in ["linux/arm64", "/arm64", "freebsd/amd64", "freebsd/"] {
            assert!(parsed(told).is_other_than(&wanted), "{told}");
        }
        for (told, wanted, is_other) in [
            ("linux/arm/v6", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm/v7", false),
            ("linux/arm", "linux/arm/v7", false),
            ("linux/arm/", "linux/arm/v7", false),
            ("linux/arm/v7", "linux/arm", false),
            ("linux/arm64/v8", "linux/arm64/v9", true),
            ("linux/arm64/v9", "linux/arm64/v8", true),
            ("linux/arm64", "linux/arm64/v8", false),
            ("linux/aarch64/v8", "linux/arm64/v8", false),
            ("//v8", "linux/arm64/v8", false),
        ] {
            let (told, wanted) = (parsed(told), parsed(wanted));
            assert_eq!(told.is_other_than(&wanted), is_other, "{told}, {wanted}");
        }
    }

    #[test]
    fn configs_may_tell_a_part_of_it() {
        for (config, platform) in [
            ("{}", "/"),
            (r#"{"architecture":"arm64"}"#, "/arm64"),
            (r#"{"os":"linux","rootfs":{}}"#, "linux/"),
            (
                r#"{"architecture":"arm","os":"linux","variant":"v7"}"#,
                "linux/arm/v7",
            ),
        ] {
            let told: ToldPlatform = serde_json::from_str(config).unwrap();
            assert_eq!(Platform::from(told), parsed(platform), "{config}");
        }
    }

    #[test]
    fn platforms_for_messages() {
        let index = of_platforms(&[
            "windows/amd64",
            "unknown/unknown",
            "linux/arm64/v8",
            "linux/amd64",
            "linux/amd64",
        ]);
        assert_eq!(
            platforms(&index),
            ["linux/amd64", "linux/arm64/v8", "windows/amd64"]
        );
        assert!(platforms(&of_platforms(&["unknown/unknown"])).is_empty());
    }

    proptest! {
        /// Sorting keeps the order of equal ones, and so does the choice.
        #[test]
        fn the_choice_is_the_first_of_what_is_sorted(
            manifests in prop::collection::vec(
                ("(linux|windows)/(amd64|x86_64|arm)(/v[1-3])?", "(qemu|applehv|hyperv|wsl)?"),
                0..8,
            ),
            wanted in "linux/(amd64|arm)(/v[1-3])?",
        ) {
            let entries = manifests.iter().map(|(platform, kind)| entry(platform, kind));
            let index = index(entries.collect());
            let wanted_platform = parsed(&wanted);
            let mut fitting: Vec<(usize, &Descriptor)> = index.manifests().iter().enumerate().collect();
            fitting.retain(|(_, one)| one.is_for().is_some_and(|p| p.fits(&wanted_platform)));
            fitting.sort_by_key(|(_, one)| one.is_for().and_then(|p| p.more_than_usual().map(str::to_owned)));
            fitting.sort_by_key(|(_, one)| disk_rank(one));
            prop_assert_eq!(chosen(&index, &wanted), fitting.first().map(|(at, _)| *at));
        }
    }
}
