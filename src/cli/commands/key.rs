//! `vmfab key`

use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::super::Status;
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::keys::{self, KeyEntry, Keys, TrustOptions};
use crate::trust::parse_time;

/// Manage keys that sign images, and keys that you trust
///
/// Keys and signatures are OpenSSH's. Trusted keys are lines of allowed_signers beside config.kdl,
/// with patterns of the names that each may sign; revoked ones are lines of revoked_keys.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab key new
  vmfab key export > anna.pub
  vmfab key trust anna.pub --for 'ghcr.io/team/*' --until 2027-12-31
  vmfab key list"
)]
pub(crate) struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    New(New),
    List(List),
    Trust(Trust),
    Revoke(Revoke),
    Export(Export),
}

impl Key {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            KeyCommand::New(command) => command.run(session),
            KeyCommand::List(command) => command.run(session),
            KeyCommand::Trust(command) => command.run(session),
            KeyCommand::Revoke(command) => command.run(session),
            KeyCommand::Export(command) => command.run(session),
        }
    }
}

/// Make a key to sign with
///
/// An Ed25519 key without a passphrase, in keys/ beside config.kdl. For a passphrase or a hardware
/// token, make the key with ssh-keygen and sign with --key FILE.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab key new
  vmfab key new release --comment release@team.example")]
struct New {
    /// Name of the key
    #[arg(value_name = "NEW-KEY", default_value = "default")]
    name: String,

    /// Say whose it is [default: its name]
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

impl New {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let made = keys::new_key(
            session.reading_context()?,
            &self.name,
            self.comment.as_deref(),
        )?;
        session.print(&made, |made| match session.quiet() {
            true => format!("{}\n", made.fingerprint),
            false => format!("{}\n{}\n", made.fingerprint, made.public),
        })?;
        session.note("others trust it with: vmfab key trust 'PUBLIC KEY' --for 'HOST/TEAM/*'");
        Ok(Status::Done)
    }
}

/// List your own keys, trusted keys and revoked keys
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  vmfab key list
  vmfab key list --json | jq -r '.trusted[] | select(.state == \"expired\").comment'"
)]
struct List {}

impl List {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let listed = keys::list(session.reading_context()?)?;
        session.print(&listed, shown)?;
        Ok(Status::Done)
    }
}

/// Trust a key to sign what has certain names
///
/// A pattern is HOST/REPOSITORY with * for any characters and ? for one, or file:NAME for files.
/// What must be signed, "signatures" in config.kdl says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab key trust anna.pub --for 'ghcr.io/team/*'
  vmfab key trust 'ssh-ed25519 AAAA… anna' --for 'ghcr.io/team/*' --until 2027-12-31
  curl -fsS https://github.com/anna.keys | head -n 1 | vmfab key trust - --for 'ghcr.io/anna/*'")]
struct Trust {
    /// Public key: a file, - for standard input, the name of your own key, or the key itself
    #[arg(value_name = "PUBLIC-KEY")]
    key: String,

    /// Pattern of names that it may sign (repeatable)
    #[arg(long = "for", value_name = "PATTERN", required = true)]
    names: Vec<String>,

    /// Accept its signatures only from this day on
    #[arg(long, value_name = "DATE", value_parser = parse_time)]
    from: Option<SystemTime>,

    /// Accept its signatures only until this day
    #[arg(long, value_name = "DATE", value_parser = parse_time)]
    until: Option<SystemTime>,
}

impl Trust {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = TrustOptions {
            key: self.key,
            names: self.names,
            from: self.from,
            until: self.until,
        };
        let trusted = keys::trust(session.reading_context()?, &options)?;
        session.print(&trusted, |trusted| match session.quiet() {
            true => String::new(),
            false => format!(
                "{} {} may sign {}\n",
                trusted.fingerprint,
                &trusted.comment,
                trusted.signs.as_deref().unwrap_or_default()
            ),
        })?;
        Ok(Status::Done)
    }
}

/// Stop trusting a key, whatever it signed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab key revoke anna.pub
  vmfab key revoke SHA256:m0eKJk…")]
struct Revoke {
    /// Public key, as for vmfab key trust, or the fingerprint of a trusted key
    #[arg(value_name = "PUBLIC-KEY")]
    key: String,
}

impl Revoke {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let revoked = keys::revoke(session.reading_context()?, &self.key)?;
        session.print(&revoked, |revoked| match session.quiet() {
            true => String::new(),
            false => format!("{} {} is revoked\n", revoked.fingerprint, &revoked.comment),
        })?;
        Ok(Status::Done)
    }
}

/// Print a public key of your own
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab key export > anna.pub
  vmfab key export release")]
struct Export {
    /// Name of the key [default: your only key]
    #[arg(value_name = "KEY")]
    name: Option<String>,
}

impl Export {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let key = keys::own(session.reading_context()?, self.name.as_deref())?;
        session.print(&key, |key| format!("{}\n", key.public))?;
        Ok(Status::Done)
    }
}

fn shown(keys: &Keys) -> String {
    let mut text = String::new();
    let row = |first: &str, key: &KeyEntry| {
        let words = [first, &key.fingerprint, &key.comment, key.state];
        words.map(str::to_owned).to_vec()
    };
    let columns = |first| {
        Table::new(vec![
            (first, Align::Left),
            ("KEY", Align::Left),
            ("COMMENT", Align::Left),
            ("STATE", Align::Left),
        ])
    };
    if !keys.own.is_empty() {
        let mut table = columns("OWN KEY");
        for key in &keys.own {
            table.row(row(key.name.as_deref().unwrap_or_default(), key));
        }
        text += &table.to_string();
    }
    if !keys.trusted.is_empty() {
        let mut table = columns("MAY SIGN");
        for key in &keys.trusted {
            table.row(row(key.signs.as_deref().unwrap_or_default(), key));
        }
        let between = if text.is_empty() { "" } else { "\n" };
        text = format!("{text}{between}{table}");
    }
    for key in &keys.revoked {
        text += &format!("revoked: {key}\n");
    }
    text
}
