"""A log handler that survives a full disk: its lines go to standard output until there is space again."""

import errno
import io
import logging
import logging.handlers
import os
import sys
import threading
import time
from typing import Any, List, Optional, TextIO, Union, cast

from . import _library

# A disk is full: no space, no space for this user or project, no space on another machine.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MIB = 1024 * 1024
# When a log larger than maxBytes is cut, so much of maxBytes stays.
_KEPT = 0.1


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _FULL


class _WholeFile(io.FileIO):
    """A file without a buffer. What a full disk did not take is not kept to be written later, when it has long gone elsewhere."""

    # Bytes of the line being written that are in the file; another line has to end them first.
    torn = 0

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        self.torn = 0
        while left:
            # None: a descriptor that does not block, which files do not have.
            count = super().write(left) or 0
            self.torn += count
            left = left[count:]
        self.torn = 0
        return size


class ResilientRotatingFileHandler(logging.handlers.RotatingFileHandler):
    """A RotatingFileHandler for disks that may fill up.

    When a write fails because the disk is full, lines go to standard output, old backups of this log (``app.log.1`` ..., oldest first,
    and no other files) are removed until ``emergency_cleanup_threshold_mb`` MiB are free that were not, and a log that is larger than
    ``maxBytes`` is cut to its last lines. A thread looks every ``recovery_check_interval_sec`` seconds, and each record when it comes,
    whether there is space; then lines go to the file again, after one line that says for how long they did not.

    Where libtideover.so is in the process and takes the file for a log, it carries the lines, and puts them into the file afterwards;
    this handler then only says so in its state and frees space.

    is_degraded, error_count, last_error_time, recovery_attempts
        Do lines go elsewhere now? How often did that begin, when last (seconds since 1970, or None), and how often was the file tried?
    """

    # Free space at which the file is tried again: this, or a twentieth of a smaller filesystem. Bytes.
    recovery_free = 100 * _MIB

    def __init__(
        self,
        filename: Union[str, "os.PathLike[str]"],
        mode: str = "a",
        maxBytes: int = 0,
        backupCount: int = 0,
        encoding: Optional[str] = None,
        delay: bool = False,
        emergency_cleanup_threshold_mb: int = 50,
        recovery_check_interval_sec: int = 60,
    ) -> None:
        self.emergency_cleanup_threshold = emergency_cleanup_threshold_mb * _MIB
        self.recovery_check_interval = recovery_check_interval_sec
        self.is_degraded = False
        self.error_count = 0
        self.last_error_time: Optional[float] = None
        self.last_recovery_check = time.time()
        self.recovery_attempts = 0
        self.fallback_handler: Optional["logging.StreamHandler[TextIO]"] = None
        self.recovery_thread: Optional[threading.Thread] = None
        self.stop_recovery = threading.Event()
        self._carried_by_library = False
        self._lines_elsewhere = 0
        self._torn = self._was_open = False
        super().__init__(filename, mode, maxBytes, backupCount, encoding, delay)
        self.handler_lock = self.lock

    def _open(self) -> Any:
        # Opened again, "w" would empty it.
        raw = _WholeFile(self.baseFilename, "a" if self._was_open else self.mode.replace("t", ""))
        self._was_open = True
        errors = cast(Optional[str], getattr(self, "errors", None))
        return io.TextIOWrapper(raw, encoding=self.encoding or None, errors=errors, write_through=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record, to the file or to standard output."""
        try:
            if self.is_degraded and not self._carried_by_library:
                self._attempt_recovery()
            if self.is_degraded and not self._carried_by_library:
                self._emit_to_fallback(record)
                return
            try:
                if self.shouldRollover(record):
                    self.doRollover()
                self._write(record)
            except OSError as error:
                if not _is_full(error):
                    raise
                self._handle_disk_full(record)
            else:
                self._ask_library()
        except Exception:
            self.handleError(record)

    def _write(self, record: logging.LogRecord) -> None:
        text = self.format(record) + self.terminator
        if self.stream is None:
            self.stream = self._open()
        try:
            self.stream.write(("\n" if self._torn else "") + text)
        except OSError:
            written = cast(_WholeFile, self.stream.buffer).torn
            if written:
                # The newline alone is no part of a line.
                self._torn = not (self._torn and written == 1)
            raise
        self._torn = False

    def doRollover(self) -> None:
        """Renames the log and its backups, and begins a new one."""
        super().doRollover()
        self._torn = False

    # ---- The disk is full ----

    def _begin(self) -> None:
        self.is_degraded = True
        self.error_count += 1
        self.last_error_time = time.time()
        self._lines_elsewhere = 0

    def _say(self, text: str) -> None:
        """On standard error, if there is one: this is about the log."""
        try:
            print(f"tideover: {self.baseFilename}: {text}", file=sys.stderr)
        except Exception:
            pass

    def _handle_disk_full(self, record: logging.LogRecord) -> None:
        """Sends this record to standard output, and the next ones until there is space."""
        if not self.is_degraded:
            self._begin()
            self._say("the disk is full, lines go to standard output until there is space")
            self._perform_emergency_cleanup()
            self._setup_fallback_handler()
            self._start_recovery_thread()
        self._close_stream()
        self._emit_to_fallback(record)

    def _close_stream(self) -> None:
        stream, self.stream = self.stream, cast(Any, None)
        if stream is not None:
            try:
                stream.close()
            except OSError:
                pass

    def _setup_fallback_handler(self) -> None:
        if self.fallback_handler is None:
            self.fallback_handler = logging.StreamHandler(sys.stdout)
        self.fallback_handler.setFormatter(self.formatter)

    def _emit_to_fallback(self, record: logging.LogRecord) -> None:
        self._lines_elsewhere += 1
        text = self.format(record) + self.terminator
        for stream in (self.fallback_handler.stream if self.fallback_handler else sys.stdout, sys.stderr):
            try:
                stream.write(text)
                stream.flush()
                return
            except Exception:
                # Closed, a pipe without a reader, or on the same full disk.
                continue
        self.handleError(record)

    def _backups(self) -> List[str]:
        """Backups of this log, oldest first: those with the highest numbers."""
        folder, name = os.path.split(self.baseFilename)
        numbered = []
        for entry in os.listdir(folder):
            number = entry[len(name) + 1 :]
            if entry.startswith(name + ".") and number.isdigit():
                numbered.append((int(number), os.path.join(folder, entry)))
        numbered = [(number, path) for number, path in numbered if os.path.isfile(path) and not os.path.islink(path)]
        return [path for _, path in sorted(numbered, reverse=True)]

    def _perform_emergency_cleanup(self) -> None:
        """Removes old backups, and cuts the log if it is larger than maxBytes."""
        try:
            freed = removed = 0
            for path in self._backups():
                if freed >= self.emergency_cleanup_threshold:
                    break
                size = os.stat(path).st_blocks * 512
                os.unlink(path)
                freed, removed = freed + size, removed + 1
            if removed:
                self._say(f"removed {removed} old backups of it ({freed / _MIB:.1f} MiB)")
            self._cut()
        except OSError as error:
            self._say(f"could not be cleaned up: {error}")

    def _cut(self) -> None:
        if not 0 < self.maxBytes < os.path.getsize(self.baseFilename):
            return
        with open(self.baseFilename, "rb+") as file:
            file.seek(-int(self.maxBytes * _KEPT), os.SEEK_END)
            # From the first whole line on.
            kept = file.read().partition(b"\n")[2]
            file.seek(0)
            file.write(kept)
            file.truncate()
        self._say(f"was cut to its last {len(kept)} bytes")

    # ---- There is space again ----

    def _has_space(self) -> bool:
        space = os.statvfs(os.path.dirname(self.baseFilename))
        needed = min(self.recovery_free, space.f_blocks * space.f_frsize // 20)
        return space.f_bavail * space.f_frsize >= max(needed, 1)

    def _attempt_recovery(self) -> None:
        """Goes back to the file, if that is possible."""
        self.last_recovery_check = time.time()
        try:
            if not self._has_space():
                return
            self.recovery_attempts += 1
            since = time.time() - (self.last_error_time or time.time())
            self._write(self._note(since))
        except OSError as error:
            if not _is_full(error):
                self._say(f"could not be written: {error}")
            self._close_stream()
            return
        if self._carried_by_library:
            # It goes back to the file in a write that finds space, such as that of the note.
            self._ask_library()
        else:
            self._recovered(
                f"has space again after {since:.0f} s; {self._lines_elsewhere} lines went to standard output"
            )

    def _note(self, since: float) -> logging.LogRecord:
        """The line that says in the file what was so for this many seconds."""
        text, values = "The disk was full for %.0f s", [since]
        if not self._carried_by_library:
            text, values = text + "; %d lines went to standard output", [since, self._lines_elsewhere]
        return logging.LogRecord("tideover", logging.WARNING, __file__, 0, text, tuple(values), None)

    def _recovered(self, words: str) -> None:
        self.is_degraded = self._carried_by_library = False
        self.stop_recovery.set()
        self._say(words)

    def _start_recovery_thread(self) -> None:
        if self.recovery_thread is None or not self.recovery_thread.is_alive():
            # A new event: the one before has told its thread to stop.
            self.stop_recovery = threading.Event()
            self.recovery_thread = threading.Thread(
                target=self._recovery_loop, args=(self.stop_recovery,), daemon=True, name="tideover log recovery"
            )
            self.recovery_thread.start()

    def _recovery_loop(self, stop: threading.Event) -> None:
        while not stop.wait(self.recovery_check_interval):
            self.acquire()
            try:
                # Looked at again under the lock: a record may have found the space, or the handler may be closed.
                if not stop.is_set() and self.is_degraded:
                    self._attempt_recovery()
            except Exception as error:
                self._say(f"could not be looked at: {error}")
            finally:
                self.release()

    def _ask_library(self) -> None:
        """Takes over what libtideover.so says of the file: writes succeed while it carries the lines."""
        if not _library.is_loaded() or self.stream is None:
            return
        carried = _library.log_is_degraded(self.stream.fileno())
        if carried and not self.is_degraded:
            self._begin()
            self._carried_by_library = True
            self._perform_emergency_cleanup()
            self._start_recovery_thread()
        elif self._carried_by_library and not carried:
            self._recovered("has space again")

    def close(self) -> None:
        """Closes the file and ends the thread."""
        self.stop_recovery.set()
        super().close()
