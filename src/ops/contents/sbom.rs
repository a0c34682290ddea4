//! A bill of materials: the packages of an image, each with its version, licence, source, and the
//! step that brought it.

use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::images;
use super::{Context, no_ext4, of_layers, root, unreadable};
use crate::contents::{Package, add_licenses, language_packages, of_disk, packages_of};
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::html::harmless_json;

/// Characters of a package URL that stay as they are (<https://github.com/package-url/purl-spec>).
const PURL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What an image consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BillOfMaterials {
    pub image: ObjectId,
    /// Its tag, or the first digits of its id.
    pub name: String,
    /// Its name in the recipe, and the version of the recipe.
    pub recipe: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// In seconds since 1970.
    pub created: u64,
    pub packages: Vec<Material>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// A package, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Material {
    #[serde(flatten)]
    pub package: Package,
    /// `pkg:deb/debian/bash@5.2?arch=amd64`
    pub purl: String,
    /// The step that brought it, when a build on this host did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// The forms in which a bill of materials is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillFormat {
    /// SPDX 2.3 as JSON.
    Spdx,
    /// CycloneDX 1.5 as JSON.
    CycloneDx,
}

/// Reads what an image consists of.
///
/// # Errors
/// There is no such image, its disk has no ext4 file system, or is damaged.
pub fn sbom(context: &Context, image: &str) -> Result<BillOfMaterials, Failure> {
    let found = images::find(context, image)?;
    let name = found.display_name();
    let mut notes = Vec::new();
    let root = root(context, &found)?.ok_or_else(|| no_ext4(&name))?;
    let layers = of_layers(context, &found, &mut notes)?;
    // What is said about wasted space has no place here.
    notes.clear();
    let on_disk;
    let files = match &layers {
        Some((layers, _)) => layers.files(),
        None => {
            notes.push("the layers are not all in the store: steps are unknown".to_owned());
            on_disk = of_disk(&root).map_err(unreadable(&name))?;
            &on_disk
        }
    };
    let (mut packages, more) = packages_of(&root).map_err(unreadable(&name))?;
    notes.extend(more);
    add_licenses(&root, &mut packages).map_err(unreadable(&name))?;
    packages.extend(language_packages(&root, files).map_err(unreadable(&name))?);
    let distribution = Distribution::of(&root.read("/etc/os-release").unwrap_or_default());
    let step = |package: &Package| {
        let (_, sizes) = layers.as_ref()?;
        let layer = files.layer(package.file.as_ref()?.as_bytes())?;
        sizes.get(layer)?.step.clone()
    };
    let materials = packages.into_iter().map(|package| Material {
        purl: distribution.purl(&package),
        step: step(&package),
        package,
    });
    let mut packages: Vec<Material> = materials.collect();
    packages.sort();
    let template = &found.config.template;
    Ok(BillOfMaterials {
        image: found.image,
        name,
        recipe: template.name.to_string(),
        version: template.recipe.version.as_ref().map(ToString::to_string),
        created: found.created.unwrap_or_default(),
        packages,
        notes,
    })
}

/// What `/etc/os-release` says (os-release(5)).
struct Distribution {
    id: String,
    version: String,
}

impl Distribution {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            let value = value.unwrap_or_default().trim_matches(['"', '\'']);
            value.to_owned()
        };
        Self {
            id: field("ID="),
            version: field("VERSION_ID="),
        }
    }

    fn purl(&self, package: &Package) -> String {
        let escaped = |text: &str| utf8_percent_encode(text, PURL).to_string();
        let version = escaped(&package.version);
        let (kind, name) = match package.manager {
            "pypi" => ("pypi", package.name.to_lowercase().replace('_', "-")),
            "cargo" => return format!("pkg:cargo/{}@{version}", escaped(&package.name)),
            "npm" => {
                let parts: Vec<String> = package.name.split('/').map(escaped).collect();
                return format!("pkg:npm/{}@{version}", parts.join("/"));
            }
            "dpkg" => ("deb", package.name.clone()),
            manager => (manager, package.name.clone()),
        };
        let name = escaped(&name);
        if kind == "pypi" {
            return format!("pkg:pypi/{name}@{version}");
        }
        let mut qualifiers = Vec::new();
        if !package.architecture.is_empty() {
            qualifiers.push(format!("arch={}", escaped(&package.architecture)));
        }
        if !self.id.is_empty() && !self.version.is_empty() {
            let distribution = format!("{}-{}", self.id, self.version);
            qualifiers.push(format!("distro={}", escaped(&distribution)));
        }
        let place = match self.id.as_str() {
            "" => kind.to_owned(),
            id => format!("{kind}/{}", escaped(id)),
        };
        let question = if qualifiers.is_empty() { "" } else { "?" };
        format!(
            "pkg:{place}/{name}@{version}{question}{}",
            qualifiers.join("&")
        )
    }
}

