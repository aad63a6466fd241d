"""Carries a Python program over "Too many open files" (EMFILE, ENFILE) and over a full disk under its log (ENOSPC, EDQUOT).

Where libtideover.so is loaded in this process (``tideover run``, LD_PRELOAD), the functions below use its C API: it knows more ways to
a free descriptor than a Python program has, and puts log lines back into their file. Without it they do what pure Python can.
"""

from ._library import library_version
from ._version import VERSION as __version__
from .descriptors import (
    FileDescriptorLimitError,
    check_fd_usage,
    get_fd_limit,
    get_open_fd_count,
    retry_on_fd_limit,
    safe_open,
)
from .logs import ResilientRotatingFileHandler

__all__ = [
    "FileDescriptorLimitError",
    "ResilientRotatingFileHandler",
    "__version__",
    "check_fd_usage",
    "get_fd_limit",
    "get_open_fd_count",
    "library_version",
    "retry_on_fd_limit",
    "safe_open",
]
