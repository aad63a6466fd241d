"""``python -m tideover``: the command tideover, that of this package or of the system."""

import os
import shutil
import sys

from ._version import VERSION

_NATIVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "native", "tideover")


def _command() -> str:
    """Path of the command; empty if there is none."""
    if os.access(_NATIVE, os.X_OK):
        return _NATIVE
    # Not the entry point of this package, which would find itself.
    own = os.path.realpath(sys.argv[0])
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    others = (shutil.which("tideover", path=folder) for folder in folders if folder)
    return next((path for path in others if path and os.path.realpath(path) != own), "")


def main() -> None:
    """Runs it with the arguments of this program; does not return."""
    command = _command()
    if not command:
        print(
            f"tideover {VERSION} (Python) was installed from source, without the command: install the wheel for this platform, "
            "or the command with `make install` or a package",
            file=sys.stderr,
        )
        sys.exit(127)
    try:
        os.execv(command, [command, *sys.argv[1:]])
    except OSError as error:
        print(f"tideover: {command}: {error.strerror}", file=sys.stderr)
        sys.exit(126)


if __name__ == "__main__":
    main()
