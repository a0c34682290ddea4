//! The nodes of `config.kdl`, and what each takes.

/// What a kind of node takes.
pub(super) struct Shape {
    pub(super) name: &'static str,
    /// Its arguments, all strings that must be there.
    pub(super) arguments: &'static [&'static str],
    pub(super) properties: &'static [&'static str],
    /// A correct one.
    pub(super) example: &'static str,
}

pub(super) const SHAPES: [Shape; 13] = [
    Shape {
        name: "mirror",
        arguments: &["the beginning of URLs", "where to look instead"],
        properties: &["only"],
        example: "mirror \"https://cloud-images.ubuntu.com/\" \"https://mirror.example/ubuntu/\"",
    },
    Shape {
        name: "downloads",
        arguments: &[],
        properties: &["parallel", "retries"],
        example: "downloads parallel=4 retries=4",
    },
    Shape {
        name: "recipes",
        arguments: &["a directory"],
        properties: &[],
        example: "recipes \"~/recipes\"",
    },
    Shape {
        name: "roles",
        arguments: &["a repository"],
        properties: &[],
        example: "roles \"ghcr.io/me\"",
    },
    Shape {
        name: "certificate-authority",
        arguments: &["a PEM file"],
        properties: &[],
        example: "certificate-authority \"company.pem\"",
    },
    Shape {
        name: "registry",
        arguments: &["a host"],
        properties: &["plain-http", "insecure", "ca"],
        example: "registry \"registry.example:5000\" ca=\"company.pem\"",
    },
    Shape {
        name: "cache",
        arguments: &["a repository"],
        properties: &["push", "mode"],
        example: "cache \"ghcr.io/me/cache\" push=#true mode=\"max\"",
    },
    Shape {
        name: "limits",
        arguments: &[],
        properties: &[
            "recipe-size",
            "image-steps",
            "image-size",
            "step-log",
            "least-speed",
            "template-time",
            "template-memory",
            "template-processes",
            "template-disk",
        ],
        example: "limits recipe-size=\"8M\" image-steps=2000 image-size=\"16G\" least-speed=0",
    },
    Shape {
        name: "gc",
        arguments: &["\"auto\""],
        properties: &["max-size", "cache-size", "older-than", "keep-last"],
        example: "gc \"auto\" max-size=\"50G\"",
    },
    Shape {
        name: "templates",
        arguments: &["a namespace", "a repository of templates"],
        properties: &[],
        example: "templates \"acme\" \"oci://ghcr.io/acme/templates\"",
    },
    Shape {
        name: "signatures",
        arguments: &["require, warn or off", "a pattern of names"],
        properties: &["for"],
        example: "signatures \"require\" \"ghcr.io/team/*\" for=\"pull\"",
    },
    Shape {
        name: "signers",
        arguments: &["a file of trusted keys"],
        properties: &[],
        example: "signers \"team/allowed_signers\"",
    },
    Shape {
        name: "cosign-key",
        arguments: &["a pattern of names", "a PEM file"],
        properties: &[],
        example: "cosign-key \"ghcr.io/others/*\" \"others.pub\"",
    },
];
