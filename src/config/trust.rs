//! Whom the user trusts to sign what, as `config.kdl` says it.

use std::path::PathBuf;

/// What signatures are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustSettings {
    /// The directory of the user's keys and of `allowed_signers`: that of `config.kdl`. Nothing when
    /// no variable says where that would be.
    pub directory: Option<PathBuf>,
    /// Further files of trusted keys.
    pub signers: Vec<PathBuf>,
    /// The first one that covers a name counts.
    pub rules: Vec<TrustRule>,
    /// Public keys of cosign, and the names that they may sign.
    pub cosign: Vec<CosignKey>,
}

/// What is asked of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRule {
    pub demand: Demand,
    /// A pattern of `HOST/REPOSITORY` or `file:NAME`, with `*` and `?`.
    pub names: String,
    /// What is done with them; everything when absent.
    pub used_for: Option<TrustedUse>,
}

/// A key of cosign's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignKey {
    /// A pattern of names that it may sign.
    pub names: String,
    /// A PEM file.
    pub path: PathBuf,
}

/// What a rule asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Demand {
    /// Without a good signature it fails.
    Require,
    /// Without one a warning is shown.
    Warn,
    #[default]
    Off,
}

impl Demand {
    pub const ALL: [(&'static str, Self); 3] = [
        ("require", Self::Require),
        ("warn", Self::Warn),
        ("off", Self::Off),
    ];
}

/// What something signed is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedUse {
    /// `vmfab pull`.
    Pull,
    /// `vmfab boot` and its like.
    Boot,
    /// A recipe starts from it.
    From,
    /// `vmfab snapshot import`.
    SnapshotImport,
    /// A template of a repository is pulled or built on.
    Template,
}

impl TrustedUse {
    pub const ALL: [(&'static str, Self); 5] = [
        ("pull", Self::Pull),
        ("boot", Self::Boot),
        ("from", Self::From),
        ("snapshot-import", Self::SnapshotImport),
        ("template", Self::Template),
    ];
}

impl TrustSettings {
    /// What is asked of a name, whose patterns `covers` knows.
    pub fn demand(
        &self,
        name: &str,
        used_for: TrustedUse,
        covers: impl Fn(&str, &str) -> bool,
    ) -> Demand {
        let rule = self.rules.iter().find(|rule| {
            rule.used_for.is_none_or(|other| other == used_for) && covers(&rule.names, name)
        });
        rule.map_or(Demand::Off, |rule| rule.demand)
    }
}
