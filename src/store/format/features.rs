//! `format.json`: the version of the store and its features (`store-format/README.md`).

use serde::Deserialize;

use super::FormatError;

/// What a new store says of itself.
pub(crate) const FORMAT_JSON: &str = "{\"format\":\"vmfab-store\",\"version\":1,\"compatible\":[],\
    \"read_only_compatible\":[],\"incompatible\":[]}\n";
/// The longest that is read, in bytes.
pub(crate) const MAX_FORMAT_JSON: u64 = 65_536;

/// What may be done with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    /// Reading only: these features say so.
    Read(Vec<String>),
    /// Nothing: the version is another one.
    OtherVersion(u64),
    /// Nothing: these features are needed.
    Features(Vec<String>),
}

#[derive(Deserialize)]
struct Format {
    format: Option<String>,
    version: u64,
    #[serde(default)]
    read_only_compatible: Vec<String>,
    #[serde(default)]
    incompatible: Vec<String>,
}

/// What the text of a `format.json` allows.
///
/// # Errors
/// It is none.
pub(crate) fn check_features(text: &[u8]) -> Result<Access, FormatError> {
    let format: Format =
        serde_json::from_slice(text).map_err(|_| FormatError("it does not say a format"))?;
    if format.version != 1 {
        return Ok(Access::OtherVersion(format.version));
    }
    if format.format.as_deref() != Some("vmfab-store") {
        return Err(FormatError("it does not say a format"));
    }
    // This version knows no features.
    Ok(if !format.incompatible.is_empty() {
        Access::Features(format.incompatible)
    } else if !format.read_only_compatible.is_empty() {
        Access::Read(format.read_only_compatible)
    } else {
        Access::Write
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_decide() {
        assert_eq!(check_features(FORMAT_JSON.as_bytes()), Ok(Access::Write));
        let with = |features: &str| {
            check_features(
                format!("{{\"format\":\"vmfab-store\",\"version\":1,{features}}}").as_bytes(),
            )
        };
        assert_eq!(with(r#""compatible":["x"],"new":1"#), Ok(Access::Write));
        assert_eq!(
            with(r#""read_only_compatible":["x"]"#),
            Ok(Access::Read(vec!["x".to_owned()]))
        );
        assert_eq!(
            with(r#""incompatible":["y"],"read_only_compatible":["x"]"#),
            Ok(Access::Features(vec!["y".to_owned()]))
        );
        assert_eq!(
            check_features(b"{\"version\":0}"),
            Ok(Access::OtherVersion(0))
        );
        for bad in ["", "{}", "[]", r#"{"version":1}"#, r#"{"version":-1}"#] {
            assert!(check_features(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
