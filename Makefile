# tideover. `make demo` shows what it does, `make test` shows that it does it; both do all the set-up.

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
LIBDIR  ?= $(PREFIX)/lib
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
LIB     := target/release/libtideover.so
BIN     := target/release/tideover

.PHONY: all build deps demo test lint bench servers install deb dist clean

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

bench: deps build
	scripts/bench

# Real servers at their limit, plain and preloaded; --write puts the tables into docs/servers.md.
servers: deps build
	scripts/bench-servers

install: build
	install -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include
	install -m 755 $(LIB) $(DESTDIR)$(LIBDIR)/libtideover.so
	install -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/tideover
	install -m 644 include/tideover.h $(DESTDIR)$(PREFIX)/include/tideover.h

# A package of library, command and header for this machine's architecture.
deb:
	rm -rf target/deb
	$(MAKE) install PREFIX=/usr DESTDIR=target/deb/root
	install -d target/deb/root/DEBIAN
	printf 'Package: tideover\nVersion: %s\nArchitecture: %s\nMaintainer: tideover\nDepends: libc6\nDescription: carries unmodified programs over descriptor exhaustion\n' \
		'$(VERSION)' "$$(dpkg --print-architecture)" > target/deb/root/DEBIAN/control
	dpkg-deb --root-owner-group --build target/deb/root target/tideover_$(VERSION).deb

# The same as a tar file, to be unpacked below / or anywhere (the command finds its library beside itself).
dist:
	rm -rf target/dist
	$(MAKE) install PREFIX=/tideover-$(VERSION) DESTDIR=target/dist
	tar -C target/dist -czf target/tideover-$(VERSION).tar.gz tideover-$(VERSION)

clean:
	$(CARGO) clean
