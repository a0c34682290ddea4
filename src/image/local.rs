//! Images on this host, in the words that skopeo has for them. Pure.

/// What references to images on this host begin with.
const SCHEMES: [&str; 4] = ["oci", "oci-archive", "docker-archive", "containers-storage"];

/// The scheme of a reference to an image on this host, and what follows its colon; nothing of a
/// reference to one in a registry.
#[must_use]
pub fn local_scheme(reference: &str) -> Option<(&'static str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let scheme = SCHEMES.into_iter().find(|known| *known == scheme)?;
    // `oci://` is before references to registries.
    (!rest.starts_with("//")).then_some((scheme, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_told_from_hosts() {
        assert_eq!(local_scheme("oci:a:1"), Some(("oci", "a:1")));
        let storage = local_scheme("containers-storage:localhost/os:1");
        assert_eq!(storage, Some(("containers-storage", "localhost/os:1")));
        for other in ["oci://a/b:1", "docker-archive", "debian:12", "oci/a:1"] {
            assert_eq!(local_scheme(other), None, "{other}");
        }
    }
}
