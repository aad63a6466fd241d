# tideover. `make demo` shows what it does, `make test` shows that it does it; both do all the set-up.

CARGO   ?= cargo
# Where `make install` puts things: DESTDIR is put before all of them. Where cargo builds: CARGO_TARGET_DIR, as cargo has it.
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
DESTDIR ?=
export CARGO PREFIX LIBDIR DESTDIR
MAKEFLAGS += --no-print-directory

.PHONY: all build deps demo test check fresh lint doc bench servers compat field hazards install uninstall deb rpm wheel image dist dist-test \
    release arm64-root arm64 arm64-test arm64-ci clean

all: build

# On an arm64 machine the library has options of its own (scripts/arm64 says why).
ifeq ($(shell uname -m),aarch64)
build:
	$(CARGO) rustc --release -p tideover-shim --lib -- $(shell cat src/shim/arch/aarch64/flags.txt)
	$(CARGO) build --release -p tideover-cli
else
build:
	$(CARGO) build --release -p tideover-shim -p tideover-cli
endif

# Installs the Debian packages that all tests run, or says which are missing. `scripts/deps.sh --list demo` (test, check ...) names them.
deps:
	scripts/deps.sh check

demo:
	scripts/deps.sh demo
	$(MAKE) build
	scripts/demo

# For every change: unit tests, C programs, everyday programs, within minutes. The end-to-end tests run the release build.
test:
	scripts/deps.sh test
	$(MAKE) build
	scripts/test -p tideover-contract -p tideover-shim -p tideover-cli -p tideover-everyday --no-fail-fast

# Everything: all tests, the short forms of other people's tests and of real programs at their limits, the library for arm64, the lints.
check: deps
	$(MAKE) build
	scripts/dist-roots || echo "some tests are not run without them"
	scripts/test --workspace --no-fail-fast
	$(MAKE) compat SHORT=1
	$(MAKE) field SHORT=1
	scripts/arm64-ci build
	@if $(CARGO) clippy --version >/dev/null 2>&1; then $(MAKE) lint doc; else echo "clippy is not installed: lint and doc are left out"; fi

# `make demo` and `make test` in new Debian 12 and 13 roots, which have a C compiler, make and the Rust toolchain and nothing else.
# Needs root, and downloads some hundred MB. SUITE=trixie for one of them.
fresh:
	scripts/fresh $(SUITE)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets

# The documentation of the sources, private items, too (links to them are no mistake): target/doc.
doc:
	RUSTDOCFLAGS="-D warnings -D rustdoc::broken_intra_doc_links -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items

# PART=startup,loads for some of the parts (scripts/bench --list); WRITE=1 puts them into docs/BENCHMARKS.md.
bench:
	scripts/deps.sh bench
	$(MAKE) build
	scripts/bench $(if $(PART),--only $(PART)) $(if $(WRITE),--write)

# Real servers at their limit, plain and preloaded; WRITE=1 puts the tables into docs/servers.md.
servers:
	scripts/bench-servers $(if $(WRITE),--write)

# Other people's tests, plain against preloaded; SHORT=1 for a minute's worth, ONLY=cpython,node for some of the suites.
compat:
	scripts/deps.sh $(if $(SHORT),check,compat)
	$(MAKE) build
	scripts/compat $(if $(SHORT),--short,--write) $(if $(ONLY),--only $(ONLY))

# Real programs at limits that bite, and loggers on disks that fill and are freed, plain against preloaded. SHORT=1: ten of them, within
# three minutes; ONLY=nginx,node: some of them; WRITE=1 writes docs/field.md, and a table in docs/logs.md.
field:
	scripts/deps.sh $(if $(SHORT),check,field)
	$(MAKE) build
	SHORT=$(SHORT) ONLY='$(ONLY)' scripts/field $(if $(WRITE),--write)

# The storms of the tests, at length: ten minutes.
hazards: deps
	$(MAKE) build
	TIDEOVER_FAULTS=all TIDEOVER_STRESS=120 TIDEOVER_KILLS=1000 TIDEOVER_FUZZ=10000000 \
		scripts/test -p tideover-everyday --test faults --test endurance --test fuzz -- --nocapture

# Builds nothing: `make`, and then `sudo make install`.
install:
	scripts/install install

uninstall:
	scripts/install uninstall

# A package of library, command, header, man pages and completions for this machine's architecture.
deb:
	scripts/deps.sh deb
	$(MAKE) build
	scripts/deb

# The same as an RPM package.
rpm:
	scripts/deps.sh release
	$(MAKE) build
	scripts/rpm

# The Python package: module, library and command as a wheel for glibc and musl, and the sources of the module. Needs PyPI.
wheel:
	scripts/deps.sh release
	$(MAKE) build
	scripts/wheel

# An image with library and static command, as an OCI archive: COPY --from= and ENV LD_PRELOAD= are then all that an image needs.
image:
	scripts/deps.sh release
	$(MAKE) build
	rustup target add $(shell uname -m)-unknown-linux-musl 2>/dev/null || true
	$(CARGO) build --release -p tideover-cli --target $(shell uname -m)-unknown-linux-musl
	scripts/image

# All of these with checksums, built for old systems, in target/release-VERSION; each is then tried in a system of its kind.
release:
	scripts/deps.sh release
	scripts/release

# The files of that package as a tar file, for glibc 2.17 and later and for musl, to be unpacked below / or anywhere (the command finds
# its library beside itself).
dist: deps
	scripts/dist

# The library on an older glibc, a newer one and musl.
dist-test: deps
	$(MAKE) build
	scripts/dist-roots
	scripts/test -p tideover-tests --test libcs -- --nocapture

# What building for arm64 and testing there needs, made once: two Debian roots below target/arm64-root (TIDEOVER_ARM64_ROOT), 6 GB.
arm64-root:
	scripts/deps.sh arm64
	scripts/arm64-root

# Library and command for arm64 in target/arm64. `make dist` and `ARCH=arm64 make deb` then pack them.
arm64: arm64-root
	scripts/arm64

# On an arm64 kernel that qemu emulates: an hour and more on each of three machines. SHORT=1: ten minutes.
arm64-test: arm64-root
	scripts/arm64 $(if $(SHORT),library)
	SHORT=$(SHORT) scripts/arm64-test

# For a CI job of its own, which .ci/run is not: the library, and the short form of its tests. Says so where that is not possible.
arm64-ci:
	scripts/arm64-ci

clean:
	$(CARGO) clean
