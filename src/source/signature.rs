//! Detached OpenPGP signatures, verified by gpgv.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::armor;
use super::error::{FetchError, SignatureProblem};
use crate::host::{Program, bare_command, require};

/// What begins a line that gpgv writes for programs (GnuPG's `doc/DETAILS`).
const STATUS: &str = "[GNUPG:] ";

/// Verifies that a key of the key ring signed `content`. Gives the fingerprint of that key.
///
/// One good signature is enough, as long as none is bad: publishers sign with old and new keys.
pub(super) fn verify(
    content: &[u8],
    signature: &[u8],
    keyring: &Path,
) -> Result<Result<String, SignatureProblem>, FetchError> {
    let program = require(Program::Gpgv)?;
    let keys = fs::read(keyring).map_err(FetchError::io("read the key ring", keyring))?;
    let keys = match armor::key_ring(&keys) {
        Ok(keys) => keys,
        Err(message) => {
            return Ok(Err(SignatureProblem::Keyring {
                path: keyring.to_owned(),
                message: message.to_owned(),
            }));
        }
    };
    let temporary = std::env::temp_dir();
    let directory =
        tempfile::tempdir().map_err(FetchError::io("make a directory in", &temporary))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).map_err(FetchError::io("write", &path))?;
        Ok::<_, FetchError>(path)
    };
    let mut command = bare_command(&program);
    command
        // Not the user's own settings and keys.
        .arg("--homedir")
        .arg(directory.path())
        .args(["--status-fd", "1", "--keyring"])
        .arg(write("keys.gpg", &keys)?)
        .arg(write("signature", signature)?)
        .arg(write("content", content)?)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    let output = command.output().map_err(FetchError::io("run", &program))?;
    let status = String::from_utf8_lossy(&output.stdout);
    let messages = String::from_utf8_lossy(&output.stderr);
    Ok(judge(&status, &messages, keyring))
}

fn judge(status: &str, messages: &str, keyring: &Path) -> Result<String, SignatureProblem> {
    let lines = status.lines().filter_map(|line| line.strip_prefix(STATUS));
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split(' ').collect()).collect();
    let of = |word: &str| {
        let mut lines = lines.iter();
        lines
            .find(|line| line[0] == word)
            .map(|line| line.get(1).copied().unwrap_or("?").to_owned())
    };
    if let Some(key) = of("BADSIG") {
        return Err(SignatureProblem::Bad(key));
    }
    if let (Some(_), Some(fingerprint)) = (of("GOODSIG"), of("VALIDSIG")) {
        return Ok(fingerprint);
    }
    for (word, what) in [
        ("EXPSIG", "the signature by key"),
        ("EXPKEYSIG", "the key"),
        ("REVKEYSIG", "the key"),
    ] {
        if let Some(key) = of(word) {
            let how = if word == "REVKEYSIG" {
                "was revoked"
            } else {
                "has expired"
            };
            return Err(SignatureProblem::Expired(format!("{what} {key} {how}")));
        }
    }
    if let Some(key) = of("NO_PUBKEY") {
        return Err(SignatureProblem::NoKey {
            // The whole fingerprint, where gpgv tells it.
            key: full_key(&lines).unwrap_or(key),
            keyring: keyring.to_owned(),
        });
    }
    let last = messages.lines().last().unwrap_or("gpgv said nothing");
    let last = last.strip_prefix("gpgv: ").unwrap_or(last);
    Err(SignatureProblem::NotASignature(last.to_owned()))
}

/// The fingerprint at the end of `ERRSIG`.
fn full_key(lines: &[Vec<&str>]) -> Option<String> {
    let error = lines.iter().find(|line| line[0] == "ERRSIG")?;
    let last = error.last().filter(|last| last.len() >= 40)?;
    Some((*last).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: &str) -> Result<String, SignatureProblem> {
        judge(
            status,
            "gpgv: no valid OpenPGP data found.",
            Path::new("/keys.gpg"),
        )
    }

    #[test]
    fn one_good_signature_is_enough_and_a_bad_one_too_many() {
        let good =
            "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AAAA Someone\n[GNUPG:] VALIDSIG FFFF 2026-01-01 1\n";
        let unknown = "[GNUPG:] ERRSIG BBBB 1 10 00 1 9 CCCC\n[GNUPG:] NO_PUBKEY BBBB\n";
        let bad = "[GNUPG:] BADSIG DDDD Someone\n";
        assert_eq!(judged(good), Ok("FFFF".to_owned()));
        assert_eq!(judged(&format!("{unknown}{good}")), Ok("FFFF".to_owned()));
        assert_eq!(
            judged(&format!("{good}{bad}")),
            Err(SignatureProblem::Bad("DDDD".to_owned()))
        );
        assert!(
            matches!(judged(unknown), Err(SignatureProblem::NoKey { key, .. }) if key == "BBBB")
        );
        let expired = "[GNUPG:] EXPKEYSIG AAAA Someone\n[GNUPG:] VALIDSIG FFFF 2026-01-01 1\n";
        assert_eq!(
            judged(expired),
            Err(SignatureProblem::Expired(
                "the key AAAA has expired".to_owned()
            ))
        );
        // Words in a user's name are no status.
        assert!(judged("gpgv: [GNUPG:] GOODSIG\n GOODSIG A\nVALIDSIG A\n").is_err());
        assert_eq!(
            judged(""),
            Err(SignatureProblem::NotASignature(
                "no valid OpenPGP data found.".to_owned()
            ))
        );
    }
}
