//! Images as others have them in registries: what theirs are, and ours as they want them.

pub mod foreign;
