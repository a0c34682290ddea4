//! What a machine runs otherwise than its image says. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::container::{ContainerConfig, Healthcheck};

/// What a machine runs otherwise than its image says. What is absent stays as the image has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Replaces `ENTRYPOINT`, and `CMD` with it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces `CMD`.
    pub command: Option<Vec<String>>,
    /// Variables beside those of the image.
    pub env: BTreeMap<String, String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub stop_signal: Option<String>,
    /// Times that are absent stay as the image has them; so does the command.
    pub health: Option<Healthcheck>,
    pub manner: Manner,
}

impl Process {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The config of the image with these changes, as docker makes them.
    #[must_use]
    pub fn applied(&self, config: &ContainerConfig) -> ContainerConfig {
        let mut config = config.clone();
        if let Some(entrypoint) = &self.entrypoint {
            config.entrypoint.clone_from(entrypoint);
            config.cmd.clear();
        }
        if let Some(command) = &self.command {
            config.cmd.clone_from(command);
        }
        for (name, value) in &self.env {
            config.set_env(name, value);
        }
        let replace = |own: &mut Option<String>, other: &Option<String>| {
            if other.is_some() {
                own.clone_from(other);
            }
        };
        replace(&mut config.user, &self.user);
        replace(&mut config.workdir, &self.workdir);
        replace(&mut config.stop_signal, &self.stop_signal);
        if let Some(health) = &self.health {
            let own = config.healthcheck.take().unwrap_or_default();
            let test = match health.test.is_empty() {
                true => own.test,
                false => health.test.clone(),
            };
            config.healthcheck = Some(Healthcheck {
                test,
                interval: health.interval.or(own.interval),
                timeout: health.timeout.or(own.timeout),
                start_period: health.start_period.or(own.start_period),
                start_interval: health.start_interval.or(own.start_interval),
                retries: health.retries.or(own.retries),
            });
        }
        config
    }
}

/// What no image says of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Manner {
    /// When it is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// How long it may take to end before it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Duration>,
}

impl Manner {
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// When a process is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    Never,
    /// When it fails or is killed.
    OnFailure,
    Always,
}

impl Restart {
    /// All of them, with the names that they have in recipes.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("no", Self::Never),
        ("on-failure", Self::OnFailure),
        ("always", Self::Always),
    ];

    /// As units of systemd have it, which is as recipes have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, restart)| *restart == self);
        known.map_or("no", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn an_entrypoint_takes_the_place_of_the_command_too() {
        let image = ContainerConfig {
            entrypoint: words(&["/run"]),
            cmd: words(&["serve"]),
            ..ContainerConfig::default()
        };
        let run = |entrypoint: Option<&[&str]>, command: Option<&[&str]>| {
            let process = Process {
                entrypoint: entrypoint.map(words),
                command: command.map(words),
                ..Process::default()
            };
            process.applied(&image).command()
        };
        assert_eq!(run(None, None), ["/run", "serve"]);
        assert_eq!(run(None, Some(&["x"])), ["/run", "x"]);
        assert_eq!(run(Some(&["/other"]), None), ["/other"]);
        assert_eq!(run(Some(&["/other"]), Some(&["x"])), ["/other", "x"]);
        assert_eq!(run(Some(&[]), Some(&["x"])), ["x"]);
    }

    #[test]
    fn a_check_keeps_what_it_does_not_say() {
        let image = ContainerConfig {
            env: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
            user: Some("web".into()),
            healthcheck: Some(Healthcheck {
                test: words(&["CMD", "true"]),
                retries: Some(7),
                ..Healthcheck::default()
            }),
            ..ContainerConfig::default()
        };
        let process = Process {
            env: [("A".into(), "3".into())].into(),
            health: Some(Healthcheck {
                interval: Some(Duration::from_secs(2)),
                ..Healthcheck::default()
            }),
            ..Process::default()
        };
        let config = process.applied(&image);
        let check = config.healthcheck.as_ref().unwrap();
        assert_eq!((check.test.len(), check.retries), (2, Some(7)));
        assert_eq!(check.interval, Some(Duration::from_secs(2)));
        assert_eq!(config.env("A"), Some("3"));
        assert_eq!(config.env("B"), Some("2"));
        assert_eq!(config.user.as_deref(), Some("web"));
        assert_eq!(Process::default().applied(&image), image);
        assert!(Process::default().is_empty() && !process.is_empty());
    }
}
