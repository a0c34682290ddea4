//! Signatures: keys, what they sign, and whom the user trusts to sign what.
//!
//! A signature is one of OpenSSH's (SSHSIG, `PROTOCOL.sshsig` of its sources) in the namespace
//! `vmfab`, over one line: `sha256:` and the digest of a manifest or of a file. Trusted keys stand
//! in files of the form of `allowed_signers` (ssh-keygen(1)). Their principals are patterns of the
//! names that a key may sign: `registry.example/team/*`. So `ssh-keygen -Y verify -n vmfab -I NAME`
//! says what vmfab says.
//!
//! ```text
//! keys      the user's own: made, listed, used to sign
//! signers   allowed_signers and revoked keys: read, written, asked
//! pattern   which names a key may sign
//! cosign    signatures of cosign with a plain public key
//! dsse      signed statements
//! ```
//!
//! Nothing here knows registries.

mod cosign;
mod dsse;
mod keys;
mod pattern;
mod signers;

pub use cosign::{CosignPublicKey, CosignSignature};
pub use dsse::Envelope;
pub use keys::{OwnKey, own_keys};
pub use pattern::{covers, names_a_place};
pub use signers::{Accepted, Signer, Trusted, parse_time};

use ssh_key::{PublicKey, SshSig};

use crate::digest::Sha256;

/// The namespace of signatures: a signature for something else says nothing here.
pub const NAMESPACE: &str = "vmfab";

/// The longest signature that is read, in bytes.
pub const MAX_SIGNATURE: u64 = 64 << 10;

/// What is signed of a manifest or a file.
#[must_use]
pub fn message(digest: &Sha256) -> Vec<u8> {
    format!("sha256:{digest}\n").into_bytes()
}

/// A signature of OpenSSH's.
#[derive(Debug, Clone)]
pub struct Signature(SshSig);

impl Signature {
    /// Reads the text between `-----BEGIN SSH SIGNATURE-----` and its end.
    ///
    /// # Errors
    /// It is none: a phrase that goes on after what it is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let signature = SshSig::from_pem(text.trim_end());
        let signature = signature.map_err(|error| format!("is no SSH signature: {error}"))?;
        Ok(Self(signature))
    }

    /// The key that made it, as it says.
    fn key(&self) -> PublicKey {
        PublicKey::from(self.0.public_key().clone())
    }
}
