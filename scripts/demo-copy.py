"""Copies a tree of files, in the way forensic and backup programs do it: every source stays open until its whole folder is
verified, so that nothing can be replaced underneath. Written without a thought about limits, as such programs are.

    demo-copy.py SOURCE TARGET
"""

import os
import sys

source, target = sys.argv[1:3]
copied = most = 0

for folder, _, names in os.walk(source):
    goes_to = os.path.join(target, os.path.relpath(folder, source))
    os.makedirs(goes_to, exist_ok=True)
    held_open = []
    for name in sorted(names):
        original = open(os.path.join(folder, name), "rb")
        held_open.append(original)
        with open(os.path.join(goes_to, name), "wb") as copy:
            copy.write(original.read())
        copied += 1
    most = max(most, len(held_open))
    for original in held_open:
        original.seek(0)
        with open(os.path.join(goes_to, os.path.basename(original.name)), "rb") as copy:
            assert copy.read() == original.read(), original.name
        original.close()

print(f"copied and verified {copied} files, up to {most} open at once", flush=True)
# Stays until its standard input ends, so that its page can still be read.
sys.stdin.read()
