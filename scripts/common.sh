# What several scripts of this folder need. A script sources it before it changes its working directory:
#   . "$(dirname "$0")/common.sh"
# shellcheck shell=sh disable=SC2034 # no script uses all of it

# The repository's top folder, an absolute path.
here=$(cd "$(dirname "$0")/.." && pwd)
# The folder that cargo builds in, an absolute path.
built=${CARGO_TARGET_DIR:-target}
case $built in /*) ;; *) built=$here/$built ;; esac

# Prints tideover's version, as it stands in Cargo.toml.
version() { sed -n 's/^version = "\(.*\)"/\1/p' "$here/Cargo.toml" | head -n 1; }

# For the demos: the heading of a step, and a program's output, indented.
step() { printf '\n== %s\n' "$*"; }
show() { sed 's/^/   | /'; }
