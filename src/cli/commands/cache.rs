//! The options of build caches, which several commands take.

use clap::Args;

use super::super::options::RegistryOptions;
use crate::config::{CacheMode, CacheSettings, NONE, ParseCacheModeError};
use crate::failure::Failure;
use crate::ops::Context;
use crate::ops::cache::{self, CacheOptions};

/// Heading of these options in help texts.
const HEADING: &str = "Build caches";

/// Which caches are asked for the results of steps.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct CacheArgs {
    /// Read results of steps from REPOSITORY, such as ghcr.io/me/cache (repeatable); none: use no
    /// cache, and push nowhere
    #[arg(long = "cache", value_name = "REPOSITORY", value_parser = parse_repository, help_heading = HEADING)]
    read: Vec<String>,

    #[command(flatten)]
    pub(super) registries: RegistryOptions,
}

/// The cache that gets what is built.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PushArgs {
    /// Push results of steps to REPOSITORY after the build; none: push nowhere
    #[arg(long = "cache-push", value_name = "REPOSITORY", value_parser = parse_repository, help_heading = HEADING)]
    push: Option<String>,

    /// Push the content of every step (max) or of images only (min) [default: max]
    #[arg(long = "cache-mode", value_name = "MODE", value_parser = parse_mode, help_heading = HEADING)]
    mode: Option<CacheMode>,
}

impl CacheArgs {
    /// The caches to ask: those of the command line, or else of the environment, or else of the
    /// configuration.
    pub(super) fn options(self, context: &Context) -> Result<CacheOptions, Failure> {
        self.with(PushArgs::default(), context)
    }

    /// The same, and the one that is pushed to.
    pub(super) fn with(self, push: PushArgs, context: &Context) -> Result<CacheOptions, Failure> {
        let settings = CacheSettings {
            read: self.read,
            push: push.push,
            mode: push.mode,
        };
        settings.check().map_err(Failure::usage)?;
        CacheOptions::new(&settings.over(context.config.cache.clone()))
    }
}

fn parse_repository(text: &str) -> Result<String, String> {
    match text {
        NONE => Ok(text.to_owned()),
        text => cache::repository(text).map(|_| text.to_owned()),
    }
}

fn parse_mode(text: &str) -> Result<CacheMode, ParseCacheModeError> {
    text.parse()
}
