# For a Debian 12 (or later) machine with a Rust toolchain. Packages that are missing are installed,
# as root or through sudo; nothing is asked.

SHELL = /bin/bash
.SHELLFLAGS = -eu -o pipefail -c
.DEFAULT_GOAL = help

RUN_PACKAGES = mmdebstrap bubblewrap uidmap e2fsprogs qemu-utils qemu-system openssh-client gpgv swtpm
TEST_PACKAGES = $(RUN_PACKAGES) ovmf gdisk dosfstools python3-zstandard b3sum strace gnupg gzip \
	xz-utils zstd bzip2 zip dropbear-bin cpio kmod docker-registry skopeo podman binutils openssh-tests \
	apache2-utils curl docker.io busybox-static attr rpm createrepo-c passt chromium chromium-driver tmux
BENCH_PACKAGES = $(RUN_PACKAGES) docker.io debian-archive-keyring zstd b3sum restic borgbackup casync time dropbear-bin cpio kmod \
	docker-registry skopeo chromium chromium-driver
UBUNTU_PACKAGES = $(TEST_PACKAGES) ubuntu-archive-keyring

.PHONY: help
help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## Build Docker on Debian 12, boot it, print "docker version" from inside
	@.ci/packages $(RUN_PACKAGES)
	@cargo build --release --locked
	@.ci/demo target/release/vmfab

.PHONY: test
test: packages format lint documentation licences unit ## Install what tests need and run them all

.PHONY: packages
packages:
	@.ci/packages $(TEST_PACKAGES)
	@.ci/virtiofsd

.PHONY: format
format:
	cargo fmt --check

.PHONY: lint
lint: packages
	cargo clippy --locked --all-targets -- -D warnings

.PHONY: documentation
documentation: packages
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

.PHONY: licences
licences: packages
	@.ci/cargo-deny
	cargo deny check bans licenses sources

.PHONY: unit
unit: packages
	cargo test --locked --no-fail-fast

.PHONY: test-ubuntu
test-ubuntu: ## The end-to-end test on Ubuntu 24.04; needs the Ubuntu archive
	@.ci/packages $(UBUNTU_PACKAGES)
	@.ci/reachable "the Ubuntu archive" http://archive.ubuntu.com/ubuntu/dists/noble/InRelease
	VMFAB_TEST_BASE=ubuntu-24.04 cargo test --locked --test all end_to_end

.PHONY: test-alpine
test-alpine: ## The way to a shell with Alpine's own ROOTFS=alpine-minirootfs-….tar.gz
	@.ci/packages $(TEST_PACKAGES)
	VMFAB_TEST_ALPINE=$(abspath $(ROOTFS)) cargo test --locked --test all upstream

.PHONY: test-database
test-database: ## Take fifty snapshots of a database under load, and restore each; takes an hour
	@.ci/packages $(TEST_PACKAGES)
	VMFAB_TEST_SNAPSHOTS=50 cargo test --locked --test all no_transaction

.PHONY: dist
dist: ## Build a static binary, a Debian package, a bill of materials and checksums in target/dist
	@.ci/packages
	@.ci/dist

.PHONY: test-dist
test-dist: ## Build them twice and compare; install the package in a fresh root, boot there; as root
	@.ci/packages $(TEST_PACKAGES)
	@.ci/dist
	@.ci/test-dist

.PHONY: test-docs
test-docs: ## Run the tutorial as a user does: build, boot, change, export
	@.ci/packages $(TEST_PACKAGES)
	cargo test --locked --test all -- --ignored --exact docs::the_tutorial_runs

.PHONY: book
book: ## Make a book of docs/, with search, in target/book
	@.ci/packages
	@.ci/mdbook
	@.ci/book
	@echo target/book/index.html

.PHONY: bench
bench: ## Measure against BuildKit, mmdebstrap, QEMU, restic and others; as root
	@.ci/packages $(BENCH_PACKAGES)
	@.ci/syft
	cargo bench --locked --bench speed

.PHONY: expectations
expectations: ## Build the corpus of Dockerfiles with Debian 13's BuildKit, and keep what it makes; as root
	@.ci/packages $(TEST_PACKAGES)
	cargo test --locked --test all -- --ignored --exact differential::write_expectations

.PHONY: coverage
coverage: ## Show what part of each module the tests reach
	@.ci/packages $(TEST_PACKAGES)
	@.ci/coverage

.PHONY: picture
picture: ## Record the terminal session of README.md anew
	@.ci/packages $(RUN_PACKAGES) curl python3-pyte
	cargo build --release --locked
	/usr/bin/python3 docs/terminal/record.py target/release/vmfab

.PHONY: advisories
advisories: ## Look for known security problems in dependencies; needs github.com
	@.ci/cargo-deny
	cargo deny check advisories
