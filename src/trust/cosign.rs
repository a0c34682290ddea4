//! Signatures of cosign with a plain public key
//! (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>): ECDSA on P-256 over a
//! JSON document that names the digest of a manifest.

use std::path::Path;

use base64ct::{Base64, Encoding};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;
use serde::Deserialize;

use crate::digest::{Checksum, Sha256};
use crate::failure::Failure;
use crate::host::file::read_text;

/// A public key: a PEM file that begins with `-----BEGIN PUBLIC KEY-----`.
#[derive(Debug, Clone)]
pub struct CosignPublicKey(VerifyingKey);

/// A signature as cosign publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignSignature {
    /// What is signed.
    pub payload: Vec<u8>,
    /// In base64.
    pub signature: String,
}

impl CosignPublicKey {
    /// Reads a key.
    ///
    /// # Errors
    /// The file cannot be read, or is no public key on P-256.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = read_text(path, 64 << 10).map_err(Failure::io("read", path))?;
        let key = VerifyingKey::from_public_key_pem(&text);
        key.map(Self).map_err(|error| {
            let path = path.display();
            Failure::usage(format!("{path} is no public key of cosign's: {error}"))
                .with_help("vmfab verifies keys of \"cosign generate-key-pair\": ECDSA on P-256")
        })
    }

    /// Verifies that a signature is of a manifest.
    ///
    /// # Errors
    /// Why it is not, a sentence.
    pub fn verify(&self, signature: &CosignSignature, digest: &Sha256) -> Result<(), String> {
        let bytes = Base64::decode_vec(&signature.signature);
        let bytes = bytes.map_err(|_| "a signature of cosign's is no base64".to_owned())?;
        let parsed = Signature::from_der(&bytes);
        let parsed = parsed.map_err(|_| "a signature of cosign's is damaged".to_owned())?;
        let verified = self.0.verify(&signature.payload, &parsed);
        verified.map_err(|_| "a signature of cosign's is by another key".to_owned())?;
        let payload: Payload = serde_json::from_slice(&signature.payload)
            .map_err(|error| format!("what cosign signed cannot be read: {error}"))?;
        let named = payload.critical.image.digest;
        match named.sha256() == Some(*digest) {
            true => Ok(()),
            false => Err(format!(
                "a signature of cosign's is of {named}, not of sha256:{digest}"
            )),
        }
    }
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Checksum,
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with OpenSSL, of the form that cosign gives them.
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2TEI6v9kRcJsaTXVhAiZ9MTUeYQ4\n\
        w2X1F7r2QNfU+ADVdtEB7iGPYtSyotjdqNcIb5091hm8CPAK5XhKs4hQWg==\n\
        -----END PUBLIC KEY-----\n";
    const SIGNATURE: &str = "MEUCIEbXeWTCBXgZQ+IFtaPHFf2y3QhOuK3607RbZxu7CwyPAiEA+9V0hcLkoz/LF0gp\
        Yapz5C2PrKnjl3ea+VKTrJfimwU=";

    fn payload(digit: &str) -> Vec<u8> {
        format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"registry.example/team/app\"}},\
             \"image\":{{\"docker-manifest-digest\":\"sha256:{}\"}},\
             \"type\":\"cosign container image signature\"}},\"optional\":null}}",
            digit.repeat(64)
        )
        .into_bytes()
    }

    #[test]
    fn a_signature_is_of_one_manifest_and_by_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cosign.pub");
        std::fs::write(&path, KEY).unwrap();
        let key = CosignPublicKey::read(&path).unwrap();
        let digest = |digit: &str| digit.repeat(64).parse::<Sha256>().unwrap();
        let verify = |payload, signature: &str, digest| {
            let signature = signature.to_owned();
            key.verify(&CosignSignature { payload, signature }, &digest)
        };
        assert_eq!(verify(payload("1"), SIGNATURE, digest("1")), Ok(()));
        for (payload, signature, of, why) in [
            (payload("1"), SIGNATURE, "2", "not of sha256:2222"),
            (payload("2"), SIGNATURE, "2", "by another key"),
            (payload("1"), "!", "1", "no base64"),
            (payload("1"), "AAAA", "1", "damaged"),
        ] {
            let error = verify(payload, signature, digest(of)).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        std::fs::write(&path, "no key").unwrap();
        assert!(CosignPublicKey::read(&path).is_err());
    }
}
