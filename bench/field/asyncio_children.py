from . import Program

CHILDREN = 80
SCRIPT = """
import asyncio
async def one(i):
    child = await asyncio.create_subprocess_exec('/bin/sh', '-c', f'sleep 0.05; echo {i}', stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    return said == f'{i}\\n'.encode()
async def main():
    print(sum(done is True for done in await asyncio.gather(*map(one, range(%d)), return_exceptions=True)))
asyncio.run(main())
"""


def run(trial):
    trial.command(["/usr/bin/python3", "-c", SCRIPT % CHILDREN], trial.folder / "said")
    done = int((trial.folder / "said").read_text() or 0)
    return done, CHILDREN - done


PROGRAM = Program("Python, asyncio children", "80 children at once, a pipe from each", ("/usr/bin/python3",), 64, run, short=False)
