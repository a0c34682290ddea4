//! How much recipes, images, steps, registries and servers may take. Each limit has its default
//! here, and its name in the `limits` node of the configuration, which can raise it.
//! `docs/config.md` is for users.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `recipe-size`: bytes of a recipe, or of a value after parameters were put into it.
    pub recipe_size: u64,
    /// `image-steps`: instructions of an image and of the recipes that it starts from.
    pub image_steps: u32,
    /// `image-size`: bytes that the layers of a container image, or the compressed parts of a disk,
    /// may unpack to together, when they are compressed to less than a [256th](Self::RATIO).
    pub image_size: u64,
    /// `least-speed`: bytes in a second. A server that sends or takes less for two minutes counts
    /// as one that does not answer.
    pub least_speed: u64,
    /// `step-log`: bytes of output of a build step.
    pub step_log: u64,
    /// What each step of a build may take that has a template of others in it.
    pub template_steps: StepBounds,
}

/// What a step may take at most, whatever the recipe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepBounds {
    /// `template-time`: wall time in seconds.
    pub seconds: u64,
    /// `template-memory`: resident memory of all processes together, in bytes.
    pub memory: u64,
    /// `template-processes`.
    pub processes: u64,
    /// `template-disk`: bytes that it writes.
    pub disk: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recipe_size: 4 << 20,
            image_steps: 1000,
            image_size: 1 << 30,
            least_speed: 512,
            step_log: 256 << 20,
            template_steps: StepBounds {
                seconds: 3600,
                memory: 4 << 30,
                processes: 4096,
                disk: 16 << 30,
            },
        }
    }
}

impl Limits {
    /// Over what time a server's speed counts.
    pub const SPEED_WINDOW: Duration = Duration::from_secs(120);
    /// What is compressed may always unpack to so many times its size, whatever
    /// [`image_size`](Self::image_size) says.
    pub const RATIO: u64 = 256;
    /// How deep `from` may lead from recipe to recipe, and how many recipes one may read. Fixed:
    /// each takes stack.
    pub const BASES: usize = 64;
}

/// What to write in the configuration to raise a limit to `value`.
pub(crate) fn raise(name: &str, value: &str) -> String {
    format!("raise the limit in the configuration (docs/config.md): limits {name}={value}")
}
