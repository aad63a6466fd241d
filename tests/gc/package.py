# GitPython from PyPI, which "tends to leak system resources" (its README): each Repo is a cycle that keeps git processes and pipes.
import sys

import git

for i in range(60):
    repository = git.Repo(sys.argv[1])
    assert repository.head.commit.tree['file'].data_stream.read() == b'content\n'
print('read', i + 1)
