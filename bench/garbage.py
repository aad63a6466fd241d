"""Garbage collected at the limit: what scripts/bench-gc measures, as a part of scripts/bench."""

import subprocess

from bench import harness
from bench.harness import HERE, row, section

PATIENCE = 900  # seconds


def collections():
    title = section("Garbage collected at the limit")
    command = [HERE / "scripts/bench-gc", "--lib", harness.library]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as measuring:
        for line in measuring.stdout:
            figure, measured, target, verdict = line.rstrip("\n").split("\t")
            row(title, figure, measured, target, verdict == "met" if verdict else None)
        if measuring.wait(PATIENCE):
            raise RuntimeError(f"scripts/bench-gc ended with {measuring.returncode}")
