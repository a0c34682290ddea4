//! Manifests and tags.

use std::fs;

use vmfab::registry::{MAX_MANIFEST, RegistryError, Repository, Version, media};

use super::home::Home;
use super::{User, blob, bytes, manifest, put};
use crate::support::proxy::{Fault, Proxy};
use crate::support::registry::Registry;

fn tag(name: &str) -> Version {
    Version::tag(name).unwrap()
}

/// Puts a manifest under tags.
fn push(repository: &dyn Repository, manifest: &[u8], tags: &[&str]) {
    put(repository, b"{}").unwrap();
    for name in tags {
        let put = repository.put_manifest(&tag(name), media::MANIFEST, manifest);
        put.unwrap();
    }
}

fn lab() -> (Registry, Proxy, User) {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    (registry, proxy, User::new())
}

#[test]
fn a_manifest_comes_back_by_tag_and_digest() {
    let (registry, _proxy, user) = lab();
    let repository = user.open(&registry.at("a/b"));
    let content = manifest("one");
    let digest = blob(&content).digest;
    push(&*repository, &content, &["1"]);
    for version in [tag("1"), Version::Digest(digest)] {
        let fetched = repository.manifest(&version).unwrap().unwrap();
        assert_eq!(fetched.bytes, content);
        assert_eq!(
            (fetched.digest, &*fetched.media_type),
            (digest, media::MANIFEST)
        );
    }
    assert_eq!(repository.manifest(&tag("2")).unwrap(), None);
    let other = user.open(&registry.at("no/thing"));
    assert_eq!(other.manifest(&tag("1")).unwrap(), None);
    let other = manifest("two");
    let wrong = repository.put_manifest(&Version::Digest(digest), media::MANIFEST, &other);
    assert!(wrong.is_err());
    let version = Version::Digest(blob(&other).digest);
    repository
        .put_manifest(&version, media::MANIFEST, &other)
        .unwrap();
    assert_eq!(repository.manifest(&version).unwrap().unwrap().bytes, other);
}

#[test]
fn a_manifest_that_names_what_is_not_there_is_refused() {
    let (registry, _proxy, user) = lab();
    let repository = user.open(&registry.at("a/b"));
    let refused = repository.put_manifest(&tag("1"), media::MANIFEST, &manifest("one"));
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("does not take manifest of tag \"1\": "),
        "{text}"
    );
    assert!(text.contains("MANIFEST_BLOB_UNKNOWN"), "{text}");
    let long = vec![b' '; MAX_MANIFEST + 1];
    let refused = repository.put_manifest(&tag("1"), media::MANIFEST, &long);
    assert!(refused.unwrap_err().to_string().contains("is longer than"));
}

#[test]
fn other_bytes_than_the_digest_says_are_refused() {
    let (registry, proxy, user) = lab();
    let content = manifest("one");
    push(&*user.open(&registry.at("a/b")), &content, &["1"]);
    let repository = user.open(&proxy.at("a/b"));
    for version in [tag("1"), Version::Digest(blob(&content).digest)] {
        proxy.next("GET", "/manifests/", Fault::WrongByte(20));
        let error = repository.manifest(&version).unwrap_err().to_string();
        assert!(
            error.contains(&format!("not sha256:{}", blob(&content).digest)),
            "{error}"
        );
    }
    // A digest of another kind is not compared.
    let other = "sha512:00";
    proxy.next(
        "GET",
        "/manifests/",
        Fault::Header("docker-content-digest", other),
    );
    assert!(repository.manifest(&tag("1")).unwrap().is_some());
    let wrong = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    proxy.next(
        "GET",
        "/manifests/",
        Fault::Header("docker-content-digest", wrong),
    );
    assert!(repository.manifest(&tag("1")).is_err());
    proxy.next(
        "PUT",
        "/manifests/",
        Fault::Header("docker-content-digest", wrong),
    );
    let error = repository
        .put_manifest(&tag("1"), media::MANIFEST, &content)
        .unwrap_err();
    assert!(error.to_string().contains("and taken as"), "{error}");
}

