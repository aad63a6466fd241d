"""The C API of libtideover.so (tideover.h), by ctypes, where the library is loaded in this process. It is never loaded from here:
loaded later than the program, it would intercept nothing."""

import ctypes
from typing import Callable, NamedTuple, Optional


class Usage(ctypes.Structure):
    """``struct tideover_fd_usage``."""

    _fields_ = [
        ("used", ctypes.c_uint64),
        ("soft", ctypes.c_uint64),
        ("hard", ctypes.c_uint64),
        ("percent", ctypes.c_double),
        ("available", ctypes.c_uint64),
    ]


class _Policy(ctypes.Structure):
    """``struct tideover_retry_policy``."""

    _fields_ = [
        ("max_retries", ctypes.c_uint32),
        ("initial_wait_ms", ctypes.c_uint32),
        ("max_wait_ms", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("multiplier", ctypes.c_double),
        ("jitter", ctypes.c_double),
        ("trigger_gc", ctypes.c_uint32),
    ]


class Backoff(NamedTuple):
    """How often and how long to wait: waits, seconds, factor, seconds."""

    max_retries: int
    initial_wait: float
    multiplier: float
    max_wait: float
    trigger_gc: bool


# The operation sets errno: ctypes swaps its copy in when the callback returns.
_OPERATION = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, use_errno=True)


def _find() -> Optional[ctypes.CDLL]:
    try:
        loaded = ctypes.CDLL(None)
        loaded.tideover_version.restype = ctypes.c_char_p
        loaded.tideover_fd_usage.argtypes = [ctypes.POINTER(Usage)]
        loaded.tideover_retry.argtypes = [_OPERATION, ctypes.c_void_p, ctypes.POINTER(_Policy)]
        loaded.tideover_retry.restype = ctypes.c_long
        loaded.tideover_log_degraded.argtypes = [ctypes.c_int]
    except (AttributeError, OSError):
        # A name is missing: the library is not there. A static Python cannot look for names at all.
        return None
    return loaded


_LOADED = _find()


def is_loaded() -> bool:
    """Is libtideover.so loaded in this process?"""
    return _LOADED is not None


def library_version() -> Optional[str]:
    """Version of the libtideover.so that is loaded in this process, such as "0.1.0"; None if none is."""
    if _LOADED is None:
        return None
    version: bytes = _LOADED.tideover_version()
    return version.decode()


def usage() -> Optional[Usage]:
    """What ``tideover_fd_usage`` says; None without the library, or if it can't be read."""
    told = Usage()
    if _LOADED is None or _LOADED.tideover_fd_usage(ctypes.byref(told)) != 0:
        return None
    return told


def log_is_degraded(descriptor: int) -> bool:
    """Does the library send the lines of this file elsewhere, because its disk is full?"""
    return _LOADED is not None and bool(_LOADED.tideover_log_degraded(descriptor))


def _milliseconds(seconds: float) -> int:
    return int(min(max(seconds, 0.0) * 1000, 0xFFFFFFFF))


def retry(operation: Callable[[], int], backoff: Backoff) -> None:
    """Calls operation, by ``tideover_retry``, until it returns 0 or the library finds nothing that could help. operation returns EMFILE
    or ENFILE if no descriptor was free, else 0, and must not raise. Only where ``is_loaded()``."""
    assert _LOADED is not None

    def call(_context: Optional[int]) -> int:
        error = operation()
        ctypes.set_errno(error)
        return -1 if error else 0

    policy = _Policy(
        max_retries=max(backoff.max_retries, 0),
        initial_wait_ms=_milliseconds(backoff.initial_wait),
        max_wait_ms=_milliseconds(backoff.max_wait),
        size=ctypes.sizeof(_Policy),
        multiplier=backoff.multiplier,
        jitter=0.0,
        trigger_gc=int(backoff.trigger_gc),
    )
    _LOADED.tideover_retry(_OPERATION(call), None, ctypes.byref(policy))