impl BillOfMaterials {
    /// The document: JSON with a line feed at its end. Equal images give equal documents.
    #[must_use]
    pub fn document(&self, format: BillFormat) -> String {
        let value = match format {
            BillFormat::Spdx => self.spdx(),
            BillFormat::CycloneDx => self.cyclonedx(),
        };
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        harmless_json(&text) + "\n"
    }

    fn time(&self) -> String {
        let time = UNIX_EPOCH + Duration::from_secs(self.created);
        humantime::format_rfc3339_seconds(time).to_string()
    }

    /// SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>).
    fn spdx(&self) -> Value {
        let none = "NOASSERTION";
        let image = json!({
            "SPDXID": "SPDXRef-Image",
            "name": self.recipe,
            "versionInfo": self.version.as_deref().unwrap_or(none),
            "downloadLocation": none,
            "filesAnalyzed": false,
            "primaryPackagePurpose": "OPERATING_SYSTEM",
            "licenseConcluded": none,
            "licenseDeclared": none,
            "copyrightText": none,
        });
        let mut packages = vec![image];
        let mut relationships = vec![json!({
            "spdxElementId": "SPDXRef-DOCUMENT",
            "relationshipType": "DESCRIBES",
            "relatedSpdxElement": "SPDXRef-Image",
        })];
        for (number, material) in self.packages.iter().enumerate() {
            let package = &material.package;
            let id = format!("SPDXRef-Package-{}", number + 1);
            let license = package.license.as_deref();
            let expression = license.and_then(expression);
            let mut one = json!({
                "SPDXID": id,
                "name": package.name,
                "versionInfo": package.version,
                "downloadLocation": none,
                "filesAnalyzed": false,
                "licenseConcluded": none,
                "licenseDeclared": expression.as_deref().unwrap_or(none),
                "copyrightText": none,
                "externalRefs": [{
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": material.purl,
                }],
            });
            if let Some(license) = license.filter(|_| expression.is_none()) {
                one["licenseComments"] = format!("the package says: {license}").into();
            }
            if let Some(source) = &package.source {
                one["sourceInfo"] = format!("built from {source}").into();
            }
            if let Some(step) = &material.step {
                one["comment"] = format!("brought by the step: {step}").into();
            }
            packages.push(one);
            relationships.push(json!({
                "spdxElementId": "SPDXRef-Image",
                "relationshipType": "CONTAINS",
                "relatedSpdxElement": id,
            }));
        }
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": self.recipe,
            "documentNamespace": format!("urn:vmfab:image:{}", self.image),
            "creationInfo": {
                "created": self.time(),
                "creators": [format!("Tool: vmfab-{}", env!("CARGO_PKG_VERSION"))],
            },
            "packages": packages,
            "relationships": relationships,
        })
    }

    /// CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>).
    fn cyclonedx(&self) -> Value {
        let components = self.packages.iter().enumerate().map(|(number, material)| {
            let package = &material.package;
            let mut properties = Vec::new();
            let mut property = |name: &str, value: &Option<String>| {
                if let Some(value) = value {
                    properties.push(json!({ "name": format!("vmfab:{name}"), "value": value }));
                }
            };
            property("source", &package.source);
            property("step", &material.step);
            let mut one = json!({
                "type": "library",
                "bom-ref": format!("package-{}", number + 1),
                "name": package.name,
                "version": package.version,
                "purl": material.purl,
            });
            if let Some(license) = &package.license {
                one["licenses"] = match expression(license) {
                    Some(expression) => json!([{ "expression": expression }]),
                    None => json!([{ "license": { "name": license } }]),
                };
            }
            if !properties.is_empty() {
                one["properties"] = properties.into();
            }
            one
        });
        let mut image = json!({
            "type": "operating-system",
            "bom-ref": "image",
            "name": self.recipe,
        });
        if let Some(version) = &self.version {
            image["version"] = version.as_str().into();
        }
        // The same for the same image.
        let mut id = [0; 16];
        id.copy_from_slice(&self.image.digest().as_bytes()[..16]);
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": format!("urn:uuid:{}", uuid::Builder::from_random_bytes(id).into_uuid()),
            "version": 1,
            "metadata": {
                "timestamp": self.time(),
                "tools": { "components": [{
                    "type": "application",
                    "name": "vmfab",
                    "version": env!("CARGO_PKG_VERSION"),
                }] },
                "component": image,
            },
            "components": components.collect::<Vec<_>>(),
        })
    }
}