#[test]
fn a_manifest_without_an_end_is_refused_at_once() {
    let (_registry, proxy, user) = lab();
    let repository = user.open(&proxy.at("a/b"));
    const PIECE: &[u8] = &[b' '; 4096];
    for head in [
        "200 X\r\ncontent-type: application/json\r\ncontent-length: 3221225472",
        "200 X\r\ncontent-type: application/json\r\nconnection: close",
    ] {
        proxy.next("GET", "/manifests/", Fault::Answer(head, PIECE, None));
        let before = proxy.made();
        let error = repository.manifest(&tag("1")).unwrap_err().to_string();
        assert!(
            error.contains(&format!("is longer than {MAX_MANIFEST} bytes")),
            "{error}"
        );
        // What is beyond the limit lay in the buffers of the connection.
        let sent = proxy.made() - before;
        assert!(sent < 32 << 20, "{sent} bytes");
    }
    assert_eq!(user.waits(), Vec::<String>::new());
}

#[test]
fn a_manifest_is_asked_for_again_after_a_cut() {
    let (registry, proxy, user) = lab();
    let content = manifest(&"x".repeat(100_000));
    push(&*user.open(&registry.at("a/b")), &content, &["1"]);
    let repository = user.open(&proxy.at("a/b"));
    proxy.next("GET", "/manifests/", Fault::Cut(50_000));
    proxy.next("GET", "/manifests/", Fault::Status(429, Some("0")));
    let fetched = repository.manifest(&tag("1")).unwrap().unwrap();
    assert_eq!(fetched.bytes, content);
    assert_eq!(user.waits().len(), 2);
    let asked = proxy.seen();
    let accept = asked.last().unwrap().header("accept");
    for media_type in media::ALL_MANIFESTS {
        assert!(accept.contains(media_type), "{accept}");
    }
}

/// An answer with a JSON text, and headers if wanted.
fn answer(headers: &str, text: &'static str) -> Fault {
    let head = format!("200 X\r\n{headers}content-length: {}", text.len());
    Fault::Answer(Box::leak(head.into_boxed_str()), text.as_bytes(), Some(1))
}

