//! Signed statements: DSSE envelopes (<https://github.com/secure-systems-lab/dsse>, version 1) with
//! plain Ed25519 signatures, as others verify them with a public key.

use std::time::SystemTime;

use base64ct::{Base64, Encoding};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use serde::{Deserialize, Serialize};
use ssh_key::{Algorithm, HashAlg, Signature};

use super::signers::Accepted;
use super::{OwnKey, Trusted};
use crate::failure::Failure;
use crate::text::excerpt;

/// The type of what is signed: a statement of in-toto's.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// More signatures of one envelope are not looked at.
const MOST: usize = 16;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    /// A hint, which is not signed.
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// A statement with signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The statement, as it was signed.
    pub statement: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

impl Envelope {
    /// Reads an envelope with a statement.
    ///
    /// # Errors
    /// It is none: a phrase that goes on after what it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|error| format!("is no DSSE envelope: {}", excerpt(&error.to_string())))?;
        if wire.payload_type != STATEMENT {
            let other = excerpt(&wire.payload_type);
            return Err(format!("has \"{other}\", and no statement"));
        }
        let decoded = |text: &str| {
            Base64::decode_vec(text).map_err(|_| "has a text that is no base64".to_owned())
        };
        let signatures = wire.signatures.iter().take(MOST);
        Ok(Self {
            statement: decoded(&wire.payload)?,
            signatures: signatures
                .map(|one| decoded(&one.sig))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// What is signed: the pre-authentication encoding of DSSE's.
fn encoded(statement: &[u8]) -> Vec<u8> {
    let lengths = (STATEMENT.len(), statement.len());
    let mut bytes = format!("DSSEv1 {} {STATEMENT} {} ", lengths.0, lengths.1).into_bytes();
    bytes.extend(statement);
    bytes
}

impl OwnKey {
    /// Signs a statement.
    ///
    /// # Errors
    /// The key has a passphrase, is in an agent or on a token, or is not of Ed25519.
    pub fn sign_statement(&self, statement: &[u8]) -> Result<Vec<u8>, Failure> {
        let refused = || {
            let message = format!("key \"{}\" cannot sign attestations", self.name);
            Failure::usage(message).with_help(
                "they need an Ed25519 key in a file without a passphrase: \"vmfab key new\" makes one",
            )
        };
        let key = self.unlocked().ok_or_else(refused)?;
        let signature: Signature = key.try_sign(&encoded(statement)).map_err(|_| refused())?;
        let wire = Wire {
            payload_type: STATEMENT.to_owned(),
            payload: Base64::encode_string(statement),
            signatures: vec![WireSignature {
                keyid: self.public.fingerprint(HashAlg::Sha256).to_string(),
                sig: Base64::encode_string(signature.as_bytes()),
            }],
        };
        serde_json::to_vec(&wire).map_err(Failure::other)
    }
}

impl Trusted {
    /// Whether a trusted key that may sign this name signed a statement.
    ///
    /// # Errors
    /// Which rule speaks against it, a sentence.
    pub fn judge_statement(
        &self,
        envelope: &Envelope,
        name: &str,
        now: SystemTime,
    ) -> Result<Accepted, String> {
        let signed = encoded(&envelope.statement);
        let mut reason = "no trusted key signed it".to_owned();
        for bytes in &envelope.signatures {
            let Ok(signature) = Signature::new(Algorithm::Ed25519, bytes.clone()) else {
                continue;
            };
            for signer in &self.signers {
                if signer.key.key_data().verify(&signed, &signature).is_err() {
                    continue;
                }
                match self.accept(&signer.key, name, now) {
                    Ok(accepted) => return Ok(accepted),
                    Err(why) => reason = why,
                }
            }
        }
        Err(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification (protocol.md).
    #[test]
    fn what_is_signed_has_lengths() {
        assert_eq!(
            encoded(b"{}"),
            *b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
        );
    }

    #[test]
    fn what_was_changed_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let key = OwnKey::create(directory.path(), "k", "k").unwrap();
        let mut trusted = Trusted::default();
        let line = format!("x/* {}\n", key.public.to_openssh().unwrap());
        let signers = directory.path().join("signers");
        std::fs::write(&signers, line).unwrap();
        trusted.read_signers(&signers).unwrap();
        let now = SystemTime::now();
        let envelope = Envelope::parse(&key.sign_statement(b"{}").unwrap()).unwrap();
        assert!(trusted.judge_statement(&envelope, "x/y", now).is_ok());
        let other = trusted.judge_statement(&envelope, "y/x", now).unwrap_err();
        assert!(other.contains("may sign x/*"), "{other}");
        let changed = Envelope {
            statement: b"[]".to_vec(),
            ..envelope
        };
        let changed = trusted.judge_statement(&changed, "x/y", now).unwrap_err();
        assert_eq!(changed, "no trusted key signed it");
        for garbage in [
            "",
            "{}",
            r#"{"payloadType":"x","payload":"","signatures":[]}"#,
        ] {
            assert!(Envelope::parse(garbage.as_bytes()).is_err());
        }
    }
}
