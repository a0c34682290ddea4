//! What is in a registry and wrong: it is told, and nothing of it is taken.

use std::fs;

use serde_json::{Value, json};

use super::home::{Home, upgraded};
use super::shelf::{Shelf, digits};
use crate::support::proxy::Fault;

const IMAGE_CONFIG: &str = "application/vnd.vmfab.image.config.v1+json";
const OBJECTS: &str = "application/vnd.vmfab.objects.v1+zstd";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const MIB: usize = 1 << 20;

/// What is said when a tag is pulled; afterwards nothing is there.
#[track_caller]
fn refused(shelf: &Shelf, tag: &str, code: i32) -> String {
    let home = Home::new();
    let said = home.refused(&["pull", &shelf.at(tag)], code);
    home.has_nothing();
    said
}

#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

#[test]
fn manifests_of_others_are_refused_with_advice() {
    let shelf = Shelf::new(1);
    let empty = shelf.blob("application/vnd.oci.empty.v1+json", b"{}");
    let text = shelf.blob("text/plain", b"a text");
    let artifact = |kind: &str, config: &Value, layer: &Value| {
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": config, "layers": [layer],
        })
    };
    shelf.name(
        "chart",
        &artifact("application/vnd.example.chart", &empty, &text),
    );
    says(
        &refused(&shelf, "chart", 1),
        &["not a vmfab image", "application/vnd.example.chart"],
    );
    // A container image: a recipe can start from it.
    let none = super::shelf::descriptor("", b"")["digest"].clone();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": [none, none] },
    });
    let config = config.to_string();
    let config = shelf.blob(
        "application/vnd.oci.image.config.v1+json",
        config.as_bytes(),
    );
    let layer = shelf.blob("application/vnd.oci.image.layer.v1.tar", b"");
    let container = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer, layer],
    });
    shelf.name("container", &container);
    says(
        &refused(&shelf, "container", 1),
        &["container image", "from \"oci://"],
    );
    // A result of a build cache is no image, and one of a newer vmfab is told as such.
    shelf.changed("newer", |manifest| {
        manifest["artifactType"] = "application/vnd.vmfab.image.v2".into();
    });
    says(
        &refused(&shelf, "newer", 6),
        &["application/vnd.vmfab.image.v2", "newer vmfab"],
    );
    let pack = shelf.manifest("1")["layers"][1].clone();
    shelf.changed("newer-layer", |manifest| {
        let mut layer = pack;
        layer["mediaType"] = "application/vnd.vmfab.pack.v2".into();
        manifest["layers"][1] = layer;
    });
    says(
        &refused(&shelf, "newer-layer", 6),
        &["application/vnd.vmfab.pack.v2", "newer vmfab"],
    );
    says(
        &refused(&shelf, "nothing", 3),
        &["web:nothing", "vmfab tags"],
    );
}

#[test]
fn indexes_that_lead_nowhere() {
    let shelf = Shelf::new(1);
    let mut manifest = shelf.name("same", &shelf.manifest("1"));
    let index = |manifests: &[Value]| json!({ "schemaVersion": 2, "manifests": manifests });
    // Without a platform nobody knows what it is for.
    shelf.name("silent", &index(&[manifest.clone()]));
    says(
        &refused(&shelf, "silent", 1),
        &["none that says what it is for"],
    );
    shelf.name("empty", &index(&[]));
    says(&refused(&shelf, "empty", 1), &["has no image for linux/"]);
    manifest["platform"] = json!({ "os": "linux", "architecture": "s390x" });
    shelf.name("other", &index(&[manifest.clone()]));
    says(&refused(&shelf, "other", 1), &["linux/s390x", "--platform"]);
    let home = Home::new();
    home.json(&["pull", &shelf.at("other"), "--platform", "linux/s390x"]);
    assert!(home.disk("web") == shelf.maker.disk("web"));
    // Indexes in indexes.
    let mut inner = manifest;
    for depth in 0..4 {
        inner["platform"] = json!({ "os": "linux", "architecture": "s390x" });
        inner = shelf.name(&format!("deep-{depth}"), &index(&[inner]));
    }
    let words = |tag: &str| {
        [
            "pull".to_owned(),
            shelf.at(tag),
            "--platform=s390x".to_owned(),
        ]
    };
    let run = |tag: &str, code| {
        let words = words(tag);
        Home::new().refused(&words.each_ref().map(String::as_str), code)
    };
    says(&run("deep-3", 6), &["indexes that name indexes"]);
    run("deep-1", 0);
}

