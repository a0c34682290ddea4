//! Pulling what is for one of several platforms.

use super::home::{Home, disk};
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;

const MIB: usize = 1 << 20;

#[test]
fn an_image_of_another_architecture_is_taken_when_it_is_the_only_one() {
    let (registry, home) = (Registry::start(), Home::new());
    let image = home.image_for("web", &disk(1, MIB), "riscv64");
    home.push("@web", &registry.at("web:1"));
    assert_eq!(
        Home::new().pull(&registry.at("web:1"))["image"],
        image.as_str()
    );
}

#[test]
fn a_platform_that_no_index_tells_is_that_of_the_image() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    let maker = Home::new();
    let image = maker.image_for("web", &disk(1, 2 * MIB), "aarch64");
    let at = proxy.at("web:1");
    maker.push("@web", &at);
    let home = Home::new();
    let before = proxy.moved().1;
    for wrong in ["linux/amd64", "x86_64", "riscv64", "freebsd/arm64"] {
        let said = home.refused(&["pull", &at, "--platform", wrong], 1);
        assert!(said.contains("linux/arm64"), "{wrong}: {said}");
        assert!(said.contains("--platform"), "{wrong}: {said}");
    }
    home.has_nothing();
    let down = proxy.moved().1 - before;
    assert!(down < MIB, "{down} bytes of an image that is not wanted");
    for right in ["linux/arm64", "aarch64", "linux/arm64/v8"] {
        let pulled = home.json(&["pull", &at, "--platform", right]);
        assert_eq!(pulled[0]["image"], image.as_str(), "{right}");
    }
}

#[test]
fn a_platform_of_a_containerdisk_is_that_of_its_config() {
    let (registry, maker, home) = (Registry::start(), Home::new(), Home::new());
    let at = registry.at("web:1");
    maker.image("web", &disk(1, MIB));
    let words = ["push", "@web", &at, "--layout", "containerdisk"];
    maker.run(&words).ends_with(0);
    let said = home.refused(&["pull", &at, "--platform", "arm64"], 1);
    assert!(said.contains("linux/amd64"), "{said}");
    home.has_nothing();
    home.json(&["pull", &at, "--platform", "amd64"]);
}
