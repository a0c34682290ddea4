//! Arguments that a build has without declaring them in the head.

use std::collections::BTreeMap;

/// For what a build is, and where it runs: such as `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platforms {
    pub build: String,
    pub target: String,
}

/// The arguments of platforms. They hold in `FROM`; a stage sees those that it declares.
#[must_use]
pub fn predefined(platforms: &Platforms, target_stage: &str) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    for (prefix, platform) in [("BUILD", &platforms.build), ("TARGET", &platforms.target)] {
        let mut parts = platform.splitn(3, '/').map(str::to_owned);
        let mut add = |name: &str, value: String| {
            arguments.insert(format!("{prefix}{name}"), value);
        };
        add("PLATFORM", platform.clone());
        add("OS", parts.next().unwrap_or_default());
        add("ARCH", parts.next().unwrap_or_default());
        add("VARIANT", parts.next().unwrap_or_default());
        add("OSVERSION", String::new());
    }
    arguments.insert("TARGETSTAGE".to_owned(), target_stage.to_owned());
    arguments
}

/// Arguments that may be given without a declaration: proxies. They reach the environment of
/// `RUN`, and count in no key.
#[must_use]
pub fn is_proxy(name: &str) -> bool {
    const PROXIES: [&str; 5] = [
        "http_proxy",
        "https_proxy",
        "ftp_proxy",
        "no_proxy",
        "all_proxy",
    ];
    let has_one_case = name == name.to_lowercase() || name == name.to_uppercase();
    has_one_case && PROXIES.contains(&name.to_lowercase().as_str())
}