#[test]
fn configs_and_lists_of_objects_that_are_none() {
    let shelf = Shelf::new(1);
    let with_config = |tag: &str, bytes: &[u8]| {
        let config = shelf.blob(IMAGE_CONFIG, bytes);
        shelf.changed(tag, |manifest| manifest["config"] = config);
        refused(&shelf, tag, 6)
    };
    says(&with_config("text", b"no JSON"), &["its config is"]);
    says(
        &with_config("other", b"{\"version\":1}"),
        &["its config is"],
    );
    // A config whose objects are not in the artifact.
    let mut config: Value = serde_json::from_slice(&{
        let other = Home::new();
        let image = other.image("web", &super::home::disk(9, MIB));
        other.store().read_object(&image.parse().unwrap()).unwrap()
    })
    .unwrap();
    says(
        &with_config("absent", config.to_string().as_bytes()),
        &["is not in the artifact"],
    );
    config["name"] = "../../etc".into();
    with_config("path", config.to_string().as_bytes());
    shelf.changed("data", |manifest| {
        manifest["config"]["data"] = "e30=".into();
    });
    says(
        &refused(&shelf, "data", 6),
        &["config that is not what its digest says"],
    );
    shelf.changed("long", |manifest| {
        manifest["config"]["size"] = (1_u64 << 40).into();
    });
    refused(&shelf, "long", 6);
    let with_list = |tag: &str, bytes: &[u8]| {
        let list = shelf.blob(OBJECTS, bytes);
        shelf.changed(tag, |manifest| manifest["layers"][0] = list);
        says(&refused(&shelf, tag, 6), &["the list of objects"]);
    };
    with_list("noise", &super::bytes(5000, 3));
    with_list("none", b"");
    with_list(
        "magic",
        &zstd::encode_all(&b"vmfabobk\x01\0\0\0\0"[..], 1).unwrap(),
    );
    with_list(
        "version",
        &zstd::encode_all(&b"vmfabobj\x02\0\0\0\0"[..], 1).unwrap(),
    );
    let list = zstd::decode_all(&*shelf.layer(0)).unwrap();
    with_list(
        "torn",
        &zstd::encode_all(&list[..list.len() - 1], 1).unwrap(),
    );
    // A bomb: a few bytes that are gigabytes.
    let zeros = std::io::Read::take(std::io::repeat(0), 1 << 30);
    with_list("bomb", &zstd::encode_all(zeros, 1).unwrap());
    // An id that is not that of the content, and chunks behind the end of the pack.
    let mut wrong = list.clone();
    wrong[13] ^= 1;
    let wrong = shelf.blob(OBJECTS, &zstd::encode_all(&*wrong, 1).unwrap());
    shelf.changed("id", |manifest| manifest["layers"][0] = wrong);
    refused(&shelf, "id", 6);
    shelf.changed("no-pack", |manifest| {
        manifest["layers"].as_array_mut().unwrap().truncate(1);
    });
    says(
        &refused(&shelf, "no-pack", 6),
        &["chunks that its packs do not have"],
    );
    shelf.changed("no-list", |manifest| {
        manifest["layers"].as_array_mut().unwrap().remove(0);
    });
    says(&refused(&shelf, "no-list", 6), &["is not in the artifact"]);
}

#[test]
fn blobs_that_are_missing_or_are_something_else() {
    let shelf = Shelf::new(2);
    let layers = shelf.manifest("1")["layers"].clone();
    let files = [0, 1].map(|number| shelf.registry.blob_file(&digits(&layers[number])));
    for file in &files {
        let right = fs::read(file).unwrap();
        let mut wrong = right.clone();
        wrong[right.len() / 2] ^= 1;
        fs::write(file, &wrong).unwrap();
        says(&refused(&shelf, "1", 6), &["web"]);
        fs::write(file, &right[..right.len() - 1]).unwrap();
        refused(&shelf, "1", 6);
        fs::remove_file(file).unwrap();
        let said = refused(&shelf, "1", 6);
        says(&said, &["web", "is not there"]);
        fs::write(file, &right).unwrap();
    }
    // The one who made it brings what is missing by pushing it again.
    fs::remove_file(&files[1]).unwrap();
    let told = shelf.maker.push("@web", &shelf.at("1"));
    assert_eq!(told["present"], false, "{told:#}");
    Home::new().pull(&shelf.at("1"));
}

/// The pack with another byte in the content of its first record that is not compressed, and the
/// record's checksum right.
fn lying(pack: &[u8]) -> Vec<u8> {
    let mut pack = pack.to_vec();
    let stored = |record: usize| {
        u32::from_le_bytes(pack[record + 8..record + 12].try_into().unwrap()) as usize
    };
    let mut record = 32;
    // The sector of the partition table comes before the noise.
    while pack[record + 5] != 0 {
        record += 48 + stored(record);
    }
    let stored = stored(record);
    pack[record + 48 + stored / 2] ^= 1;
    let checksum = crc32c::crc32c(&pack[record + 4..record + 48 + stored]);
    pack[record..record + 4].copy_from_slice(&checksum.to_le_bytes());
    pack
}

