//! vmfab builds virtual machine images the way a good build system builds programs.
//!
//! ```text
//! recipe ── parse ──► recipe model ── plan ──► derivation graph ── execute ──► store
//!                                     (pure)            (rayon)       │
//! registry ◄── share: push, pull ──► image ◄──────────────────────────┤
//! machine ◄─── overlay + QEMU/QMP ── image ◄──────────────────────────┘
//! ```
//!
//! A module imports only from the rows above its own; modules of one row do not import each other.
//! `tests/architecture.rs` keeps it so.
//!
//! | row | module | what it is |
//! |---|---|---|
//! | 0 | [`failure`] | the one way to fail: kind, message, help, causes; exit codes |
//! | 1 | [`checked`] | names, paths and lines from elsewhere, as types that hold no hostile value |
//! | 1 | [`digest`] | ids and hashing |
//! | 1 | [`event`] | typed events and the sink that they go to |
//! | 1 | [`host`] | directories, programs, child processes and signals of this host |
//! | 1 | [`html`] | pages for browsers: one file each, texts escaped, a policy that allows no others |
//! | 1 | [`limits`] | how much recipes, images, registries and servers may take |
//! | 1 | [`tarball`] | tar archives, read and written |
//! | 1 | [`text`] | texts that people write: places in them, mistakes with the line underlined |
//! | 2 | [`audit`] | who did what in a home: a log in which each entry has the hash of the one before |
//! | 2 | [`image`] | image config, boot profile, and the words for them that recipes, disks and machines share |
//! | 2 | [`instruction`] | what recipes ask for and steps do, in the same words |
//! | 2 | [`template`] | recipes that others build on: names, packages, indexes, versions that fit |
//! | 3 | [`recipe`] | KDL to a typed model with source spans: images, and the machines of projects |
//! | 3 | [`dockerfile`] | Dockerfiles to a typed model with source spans: stages, instructions, expansion of variables |
//! | 3 | [`compose`] | Compose files and YAML definitions of templates to the KDL that says the same, with the places of mistakes |
//! | 3 | [`derivation`] | steps, canonical encoding, action keys, the graph, the contracts of builders and caches |
//! | 3 | [`disk`] | formats of disks, partition tables and file systems |
//! | 3 | [`lock`] | the lock file: packages and content that recipes stand for |
//! | 3 | [`store`] | objects in packs, action results, tags, garbage collection |
//! | 3 | [`nbd`] | a disk on a unix socket, for QEMU to read |
//! | 3 | [`http`] | an HTTP client that can be interrupted: typed errors, redirects, proxies, TLS |
//! | 3 | [`config`] | what the user set: mirrors, downloads, catalogue, certificate authorities, build caches |
//! | 4 | [`plan`] | recipe model to derivation graph: the one place of lowering |
//! | 4 | [`sandbox`] | running commands over layers, packing what they changed |
//! | 4 | [`qemu`] | QEMU's command line and QMP |
//! | 4 | [`guest`] | SSH, credentials and seeds |
//! | 4 | [`trust`] | signatures: keys, what they sign, and whom the user trusts to sign what |
//! | 4 | [`source`] | from a URL to verified bytes: mirrors, resumed downloads, checksum lists, signatures |
//! | 4 | [`contents`] | what is in an image: files by layers or disk, packages by their databases |
//! | 4 | [`registry`] | manifests and blobs in OCI registries, layouts and archives |
//! | 5 | [`machine`] | the life of a machine; projects, and the home's list of them |
//! | 5 | [`share`] | images and results as OCI artifacts: which chunks go into which packs, push, pull |
//! | 6 | [`builder`] | one file for each kind of derivation; steps on a disk run in a machine |
//! | 6 | [`executor`] | scheduling and running a graph |
//! | 7 | [`world`] | what planning must know of this host, its store and registries, asked once and remembered |
//! | 8 | [`ops`] | use cases with typed options |
//! | 9 | [`cli`] | arguments, progress, errors, exit codes |
//!
//! The files on disk are described in [`host::Home`] and `store-format/`.

pub mod audit;
pub mod builder;
pub mod checked;
pub mod cli;
pub mod compose;
pub mod config;
pub mod contents;
pub mod derivation;
pub mod digest;
pub mod disk;
pub mod dockerfile;
pub mod event;
pub mod executor;
pub mod failure;
pub mod guest;
pub mod host;
pub mod html;
pub mod http;
pub mod image;
pub mod instruction;
pub mod limits;
pub mod lock;
pub mod machine;
pub mod nbd;
pub mod ops;
pub mod plan;
pub mod qemu;
pub mod recipe;
pub mod registry;
pub mod sandbox;
pub mod share;
pub mod source;
pub mod store;
pub mod tarball;
pub mod template;
pub mod text;
pub mod trust;
pub mod world;
