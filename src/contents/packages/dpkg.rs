//! dpkg's `status`. Source: dpkg's manual, deb-control(5) and dpkg-query(1).

use super::Package;

pub(super) const MANAGER: &str = "dpkg";

/// The packages that are installed: paragraphs of fields, apart by empty lines.
pub(super) fn packages(bytes: &[u8]) -> Result<Vec<Package>, String> {
    let text = String::from_utf8_lossy(bytes);
    let paragraphs = text.split("\n\n").filter_map(|paragraph| {
        let field = |name: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        // Lists of single packages have no status.
        let installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
        let kibibytes: u64 = field("Installed-Size").map_or(Some(0), |size| size.parse().ok())?;
        installed.then_some(())?;
        let name = field("Package")?;
        let architecture = field("Architecture").unwrap_or_default();
        // Packages of several architectures at once have it in the names of their files.
        let qualified = match field("Multi-Arch") {
            Some("same") => format!("{name}:{architecture}"),
            _ => name.to_owned(),
        };
        Some(Package {
            license: None,
            source: field("Source").map(str::to_owned),
            file: Some(format!("var/lib/dpkg/info/{qualified}.list")),
            name: name.to_owned(),
            version: field("Version")?.to_owned(),
            architecture: architecture.to_owned(),
            manager: MANAGER,
            size: kibibytes.saturating_mul(1024),
        })
    });
    Ok(paragraphs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_listed() {
        let status = "\
Package: libc6
Status: install ok installed
Installed-Size: 12985
Architecture: amd64
Version: 2.36-9+deb12u10
Description: GNU C Library
 Package: not a field
 Version: 0

Package: gone
Status: deinstall ok config-files
Version: 1

Package: small
Version: 1.0-1
";
        let found = packages(status.as_bytes()).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|one| (&*one.name, &*one.version, &*one.architecture, one.size))
            .collect();
        assert_eq!(
            found,
            [
                ("libc6", "2.36-9+deb12u10", "amd64", 12985 * 1024),
                ("small", "1.0-1", "", 0)
            ]
        );
    }
}