#[test]
fn a_pack_whose_chunks_lie_is_refused_whole_and_in_part() {
    let shelf = Shelf::new(4);
    let pack = lying(&shelf.layer(1));
    let mut layer = shelf.blob("application/vnd.vmfab.pack.v1", &pack);
    shelf.changed("lies", |manifest| {
        layer["annotations"] = manifest["layers"][1]["annotations"].clone();
        manifest["layers"][1] = layer;
    });
    // It is what its digest says: that its content is not is seen when that is read, and harms
    // nothing else.
    let victim = Home::new();
    victim.pull(&shelf.at("lies"));
    victim.run(&["store", "verify"]).ends_with(6);
    victim.pull(&shelf.at("1"));
    assert!(victim.disk("web") == shelf.maker.disk("web"));
    // Who has all but a few of the chunks asks for ranges.
    let home = Home::new();
    let mut other = shelf.maker.disk("web");
    other[MIB..MIB + 10].copy_from_slice(b"other text");
    home.image("mine", &other);
    let said = home.refused(&["pull", &shelf.at("lies")], 6);
    says(&said, &["pack", "does not match its key"]);
    assert!(
        shelf
            .proxy
            .seen()
            .last()
            .unwrap()
            .header("range")
            .starts_with("bytes=")
    );
    home.is_clean();
    assert_eq!(home.tagged("web"), None);
    assert!(home.disk("mine") == other);
    // The right one can be had afterwards.
    home.pull(&shelf.at("1"));
    assert!(home.disk("web") == shelf.maker.disk("web"));
    // A table that is not that of the records.
    let mut pack = shelf.layer(1);
    let table = shelf.manifest("1")["layers"][1]["annotations"]["org.vmfab.pack.table"].clone();
    let table: usize = table.as_str().unwrap().parse().unwrap();
    pack[table + 3] ^= 1;
    let end = pack.len() - 32;
    let checksum = crc32c::crc32c(&pack[table..end]);
    pack[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
    let mut layer = shelf.blob("application/vnd.vmfab.pack.v1", &pack);
    shelf.changed("table", |manifest| {
        layer["annotations"] = manifest["layers"][1]["annotations"].clone();
        manifest["layers"][1] = layer;
    });
    refused(&shelf, "table", 6);
    shelf.changed("place", |manifest| {
        manifest["layers"][1]["annotations"]["org.vmfab.pack.table"] = "77".into();
    });
    refused(&shelf, "place", 6);
}

#[test]
fn manifests_that_are_too_long_end_at_a_limit() {
    let shelf = Shelf::new(1);
    let head = "200 X\r\ncontent-type: application/vnd.oci.image.manifest.v1+json";
    let long = "200 X\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\ncontent-length: 3221225472";
    for head in [long, head] {
        shelf.proxy.no_faults();
        let before = shelf.proxy.made();
        shelf.proxy.always(
            "GET",
            "/manifests/",
            Fault::Answer(head, &[b' '; 65536], None),
        );
        says(&refused(&shelf, "1", 6), &["is longer than 4194304 bytes"]);
        let made = shelf.proxy.made() - before;
        assert!(made < 64 * MIB, "{made} bytes were sent");
    }
    shelf.proxy.no_faults();
    // Ten thousand layers: nothing is asked for.
    shelf.changed("many", |manifest| {
        let layers = manifest["layers"].as_array_mut().unwrap();
        let pack = layers[1].clone();
        layers.resize(10_001, pack);
    });
    says(&refused(&shelf, "many", 6), &["more than 1000 packs"]);
    assert_eq!(shelf.proxy.count("GET", "/blobs/"), 0);
    // The next version is pushed beside it, and pulled.
    shelf
        .maker
        .image("web", &upgraded(&shelf.maker.disk("web"), 3, 1000));
    shelf.maker.push("@web", &shelf.at("2"));
    let home = Home::new();
    home.pull(&shelf.at("2"));
    home.is_clean();
}

#[test]
fn tags_that_are_paths_are_no_tags() {
    let shelf = Shelf::new(1);
    let tags =
        br#"{"name":"web","tags":["../../etc/passwd","/x","1","..","-1",".x","a/b","","x y"]}"#;
    let fault = Fault::Answer("200 X\r\ncontent-length: 81", tags, Some(1));
    assert_eq!(tags.len(), 81);
    shelf.proxy.always("GET", "/tags/list", fault);
    let home = Home::new();
    let pulled = home.json(&["pull", &shelf.proxy.at("web"), "--all-tags"]);
    assert_eq!(pulled.as_array().unwrap().len(), 1, "{pulled:#}");
    assert_eq!(pulled[0]["tags"], json!(["web-1"]));
    home.is_clean();
    assert_eq!(home.store().tags().unwrap().len(), 1);
}
