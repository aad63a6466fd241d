"""examples/reclaimer.c in Python, through ctypes: a cache of open files that closes the oldest when descriptors run out.

    (ulimit -n 64; python3 examples/reclaimer.py)                                           # fails at its limit
    (ulimit -n 64; LD_PRELOAD=target/release/libtideover.so python3 examples/reclaimer.py)  # goes on
"""

import collections
import ctypes
import os
import sys


class Pressure(ctypes.Structure):
    """struct tideover_pressure of include/tideover.h."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("error", ctypes.c_int32),
        ("call", ctypes.c_char_p),
        ("used", ctypes.c_uint64),
        ("soft", ctypes.c_uint64),
        ("hard", ctypes.c_uint64),
    ]


RECLAIMER = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.POINTER(Pressure))

cache = collections.deque()


@RECLAIMER
def drop_oldest(_context, pressure):
    """Close the eight oldest files. os.open() releases the interpreter's lock (GIL), so this may run Python code."""
    now = pressure.contents
    print(f"{now.call.decode()}: {now.used} of {now.soft} in use, closing the oldest", file=sys.stderr)
    victims = [cache.popleft() for _ in range(min(8, len(cache)))]
    for victim in victims:
        os.close(victim)
    return len(victims)


library = ctypes.CDLL(None)
if hasattr(library, "tideover_register_reclaimer"):
    library.tideover_register_reclaimer(b"file cache", drop_oldest, None, 0)
else:
    print("libtideover.so is not loaded")

for _ in range(1000):
    cache.append(os.open("/dev/null", os.O_RDONLY))
print(f"opened 1000 files, {len(cache)} are still open")
