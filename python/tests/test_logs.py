"""The log handler on a disk that is full. SMALL_DISK is the folder of a filesystem of 256 KiB, which each test has for itself."""

import inspect
import io
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from support import LOADED, Case

from tideover import ResilientRotatingFileHandler

DISK = os.environ.get("SMALL_DISK", "")


class Handler(Case):
    def setUp(self):
        self.logger = logging.Logger(self.id())
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        for name in ("stdout", "stderr"):
            patch = mock.patch.object(sys, name, getattr(self, name))
            patch.start()
            self.addCleanup(patch.stop)

    def handler(self, *path, **options):
        handler = ResilientRotatingFileHandler(*path, **options)
        self.addCleanup(handler.close)
        self.logger.addHandler(handler)
        return handler


class WithSpace(Handler):
    def setUp(self):
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_parameters_and_defaults_are_those_of_the_write_up(self):
        parameters = inspect.signature(ResilientRotatingFileHandler).parameters
        self.assertEqual(
            {name: one.default for name, one in parameters.items() if one.default is not one.empty},
            {
                "mode": "a",
                "maxBytes": 0,
                "backupCount": 0,
                "encoding": None,
                "delay": False,
                "emergency_cleanup_threshold_mb": 50,
                "recovery_check_interval_sec": 60,
            },
        )
        self.assertEqual(next(iter(parameters)), "filename")

    def test_its_configuration(self):
        handler = self.handler(
            filename=self.folder / "app.log",
            maxBytes=100 * 1024 * 1024,
            backupCount=5,
            encoding="utf-8",
            emergency_cleanup_threshold_mb=50,
            recovery_check_interval_sec=60,
        )
        self.logger.info("This log is resilient! \N{SNOWMAN}")
        self.assertEqual((self.folder / "app.log").read_text("utf-8"), "This log is resilient! \N{SNOWMAN}\n")
        # As the write-up looks for it among the handlers of a logger.
        (found,) = [one for one in self.logger.handlers if hasattr(one, "is_degraded")]
        self.assertEqual(
            (found, found.is_degraded, found.error_count, found.last_error_time), (handler, False, 0, None)
        )

    def test_it_rotates_as_its_base_does(self):
        class Base(logging.handlers.RotatingFileHandler):
            pass

        for kind, name in ((ResilientRotatingFileHandler, "ours"), (Base, "base")):
            (self.folder / name).mkdir()
            handler = kind(str(self.folder / name / "app.log"), maxBytes=200, backupCount=3, encoding="utf-16")
            for number in range(40):
                handler.emit(logging.makeLogRecord({"msg": f"line {number}"}))
            handler.close()
        contents = [
            {path.name: path.read_bytes() for path in (self.folder / name).iterdir()} for name in ("ours", "base")
        ]
        self.assertEqual(contents[0], contents[1])
        self.assertEqual(sorted(contents[0]), ["app.log", "app.log.1", "app.log.2", "app.log.3"])

    def test_clean_up_takes_the_oldest_backups_of_this_log_and_no_other_file(self):
        for name in ["app.log.1", "app.log.2", "app.log.10", "app.log.old", "other.log", "other.log.1", "app.log.1.gz"]:
            (self.folder / name).write_bytes(b"old " * 150_000)
        handler = self.handler(self.folder / "app.log", backupCount=2, emergency_cleanup_threshold_mb=1)
        handler._perform_emergency_cleanup()
        left = sorted(path.name for path in self.folder.iterdir())
        self.assertEqual(left, ["app.log", "app.log.1", "app.log.1.gz", "app.log.old", "other.log", "other.log.1"])

    def test_a_log_larger_than_its_maximum_is_cut_to_whole_last_lines(self):
        (self.folder / "app.log").write_text("".join(f"line {number}\n" for number in range(1000)))
        self.handler(self.folder / "app.log", maxBytes=1000)._perform_emergency_cleanup()
        left = (self.folder / "app.log").read_text().splitlines()
        self.assertEqual((left[-1], all(re.fullmatch(r"line \d{3}", line) for line in left)), ("line 999", True))
        self.assertTrue(5 <= len(left) <= 11)

    def test_a_handler_without_a_maximum_cuts_nothing(self):
        (self.folder / "app.log").write_text("kept\n" * 1000)
        self.handler(self.folder / "app.log")._perform_emergency_cleanup()
        self.assertEqual((self.folder / "app.log").read_text(), "kept\n" * 1000)

    def test_other_errors_are_reported_as_logging_does(self):
        handler = self.handler(self.folder / "app.log")
        with mock.patch.object(handler, "handleError") as told:
            self.logger.info("%d", "no number")
        self.assertEqual((told.call_count, handler.is_degraded), (1, False))

    def test_closing_ends_the_thread(self):
        handler = self.handler(self.folder / "app.log", recovery_check_interval_sec=1)
        handler._start_recovery_thread()
        self.assertTrue(handler.recovery_thread.is_alive() and handler.recovery_thread.daemon)
        handler.close()
        handler.recovery_thread.join(2)
        self.assertFalse(handler.recovery_thread.is_alive())


