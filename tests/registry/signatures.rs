//! Signatures of images and files: made, found, demanded; OpenSSH says the same of them.

use std::fs;
use std::process::{Command, Stdio};

use base64ct::{Base64, Encoding as _};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use vmfab::registry::{Version, media};

use super::home::{Home, disk};
use super::shelf::Shelf;
use crate::support::proxy::Fault;

/// What ssh-keygen says, with `input` as its standard input: whether it succeeds, and its output.
fn ssh_keygen(home: &Home, words: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("ssh-keygen")
        .args(words)
        .current_dir(home.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ssh-keygen runs (package openssh-client)");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// A public key of a home's own.
fn public(home: &Home, name: &str) -> String {
    let printed = home.run(&["key", "export", name]).ends_with(0).stdout;
    printed.trim_end().to_owned()
}

#[test]
fn what_must_be_signed_is_pulled_only_when_it_is() {
    let shelf = Shelf::new(1);
    let (maker, at) = (&shelf.maker, shelf.at("1"));
    let reader = Home::new();
    let name = at.rsplit_once(':').unwrap().0;
    let host = name.split_once('/').unwrap().0.to_owned();
    reader.configure(&format!(
        "downloads retries=2\nsignatures \"require\" \"{host}/*\"\n"
    ));
    let refused = reader.refused(&["pull", &at], 6);
    assert!(refused.contains("it has no signature"), "{refused}");
    assert_eq!(reader.tagged("web"), None);

    maker.run(&["key", "new", "release"]).ends_with(0);
    let signed = maker.json(&["sign", &at]);
    assert_eq!(signed["signed"], at.as_str());
    let refused = reader.refused(&["pull", &at], 6);
    assert!(refused.contains("is no trusted key"), "{refused}");

    // A key for other names does not count, nor one that is not valid any more.
    let key = public(maker, "release");
    let pattern = format!("{host}/other/*");
    reader
        .run(&["key", "trust", &key, "--for", &pattern])
        .ends_with(0);
    let refused = reader.refused(&["pull", &at], 6);
    assert!(
        refused.contains(&format!("may sign {pattern}, and not {name}")),
        "{refused}"
    );
    let until = [
        "key",
        "trust",
        &key,
        "--for",
        "*/web",
        "--until",
        "2020-01-31",
    ];
    reader.run(&until).ends_with(0);
    let refused = reader.refused(&["pull", &at], 6);
    assert!(
        refused.contains("was valid only until 20200131000000Z"),
        "{refused}"
    );
    reader
        .run(&["key", "trust", &key, "--for", "*/web"])
        .ends_with(0);
    let pulled = reader.pull(&at);
    assert_eq!(pulled["digest"], signed["digest"]);
    let verified = reader.json(&["verify", &at]);
    assert_eq!(verified["signatures"][0]["comment"], "release");
    assert_eq!(verified["name"], name);

    // A revoked key signs nothing, whoever trusts it.
    let fingerprint = verified["signatures"][0]["key"].as_str().unwrap();
    reader.run(&["key", "revoke", fingerprint]).ends_with(0);
    let refused = reader.refused(&["pull", &at], 6);
    assert!(refused.contains("is revoked"), "{refused}");
    reader.refused(&["key", "trust", &key, "--for", "*/web"], 2);

    // The signature is of this manifest: the next one under the tag has none.
    let other = Home::new();
    other.configure("signatures \"warn\" \"*\" for=\"boot\"\nsignatures \"require\" \"*\"\n");
    other
        .run(&["key", "trust", &key, "--for", "*/web"])
        .ends_with(0);
    other.pull(&at);
    maker.image("web", &disk(7, 1 << 20));
    maker.push("@web", &at);
    let refused = other.refused(&["pull", &at], 6);
    assert!(refused.contains("it has no signature"), "{refused}");
    maker.json(&["push", "@web", &at, "--sign=release"]);
    other.pull(&at);
    // Lists of referrers are no tags of the user's.
    let tags = other.json(&["tags", name]);
    assert_eq!(tags["tags"], serde_json::json!(["1"]));
}

#[test]
fn openssh_verifies_what_vmfab_signs_and_the_other_way_round() {
    let shelf = Shelf::new(1);
    let (maker, at) = (&shelf.maker, shelf.at("1"));
    maker.run(&["key", "new", "release"]).ends_with(0);
    let key = public(maker, "release");
    maker
        .run(&["key", "trust", "release", "--for", "*/web"])
        .ends_with(0);
    fs::write(maker.path("disk.img"), b"a file").unwrap();
    let signed = maker.json(&["sign", "disk.img"]);
    let message = format!("{}\n", signed["digest"].as_str().unwrap());
    let verify = |name, file| {
        let words = [
            "-Y",
            "verify",
            "-n",
            "vmfab",
            "-f",
            "allowed_signers",
            "-I",
            name,
            "-s",
            file,
        ];
        ssh_keygen(maker, &words, &message)
    };
    let (good, said) = verify("registry.example/web", "disk.img.sig");
    assert!(good, "{said}");
    let (good, said) = verify("registry.example/other", "disk.img.sig");
    assert!(!good, "{said}");
    assert!(
        fs::read_to_string(maker.path("allowed_signers"))
            .unwrap()
            .contains(&key)
    );

    // A key of OpenSSH's that only an agent can use, as a token's.
    let made = [
        "-q", "-t", "ecdsa", "-N", "secret", "-C", "token", "-f", "token",
    ];
    let (good, said) = ssh_keygen(maker, &made, "");
    assert!(good, "{said}");
    let script = "eval $(ssh-agent) >/dev/null; trap 'ssh-agent -k >/dev/null' EXIT; \
        chmod 700 ask; SSH_ASKPASS=./ask SSH_ASKPASS_REQUIRE=force ssh-add -q token && rm token \
        && exec 3>&1 && \"$@\" >&3";
    fs::write(maker.path("ask"), "#!/bin/sh\necho secret\n").unwrap();
    let vmfab = maker.command(&["sign", &at, "--key", "./token.pub"]);
    let mut command = Command::new("bash");
    command
        .args(["-c", script, "bash"])
        .arg(vmfab.get_program())
        .args(vmfab.get_args());
    for (name, value) in vmfab.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.current_dir(maker.directory()).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    maker
        .run(&["key", "trust", "./token.pub", "--for", "*/web"])
        .ends_with(0);
    let verified = maker.json(&["verify", &at]);
    assert_eq!(verified["signatures"][0]["comment"], "token");

    // A signature for something else than vmfab says nothing.
    let words = ["-q", "-Y", "sign", "-n", "git", "-f", "keys/release"];
    let (good, signature) = ssh_keygen(maker, &words, &message);
    assert!(good, "{signature}");
    fs::write(maker.path("disk.img.sig"), &signature).unwrap();
    let refused = maker.refused(&["verify", "disk.img"], 6);
    assert!(
        refused.contains("is for \"git\", not for \"vmfab\""),
        "{refused}"
    );
}

#[test]
fn a_file_is_what_was_signed() {
    let home = Home::new();
    home.image("web", &disk(1, 1 << 20));
    home.run(&["key", "new"]).ends_with(0);
    home.run(&["key", "trust", "default", "--for", "file:*"])
        .ends_with(0);
    home.run(&["snapshot", "export", "@web", "--output", "web.tar"])
        .ends_with(0);
    let reader = Home::new();
    reader.configure("signatures \"require\" \"file:*\" for=\"snapshot-import\"\n");
    let key = public(&home, "default");
    reader
        .run(&["key", "trust", &key, "--for", "file:web.*"])
        .ends_with(0);
    let file = home.path("web.tar");
    let path = file.to_str().unwrap();
    let import = ["snapshot", "import", path];
    let refused = reader.refused(&import, 6);
    assert!(refused.contains("it has no signature"), "{refused}");
    let none = home.refused(&["verify", path], 6);
    assert!(none.contains("has no signature"), "{none}");
    home.run(&["sign", path]).ends_with(0);
    reader.run(&["verify", path]).ends_with(0);
    let whole = fs::read(&file).unwrap();
    let mut changed = whole.clone();
    changed[700] ^= 1;
    fs::write(&file, &changed).unwrap();
    let refused = reader.refused(&import, 6);
    assert!(refused.contains("is not of sha256:"), "{refused}");
    assert_eq!(reader.tagged("web"), None);
    fs::write(&file, &whole).unwrap();
    reader.run(&import).ends_with(0);
    fs::write(home.path("web.tar.sig"), "no signature").unwrap();
    let refused = reader.refused(&["verify", path], 6);
    assert!(refused.contains("is no SSH signature"), "{refused}");
    let piped = reader.refused(&["snapshot", "import", "-"], 6);
    assert!(piped.contains("file:- is not signed"), "{piped}");
}

#[test]
fn keys_that_cannot_be_are_refused() {
    let home = Home::new();
    let no_key = home.refused(&["sign", "registry.example/web"], 2);
    assert!(
        no_key.contains("you have no key") && no_key.contains("vmfab key new"),
        "{no_key}"
    );
    let missing = home.refused(&["verify", "no-such.img"], 3);
    assert!(
        missing.contains("no file \"no-such.img\" found"),
        "{missing}"
    );
    home.refused(&["key", "new", "../escape"], 2);
    home.refused(&["key", "new", "--comment", "two\nlines"], 2);
    home.run(&["key", "new"]).ends_with(0);
    let again = home.refused(&["key", "new"], 2);
    assert!(
        again.contains("there is a key \"default\" already"),
        "{again}"
    );
    home.run(&["key", "new", "second"]).ends_with(0);
    let which = home.refused(&["sign", "registry.example/web"], 2);
    assert!(which.contains("default, second"), "{which}");
    let key = public(&home, "second");
    for pattern in ["team/*", "", "a,b", "x\"y"] {
        home.refused(&["key", "trust", &key, "--for", pattern], 2);
    }
    home.refused(&["key", "trust", "no-such.pub", "--for", "*"], 3);
    home.refused(
        &["key", "trust", &key, "--for", "*", "--until", "someday"],
        2,
    );
    fs::write(home.path("allowed_signers"), "* ssh-ed25519 AAAA\n").unwrap();
    let wrong = home.refused(&["key", "list"], 2);
    assert!(
        wrong.contains("allowed_signers:1: is no public key"),
        "{wrong}"
    );
    home.configure("signatures \"always\" \"*\"\n");
    let wrong = home.refused(&["key", "list"], 4);
    assert!(
        wrong.contains("\"always\" is not require, warn or off"),
        "{wrong}"
    );
}

#[test]
fn a_registry_with_a_list_of_referrers_is_asked_for_it() {
    let shelf = Shelf::new(1);
    let (maker, at) = (&shelf.maker, shelf.at("1"));
    maker.run(&["key", "new"]).ends_with(0);
    maker
        .run(&["key", "trust", "default", "--for", "*"])
        .ends_with(0);
    // Debian's registry keeps no list: the proxy speaks for one that does.
    let put = Fault::Header("oci-subject", "sha256:0");
    shelf.proxy.next("PUT", "/manifests/sha256:", put);
    let signed = maker.json(&["sign", &at]);
    let digest = signed["digest"].as_str().unwrap();
    let list = Version::tag(&digest.replace(':', "-")).unwrap();
    assert_eq!(shelf.repository.manifest(&list).unwrap(), None);
    let refused = maker.refused(&["verify", &at], 6);
    assert!(refused.contains("it has no signature"), "{refused}");

    let signature = Version::Digest(signed["signature"].as_str().unwrap()[7..].parse().unwrap());
    let fetched = shelf.repository.manifest(&signature).unwrap().unwrap();
    let manifest: Value = serde_json::from_slice(&fetched.bytes).unwrap();
    assert_eq!(manifest["subject"]["digest"], digest);
    let listed = |digest: &str| {
        let body = json!({
            "schemaVersion": 2,
            "mediaType": media::INDEX,
            "manifests": [{
                "mediaType": media::MANIFEST,
                "digest": digest,
                "size": fetched.bytes.len(),
                "artifactType": manifest["artifactType"],
            }],
        });
        let body: &'static [u8] = Box::leak(body.to_string().into_bytes().into_boxed_slice());
        let head = format!(
            "200 OK\r\ncontent-length: {}\r\nconnection: close",
            body.len()
        );
        Fault::Answer(Box::leak(head.into_boxed_str()), body, Some(1))
    };
    let right = signed["signature"].as_str().unwrap();
    shelf.proxy.next("GET", "/referrers/sha256:", listed(right));
    maker.run(&["verify", &at]).ends_with(0);
    // What is listed and is gone, or is about something else, is no signature.
    for other in [format!("sha256:{}", "1".repeat(64)), digest.to_owned()] {
        shelf
            .proxy
            .next("GET", "/referrers/sha256:", listed(&other));
        maker.refused(&["verify", &at], 6);
    }
    // A list that is garbage is said to be that.
    let garbage = Fault::Answer(
        "200 OK\r\ncontent-length: 2\r\nconnection: close",
        b"[]",
        Some(1),
    );
    shelf.proxy.next("GET", "/referrers/sha256:", garbage);
    let said = maker.refused(&["verify", &at], 6);
    assert!(said.contains("list of referrers"), "{said}");
}

#[test]
fn recipes_and_boots_ask_for_signatures_too() {
    let shelf = Shelf::new(1);
    let (maker, at) = (&shelf.maker, shelf.at("1"));
    let reader = Home::new();
    reader.configure("downloads retries=2\nsignatures \"require\" \"*\" for=\"from\"\n");
    let recipe = format!("image \"test\" {{\n    from \"oci://{at}\"\n    run \"true\"\n}}\n");
    fs::write(reader.path("test.kdl"), recipe).unwrap();
    let plan = ["plan", "test.kdl"];
    let refused = reader.refused(&plan, 6);
    assert!(refused.contains("it has no signature"), "{refused}");
    maker.run(&["key", "new"]).ends_with(0);
    let signed = maker.json(&["sign", &at]);
    let key = public(maker, "default");
    reader
        .run(&["key", "trust", &key, "--for", "*/web"])
        .ends_with(0);
    reader.run(&plan).ends_with(0);
    // What was verified is judged again by the keys of the day, and nobody is asked.
    let seen = shelf.proxy.seen().len();
    reader.run(&plan).ends_with(0);
    assert_eq!(shelf.proxy.seen().len(), seen);
    let fingerprint = signed["key"].as_str().unwrap();
    reader.run(&["key", "revoke", fingerprint]).ends_with(0);
    let refused = reader.refused(&plan, 6);
    assert!(refused.contains("is revoked"), "{refused}");

    // A rule for one use says nothing of another.
    reader.pull(&at);
    let other = Home::new();
    other.configure("downloads retries=2\nsignatures \"require\" \"*\" for=\"boot\"\n");
    let refused = other.refused(&["boot", &at, "--name", "unsigned"], 6);
    assert!(refused.contains("is no trusted key"), "{refused}");
    other.configure("downloads retries=2\nsignatures \"warn\" \"*\"\n");
    let warned = other.run(&["pull", &at]).ends_with(0);
    assert!(
        warned.stderr.contains("is not signed by a trusted key"),
        "{}",
        warned.stderr
    );
}

#[test]
fn what_cosign_signed_is_verified_with_its_key() {
    let shelf = Shelf::new(1);
    let at = shelf.at("1");
    let reader = Home::new();
    let digest = shelf.name("1", &shelf.manifest("1"))["digest"].clone();
    let secret = SigningKey::from_slice(&[7; 32]).unwrap();
    let pem = secret.verifying_key().to_public_key_pem(LineEnding::LF);
    fs::write(reader.path("cosign.pub"), pem.unwrap()).unwrap();
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": "" },
            "image": { "docker-manifest-digest": digest },
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = payload.to_string().into_bytes();
    let signature: Signature = secret.sign(&payload);
    let mut layer = shelf.blob("application/vnd.dev.cosign.simplesigning.v1+json", &payload);
    let text = Base64::encode_string(signature.to_der().as_bytes());
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": text });
    let tag = format!("{}.sig", digest.as_str().unwrap().replace(':', "-"));
    let put = |layer: &Value| {
        let config = shelf.blob("application/vnd.oci.image.config.v1+json", b"{}");
        let signed = json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": [layer],
        });
        shelf.name(&tag, &signed);
    };
    put(&layer);

    // Without its key it says nothing.
    let refused = reader.refused(&["verify", &at], 6);
    assert!(refused.contains("no cosign-key"), "{refused}");
    reader
        .run(&["verify", &at, "--cosign-key", "cosign.pub"])
        .ends_with(0);
    reader.configure(
        "downloads retries=2\nsignatures \"require\" \"*\"\ncosign-key \"*/web\" \"cosign.pub\"\n",
    );
    reader.pull(&at);
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": "AAAA" });
    put(&layer);
    let refused = reader.refused(&["pull", &at], 6);
    assert!(refused.contains("is damaged"), "{refused}");
}

