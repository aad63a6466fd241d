"""File descriptors: retrying calls that find none (EMFILE, ENFILE), and how many are in use."""

import asyncio
import errno
import functools
import gc
import inspect
import logging
import os
import resource
import select
import threading
import time
import traceback
from typing import IO, Any, Callable, Dict, Optional, Tuple, TypeVar, Union, cast

from . import _library
from ._library import Backoff

logger = logging.getLogger("tideover")

Function = TypeVar("Function", bound=Callable[..., Any])

# How many descriptors are asked about by one poll(2).
_AT_ONCE = 1024


class FileDescriptorLimitError(Exception):
    """No descriptor was free, after all retries. ``__cause__`` is the OSError of the last one."""


class _Attempts:
    """The attempts of one decorated call: what it returned or raised, and how often it found no descriptor."""

    def __init__(self, name: str, backoff: Backoff) -> None:
        self.name = name
        self.backoff = backoff
        self.failures = 0
        self.lacked: Optional[OSError] = None
        self.raised: Optional[BaseException] = None
        self.result: Any = None

    def make(self, function: Callable[[], Any]) -> int:
        """Calls function; EMFILE or ENFILE if it found no descriptor, 0 if it is done, one way or the other."""
        self.lacked = self.raised = None
        try:
            self.result = function()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                self.raised = error
                return 0
            self.lacks(error)
            return error.errno
        except BaseException as error:
            self.raised = error
        return 0

    def lacks(self, error: OSError) -> None:
        """Counts a failure. The locals of the frames that it ended go: files that the function had opened are among them."""
        self.failures += 1
        self.lacked = error
        traceback.clear_frames(error.__traceback__)

    def make_and_collect(self, function: Callable[[], Any]) -> int:
        """As ``make``, once more if the garbage collector has closed descriptors in between."""
        lacked = self.make(function)
        return self.make(function) if lacked and self.collects() else lacked

    def collects(self) -> bool:
        """Runs the garbage collector, if it may; has that closed descriptors?"""
        if not self.backoff.trigger_gc:
            return False
        before = get_open_fd_count()
        found = gc.collect()
        closed = before - get_open_fd_count()
        logger.debug("Garbage collection found %d objects and closed %d descriptors", found, closed)
        return closed > 0

    def wait(self) -> float:
        """Seconds to wait before the next attempt. Raises FileDescriptorLimitError if there is to be none."""
        if self.failures > self.backoff.max_retries:
            self.give_up()
        factor = self.backoff.multiplier ** (self.failures - 1)
        seconds = min(self.backoff.initial_wait * factor, max(self.backoff.initial_wait, self.backoff.max_wait))
        logger.warning(
            "%s: no file descriptor was free (attempt %d of %d): %s. Trying again in up to %.1f s",
            self.name,
            self.failures,
            self.backoff.max_retries + 1,
            self.lacked,
            seconds,
        )
        # What was closed need not be waited for.
        return 0.0 if self.collects() else seconds

    def give_up(self) -> None:
        """Raises FileDescriptorLimitError."""
        retries = self.failures - 1
        soft, hard = get_fd_limit()
        message = (
            f"Too many open files after {retries} {'retry' if retries == 1 else 'retries'} in {self.name}: "
            f"{get_open_fd_count()} descriptors are in use, the soft limit is {soft}, the hard limit {hard}. "
            "Close files, or raise the limit (ulimit -n, LimitNOFILE=, docker run --ulimit nofile=)."
        )
        logger.error("%s", message)
        cause, self.lacked = self.lacked, None
        raise FileDescriptorLimitError(message) from cause

    def done(self) -> Any:
        """What the function returned; raises what it raised."""
        error, self.raised = self.raised, None
        if error is None:
            return self.result
        try:
            raise error
        finally:
            # Else the exception would keep itself, and the locals of its frames, until the next collection.
            del error


def _call(function: Callable[[], Any], name: str, backoff: Backoff) -> Any:
    attempts = _Attempts(name, backoff)
    # Not through the library: while nothing is lacked this costs no call of a foreign function, and greenlets may switch in it.
    if attempts.make(function) == 0:
        return attempts.done()
    if _library.is_loaded():
        begun = time.monotonic()
        _library.retry(lambda: attempts.make_and_collect(function), backoff)
        has_waited = time.monotonic() - begun >= backoff.initial_wait
        # It does not wait while its circuit breaker is open (no close was seen lately). This caller has asked to wait, and does where
        # another thread could close something.
        if attempts.lacked is not None and (has_waited or threading.active_count() == 1):
            attempts.give_up()
    while attempts.lacked is not None:
        time.sleep(attempts.wait())
        attempts.make(function)
    return attempts.done()


