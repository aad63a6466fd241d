# tideover. `make demo` shows what it does, `make test` shows that it does it; both do all the set-up.

CARGO   ?= cargo
# Where `make install` puts things: DESTDIR is put before all of them.
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
DESTDIR ?=
export PREFIX LIBDIR DESTDIR
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

.PHONY: all build deps demo test lint bench servers compat install uninstall deb dist dist-test hazards clean

all: build

build:
	$(CARGO) build --release -p tideover-shim -p tideover-cli

# Installs the Debian packages that the tests and the demo run, or says which are missing.
deps:
	sh scripts/deps.sh

demo: deps build
	scripts/demo

# Unit tests, C programs, real programs; the end-to-end tests run the release build.
test: deps build
	$(CARGO) test --workspace --no-fail-fast

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets

# PART=startup,loads for some of the parts (scripts/bench --list); WRITE=1 puts them into docs/BENCHMARKS.md.
bench: deps build
	scripts/bench $(if $(PART),--only $(PART)) $(if $(WRITE),--write)

# Real servers at their limit, plain and preloaded; --write puts the tables into docs/servers.md.
servers: deps build
	scripts/bench-servers

# Other people's tests, plain against preloaded; SHORT=1 for a minute's worth, ONLY=cpython,node for some of the suites.
compat: deps build
	scripts/compat $(if $(SHORT),--short,--write) $(if $(ONLY),--only $(ONLY))

# The storms of the tests, at length: ten minutes.
hazards: deps build
	TIDEOVER_FAULTS=all TIDEOVER_STRESS=120 TIDEOVER_KILLS=1000 TIDEOVER_FUZZ=10000000 \
		$(CARGO) test -p tideover-tests --test faults --test endurance --test fuzz -- --nocapture

install: build
	scripts/install install

uninstall:
	scripts/install uninstall

# A package of library, command, header, man pages and completions for this machine's architecture.
deb: build
	scripts/deb

# The same as a tar file, for glibc 2.17 and later and for musl, to be unpacked below / or anywhere (the command finds its library
# beside itself).
dist: deps
	scripts/dist

# The library on an older glibc, a newer one and musl.
dist-test: deps build
	scripts/dist-roots
	$(CARGO) test -p tideover-tests --test libcs -- --nocapture

clean:
	$(CARGO) clean
