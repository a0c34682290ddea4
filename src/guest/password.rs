//! Hashes passwords in a format that every guest understands.

use sha_crypt::{Algorithm, Params, PasswordHasher, ShaCrypt};
use uuid::Uuid;

use crate::checked::PasswordHash;
use crate::failure::Failure;

/// Twenty times the default of crypt(5). A login then takes some hundredths of a second, and less
/// than a second on an emulated processor.
const ROUNDS: u32 = 100_000;
/// Bytes whose base64 is the longest salt that the C libraries take.
const SALT: usize = 12;

/// SHA-512 as crypt(5) has it: glibc, musl and `BusyBox` read it.
///
/// # Errors
/// The password is empty, or is no line of text.
pub fn hash_password(password: &str) -> Result<PasswordHash, Failure> {
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    if password.contains(char::is_control) {
        return Err(Failure::usage("the password has control characters")
            .with_help("write one line of text to standard input"));
    }
    let impossible = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("cannot hash the password: {error}"))
    };
    let params = Params::new(ROUNDS).map_err(|error| impossible(&error))?;
    let salt = Uuid::new_v4().into_bytes();
    let hash = ShaCrypt::new(Algorithm::Sha512Crypt, params)
        .hash_password_with_salt(password.as_bytes(), &salt[..SALT])
        .map_err(|error| impossible(&error))?;
    let hash = hash.as_str().parse();
    hash.map_err(|error: crate::checked::Unfit| impossible(&error))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_c_library_makes_the_same_of_it() {
        let hash = hash_password("correct horse").unwrap();
        let ran = Command::new("perl")
            .args([
                "-e",
                "print crypt($ARGV[0], $ARGV[1])",
                "correct horse",
                &hash,
            ])
            .output()
            .expect("perl runs (package perl-base)");
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), &*hash);
        assert_ne!(hash_password("correct horse").unwrap(), hash);
        for bad in ["", "two\nlines"] {
            assert!(hash_password(bad).is_err(), "{bad:?}");
        }
    }
}