#[test]
fn tags_come_sorted_and_page_by_page() {
    let (registry, proxy, user) = lab();
    let content = manifest("one");
    let direct = user.open(&registry.at("a/b"));
    let error = direct.tags().unwrap_err();
    assert!(matches!(error, RegistryError::Unknown { .. }), "{error}");
    push(&*direct, &content, &["v1", "v2", "a", "b", "c"]);
    assert_eq!(direct.tags().unwrap(), ["a", "b", "c", "v1", "v2"]);
    let repository = user.open(&proxy.at("a/b"));
    let next = "link: </v2/a/b/tags/list>; rel=\"first\"\r\n\
                LINK: </x>; title=\"a, b\", </v2/a/b/tags/list?n=2&last=y>; rel=\"next\"\r\n";
    proxy.next("GET", "/tags/list", answer(next, r#"{"tags":["z","y"]}"#));
    proxy.next("GET", "/tags/list?n=2&last=y", Fault::Status(503, None));
    assert_eq!(
        repository.tags().unwrap(),
        ["a", "b", "c", "v1", "v2", "y", "z"]
    );
    assert_eq!(proxy.count("GET", "/tags/list?n=2&last=y"), 2);
}

#[test]
fn what_is_no_list_of_tags_is_refused() {
    let (_registry, proxy, user) = lab();
    let repository = user.open(&proxy.at("a/b"));
    let json = |text| answer("", text);
    proxy.next("GET", "/tags/", json(r#"{"name":"a/b","tags":null}"#));
    assert!(repository.tags().unwrap().is_empty());
    for text in ["", "[]", "<html>", r#"{"tags":[1]}"#] {
        proxy.next("GET", "/tags/", json(text));
        let error = repository.tags().unwrap_err().to_string();
        assert!(error.contains("list of tags cannot be read"), "{error}");
    }
    let endless = "200 X\r\nlink: </v2/a/b/tags/list?last=x>; rel=\"next\"\r\ncontent-length: 11";
    proxy.times(
        40,
        "GET",
        "/tags/",
        Fault::Answer(endless, br#"{"tags":[]}"#, Some(1)),
    );
    let error = repository.tags().unwrap_err().to_string();
    assert!(error.contains("list of tags does not end"), "{error}");
    let (_registry, proxy, user) = lab();
    let elsewhere = "200 X\r\nlink: <http://example.org/>; rel=\"next\"\r\ncontent-length: 11";
    proxy.next(
        "GET",
        "/tags/",
        Fault::Answer(elsewhere, br#"{"tags":[]}"#, Some(1)),
    );
    let error = user.open(&proxy.at("a/b")).tags().unwrap_err().to_string();
    assert!(
        error.contains("goes on at another server, example.org"),
        "{error}"
    );
    let long = Fault::Answer("200 X\r\nconnection: close", &[b'['; 4096], None);
    proxy.next("GET", "/tags/", long);
    let error = user.open(&proxy.at("a/b")).tags().unwrap_err().to_string();
    assert!(error.contains("list of tags is longer than"), "{error}");
}

#[test]
fn a_repository_that_is_not_there_is_not_found() {
    let (registry, proxy, user) = lab();
    let home = Home::new();
    let at = registry.at("a/b");
    let said = home.refused(&["tags", &at], 3);
    assert!(
        said.contains(&format!("there is no repository {at}")),
        "{said}"
    );
    let login = format!("vmfab login {}", registry.address());
    assert!(said.contains(&login), "{said}");
    let ran = home.run(&["tags", &at, "--json"]).ends_with(3);
    assert!(
        ran.stderr.contains(r#""kind":"not-found""#),
        "{}",
        ran.stderr
    );
    // One that is there and has none is no error.
    push(&*user.open(&at), &manifest("one"), &["v1"]);
    let none = answer("", r#"{"name":"a/b","tags":null}"#);
    proxy.next("GET", "/tags/list", none);
    let ran = home.run(&["tags", &proxy.at("a/b")]).ends_with(0);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("has no tags"), "{}", ran.stderr);
    assert_eq!(home.run(&["tags", &at]).ends_with(0).stdout, "v1\n");
    for place in ["oci:nowhere", "oci-archive:nowhere.tar"] {
        let said = home.refused(&["tags", place], 3);
        assert!(said.contains(place), "{said}");
        assert!(
            said.contains(&format!("vmfab push @TAG {place}:TAG")),
            "{said}"
        );
    }
    fs::create_dir(home.path("layout")).unwrap();
    fs::write(
        home.path("layout/oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let ran = home.run(&["tags", "oci:layout"]).ends_with(0);
    assert_eq!(ran.stdout, "");
}

#[test]
fn the_program_tells_that_it_waits() {
    let (registry, proxy, user) = lab();
    push(&*user.open(&registry.at("a/b")), &manifest("one"), &["v1"]);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    proxy.next("GET", "/tags/list", Fault::Status(503, Some("0")));
    let mut command = crate::support::command_in(directory.path());
    command.args(["tags", &proxy.at("a/b"), "--log", log.to_str().unwrap()]);
    let ran = crate::support::Ran::of(&mut command).ends_with(0);
    assert!(
        ran.stderr.contains("503 (Service Unavailable); again in"),
        "{}",
        ran.stderr
    );
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains(r#""event":"registry-retrying""#), "{log}");
}

#[test]
fn what_skopeo_pushes_can_be_read() {
    let (registry, _proxy, user) = lab();
    let directory = tempfile::tempdir().unwrap();
    let content = bytes(1000, 1);
    // The smallest layout with one layer.
    let blobs = directory.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    use vmfab::registry::descriptor;
    let save = |bytes: &[u8]| {
        let blob = blob(bytes);
        fs::write(blobs.join(blob.digest.to_string()), bytes).unwrap();
        blob
    };
    let (config, layer) = (save(config), save(&content));
    let manifest = vmfab::registry::manifest(
        None,
        descriptor(media::CONFIG, &config),
        vec![descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        std::collections::BTreeMap::new(),
    );
    let manifest = save(&vmfab::registry::to_bytes(&manifest));
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": media::MANIFEST, "digest": format!("sha256:{}", manifest.digest), "size": manifest.size}],
    });
    fs::write(directory.path().join("index.json"), index.to_string()).unwrap();
    fs::write(
        directory.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let mut skopeo = crate::support::tool("skopeo", "skopeo");
    skopeo
        .args([
            "--insecure-policy",
            "copy",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ])
        .arg(format!("oci:{}", directory.path().display()))
        .arg(format!("docker://{}:1", registry.at("a/b")));
    crate::support::Ran::of(&mut skopeo).ends_with(0);
    let repository = user.open(&registry.at("a/b"));
    let fetched = repository.manifest(&tag("1")).unwrap().unwrap();
    assert_eq!(fetched.digest, manifest.digest);
    assert_eq!(
        super::read(repository.read_blob(&layer, None).unwrap()).unwrap(),
        content
    );
}