/// OpenSSH's own stand-in for a hardware token.
const TOKEN: &str = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so";

#[test]
fn tokens_sign() {
    assert!(
        std::path::Path::new(TOKEN).exists(),
        "{TOKEN} is missing: install the package openssh-tests"
    );
    let home = Home::new();
    fs::write(home.path("disk.img"), b"content").unwrap();
    let digest = vmfab::digest::Sha256::of(b"content");
    // In an agent, only that one knows the token.
    let agent = "eval $(ssh-agent) >/dev/null; trap 'ssh-agent -k >/dev/null' EXIT; \
        ssh-add -q -S \"$SSH_SK_PROVIDER\" ./token && rm token && unset SSH_SK_PROVIDER \
        && exec 3>&1 && \"$@\" >&3";
    for (kind, script) in [
        ("ed25519-sk", "exec \"$@\""),
        ("ecdsa-sk", "exec \"$@\""),
        ("ed25519-sk", agent),
    ] {
        let made = [
            "-q", "-t", kind, "-w", TOKEN, "-N", "", "-C", kind, "-f", "token",
        ];
        let (good, said) = ssh_keygen(&home, &made, "");
        assert!(good, "{said}");
        let vmfab = home.command(&["sign", "disk.img", "--key", "./token.pub"]);
        let mut command = Command::new("bash");
        command.args(["-ec", script, "bash"]);
        command.arg(vmfab.get_program()).args(vmfab.get_args());
        for (name, value) in vmfab.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("SSH_SK_PROVIDER", TOKEN);
        let output = command.current_dir(home.directory()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{kind}: {said}");
        home.run(&["key", "trust", "./token.pub", "--for", "file:disk.img"])
            .ends_with(0);
        let verified = home.json(&["verify", "disk.img"]);
        assert_eq!(verified["signatures"][0]["comment"], kind);
        // OpenSSH says the same, and a changed file has no signature of the token.
        let words = [
            "-q",
            "-Y",
            "verify",
            "-n",
            "vmfab",
            "-f",
            "allowed_signers",
            "-I",
            "file:disk.img",
            "-s",
            "disk.img.sig",
        ];
        let (good, said) = ssh_keygen(&home, &words, &format!("sha256:{digest}\n"));
        assert!(good, "{said}");
        fs::write(home.path("disk.img"), b"changed").unwrap();
        home.refused(&["verify", "disk.img"], 6);
        fs::write(home.path("disk.img"), b"content").unwrap();
        for name in ["disk.img.sig", "token", "token.pub", "allowed_signers"] {
            let _ = fs::remove_file(home.path(name));
        }
    }
    // Without the token its key signs nothing.
    let made = [
        "-q",
        "-t",
        "ed25519-sk",
        "-w",
        TOKEN,
        "-N",
        "",
        "-f",
        "token",
    ];
    let (good, said) = ssh_keygen(&home, &made, "");
    assert!(good, "{said}");
    let refused = home.refused(&["sign", "disk.img", "--key", "./token.pub"], 1);
    assert!(refused.contains("or the token here"), "{refused}");
}
