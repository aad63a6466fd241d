"""What the tests share. They run twice: in a plain Python, and under `tideover run` (LIBRARY_IS_LOADED=1 says that it has to be so)."""

import os
import resource
import subprocess
import sys
import unittest

import tideover

LOADED = tideover.library_version() is not None


class Case(unittest.TestCase):
    maxDiff = None

    def python(self, code, limit=64, hard=None, **options):
        """Runs code in a Python of its own under this limit on descriptors; what it prints. It has to end well."""

        def limited():
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard or limit))

        env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=env, preexec_fn=limited, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
        self.stderr = done.stderr.decode()
        self.assertEqual(done.returncode, 0, self.stderr)
        return done.stdout.decode()
