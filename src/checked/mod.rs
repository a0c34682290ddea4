//! Names, paths and lines that come from elsewhere, as types that cannot hold a hostile value.
//! Pure.
//!
//! Image configs, machine configs and recipes reach command lines, boot loader entries and
//! cloud-init's YAML. Each of their fields has one of these types. A document with a value that
//! does not fit is refused as a whole, where it is read.

mod rules;

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    shown: String,
    what: &'static str,
    help: &'static str,
}

impl Unfit {
    fn new(text: &str, what: &'static str, help: &'static str) -> Self {
        let mut shown: String = text.chars().take(60).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self { shown, what, help }
    }

    /// What to write instead.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        self.help
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted as in Rust: control characters are escaped.
        write!(f, "{:?} is not {}", self.shown, self.what)
    }
}

impl std::error::Error for Unfit {}

/// Makes types of text: each has a rule, a phrase for what it is, and help.
macro_rules! checked {
    ($($(#[$doc:meta])* $name:ident, $rule:path, $what:literal, $help:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = Unfit;

            fn try_from(text: String) -> Result<Self, Unfit> {
                match $rule(&text) {
                    true => Ok(Self(text)),
                    false => Err(Unfit::new(&text, $what, $help)),
                }
            }
        }

        impl FromStr for $name {
            type Err = Unfit;

            fn from_str(text: &str) -> Result<Self, Unfit> {
                text.to_owned().try_into()
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    )*};
}

checked! {
    /// Names a build of a home.
    BuildId, rules::build_id, "the id of a build",
    "an id has 12 lowercase hexadecimal digits; vmfab builds lists the ids of builds";

    /// A login name. Guests may have names that `useradd` refuses, such as `John.Doe`.
    AccountName, rules::account_name, "the name of an account",
    "a name has letters, digits, \"_\", \".\" and \"-\", begins with a letter or \"_\" and has at most 64 characters";

    /// A host name (RFC 1123), at most 64 bytes as Linux has it.
    HostName, rules::host_name, "a host name",
    "a host name has letters, digits, \"-\" and \".\", and at most 64 characters";

    /// The name of a network interface of this host, in a form that needs no quotes.
    InterfaceName, rules::interface_name, "the name of a network interface",
    "write a name that ip link lists: at most 15 letters, digits, \"_\", \".\" and \"-\"";

    /// The name of an image, a recipe or a parameter.
    Name, rules::name, "a name",
    "a name begins with a letter or digit and has letters, digits, \"_\", \".\" and \"-\"";

    /// The name of a processor architecture or of a kind of file system.
    Word, rules::word, "one word",
    "write small letters, digits and \"_\", at most 32";

    /// What archives of packages call things: names, versions, architectures, files.
    Token, rules::token, "one word",
    "write it without spaces and control characters, and without a \"-\" at its beginning";

    /// The address of an archive of packages: a URL of whatever scheme its package manager knows.
    Address, rules::address, "an address",
    "write a URL, such as \"http://deb.debian.org/debian/\"";

    /// An absolute path in an image, on one line.
    GuestPath, rules::guest_path, "a path in an image",
    "write an absolute path without \"..\" and control characters, such as \"/home/vm\"";

    /// Where in a guest something is mounted: a path that needs no quotes in tables of mounts, such
    /// as fstab(5), and in scripts.
    MountPoint, rules::mount_point, "a path to mount something at",
    "write an absolute path of letters, digits and \"_\", \".\", \"-\", \"+\", \"@\", such as \"/var/lib/data\"";

    /// A directory below the one that a user is in.
    DirectoryBelow, rules::directory_below, "a directory below another",
    "write a relative path without \"..\", such as \"./src\"";

    /// A public key of SSH, as a line of `authorized_keys` without options (sshd(8)).
    PublicKey, rules::public_key, "an SSH public key",
    "write a line such as that in ~/.ssh/id_ed25519.pub: a type, the key and a comment";

    /// A password as crypt(5) hashes it.
    PasswordHash, rules::password_hash, "the hash of a password",
    "write what openssl passwd -6 prints";

    /// What QEMU calls a kind of machine.
    MachineType, rules::machine_type, "a type of machine",
    "write a name that qemu-system-x86_64 -machine help lists, such as q35 or pc";

    KernelArguments, rules::kernel_arguments, "a kernel command line",
    "write one line of at most 4096 bytes, with spaces between the arguments";

    /// The label of an ext4 file system: at most 16 bytes (`s_volume_name` in the kernel's ext4.h),
    /// of a form that needs no quotes on a kernel command line.
    Label, rules::label, "a valid label for ext4",
    "a label has 1 to 16 letters, digits, \"_\", \".\" and \"-\"";

    /// The name of an environment variable.
    VariableName, rules::variable_name, "the name of a variable",
    "a name has letters, digits and \"_\", and does not begin with a digit";

    /// The value of an environment variable: what an environment can hold.
    VariableValue, rules::variable_value, "the value of a variable",
    "a value has at most 128 KiB and no zero bytes";

    /// Text for people, of one line.
    Line, rules::line, "a line of text",
    "write one line of at most 4096 bytes, without control characters";

    /// Text for people, of one or more lines.
    Text, rules::text, "a text",
    "write at most 64 KiB, without control characters but line ends and tabs";
}

impl Text {
    /// The text that is most like another one: what it cannot hold becomes `�`, what is too long is
    /// cut.
    #[must_use]
    pub fn like(text: &str) -> Self {
        Self(rules::like(text, rules::is_in_text, rules::LONGEST_TEXT))
    }
}

impl Line {
    /// The line that is most like a text: what it cannot hold becomes `�`, what is too long is cut.
    #[must_use]
    pub fn like(text: &str) -> Self {
        Self(rules::like(text, rules::is_in_line, rules::LONGEST_LINE))
    }
}

/// A TCP port that can be forwarded: for fields of documents.
///
/// # Errors
/// It is no number from 1 to 65535.
pub fn port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    std::num::NonZeroU16::deserialize(deserializer).map(std::num::NonZeroU16::get)
}

/// The same for a port that may be absent.
///
/// # Errors
/// It is no number from 1 to 65535.
pub fn optional_port<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u16>, D::Error> {
    let port = Option::<std::num::NonZeroU16>::deserialize(deserializer)?;
    Ok(port.map(std::num::NonZeroU16::get))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values that would do harm somewhere: on a command line, in a unit, in YAML, on a terminal.
    const HOSTILE: [&str; 12] = [
        "-oProxyCommand=touch /tmp/x",
        "--",
        "a\nb",
        "a\r",
        "a\0b",
        "\u{1b}[2J",
        "a\u{7f}",
        "a\u{9b}2J",
        "../x",
        "a,b=c",
        "$(id)",
        "a b",
    ];

    #[test]
    fn no_name_holds_a_hostile_value() {
        for text in HOSTILE {
            assert!(text.parse::<AccountName>().is_err(), "{text:?}");
            assert!(text.parse::<HostName>().is_err(), "{text:?}");
            assert!(text.parse::<InterfaceName>().is_err(), "{text:?}");
            assert!(text.parse::<Name>().is_err(), "{text:?}");
            assert!(text.parse::<Word>().is_err(), "{text:?}");
            assert!(text.parse::<GuestPath>().is_err(), "{text:?}");
            assert!(text.parse::<Label>().is_err(), "{text:?}");
            assert!(text.parse::<VariableName>().is_err(), "{text:?}");
            assert!(text.parse::<Address>().is_err(), "{text:?}");
            let has_control = text.contains(char::is_control);
            assert_eq!(text.parse::<KernelArguments>().is_err(), has_control);
            assert_eq!(text.parse::<Line>().is_err(), has_control);
        }
        for path in ["/a", "a/../b", "..", "-a", "~", "~/a", "a\nb", ""] {
            assert!(path.parse::<DirectoryBelow>().is_err(), "{path:?}");
        }
        for path in ["/a/../b", "/a/./b", "//a", "/a\nb", "a", ""] {
            assert!(path.parse::<GuestPath>().is_err(), "{path:?}");
        }
    }

    #[test]
    fn what_others_have_is_taken() {
        for name in ["root", "vm", "_apt", "John.Doe", "web-1", "www_data"] {
            assert!(name.parse::<AccountName>().is_ok(), "{name}");
        }
        for path in ["/", "/root", "/home/100% \"vm\"/"] {
            assert!(path.parse::<GuestPath>().is_ok(), "{path}");
        }
        assert!("quirk=a,b x=\"y z\"".parse::<KernelArguments>().is_ok());
        for path in ["./src", "a b/.cache", "."] {
            assert!(path.parse::<DirectoryBelow>().is_ok(), "{path}");
        }
        assert!("of two\n\tlines".parse::<Text>().is_ok());
    }

    #[test]
    fn a_message_shows_the_text_harmlessly() {
        let error = "\u{1b}[2J".parse::<Name>().unwrap_err();
        assert_eq!(error.to_string(), r#""\u{1b}[2J" is not a name"#);
    }

    #[test]
    fn ports() {
        #[derive(Debug, Deserialize)]
        struct Ports {
            #[serde(deserialize_with = "port")]
            guest: u16,
            #[serde(deserialize_with = "optional_port")]
            host: Option<u16>,
        }
        let read = |text: &str| serde_json::from_str::<Ports>(text);
        let ports = read(r#"{"guest":80,"host":null}"#).unwrap();
        assert_eq!((ports.guest, ports.host), (80, None));
        for wrong in [
            r#"{"guest":0,"host":1}"#,
            r#"{"guest":1,"host":0}"#,
            r#"{"guest":65536,"host":1}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn likenesses_fit(text in any::<String>()) {
            prop_assert_eq!(Text::like(&text).parse(), Ok(Text::like(&text)));
            prop_assert_eq!(Line::like(&text).parse(), Ok(Line::like(&text)));
        }
    }
}
