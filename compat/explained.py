"""Differences that are meant: the library doing its work where a test asks for the trouble it ends."""

import re

# (suite, unit, test, reason): the first three are regular expressions for the whole text.
EXPLAINED = [
    (
        "help", "chromium|gnome-www-browser|x-www-browser", "--help|--version",
        "Debian's launcher says how many bytes /dev/shm has left: its shell has read five files, so its page of 4 KiB is there.",
    ),
    (
        "cpython", "test_subprocess", r".*\.test_no_leaking",
        "The test opens descriptors until EMFILE and skips itself if it never comes: the library has raised the soft limit.",
    ),
    (
        "ruby", r"ruby/test_(dir|io|require)\.rb",
        r"TestDir#test_glob_(too_may_open_files|gc_for_fd)|TestIO#test_dup_many|TestRequire#test_loading_fifo_fd_leak",
        "The test takes all descriptors and wants nothing on standard error, where the library says so; with `TIDEOVER_LOG=off` it passes.",
    ),
    (
        "bash", "run-vredir", "difference from what it expects",
        "The test sets `ulimit -n 6` and compares standard error, where the library says that 5 of 6 descriptors are in use.",
    ),
]


def explanation(suite, unit, test):
    """The reason why this test may differ; None if there is none."""
    for suites, units, tests, reason in EXPLAINED:
        if all(re.fullmatch(pattern, str(text), re.S) for pattern, text in [(suites, suite), (units, unit), (tests, test)]):
            return reason
    return None