/// A licence as an SPDX expression, when it is one or Debian's short names say the same; nothing
/// otherwise.
fn expression(license: &str) -> Option<String> {
    let words = license
        .replace('(', "( ")
        .replace(')', " )")
        .replace(',', " ,");
    let words = words.split_whitespace().map(|word| match word {
        "and" | "or" => word.to_uppercase(),
        "Expat" => "MIT".to_owned(),
        "BSD-2-clause" => "BSD-2-Clause".to_owned(),
        "BSD-3-clause" => "BSD-3-Clause".to_owned(),
        word => versions(word).unwrap_or_else(|| word.to_owned()),
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let text = text.replace("( ", "(").replace(" )", ")");
    spdx::Expression::parse(&text).is_ok().then_some(text)
}

/// `GPL-2+` is `GPL-2.0-or-later`.
fn versions(word: &str) -> Option<String> {
    let (family, version) = word.rsplit_once('-')?;
    if !["GPL", "LGPL", "AGPL", "GFDL"].contains(&family) {
        return None;
    }
    let (version, end) = match version.strip_suffix('+') {
        Some(version) => (version, "or-later"),
        None => (version, "only"),
    };
    let version = match version.contains('.') {
        true => version.to_owned(),
        false => format!("{version}.0"),
    };
    let is_number = version
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let named = |version: &str| format!("{family}-{version}-{end}");
    is_number.then(|| named(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_expressions_or_none() {
        for (license, expected) in [
            ("MIT", Some("MIT")),
            ("Apache-2.0 AND MIT", Some("Apache-2.0 AND MIT")),
            ("GPL-2+", Some("GPL-2.0-or-later")),
            ("LGPL-2.1", Some("LGPL-2.1-only")),
            (
                "(Expat or BSD-3-clause) AND GPL-2+",
                Some("(MIT OR BSD-3-Clause) AND GPL-2.0-or-later"),
            ),
            ("public-domain", None),
            ("BSD", None),
            ("", None),
            ("GPL-2+ with OpenSSL exception", None),
        ] {
            assert_eq!(expression(license).as_deref(), expected, "{license}");
        }
    }

    #[test]
    fn package_urls() {
        let debian = Distribution::of(b"NAME=Debian\nID=debian\nVERSION_ID=\"12\"\n");
        let package = |manager, name: &str, version: &str, architecture: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            manager,
            size: 0,
            license: None,
            source: None,
            file: None,
        };
        for (package, expected) in [
            (
                package("dpkg", "libstdc++6", "12.2.0-14", "amd64"),
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12",
            ),
            (
                package("pypi", "Typing_Ext", "1", ""),
                "pkg:pypi/typing-ext@1",
            ),
            (package("npm", "@b/a", "1.2", ""), "pkg:npm/%40b/a@1.2"),
            (package("cargo", "adler", "1.0", ""), "pkg:cargo/adler@1.0"),
        ] {
            assert_eq!(debian.purl(&package), expected);
        }
        let unknown = Distribution::of(b"");
        let package = package("apk", "musl", "1", "x86_64");
        assert_eq!(unknown.purl(&package), "pkg:apk/musl@1?arch=x86_64");
    }
}
