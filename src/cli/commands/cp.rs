//! `vmfab cp`

use std::io::IsTerminal;

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use crate::checked::AccountName;
use crate::failure::Failure;
use crate::ops::machine::{self, Copied, CopyOptions, Place};

/// Copy files into a machine or out of it
///
/// Write the place in the machine as NAME:PATH; a relative path starts at the home directory of the
/// account. Directories are copied with all that is in them. A source that is copied to a directory
/// goes into it, else it gets the name of the destination; of SOURCE/. only the content is copied.
/// As with docker cp, - is a tar archive on standard input or output. Both machines and hosts need
/// sh and tar.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab cp docker:/var/log ./        copy a directory out of the machine
  vmfab cp ./site docker:/tmp        copy one into it
  vmfab cp --user root ./nginx.conf docker:/etc/nginx/nginx.conf
  vmfab cp docker:data - | gzip > data.tar.gz
  vmfab cp - docker:/srv < site.tar  unpack an archive in the machine
  vmfab cp a:/srv/data b:/srv        copy from one machine to another")]
pub(crate) struct Cp {
    /// What to copy: NAME:PATH, a path, or -
    source: String,

    /// Where to: NAME:PATH, a path, or -
    destination: String,

    /// Read and write in the machine as USER [default: the account that the image names]
    #[arg(short, long)]
    user: Option<AccountName>,
}

impl Cp {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let from = Place::parse(&self.source);
        let to = Place::parse(&self.destination);
        if to == Place::Stream && std::io::stdout().is_terminal() {
            return Err(
                Failure::usage("an archive would be written to the terminal")
                    .with_help("redirect standard output: vmfab cp NAME:PATH - > FILE.tar"),
            );
        }
        session.end_progress();
        machine::copy(context, &from, &to, &CopyOptions { user: self.user })?;
        if to != Place::Stream {
            let copied = Copied {
                from: self.source,
                to: self.destination,
            };
            session.print(&copied, |copied| match session.quiet() {
                true => String::new(),
                false => format!("copied {} to {}", copied.from, copied.to),
            })?;
        }
        Ok(Status::Done)
    }
}
