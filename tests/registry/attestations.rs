//! How an image was made and what is in it: told, pushed with it, verified by others.

use std::fs;

use base64ct::{Base64, Encoding as _};
use p256::ecdsa::signature::Verifier as _;
use serde_json::Value;
use sha2::Digest as _;
use vmfab::digest::Sha256;
use vmfab::registry::Version;
use vmfab::share::{ATTESTATION, attached};

use super::User;
use super::home::Home;
use crate::cli::contents::disk;
use crate::support::registry::Registry;

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";

/// A home that built `@web` of a recipe.
fn maker() -> Home {
    let home = Home::new();
    fs::write(home.path("web.img"), disk(|_| {})).unwrap();
    let recipe = "recipe \"web\" version=\"1.2.0\" {\n    param \"greeting\" default=\"hello\"\n}\n\
                  image \"web\" {\n    from \"./web.img\" format=\"raw\"\n}\n";
    fs::write(home.path("web.kdl"), recipe).unwrap();
    let build = ["build", "web.kdl", "--set", "greeting=moin"];
    home.run(&build).ends_with(0);
    home
}

/// What SLSA's schema asks of a provenance, and in-toto's of a statement.
#[track_caller]
fn check_statement(statement: &Value) {
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], PROVENANCE);
    let subjects = statement["subject"].as_array().unwrap();
    assert!(subjects.iter().all(|one| one["digest"].is_object()));
    let definition = &statement["predicate"]["buildDefinition"];
    let is_uri = |value: &Value| value.as_str().is_some_and(|uri| uri.contains(':'));
    assert!(is_uri(&definition["buildType"]));
    assert!(definition["externalParameters"].is_object());
    for one in definition["resolvedDependencies"].as_array().unwrap() {
        let known = ["uri", "digest", "name"];
        let fields: Vec<_> = one.as_object().unwrap().keys().collect();
        assert!(
            fields.iter().all(|field| known.contains(&field.as_str())),
            "{one}"
        );
        assert!(is_uri(&one["uri"]) || one["digest"].is_object(), "{one}");
    }
    let details = &statement["predicate"]["runDetails"];
    assert!(is_uri(&details["builder"]["id"]));
    for time in ["startedOn", "finishedOn"] {
        let time = details["metadata"][time].as_str().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    }
}

#[test]
fn an_image_says_how_it_was_made() {
    let home = maker();
    let text = home
        .run(&["image", "provenance", "@web"])
        .ends_with(0)
        .stdout;
    let statement: Value = serde_json::from_str(&text).unwrap();
    check_statement(&statement);
    assert!(!text.contains(home.directory().to_str().unwrap()), "{text}");
    let image = home.tagged("web").unwrap();
    assert_eq!(
        statement["subject"][0]["digest"]["vmfabObject"],
        image.as_str()
    );
    let definition = &statement["predicate"]["buildDefinition"];
    let told = &definition["externalParameters"];
    assert_eq!(told["parameters"]["greeting"], "moin");
    assert_eq!(
        (told["recipe"].as_str(), told["image"].as_str()),
        (Some("web.kdl"), Some("web"))
    );
    let recipe = Sha256::of(&fs::read(home.path("web.kdl")).unwrap()).to_string();
    let sources = definition["resolvedDependencies"].as_array().unwrap();
    let named = |name: &str| sources.iter().find(|one| one["name"] == name).unwrap();
    assert_eq!(named("web.kdl")["digest"]["sha256"], recipe.as_str());
    let steps = definition["internalParameters"]["steps"]
        .as_array()
        .unwrap();
    assert_eq!(steps.last().unwrap()["outputs"]["config"], image.as_str());

    // A build that changes nothing leaves it; an image that was not built here has none.
    home.run(&["build", "web.kdl"]).ends_with(0);
    let again = home
        .run(&["image", "provenance", "@web"])
        .ends_with(0)
        .stdout;
    assert_eq!(again, text);
    home.image("other", b"disk");
    let said = home.refused(&["image", "provenance", "@other"], 3);
    assert!(said.contains("no build on this host"), "{said}");
}

#[test]
fn an_image_is_built_again_and_compared() {
    let home = maker();
    let again = home.json(&["verify", "--rebuild", "@web"]);
    assert_eq!(again["image"], again["again"]);
    assert_eq!(
        (&again["steps"], &again["differences"]),
        (&2.into(), &Value::Array(vec![]))
    );
    // It was built by the whole path of its recipe.
    let text = home
        .run(&["image", "provenance", "@web"])
        .ends_with(0)
        .stdout;
    assert!(!text.contains(home.directory().to_str().unwrap()), "{text}");
    let said = home.refused(&["verify", "--rebuild", "@nothing"], 3);
    assert!(said.contains("nothing"), "{said}");
    let other = disk(|root| fs::write(root.join("etc/new"), "new").unwrap());
    fs::write(home.path("web.img"), other).unwrap();
    let ran = home.run(&["verify", "--rebuild", "@web"]).ends_with(6);
    let first = ran
        .stdout
        .lines()
        .find(|line| line.starts_with("differs: "));
    assert!(first.unwrap().contains("web: web.img"), "{}", ran.stdout);
    // The tag names what it named.
    let tagged = home.tagged("web").unwrap();
    assert_eq!(again["image"], tagged.as_str());
}

