//! The container in an image: the part of its tree that was a container before it became a machine.

use serde::{Deserialize, Serialize};

use super::ContainerConfig;
use crate::checked::Line;

/// The container that an image is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerTree {
    pub config: ContainerConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Line>,
    /// How many of the image's layers are the container's, from the lowest one.
    pub layers: usize,
    /// What made it, in order. One entry of each layer has `empty_layer` unset.
    pub history: Vec<HistoryEntry>,
}

/// What one instruction did, as container images say it (OCI image specification, config).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub created_by: Line,
    /// Whether it only changed the config.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub empty_layer: bool,
}

impl HistoryEntry {
    /// An entry of a layer.
    #[must_use]
    pub fn layer(created_by: &str) -> Self {
        Self {
            created_by: Line::like(created_by),
            empty_layer: false,
        }
    }
}