@unittest.skipUnless(DISK, "SMALL_DISK names no small filesystem")
class Full(Handler):
    def setUp(self):
        super().setUp()
        self.disk = Path(DISK)
        self.addCleanup(self.empty)

    def empty(self):
        for path in self.disk.iterdir():
            path.unlink()

    def fill(self):
        """Takes all space but that in the last page of each file."""
        with open(self.disk / "filler", "ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    def free(self):
        (self.disk / "filler").unlink()
        if LOADED:
            # It looks for space at most every 100 ms.
            time.sleep(0.15)

    def log(self, first, last):
        for number in range(first, last):
            self.logger.info("line %04d %s", number, "." * 90)

    def numbers(self, text):
        return re.findall(r"^line (\d{4}) \.{90}$", text, re.M)

    def test_lines_go_to_standard_output_and_return(self):
        handler = self.handler(self.disk / self.name())
        self.log(0, 10)
        self.fill()
        before = time.time()
        # More than what is left of the file's last page.
        self.log(10, 110)
        self.assertEqual((handler.is_degraded, handler.error_count), (True, 1))
        self.assertTrue(before <= handler.last_error_time <= time.time())
        self.free()
        self.log(110, 120)
        self.assertEqual((handler.is_degraded, handler.error_count), (False, 1))
        text = handler_text(handler)
        in_file, elsewhere = self.numbers(text), self.numbers(self.stdout.getvalue())
        everywhere = [f"{number:04}" for number in range(120)]
        if LOADED and self.name() == "app.log":
            self.assertEqual((in_file, elsewhere), (everywhere, []), "the library puts them back, in order")
        else:
            self.assertEqual(sorted(in_file + elsewhere), everywhere, "each line is in one place")
            self.assertEqual(in_file[-10:], everywhere[-10:])
            note = re.search(r"^The disk was full for \d+ s; (\d+) lines went to standard output$", text, re.M)
            self.assertEqual(int(note[1]), len(elsewhere))
            self.assertIn("lines go to standard output until there is space", self.stderr.getvalue())

    def name(self):
        # No name of a log: the library leaves it to the handler.
        return "app.data"

    def test_the_thread_finds_the_space_of_a_program_that_is_silent(self):
        handler = self.handler(self.disk / self.name(), recovery_check_interval_sec=0.1)
        self.fill()
        self.log(0, 100)
        self.assertTrue(handler.is_degraded)
        (self.disk / "filler").unlink()
        deadline = time.monotonic() + 10
        while handler.is_degraded and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertFalse(handler.is_degraded)
        self.assertIn("has space again", self.stderr.getvalue())
        handler.recovery_thread.join(2)
        self.assertFalse(handler.recovery_thread.is_alive())

    def test_old_backups_make_room(self):
        handler = self.handler(self.disk / self.name(), maxBytes=10_000_000, backupCount=3)
        for number in (1, 2, 3):
            (self.disk / f"{self.name()}.{number}").write_bytes(b"old\n" * 5000)
        self.fill()
        self.log(0, 100)
        self.assertEqual(handler.error_count, 1)
        time.sleep(0.15)
        self.log(100, 110)
        self.assertEqual((handler.is_degraded, [*self.disk.glob(self.name() + ".*")]), (False, []))

    def test_threads_lose_and_double_nothing(self):
        handler = self.handler(self.disk / self.name())
        freeing = threading.Timer(0.2, lambda: (self.disk / "filler").unlink())
        self.fill()
        freeing.start()

        def work(first):
            for number in range(first, first + 150):
                self.log(number, number + 1)
                time.sleep(0.002)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 750, 150)]
        for thread in threads:
            thread.start()
        for thread in threads + [freeing]:
            thread.join()
        self.log(750, 760)
        self.assertFalse(handler.is_degraded)
        found = self.numbers(handler_text(handler)) + self.numbers(self.stdout.getvalue())
        self.assertEqual(sorted(found), [f"{number:04}" for number in range(760)])

    def test_a_log_that_was_opened_to_be_written_anew_keeps_its_lines(self):
        handler = self.handler(self.disk / self.name(), mode="w")
        self.log(0, 5)
        self.fill()
        self.log(5, 105)
        self.free()
        self.log(105, 106)
        self.assertEqual(self.numbers(handler_text(handler))[:5], ["0000", "0001", "0002", "0003", "0004"])

    def test_standard_output_on_a_full_disk_too_is_no_end(self):
        self.handler(self.disk / self.name())
        self.fill()
        with mock.patch.object(self.stdout, "write", side_effect=OSError(28, "No space left on device")):
            self.log(0, 60)
        self.assertIn("line 0059", self.stderr.getvalue())


class FullLog(Full):
    """The same with the name of a log, which the library carries where it is loaded."""

    def name(self):
        return "app.log"

    def test_standard_output_on_a_full_disk_too_is_no_end(self):
        if LOADED:
            self.handler(self.disk / self.name())
            self.fill()
            self.log(0, 60)
            self.assertEqual(self.stdout.getvalue() + self.stderr.getvalue(), "", "the library carries them")
        else:
            super().test_standard_output_on_a_full_disk_too_is_no_end()


def handler_text(handler):
    return Path(handler.baseFilename).read_text()


if __name__ == "__main__":
    unittest.main()