#[test]
fn attestations_are_pushed_signed_and_verified() {
    let registry = Registry::start();
    let (maker, at) = (maker(), registry.at("web:1"));
    let name = at.rsplit_once(':').unwrap().0;
    maker.refused(&["push", "@web", &at, "--attest"], 2);
    maker.run(&["key", "new", "release"]).ends_with(0);
    maker.refused(&["push", "@web", "oci-archive:web.tar:1", "--attest"], 2);
    let pushed = maker.json(&["push", "@web", &at, "--sign", "--attest"]);
    let digest = pushed["digest"].as_str().unwrap();

    let reader = Home::new();
    let attached_to = |what: &str| ["image", what, &at, "--attached"].map(str::to_owned);
    let show = |what: &str, code: i32| {
        let words = attached_to(what);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        reader.run(&words).ends_with(code)
    };
    let said = show("provenance", 6).stderr;
    assert!(said.contains("no trusted key signed it"), "{said}");
    let key = maker.run(&["key", "export"]).ends_with(0).stdout;
    reader
        .run(&["key", "trust", key.trim(), "--for", name])
        .ends_with(0);
    let verified = reader.json(&["verify", &at]);
    let attestations = verified["attestations"].as_array().unwrap();
    let mut kinds: Vec<_> = attestations
        .iter()
        .map(|one| one["predicate_type"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [PROVENANCE, SPDX]);
    for one in attestations {
        assert_eq!(one["key"], verified["signatures"][0]["key"], "{one}");
        assert_eq!(one["subject"], digest);
    }
    let statement: Value = serde_json::from_str(&show("provenance", 0).stdout).unwrap();
    check_statement(&statement);
    assert_eq!(statement["subject"][0]["digest"]["sha256"], digest[7..]);
    let bill: Value = serde_json::from_str(&show("sbom", 0).stdout).unwrap();
    assert_eq!(bill["spdxVersion"], "SPDX-2.3");
    let shown = reader.run(&["verify", &at]).ends_with(0).stdout;
    assert!(shown.contains(&format!(
        "attested by {}",
        verified["signatures"][0]["key"].as_str().unwrap()
    )));

    // Other programs verify the envelope with the plain key.
    let repository = User::new().open(&at);
    let sha = digest[7..].parse().unwrap();
    let mut envelopes = Vec::new();
    attached(&*repository, &sha, ATTESTATION, 1 << 20, |bytes| {
        envelopes.push(bytes);
    })
    .unwrap();
    let envelope: Value = serde_json::from_slice(&envelopes[0]).unwrap();
    let payload = Base64::decode_vec(envelope["payload"].as_str().unwrap()).unwrap();
    let kind = envelope["payloadType"].as_str().unwrap();
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    signed.extend(&payload);
    let signature = Base64::decode_vec(envelope["signatures"][0]["sig"].as_str().unwrap());
    let signature = ssh_key::Signature::new(ssh_key::Algorithm::Ed25519, signature.unwrap());
    let public = ssh_key::PublicKey::from_openssh(key.trim()).unwrap();
    public
        .key_data()
        .verify(&signed, &signature.unwrap())
        .unwrap();

    // A statement about another manifest says nothing about this one.
    maker.image("other", &disk(|_| {}));
    let other = maker.json(&["push", "@other", &registry.at("web:2"), "--sign"]);
    let about: Sha256 = other["digest"].as_str().unwrap()[7..].parse().unwrap();
    let manifest = repository
        .manifest(&Version::Digest(about))
        .unwrap()
        .unwrap();
    assert_eq!(
        sha2::Sha256::digest(&manifest.bytes)[..],
        about.as_bytes()[..]
    );
    let subject = vmfab::registry::descriptor(
        &manifest.media_type,
        &vmfab::registry::Blob::of(&manifest.bytes),
    );
    let document = vmfab::share::Attachment {
        artifact_type: ATTESTATION,
        media_type: vmfab::share::ENVELOPE,
        bytes: envelopes[0].clone(),
        annotations: Default::default(),
    };
    vmfab::share::attach(&*repository, &subject, &document).unwrap();
    let verified = reader.json(&["verify", &registry.at("web:2")]);
    let problem = verified["attestations"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("is not about sha256:"), "{problem}");
    let revoked = verified["signatures"][0]["key"].as_str().unwrap();
    reader.run(&["key", "revoke", revoked]).ends_with(0);
    assert!(show("sbom", 6).stderr.contains("is revoked"));
}