async def _call_async(function: Callable[[], Any], name: str, backoff: Backoff) -> Any:
    # The library's waits would stop the event loop.
    attempts = _Attempts(name, backoff)
    while True:
        try:
            return await function()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            attempts.lacks(error)
        await asyncio.sleep(attempts.wait())


def retry_on_fd_limit(
    max_retries: int = 5,
    initial_wait: float = 0.5,
    backoff_multiplier: float = 2.0,
    max_wait: float = 10.0,
    trigger_gc: bool = True,
) -> Callable[[Function], Function]:
    """Decorator: calls the function again when it raises OSError with EMFILE or ENFILE. After each such failure the garbage collector
    runs (it closes files that nobody refers to any more), and then there is a wait.

    max_retries         calls after the first one
    initial_wait        seconds before the first of them
    backoff_multiplier  each further wait is so many times as long
    max_wait            longest wait, in seconds
    trigger_gc          False: no garbage collection

    Raises FileDescriptorLimitError when the last call has failed; other exceptions pass at once. With libtideover.so in the process the
    library does it (``tideover_retry``): it raises the soft limit first, any close ends a wait, and a process with a single thread, in
    which nobody could close one, does not wait at all. Functions that are ``async`` wait without stopping the event loop.
    """
    backoff = Backoff(max_retries, initial_wait, backoff_multiplier, max_wait, trigger_gc)

    def decorator(function: Function) -> Function:
        name = getattr(function, "__qualname__", repr(function))

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return _call(functools.partial(function, *args, **kwargs), name, backoff)

        @functools.wraps(function)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            return await _call_async(functools.partial(function, *args, **kwargs), name, backoff)

        return cast(Function, async_wrapper if inspect.iscoroutinefunction(function) else wrapper)

    return decorator


def safe_open(
    filepath: Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]", int],
    mode: str = "r",
    encoding: Optional[str] = None,
    max_retries: int = 5,
    **kwargs: Any,
) -> IO[Any]:
    """open(), again while no descriptor is free, as ``retry_on_fd_limit(max_retries)`` does it. Further arguments are those of open()."""
    once = functools.partial(open, filepath, mode, encoding=encoding, **kwargs)
    return cast(IO[Any], _call(once, f"safe_open({filepath!r})", Backoff(max_retries, 0.5, 2.0, 10.0, True)))


def get_open_fd_count() -> int:
    """How many descriptors this process has open; -1 if that can't be found out. Needs no free descriptor."""
    usage = _library.usage()
    if usage is not None:
        return int(usage.used)
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            # One of them is that of the folder.
            return len(os.listdir(folder)) - 1
        except OSError:
            continue
    return _count_by_poll()


def _count_by_poll() -> int:
    """Asks poll(2) about each possible number: it marks those that are not open."""
    soft, _ = get_fd_limit()
    if soft < 0:
        return -1
    count = 0
    for first in range(0, soft, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, soft))
        poll = select.poll()
        for number in numbers:
            poll.register(number, 0)
        count += len(numbers) - sum(1 for _, events in poll.poll(0) if events & select.POLLNVAL)
    return count


def get_fd_limit() -> Tuple[int, int]:
    """The soft and the hard limit on descriptors; -1 for one that is infinite."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def check_fd_usage(warn_threshold: float = 0.8) -> Dict[str, Union[int, float]]:
    """Descriptors in use, as ``{"used": 42, "soft_limit": 1024, "hard_limit": 4096, "percent": 4.1, "available": 982}``. ``percent`` is of
    the soft limit, with one decimal. Logs a warning if at least this part of the soft limit (0.0 to 1.0) is in use. Where there is no
    limit, or it can't be known, ``percent`` is 0 and ``available`` -1."""
    used = get_open_fd_count()
    soft, hard = get_fd_limit()
    known = soft > 0 and used >= 0
    percent = round(used / soft * 100, 1) if known else 0
    if known and used / soft >= warn_threshold:
        logger.warning(
            "%d of %d file descriptors are in use (%s %%). Close files, or raise the limit: ulimit -n",
            used,
            soft,
            percent,
        )
    return {
        "used": used,
        "soft_limit": soft,
        "hard_limit": hard,
        "percent": percent,
        "available": max(soft - used, 0) if known else -1,
    }
